"""The cases of locks, counter and threads beside ``threading``, each with its target."""

from __future__ import annotations

import hashlib
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from types import ModuleType
from typing import Any

from benchmarks.measure import timed
from benchmarks.model import RADDLE, Case, Sample, Scale, Setup, Target

THREADING = "threading"
TRY_FINALLY = "lock in try/finally"
WITH_LOCK = "lock in with"
COLUMNS = (RADDLE, THREADING, TRY_FINALLY, WITH_LOCK)

NANOSECONDS_A_TURN = "ns a turn"
WITHIN = Target(1 / 1.3, peers=[THREADING])
NOT_SLOWER = Target(1, peers=[THREADING])
THREE_TIMES = Target(3, peers=[TRY_FINALLY, WITH_LOCK])
BLOCK = bytes(64 * 1024)
FAIRNESS_SECONDS = 0.2
#: The turns of one pass of a loop, so that the loop itself is a small part of what is measured.
UNROLLED = 10


def unrolled(statement: str, names: str = "lock = it") -> Callable[[Any, int], None]:
    """Make a loop over a statement, ten times a pass, on what is given as ``it``.

    Examples
    --------
    >>> numbers: list[int] = []
    >>> unrolled("numbers.append(7)", "numbers = it")(numbers, 2)
    >>> len(numbers)
    20
    """
    body = textwrap.indent(f"{statement}\n" * UNROLLED, " " * 8)
    space: dict[str, Any] = {"repeat": repeat}
    exec(f"def loop(it, passes):\n    {names}\n    for _ in repeat(None, passes):\n{body}", space)
    loop: Callable[[Any, int], None] = space["loop"]
    return loop


acquire_release = unrolled("lock.acquire()\nlock.release()")
enter_leave = unrolled("with lock:\n    pass")


class Account:
    """A small object as programs have them: a number and the lock that keeps it right."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.balance = lock, 0

    def deposit(self, amount: int) -> None:
        """Add under the lock."""
        with self.lock:
            self.balance += amount


deposit = unrolled("account.deposit(1)", "account = it")


def call_method(lock: Any, passes: int) -> None:
    """Take and release the lock in a small method."""
    account = Account(lock)
    deposit(account, passes)
    assert account.balance == passes * UNROLLED


def uncontended(kind: str, loop: Callable[[Any, int], None]) -> Setup:
    """Give samplers of one thread that takes and releases a lock of a kind."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        passes = scale.tasks(100_000) // UNROLLED
        locks = {RADDLE: getattr(subject, kind)(), THREADING: getattr(threading, kind)()}
        yield {
            name: timed(partial(loop, lock, passes), _is_none, passes * UNROLLED, scale)
            for name, lock in locks.items()
        }

    return setup


def _is_none(outcome: object) -> bool:
    return outcome is None


