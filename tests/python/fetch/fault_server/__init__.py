"""A web server that misbehaves exactly as asked, and remembers what it received.

A program of its own, ``python -m fault_server FOLDER``: it writes its certificates into the folder,
prints one line of JSON that tells its ports, and ends when its standard input closes.

An address is ``/TOKEN/PAGE?how=...``: the token tells the tests' requests apart, the page is a
function of ``pages*.py``. Only loopback addresses are listened on; each is a host of its own.
The control port (``control.py``) tells what was received and opens gates, so that a test has an
order without a sleep.
"""
