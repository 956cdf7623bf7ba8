"""The lecture "Making Python Go Fast", as programs that run: the parts of ``python main.py``.

Each part is a module with the lecture's own program in it and a function ``show`` that runs the
program as a loop, with the standard library and with raddle, and prints what it measured.
"""
