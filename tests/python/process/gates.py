"""Tasks in other processes that run until a test lets them end.

A gate is a callable that can be pickled.  Called in a worker it says by which process it was
called, and waits until the test opens it; order in the tests comes from this, never from sleeping.
Two files carry it, so it needs nothing of the pool that runs it, and nobody has to be alive: a
named pipe takes the announcements, and a lock on a file, held by the test, is what calls wait for.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any


class Gate:
    """A task that announces its start and returns its argument once the gate is open."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self._started, self._lock = str(folder / f"{name}.started"), str(folder / f"{name}.lock")
        os.mkfifo(self._started)
        # Both ends, so that neither side ever waits for the other to open it.
        self._arrivals = os.fdopen(os.open(self._started, os.O_RDWR), "rb", buffering=0)
        self._holder = os.open(self._lock, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._holder, fcntl.LOCK_EX)
        self._seen = b""

    def __getstate__(self) -> dict[str, Any]:
        return {"_started": self._started, "_lock": self._lock}

    def __call__(self, value: Any = None) -> Any:
        """Run in a worker: announce, wait, return *value*."""
        self.announce()
        self.wait_open()
        return value

    def announce(self) -> None:
        """Say by which process the gate was reached."""
        descriptor = os.open(self._started, os.O_WRONLY)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        os.close(descriptor)

    def wait_open(self) -> None:
        """Wait until the gate is open."""
        descriptor = os.open(self._lock, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.close(descriptor)

    def wait_started(self, count: int = 1) -> list[int]:
        """Block until *count* more calls have begun; the processes that they run in."""
        pids = []
        while len(pids) < count:
            line, found, rest = self._seen.partition(b"\n")
            if found:
                pids.append(int(line))
                self._seen = rest
            else:
                self._seen += self._arrivals.read(4096)
        return pids

    def started(self) -> list[int]:
        """The processes of the calls that have begun since the last look, without waiting."""
        os.set_blocking(self._arrivals.fileno(), False)
        self._seen += self._arrivals.read(1 << 16) or b""
        os.set_blocking(self._arrivals.fileno(), True)
        lines, self._seen = self._seen.split(b"\n"), b""
        return [int(line) for line in lines if line]

    def open(self) -> None:
        """Let all calls, present and future, return."""
        fcntl.flock(self._holder, fcntl.LOCK_UN)

    def close(self) -> None:
        """Open it, and give back what the test's side holds."""
        if not self._arrivals.closed:
            self.open()
            os.close(self._holder)
            self._arrivals.close()

    def hold(self, executor: Any, workers: int = 1) -> list[Any]:
        """Occupy *workers* workers of *executor*; returns the futures of the blocked calls."""
        futures = [executor.submit(self) for _ in range(workers)]
        self.wait_started(workers)
        return futures
