"""What the binding needs of the package to speak of worker processes that died.

Its exceptions load `concurrent.futures.process`, and that `multiprocessing`, which takes as long as
all the rest of a pool's start: so they are loaded when the first is needed.
"""

from __future__ import annotations

import sys

from . import _native

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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


_has_announced = False


def _levels() -> bytes | None:
    """Describe the levels of the program's loggers, for its workers; None: they are the usual ones.

    From the first call on, changes of the levels are noted.
    """
    global _has_announced
    logging: Any = sys.modules.get("logging")
    if not hasattr(logging, "Logger"):
        from ._imports import after_import

        after_import("logging", lambda _: _native.note_levels())
        return None
    manager = logging.Logger.manager
    _watch_levels(manager)
    loggers = [
        (name, logger.level, bool(logger.disabled))
        for name, logger in list(manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and (logger.level or logger.disabled)
    ]
    root, disabled = logging.root.level, int(manager.disable)
    if not _has_announced and not loggers and not disabled and root == logging.WARNING:
        return None
    _has_announced = True
    from marshal import dumps

    return dumps((root, disabled, loggers))


def _watch_levels(manager: Any) -> None:
    """Have changes of levels noted: each clears the caches of the loggers."""
    clear = manager._clear_cache
    if getattr(clear, "notes", False):
        return

    def clear_and_note() -> None:
        clear()
        _native.note_levels()

    clear_and_note.notes = True  # type: ignore[attr-defined]
    manager._clear_cache = clear_and_note


def bind() -> None:
    """Give the binding the exceptions of pools of processes."""
    names = {
        "worker_died": _worker_died,
        "process_refusal": _refusal,
        "hear": _hear,
        "levels": _levels,
    }
    _native._bind_processes(names)
