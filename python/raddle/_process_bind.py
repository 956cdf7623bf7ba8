"""What the binding needs of the package to speak of worker processes that died."""

from __future__ import annotations

import signal

from . import _native
from ._process_errors import BrokenProcessPool, TaskKilled, WorkerDied


def _worker_died(
    how: str,
    facts: tuple[str | None, int, int, int, int | None, str | None, str | None],
) -> WorkerDied:
    task, worker, pid, code, peak_memory, stack, why = facts
    error = TaskKilled if how == "killed" else WorkerDied
    rest = "the other tasks go on" if why is None else why
    if code < 0:
        return error(task, worker, pid, None, _name_of(-code), peak_memory, stack, rest)
    return error(task, worker, pid, code, None, peak_memory, stack, rest)


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def bind() -> None:
    """Give the binding the exceptions of pools of processes."""
    _native._bind_processes(
        {"worker_died": _worker_died, "process_refusal": BrokenProcessPool},
    )
