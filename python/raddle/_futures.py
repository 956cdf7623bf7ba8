"""`Future`, `wait` and `as_completed`: the engine's, with the face of `concurrent.futures`."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, _base

from . import _native
from ._errors import (
    CancelledError,
    InvalidStateError,
    KillUnsupported,
    TaskTimeout,
    TimeoutError,
)
from ._start import make_thread

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures._base import DoneAndNotDoneFutures
    from types import FrameType
    from typing import Any, TypeVar

    T = TypeVar("T")
    F = TypeVar("F", bound=_base.Future[Any])
else:
    T = None

__all__ = ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION", "Future", "as_completed", "wait"]

# The standard library's functions, kept for futures that are not ours.
_standard_wait = _base.wait
_standard_as_completed = _base.as_completed


class Future(_native.Future, _base.Future[T]):
    """The result of a call that may not have ended yet.

    Everything that :class:`concurrent.futures.Future` has, with the same meaning, and a subclass of
    it; executors make it, users ask it. In a coroutine, ``await future``.

    References
    ----------
    PEP 3148, https://peps.python.org/pep-3148/

    Examples
    --------
    >>> from raddle import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as executor:
    ...     future = executor.submit(pow, 2, 10)
    ...     future.result()
    1024
    """

    # The engine has made all that a future needs; the standard constructor would make a lock and a
    # condition besides.
    def __init__(self) -> None:
        pass

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the result in a coroutine; cancelled, cancel the call unless it has begun."""
        # Late: it takes longer than all the rest, and itself imports concurrent.futures.
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def kill(self) -> bool:
        """Stop the running task, by ending the worker process that runs it.

        The future then fails with `TaskKilled`, and a new worker takes the place of the old one. A
        task that has not begun is not stopped: `cancel` it.

        Returns
        -------
        bool
            Whether a worker was running the task, and has been ended.

        Raises
        ------
        KillUnsupported
            The task runs on a thread, or on nothing: a `RaddleError` and a `RuntimeError`.

        Examples
        --------
        >>> from raddle import Future
        >>> try:
        ...     Future().kill()
        ... except RuntimeError as error:
        ...     print(error)
        a thread cannot be stopped; give the task a task_timeout, after which it is abandoned
        """
        was_hit = self._kill()
        if was_hit is None:
            raise KillUnsupported(
                "a thread cannot be stopped; give the task a task_timeout, after which it is "
                "abandoned"
            )
        return was_hit


def wait(
    fs: Iterable[_base.Future[T]], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> DoneAndNotDoneFutures[T]:
    """Wait until futures are completed.

    Parameters
    ----------
    fs : iterable of Future
        Futures of raddle, of the standard library, or of both; duplicates count once.
    timeout : float, optional
        Seconds to wait at most.
    return_when : str
        `FIRST_COMPLETED`, `FIRST_EXCEPTION` or `ALL_COMPLETED`.

    Returns
    -------
    DoneAndNotDoneFutures
        Two sets, ``done`` and ``not_done``.

    Raises
    ------
    ValueError
        `return_when` is none of the three.

    Examples
    --------
    >>> from raddle import ThreadPoolExecutor, wait
    >>> with ThreadPoolExecutor() as executor:
    ...     done, not_done = wait([executor.submit(pow, 2, n) for n in range(3)])
    >>> sorted(future.result() for future in done), not_done
    ([1, 2, 4], set())
    """
    if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
        raise ValueError(f"Invalid return condition: {return_when!r}")
    futures = set(fs)
    found = _native.wait(futures, timeout, return_when)
    if found is None:
        return _standard_wait(futures, timeout, return_when)
    return _base.DoneAndNotDoneFutures(*found)


def as_completed(fs: Iterable[F], timeout: float | None = None) -> Iterator[F]:
    """Iterate over futures in the order in which they complete.

    Parameters
    ----------
    fs : iterable of Future
        Futures of raddle, of the standard library, or of both; duplicates are yielded once.
    timeout : float, optional
        Seconds, from this call on, after which the iterator raises.

    Returns
    -------
    iterator of Future

    Raises
    ------
    TimeoutError
        By the iterator: the time is over and futures are missing.

    Examples
    --------
    >>> from raddle import ThreadPoolExecutor, as_completed
    >>> with ThreadPoolExecutor() as executor:
    ...     squares = {executor.submit(pow, n, 2): n for n in (3, 1, 2)}
    ...     sorted((squares[done], done.result()) for done in as_completed(squares))
    [(1, 1), (2, 4), (3, 9)]
    """
    futures = set(fs)
    found = _native.as_completed(futures, timeout)
    if found is not None:
        return found
    return _standard_as_completed(futures, timeout)  # type: ignore[return-value]


def _log_callback(future: Future[Any], error: BaseException) -> None:
    _base.LOGGER.error("exception calling callback for %r", future, exc_info=error)


def _log_initializer(error: BaseException) -> None:
    _base.LOGGER.critical("Exception in initializer:", exc_info=error)


def _log_unexpected(future: Future[Any], state: str) -> None:
    _base.LOGGER.critical("Future %s in unexpected state: %s", id(future), state)


def _deadlock(
    links: list[tuple[int, str, str | None, list[int]]], frames: dict[int, FrameType]
) -> Exception:
    from ._deadlock import deadlock

    return deadlock(links, frames)


def _holder_ended(what: str, taken_at: str | None) -> Exception:
    from ._deadlock import holder_ended

    return holder_ended(what, taken_at)


def _not_held(what: str, holder: int | None, is_held: bool) -> Exception:
    from ._deadlock import not_held

    return not_held(what, holder, is_held)


def _broken_thread_pool(reason: str) -> Exception:
    from ._errors import BrokenThreadPool

    return BrokenThreadPool(reason)


def _lock_statistics(figures: tuple[int, int, float, float], holder: int | None) -> object:
    from ._deadlock import thread_name
    from ._statistics import LockStatistics

    return LockStatistics(*figures, None if holder is None else thread_name(holder))


_native._bind(
    {
        "Future": Future,
        "make_thread": make_thread,
        "Condition": threading.Condition,
        "log_callback": _log_callback,
        "log_initializer": _log_initializer,
        "log_unexpected": _log_unexpected,
        "CancelledError": CancelledError,
        "TimeoutError": TimeoutError,
        "InvalidStateError": InvalidStateError,
        "BrokenThreadPool": _broken_thread_pool,
        "TaskTimeout": TaskTimeout,
        "deadlock": _deadlock,
        "holder_ended": _holder_ended,
        "not_held": _not_held,
        "lock_statistics": _lock_statistics,
    }
)
