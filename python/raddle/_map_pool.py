"""Where `raddle.map` has items worked on: threads, processes, or an executor of the user's.

A task is a chunk of items. What the function raises comes back as a value, with the results before
it, so that a future that fails tells of something else: a worker's death, what cannot be pickled.
"""

from __future__ import annotations

import concurrent.futures as cf
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ._native import thread_delay
from ._options import Policy

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._map_watcher import Watcher
    from ._processes import ProcessPoolExecutor
    from ._threads import ThreadPoolExecutor


#: Nothing is tried again, and nothing takes too long.
_PLAIN = Policy()


class Failed:
    """Stands among the results for an item whose error is not to end the map."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Unsent:
    """Stands among the results of a worker for one that cannot be sent."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return Unsent, (self.why,)


class Attempt:
    """A function that is called again after some errors, and may give an error as its result."""

    __slots__ = ("_catches", "_function", "_retries", "_retry_on")

    def __init__(
        self, function: Callable[..., Any], retries: int, retry_on: Any, catches: bool
    ) -> None:
        self._function = function
        self._retries = retries
        self._retry_on = retry_on
        self._catches = catches

    def __call__(self, *args: Any) -> Any:
        for left in range(self._retries, -1, -1):
            try:
                return self._function(*args)
            except BaseException as error:
                if left and isinstance(error, self._retry_on):
                    continue
                if self._catches and isinstance(error, Exception):
                    return Failed(error)
                raise
        return None  # not reached: the last attempt returns or raises


class Done(NamedTuple):
    """What has become of a chunk: the results, and what came in place of the next one.

    `busy` has the seconds too in which the thread was ready and no core was free.
    """

    results: list[Any]
    error: BaseException | None
    wall: float
    busy: float
    #: Whether the error tells already which items it may be of.
    is_named: bool = False


def run_chunk(function: Callable[..., Any], takes_tuples: bool, items: list[Any]) -> Done:
    """Call a function for the items of a chunk, and measure that."""
    results: list[Any] = []
    error: BaseException | None = None
    wall, busy = time.perf_counter(), time.thread_time() + thread_delay()
    try:
        if takes_tuples:
            for item in items:
                results.append(function(*item))
        else:
            for item in items:
                results.append(function(item))
    except BaseException as raised:
        error = raised
    busy = time.thread_time() + thread_delay() - busy
    return Done(results, error, time.perf_counter() - wall, busy)


class HasEffects(Exception):
    """A worker has seen why the function has to stay in the program: its chunk does not count."""


#: In a worker: the function of its map, whether it takes tuples, and who looks at what it changes.
_installed: tuple[Any, bool, Watcher | None] = (None, False, None)


def _install(function: Any, takes_tuples: bool, expected: Any, decimals: Any) -> None:
    global _installed
    if decimals is not None:
        import decimal

        decimal.setcontext(decimals)
    watcher = None
    if expected is not None:
        from ._map_watcher import Watcher

        inner = function._function if type(function) is Attempt else function
        watcher = Watcher(inner, expected)
    _installed = function, takes_tuples, watcher


def _run_installed(items: list[Any]) -> tuple[list[Any], Any, float, float] | str:
    """Run a chunk in a worker; errors go as pickles with their text, as those of other tasks.

    In place of results a text says why there are none.
    """
    function, takes_tuples, watcher = _installed
    if watcher is not None and watcher.difference is not None:
        return watcher.difference
    results, error, wall, busy, _is_named = run_chunk(function, takes_tuples, items)
    if watcher is not None and (changed := watcher.look()) is not None:
        return changed
    results = [Failed(_packed(one.error)) if type(one) is Failed else one for one in results]  # type: ignore[arg-type]
    return results, None if error is None else _packed(error), wall, busy


def _in_place_of(told: Any) -> Any:
    """Return what to send in place of results among which some cannot be sent."""
    from ._travel import obstacle

    results, *rest = told
    found = [obstacle(one, "the result") for one in results]
    if not any(found):
        # Each can be sent, and all of them cannot.
        found = [obstacle(results, "the results")] * len(results)
    sent = [one if why is None else Unsent(str(why)) for one, why in zip(results, found)]
    return sent, *rest


_run_installed._raddle_in_place_of = _in_place_of  # type: ignore[attr-defined]


def _packed(error: BaseException) -> tuple[bytes | None, str, str, str]:
    from ._by_value import dumps_by_value
    from ._pickling import tell

    told = tell(error)
    try:
        return (dumps_by_value(error, True, None), *told)
    except Exception:
        return (None, *told)


def _unpacked(packed: Any) -> BaseException:
    from ._pickling import raised

    return raised(*packed)


