"""`raddle.advise`: should this be parallel? Measured on a sample, told in a few words."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sized
from typing import Any, NamedTuple

from . import _native
from ._machine import measured
from ._map import check_count
from ._map_examine import Examiner
from ._map_iterator import MapIterator
from ._map_options import MapOptions
from ._options import Policy
from ._pickling import name_of

__all__ = ["Advice", "advise"]

#: The most items that are called, of an input that has a length and of one that has not, and the
#: seconds after which no further one is.
SAMPLE, DRAWN, PATIENCE = 1_000, 32, 0.5
#: Seconds after which no further item is called, once some have been.
_LEAST = 0.15
#: Short items that are measured together.
_TOGETHER = 100


class Forecast(NamedTuple):
    """What one way is predicted to take: its name, workers, items a task, and seconds."""

    how: str
    workers: int
    chunksize: int
    seconds: float


class Advice:
    """What `raddle.advise` has found; printed, a table and a sentence.

    Attributes
    ----------
    how : str
        "sequential", "threads" or "processes": what to give to `raddle.map`.
    workers, chunksize : int
        How many workers, and items in a task of one.
    speedup : float
        How many times as fast as a plain loop it is predicted to be.
    reasons : list of str
        The sentence of advice, what was measured, and what is not possible and why.
    forecasts : list of Forecast
        What each way that is possible is predicted to take for all items.
    sampled : int
        How many items `fn` was called with.
    items : int
        For how many items the prediction is.

    Examples
    --------
    >>> import raddle
    >>> raddle.advise(abs, [1, 2, 3]).how
    'sequential'
    """

    def __init__(self, choice: _native.Choice, items: int, sampled: int) -> None:
        found = choice.advise(items)
        self.forecasts = [Forecast(*plan) for plan in choice.forecast(items)]
        sentence, plan = found or ("there is nothing to do", ("sequential", 1, 1, 0.0))
        self.how, self.workers, self.chunksize, seconds = plan
        plain = next((one.seconds for one in self.forecasts if one.how == "sequential"), 0.0)
        self.speedup = plain / seconds if seconds > 0 else 1.0
        self.reasons = [sentence, *(choice.report()[1:] if found else [])]
        self.reasons = [line for line in self.reasons if not line.startswith("it stayed")]
        self.sampled = sampled
        self.items = items

    def __repr__(self) -> str:
        return (
            f"Advice(how={self.how!r}, workers={self.workers}, chunksize={self.chunksize}, "
            f"speedup={self.speedup:.2f})"
        )

    def __str__(self) -> str:
        lines = [f"{'':<12}{'workers':>8}{'chunk':>8}{'predicted':>12}"]
        for one in self.forecasts:
            time_text = _native.duration_text(one.seconds)
            lines.append(f"{one.how:<12}{one.workers:>8}{one.chunksize:>8}{time_text:>12}")
        lines += self.reasons
        lines.append(f"(fn was called for {self.sampled} of {self.items} items)")
        return "\n".join(lines)


def advise(
    fn: Callable[..., Any],
    items: Iterable[Any],
    *,
    workers: int | None = None,
    total: int | None = None,
) -> Advice:
    """Measure `fn` on some of `items`, and say whether and how to run it in parallel.

    It calls `fn`, in the calling thread, for at most 1,000 items from all over a list, tuple or
    range, or for the first 32 of anything else, and for no further one when a few have taken 0.15
    seconds, or one half a second. From an iterator those are gone. `Advice.sampled` tells how many
    were called.

    Parameters
    ----------
    fn : callable
        Takes one item.
    items : iterable
        What it would be mapped over. Its length is that of the job; an iterator is not drawn from
        beyond the sample.
    workers : int, optional
        The most workers.
    total : int, optional
        How many items there will be, where `items` has no length.

    Returns
    -------
    Advice
        The advice; print it.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong value or type; `fn` does not take one item.
    Exception
        What `fn` raises.

    Examples
    --------
    >>> import time
    >>> import raddle
    >>> advice = raddle.advise(time.sleep, [0.02] * 100)
    >>> advice.how, advice.reasons[0]
    ('threads', 'waiting for something: threads')
    """
    if not callable(fn):
        raise TypeError(f"advise() needs a callable, not {type(fn).__name__}: {fn!r}")
    limit, expected = check_count("workers", workers), check_count("total", total)
    if isinstance(items, Sized):
        expected = len(items)
    sample = _sample(items)
    if sample:
        _check_takes_one(fn, sample[0])
    if expected is None:
        # More may come, and nobody knows how many.
        expected = len(sample)
    choice = _native.Choice(measured(), expected, limit)
    choice.keep_all()
    count = _Sampler(fn, sample, choice).run()
    return Advice(choice, expected, count)


def _check_takes_one(fn: Callable[..., Any], item: Any) -> None:
    from inspect import signature

    try:
        parameters = signature(fn)
    except (TypeError, ValueError):
        return  # nobody knows
    try:
        parameters.bind(item)
    except TypeError as error:
        raise TypeError(
            f"advise() calls fn with one item, and {name_of(fn)}{parameters} does not take that: "
            f"{error}; for items that are tuples of arguments give lambda item: fn(*item)"
        ) from None


def _sample(items: Iterable[Any]) -> list[Any]:
    """Return items from all over the input, in an order in which any first few are so too."""
    if not isinstance(items, (list, tuple, range)):
        return list(itertools.islice(items, DRAWN))
    count = min(SAMPLE, len(items))
    places = [place * len(items) // count for place in range(count)]
    # Bits of the place, turned round, spread every beginning over the whole.
    bits = max(1, (count - 1).bit_length())
    order = sorted(range(count), key=lambda place: int(f"{place:0{bits}b}"[::-1], 2))
    return [items[places[place]] for place in order]


class _Sampler(MapIterator[Any]):
    """Calls a function for a sample, as a map does that never moves."""

    def __new__(cls, fn: Callable[..., Any], sample: list[Any], choice: _native.Choice) -> _Sampler:
        return super().__new__(cls, fn, iter(sample), False, len(sample), False, _OPTIONS, None)

    def __init__(self, fn: Callable[..., Any], sample: list[Any], choice: _native.Choice) -> None:
        super().__init__(fn, iter(sample), False, len(sample), False, _OPTIONS, None)
        self._choice = choice
        self._examiner = Examiner(fn, False, choice)

    def run(self) -> int:
        """Measure; return how many items were called."""
        try:
            self._has_begun = True
            self._delay = _native.thread_delay()
            self._examiner.begin()
            self._start_watch()
            self._sample()
        finally:
            self.close()
        return self._drawn

    def _sample(self) -> None:
        start = time.perf_counter()
        while not self._has_ended:
            if self._examiner.wants_item:
                self._examined()
            else:
                wall, busy = time.perf_counter(), time.thread_time()
                begun = self._begun
                self._run_batch(1 if self._is_long() else _TOGETHER)
                wall, busy = time.perf_counter() - wall, time.thread_time() - busy
                self._observe(self._begun - begun, wall, busy)
            if self._error is not None:
                self._raise()
            if self._drawn and time.perf_counter() - start > (
                PATIENCE if self._is_open() else _LEAST
            ):
                break
        if self._drawn:
            self._examiner.want()

    def _is_long(self) -> bool:
        costs = self._choice.costs()
        return costs is None or sum(costs[:3]) > 1e-4

    def _is_open(self) -> bool:
        """Tell whether more items would tell more."""
        return self._drawn < 4

    def _decide(self) -> None:
        """Stay: it is only measured."""

    def _count(self) -> None:
        """Nothing is done yet: the prediction is for all items."""


_OPTIONS = MapOptions("auto", None, True, None, None, None, Policy(), "raise")
