"""`MapIterator`: a map under way, and what is done next for it.

The native half (`MapLoop`) gives out results and runs the plain loop; it asks `_step` whenever it
has none left, or when its watch has seen something. Here is decided nothing: `Choice` does that.

Invariant: results that wait for their turn (`_pending`) are in the order of the items, and an item
is drawn by one thread at a time: the calling one, or its watch while that is inside a call.
"""

from __future__ import annotations

import concurrent.futures as cf
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import (
    _native,
    _start,  # noqa: F401  # its hook at exit is to be registered before the one of this module
)
from ._machine import machine
from ._map_errors import named
from ._map_examine import Examiner
from ._map_options import MapOptions
from ._map_pool import (
    Attempt,
    Failed,
    ProcessRunner,
    Runner,
    ThreadRunner,
    forsake_left,
)
from ._map_workers import Workers
from ._travel import CannotTravel, obstacle

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from ._progress import Report

_T_co = TypeVar("_T_co", covariant=True)

#: Seconds of plain work between two measurements, at least: they take a fiftieth of it.
_UNMEASURED = 2e-4
#: Items that a plain loop does by itself at most, before it is looked at again.
_MOST_UNMEASURED = 50_000
#: Seconds between two reports of the progress.
_REPORTED = 0.1
#: Seconds of a batch, while workers are being started.
_BATCH = 2e-3


