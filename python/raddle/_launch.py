"""Launchers (start of a worker): they start a pool's worker processes, and see them off.

By default the workers are forked by a template process (`_template_process.py`,
`_launch_template.py`), so that a program with threads never forks; with `mp_context`, or if
arguments of the initializer can only be inherited, `multiprocessing` starts them
(`_launch_process.py`).
"""

from __future__ import annotations

import sys

from ._budget import Budget

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar
    from multiprocessing.context import BaseContext
    from typing import Any, Protocol

    class Launcher(Protocol):
        """Starts the workers of one pool; `start` and `reap` are called one at a time."""

        #: Whether all workers start at the first submit, on the thread that submits.
        starts_at_once: bool
        #: Whether tasks are pickled by value where they cannot be imported.
        by_value: bool
        #: The workers that have not been reaped, by their numbers in the system.
        processes: Any

        def open(self, mapping_fd: int, words: int, bell_fd: int, arena_fd: int = -1) -> None:
            """Take what the workers of the pool share; the descriptors stay the caller's.

            That of the arena is -1 if there is none.
            """

        def start(self, seat: int, number: int) -> tuple[int, int]:
            """Start a worker: its pid, and a descriptor, the caller's, that tells its end."""
            raise NotImplementedError

        def reap(self, pid: int) -> tuple[int, int | None, str | None]:
            """Wait for a worker: exit code, peak memory in bytes, Python stack after a fault."""
            raise NotImplementedError

        def close(self) -> None:
            """Drop everything: the pool is over."""


def make_launcher(
    mp_context: BaseContext | None,
    initializer: Callable[..., Any] | None,
    initargs: tuple[Any, ...],
    max_tasks_per_child: int | None,
    inherit_context: list[ContextVar[Any]] | None,
    budget: Budget | None = None,
    libraries: tuple[str, ...] = (),
) -> Launcher:
    """Make the launcher of a pool, which starts nothing that runs code of the user's yet.

    The workers are going to need `libraries`, which is why they may have them from the start.

    Raises
    ------
    TypeError, ValueError
        The arguments do not go together, or are not what they have to be.
    RuntimeError
        `sys.executable` does not name the interpreter.
    """
    _check_tasks_per_child(max_tasks_per_child)
    budget = budget or Budget(1, 1, is_pinned=False)
    call = None if initializer is None else (initializer, initargs)
    if mp_context is not None:
        is_forked = mp_context.get_start_method(allow_none=False) == "fork"
        if is_forked and max_tasks_per_child is not None:
            raise ValueError(
                "max_tasks_per_child cannot be had with the 'fork' start method, because replacing "
                "a worker would fork a program with threads: leave mp_context out, or pass a "
                "'forkserver' or 'spawn' context"
            )
        names = _names_of(inherit_context, has_main=True)
        return _process_launcher(mp_context, call, names, budget, by_value=False)
    pickle = None
    if call is not None:
        pickle = _pickled(call)
        if pickle is None:
            method = "fork" if max_tasks_per_child is None else "spawn"
            names = _names_of(inherit_context, has_main=True)
            return _process_launcher(_context(method), call, names, budget, by_value=True)
    names = _names_of(inherit_context, has_main=False)
    return _template_launcher(pickle, names, budget, libraries)


def _check_tasks_per_child(number: object) -> None:
    if number is None:
        return
    if not isinstance(number, int):
        raise TypeError(f"max_tasks_per_child must be an integer or None, not {number!r}")
    if number <= 0:
        raise ValueError(f"max_tasks_per_child must be >= 1, not {number}")


def _process_launcher(
    context: BaseContext,
    call: tuple[Any, ...] | None,
    names: list[tuple[str, str]],
    budget: Budget,
    *,
    by_value: bool,
) -> Launcher:
    from ._launch_process import ProcessLauncher

    return ProcessLauncher(context, call, names, budget, by_value=by_value)


def _context(method: str) -> BaseContext:
    from multiprocessing import get_context

    return get_context(method)


def _template_launcher(
    initializer: bytes | None,
    variables: list[tuple[str, str]],
    budget: Budget,
    libraries: tuple[str, ...],
) -> Launcher:
    from ._template_process import acquire, release

    template = acquire(libraries)
    try:
        # Loaded while the template starts.
        from ._launch_template import TemplateLauncher
    except BaseException:
        release(template)
        raise
    return TemplateLauncher(template, initializer, variables, budget)


def _pickled(call: tuple[Any, ...]) -> bytes | None:
    """Pickle the initializer and its arguments; None if a worker can only inherit them."""
    initializer, initargs = call
    if any(_is_inherited(each) for each in (initializer, *initargs)):
        return None
    from _pickle import PicklingError

    from ._native import pickle

    try:
        return pickle(call)
    except (TypeError, PicklingError):
        # A lock, a socket, an open file: a worker of the standard library inherits it.
        return None


def _is_inherited(value: object) -> bool:
    """Tell whether there is something of `multiprocessing` in it that is handed over by forking."""
    if "multiprocessing" not in sys.modules:
        return False
    from _pickle import dumps

    try:
        # Connections are pickled as numbers that mean nothing elsewhere.
        return b"multiprocessing.connection" in dumps(value, 5)
    except RuntimeError:
        # What `multiprocessing.context.assert_spawning` raises.
        return True
    except Exception:
        # Whether it can be sent in another way is found out later.
        return False


def _names_of(variables: list[ContextVar[Any]] | None, *, has_main: bool) -> list[tuple[str, str]]:
    """Return by what modules and names a worker can import context variables."""
    return [_name_of(variable, has_main) for variable in variables or ()]


def _name_of(variable: ContextVar[Any], has_main: bool) -> tuple[str, str]:
    from contextvars import ContextVar

    if not isinstance(variable, ContextVar):
        raise TypeError(f"inherit_context must list context variables, not {variable!r}")
    for module_name, module in list(sys.modules.items()):
        if module_name == "__main__" and not has_main:
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return module_name, name
    raise ValueError(
        f"the context variable {variable.name!r} is in no module that a worker could import; "
        "define it at the top of a module, not of the program itself or in a function"
    )
