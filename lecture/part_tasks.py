"""What a task costs: a function that does nothing, called in a loop and through executors."""

import concurrent.futures
from types import ModuleType

import raddle
from lecture.measure import measure
from lecture.pages import Pages
from lecture.screen import Screen

COUNT = 20_000


def nothing(number: int) -> None:
    """Do nothing, so that all that is measured is the way there and back."""


def in_a_loop(n: int) -> None:
    """Call it."""
    for number in range(n):
        nothing(number)


def submitted(library: ModuleType, n: int) -> None:
    """Submit each call, then wait for all of them."""
    with library.ThreadPoolExecutor(max_workers=2) as executor:
        futures = [executor.submit(nothing, number) for number in range(n)]
        library.wait(futures)


def mapped(library: ModuleType, n: int) -> None:
    """Map over all numbers."""
    with library.ThreadPoolExecutor(max_workers=2) as executor:
        for _ in executor.map(nothing, range(n)):
            pass


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print the cost of one task in each."""
    screen.program(submitted, mapped)
    rows = [("loop", measure(in_a_loop, COUNT).seconds)]
    for name, library in (("standard library", concurrent.futures), ("raddle", raddle)):
        rows.append((f"{name}, submit", measure(submitted, library, COUNT).seconds))
        rows.append((f"{name}, map", measure(mapped, library, COUNT).seconds))
    screen.output([f"{COUNT:,} tasks in each; the time is that of one task"])
    screen.table([(name, seconds / COUNT) for name, seconds in rows], ratio="cost")
    screen.conclude(
        "A task is worth handing to a thread if it takes longer than handing it over. The cheaper "
        "a task, the smaller the work that may be one."
    )
