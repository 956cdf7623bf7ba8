"""`ThreadPoolExecutor`: the standard library's, over the engine."""

from __future__ import annotations

import concurrent.futures as cf
import itertools
import os
from collections.abc import Callable

from . import _native
from ._executor import BaseExecutor
from ._futures import Future
from ._options import (
    UNSET,
    Policy,
    check_inherit_context,
    check_initializer,
    check_max_workers,
    make_policy,
)

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import ParamSpec, Self

    P = ParamSpec("P")
    T = TypeVar("T")


__all__ = ["ExecutorView", "ThreadPoolExecutor"]


class ThreadPoolExecutor(_native.ThreadPool, BaseExecutor, cf.ThreadPoolExecutor):
    """Run calls on a pool of threads.

    The class of :mod:`concurrent.futures` with the same signatures and semantics (those of Python
    3.14 on every version), at a small part of the cost of a task. Workers are ordinary
    :class:`threading.Thread` objects, started when they are needed.

    Parameters
    ----------
    max_workers : int, optional
        The most threads; by default the number of usable cores plus 4, at most 32.
    thread_name_prefix : str
        The threads are called ``prefix_0``, ``prefix_1`` and so on.
    initializer : callable, optional
        Called with `initargs` at the start of each thread. If it raises, the pool is broken.
    initargs : tuple
        Arguments for `initializer`.
    task_timeout : float, optional
        Seconds that a task may run, from its start. Then its future fails with `TaskTimeout`; the
        thread, which nobody can stop, is abandoned and replaced. Such a task is not retried: its
        attempt still runs.
    retries : int
        How often a task is run again after an exception of `retry_on`.
    retry_on : exception class or tuple of them
        What to retry after; `Exception` by default.
    label : str, optional
        A name for the tasks in errors and events.
    inherit_context : bool, optional
        With True, each task runs in its own copy of the context (:mod:`contextvars`) of whoever
        submitted it. None does as the standard library.

    Raises
    ------
    ValueError, TypeError
        An argument has a wrong value or type.

    Notes
    -----
    The last five can also be given for some tasks only: see `options`.

    Examples
    --------
    >>> from raddle import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(max_workers=2) as executor:
    ...     future = executor.submit(pow, 323, 1235, 27)
    ...     future.result()
    26
    """

    _numbers = itertools.count()

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        task_timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        label: str | None = None,
        inherit_context: bool | None = None,
    ) -> None:
        self._max_workers = (
            _default_workers() if max_workers is None else check_max_workers(max_workers)
        )
        self._thread_name_prefix = thread_name_prefix or f"ThreadPoolExecutor-{next(self._numbers)}"
        check_initializer(initializer)
        self._initializer = initializer  # type: ignore[assignment]  # it may return anything
        self._initargs = initargs
        self._policy = make_policy(Policy(), task_timeout, retries, retry_on, label)
        self._open(
            self._max_workers,
            self._thread_name_prefix,
            None if initializer is None else (initializer, tuple(initargs)),
            check_inherit_context(inherit_context),
            self._policy,
        )

    if TYPE_CHECKING:

        def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

        def __enter__(self) -> Self: ...

    def options(
        self,
        *,
        task_timeout: float | None = UNSET,
        retries: int = UNSET,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = UNSET,
        label: str | None = UNSET,
    ) -> ExecutorView:
        """Give a view of the executor, with options for the tasks submitted through it.

        Parameters
        ----------
        task_timeout, retries, retry_on, label
            As for the executor; what is not given stays.

        Returns
        -------
        ExecutorView
            It has `submit`, `map`, `options`, `statistics` and `shutdown`.

        Raises
        ------
        ValueError, TypeError
            An option has a wrong value or type.

        Examples
        --------
        >>> from raddle import ThreadPoolExecutor
        >>> attempts = []
        >>> def flaky():
        ...     attempts.append(1)
        ...     if len(attempts) < 3:
        ...         raise OSError("not yet")
        ...     return "third time lucky"
        >>> with ThreadPoolExecutor() as executor:
        ...     executor.options(retries=2, retry_on=OSError).submit(flaky).result()
        'third time lucky'
        """
        return ExecutorView(self, make_policy(self._policy, task_timeout, retries, retry_on, label))

    def _pool(self) -> _native.PoolHandle:
        return self._handle()

    @property
    def _work_queue(self) -> _WorkQueue:  # type: ignore[override]
        """For programs that look at the length of the standard executor's private queue."""
        return _WorkQueue(self)


class ExecutorView(_native.View, BaseExecutor):
    """An executor seen with other options: what `ThreadPoolExecutor.options` returns.

    Tasks submitted through it run on the executor's threads, under the options of the view.
    Shutting it down shuts the executor down.

    Examples
    --------
    >>> from raddle import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as executor:
    ...     careful = executor.options(task_timeout=5.0, retries=1, label="lengths")
    ...     list(careful.map(len, ["a", "bb"]))
    [1, 2]
    """

    def __init__(self, executor: ThreadPoolExecutor, policy: Policy) -> None:
        self._executor = executor
        self._policy = policy

    if TYPE_CHECKING:

        def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    def options(
        self,
        *,
        task_timeout: float | None = UNSET,
        retries: int = UNSET,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = UNSET,
        label: str | None = UNSET,
    ) -> ExecutorView:
        """Change some options of the view; see `ThreadPoolExecutor.options`."""
        policy = make_policy(self._policy, task_timeout, retries, retry_on, label)
        return ExecutorView(self._executor, policy)

    def _pool(self) -> _native.PoolHandle:
        return self._executor._pool()

    def _is_submit_ours(self) -> bool:
        is_own = type(self).submit is _native.View.submit and "submit" not in self.__dict__
        return is_own and self._executor._is_submit_ours()


class _WorkQueue:
    """The length of the queue, in the place where the standard executor keeps its queue."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    def qsize(self) -> int:
        return self._executor.statistics().waiting

    def empty(self) -> bool:
        return self.qsize() == 0


def _default_workers() -> int:
    if hasattr(os, "process_cpu_count"):
        cores = os.process_cpu_count()
    else:
        cores = len(os.sched_getaffinity(0))
    share = os.environ.get("RADDLE_CORES", "")
    if share.isdecimal():
        # In a worker process, of which there are others.
        cores = min(cores or 1, int(share))
    return min(32, (cores or 1) + 4)
