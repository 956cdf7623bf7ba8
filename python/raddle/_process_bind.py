"""What the binding needs of the package to speak of worker processes that died.

Its exceptions load `concurrent.futures.process`, and that `multiprocessing`, which takes as long as
all the rest of a pool's start: so they are loaded when the first is needed.
"""

from __future__ import annotations

from . import _native

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._process_errors import BrokenProcessPool, WorkerDied


def _worker_died(
    how: str,
    facts: tuple[str | None, int, int, int, int | None, str | None, str | None],
) -> WorkerDied:
    from ._process_errors import TaskKilled, WorkerDied

    task, worker, pid, code, peak_memory, stack, why = facts
    error = TaskKilled if how == "killed" else WorkerDied
    rest = "the other tasks go on" if why is None else why
    if code < 0:
        return error(task, worker, pid, None, _name_of(-code), peak_memory, stack, rest)
    return error(task, worker, pid, code, None, peak_memory, stack, rest)


def _name_of(number: int) -> str:
    from signal import Signals

    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def _refusal(reason: str) -> BrokenProcessPool:
    from ._process_errors import BrokenProcessPool

    return BrokenProcessPool(reason)


def bind() -> None:
    """Give the binding the exceptions of pools of processes."""
    _native._bind_processes({"worker_died": _worker_died, "process_refusal": _refusal})
