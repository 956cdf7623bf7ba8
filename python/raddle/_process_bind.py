"""What the binding needs of the package to speak of worker processes that died.

Its exceptions load `concurrent.futures.process`, and that `multiprocessing`, which takes as long as
all the rest of a pool's start: so they are loaded when the first is needed.
"""

from __future__ import annotations

from . import _native

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._notes import Told
    from ._process_errors import BrokenProcessPool, WorkerDied


def _worker_died(
    how: str,
    facts: tuple[str | None, int, int, tuple[int, int | None, str | None, str | None], int | None],
) -> WorkerDied:
    from ._process_errors import MemoryLimit, TaskKilled, WorkerDied

    task, worker, pid, (code, peak_memory, stack, why), limit = facts
    if limit is not None:
        return MemoryLimit(task, worker, pid, limit, peak_memory)
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


def _hear(notes: list[Told]) -> None:
    from ._notes import hear

    hear(notes)


def _announcement() -> bytes | None:
    """Describe the program for its workers, if there is something to say."""
    from ._announce import describe

    return describe()


def bind() -> None:
    """Give the binding the exceptions of pools of processes."""
    names = {
        "worker_died": _worker_died,
        "process_refusal": _refusal,
        "hear": _hear,
        "announcement": _announcement,
    }
    _native._bind_processes(names)
