"""Threads do not speed up a computation in Python: they take turns at one interpreter."""

import concurrent.futures
from types import ModuleType

import raddle
from lecture.measure import Measured, measure
from lecture.pages import Pages
from lecture.screen import Screen, time_text
from lecture.squares import BUDGET, size_for, sum_of_squares

SUMS = 12  # four times: as a loop, with the standard library, with raddle


def in_threads(library: ModuleType, n: int) -> list[Measured[int]]:
    """Do the same sum four times in four threads."""
    with library.ThreadPoolExecutor(max_workers=4) as executor:
        return list(executor.map(measure, [sum_of_squares] * 4, [n] * 4))


def in_a_row(n: int) -> list[Measured[int]]:
    """Do the same sum four times in a loop."""
    return [measure(sum_of_squares, n) for _ in range(4)]


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs, and show by the processor's time why threads do not help."""
    n = size_for(BUDGET, SUMS)
    screen.program(sum_of_squares, in_threads)
    loop = measure(in_a_row, n)
    standard = measure(in_threads, concurrent.futures, n)
    with screen.recorded("Four threads that compute"):
        ours = measure(in_threads, raddle, n)
    screen.output([f"n = {n:,}: {ours.value[0].value:,}, four times"])
    screen.compare(loop.seconds, standard.seconds, ours.seconds)
    layout = "  {:<26}{:>10}{:>13}{:>9}"
    heads = ("in raddle", "time", "processor", "waited")
    screen.row(layout.format(*heads), heads, head=True)
    for number, call in enumerate(ours.value, 1):
        times = time_text(call.seconds), time_text(call.busy_seconds)
        cells = (f"thread {number}", *times, f"{call.waited:.0%}")
        screen.row(layout.format(*cells), cells)
    busy = sum(call.busy_seconds for call in ours.value)
    screen.conclude(
        f"The four threads used the processors for {time_text(busy)} in {time_text(ours.seconds)}: "
        f"{busy / ours.seconds:.1f} of them at a time. Only the thread that holds the GIL runs "
        "Python, and the others wait for it. To compute at the same time takes processes."
    )
