"""Random programs of threads, locks and futures: what each thread does, drawn from a seed.

Stage: before a program runs (`lock_programs.py` runs it).  Invariant: a seed gives the same plan
on every Python.  In an *ordered* plan no deadlock can come about: locks are taken in one order,
threads are joined in one order and with no lock held, and tasks wait for nothing but locks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Take:
    """Take a lock, do the body, release it; ``timed`` and ``try`` may go without."""

    lock: int
    how: str
    body: tuple[Action, ...]


@dataclass(frozen=True)
class Join:
    """Wait for the end of another thread."""

    thread: int
    how: str


@dataclass(frozen=True)
class Submit:
    """Hand a task to the pool."""

    body: tuple[Action, ...]


@dataclass(frozen=True)
class Await:
    """Wait for tasks among those submitted so far, by numbers that wrap around."""

    numbers: tuple[int, ...]
    how: str


@dataclass(frozen=True)
class Pause:
    """Let another thread run."""


Action = Take | Join | Submit | Await | Pause


@dataclass(frozen=True)
class Plan:
    """A whole program."""

    seed: int
    ordered: bool
    recursive: tuple[bool, ...]
    threads: tuple[tuple[Action, ...], ...]
    workers: int


class Draw:
    """Draws one plan."""

    def __init__(self, seed: int, ordered: bool) -> None:
        self._random, self._ordered = random.Random(f"{seed} {ordered}"), ordered
        self._threads = self._random.randint(2, 6)
        self._workers = self._random.choice([0, 0, 1, 2, 3])
        count = self._random.randint(2, 6)
        self._recursive = tuple(self._random.random() < 0.4 for _ in range(count))
        self.plan = Plan(
            seed,
            ordered,
            self._recursive,
            tuple(self._body(3, held=(), thread=number) for number in range(self._threads)),
            self._workers,
        )

    def _body(self, depth: int, held: tuple[int, ...], thread: int | None) -> tuple[Action, ...]:
        actions = [self._action(depth, held, thread) for _ in range(self._random.randint(1, 3))]
        return tuple(action for action in actions if action is not None)

    def _action(self, depth: int, held: tuple[int, ...], thread: int | None) -> Action | None:
        kind = self._random.choices(["take", "join", "submit", "await", "pause"], [8, 1, 2, 2, 2])
        if kind == ["take"]:
            return self._take(depth, held, thread) if depth else Pause()
        may_wait = not self._ordered or (not held and thread is not None)
        if kind == ["join"] and may_wait:
            return self._join(thread)
        if kind == ["submit"] and self._workers and depth:
            return Submit(self._body(depth - 1, held=(), thread=None))
        if kind == ["await"] and self._workers and may_wait:
            numbers = tuple(self._random.randrange(100) for _ in range(self._random.randint(1, 3)))
            ways = ["result", "exception", "wait", "first", "completed", "timed"]
            return Await(numbers, self._random.choice(ways))
        return Pause()

    def _take(self, depth: int, held: tuple[int, ...], thread: int | None) -> Take | None:
        free = [number for number in range(len(self._recursive)) if self._may_take(number, held)]
        if not free:
            return None
        lock = self._random.choice(free)
        (how,) = self._random.choices(["acquire", "with", "timed", "try"], [5, 5, 1, 1])
        body = self._body(depth - 1, (*held, lock), thread)
        return Take(lock, how, (Pause(), *body) if self._random.random() < 0.7 else body)

    def _may_take(self, lock: int, held: tuple[int, ...]) -> bool:
        if self._ordered:
            return not held or lock > max(held) or (lock in held and self._recursive[lock])
        # A lock taken again by its own thread is a deadlock each time: not too many of them.
        return lock not in held or self._recursive[lock] or self._random.random() < 0.03

    def _join(self, thread: int | None) -> Join | None:
        least = thread + 1 if self._ordered and thread is not None else 0
        others = [number for number in range(least, self._threads) if number != thread]
        how = self._random.choice(["join", "result", "timed"])
        return Join(self._random.choice(others), how) if others else None


def draw(seed: int, ordered: bool) -> Plan:
    """Draw the plan of a seed."""
    return Draw(seed, ordered).plan
