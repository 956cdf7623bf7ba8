"""The cases of the thread pool, each with the target that it must reach."""

from __future__ import annotations

import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Literal

from benchmarks.contenders import openers, warm_pools
from benchmarks.load import busy_processes
from benchmarks.measure import compile_package, timed
from benchmarks.memory import pending_bytes_apart
from benchmarks.model import (
    FUTURES,
    PLAIN,
    RADDLE,
    THREAD_POOL,
    Case,
    Sample,
    Scale,
    Setup,
    Target,
)

Method = Literal["map", "submit_and_wait", "as_completed", "one_by_one"]
PENDING = 50_000
WORK_SECONDS = 10e-6
NAP_SECONDS = 0.001


def no_op(item: int) -> int:
    """Return the item: what is left of a task is the executor's own cost."""
    return item


def nap(_: int) -> None:
    """Sleep for a millisecond, as a task that waits for the network does."""
    time.sleep(NAP_SECONDS)


def compute(loops: int) -> int:
    """Add up `loops` numbers in a Python loop."""
    total = 0
    for number in range(loops):
        total += number
    return total


def calls(method: Method, workers: int, count: int, busy: int = 0) -> Setup:
    """Give samplers of `method` on `count` no-ops, beside `busy` processes that compute."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        items = range(scale.tasks(count))
        expected = list(items)
        in_order = sorted if method == "as_completed" else list

        def right(outcome: Any) -> bool:
            return in_order(outcome) == expected

        with warm_pools(subject, workers) as pools, busy_processes(busy):
            yield {
                name: timed(partial(getattr(pool, method), no_op, items), right, len(items), scale)
                for name, pool in pools.items()
            }

    return setup


@contextmanager
def sizes(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of raddle's ``map`` from a thousand items to a million."""
    with warm_pools(subject, 2) as pools:
        samplers = {}
        for size in (1_000, 10_000, 100_000, 1_000_000):
            items = range(scale.tasks(size))
            call = partial(pools[RADDLE].map, no_op, items)
            right = partial(_equals_items, items)
            samplers[f"{size:,} items"] = timed(call, right, len(items), scale)
        yield samplers


def _equals_items(items: range, outcome: Any) -> bool:
    return list(outcome) == list(items)