class MapIterator(Workers, Generic[_T_co]):
    """The results of a map. It is made by `raddle.map`.

    Leaving a ``with`` block and `close` end the map: what has not begun is cancelled.

    Examples
    --------
    >>> import raddle
    >>> with raddle.map(str, range(1_000_000)) as texts:
    ...     next(texts)
    '0'
    """

    if TYPE_CHECKING:

        def __iter__(self) -> Self: ...

        def __next__(self) -> _T_co: ...

    def __new__(
        cls,
        function: Callable[..., Any],
        source: Iterator[Any],
        takes_tuples: bool,
        total: int | None,
        at_hand: bool,
        options: MapOptions,
        told: Report | None,
    ) -> Self:
        called = function
        if not options.is_plain:
            retries, retry_on = options.policy.retries, options.policy.retry_on
            called = Attempt(function, retries, retry_on, options.on_error != "raise")
        self = super().__new__(cls, called, source, takes_tuples)
        self._called = called
        return self

    def __init__(
        self,
        function: Callable[..., Any],
        source: Iterator[Any],
        takes_tuples: bool,
        total: int | None,
        at_hand: bool,
        options: MapOptions,
        told: Report | None,
    ) -> None:
        self._options = options
        self._total = total
        self._takes_tuples = takes_tuples
        self._told = told
        self._due = time.monotonic() + _REPORTED
        self._lock = threading.Lock()
        self._choice = _native.Choice(machine(), total, options.most_workers)
        self._examiner = Examiner(function, takes_tuples, self._choice)
        self._runner = None
        self._warming: ProcessRunner | None = None
        self._retired = []
        self._pending = deque()
        self._may_help = at_hand and options.how == "auto" and options.chunksize is None
        self._is_auto = options.how == "auto"
        self._is_closed = False
        self._has_ended = False
        self._has_begun = False
        self._error = None
        self._split = []
        self._is_lazy = not at_hand
        self._is_slow = False
        self._owed = 0
        self._counted = 0
        self._delay = 0.0
        self._unmeasured = 0
        self._decided = 0.0
        self._pace = None

    # --- The next results -------------------------------------------------------------------

    def _step(self) -> list[Any] | None:
        """Return the next results, or None at the end."""
        # An error of whoever is told ends nothing: the next results come at the next time.
        self._tell()
        try:
            while True:
                with self._lock:
                    results = self._next_results()
                if results is None:
                    results = self._loop()
                if self._has_ended and not results and not self._pending and not self._error:
                    self.close()
                    return None
                if results:
                    return results
        except BaseException as error:
            self._stop(error)
            raise

    def _next_results(self) -> list[Any] | None:
        """Return what workers have done; None if the plain loop is to go on."""
        if self._is_closed:
            self._has_ended = True
            return []
        if not self._has_begun:
            self._begin()
        if self._options.deadline is not None and time.monotonic() > self._options.deadline:
            raise cf.TimeoutError("the time of this map is over")
        if not self._pending and self._error is not None:
            self._raise()
        if self._runner is None and not self._pending:
            return [] if self._has_ended else None
        return self._take()

    def _begin(self) -> None:
        self._has_begun = True
        options, how = self._options, self._options.how
        if how == "auto" and options.policy.task_timeout is None:
            if self._total is None or self._total > 1:
                self._delay = _native.thread_delay()
                self._examiner.begin()
                self._start_watch()
        elif how == "auto":
            self._begin_limited()
        elif how == "threads":
            self._runner = self._threads(options.workers or self._default_threads())
        elif how == "processes":
            self._refuse_obstacles()
            self._runner = self._processes(options.workers or machine().cores)
        elif how != "sequential":
            workers = options.workers or getattr(how, "_max_workers", None) or machine().cores
            self._runner = Runner(self._called, self._takes_tuples, workers, how)
        if self._runner is not None:
            self._choice.start(self._runner.way)

    def _begin_limited(self) -> None:
        """Begin on threads: a call in this thread could not be ended."""
        self._choice.forbid("sequential", "a plain loop cannot end a call after its task_timeout")
        self._examiner.begin()
        self._examiner.judge_code()
        is_free = self._examiner.reason is None
        self._runner = self._threads(self._default_threads() if is_free else 1)
        self._choice.set_examined()

    def _default_threads(self) -> int:
        most = min(32, machine().cores + 4)
        return max(1, min(most, self._total if self._total is not None else most))

    def _refuse_obstacles(self) -> None:
        found = obstacle(self._examiner.function, "the function")
        if found is not None and "inheritance" not in found.why:
            raise CannotTravel(str(found))

    # --- The plain loop ---------------------------------------------------------------------

    def _loop(self) -> list[Any]:
        """Work on some items in this thread."""
        if not self._is_auto:
            return self._run_batch(1)
        if self._examiner.wants_item:
            return self._examined()
        limit, budget = self._plain_share()
        if self._warming is not None or not self._options.is_plain:
            budget = 0
        wall, busy = time.perf_counter(), time.thread_time()
        begun = self._begun
        results = self._run_batch(limit)
        count = self._begun - begun
        wall, busy = time.perf_counter() - wall, time.thread_time() - busy
        with self._lock:  # whoever helps has finished
            self._observe(count, wall, busy)
            if not self._has_ended and self._error is None and self._runner is None:
                self._decide()
            if self._runner is None:
                self._set_budget(budget if self._error is None else 0)
        return results

    def _plain_share(self) -> tuple[int, int]:
        """Return how many items to measure together, and how many to do unmeasured after that."""
        costs = self._choice.costs()
        if costs is None:
            return 1, 0
        item = max(sum(costs[:3]), 1e-8)
        together = max(1, min(64, int(_UNMEASURED / item)))
        if self._warming is not None:
            together = max(1, min(2_000, int(_BATCH / item)))
        if self._is_lazy or self._examiner.reason is not None:
            # What an item does, or drawing one, is not done before its result is asked for.
            together = 1
        self._unmeasured = min(_MOST_UNMEASURED, int(_UNMEASURED / item), 4 * self._unmeasured + 1)
        budget = self._unmeasured * 16 if item < 2e-6 else self._unmeasured
        if self._options.deadline is not None or self._told is not None:
            budget = min(budget, 64)
        return together, min(budget, _MOST_UNMEASURED)

    def _run_batch(self, limit: int) -> list[Any]:
        results, error, item, has_ended, start = self._run(limit)
        if not self._is_auto and self._options.is_plain and self._told is None and not error:
            self._set_budget(0 if self._options.deadline is not None else 1 << 62)
        self._has_ended |= has_ended
        if error is not None:
            if isinstance(error, KeyboardInterrupt):
                raise error
            with self._lock:
                self._fail(error, item, start + len(results))
        return self._given(results, start)

    def _observe(self, count: int, wall: float, busy: float) -> None:
        if count and wall > 1e-3:
            # Seconds in which no core was free are no waiting.
            delay = _native.thread_delay()
            busy = min(wall, busy + delay - self._delay)
            self._delay = delay
        if count:
            self._choice.observe(count, wall, busy)
        self._choice.observe_lock(*self._looks())
        self._count()

    def _count(self) -> None:
        begun = self._begun
        self._choice.count_done(begun - self._counted)
        self._counted = begun

    def _examined(self) -> list[Any]:
        """Work on one item, and look at what that changes and what it would cost to send."""
        start = self._drawn
        drawn, error = self._draw(1)
        if error is not None:
            self._fail(error, None, start)
        if not drawn:
            self._has_ended = True
            return []
        item = drawn[0]
        try:
            with self._examiner.item(item) as measured:
                value = measured.call(self._call, item)
        except Exception as raised:
            with self._lock:
                self._fail(raised, (item,), start)
            return []
        with self._lock:
            self._observe(1, measured.wall, measured.busy)
            self._examiner.judge(item, value)
            if self._examiner.reason is not None:
                self._take_back()
            if self._runner is None:
                self._decide()
        return self._given([value], start)

    def _take_back(self) -> None:
        """Do again here what processes were given before the function was seen to change things."""
        if self._runner is None or self._runner.way != "processes":
            return
        self._runner.end()
        self._drop_runner()
        self._pending = deque(chunk._replace(future=None, runner=None) for chunk in self._pending)
        self._choice.go_back(self._examiner.reason or "")

    # --- Deciding ---------------------------------------------------------------------------

    def _decide(self) -> None:
        """Ask whether another way pays, and go it."""
        if self._warming is not None:
            if self._is_warm(self._warming):
                self._runner, self._warming = self._warming, None
            return
        plan = self._choice.decide()
        if plan is not None and plan[0] == "examine":
            self._examiner.want()
            if not self._examiner.wants_item:
                plan = self._choice.decide()
        if plan is not None and plan[0] != "examine":
            self._move(*plan)

    def _is_warm(self, runner: ProcessRunner) -> bool:
        costs = self._choice.costs()
        is_long = costs is not None and sum(costs[:3]) > 0.2 * machine().process_start
        return is_long or runner.is_ready()

    def _move(self, way: str, workers: int, _chunk: int, _seconds: float) -> None:
        self._log()
        if self._runner is not None:
            self._drop_runner()
        if way == "threads":
            self._runner = self._threads(workers)
        elif way == "processes":
            runner = self._processes(workers)
            runner.warm_up()
            self._warming = runner
            if self._pending or self._is_warm(runner):
                self._runner, self._warming = runner, None
        self._unmeasured = 0
        self._set_budget(0)

    def _log(self) -> None:
        import logging

        logger = logging.getLogger("raddle.map")
        if logger.isEnabledFor(logging.INFO):
            name = getattr(self._examiner.function, "__qualname__", "map")
            logger.info("%s: after %d items: %s", name, self._choice.done, self._choice.reason())

    def _threads(self, workers: int) -> ThreadRunner:
        _live.add(self)
        return ThreadRunner(self._called, self._takes_tuples, workers, self._options.policy)

    def _processes(self, workers: int) -> ProcessRunner:
        _live.add(self)
        return ProcessRunner(
            self._called,
            self._takes_tuples,
            workers,
            self._options.policy,
            expected=self._examiner.plain_values() if self._is_auto else None,
        )

    def _help(self, wall: float, busy: float) -> None:
        """Have workers begin with the next items: called by the watch while a call goes on."""
        if not self._may_help:
            return
        with self._lock:
            if not self._inside or self._is_closed or self._runner is not None:
                return
            self._interrupt()
            if self._warming is not None:
                self._runner, self._warming = self._warming, None
            else:
                self._choice.observe_lock(*self._looks())
                # Of a call that has lasted so long, as much again is to be expected.
                self._choice.observe(1, 2 * wall, 2 * busy)
                plan = self._choice.decide()
                if plan is not None and plan[0] == "examine":
                    self._examiner.judge_code()
                    plan = self._choice.decide()
                if plan is None or plan[0] in ("examine", "sequential"):
                    return
                self._log()
                way, workers = plan[0], plan[1]
                self._runner = (
                    self._threads(workers) if way == "threads" else self._processes(workers)
                )
            self._feed()

    # --- Results and errors -----------------------------------------------------------------

    def _given(self, results: list[Any], start: int) -> list[Any]:
        """Return results as they are asked for, where errors may stand among them."""
        if self._options.on_error == "raise":
            return results
        given = []
        for index, value in enumerate(results, start):
            if type(value) is not Failed:
                given.append(value)
            elif self._options.on_error == "return":
                given.append(named(value.error, None, index))
        return given

    def _raise(self) -> None:
        assert self._error is not None
        (error, _), self._error = self._error, None
        try:
            raise error
        finally:
            # The error has the frames, and the frames would have the error.
            del error

    def _failed(self, error: BaseException, item: tuple[Any, ...] | None, index: int) -> None:
        """Take note of an error in the plain loop, which is raised next."""
        named(error, item, index)
        self._stop(error)

    def _stop(self, error: BaseException) -> None:
        is_interrupt = isinstance(error, KeyboardInterrupt)
        self._end_map(at_once=is_interrupt)
        if is_interrupt:
            from ._start import say

            of = "" if self._total is None else f" of {self._total:,}"
            say(f"interrupted: a map had done {self._choice.done:,}{of} items")

    # --- The end ----------------------------------------------------------------------------

    def report(self) -> str:
        """Tell what was measured, what was decided and why.

        Returns
        -------
        str
            A line each.

        Examples
        --------
        >>> import raddle
        >>> numbers = raddle.map(abs, [1, 2])
        >>> list(numbers)
        [1, 2]
        >>> numbers.report().splitlines()[0]
        '2 of 2 items done, now sequential'
        """
        self._count()
        return "\n".join(self._choice.report())

    def close(self) -> None:
        """End the map: cancel what has not begun, and do not wait for what runs."""
        self._end_map(at_once=False)

    def _end_map(self, at_once: bool) -> None:
        if self._is_closed:
            return
        self._is_closed = self._has_ended = True
        _live.discard(self)
        self._count()
        for chunk in self._pending:
            if chunk.future is not None:
                chunk.future.cancel()
        self._pending.clear()
        for runner in {*self._retired, self._runner, self._warming} - {None}:
            if at_once:
                runner.end()  # type: ignore[union-attr]
            else:
                runner.close()  # type: ignore[union-attr]
        self._retired, self._runner, self._warming = [], None, None
        self._end()
        if self._told is not None:
            told, self._told = self._told, None
            with told:
                told(self._choice.done)

    def _tell(self) -> None:
        if self._told is not None and time.monotonic() >= self._due:
            self._due = time.monotonic() + _REPORTED
            self._count()
            self._told(self._choice.done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._stop(error)
        self.close()

    def __del__(self) -> None:
        # As a generator: what has not begun is cancelled.
        if getattr(self, "_is_closed", True) is False:
            self.close()


#: Maps that have had workers and are not at their end.
_live: weakref.WeakSet[MapIterator[Any]] = weakref.WeakSet()


def _end_interrupted() -> None:
    """End the maps that a Ctrl-C has left in the middle, before the interpreter waits for them."""
    if issubclass(getattr(sys, "last_type", None) or Exception, KeyboardInterrupt):
        for one in list(_live):
            one._stop(KeyboardInterrupt())
        forsake_left()


# After the pools' own, which are loaded here, so that it is called before theirs.
threading._register_atexit(_end_interrupted)  # type: ignore[attr-defined]
