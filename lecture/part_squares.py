"""Threads do not speed up a computation in Python: they take turns at one interpreter."""

import concurrent.futures
from types import ModuleType

import raddle
from lecture.measure import Measured, measure
from lecture.pages import Pages
from lecture.screen import BOLD, Screen, time_text

#: The lecture sums ten million squares; a slow machine sums fewer, to stay near ten seconds.
LARGEST = 10_000_000
BUDGET = 10.0
SUMS = 12  # four times: as a loop, with the standard library, with raddle


def sum_of_squares(n: int) -> int:
    """Add the squares of the numbers below n."""
    return sum(i * i for i in range(n))


def in_threads(library: ModuleType, n: int) -> list[Measured[int]]:
    """Do the same sum four times in four threads."""
    with library.ThreadPoolExecutor(max_workers=4) as executor:
        return list(executor.map(measure, [sum_of_squares] * 4, [n] * 4))


def in_a_row(n: int) -> list[Measured[int]]:
    """Do the same sum four times in a loop."""
    return [measure(sum_of_squares, n) for _ in range(4)]


def size_for(budget: float, sums: int) -> int:
    """Choose the size that this machine sums so many times within the budget of seconds."""
    sample = LARGEST // 20
    fitting = sample * budget / (measure(sum_of_squares, sample).seconds * sums)
    return next(
        n for n in (LARGEST, LARGEST // 2, LARGEST // 5, sample) if n <= fitting or n == sample
    )


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs, and show by the processor's time why threads do not help."""
    n = size_for(BUDGET, SUMS)
    screen.program(sum_of_squares, in_threads)
    loop = measure(in_a_row, n)
    standard = measure(in_threads, concurrent.futures, n)
    ours = measure(in_threads, raddle, n)
    screen.output([f"n = {n:,}: {ours.value[0].value:,}, four times"])
    screen.compare(loop.seconds, standard.seconds, ours.seconds)
    screen.print(
        screen.styled(BOLD, f"  {'in raddle':<26}{'time':>10}{'processor':>13}{'waited':>9}")
    )
    for number, call in enumerate(ours.value, 1):
        times = f"{time_text(call.seconds):>10}{time_text(call.busy_seconds):>13}"
        screen.print(f"  {f'thread {number}':<26}{times}{call.waited:>9.0%}")
    busy = sum(call.busy_seconds for call in ours.value)
    screen.conclude(
        f"The four threads used the processors for {time_text(busy)} in {time_text(ours.seconds)}: "
        f"{busy / ours.seconds:.1f} of them at a time. Only the thread that holds the GIL runs "
        "Python, and the others wait for it. To compute at the same time takes processes."
    )
