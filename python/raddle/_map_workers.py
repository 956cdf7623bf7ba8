"""`Workers`: what a map has to do with its workers, below `MapIterator`.

They are given chunks of the next items, and what comes back is put in its place; what could not be
done there is tried again, or called for here.
"""

from __future__ import annotations

import concurrent.futures as cf
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _native
from ._errors import TaskTimeout
from ._map_chunk import Chunk
from ._map_errors import named, named_range, with_call
from ._map_pool import Done, Failed, HasEffects, Runner, Unsent
from ._process_errors import UnpicklingFailed, WorkerDied
from ._travel import CannotTravel, add_note, obstacle

if TYPE_CHECKING:
    from ._map_examine import Examiner
    from ._map_options import MapOptions

#: Seconds between two decisions while workers work.
_DECIDED = 0.02
#: Seconds in which the items of a chunk are drawn; those that take longer make a smaller one.
_DRAWN = 2e-3
#: Why there are no processes when an exception could not be made again from its pickle.
_NOT_REBUILT = "an exception cannot be rebuilt from a process"


class Workers(_native.MapLoop):
    """A map that may have workers: gives them items, and takes what has become of these."""

    _called: Callable[..., Any]
    _choice: _native.Choice
    _counted: int
    _decided: float
    #: What ends the map, and the place of its item.
    _error: tuple[BaseException, int] | None
    _examiner: Examiner
    _has_ended: bool
    _is_auto: bool
    #: Whether the input may run code of the user's when it is drawn from.
    _is_lazy: bool
    #: Whether drawing a chunk has taken long, and how many were taken for which none was drawn.
    _is_slow: bool
    _owed: int
    _options: MapOptions
    _pace: tuple[float, int] | None
    _pending: deque[Chunk]
    _retired: list[Runner]
    _runner: Runner | None
    #: What takes the place of the chunk that is being taken.
    _split: list[Chunk]
    _takes_tuples: bool

    def _decide(self) -> None:
        """Ask whether another way pays, and go it."""
        raise NotImplementedError

    def _given(self, results: list[Any], start: int) -> list[Any]:
        """Return results as they are asked for."""
        raise NotImplementedError

    def _take_back(self) -> None:
        """Do again here what processes were given."""
        raise NotImplementedError

    def _drop_runner(self) -> None:
        """Give the workers nothing more; they are closed when what they have is done."""
        if self._runner is not None:
            self._retired.append(self._runner)
        self._runner = None
        self._pace = None

    def _close_retired(self) -> None:
        for runner in self._retired:
            runner.close()
        self._retired = []

    def _take(self) -> list[Any]:
        """Return the results of the next chunk, and keep the workers busy."""
        self._feed()
        if not self._pending:
            if self._has_ended:
                return []
            self._close_retired()
            self._drop_runner()
            return []
        chunk = self._next_chunk()
        done = self._mended(chunk, self._result(chunk))
        # What was to be done after it may be another by now.
        self._pending = deque(one for one in self._pending if one.start != chunk.start)
        self._pending.extendleft(reversed(self._split))
        self._split = []
        self._owed += 1
        self._account(chunk, done)
        if not self._pending:
            self._close_retired()
        return self._given(done.results, chunk.start)

    def _result(self, chunk: Chunk) -> Done:
        if chunk.future is None or chunk.runner is None:
            return self._run_here(chunk.items)
        try:
            return chunk.runner.result(chunk.future, self._remaining())
        except cf.TimeoutError as error:
            if not chunk.future.done():
                raise
            return self._failed_chunk(chunk, chunk.runner, error)
        except Exception as error:
            return self._failed_chunk(chunk, chunk.runner, error)

    def _next_chunk(self) -> Chunk:
        first = self._pending[0]
        if self._options.ordered or first.future is None:
            return first
        from ._futures import FIRST_COMPLETED, wait

        futures = [chunk.future for chunk in self._pending if chunk.future is not None]
        done, _ = wait(futures, self._remaining(), FIRST_COMPLETED)
        return next((chunk for chunk in self._pending if chunk.future in done), first)

    def _remaining(self) -> float | None:
        deadline = self._options.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def _account(self, chunk: Chunk, done: Done) -> None:
        count = len(done.results)
        if done.error is not None:
            if not done.is_named:
                item = (chunk.items[count],) if count < len(chunk.items) else None
                named(done.error, item, chunk.start + count)
            self._end_with(done.error, chunk.start + count)
        self._choice.count_done(count)
        # What was called here in place of a worker was not measured.
        if count and done.wall > 0:
            self._choice.observe(count, done.wall, done.busy)
        if self._is_auto and self._error is None and chunk.runner is self._runner:
            self._look_again(count)

    def _fail(self, error: BaseException, item: tuple[Any, ...] | None, index: int) -> None:
        """End the map with this error of an item, after the results before it."""
        self._end_with(named(error, item, index), index)

    def _end_with(self, error: BaseException, index: int) -> None:
        if self._error is None or self._error[1] > index:
            self._error = error, index
        self._has_ended = True
        for later in list(self._pending):
            if later.start > index or not self._options.ordered:
                if later.future is not None:
                    later.future.cancel()
                self._pending.remove(later)

    def _look_again(self, count: int) -> None:
        now = time.perf_counter()
        if self._pace is None:
            self._pace, self._decided = (now, 0), now
            return
        since, items = self._pace
        self._pace = since, items + count
        if now - self._decided < _DECIDED or self._has_ended:
            return
        self._decided = now
        if now - since > 0.1 and items + count > 2 * self._runner.workers:  # type: ignore[union-attr]
            self._choice.observe_pace(items + count, now - since)
            self._pace = now, 0
        self._decide()

    def _feed(self) -> None:
        """Give the workers what keeps them busy."""
        runner = self._runner
        while runner is not None and not self._has_ended and self._error is None:
            size = self._options.chunksize or self._choice.chunk(runner.workers)
            # What cannot be sent, or dies, costs a whole chunk: that must be no item but its own.
            goes_on = runner.way == "processes" and self._options.on_error != "raise"
            if goes_on or self._options.policy.task_timeout is not None:
                size = 1
            room = runner.workers * (4 if size > 1 or runner.way == "processes" else 2)
            if self._options.buffersize is not None:
                waiting = sum(len(chunk.items) for chunk in self._pending)
                # All workers are to have some.
                size = min(size, max(1, self._options.buffersize // runner.workers))
                size = min(size, self._options.buffersize - waiting)
            if size < 1 or len(self._pending) >= room:
                return
            if self._is_lazy and self._may_give():
                return
            self._feed_chunk(runner, size)

    def _feed_chunk(self, runner: Runner, size: int) -> None:
        start = self._drawn
        items, error = self._drawn_items(size)
        if error is not None and not isinstance(error, Exception):
            # A Ctrl-C while the input waits is for now, not for when all results are there.
            raise error
        if error is not None:
            self._fail(error, None, start + len(items))
        if items:
            self._submit(runner, start, items)

    def _drawn_items(self, size: int) -> tuple[list[Any], BaseException | None]:
        """Draw the items of a chunk: fewer at the end, or of an input that takes its time."""
        items: list[Any] = []
        until = time.perf_counter() + _DRAWN
        while len(items) < size:
            drawn, error = self._draw(1 if self._is_lazy else size)
            items += drawn
            if error is not None:
                return items, error
            if not drawn or (len(drawn) < size and not self._is_lazy):
                self._has_ended = True
                break
            if time.perf_counter() > until:
                break
        self._is_slow = time.perf_counter() > until
        self._owed = max(0, self._owed - 1)
        return items, None

    def _may_give(self) -> bool:
        """Tell whether a result is there, which an input that takes its time is not to hold back.

        One that does not gives a chunk for each that is taken, so that the workers have something
        to do while the reader works.
        """
        if not self._pending or not (self._is_slow or self._owed <= 0):
            return False
        return self._has_result()

    def _has_result(self) -> bool:
        first = self._pending[0].future
        if first is None or not self._options.ordered:
            return any(one.future is None or one.future.done() for one in self._pending)
        return first.done()

    def _submit(self, runner: Runner, start: int, items: list[Any]) -> None:
        self._pending.append(Chunk(start, items, runner.submit(items), runner))

    def _failed_chunk(self, chunk: Chunk, runner: Runner, error: Exception) -> Done:
        """Return what a chunk has come to that the workers could not do."""
        if isinstance(error, HasEffects):
            self._examiner.find(str(error))
            self._take_back()
            return self._run_here(chunk.items)
        is_lost = isinstance(error, (cf.BrokenExecutor, cf.TimeoutError, cf.CancelledError))
        is_lost &= not isinstance(error, UnpicklingFailed)
        if runner.way == "processes" and not is_lost:
            path = "args" if self._takes_tuples else "args[0]"
            found = next(filter(None, (obstacle(item, path) for item in chunk.items)), None)
            if self._is_auto:
                self._stay_here(str(found or f"a result cannot travel: {error}"))
                return self._run_here(chunk.items)
            if found is not None:
                add_note(error, str(found))
        if self._tries_again(chunk, runner, error):
            return Done([], None, 0.0, 0.0)
        with_call(error, self._examiner.function, self._takes_tuples, chunk.items)
        if self._options.on_error != "raise":
            return Done([Failed(error)] * len(chunk.items), None, 0.0, 0.0)
        return Done([], named_range(error, chunk), 0.0, 0.0, True)

    def _tries_again(self, chunk: Chunk, runner: Runner, error: Exception) -> bool:
        """Have what a worker died of, or took too long for, tried again item by item.

        A pool of processes does that with single items by itself.
        """
        policy = self._options.policy
        if runner.way == "processes":
            may = isinstance(error, WorkerDied) and len(chunk.items) > 1 and policy.retries > 0
        else:
            may = isinstance(error, TaskTimeout) and chunk.tries < policy.retries
        if not may or not isinstance(error, policy.retry_on):
            return False
        self._split = [
            Chunk(place, [item], runner.submit([item], is_again=True), runner, chunk.tries + 1)
            for place, item in enumerate(chunk.items, chunk.start)
        ]
        return True

    def _stay_here(self, reason: str) -> None:
        """Go back to where nothing has to be sent."""
        self._choice.forbid("processes", reason)
        if self._runner is not None and self._runner.way == "processes":
            self._drop_runner()
            self._choice.go_back(reason)

    def _mended(self, chunk: Chunk, done: Done) -> Done:
        """Have called here what a process has called, and what came of it could not be sent."""
        if chunk.runner is None or chunk.runner.way != "processes":
            return done
        results = list(done.results)
        for place, value in enumerate(results):
            why = self._lost(value)
            if why is None:
                continue
            if self._is_auto:
                self._stay_here(why)
                here = self._run_here(chunk.items[place : place + 1])
                if here.error is not None:
                    return Done(results[:place], here.error, 0.0, 0.0)
                results[place] = here.results[0]
            elif self._options.on_error == "raise":
                return Done(results[:place], CannotTravel(why), done.wall, done.busy)
            else:
                results[place] = Failed(CannotTravel(why))
        if self._is_auto and isinstance(done.error, UnpicklingFailed) and not done.is_named:
            self._stay_here(_NOT_REBUILT)
            here = self._run_here(chunk.items[len(results) :])
            return Done(results + here.results, here.error, 0.0, 0.0)
        return done._replace(results=results)

    def _lost(self, value: Any) -> str | None:
        """Return why a result is not what the call has given; None if it is."""
        if type(value) is Unsent:
            return str(value.why)
        is_lost = type(value) is Failed and isinstance(value.error, UnpicklingFailed)
        # With `how="processes"` that is what an executor tells too.
        return _NOT_REBUILT if is_lost and self._is_auto else None

    def _run_here(self, items: list[Any]) -> Done:
        results: list[Any] = []
        for item in items:
            try:
                results.append(self._call(item))
            except Exception as error:
                self._counted = self._begun
                return Done(results, error, 0.0, 0.0)
        self._counted = self._begun
        return Done(results, None, 0.0, 0.0)
