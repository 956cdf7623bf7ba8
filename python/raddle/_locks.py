"""`Lock`, `RLock` and `Counter`: the engine's; and what a lock tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

# Binds the names that the native half needs.
from . import _futures as _futures
from ._native import Counter, Lock, RLock

__all__ = ["Counter", "Lock", "LockStatistics", "RLock"]


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
