"""The worker process (start of a worker): it becomes what the program was, then serves its seat.

Cwd, environment, `sys.path` and `sys.argv` are those of the program when the pool was made. The main
thread runs the tasks. What is given in a file of memory was written by the program alone.
"""

from __future__ import annotations

import _signal
import marshal
import os
import sys

from . import _native

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The exit code of a worker that could not go on, when it has said why.
FAILED = 1


class Setup:
    """What every worker of a pool is told, as the program was when the pool was made."""

    __slots__ = ("argv", "authkey", "environ", "initializer", "path", "program", "variables")

    def __init__(
        self,
        environ: dict[str, str],
        path: list[str],
        argv: list[str],
        initializer: bytes | None = None,
        variables: list[tuple[str, str]] | None = None,
    ) -> None:
        self.environ = environ
        self.path = path
        self.argv = argv
        #: The pickled initializer and its arguments.
        self.initializer = initializer
        #: Modules and names of the context variables whose values come with each task.
        self.variables = variables or []

    def dump(self) -> bytes:
        """Put it into bytes."""
        return marshal.dumps(
            (self.environ, self.path, self.argv, self.initializer, self.variables)
        )

    @classmethod
    def load(cls, data: bytes) -> Setup:
        """Take it out of bytes."""
        return cls(*marshal.loads(data))


def prepare() -> None:
    """Load, in the template, what every worker needs, and nothing that the user's code could see."""
    import _pickle  # noqa: F401


def read_file(descriptor: int) -> bytes:
    """Read all of a file, wherever others of the same descriptor stand."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def run_forked(
    given: list[int],
    template: int,
    stack: int,
    seat: int,
    number: int,
    words: int,
    authkey: bytes | None,
) -> int:
    """Serve as a child of the template, until the end; the exit code."""
    _native.die_with_parent(template)
    described, mapping, bell, folder, out, error = given
    setup = Setup.load(read_file(described))
    os.close(described)
    _take_place(folder, out, error)
    _take_world(setup)
    _catch_faults(stack)
    sys.modules["__main__"] = type(sys)("__main__")
    return serve(mapping, words, seat, bell, setup)


def _take_place(folder: int, out: int, error: int) -> None:
    """Go where the program is, and write where it writes."""
    os.fchdir(folder)
    for descriptor, standard, stream in ((out, 1, sys.stdout), (error, 2, sys.stderr)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
        if standard == 1 and stream is not None:
            stream.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.close(folder)


def _take_world(setup: Setup) -> None:
    """Have the environment and the paths that the program had."""
    environ = os.environ
    if environ != setup.environ:
        for name in environ.keys() - setup.environ.keys():
            del environ[name]
        for name, value in setup.environ.items():
            if environ.get(name) != value:
                environ[name] = value
    sys.path[:] = setup.path
    sys.argv[:] = setup.argv


def _catch_faults(stack: int) -> None:
    """Have the Python stack written to a file of memory if the system ends this process for a fault."""
    import faulthandler

    faulthandler.enable(stack, all_threads=False)


def serve(mapping: int, words: int, seat: int, bell: int, setup: Setup) -> int:
    """Run tasks until the program has no more, then leave as an interpreter does."""
    try:
        _native.serve(mapping, words, seat, bell, lambda: None, True)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = FAILED
    return code
