"""Threads or processes: what each is best for, and what it costs, measured side by side."""

import concurrent.futures
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import raddle
from lecture.measure import measure
from lecture.pages import Pages
from lecture.screen import BOLD, Screen, ratio_text, time_text
from lecture.squares import size_for, sum_of_squares

WORKERS = 4
NAP = 0.2
TASKS = 1_000
MESSAGE = bytes(1_000_000)
MESSAGES = 20
#: The seconds that all the sums may take: those of a loop and of four pools.
BUDGET = 5.0
SUMS = 5 * WORKERS

#: How a pool is opened, by the words of the table's two lines of heading.
POOLS: dict[tuple[str, str], Callable[[], Executor]] = {
    ("threads,", "standard"): lambda: concurrent.futures.ThreadPoolExecutor(WORKERS),
    ("threads,", "raddle"): lambda: raddle.ThreadPoolExecutor(WORKERS),
    ("processes,", "standard"): lambda: concurrent.futures.ProcessPoolExecutor(WORKERS),
    ("processes,", "raddle"): lambda: raddle.ProcessPoolExecutor(WORKERS),
}


@dataclass(frozen=True)
class Figures:
    """What a pool of four workers did and took.

    Parameters
    ----------
    waiting, computing : float
        How many times as fast as a loop it waits and computes.
    cores : float
        Processors that worked for it at a time while it computed.
    memory : float
        Bytes that a worker adds to the memory in use.
    opening : float
        Seconds to open it, run a task on each worker and close it.
    task : float
        Seconds for one task that does nothing.
    message : float
        Seconds to hand 1 MB to a worker and have its length back.
    """

    waiting: float
    computing: float
    cores: float
    memory: float
    opening: float
    task: float
    message: float

    def cells(self) -> list[str]:
        """Return the figures as the table shows them, in the order of `LINES`."""
        return [
            ratio_text(self.waiting),
            ratio_text(self.computing),
            f"{self.cores:.1f}",
            f"{self.memory / 1e6:.1f} MB" if self.memory >= 1e5 else f"{self.memory / 1e3:.0f} KB",
            time_text(self.opening),
            time_text(self.task),
            time_text(self.message),
        ]


LINES = [
    "best for? waiting",
    "best for? computing",
    "GIL: cores at a time",
    "memory: a worker",
    "overhead: a pool",
    "overhead: a task",
    "communication: 1 MB",
]


def memory_in_use() -> int:
    """Return what this process and those it has started hold, shared memory counted once."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name stands in parentheses, and may hold some itself.
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    family, last = {os.getpid()}, 0
    while len(family) > last:
        last = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    return sum(map(proportional_bytes, family))


def proportional_bytes(pid: int) -> int:
    """Return the bytes that a process holds, those shared with others divided among them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def use(executor: Executor) -> None:
    """Have each worker run something."""
    list(executor.map(time.sleep, [0.02] * WORKERS))


def submit_all(executor: Executor) -> None:
    """Submit tasks that do nothing, and wait for them."""
    concurrent.futures.wait([executor.submit(abs, number) for number in range(TASKS)])


def send(executor: Executor) -> None:
    """Hand the message over, again and again."""
    for _ in range(MESSAGES):
        executor.submit(len, MESSAGE).result()


def open_and_close(pool: Callable[[], Executor]) -> None:
    """Open a pool, run a task on each worker and close it."""
    with pool() as executor:
        list(executor.map(abs, range(WORKERS)))


def figures(pool: Callable[[], Executor], n: int, loop: float) -> Figures:
    """Measure a pool; `loop` is the seconds that the sums take in a row."""
    before = memory_in_use()
    with pool() as executor:
        use(executor)
        memory = (memory_in_use() - before) / WORKERS
        naps = measure(lambda: list(executor.map(time.sleep, [NAP] * WORKERS)))
        sums = measure(
            lambda: list(executor.map(measure, [sum_of_squares] * WORKERS, [n] * WORKERS))
        )
        tasks = measure(submit_all, executor)
        messages = measure(send, executor)
    return Figures(
        waiting=NAP * WORKERS / naps.seconds,
        computing=loop / sums.seconds,
        cores=sum(call.busy_seconds for call in sums.value) / sums.seconds,
        memory=memory,
        opening=measure(open_and_close, pool).seconds,
        task=tasks.seconds / TASKS,
        message=messages.seconds / MESSAGES,
    )


def show(screen: Screen, pages: Pages) -> None:
    """Measure the four pools and print the table."""
    n = size_for(BUDGET, SUMS)
    loop = measure(lambda: [sum_of_squares(n) for _ in range(WORKERS)]).seconds
    # Processes first: to fork a program that has threads is what its documentation warns of.
    measured = {heading: figures(pool, n, loop) for heading, pool in reversed(POOLS.items())}
    for line in (0, 1):
        heading = "".join(f"{words[line]:>14}" for words in POOLS)
        screen.write(screen.styled(BOLD, f"  {'':<21}{heading}"))
    if screen.report:
        screen.report.row(["", *(" ".join(words) for words in POOLS)], head=True)
    columns = [measured[heading].cells() for heading in POOLS]
    for name, *cells in zip(LINES, *columns):
        screen.row(f"  {name:<21}" + "".join(f"{cell:>14}" for cell in cells), [name, *cells])
    screen.conclude(
        f"{WORKERS} workers, beside a loop. Threads are for tasks that wait (network, files, "
        "databases): they are light, and share objects. Processes are for tasks that compute in "
        "Python: each has a GIL and a memory of its own, and what goes there and back is copied. "
        "Rule of thumb: does the task wait? Threads. Does it compute for longer than it costs "
        "to hand it over? Processes. Neither? A loop."
    )
