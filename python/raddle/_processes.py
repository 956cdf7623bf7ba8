"""`ProcessPoolExecutor`: the standard library's, over the engine's pool of processes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

from . import _native
from ._executor import BaseExecutor, map_by_submit
from ._futures import Future
from ._options import (
    UNSET,
    Policy,
    check_initializer,
    check_map,
    check_max_workers,
    check_seconds,
    make_policy,
)
from ._process_bind import bind
from ._start import end_at_once

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import ContextVar
    from multiprocessing.context import BaseContext
    from types import TracebackType
    from typing import Any, Literal, TypeVar

    from typing_extensions import ParamSpec, Self

    from ._statistics import Statistics

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["ProcessExecutorView", "ProcessPoolExecutor"]

bind()


class _ProcessExecutor(BaseExecutor):
    """What the executor and its views have in common."""

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call `fn` with the items of `iterables`, as the builtin `map`, in the workers.

        Parameters
        ----------
        fn : callable
            Takes as many arguments as there are iterables. It is sent once for the whole call.
        *iterables : iterable
            The shortest ends the map. They are read at once, or, with `buffersize`, as results are
            taken.
        timeout : float, optional
            Seconds, from this call on, after which the iterator raises.
        chunksize : int
            How many items make one task. A task costs a microsecond or two here, so 1 is mostly
            best: more helps only for calls of a few microseconds.
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
            `fn` cannot be called, or `chunksize` or `buffersize` is not a positive int.

        Examples
        --------
        >>> from raddle import ProcessPoolExecutor
        >>> with ProcessPoolExecutor(max_workers=2) as executor:
        ...     list(executor.map(lambda n: n * n, range(5)))
        [0, 1, 4, 9, 16]
        """
        check_map(fn, buffersize)
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is None and self._is_submit_ours():
            results = self._map(fn, iterables, timeout, chunksize)
            try:
                if results is not None:
                    return results if chunksize == 1 else _Items.of(results)
            finally:
                # The error of a call that cannot be pickled has this frame, the results have it.
                del results
        items = zip(*iterables)
        if chunksize == 1:
            return map_by_submit(self, fn, items, timeout, buffersize)
        chunks = iter(lambda: tuple(itertools.islice(items, chunksize)), ())
        calls = ((fn, chunk) for chunk in chunks)
        results_of_chunks = map_by_submit(self, _call_each, calls, timeout, buffersize)
        return _chained(results_of_chunks)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        """Shut down and wait; after Ctrl-C or SystemExit, end the workers at once."""
        if exc_type is not None and issubclass(exc_type, (KeyboardInterrupt, SystemExit)):
            end_at_once([self._process_pool()])
        else:
            self.shutdown(wait=True)
        return None

    def statistics(self) -> Statistics:
        """Tell what the executor has done so far.

        Returns
        -------
        Statistics
            Counts of tasks, workers and the queue, and seconds of work.
        """
        from ._statistics import Statistics

        figures = self._process_pool().statistics()
        return Statistics(*figures, threads_per_core=self._demand())

    def _demand(self) -> float:
        raise NotImplementedError

    def _process_pool(self) -> _native.ProcessPoolHandle:
        raise NotImplementedError

    def _pool(self) -> _native.ProcessPoolHandle:
        return self._process_pool()


