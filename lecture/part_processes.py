"""Processes compute at the same time: the sum of squares in a loop, in threads, in processes."""

import concurrent.futures
from types import ModuleType

import raddle
from lecture.measure import Measured, measure
from lecture.pages import Pages
from lecture.part_squares import in_a_row, in_threads
from lecture.screen import Screen, ratio_text
from lecture.squares import BUDGET, size_for, sum_of_squares

SUMS = 16  # four times: as a loop, in threads, in the standard library's processes, in raddle's


def in_processes(library: ModuleType, n: int) -> list[Measured[int]]:
    """Do the same sum four times in four processes."""
    with library.ProcessPoolExecutor(max_workers=4) as executor:
        return list(executor.map(measure, [sum_of_squares] * 4, [n] * 4))


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs, and tell how many processors they used at a time."""
    n = size_for(BUDGET, SUMS)
    screen.program(sum_of_squares, in_processes)
    loop = measure(in_a_row, n)
    threads = measure(in_threads, raddle, n)
    standard = measure(in_processes, concurrent.futures, n)
    with screen.recorded("The same sums in raddle's processes"):
        ours = measure(in_processes, raddle, n)
    values = {call.value for run in (loop, threads, standard, ours) for call in run.value}
    told = " and ".join(f"{value:,}" for value in sorted(values))
    screen.output([f"n = {n:,}: {told}, four times, in all four ways"])
    screen.table(
        [
            ("sequential", loop.seconds),
            ("threads", threads.seconds),
            ("processes, standard", standard.seconds),
            ("processes, raddle", ours.seconds),
        ]
    )
    busy = sum(call.busy_seconds for call in ours.value)
    screen.conclude(
        f"Each process has an interpreter and a GIL of its own: {busy / ours.seconds:.1f} of the "
        f"{raddle.cpu_count()} processors here were computing at a time, "
        f"{ratio_text(loop.seconds / ours.seconds)} as fast as the loop. raddle's workers need no "
        'guard (if __name__ == "__main__"), and run lambdas and functions of a notebook too.'
    )
