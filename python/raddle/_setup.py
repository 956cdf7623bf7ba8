"""What a worker takes over from its program (start of a worker): written there, read here.

It is the program's state when the pool was made, in a file of memory that the program alone writes.
"""

from __future__ import annotations

import marshal
import os
import sys

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._budget import Budget

    Names = list[tuple[str, str]]


def describe_program(initializer: bytes | None, variables: Names, budget: Budget) -> bytes:
    """Describe this program as it is now, for its workers.

    Parameters
    ----------
    initializer : bytes, optional
        The pickled initializer and its arguments.
    variables : list of (str, str)
        Modules and names of the context variables whose values come with each task.
    budget : Budget
        The cores of each worker.
    """
    path = [each if type(each) is str else os.fsdecode(each) for each in sys.path]
    argv = [str(each) for each in sys.argv]
    allowed = sorted(os.sched_getaffinity(0))
    # One entry for all workers, or one for each seat.
    seats = range(budget.workers) if budget.is_pinned else range(1)
    cores = [budget.cores_of(seat, allowed) for seat in seats]
    environ = dict(os.environ)
    budget.limit(environ)
    limits = sys.getrecursionlimit(), _digits()
    place = environ, path, argv, cores, limits
    return marshal.dumps((os.getpid(), place, initializer, variables))


def write_file(descriptor: int, data: bytes) -> None:
    """Write all of the data to a file."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _digits() -> int:
    get = getattr(sys, "get_int_max_str_digits", None)
    return 0 if get is None else get()


class Setup:
    """The same, in a worker."""

    __slots__ = ("_place", "initializer", "program", "variables")

    def __init__(self, description: bytes) -> None:
        self.program: int
        self._place: tuple[Any, ...]
        self.initializer: bytes | None
        self.variables: Names
        self.program, self._place, self.initializer, self.variables = marshal.loads(description)

    def take_over(self, seat: int) -> None:
        """Have this process be as the program was."""
        environ, path, argv, places, (depth, digits) = self._place
        cores = places[seat % len(places)]
        _replace_environment(environ)
        sys.path[:] = path
        sys.argv[:] = argv
        sys.setrecursionlimit(depth)
        if hasattr(sys, "set_int_max_str_digits"):
            sys.set_int_max_str_digits(digits)
        if os.sched_getaffinity(0) != set(cores):
            os.sched_setaffinity(0, cores)


def _replace_environment(wanted: dict[str, str]) -> None:
    environ = os.environ
    for name in environ.keys() - wanted.keys():
        del environ[name]
    for name, value in wanted.items():
        if environ.get(name) != value:
            environ[name] = value


def process_name(number: int) -> str:
    """Return what `multiprocessing` and logs call the worker of this number."""
    return f"RaddleProcess-{number}"
