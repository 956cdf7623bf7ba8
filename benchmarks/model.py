"""What a benchmark is and what it found: case, target, result.

Invariant: a result keeps every figure; medians, ratios and verdicts are derived from them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

RADDLE = "raddle"
FUTURES = "concurrent.futures"
THREAD_POOL = "ThreadPool"
PLAIN = "plain Python"

MICROSECONDS_A_TASK = "us a task"

Sample = Callable[[], float]
"""Takes one figure, in seconds (bytes where the unit says so)."""


@dataclass(frozen=True)
class Scale:
    """How long a run measures.

    Parameters
    ----------
    rounds : int
        Figures a contender.
    figure_seconds : float
        A figure repeats its call until it has filled this many seconds.
    divisor : int
        Every count of tasks is divided by this.
    """

    rounds: int = 7
    figure_seconds: float = 0.2
    divisor: int = 1

    def tasks(self, count: int) -> int:
        """Return the number of tasks that stands for `count` at this scale."""
        return max(1, count // self.divisor)


FULL = Scale()
QUICK = Scale(rounds=3, figure_seconds=0.02, divisor=20)

Setup = Callable[[ModuleType, Scale], AbstractContextManager[Mapping[str, Sample]]]
"""Opens a case's contenders for the module under measurement and gives a sampler for each."""


@dataclass(frozen=True)
class Target:
    """What a case shall reach: the ratio of a peer's cost to raddle's.

    Parameters
    ----------
    at_least : float
        The ratio that must be reached; below 1, raddle may cost more than the peer.
    aim : float, optional
        The ratio that is hoped for.
    peers : sequence of str
        The contenders to compare with; the ratio to each of them counts.
    further : sequence of Target
        What must be reached besides, where peers are compared with by different ratios.
    """

    at_least: float
    aim: float | None = None
    peers: Sequence[str] = (FUTURES,)
    further: Sequence[Target] = ()

    def __str__(self) -> str:
        return ", ".join([self._text(), *map(str, self.further)])

    def _text(self) -> str:
        peers = " and ".join(self.peers)
        if self.at_least < 1:
            return f"within {1 / self.at_least:.2g}x of {peers}"
        if self.at_least == 1:
            return f"never slower than {peers}"
        aim = "" if self.aim is None else f" (aim {self.aim:g}x)"
        return f"at least {self.at_least:g}x {peers}{aim}"

    def all(self) -> list[Target]:
        """Return this target and the further ones."""
        return [self, *self.further]

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Target:
        """Return the target that a JSON file tells of."""
        further = [cls.from_json(one) for one in stored.get("further", ())]
        return cls(stored["at_least"], stored["aim"], stored["peers"], further)


@dataclass(frozen=True)
class Case:
    """One thing to measure; `note` says what a reader must know to judge the figures."""

    name: str
    title: str
    setup: Setup
    unit: str = MICROSECONDS_A_TASK
    target: Target | None = None
    note: str = ""


@dataclass(frozen=True)
class Spread:
    """Median and range of several figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        """Return the spread of at least one figure."""
        return cls(statistics.median(figures), min(figures), max(figures))


@dataclass(frozen=True)
class Result:
    """What a case found: for each contender one figure a round, in the case's unit."""

    name: str
    title: str
    unit: str
    note: str = ""
    target: Target | None = None
    figures: dict[str, list[float]] = field(default_factory=dict)
    failure: str | None = None

    def cost(self, contender: str) -> Spread:
        """Return the spread of one contender's figures."""
        return Spread.of(self.figures[contender])

    def ratio(self, peer: str) -> Spread:
        """Return how many times raddle's cost `peer` costs, round by round."""
        pairs = zip(self.figures[peer], self.figures[RADDLE], strict=True)
        return Spread.of([theirs / ours for theirs, ours in pairs])

    def peers(self) -> list[str]:
        """Return the contenders that raddle is compared with."""
        return [name for name in self.figures if name != RADDLE] if RADDLE in self.figures else []

    @property
    def verdict(self) -> str:
        """``failed``, ``met``, ``met, aim too``, ``missed``, or nothing without a target."""
        if self.failure is not None:
            return "failed"
        if self.target is None:
            return ""
        ratios = [
            (target, min(self.ratio(peer).median for peer in target.peers))
            for target in self.target.all()
        ]
        if any(reached < target.at_least for target, reached in ratios):
            return "missed"
        aims = [(target.aim, reached) for target, reached in ratios if target.aim]
        return "met, aim too" if aims and all(got >= aim for aim, got in aims) else "met"

    def to_json(self) -> dict[str, Any]:
        """Return everything, the derived figures included, for a JSON file."""
        return {
            **asdict(self),
            "costs": {name: asdict(self.cost(name)) for name in self.figures},
            "ratios": {peer: asdict(self.ratio(peer)) for peer in self.peers()},
            "verdict": self.verdict,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Result:
        """Return the result that `to_json` wrote; derived figures are derived again."""
        target = stored["target"]
        return cls(
            name=stored["name"],
            title=stored["title"],
            unit=stored["unit"],
            note=stored["note"],
            target=None if target is None else Target.from_json(target),
            figures=stored["figures"],
            failure=stored["failure"],
        )
