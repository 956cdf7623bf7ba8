"""What the machine asks for a thread, a process and a task: guessed, then measured, once each."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from ._cores import cpu_count


class Machine(NamedTuple):
    """Costs in seconds; the order is the one in which the native half takes them."""

    cores: int
    thread_start: float
    thread_task: float
    process_start: float
    worker_start: float
    process_task: float
    byte: float


#: Measured on a machine of 2 cores: what is believed until it has been measured on this one.
_GUESS = Machine(1, 60e-6, 20e-6, 50e-3, 5e-3, 60e-6, 0.5e-9)
_TASKS = 200
_MESSAGE = 1 << 20
_known: dict[str, float] = {}
_is_measured = False
_lock = threading.Lock()


def machine() -> Machine:
    """Return what is known of the machine so far."""
    return _GUESS._replace(cores=cpu_count(), **_known)


def note(**costs: float) -> None:
    """Keep what has been measured in passing."""
    _known.update(costs)


def measured() -> Machine:
    """Measure what has not been measured in this process: in well under a second, once."""
    global _is_measured
    with _lock:
        if not _is_measured:
            _measure_threads()
            _measure_processes()
            _is_measured = True
    return machine()


def _measure_threads() -> None:
    from ._map_pool import ThreadRunner

    start = time.perf_counter()
    with ThreadRunner(abs, False, 1) as runner:
        runner.submit([1]).result()
        opened = time.perf_counter()
        for future in [runner.submit([1]) for _ in range(_TASKS)]:
            future.result()
        tasks = time.perf_counter() - opened
    note(thread_start=min(opened - start, 1e-3), thread_task=tasks / _TASKS)


def _measure_processes() -> None:
    from ._map_pool import ProcessRunner

    start = time.perf_counter()
    with ProcessRunner(len, False, 1) as runner:
        runner.submit([""]).result()
        opened = time.perf_counter()
        for future in [runner.submit([""]) for _ in range(_TASKS)]:
            future.result()
        tasks = time.perf_counter() - opened
        message = bytes(_MESSAGE)
        runner.submit([message]).result()
        sent = time.perf_counter()
        runner.submit([message]).result()
        sent = time.perf_counter() - sent
    note(process_start=opened - start, process_task=tasks / _TASKS, byte=sent / _MESSAGE)
