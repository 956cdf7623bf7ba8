"""The corpus of workloads on which `raddle.map` has to choose."""

from __future__ import annotations

import hashlib
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

DATA = bytes(range(256)) * 4_000
TEXT = b"a parallel executor for Python, its engine written in Rust. " * 3_000


@dataclass(frozen=True)
class Workload:
    """A function and its items; `effects` gives what the calls have changed outside."""

    name: str
    function: Callable[..., Any]
    items: Callable[[], Iterable[Any]]
    effects: Callable[[], Any] = lambda: None
    reset: Callable[[], None] = lambda: None


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def compute(count: int) -> int:
    total = 0
    for i in range(count):
        total += i * i
    return total


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def primes(limit: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


def words(text: bytes) -> int:
    counts: dict[str, int] = {}
    for word in text.decode().split():
        counts[word] = counts.get(word, 0) + 1
    return len(counts)


def digest(turns: int) -> str:
    sha = hashlib.sha256()
    for _ in range(turns):
        sha.update(DATA)
    return sha.hexdigest()


def derive(turns: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", turns)


def compress(level: int) -> int:
    return len(zlib.compress(TEXT, level))


def wait_and_compute(count: int) -> int:
    time.sleep(0.004)
    return compute(count)


def mostly_wait(count: int) -> int:
    time.sleep(0.01)
    return compute(count)


def compute_and_digest(count: int) -> int:
    digest(2)
    return compute(count)


def length(data: Any) -> int:
    return len(data)


def total_of(numbers: list[int]) -> int:
    return sum(n * n for n in numbers)


def huge_result(n: int) -> bytes:
    return bytes(2_000_000)


def list_result(n: int) -> list[int]:
    return [n + i for i in range(20_000)]


def increment(n: int) -> int:
    return n + 1


def slow_after(n: int) -> int:
    return compute(20 if n < 2_000 else 30_000)


def wait_then_compute(n: int) -> int:
    if n < 60:
        time.sleep(0.004)
        return n
    return compute(60_000)


def compute_then_wait(n: int) -> int:
    if n < 60:
        return compute(40_000)
    time.sleep(0.01)
    return n


def one_slow(n: int) -> int:
    return compute(2_000_000 if n == 500 else 200)


def square(n: int) -> int:
    return n * n


class Holder:
    """Has a lock, which cannot travel."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Lock()


def of_holder(holder: Holder) -> int:
    return compute(holder.size)


def nap_with(holder: Holder) -> int:
    time.sleep(0.005)
    return holder.size


out: list[int] = []
table: dict[int, int] = {}
state = {"sum": 0}
rows: list[list[int]] = []


def append(n: int) -> int:
    out.append(compute(20_000))
    return n


def store(n: int) -> int:
    table[n] = compute(20_000)
    return n


def add_up(n: int) -> int:
    state["sum"] += compute(20_000)
    return n


def draw(n: int) -> float:
    return compute(20_000) + random.random()


def sort_in_place(row: list[int]) -> int:
    compute(20_000)
    row.sort()
    return row[0]


def reset_rows() -> None:
    rows[:] = [[3, 2, 1] for _ in range(150)]


CORPUS = [
    Workload("waiting, 50 x 20 ms", nap, lambda: [0.02] * 50),
    Workload("waiting, 400 x 2 ms", nap, lambda: [0.002] * 400),
    Workload("waiting, 3 x 300 ms", nap, lambda: [0.3] * 3),
    Workload("waiting, a generator of 40 x 20 ms", nap, lambda: (0.02 for _ in range(40))),
    Workload("waiting, of different length", nap, lambda: [0.001, 0.02, 0.005] * 20),
    Workload("pure Python, 200 x 3 ms", compute, lambda: [60_000] * 200),
    Workload("pure Python, 8 x 80 ms", compute, lambda: [1_600_000] * 8),
    Workload("pure Python, 4 x 200 ms", compute, lambda: [4_000_000] * 4),
    Workload("pure Python, 20,000 x 30 us", compute, lambda: [600] * 20_000),
    Workload(
        "pure Python, a generator of 200 x 3 ms", compute, lambda: (60_000 for _ in range(200))
    ),
    Workload("recursion, 30 x 15 ms", fibonacci, lambda: [19] * 300),
    Workload("primes, 60 x 10 ms", primes, lambda: [4_000] * 60),
    Workload("counting words, 120 x 5 ms", words, lambda: [TEXT] * 120),
    Workload("hashing, 200 x 3 ms", digest, lambda: [4] * 200),
    Workload("deriving keys, 60 x 10 ms", derive, lambda: [12_000] * 60),
    Workload("compressing, 100 x 4 ms", compress, lambda: [6] * 400),
    Workload("waiting and computing, 100 x 6 ms", wait_and_compute, lambda: [40_000] * 100),
    Workload("mostly waiting, 60 x 10 ms", mostly_wait, lambda: [4_000] * 60),
    Workload("computing and hashing, 120 x 4 ms", compute_and_digest, lambda: [30_000] * 120),
    Workload("tiny, 300,000 items", increment, lambda: range(300_000)),
    Workload("tiny, builtin, 300,000 items", abs, lambda: range(300_000)),
    Workload("tiny, 100 items", increment, lambda: range(100)),
    Workload("huge arguments, 40 x 2 MB", length, lambda: [bytes(2_000_000)] * 40),
    Workload("large lists to add up", total_of, lambda: [list(range(20_000))] * 150),
    Workload("huge results, 200 x 2 MB", huge_result, lambda: range(200)),
    Workload("results of 20,000 numbers", list_result, lambda: range(200)),
    Workload("fast first, slow later", slow_after, lambda: range(2_250)),
    Workload("waiting first, computing later", wait_then_compute, lambda: range(200)),
    Workload("computing first, waiting later", compute_then_wait, lambda: range(120)),
    Workload("one slow item among fast ones", one_slow, lambda: range(3_000)),
    Workload("unpicklable arguments, computing", of_holder, lambda: [Holder(60_000)] * 100),
    Workload("unpicklable arguments, waiting", nap_with, lambda: [Holder(n) for n in range(100)]),
    Workload("few items, 2 x 5 ms", compute, lambda: [100_000] * 2),
    Workload("empty", square, list),
    Workload("appends to a list", append, lambda: range(200), lambda: list(out), out.clear),
    Workload("fills a dict", store, lambda: range(200), lambda: dict(table), table.clear),
    Workload(
        "adds up in a global",
        add_up,
        lambda: range(200),
        lambda: dict(state),
        lambda: state.update(sum=0),
    ),
    Workload(
        "draws random numbers", draw, lambda: range(200), random.random, lambda: random.seed(7)
    ),
    Workload(
        "sorts its arguments",
        sort_in_place,
        lambda: rows,
        lambda: list(map(tuple, rows)),
        reset_rows,
    ),
    Workload("pairs of arguments", sum, lambda: [(n, n + 1) for n in range(20_000)]),
]
