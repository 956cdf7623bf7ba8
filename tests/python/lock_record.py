"""A record of who holds and waits for what, kept by the test's own hand around each call.

Stage: while a program of `lock_programs.py` runs.  Invariant: a hold is noted after the lock was
taken and struck out before it is released, a wait is noted before the call and struck out after
it.  So the record holds no more than what is so, and a thread that it shows as stuck is stuck.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class Held:
    """A lock of the program: its holder by the record."""

    name: str
    holder: int | None = None
    depth: int = 0

    def is_told_by(self, text: str) -> bool:
        return text == f"lock {self.name!r}"

    def providers(self) -> list[int] | None:
        return None if self.holder is None else [self.holder]


@dataclass(eq=False)
class Life:
    """A thread of the program."""

    name: str
    ident: int = 0
    ended: bool = False

    def is_told_by(self, text: str) -> bool:
        return text == f"the end of thread {self.name!r}"

    def providers(self) -> list[int] | None:
        return None if self.ended or not self.ident else [self.ident]


@dataclass(eq=False)
class Work:
    """A task of the program's pool: waiting in its queue, run by a thread, or done."""

    pool: Pool
    runner: int | None = None
    done: bool = False

    def is_told_by(self, text: str) -> bool:
        return text == "a task" or re.fullmatch(r"(all|the first) of \d+ tasks", text) is not None

    def providers(self) -> list[int] | None:
        if self.done:
            return None
        if self.runner is not None:
            return [self.runner]
        # A worker that has not come yet, or has nothing to do, will run it.
        return list(self.pool.idents) if len(self.pool.idents) == self.pool.workers else None


@dataclass(eq=False)
class Pool:
    """The program's pool: the workers that have come."""

    workers: int
    idents: list[int]


Resource = Held | Life | Work


@dataclass(frozen=True)
class Wait:
    """What a thread waits for: every one of the resources, or any one."""

    needs: Callable[[list[bool]], bool]
    resources: list[Any]

    def is_stuck(self, stuck: set[int]) -> bool:
        return self.needs([is_withheld(resource, stuck) for resource in self.resources])


def is_withheld(resource: Resource, stuck: set[int]) -> bool:
    """Whether all who could provide the resource are stuck."""
    providers = resource.providers()
    return providers is not None and stuck.issuperset(providers)


class Record:
    """Who holds and waits for what, in one program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[int, Wait] = {}
        self._names: dict[int, str] = {}
        self.faults: list[str] = []
        self.reports: list[Any] = []

    def note(self, change: Callable[[], None]) -> None:
        """Change a resource, so that nobody sees half of it."""
        with self._lock:
            change()

    def begin(self, ident: int, name: str) -> None:
        """A thread has begun."""
        with self._lock:
            self._names[ident] = name

    def wait(self, wait: Wait) -> None:
        """The calling thread is about to wait without a timeout."""
        with self._lock:
            self._waits[threading.get_ident()] = wait

    def go_on(self, change: Callable[[], None] = lambda: None) -> None:
        """The calling thread waits no more; `change` is what it got by that."""
        with self._lock:
            self._waits.pop(threading.get_ident(), None)
            change()

    def report(self, error: Any) -> None:
        """The calling thread was told of a deadlock: judge the report, and go on."""
        ident = threading.get_ident()
        with self._lock:
            try:
                self._judge(ident, error)
            except AssertionError as fault:
                self.faults.append(f"{fault}\nreport: {error}\n{self._told()}")
            self.reports.append(error)
            del self._waits[ident]

    def fault(self, what: str) -> None:
        """Note what went wrong, and how things stand."""
        with self._lock:
            self.faults.append(f"{what}\n{self._told()}")

    def _stuck(self) -> set[int]:
        """All threads that wait for each other, whatever the threads do that do not wait."""
        stuck = set(self._waits)
        while free := {ident for ident in stuck if not self._waits[ident].is_stuck(stuck)}:
            stuck -= free
        return stuck

    def _judge(self, ident: int, error: Any) -> None:
        stuck, links = self._stuck(), error.cycle
        assert ident in stuck, "a false alarm: the thread that was told could have gone on"
        assert links, "no cycle is named"
        assert links[0].ident == ident, "the cycle does not begin with the thread that was told"
        assert len({link.ident for link in links}) == len(links), "a thread is named twice"
        for link, following in zip(links, [*links[1:], links[0]]):
            self._judge_link(link, following, stuck)

    def _judge_link(self, link: Any, following: Any, stuck: set[int]) -> None:
        assert link.ident in stuck, f"{link.thread} could have gone on"
        assert link.thread == self._names[link.ident], f"{link.thread} has another name"
        resources = self._waits[link.ident].resources
        told = [r for r in resources if r.is_told_by(link.waits_for)]
        assert told, f"{link.thread} does not wait for {link.waits_for}"
        withheld = self._names_of([r for r in resources if is_withheld(r, stuck)])
        assert following.thread in withheld, f"{following.thread} withholds nothing"
        known = self._names_of(resources)
        assert following.thread in link.held_by, f"{link.held_by} without {following.thread}"
        assert known.issuperset(link.held_by), f"{link.waits_for} is held by {known}"
        assert len(resources) > 1 or known == set(link.held_by), f"{known} hold it together"

    def _names_of(self, resources: list[Any]) -> set[str]:
        return {self._names[ident] for r in resources for ident in r.providers() or ()}

    def _told(self) -> str:
        lines = [
            f"record: {ident} {self._names[ident]} waits for {wait.resources}"
            for ident, wait in self._waits.items()
        ]
        return "\n".join(lines)
