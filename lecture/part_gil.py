"""The GIL as a picture: threads that compute take turns, and processes compute side by side."""

from itertools import pairwise
from typing import Any

import raddle
from lecture.measure import measure
from lecture.pages import Pages
from lecture.screen import Screen, time_text
from lecture.squares import sum_of_squares

#: At most as many workers as the lecture draws, at least two, and not more than there are cores.
WORKERS = max(2, min(4, raddle.cpu_count()))
#: Some tens of turns of 5 ms on most machines: enough to see, few enough to tell apart.
N = 2_000_000
COLUMNS = 62

Kind = type[raddle.ThreadPoolExecutor] | type[raddle.ProcessPoolExecutor]
Stretch = tuple[int, float, float]


def recorded(kind: Kind, n: int) -> raddle.Timeline:
    """Do the same sum on each worker, and record who did what when."""
    with raddle.timeline() as recording, kind(WORKERS) as executor:
        list(executor.map(sum_of_squares, [n] * WORKERS))
    return recording


def runs(record: dict[str, Any]) -> list[Stretch]:
    """Return when tasks ran: lane, start and end of each."""
    tasks = record["tasks"]
    return [
        (lane, start, end)
        for lane, start, end in zip(tasks["lane"], tasks["started"], tasks["ended"])
        if start is not None and end is not None
    ]


def shares(stretches: list[Stretch], lane: int, edges: list[float]) -> list[float]:
    """Return for each column the share of its time that the stretches of a lane fill."""
    mine = [(start, end) for on, start, end in stretches if on == lane]
    return [
        sum(max(0.0, min(end, right) - max(start, left)) for start, end in mine) / (right - left)
        for left, right in pairwise(edges)
    ]


def rows(record: dict[str, Any], edges: list[float], marks: tuple[str, str]) -> list[str]:
    """Return a row of marks for each worker: it computes, it waits, or it has no task."""
    tasks = runs(record)
    lanes = sorted({lane for lane, _, _ in tasks}, key=lambda lane: record["lanes"][lane]["name"])
    taking_turns = record["lanes"][lanes[0]]["kind"] == "thread" and record["gil"]["sampled"]
    computing = record["gil"]["holder"] if taking_turns else tasks
    share = {lane: shares(computing, lane, edges) for lane in lanes}
    busy = {lane: shares(tasks, lane, edges) for lane in lanes}

    def mark(lane: int, column: int) -> str:
        # A column in which the GIL went around is that of the worker who had it longest.
        most = max(share[other][column] for other in lanes) if taking_turns else 0.5
        if share[lane][column] >= max(most, 0.05):
            return marks[0]
        return marks[1] if taking_turns and busy[lane][column] > 0.05 else " "

    return ["".join(mark(lane, column) for column in range(len(edges) - 1)) for lane in lanes]


def marks_of(screen: Screen) -> tuple[str, str]:
    """Return the marks of computing and of waiting."""
    return ("\N{FULL BLOCK}", "\N{LIGHT SHADE}") if screen.blocks else ("#", ".")


def draw(screen: Screen, name: str, record: dict[str, Any], seconds: float) -> None:
    """Print the picture of a recording: a row for each worker, over the given seconds."""
    first = min(start for _, start, _ in runs(record))
    edges = [first + seconds * column / COLUMNS for column in range(COLUMNS + 1)]
    for number, marks in enumerate(rows(record, edges, marks_of(screen)), 1):
        screen.print(f"  {f'{name} {number}':<12}|{marks}|")


def length(record: dict[str, Any]) -> float:
    """Return the seconds from the first task's start to the last one's end."""
    tasks = runs(record)
    return max(end for _, _, end in tasks) - min(start for _, start, _ in tasks)


def show(screen: Screen, pages: Pages) -> None:
    """Record the sums in threads and in processes, and draw both to one scale."""
    screen.program(recorded)
    loop = measure(lambda: [sum_of_squares(N) for _ in range(WORKERS)])
    in_threads = recorded(raddle.ThreadPoolExecutor, N)
    in_processes = recorded(raddle.ProcessPoolExecutor, N)
    screen.timeline(in_threads, f"{WORKERS} threads that compute")
    screen.timeline(in_processes, f"{WORKERS} processes that compute")
    # The recording in plain values, of which the pages and exports of timelines are made.
    threads, processes = in_threads._record(), in_processes._record()
    longest = max(length(threads), length(processes))
    draw(screen, "thread", threads, longest)
    draw(screen, "process", processes, longest)
    computes, waits = marks_of(screen)
    screen.print(f"  {computes} computes, {waits} waits; {time_text(longest)} from left to right")
    screen.table(
        [
            ("loop", loop.seconds),
            ("threads", length(threads)),
            ("processes", length(processes)),
        ]
    )
    known = threads["gil"]["sampled"]
    screen.conclude(
        ("The bars of threads never overlap: " if known else "Who had the GIL is not known here: ")
        + "only the thread that holds the GIL runs Python, and hands it on after 5 ms at most "
        "if another waits. Each process has a GIL of its own, so their bars lie side by side."
    )
