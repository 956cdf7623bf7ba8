"""`DeadlockError`: what the engine's graph of waits has found, in the names and lines of Python."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from types import FrameType

from ._errors import RaddleError

__all__ = ["DeadlockError", "DeadlockLink"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


@dataclass(frozen=True)
class DeadlockLink:
    """One thread of a circle of threads that wait for each other.

    Attributes
    ----------
    thread : str
        Its name.
    ident : int
        Its ``threading.get_ident()``.
    waits_for : str
        What it waits for: ``lock 'a'``, ``the end of thread 'x'``, ``a task``.
    waits_at : str or None
        The line of source at which it waits: ``bank.py:12 in transfer``.
    held_by : tuple of str
        The threads on which that depends: the holder of the lock, the runner of the task, or, for
        a task that nobody has begun, all workers of the pool. The thread of the next link is one.
    taken_at : str or None
        The line of source at which the lock was taken; None if it is no lock.

    Examples
    --------
    >>> print(DeadlockLink("t1", 1, "lock 'b'", "bank.py:8 in move", ("t2",), "bank.py:5 in move"))
    't1' waits for lock 'b' at bank.py:8 in move; 't2' took it at bank.py:5 in move
    """

    thread: str
    ident: int
    waits_for: str
    waits_at: str | None
    held_by: tuple[str, ...]
    taken_at: str | None

    def __str__(self) -> str:
        waits = f"{self.thread!r} waits for {self.waits_for}"
        if self.waits_at:
            waits += f" at {self.waits_at}"
        holders = ", ".join(map(repr, self.held_by))
        if self.taken_at:
            return f"{waits}; {holders} took it at {self.taken_at}"
        return f"{waits}; that depends on {holders}" if holders else waits


class DeadlockError(RaddleError, RuntimeError):
    """Threads wait for each other in a circle, and this wait would have closed it.

    Of the threads of a circle one gets the error: when it lets go of what it holds, as ``with``
    does by itself, the others go on. It is raised only where none of them could have gone on by
    itself, so never for a wait with a time limit; that somebody else might still have cancelled a
    task in a queue is not waited for. It is also raised for a lock whose holder has ended without
    releasing it.

    Attributes
    ----------
    cycle : tuple of DeadlockLink
        The circle. The first link is the thread that got the error; each waits for the thread of
        the next one, the last for the first.

    Notes
    -----
    The waits of `Lock`, `RLock`, `Thread` and of the futures and executors of raddle are known;
    those of other objects are not: a thread that waits for one of them counts as one that may go
    on.

    References
    ----------
    E. G. Coffman, M. Elphick, A. Shoshani, "System Deadlocks", ACM Computing Surveys 3 (2), 1971.

    Examples
    --------
    >>> from raddle import Lock
    >>> lock = Lock(name="a")
    >>> with lock:
    ...     try:
    ...         lock.acquire()
    ...     except DeadlockError as error:
    ...         print(error.cycle[0].waits_for)
    lock 'a'
    """

    cycle: tuple[DeadlockLink, ...]

    def __init__(self, message: str = "", cycle: tuple[DeadlockLink, ...] = ()) -> None:
        super().__init__(message, cycle)
        self.cycle = cycle

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def deadlock(
    links: list[tuple[int, str, str | None, list[int]]], frames: dict[int, FrameType]
) -> DeadlockError:
    """Make the error for a circle; its threads still wait, in these frames."""
    cycle = tuple(
        DeadlockLink(
            thread=thread_name(ident),
            ident=ident,
            waits_for=waits_for,
            waits_at=_place(frames.get(ident)),
            held_by=tuple(map(thread_name, held_by)),
            taken_at=_of_user(taken_at),
        )
        for ident, waits_for, taken_at, held_by in links
    )
    return DeadlockError(_message(cycle), cycle)


def _message(cycle: tuple[DeadlockLink, ...]) -> str:
    first = cycle[0]
    if len(cycle) == 1 and first.taken_at:
        return (
            f"{first.thread!r} waits for {first.waits_for}{_at(first.waits_at)}, but holds it "
            f"itself: it took it{_at(first.taken_at)}. An RLock can be taken again by the thread "
            "that holds it."
        )
    head = f"{len(cycle)} threads wait for each other, and none of them can go on:"
    if len(cycle) == 1:
        head = "a thread waits for what only it could bring about:"
    lines = [head, *(f"  {link}" for link in cycle)]
    if all(link.taken_at for link in cycle):
        advice = "Taking the locks in the same order everywhere prevents this."
    elif any(link.taken_at for link in cycle):
        advice = "Not waiting for a task or thread with a lock held that it needs prevents this."
    else:
        advice = (
            "More workers, or not waiting inside a task for another task of the same pool, "
            "prevents this."
        )
    also = " so that the others can go on" if len(cycle) > 1 else ""
    return "\n".join([*lines, f"{first.thread!r} gets this error{also}. {advice}"])


def holder_ended(what: str, taken_at: str | None) -> DeadlockError:
    """Make the error for a lock that nobody can release any more."""
    ident = threading.get_ident()
    place = _place(sys._getframe())
    taken_at = _of_user(taken_at)
    link = DeadlockLink(thread_name(ident), ident, what, place, (), taken_at)
    message = (
        f"{link.thread!r} waits for {what}{_at(place)}, but the thread that took it{_at(taken_at)} "
        "has ended without releasing it; `with` releases a lock whatever happens"
    )
    return DeadlockError(message, (link,))


def _of_user(place: str | None) -> str | None:
    """Leave out a place in raddle itself: no line of the user's called it."""
    return None if place is None or place.startswith(_PACKAGE) else place


def _at(place: str | None) -> str:
    return "" if place is None else f" at {place}"


def not_held(what: str, holder: int | None, is_held: bool) -> RuntimeError:
    """Make the error for the release of a lock that the calling thread does not hold."""
    if not is_held:
        return RuntimeError(f"cannot release {what}: it is not locked")
    owner = f"thread {thread_name(holder)!r}" if holder else "a thread that has ended"
    own = thread_name(threading.get_ident())
    return RuntimeError(f"cannot release {what} from thread {own!r}: {owner} holds it")


def thread_name(ident: int) -> str:
    """Give the name of a thread, without a lock: other threads may be stopped anywhere."""
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    return f"thread {ident}" if thread is None else str(thread.name)


def _place(frame: FrameType | None) -> str | None:
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return None
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
