"""Starting the threads of pools, and seeing them off when the interpreter exits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from . import _native
from ._errors import RaddleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    #: What both kinds of pool offer to whoever ends them.
    Handle = _native.PoolHandle | _native.ProcessPoolHandle


def make_thread(body: Callable[[], None], name: str) -> threading.Thread:
    """Make a thread that the interpreter does not wait for by itself.

    `_at_exit` waits for it, unless it has been given up.
    """
    return threading.Thread(target=_run, args=(body,), name=name, daemon=True)


def _run(body: Callable[[], None]) -> None:
    # The interpreter has noted at the start how to treat the thread. Tasks, and the threads that
    # they start, see the ordinary thread that a worker of the standard library is.
    threading.current_thread()._daemonic = False  # type: ignore[attr-defined]
    body()


def wait_ended(pool: Handle) -> None:
    """Wait for the workers of a closed pool to leave, and for their threads to end."""
    if pool.is_forked:
        return
    if pool.is_current:
        raise RuntimeError(
            "cannot join current thread: a task or callback of this executor cannot wait "
            "for its end; call shutdown(wait=False)"
        )
    pool.wait_ended()
    for thread in pool.threads:
        thread.join()


def say(message: str) -> None:
    """Tell the person at the terminal; a program without one is told nothing."""
    if sys.stderr is not None:
        print(f"raddle: {message}", file=sys.stderr, flush=True)


def count(number: int, word: str) -> str:
    """Put a number before its word.

    >>> count(1, "task"), count(2, "task")
    ('1 task', '2 tasks')
    """
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def wait_or_forsake(pool: Handle) -> None:
    """Wait for a pool when nobody is left to be told of a deadlock but the person at the terminal.

    A task may wait for a lock that this thread has kept: then the pool's tasks never end.
    """
    try:
        wait_ended(pool)
    except RaddleError as deadlock:
        say(f"left without waiting for tasks that could never end: {deadlock}")
        pool.forsake()


def end_at_once(pools: list[_native.ProcessPoolHandle]) -> None:
    """Cancel what has not begun, end the workers, and tell what that was."""
    cancelled = sum(pool.close(True) for pool in pools)
    ended = sum(pool.statistics()[1] for pool in pools)
    for pool in pools:
        pool.kill_workers()
    if cancelled or ended:
        say(
            f"interrupted: cancelled {count(cancelled, 'task')} not begun, "
            f"ended {ended} running with their worker processes"
        )
    for pool in pools:
        wait_ended(pool)


def wait_after_interrupt(pools: list[Handle]) -> None:
    """Cancel what has not begun, and end the workers of processes.

    Threads are waited for, unless a further Ctrl-C gives them up.
    """
    end_at_once([pool for pool in pools if isinstance(pool, _native.ProcessPoolHandle)])
    pools = [pool for pool in pools if not isinstance(pool, _native.ProcessPoolHandle)]
    try:
        cancelled = sum(pool.close(True) for pool in pools)
        running = sum(pool.statistics()[1] for pool in pools)
        if cancelled or running:
            say(
                f"interrupted: cancelled {count(cancelled, 'task')} not begun; "
                f"waiting for {running} running; Ctrl-C again leaves without waiting"
            )
        for pool in pools:
            wait_or_forsake(pool)
    except KeyboardInterrupt:
        leave(pools)


def leave(pools: list[Handle]) -> None:
    """Give up all that still runs."""
    cancelled = sum(pool.close(True) for pool in pools)
    running = sum(pool.statistics()[1] for pool in pools)
    for pool in pools:
        pool.forsake()
    also = f", cancelled {count(cancelled, 'task')} not begun" if cancelled else ""
    say(f"interrupted again: left without waiting for {count(running, 'running task')}{also}")


def _at_exit() -> None:
    _native.note_exit()
    pools: list[Handle] = [*_native.live_pools(), *_native.live_process_pools()]
    for pool in pools:
        pool.close(False)
    is_interrupted = issubclass(getattr(sys, "last_type", None) or Exception, KeyboardInterrupt)
    if is_interrupted:
        # What a Ctrl-C has ended does not go on in other processes.
        end_at_once(_native.live_process_pools())
    try:
        for pool in pools:
            wait_or_forsake(pool)
    except KeyboardInterrupt:
        if is_interrupted:
            leave(pools)
        else:
            wait_after_interrupt(pools)


# As the standard library does: before the interpreter waits for other threads, and while everything
# still works.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
