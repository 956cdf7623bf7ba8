"""Measuring the lecture's programs: how long they take, and how much of that they compute."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Measured(Generic[T]):
    """The value of a call, and what the call took of the thread that made it.

    Parameters
    ----------
    value : object
        What the function returned.
    seconds : float
        From the call to the return, by the clock on the wall.
    busy_seconds : float
        The part of it in which a processor worked for this thread.
    """

    value: T
    seconds: float
    busy_seconds: float

    @property
    def waited(self) -> float:
        """The share of the time, between 0 and 1, in which the thread waited."""
        return max(0.0, 1.0 - self.busy_seconds / self.seconds)


def measure(function: Callable[..., T], *args: object) -> Measured[T]:
    """Call a function and measure the call.

    Examples
    --------
    >>> call = measure(sum, [1, 2, 3])
    >>> call.value
    6
    >>> 0 <= call.waited <= 1
    True
    """
    busy, start = time.thread_time(), time.perf_counter()
    value = function(*args)
    seconds, busy_seconds = time.perf_counter() - start, time.thread_time() - busy
    return Measured(value, seconds, busy_seconds)
