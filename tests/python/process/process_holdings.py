"""What this process holds: descriptors, shared mappings, threads, children.

For tests of what a pool leaves behind.  An ended child that nobody has waited for counts.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

from raddle import _native


def arena_in_use() -> int:
    """Bytes of this process's arena that something still holds."""
    gc.collect()
    return _native.arena_usage()[0]


def children() -> set[int]:
    """The processes that this one has started and that are there, ended ones included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found |= {int(pid) for pid in (task / "children").read_text().split()}
        except OSError:
            continue
    return found


def mappings() -> list[str]:
    """The mappings of this process that other processes may share."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted(line.split(maxsplit=5)[-1] for line in lines if line.split()[1].endswith("s"))


def descriptors() -> dict[int, str]:
    """The open files of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def holdings() -> dict[str, int]:
    """How many descriptors, shared mappings, threads and children this process has."""
    # It also lets go of what was there for children of forks that are gone.
    arena_in_use()
    return {
        "descriptors": len(descriptors()),
        "mappings": len(mappings()),
        "threads": len(os.listdir("/proc/self/task")),
        "children": len(children()),
    }
