"""Four threads add to a counter without a lock, and lose updates: how many, and how."""

import math
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from lecture.measure import Measured, measure
from lecture.pages import Pages
from lecture.screen import Screen, time_text

THREADS = 4
#: How often each thread adds in the lecture. A fast machine does that within one turn of a thread.
TIMES = 100_000
#: How many turns each thread is to take at least.
TURNS = 10
#: A race has its own luck. The program is run until it has lost an update, this often at most.
RUNS = 50


class Counter:
    """A number that threads share."""

    def __init__(self) -> None:
        self.value = 0


def plus_one(number: int) -> int:
    """Add one; while it is called, Python may let another thread run."""
    return number + 1


def as_drawn(counter: Counter, times: int) -> None:
    """Add in one expression."""
    for _ in range(times):
        counter.value += 1


def add(counter: Counter, times: int) -> None:
    """Add in three steps."""
    for _ in range(times):
        read = counter.value
        added = plus_one(read)
        counter.value = added


@dataclass(frozen=True)
class Loss:
    """How one thread undid what another had done: what it had read, found and wrote."""

    thread: str
    read: int
    other: str
    found: int
    wrote: int

    def lines(self) -> list[str]:
        """Tell it step by step."""
        return [
            f"{self.thread} reads {self.read:,}",
            f"{self.other} goes on meanwhile, and writes {self.found:,}",
            f"{self.thread} adds 1 to what it read, and writes {self.wrote:,}: "
            f"{self.found - self.read:,} lost",
        ]


class Watched(Counter):
    """A counter that notes the first write that undoes another thread's."""

    def __init__(self) -> None:
        self._number, self._writer = 0, ""
        self._seen = threading.local()
        self.loss: Loss | None = None

    @property
    def value(self) -> int:
        """The number."""
        self._seen.number = self._number
        return int(self._seen.number)

    @value.setter
    def value(self, wrote: int) -> None:
        name, found, read = threading.current_thread().name, self._number, self._seen.number
        if found > read and self.loss is None:
            self.loss = Loss(name, read, self._writer, found, wrote)
        self._number, self._writer = wrote, name


def enough() -> int:
    """Return how often a thread has to add, so that it takes its turns: a multiple of `TIMES`."""
    seconds = measure(add, Counter(), TIMES).seconds
    return TIMES * math.ceil(TURNS * sys.getswitchinterval() / seconds)


def in_threads(function: Callable[[Counter, int], None], counter: Counter, times: int) -> Counter:
    """Have four threads add to the counter at the same time."""
    ready = threading.Barrier(THREADS)

    def work() -> None:
        ready.wait()
        function(counter, times)

    names = [f"thread {number}" for number in range(1, THREADS + 1)]
    threads = [threading.Thread(target=work, name=name) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counter


def run(function: Callable[[Counter, int], None], times: int) -> Measured[int]:
    """Run one of the loops in threads, and measure its counter's last value."""
    return measure(lambda: in_threads(function, Counter(), times).value)


def until_lost(times: int) -> Measured[int]:
    """Run the three steps until they have lost an update; the run that did, or the last."""
    for _ in range(RUNS):
        measured = run(add, times)
        if measured.value != THREADS * times:
            break
    return measured


def observed(times: int) -> Loss | None:
    """Run the three steps, watched, until one lost update was seen."""
    for _ in range(RUNS):
        counter = Watched()
        in_threads(add, counter, times)
        if counter.loss is not None:
            return counter.loss
    return None


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what was lost."""
    screen.program(as_drawn, add)
    times = enough()
    expected = THREADS * times
    layout = "  {:<18}{:>11}{:>11}{:>11}{:>10}"
    heads = ("", "expected", "counted", "lost", "time")
    screen.row(layout.format(*heads), heads, head=True)
    runs = (("in one expression", run(as_drawn, times)), ("in three steps", until_lost(times)))
    for name, done in runs:
        counts = (expected, done.value, expected - done.value)
        cells = (name, *(f"{count:,}" for count in counts), time_text(done.seconds))
        screen.row(layout.format(*cells), cells)
    if times > TIMES:
        turn = time_text(sys.getswitchinterval())
        screen.print(f"  (here a thread adds {TIMES:,} times within one turn, of {turn})")
    loss = observed(times)
    screen.output(loss.lines() if loss else [f"no update was lost in {RUNS} runs"])
    screen.conclude(
        "An update is lost when another thread writes between read and write. Python changes "
        "threads at calls and ends of loops, so the first loop goes well, by luck and not by rule."
    )
