#!/usr/bin/env python3
"""Run the lecture "Making Python Go Fast" with raddle: ``python main.py``.

The first run makes a private environment beside this file and builds raddle in it; later runs
begin at once. ``python main.py --list`` names the parts, ``--part NAME`` runs one of them.
"""

import os
import sys

import dev


def main() -> None:
    """Build what is missing, go on in the private environment, and run the lecture there."""
    # Imported here: dev has made sure by now that this Python is new enough to read it.
    from lecture import program

    options = program.arguments(sys.argv[1:])
    if options.list:
        program.list_parts()
        return
    only = ("maturin", *program.needs(options))
    env = dev.prepare(dev.this_python(), default=True, only=only)
    if sys.prefix != str(env.folder):
        sys.stdout.flush()
        os.execve(env.python, [str(env.python), __file__, *sys.argv[1:]], env.variables())
    sys.exit(program.run(options))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
