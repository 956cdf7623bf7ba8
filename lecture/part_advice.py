"""Should you use parallelism? Asked of raddle for each of the lecture's programs."""

import time
from collections.abc import Callable
from typing import Any

import raddle
from lecture.pages import Pages, download
from lecture.screen import BOLD, Screen, time_text
from lecture.squares import size_for, sum_of_squares

#: The seconds that the sums may take in a row.
BUDGET = 2.0
SUMS = 8

Function = Callable[[Any], object]

counter = 0


def add_to_counter(number: int) -> None:
    """Add to a global, as the threads of the race did."""
    global counter
    counter += sum_of_squares(number)


def square(number: int) -> int:
    """Compute next to nothing."""
    return number * number


def size_of(page: bytes) -> int:
    """Look at data that takes longer to send than to look at."""
    return len(page)


def should_it(function: Function, items: list[Any]) -> raddle.Advice:
    """Ask whether to call a function for its items in parallel, and how."""
    return raddle.advise(function, items)


def show(screen: Screen, pages: Pages) -> None:
    """Print the advice for each program, in a line and a sentence."""
    n = size_for(BUDGET, SUMS)
    programs: list[tuple[str, Function, list[Any]]] = [
        ("downloads", download, pages.urls(10)),
        ("waiting", time.sleep, [0.05] * 40),
        ("sums of squares", sum_of_squares, [n] * SUMS),
        ("squares of numbers", square, list(range(1_000))),
        ("a counter", add_to_counter, [n] * SUMS),
        ("sizes of 1 MB", size_of, [bytes(1_000_000)] * 20),
    ]
    screen.program(should_it)
    screen.print(screen.styled(BOLD, f"  {'':<20}{'loop':>9}{'advised':>10}   how"))
    for name, function, items in programs:
        advice = should_it(function, items)
        seconds = {one.how: one.seconds for one in advice.forecasts}
        times = f"{time_text(seconds['sequential']):>9}{time_text(seconds[advice.how]):>10}"
        workers = f"{advice.workers} " if advice.how != "sequential" else ""
        screen.print(f"  {name:<20}{times}   {workers}{advice.how}")
        screen.print(f"  > {advice.reasons[0].partition(' (')[0]}"[:78])
    screen.conclude(
        "Predicted from a few calls: what they wait and compute, who holds the GIL, what sending "
        "costs. raddle.map(function, items) measures the same while it runs, and decides by itself."
    )
