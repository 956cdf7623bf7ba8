"""A million tasks through one process pool: what its processes hold meanwhile, and what is left.

Run as ``python dev.py bench -- soak``, or ``python -m benchmarks.soak --tasks 100000``. The exit
status is 1 if memory grows with the tasks or if something is left after ``shutdown``.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import family, machine
from benchmarks.model import RADDLE
from benchmarks.process_tasks import no_op, no_ops
from benchmarks.report import RESULTS

TASKS = 1_000_000
WORKERS = 2
STEPS = 20
#: Tasks that are under way together: few, so that what the allocators keep of them hardly counts.
TOGETHER = 5_000
#: Memory that grows by less between the second quarter and the last is flat. Whatever a pool kept
#: of a task would be 16 bytes at least, the smallest block of the allocator: 8 MB in half a million
#: tasks. The allocators alone move by about one.
FLAT_BYTES = 2_000_000
#: For how long the pool is watched while it has nothing to do, and the processors' time that it may
#: take then: a look at a clock now and then, far from a loop that waits.
IDLE_SECONDS = 2.0
IDLE_SHARE = 0.005
MEGABYTE = 1e6


class Refused(Exception):
    """What the tasks that fail raise."""


def refuse(number: int) -> None:
    """Fail, so that errors cross between the processes too."""
    raise Refused(number)


@dataclass(frozen=True)
class Holdings:
    """What a program and its processes hold at a moment.

    Parameters
    ----------
    program_bytes, worker_bytes : int
        Resident memory of the program, and of the largest of the processes that it has started.
    processes, descriptors, threads, shared : int
        Processes that it has started, its open files, its threads, its mappings of memory that
        processes can share.
    """

    program_bytes: int
    worker_bytes: int
    processes: int
    descriptors: int
    threads: int
    shared: int

    @classmethod
    def now(cls) -> Holdings:
        """Look at this program."""
        gc.collect()
        me = os.getpid()
        started = family.descendants(me)
        return cls(
            family.resident_bytes(me),
            max(map(family.resident_bytes, started), default=0),
            len(started),
            family.descriptors(me),
            len(family.threads(me)),
            family.shared_mappings(me),
        )

    def left(self) -> dict[str, int]:
        """Return the counts of what must be gone after ``shutdown``."""
        return {
            "processes": self.processes,
            "descriptors": self.descriptors,
            "threads": self.threads,
            "shared mappings": self.shared,
        }


@dataclass(frozen=True)
class Step:
    """Where the run stands after some tasks."""

    tasks: int
    seconds: float
    holdings: Holdings


def run_some(module: ModuleType, executor: Any, count: int) -> int:
    """Run about so many tasks of every kind, check each result, and return how many there were."""
    integers = range(count * 3 // 5)
    assert list(executor.map(no_op, integers)) == list(integers)
    texts = no_ops("text", count // 5).items
    assert list(executor.map(no_op, texts)) == texts
    dicts = no_ops("dict", count // 5).items
    futures = [executor.submit(no_op, item) for item in dicts]
    module.wait(futures)
    assert [future.result() for future in futures] == dicts
    large = no_ops("large", max(1, count // 10_000)).items
    assert list(executor.map(no_op, large)) == large
    errors = [executor.submit(refuse, number) for number in range(count // 100)]
    assert all(isinstance(error.exception(), Refused) for error in errors)
    return len(integers) + len(texts) + len(dicts) + len(large) + len(errors)


def idle_share() -> float:
    """Return the share of a processor that this program and its processes take while all wait."""
    processes = [os.getpid(), *family.descendants(os.getpid())]
    before = sum(map(family.processor_seconds, processes))
    time.sleep(IDLE_SECONDS)
    return (sum(map(family.processor_seconds, processes)) - before) / IDLE_SECONDS


def soak(module: ModuleType, executor: Any, tasks: int) -> Iterator[Step]:
    """Send the tasks through the pool, and tell after each step what the processes hold."""
    done, started, step = 0, time.perf_counter(), max(100, tasks // STEPS)
    while done < tasks:
        end = done + step
        while done < end:
            done += run_some(module, executor, min(TOGETHER, step))
        seconds = time.perf_counter() - started
        yield Step(done, seconds, Holdings.now())


def growth(steps: Sequence[Step], name: str) -> float:
    """Return how many bytes more are held in the last quarter than in the second, by medians.

    Examples
    --------
    >>> leaking = [Step(n, n, Holdings(9_000_000 + 16 * n, 0, 2, 9, 2, 0)) for n in range(8)]
    >>> growth(leaking, "program_bytes")
    64.0
    """
    held: list[int] = [getattr(step.holdings, name) for step in steps]
    quarter = max(1, len(held) // 4)
    return statistics.median(held[-quarter:]) - statistics.median(held[quarter : 2 * quarter])


def faults(steps: Sequence[Step], idle: float, before: Holdings, after: Holdings) -> list[str]:
    """Return what is wrong, a line each; nothing if memory is flat and all is gone at the end.

    Examples
    --------
    >>> leaking = [Step(n, n, Holdings(10**6 * n, 0, 2, 9, 2, 0)) for n in range(8)]
    >>> for fault in faults(leaking, 0.5, Holdings(0, 0, 0, 9, 1, 0), Holdings(0, 0, 1, 9, 1, 0)):
    ...     print(fault)
    the memory of the program has grown by 4.0 MB
    a pool with nothing to do takes 50.00 % of a processor
    1 processes are left after shutdown
    """
    found = []
    for name, words in (("program_bytes", "the program"), ("worker_bytes", "the largest worker")):
        grown = growth(steps, name)
        if grown > FLAT_BYTES:
            found.append(f"the memory of {words} has grown by {grown / MEGABYTE:.1f} MB")
    if idle > IDLE_SHARE:
        found.append(
            f"a pool with nothing to do takes {idle:.2%} of a processor".replace("%", " %")
        )
    for name, count in after.left().items():
        more = count - before.left()[name]
        if more > 0:
            found.append(f"{more} {name} are left after shutdown")
    return found


HEADER = (
    "| tasks | seconds | us a task | program, MB | largest worker, MB | processes | files "
    "| threads |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def row(step: Step, previous: Step | None) -> str:
    """Return a line of the table; the cost of a task is that since the line before."""
    tasks = step.tasks - (previous.tasks if previous else 0)
    seconds = step.seconds - (previous.seconds if previous else 0.0)
    held = step.holdings
    cells = [
        f"{step.tasks:,}",
        f"{step.seconds:.1f}",
        f"{seconds / tasks * 1e6:.2f}",
        f"{held.program_bytes / MEGABYTE:.1f}",
        f"{held.worker_bytes / MEGABYTE:.1f}",
        str(held.processes),
        str(held.descriptors),
        str(held.threads),
    ]
    return f"| {' | '.join(cells)} |"


def told(found: Sequence[str], idle: float) -> str:
    """Return the verdict."""
    if found:
        return "\n".join(f"FAULT: {fault}" for fault in found)
    return (
        f"Memory is flat (it may move by {FLAT_BYTES / MEGABYTE:g} MB). After shutdown there is no "
        "process, file, thread or shared mapping that was not there before. With nothing to do, "
        f"the pool takes {idle * 1e6:.0f} us of the processors in a second."
    )


def conditions(subject: str) -> str:
    """Return what was run, and on what."""
    described = machine.describe()
    return (
        f"{subject} {described['raddle']}, {WORKERS} workers, {described['python']}, "
        f"{described['kernel']}, {described['cores']} cores of {described['processor']}, "
        f"{described['date']}. Three fifths of the tasks are a map over integers, a fifth each a "
        "map over strings of 1 KB and dicts submitted one by one; beside them 1 % of tasks that "
        "raise and some of 1 MB. Every result is checked."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print the table as it grows, write it down, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--subject", default=RADDLE, metavar="MODULE")
    parser.add_argument("--no-write", action="store_true", help="leave the results alone")
    options = parser.parse_args(arguments)
    module = importlib.import_module(options.subject)
    # A pool may leave what later ones use again: it is there before the first figure.
    with module.ProcessPoolExecutor(WORKERS) as executor:
        assert executor.submit(abs, -1).result() == 1
    before, lines = Holdings.now(), [HEADER]
    steps: list[Step] = []
    print(HEADER)
    with module.ProcessPoolExecutor(WORKERS) as executor:
        for step in soak(module, executor, options.tasks):
            lines.append(row(step, steps[-1] if steps else None))
            print(lines[-1], flush=True)
            steps.append(step)
        idle = idle_share()
    found = faults(steps, idle, before, Holdings.now())
    verdict = told(found, idle)
    print(verdict)
    if options.subject == RADDLE and options.tasks >= TASKS and not options.no_write:
        write(RESULTS / "soak.md", [conditions(options.subject), "\n".join(lines), verdict])
    return 1 if found else 0


def write(path: Path, parts: Sequence[str]) -> None:
    """Write what was found to a file."""
    path.write_text("\n\n".join(["# Measured: soak", *parts]) + "\n")
    print(f"wrote benchmarks/results/{path.name}")


if __name__ == "__main__":
    sys.exit(main())