def in_threads(function: Callable[[], None], count: int) -> None:
    """Call a function in each of some threads, and wait for them."""
    threads = [threading.Thread(target=function) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def add_only() -> None:
    """Do nothing more under the lock."""


def yield_interpreter() -> None:
    """Let other threads run, with the lock held."""
    time.sleep(0)


def hash_block() -> None:
    """Work without the interpreter, with the lock held."""
    hashlib.sha256(BLOCK).digest()


def add_under(lock: Any, threads: int, turns: int, inside: Callable[[], None]) -> int:
    """Add one to a counter in each turn of each thread, under the lock; return the sum."""
    account = Account(lock)

    def work() -> None:
        for _ in repeat(None, turns):
            with lock:
                account.balance += 1
                inside()

    def work_alone() -> None:
        for _ in repeat(None, turns):
            with lock:
                account.balance += 1

    in_threads(work_alone if inside is add_only else work, threads)
    return account.balance


def contended(threads: int, turns: int, inside: Callable[[], None], kind: str = "Lock") -> Setup:
    """Give samplers of threads that all want one lock."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        each = scale.tasks(turns)
        locks = {RADDLE: getattr(subject, kind)(), THREADING: getattr(threading, kind)()}
        right = (threads * each).__eq__
        yield {
            name: timed(
                partial(add_under, lock, threads, each, inside), right, threads * each, scale
            )
            for name, lock in locks.items()
        }

    return setup


class Total:
    """The lecture's counter with its lock, and raddle's."""

    def __init__(self, subject: ModuleType) -> None:
        self.lock, self.value, self.counter = threading.Lock(), 0, subject.Counter()


TOTAL = "total, lock, counter = it, it.lock, it.counter"
ADDING = {
    RADDLE: unrolled("counter.add()", TOTAL),
    TRY_FINALLY: unrolled(
        "lock.acquire()\ntry:\n    total.value += 1\nfinally:\n    lock.release()", TOTAL
    ),
    WITH_LOCK: unrolled("with lock:\n    total.value += 1", TOTAL),
}


def counting(threads: int) -> Setup:
    """Give samplers of the same additions with raddle's counter and with the standard lock."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        passes = scale.tasks(400_000) // threads // UNROLLED

        def run(add: Callable[[Any, int], None]) -> int:
            total = Total(subject)
            work = partial(add, total, passes)
            work() if threads == 1 else in_threads(work, threads)
            return total.value + total.counter.value

        count = threads * passes * UNROLLED
        yield {
            name: timed(partial(run, add), count.__eq__, count, scale)
            for name, add in ADDING.items()
        }

    return setup


@contextmanager
def start_thread(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of threads that are started and joined one by one."""
    count = scale.tasks(1_000)

    def run(kind: Any) -> int:
        ended = []
        for _ in repeat(None, count):
            thread = kind(target=ended.append, args=(1,))
            thread.start()
            thread.join()
        return len(ended)

    kinds = {RADDLE: subject.Thread, THREADING: threading.Thread}
    yield {
        name: timed(partial(run, kind), count.__eq__, count, scale) for name, kind in kinds.items()
    }


def longest_wait(lock: Any, threads: int, inside: Callable[[], None]) -> float:
    """Return the longest time, in seconds, that one of the threads waited for the lock."""
    waits, end = [], time.perf_counter() + FAIRNESS_SECONDS

    def work() -> None:
        longest, now = 0.0, time.perf_counter()
        while now < end:
            with lock:
                longest = max(longest, time.perf_counter() - now)
                inside()
            now = time.perf_counter()
        waits.append(longest)

    in_threads(work, threads)
    assert len(waits) == threads
    return max(waits)


def fairness(inside: Callable[[], None]) -> Setup:
    """Give samplers of the longest wait of four threads for one lock."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        del scale  # a wait is longest where there are many
        locks = {RADDLE: subject.Lock(), THREADING: threading.Lock()}
        yield {name: partial(longest_wait, lock, 4, inside) for name, lock in locks.items()}

    return setup


UNCONTENDED = "The loop has ten turns a pass, so that the loop itself hardly counts."
METHOD = "A method that adds to an attribute under the lock: its call is in both figures."
THREADS_INCLUDED = "Starting and joining the threads, standard ones in both, is in the figures."
LONGEST = "The longest of all waits within 0.2 s: 4 threads take turns as they come."


def uncontended_cases(kind: str) -> list[Case]:
    """Return the cases of a lock that nobody else wants."""
    name = kind.lower()
    loops = [
        ("acquire", "acquire() and release()", acquire_release, UNCONTENDED),
        ("with", "with", enter_leave, UNCONTENDED),
        ("method", "with, in a small method", call_method, METHOD),
    ]
    return [
        Case(
            f"{name}-{way}",
            f"{kind}, uncontended: {text}",
            uncontended(kind, loop),
            NANOSECONDS_A_TURN,
            WITHIN,
            note,
        )
        for way, text, loop, note in loops
    ]


def contended_case(
    name: str, threads: int, turns: int, inside: Callable[[], None], what: str, kind: str = "Lock"
) -> Case:
    """Return a case of threads that all want one lock."""
    title = f"{kind}, {threads} threads: lock, {what}, unlock"
    setup = contended(threads, turns, inside, kind)
    return Case(f"{name}-{threads}", title, setup, "us a turn", NOT_SLOWER, THREADS_INCLUDED)


CASES = [
    *uncontended_cases("Lock"),
    *uncontended_cases("RLock"),
    *(contended_case("add", threads, 20_000, add_only, "add") for threads in (2, 4, 8)),
    contended_case("radd", 4, 20_000, add_only, "add", "RLock"),
    *(
        contended_case("yield", threads, 1_000, yield_interpreter, "add, sleep(0)")
        for threads in (2, 4, 8)
    ),
    *(contended_case("hash", threads, 200, hash_block, "add, hash 64 KB") for threads in (2, 4, 8)),
    *(
        Case(
            f"counter-{threads}",
            f"Counter.add beside lock and add, {words}",
            counting(threads),
            "ns an add",
            THREE_TIMES,
            "The standard library's lock, used as the lecture does."
            + (f" {THREADS_INCLUDED}" if threads > 1 else ""),
        )
        for threads, words in ((1, "1 thread"), (4, "4 threads"))
    ),
    Case("start", "start a thread and join it", start_thread, "us a thread"),
    Case("wait-add", "longest wait, 4 threads that add", fairness(add_only), "ms", note=LONGEST),
    Case(
        "wait-yield",
        "longest wait, 4 threads that add and sleep(0)",
        fairness(yield_interpreter),
        "ms",
        note=LONGEST,
    ),
    Case(
        "wait-hash",
        "longest wait, 4 threads that add and hash 64 KB",
        fairness(hash_block),
        "ms",
        note=LONGEST,
    ),
]