class _Items(itertools.chain):  # type: ignore[type-arg]
    """The results of a map in chunks: to take one costs what taking it out of a list costs."""

    _chunks: Any

    @classmethod
    def of(cls, chunks: Any) -> _Items:
        """Give the results one by one."""
        items: Any = cls.from_iterable(iter(chunks.next_list, None))
        items._chunks = chunks
        return items  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the iteration; cancel what has not begun if it had started."""
        self._chunks.close()


def _call_each(fn: Callable[..., T], calls: tuple[tuple[Any, ...], ...]) -> list[T]:
    return [fn(*args) for args in calls]


def _chained(lists: Iterator[list[T]]) -> Iterator[T]:
    for results in lists:
        results.reverse()
        while results:
            yield results.pop()


class ProcessPoolExecutor(_native.ProcessPool, _ProcessExecutor):
    """Run calls in a pool of processes.

    The class of :mod:`concurrent.futures` with the same signatures and semantics (those of Python
    3.14 on every version), at a small part of the cost of a task. Workers start quickly, need no
    ``if __name__ == "__main__"`` in the program, and run functions of the program itself, lambdas
    and closures too: what a worker cannot import is sent to it as its code.

    Parameters
    ----------
    max_workers : int, optional
        The most processes; by default `raddle.cpu_count()`.
    mp_context : multiprocessing context, optional
        How workers are started, with the semantics of that context. By default they are forked
        from a small process made for it, which is safe in a program with threads.
    initializer : callable, optional
        Called with `initargs` at the start of each worker. If it raises, the pool is broken.
    initargs : tuple
        Arguments for `initializer`. Those that can only be inherited, such as a queue of
        :mod:`multiprocessing`, have the workers forked from the program.
    max_tasks_per_child : int, optional
        After so many tasks a worker is replaced by a new one.
    task_timeout : float, optional
        Seconds that a task may run, from its start. Then its worker is ended and replaced, and its
        future fails with `TaskTimeout`.
    retries : int
        How often a task is run again after an exception of `retry_on`: one that it raised,
        `WorkerDied`, or `TaskTimeout`, for its worker has been ended (with threads the attempt
        still runs, so there it is not tried again). What `Future.kill` ended is over.
    retry_on : exception class or tuple of them
        What to retry after; `Exception` by default.
    label : str, optional
        A name for the tasks in errors and events.
    inherit_context : list of ContextVar, optional
        Importable context variables, whose values at `submit` each task sees.
    on_crash : {"isolate", "break"}
        Whether the death of a worker fails only the task that it ran, or, as in the standard
        library, breaks the pool.
    memory_limit : int or str, optional
        How much memory a worker may hold for itself, in bytes or as ``"2 GB"`` (1 GB is 1024 MB):
        the task that has it hold more fails with `MemoryLimit`, and the worker is replaced. What
        it shares with other processes does not count. Looked at every 20 ms.
    idle_timeout : float, optional
        Seconds after which a worker that has nothing to do ends; a new one is started when it is
        needed.
    pin : bool
        Whether each worker runs only on its share of the cores.

    Raises
    ------
    ValueError, TypeError
        An argument has a wrong value or type.

    Notes
    -----
    `task_timeout`, `retries`, `retry_on` and `label` can also be given for some tasks only: see
    `options`.

    Log records of the workers, from the levels on that are set in the program, go to the program's
    loggers, with `worker` (a number) and `task` (the label) as further attributes, before the
    result of the task is there; so do warnings. What a handler of the worker's own takes is not
    told again. Handlers run on a thread of the pool's, and results of a worker wait until what it
    has told has been handled, unless a handler waits for a task of the pool itself.
    Each worker may use its share of the cores: variables such as ``OMP_NUM_THREADS`` that the user
    has not set say so to its libraries, and `cpu_count` to pools that it makes.

    Examples
    --------
    >>> from raddle import ProcessPoolExecutor
    >>> with ProcessPoolExecutor(max_workers=2) as executor:
    ...     future = executor.submit(pow, 323, 1235, 27)
    ...     future.result()
    26
    """

    _numbers = itertools.count()
    #: What the workers are going to need: then they may have it from the start.
    _libraries: tuple[str, ...] = ()

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        task_timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        label: str | None = None,
        inherit_context: list[ContextVar[Any]] | None = None,
        on_crash: Literal["isolate", "break"] = "isolate",
        memory_limit: int | str | None = None,
        idle_timeout: float | None = None,
        pin: bool = False,
    ) -> None:
        from ._budget import Budget
        from ._cores import cpu_count
        from ._launch import make_launcher

        cores = cpu_count()
        self._max_workers = cores if max_workers is None else check_max_workers(max_workers)
        check_initializer(initializer)
        if on_crash not in ("isolate", "break"):
            raise ValueError(f'on_crash must be "isolate" or "break", not {on_crash!r}')
        variables = _check_variables(inherit_context)
        limits = _check_limits(memory_limit, idle_timeout)
        self._budget = Budget(self._max_workers, cores, is_pinned=bool(pin))
        self._budget.warn_of_excess()
        self._policy = make_policy(Policy(), task_timeout, retries, retry_on, label)
        self._given_context = mp_context
        self._max_tasks_per_child = max_tasks_per_child
        self._initializer = initializer
        self._initargs = initargs
        self._launcher = make_launcher(
            mp_context,
            initializer,
            tuple(initargs),
            max_tasks_per_child,
            variables,
            self._budget,
            self._libraries,
        )
        self._open(
            self._launcher,
            self._max_workers,
            max_tasks_per_child,
            on_crash == "break",
            getattr(self._launcher, "by_value", True),
            variables,
            f"ProcessPoolExecutor-{next(self._numbers)}",
            self._policy,
            limits,
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
    ) -> ProcessExecutorView:
        """Give a view of the executor, with options for the tasks submitted through it.

        Parameters
        ----------
        task_timeout, retries, retry_on, label
            As for the executor; what is not given stays.

        Returns
        -------
        ProcessExecutorView
            It has `submit`, `map`, `options`, `statistics` and `shutdown`.

        Raises
        ------
        ValueError, TypeError
            An option has a wrong value or type.

        Examples
        --------
        >>> import os
        >>> from raddle import ProcessPoolExecutor
        >>> with ProcessPoolExecutor(max_workers=1) as executor:
        ...     future = executor.options(retries=1, label="fragile").submit(os._exit, 3)
        ...     print(type(future.exception()).__name__, executor.statistics().retried)
        WorkerDied 1
        """
        policy = make_policy(self._policy, task_timeout, retries, retry_on, label)
        return ProcessExecutorView(self, policy)

    def kill_workers(self) -> None:
        """Take no more tasks, cancel what has not begun, and kill the workers (SIGKILL)."""
        self._end_workers("kill")

    def terminate_workers(self) -> None:
        """Take no more tasks, cancel what has not begun, and terminate the workers (SIGTERM)."""
        self._end_workers("terminate")

    def _end_workers(self, operation: str) -> None:
        processes = list(self._processes.values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            getattr(process, operation)()
        if operation == "kill":
            # Those too that were being started.
            self._handle().kill_workers()

    def _process_pool(self) -> _native.ProcessPoolHandle:
        return self._handle()

    def _demand(self) -> float:
        return self._budget.demand()

    # What follows is private in the standard library, and reached for all the same.

    @property
    def _processes(self) -> dict[int, Any]:
        pool = self._handle()
        # Workers are started by the thread that supervises them: one that is wanted is waited for.
        while pool.is_starting and not pool.is_current:
            time.sleep(0.0005)
        processes: dict[int, Any] = self._launcher.processes
        return processes

    @property
    def _executor_manager_thread(self) -> Any:
        return next(iter(self._handle().threads), None)

    @property
    def _mp_context(self) -> Any:
        if self._given_context is not None:
            return self._given_context
        from multiprocessing import get_context

        return get_context("spawn" if self._max_tasks_per_child is not None else None)

    @property
    def _call_queue(self) -> _Queue:
        return _Queue()


class _Queue:
    """In the place of the standard executor's private queue, which has a thread to be joined."""

    def join_thread(self) -> None:
        """Do nothing: there is no such thread."""