@contextmanager
def naps(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of 640 naps on 32 workers, and of the 20 that each worker's share is."""
    workers, share = 32, 20
    items = range(workers * share)

    def in_one_thread() -> list[None]:
        return list(map(nap, range(share)))

    with warm_pools(subject, workers) as pools:
        yield {
            **{
                name: timed(partial(pool.map, nap, items), _has(len(items)), 1, scale)
                for name, pool in pools.items()
            },
            PLAIN: timed(in_one_thread, _has(share), 1, scale),
        }


def _has(count: int) -> Callable[[list[None]], bool]:
    return lambda outcome: outcome == [None] * count


@contextmanager
def work(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of tasks that compute for 10 us, and of the same in a plain loop."""
    loops = _loops_that_take(WORK_SECONDS)
    items = [loops] * scale.tasks(20_000)
    expected = [compute(loops)] * len(items)

    def right(outcome: Any) -> bool:
        return list(outcome) == expected

    def in_one_thread() -> list[int]:
        return [compute(item) for item in items]

    with warm_pools(subject, 2) as pools:
        yield {
            **{
                name: timed(partial(pool.submit_and_wait, compute, items), right, len(items), scale)
                for name, pool in pools.items()
            },
            PLAIN: timed(in_one_thread, right, len(items), scale),
        }


def _loops_that_take(seconds: float) -> int:
    loops, tries = 100, 1_000
    for _ in range(3):
        taken = min(timeit.repeat(partial(compute, loops), number=tries, repeat=5)) / tries
        loops = max(1, round(loops * seconds / taken))
    return loops


@contextmanager
def start_pool(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of a pool's whole life: open with 2 workers, run 4 tasks, close."""

    def life(name: str) -> list[int]:
        pool = openers(subject)[name](2)
        outcome = list(pool.submit_and_wait(no_op, range(4)))
        pool.close()
        return outcome

    def right(outcome: list[int]) -> bool:
        return outcome == [0, 1, 2, 3]

    yield {name: timed(partial(life, name), right, 1, scale) for name in openers(subject)}


EXECUTOR_PROGRAM = """\
from {module} import ThreadPoolExecutor
with ThreadPoolExecutor(2) as executor:
    assert list(executor.map(abs, range(4))) == [0, 1, 2, 3]
"""
THREAD_POOL_PROGRAM = """\
from multiprocessing.pool import ThreadPool
with ThreadPool(2) as pool:
    assert pool.map(abs, range(4)) == [0, 1, 2, 3]
"""


@contextmanager
def start_program(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of whole programs, the interpreter's start and the import included."""
    compile_package(subject)
    programs = {
        RADDLE: EXECUTOR_PROGRAM.format(module=subject.__name__),
        FUTURES: EXECUTOR_PROGRAM.format(module=FUTURES),
        THREAD_POOL: THREAD_POOL_PROGRAM,
        PLAIN: "",
    }

    def run(program: str) -> int:
        return subprocess.run([sys.executable, "-c", program]).returncode

    yield {
        name: timed(partial(run, program), lambda status: status == 0, 1, scale)
        for name, program in programs.items()
    }


@contextmanager
def pending_memory(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of the memory that a pending task holds, each in a fresh process."""
    del scale  # fewer tasks would drown in the growth that is not theirs
    yield {
        name: partial(pending_bytes_apart, name, subject.__name__, PENDING)
        for name in openers(subject)
    }


CHUNKED = "ThreadPool.map hands out chunks: a worker's wake-up serves many items."
UNORDERED = "ThreadPool has no as_completed; imap_unordered stands in."
NAPPING = "20 sleeps are each worker's share, so the best that there can be."
WORKING = "Plain Python: the same calls in a loop, no executor."
RESIDENT = f"Growth of a process's resident memory over {PENDING:,} tasks that wait."
EMPTY = "Plain Python: a program of no lines."
BUSY = {1: "1 busy process", 2: "2 busy processes"}


def no_op_cases(workers: int) -> list[Case]:
    """Return the cases in which the executor's own cost is all there is."""
    one_by_one = f"submit().result() one by one, {workers} workers"
    return [
        Case(
            f"map-{workers}",
            f"map of 100,000 no-ops, {workers} workers",
            calls("map", workers, 100_000),
            target=Target(60, 200),
            note=CHUNKED,
        ),
        Case(
            f"wait-{workers}",
            f"submit 50,000 no-ops and wait, {workers} workers",
            calls("submit_and_wait", workers, 50_000),
            target=Target(20, 40),
        ),
        Case(
            f"completed-{workers}",
            f"submit 50,000 no-ops and as_completed, {workers} workers",
            calls("as_completed", workers, 50_000),
            target=Target(15),
            note=UNORDERED,
        ),
        Case(
            f"result-{workers}",
            one_by_one,
            calls("one_by_one", workers, 10_000),
            target=Target(4, 15),
        ),
        *(
            Case(
                f"result-{workers}-busy-{count}",
                f"{one_by_one}, beside {processes}",
                calls("one_by_one", workers, 10_000, busy=count),
                target=Target(1),
            )
            for count, processes in BUSY.items()
        ),
    ]


CASES = [
    *no_op_cases(2),
    *no_op_cases(32),
    Case(
        "sleep-32",
        "640 tasks of sleep(1 ms), 32 workers; plain Python: 20 in a row",
        naps,
        "ms a batch",
        Target(1 / 1.1, peers=[PLAIN]),
        NAPPING,
    ),
    Case("work-2", "submit 20,000 tasks of 10 us and wait, 2 workers", work, note=WORKING),
    Case("sizes-2", "map of no-ops by number of items, raddle, 2 workers", sizes),
    Case("start-pool", "open a pool of 2, run 4 tasks, close it", start_pool, "ms a pool"),
    Case(
        "start-program",
        "a whole program with a pool of 2 and 4 tasks",
        start_program,
        "ms a program",
        note=EMPTY,
    ),
    Case(
        "memory-pending",
        "memory that a pending task holds",
        pending_memory,
        "bytes a task",
        note=RESIDENT,
    ),
]
