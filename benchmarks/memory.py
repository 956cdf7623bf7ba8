"""How much memory a pending task holds: the growth of a fresh process, whatever allocates it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contenders import openers


def resident_bytes() -> int:
    """Return this process's resident memory, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pending_bytes(contender: str, subject: str, count: int) -> float:
    """Return the bytes that each of `count` tasks holds while they wait behind a blocked one."""
    pool = openers(importlib.import_module(subject))[contender](1)
    pool.warm_up(1)
    started, release = threading.Event(), threading.Event()
    resident: list[int] = []

    def block(_: None) -> None:
        started.set()
        release.wait()

    def items() -> Iterator[None]:
        yield None
        started.wait()
        resident.append(resident_bytes())
        for _ in range(count):
            yield None
        resident.append(resident_bytes())
        release.set()

    finished = sum(1 for _ in pool.submit_and_wait(block, items()))
    pool.close()
    assert finished == count + 1
    before, after = resident
    return (after - before) / count


def pending_bytes_apart(contender: str, subject: str, count: int) -> float:
    """Return `pending_bytes` of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", contender, subject, str(count)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    print(pending_bytes(sys.argv[1], sys.argv[2], int(sys.argv[3])))
