"""What a recording costs: the pools of threads and of processes, with and without one.

The contenders are the same executor in the same run. What a task costs more is the difference of
the two columns; making the timeline at the end is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from benchmarks.measure import timed
from benchmarks.model import RADDLE, Case, Sample, Scale, Setup
from benchmarks.process_tasks import no_op

RECORDED = "raddle, recorded"
COLUMNS = (RADDLE, RECORDED)
WORKERS = 2
NOTE = (
    "The same executor in the same run; the difference is what a task costs more while it is "
    "recorded. A recording is begun and ended outside of what is timed."
)

Call = Callable[[Any, Callable[[int], int], range], list[int]]


def mapped(executor: Any, function: Callable[[int], int], items: range) -> list[int]:
    """Run each item as a task of one ``map``."""
    return list(executor.map(function, items))


def submitted(executor: Any, function: Callable[[int], int], items: range) -> list[int]:
    """Submit each item, then wait for all."""
    futures = [executor.submit(function, item) for item in items]
    return [future.result() for future in futures]


def recorded(subject: ModuleType, sample: Sample) -> Sample:
    """Take the same figure while a recording is made."""

    def take() -> float:
        with subject.timeline():
            return sample()

    return take


def beside(kind: str, call: Call, function: Callable[[int], int], count: int) -> Setup:
    """Give samplers of an executor's calls with and without a recording."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        items = range(scale.tasks(count))
        expected = list(items)
        with getattr(subject, kind)(WORKERS) as executor:
            run = partial(call, executor, function, items)
            plain = timed(run, expected.__eq__, len(items), scale)
            yield {RADDLE: plain, RECORDED: recorded(subject, plain)}

    return setup


CASES = [
    Case(
        f"timeline-{short}-{call.__name__}",
        f"{words}, {kind}",
        beside(executor, call, function, count),
        note=NOTE,
    )
    for short, executor, kind, function, count in (
        ("threads", "ThreadPoolExecutor", "threads", no_op, 50_000),
        ("processes", "ProcessPoolExecutor", "processes", no_op, 50_000),
    )
    for call, words in ((mapped, "map of a no-op"), (submitted, "submit, wait for all"))
]
