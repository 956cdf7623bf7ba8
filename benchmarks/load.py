"""Processes that keep cores busy while something else is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` cores busy; the processes also end when this one dies."""
    command = [sys.executable, "-m", "benchmarks.load", str(os.getpid())]
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            if process.stdout.readline() != b"busy\n":
                raise RuntimeError("a process that should keep a core busy did not start")
        yield


def spin(parent: int) -> None:
    """Compute until the process `parent` is gone."""
    print("busy", flush=True)
    while os.getppid() == parent:
        for _ in range(100_000):
            pass


if __name__ == "__main__":
    spin(int(sys.argv[1]))
