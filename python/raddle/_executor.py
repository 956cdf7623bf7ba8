"""What the executors of threads and of processes have in common: `map`, `shutdown` and the rest."""

from __future__ import annotations

import concurrent.futures as cf
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from weakref import ref

from ._options import check_map
from ._start import wait_after_interrupt, wait_ended

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeVar

    from typing_extensions import ParamSpec

    from ._futures import Future
    from ._start import Handle
    from ._statistics import Statistics

    P = ParamSpec("P")
    T = TypeVar("T")

    class _Submits(Protocol):
        def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> cf.Future[T]: ...


class BaseExecutor(cf.Executor):
    """What an executor and its views have in common."""

    # What the native half of each class gives.
    if TYPE_CHECKING:

        def _is_submit_ours(self) -> bool: ...

        def _map(
            self, fn: Callable[..., T], iterables: tuple[Iterable[Any], ...], *how: Any
        ) -> Iterator[T] | None: ...

    def _pool(self) -> Handle:
        raise NotImplementedError

    if TYPE_CHECKING:

        def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call `fn` with the items of `iterables`, as the builtin `map`, on the workers.

        Parameters
        ----------
        fn : callable
            Takes as many arguments as there are iterables.
        *iterables : iterable
            The shortest ends the map. They are read at once, or, with `buffersize`, as results are
            taken.
        timeout : float, optional
            Seconds, from this call on, after which the iterator raises.
        chunksize : int
            Without effect for threads.
        buffersize : int, optional
            The most tasks submitted and not yet taken as results: the input may be endless.

        Returns
        -------
        iterator
            The results, in the order of the items.

        Raises
        ------
        TimeoutError
            By the iterator: the time is over. What has not begun is cancelled, as after an
            exception of `fn`.
        TypeError, ValueError
            `fn` cannot be called, or `buffersize` is not a positive int.

        Examples
        --------
        >>> from itertools import count, islice
        >>> from raddle import ThreadPoolExecutor
        >>> with ThreadPoolExecutor() as executor:
        ...     squares = executor.map(lambda n: n * n, count(), buffersize=8)
        ...     list(islice(squares, 4))
        [0, 1, 4, 9]
        """
        check_map(fn, buffersize)
        # Instrumentation wraps `submit`, and subclasses override it: then every task goes through
        # theirs.
        if buffersize is None and self._is_submit_ours():
            results = self._map(fn, iterables, timeout)
            if results is not None:
                return results
        return map_by_submit(self, fn, zip(*iterables), timeout, buffersize)

    def statistics(self) -> Statistics:
        """Tell what the executor has done so far.

        Returns
        -------
        Statistics
            Counts of tasks, workers and the queue, and seconds of work.
        """
        from ._statistics import Statistics

        return Statistics(*self._pool().statistics())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks.

        Parameters
        ----------
        wait : bool
            Whether to return only when all tasks are done and the threads have ended. Threads given
            up after a `task_timeout` are not waited for.
        cancel_futures : bool
            Whether to cancel the tasks that have not begun.

        Raises
        ------
        RuntimeError
            With `wait`, from a task or callback of this very executor, which would wait for itself.
        """
        pool = self._pool()
        pool.close(cancel_futures)
        if wait:
            wait_ended(pool)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        """Shut down and wait.

        After Ctrl-C or SystemExit, cancel what has not begun; a second Ctrl-C does not wait.
        """
        if exc_type is not None and issubclass(exc_type, (KeyboardInterrupt, SystemExit)):
            wait_after_interrupt([self._pool()])
        else:
            self.shutdown(wait=True)
        return None


def map_by_submit(
    executor: _Submits,
    fn: Callable[..., T],
    items: Iterator[tuple[Any, ...]],
    timeout: float | None,
    buffersize: int | None,
) -> Iterator[T]:
    """Map through `executor.submit`: for options, lazy input, and a `submit` of the user's own."""
    end_time = None if timeout is None else time.monotonic() + timeout
    futures = deque(executor.submit(fn, *args) for args in itertools.islice(items, buffersize))
    # A running map does not keep its executor alive.
    executor_of = ref(executor)

    def feed() -> None:
        if buffersize is not None and (owner := executor_of()) is not None:
            futures.extend(owner.submit(fn, *args) for args in itertools.islice(items, 1))

    def take() -> Iterator[T]:
        try:
            while futures:
                feed()
                remaining = None if end_time is None else end_time - time.monotonic()
                yield _result_or_cancel(futures.popleft(), remaining)
        finally:
            for future in futures:
                future.cancel()

    return take()


def _result_or_cancel(future: cf.Future[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    finally:
        future.cancel()
        # or an exception would hold the frame, which holds the future, which holds the exception
        del future
