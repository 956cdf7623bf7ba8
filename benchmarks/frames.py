"""The cases of large data: arrays to a worker and back, frames in chunks, and `apply`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from benchmarks.frame_contenders import OPENERS, PANDARALLEL, SWIFTER, WORKERS
from benchmarks.measure import timed
from benchmarks.model import FUTURES, PLAIN, RADDLE, Case, Sample, Scale, Setup, Target
from benchmarks.peak import peak_apart
from benchmarks.process_contenders import JOBLIB

PANDAS = "pandas, here"
#: Of memory: what no contender can do with less.
DATA = "data in and out"
COLUMNS = (RADDLE, FUTURES, JOBLIB, PANDARALLEL, SWIFTER, PANDAS, PLAIN, DATA)
MEGABYTES = 64
KEPT = 20

Samplers = Mapping[str, Sample]


def _array_setup(
    calls: Callable[[Any], tuple[Any, list[Any], Callable[[Any], bool]]],
    is_shared: bool = False,
) -> Setup:
    """Give samplers of one function over arrays, in open pools.

    With `is_shared`, raddle's array is made by `raddle.empty`, which no other has.
    """

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Samplers]:
        from benchmarks.frame_tasks import numbers, shared_numbers

        megabytes = scale.tasks(MEGABYTES)
        ordinary = calls(numbers(megabytes))
        shared = calls(shared_numbers(megabytes)) if is_shared else ordinary
        with ExitStack() as stack:
            samplers = {}
            for name, opener in OPENERS.items():
                run = stack.enter_context(opener(subject.__name__))
                function, items, is_right = shared if name == RADDLE else ordinary
                samplers[name] = timed(partial(run, function, items), is_right, 1, scale)
            yield samplers

    return setup


def _there_and_back(values: Any) -> Any:
    from benchmarks.frame_tasks import double

    return double, [values], lambda found: bool(found[0][-1] == values[-1] * 2)


def _in_only(values: Any) -> Any:
    from benchmarks.frame_tasks import total

    return total, [values], lambda found: bool(found[0] == values[0] + values[-1])


def _kept(values: Any) -> Any:
    from benchmarks.frame_tasks import double

    # All results of a call are there at the same time.
    return double, [values] * KEPT, lambda found: bool(found[-1][-1] == values[-1] * 2)


@contextmanager
def chunked(subject: ModuleType, scale: Scale) -> Iterator[Samplers]:
    """Give samplers of a frame in chunks, a column added, and put together."""
    import pandas

    from benchmarks.frame_tasks import CHUNKS, ROWS, add_column, blocks, numbered, table

    frame = table(scale.tasks(ROWS))
    expected = add_column(frame)
    parts = blocks(frame)

    def is_right(found: Any) -> bool:
        return bool(found.equals(expected))

    with ExitStack() as stack:
        pool = stack.enter_context(subject.ProcessPoolExecutor(WORKERS))
        map_frame = importlib.import_module(RADDLE).map_frame
        calls: dict[str, Callable[[], Any]] = {
            RADDLE: partial(map_frame, add_column, frame, chunks=CHUNKS, executor=pool)
        }
        for name in (FUTURES, JOBLIB):
            run = stack.enter_context(OPENERS[name](subject.__name__))
            calls[name] = lambda run=run: pandas.concat(run(add_column, parts))  # type: ignore[misc]
        importlib.import_module("pandarallel").pandarallel.initialize(nb_workers=WORKERS, verbose=0)
        grouped: Any = frame.groupby(numbered(len(frame)), group_keys=False)
        calls[PANDARALLEL] = partial(grouped.parallel_apply, add_column)
        calls[PLAIN] = partial(add_column, frame)
        yield {name: timed(call, is_right, 1, scale) for name, call in calls.items()}


@contextmanager
def called(_subject: ModuleType, scale: Scale) -> Iterator[Samplers]:
    """Give samplers of a short call that opens and ends its processes."""
    import pandas

    from benchmarks.frame_tasks import CALL_ROWS, CHUNKS, add_column, blocks, table

    frame = table(scale.tasks(CALL_ROWS))
    expected = add_column(frame)
    parts = blocks(frame)

    def standard() -> Any:
        with futures.ProcessPoolExecutor(WORKERS) as pool:
            return pandas.concat(pool.map(add_column, parts))

    map_frame = importlib.import_module(RADDLE).map_frame
    calls: dict[str, Callable[[], Any]] = {
        RADDLE: partial(map_frame, add_column, frame, chunks=CHUNKS, workers=WORKERS),
        FUTURES: standard,
        PLAIN: partial(add_column, frame),
    }
    yield {
        name: timed(call, lambda found: bool(found.equals(expected)), 1, scale)
        for name, call in calls.items()
    }


@contextmanager
def applied(subject: ModuleType, scale: Scale) -> Iterator[Samplers]:
    """Give samplers of `apply` with a function of some microseconds."""
    import pandas

    from benchmarks.frame_tasks import ELEMENTS, spin

    series = pandas.Series(range(scale.tasks(ELEMENTS)))
    importlib.import_module("swifter")
    importlib.import_module("pandarallel").pandarallel.initialize(nb_workers=WORKERS, verbose=0)
    with subject.ProcessPoolExecutor(WORKERS) as pool:
        apply = importlib.import_module(RADDLE).apply
        swift: Any = series.swifter.progress_bar(False).set_npartitions(WORKERS)
        calls: dict[str, Callable[[], Any]] = {
            RADDLE: partial(apply, spin, series, executor=pool),
            PANDAS: partial(series.apply, spin),
            PANDARALLEL: partial(series.parallel_apply, spin),  # type: ignore[operator]
            SWIFTER: partial(swift.apply, spin),
        }
        yield {
            name: timed(call, lambda found: found.iloc[-1] == len(series), 1, scale)
            for name, call in calls.items()
        }


def _peaks(is_shared: bool = False) -> Setup:
    """Give samplers of the memory of parent and workers at its highest."""

    @contextmanager
    def setup(_subject: ModuleType, scale: Scale) -> Iterator[Samplers]:
        megabytes = scale.tasks(MEGABYTES)
        samplers: dict[str, Sample] = {
            name: partial(peak_apart, name, megabytes, is_shared and name == RADDLE)
            for name in OPENERS
        }
        yield {**samplers, DATA: lambda: 2.0 * megabytes * 2**20}

    return setup


CASES = [
    Case(
        "frames-array",
        f"{MEGABYTES} MB of floats to a worker, doubled, and back",
        _array_setup(_there_and_back),
        "ms a call",
        Target(10, 25, further=[Target(6, peers=[JOBLIB])]),
        "The pools are open, and memory that was used before is there; the result is dropped.",
    ),
    Case(
        "frames-array-empty",
        f"{MEGABYTES} MB of floats in an array of raddle.empty to a worker, doubled, and back",
        _array_setup(_there_and_back, is_shared=True),
        "ms a call",
        Target(10, 25),
        "The peers get an ordinary array, for they have no other. raddle's is sent in each call "
        "again, and not copied.",
    ),
    Case(
        "frames-array-in",
        f"{MEGABYTES} MB of floats to a worker, a number back",
        _array_setup(_in_only),
        "ms a call",
        Target(10),
        "The worker looks at two of the values: what is measured is the way there.",
    ),
    Case(
        "frames-array-kept",
        f"{KEPT} arrays of {MEGABYTES} MB there and back, all results kept",
        _array_setup(_kept),
        "ms a call",
        Target(4),
        "The memory of the results is new in each call, for raddle keeps 1 GB at most.",
    ),
    Case(
        "frames-chunks",
        "a frame of 2,000,000 rows in 4 chunks, a column added, put together",
        chunked,
        "ms a call",
        Target(6, 10, further=[Target(1, peers=[JOBLIB])]),
        "A float, an int and a string column, with 2,000,000 different strings. pandarallel: "
        "groupby of a number for each chunk, and parallel_apply; it starts its processes in each "
        "call.",
    ),
    Case(
        "frames-call",
        "a frame of 200,000 rows in 4 chunks, processes for this call alone",
        called,
        "ms a call",
        Target(1),
        "The standard library forks a program that has pandas; the first call of raddle loads it.",
    ),
    Case(
        "frames-apply",
        "apply a function of 20 us to 200,000 elements",
        applied,
        "ms a call",
        Target(1.8, peers=[PANDAS], further=[Target(1, peers=[PANDARALLEL, SWIFTER])]),
        "pandarallel starts its processes in each call; the others' are there.",
    ),
    Case(
        "frames-memory",
        f"memory at its highest, parent and workers, for {MEGABYTES} MB there and back",
        _peaks(),
        "MB at the peak",
        Target(1, peers=[FUTURES, JOBLIB], further=[Target(1 / 1.3, peers=[DATA])]),
        "More than before the data was made: the data itself and the result are in it. An argument "
        "is a snapshot, so data, snapshot and result are there at once: 1.5x of data in and out is "
        "the least for an ordinary array.",
    ),
    Case(
        "frames-memory-empty",
        f"memory at its highest for {MEGABYTES} MB there and back, from an array of raddle.empty",
        _peaks(is_shared=True),
        "MB at the peak",
        Target(1, peers=[FUTURES, JOBLIB], further=[Target(1 / 1.3, peers=[DATA])]),
        "As above; raddle's array is its own snapshot. The peers get an ordinary one.",
    ),
]


def ready() -> None:
    """Raise where a peer is missing, before anything is measured."""
    from benchmarks.frame_contenders import check

    check()
