"""Tasks that run until a test lets them end.

Order in the tests comes from these, never from sleeping: a blocker says when it has started
and holds its worker until it is released.
"""

from __future__ import annotations

import threading
from typing import Any


class Blocker:
    """A callable task that announces its start and returns its argument once released."""

    def __init__(self) -> None:
        self._started = threading.Semaphore(0)
        self._released = threading.Event()

    def __call__(self, value: Any = None) -> Any:
        self._started.release()
        self._released.wait()
        return value

    def wait_started(self, count: int = 1) -> None:
        """Block until *count* more calls have started."""
        for _ in range(count):
            self._started.acquire()

    def release(self) -> None:
        """Let all calls, present and future, return."""
        self._released.set()

    def hold(self, executor: Any, workers: int = 1) -> list[Any]:
        """Occupy *workers* workers of *executor*; returns the futures of the blocked calls."""
        futures = [executor.submit(self) for _ in range(workers)]
        self.wait_started(workers)
        return futures


class Payload:
    """An object that can be weakly referenced, and asked when it is gone."""

    def method(self) -> Payload:
        return self

    def take(self, value: Any) -> Any:
        return value
