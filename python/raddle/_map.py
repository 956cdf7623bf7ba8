"""`raddle.map`: the builtin `map`, in a loop, in threads or in processes, whichever pays.

It begins as a plain loop in the calling thread, and measures. The engine (`Choice`) decides; this
module does what was decided: see `_map_loop` for the loop and `_map_pool` for the workers.
"""

from __future__ import annotations

import concurrent.futures as cf
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from ._map_iterator import MapIterator
from ._map_options import MapOptions
from ._options import Policy, make_policy
from ._progress import Progress, report

if TYPE_CHECKING:
    T = TypeVar("T")

__all__ = ["map"]

_HOWS = ("auto", "sequential", "threads", "processes")
How: TypeAlias = "Literal['auto', 'sequential', 'threads', 'processes'] | cf.Executor"


def map(
    fn: Callable[..., T],
    /,
    *iterables: Iterable[Any],
    how: How = "auto",
    workers: int | None = None,
    ordered: bool = True,
    chunksize: int | Literal["auto"] = "auto",
    buffersize: int | None = None,
    timeout: float | None = None,
    task_timeout: float | None = None,
    retries: int = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    on_error: Literal["raise", "return", "skip"] = "raise",
    progress: Progress = None,
) -> MapIterator[T]:
    """Call `fn` with the items of `iterables`, in whichever way is fastest.

    With ``how="auto"`` it begins as a plain loop in the calling thread and measures the items: how
    long they take, whether they wait or compute, with the GIL held or not, and what sending them to
    a process would cost. When threads or processes pay for what remains it goes on there, and when
    the work changes it changes its mind. `MapIterator.report` tells what was decided and why, and
    so does the logger ``raddle.map``, at INFO.

    The choice never changes the result. A function whose code or first calls show that it changes
    something outside of itself (a global, a closure variable, its arguments, the random numbers
    that the program shares) stays a plain loop, or goes to threads if it uses a lock. An item is
    called a second time, in the program, if what a process made of it cannot be sent back: a result
    that cannot be pickled, or an exception that cannot be rebuilt. Then nothing more goes to
    processes. With ``how="processes"`` it is an error.

    Parameters
    ----------
    fn : callable
        Takes as many arguments as there are iterables. What else it does (files, output) is done
        in whatever order the items are worked on.
    *iterables : iterable
        The shortest ends the map. They are drawn from as results are taken, in the thread that
        takes them; one that is not a list, tuple, range, dict, str or bytes is not drawn from
        while `fn` runs in the calling thread, where only the item is drawn that is asked for.
    how : {"auto", "sequential", "threads", "processes"} or Executor
        Where the items are worked on. An executor is not shut down.
    workers : int, optional
        The most workers.
    ordered : bool
        Whether the results come in the order of the items, or as they are there.
    chunksize : int or "auto"
        Items that make one task of a worker.
    buffersize : int, optional
        The most items drawn whose results have not been taken; by default as many as keep the
        workers busy.
    timeout : float, optional
        Seconds, from this call on, after which the iterator raises. A call that runs in the
        calling thread is not interrupted.
    task_timeout : float, optional
        Seconds that one item may take. Then a process is ended and replaced, a thread given up; in
        a plain loop it is not possible, so that "auto" begins with threads.
    retries : int
        How often an item is tried again after an exception of `retry_on`, `TaskTimeout` and
        `WorkerDied` among them, in threads and processes alike. A thread that took too long is
        given up, not ended: its call may go on beside the next.
    retry_on : exception class or tuple of them
        What to retry after; `Exception` by default.
    on_error : {"raise", "return", "skip"}
        Whether an exception of an item ends the map, takes the place of its result, or is left
        out.
    progress : bool or callable, optional
        None shows a bar on a terminal and in a notebook, True always, False never; a function is
        called with the number of items done and of all (None if nobody knows), first by this call.
        What it raises is raised by the iterator, which can be asked for the next result again.

    Returns
    -------
    MapIterator
        The results. It is a context manager too, whose end ends the map.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong value or type.
    TimeoutError
        By the iterator: the time is over.
    TaskTimeout, WorkerDied
        By the iterator: an item took too long, or its process died. Every error that an item
        causes names it in a note (``__notes__``); if the process had several items, it names these.
    CannotTravel
        By the iterator, with ``how="processes"``: a result cannot be sent from a process.

    See Also
    --------
    advise : The same measurement on a sample, and what to do.

    Examples
    --------
    >>> import raddle
    >>> list(raddle.map(len, ["a", "bb", "ccc"]))
    [1, 2, 3]
    >>> seen = []
    >>> for _ in raddle.map(seen.append, range(3)):
    ...     pass
    >>> seen
    [0, 1, 2]
    """
    policy = make_policy(Policy(), task_timeout, retries, retry_on, None)
    options = MapOptions(
        how=_check_how(fn, how, policy),
        workers=check_count("workers", workers),
        ordered=bool(ordered),
        chunksize=None if chunksize == "auto" else check_count("chunksize", chunksize),
        buffersize=check_count("buffersize", buffersize),
        deadline=_deadline(timeout),
        policy=policy,
        on_error=_check_on_error(on_error),
    )
    if not iterables:
        raise TypeError("map() needs an iterable after the function")
    total = _total(iterables)
    source: Iterator[Any] = iter(iterables[0]) if len(iterables) == 1 else zip(*iterables)
    told = report(progress, total, "item")
    if told is not None and callable(progress):
        # One that cannot be called so says so now.
        told(0)
    at_hand = all(type(one) in _AT_HAND for one in iterables)
    return MapIterator(fn, source, len(iterables) != 1, total, at_hand, options, told)


#: Inputs that any thread can draw from, and that run no code of the user's.
_AT_HAND = (list, tuple, range, dict, str, bytes)


def _total(iterables: tuple[Any, ...]) -> int | None:
    if all(isinstance(one, Sized) for one in iterables):
        return min(len(one) for one in iterables)
    return None


def _check_how(fn: Any, how: Any, policy: Policy) -> Any:
    if not callable(fn):
        raise TypeError(f"map() needs a callable, not {type(fn).__name__}: {fn!r}")
    if isinstance(how, cf.Executor):
        if policy.task_timeout is not None:
            raise ValueError(
                "task_timeout= is not for an executor of yours: give it to the executor, or to "
                "executor.options(task_timeout=...)"
            )
        return how
    if how not in _HOWS:
        raise ValueError(
            f'how must be "auto", "sequential", "threads", "processes" or an executor, not {how!r}'
        )
    if how == "sequential" and policy.task_timeout is not None:
        raise ValueError(
            'task_timeout= is not possible with how="sequential": nothing can end a call in the '
            'calling thread; use "processes" (which are ended) or "threads" (which are given up)'
        )
    return how


def check_count(name: str, value: Any) -> int | None:
    """Check a number that may be left out."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        other = ' or "auto"' if name == "chunksize" else " or None"
        raise TypeError(f"{name} must be an int{other}, not {value!r}")
    count = operator.index(value)
    if count < 1:
        raise ValueError(f"{name} must be 1 or greater, not {value!r}")
    return count


def _check_on_error(value: Any) -> Any:
    if value not in ("raise", "return", "skip"):
        raise ValueError(f'on_error must be "raise", "return" or "skip", not {value!r}')
    return value


def _deadline(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not hasattr(type(timeout), "__float__"):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    seconds = float(timeout)
    if seconds != seconds:
        raise ValueError(f"timeout must be a number of seconds, not {timeout!r}")
    return time.monotonic() + seconds
