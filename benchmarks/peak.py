"""The most memory that a contender and its workers hold together, each page counted once.

Run in a fresh process for each contender: what is shared counts in parts with each that has it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.model import RADDLE

ROOT = Path(__file__).resolve().parent.parent


def held(pids: list[int]) -> int:
    """Return the bytes that processes hold: their own pages and their parts of shared ones."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # It has just ended.
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def family(pid: int) -> list[int]:
    """Return a process and its children's children, as far as they are there."""
    try:
        tasks = [task.name for task in Path(f"/proc/{pid}/task").iterdir()]
        words = [Path(f"/proc/{pid}/task/{task}/children").read_text().split() for task in tasks]
    except OSError:
        return [pid]
    return [pid, *(each for some in words for child in some for each in family(int(child)))]


def highest_during(call: Callable[[], Any]) -> int:
    """Return the most that this process and its children hold while something is called."""
    is_over, highest = threading.Event(), 0

    def watch() -> None:
        nonlocal highest
        pid = int(Path("/proc/self").readlink().name)
        while not is_over.is_set():
            highest = max(highest, held(family(pid)))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call()
    finally:
        is_over.set()
        watcher.join()
    return highest


def peak_apart(contender: str, megabytes: int, is_shared: bool = False) -> float:
    """Return what a fresh contender holds more than before for one array there and back.

    With `is_shared`, the array is one of `raddle.empty`.
    """
    words = [contender, str(megabytes), *(["shared"] if is_shared else [])]
    command = [sys.executable, "-m", "benchmarks.peak", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def main(contender: str, megabytes: int, *, is_shared: bool) -> None:
    """Print the bytes that the data and everything made of it take at most."""
    from benchmarks.frame_contenders import OPENERS
    from benchmarks.frame_tasks import double, numbers, shared_numbers

    make = shared_numbers if is_shared else numbers
    small = make(1)
    with OPENERS[contender](RADDLE) as run:
        for _ in range(4):
            run(double, [small, small])
        pid = int(Path("/proc/self").readlink().name)
        before = held(family(pid))
        values = make(megabytes)
        print(highest_during(lambda: run(double, [values])) - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), is_shared=sys.argv[3:] == ["shared"])
