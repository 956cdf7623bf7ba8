"""The processes of a program, from ``/proc``: which there are, what they hold, where they run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")
#: What a process that ends between two looks raises.
GONE = (FileNotFoundError, ProcessLookupError)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, theirs too, which have not ended."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with suppress(*GONE):
                # The name stands in parentheses, and may hold some itself.
                state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(folder.name))
    found, found_next = [], children.get(pid, [])
    while found_next:
        found += found_next
        found_next = [child for one in found_next for child in children.get(one, [])]
    return found


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds, in bytes; 0 if it has ended."""
    with suppress(*GONE):
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def threads(pid: int) -> list[int]:
    """Return the numbers of a process's threads."""
    with suppress(*GONE):
        return [int(folder.name) for folder in (PROC / str(pid) / "task").iterdir()]
    return []


def descriptors(pid: int) -> int:
    """Return how many files a process has open."""
    with suppress(*GONE):
        return sum(1 for _ in (PROC / str(pid) / "fd").iterdir())
    return 0


def shared_mappings(pid: int) -> int:
    """Return how many mappings a process has of memory that it can share, as its flags tell."""
    with suppress(*GONE):
        lines = (PROC / str(pid) / "maps").read_text().splitlines()
        return sum(line.split()[1].endswith("s") for line in lines)
    return 0


def processor_seconds(pid: int) -> float:
    """Return how long processors have worked for a process's threads that have not ended."""
    total = 0
    for thread in threads(pid):
        with suppress(*GONE):
            told = (PROC / str(pid) / "task" / str(thread) / "schedstat").read_text()
            total += int(told.split()[0])
    return total / 1e9


@contextmanager
def one_core_until() -> Iterator[None]:
    """Keep this process and those it starts on one core until the block ends."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        for process in (os.getpid(), *descendants(os.getpid())):
            for thread in threads(process):
                with suppress(*GONE):
                    os.sched_setaffinity(thread, cores)