class ProcessExecutorView(_native.ProcessView, _ProcessExecutor):
    """An executor seen with other options: what `ProcessPoolExecutor.options` returns.

    Tasks submitted through it run on the executor's workers, under the options of the view.
    Shutting it down shuts the executor down.

    Examples
    --------
    >>> from raddle import ProcessPoolExecutor
    >>> with ProcessPoolExecutor(max_workers=2) as executor:
    ...     careful = executor.options(task_timeout=5.0, retries=1, label="lengths")
    ...     list(careful.map(len, ["a", "bb"]))
    [1, 2]
    """

    def __init__(self, executor: ProcessPoolExecutor, policy: Policy) -> None:
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
    ) -> ProcessExecutorView:
        """Change some options of the view; see `ProcessPoolExecutor.options`."""
        policy = make_policy(self._policy, task_timeout, retries, retry_on, label)
        return ProcessExecutorView(self._executor, policy)

    def _process_pool(self) -> _native.ProcessPoolHandle:
        return self._executor._handle()

    def _demand(self) -> float:
        return self._executor._demand()

    def _is_submit_ours(self) -> bool:
        is_own = type(self).submit is _native.ProcessView.submit and "submit" not in self.__dict__
        return is_own and self._executor._is_submit_ours()


def _check_limits(memory: object, idle: object) -> tuple[int | None, float | None]:
    if memory is None and idle is None:
        return None, None
    from ._limits import check_memory_limit

    return (
        None if memory is None else check_memory_limit(memory),
        None if idle is None else check_seconds("idle_timeout", idle),
    )


def _check_variables(variables: object) -> list[ContextVar[Any]]:
    if variables is None:
        return []
    if not isinstance(variables, (list, tuple)):
        raise TypeError(
            "inherit_context must be a list of context variables or None for a pool of "
            f"processes, not {variables!r}"
        )
    return list(variables)