class Runner:
    """Takes chunks of items and gives futures of `Done`."""

    way = "executor"

    def __init__(
        self, function: Callable[..., Any], takes_tuples: bool, workers: int, executor: Any
    ) -> None:
        self.workers = workers
        self.executor = executor
        self._function = function
        self._takes_tuples = takes_tuples

    def submit(self, items: list[Any], is_again: bool = False) -> cf.Future[Any]:
        """Have a chunk worked on; `is_again` if a worker has died of it."""
        future: cf.Future[Any] = self.executor.submit(
            run_chunk, self._function, self._takes_tuples, items
        )
        return future

    def result(self, future: cf.Future[Any], timeout: float | None) -> Done:
        """Wait for what has become of a chunk."""
        done: Done = future.result(timeout)
        return done

    def is_ready(self) -> bool:
        """Tell whether a worker is there."""
        return True

    def close(self) -> None:
        """Take no more; do not wait."""

    def end(self) -> None:
        """End what is running, as far as that is possible, without waiting."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


#: Pools of maps that were closed while their threads still ran.
_left: list[Any] = []


def forsake_left() -> None:
    """Give up the threads of maps that were closed: after a Ctrl-C nobody waits for them."""
    for pool in _left:
        pool.forsake()


class ThreadRunner(Runner):
    """Has items worked on by threads of its own."""

    way = "threads"
    executor: ThreadPoolExecutor

    def __init__(
        self,
        function: Callable[..., Any],
        takes_tuples: bool,
        workers: int,
        policy: Policy = _PLAIN,
    ) -> None:
        from ._threads import ThreadPoolExecutor

        pool = ThreadPoolExecutor(
            workers, "raddle.map", task_timeout=policy.task_timeout, inherit_context=True
        )
        super().__init__(function, takes_tuples, workers, pool)

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)
        pool = self.executor._pool()
        # The second figure is how many tasks run.
        _left[:] = [one for one in (*_left, pool) if one.statistics()[1] > 0]

    def end(self) -> None:
        self.close()
        # Nobody can stop a thread: the interpreter does not wait for these.
        self.executor._pool().forsake()


def _decimal_context() -> Any:
    """Return the context of decimal numbers, which each thread has, if it is not that of all."""
    decimal = sys.modules.get("decimal")
    if decimal is None:
        return None
    context, usual = decimal.getcontext().copy(), decimal.DefaultContext.copy()
    context.clear_flags()
    usual.clear_flags()
    return None if repr(context) == repr(usual) else context


class ProcessRunner(Runner):
    """Has items worked on by processes of its own, which are sent the function once."""

    way = "processes"
    executor: ProcessPoolExecutor

    def __init__(
        self,
        function: Callable[..., Any],
        takes_tuples: bool,
        workers: int,
        policy: Policy = _PLAIN,
        expected: dict[str, str] | None = None,
    ) -> None:
        from ._libraries import OwnPool, needed_for

        called = function._function if type(function) is Attempt else function
        pool = OwnPool(
            workers,
            needed_for(called),
            initializer=_install,
            initargs=(function, takes_tuples, expected, _decimal_context()),
            task_timeout=policy.task_timeout,
            retries=policy.retries,
            retry_on=policy.retry_on,
        )
        super().__init__(function, takes_tuples, workers, pool)
        # A chunk that a worker has died of is tried again item by item.
        self._for_many = pool.options(retries=0)
        self._for_one_again = pool.options(retries=max(0, policy.retries - 1))
        self._started = time.perf_counter()
        self._first: cf.Future[Any] | None = None

    def warm_up(self) -> None:
        """Have the workers started."""
        for _ in range(self.workers):
            self._first = self.executor.submit(_run_installed, [])

    def is_ready(self) -> bool:
        if self._first is None or not self._first.done():
            return self._first is None
        from ._machine import note

        note(process_start=time.perf_counter() - self._started)
        self._first = None
        return True

    def submit(self, items: list[Any], is_again: bool = False) -> cf.Future[Any]:
        if is_again:
            return self._for_one_again.submit(_run_installed, items)
        if len(items) > 1:
            return self._for_many.submit(_run_installed, items)
        return self.executor.submit(_run_installed, items)

    def result(self, future: cf.Future[Any], timeout: float | None) -> Done:
        told = future.result(timeout)
        if isinstance(told, str):
            raise HasEffects(told)
        results, error, wall, busy = told
        results = [Failed(_unpacked(one.error)) if type(one) is Failed else one for one in results]
        return Done(results, None if error is None else _unpacked(error), wall, busy)

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        self.executor.kill_workers()
