"""Two kinds of task, told apart by measurement: those that wait and those that compute."""

import random
import time
from collections.abc import Callable

import raddle
from lecture.measure import Measured, measure
from lecture.pages import Pages, download
from lecture.screen import Screen, time_text

#: From this share of waiting on, a task is one that waits; less may be due to a busy machine.
MOSTLY = 0.8


def sleep() -> None:
    """Wait, as for a database or a user."""
    time.sleep(0.3)


def sum_of_squares() -> int:
    """Compute with numbers."""
    return sum(i * i for i in range(1_000_000))


def sort() -> list[float]:
    """Compute over data."""
    return sorted(random.random() for _ in range(200_000))


def kind_of(function: Callable[[], object]) -> Measured[object]:
    """Run a function three times in a worker and keep the run that other programs held up least."""
    with raddle.ThreadPoolExecutor(max_workers=1) as executor:
        calls = list(executor.map(measure, [function] * 3))
    return min(calls, key=lambda call: call.waited)


def verdict(call: Measured[object]) -> str:
    """Say which kind of task a measured call was."""
    return "waits: threads help" if call.waited > MOSTLY else "computes"


def show(screen: Screen, pages: Pages) -> None:
    """Measure some functions and print of which kind each is."""
    url = pages.urls(1)[0]
    functions: list[tuple[str, Callable[[], object]]] = [
        ("download a page", lambda: download(url)),
        ("sleep 0.3 s", sleep),
        ("sum a million squares", sum_of_squares),
        ("sort 200,000 numbers", sort),
    ]
    screen.program(kind_of)
    heads = ("", "time", "processor", "waited", "")
    screen.row("  {:<24}{:>10}{:>12}{:>9}{}".format(*heads), heads, head=True)
    for name, function in functions:
        call = kind_of(function)
        times = time_text(call.seconds), time_text(call.busy_seconds)
        cells = (name, *times, f"{call.waited:.0%}", verdict(call))
        screen.row("  {:<24}{:>10}{:>12}{:>9}   {}".format(*cells), cells)
    screen.conclude(
        "A task waits (network, files, databases, people) if it takes much longer than the "
        "processor worked for it; other tasks can run meanwhile, in threads. Else it computes, "
        "and speeds up only where the processors can work on it at the same time."
    )
