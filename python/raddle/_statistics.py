"""What executors and locks tell of themselves; loaded when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LockStatistics", "Statistics"]


@dataclass(frozen=True)
class Statistics:
    """What an executor has done so far; see ``executor.statistics()``.

    Each figure is exact; taken while tasks run, together they are a picture of a moving thing.

    Examples
    --------
    >>> from raddle import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(max_workers=2) as executor:
    ...     _ = list(executor.map(abs, range(10)))
    ...     statistics = executor.statistics()
    >>> statistics.submitted, statistics.failed
    (10, 0)
    """

    submitted: int
    """Tasks given to the executor."""
    running: int
    """Tasks that a worker runs now."""
    waiting: int
    """Tasks that no worker has begun and nobody has cancelled."""
    done: int
    """Tasks that ended with a value."""
    failed: int
    """Tasks that ended with an exception, those that overran their limit included."""
    cancelled: int
    """Tasks cancelled before they began."""
    retried: int
    """Attempts after a first one."""
    abandoned: int
    """Threads given up because their task overran its `task_timeout`."""
    workers: int
    """Workers alive, abandoned ones not counted."""
    busy_seconds: float
    """Seconds that the workers were busy, added up."""
    longest_queue: int
    """The most entries that were queued at once; one `map` is one entry."""
    threads_per_core: float | None = None
    """For how many threads of a pool's processes, those of their libraries included, each core has
    to do if all are busy: above 1 there are more than cores. None for threads."""


@dataclass(frozen=True)
class LockStatistics:
    """What a lock has seen so far.

    Attributes
    ----------
    acquisitions : int
        How often it was taken.
    contended : int
        How many of these had to wait.
    total_wait_seconds : float
        The time that they waited, added up.
    longest_wait_seconds : float
        The longest of these times.
    holder : str or None
        The name of the thread that holds it now.

    Examples
    --------
    >>> from raddle import Lock
    >>> lock = Lock()
    >>> with lock:
    ...     lock.statistics().holder
    'MainThread'
    >>> lock.statistics().contended
    0
    """

    acquisitions: int
    contended: int
    total_wait_seconds: float
    longest_wait_seconds: float
    holder: str | None
