"""A lock keeps the counter right, in try/finally or by ``with``; so does an atomic counter."""

import threading
from collections.abc import Callable
from typing import Protocol

import raddle
from lecture.measure import Measured, measure
from lecture.pages import Pages
from lecture.part_race import Counter, plus_one
from lecture.screen import Screen

THREADS = 4
TIMES = 50_000


class Lock(Protocol):
    """What the locks of both libraries can do."""

    def acquire(self) -> bool:
        """Take it."""

    def release(self) -> None:
        """Let it go."""

    def __enter__(self) -> bool: ...

    def __exit__(self, *details: object) -> None: ...


def add_one(counter: Counter) -> None:
    """Add in the steps that lose updates where nothing keeps other threads away."""
    read = counter.value
    counter.value = plus_one(read)


def in_try(counter: Counter, lock: Lock) -> None:
    """Add with the lock, released whatever happens."""
    lock.acquire()
    try:
        add_one(counter)
    finally:
        lock.release()


def by_with(counter: Counter, lock: Lock) -> None:
    """Add with the lock, the short way."""
    with lock:
        add_one(counter)


def in_threads(add: Callable[[], object]) -> None:
    """Call a function in each of four threads, many times."""

    def work() -> None:
        for _ in range(TIMES):
            add()

    threads = [raddle.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.result()


def with_lock(add: Callable[[Counter, Lock], None], lock: Lock) -> int:
    """Count under a lock."""
    counter = Counter()
    in_threads(lambda: add(counter, lock))
    return counter.value


def atomically() -> int:
    """Count with raddle's counter."""
    counter = raddle.Counter()
    in_threads(lambda: counter.add())
    return counter.value


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what they counted and took."""
    screen.program(in_try, by_with)
    lock = raddle.Lock(name="counter")
    runs: list[tuple[str, Measured[int]]] = [
        ("threading.Lock, finally", measure(with_lock, in_try, threading.Lock())),
        ("threading.Lock, with", measure(with_lock, by_with, threading.Lock())),
        ("raddle.Lock, finally", measure(with_lock, in_try, raddle.Lock())),
        ("raddle.Lock, with", measure(with_lock, by_with, lock)),
        ("raddle.Counter.add()", measure(atomically)),
    ]
    counted = " and ".join(f"{value:,}" for value in sorted({run.value for _, run in runs}))
    figures = lock.statistics()
    screen.output(
        [
            f"expected {THREADS * TIMES:,}, all counted {counted}",
            f"lock 'counter': {figures.contended:,} of {figures.acquisitions:,} had to wait",
        ]
    )
    screen.table([(name, run.seconds) for name, run in runs])
    screen.conclude(
        "A lock lets one thread at a time between read and write; `with` never forgets to let "
        "it go. For a number alone, Counter.add() is one step."
    )
