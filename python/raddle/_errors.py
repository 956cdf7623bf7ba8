"""The exceptions: the standard library's own, and those that only raddle raises."""

from __future__ import annotations

import builtins
import sys
from concurrent.futures import BrokenExecutor, CancelledError, InvalidStateError, TimeoutError

from ._raddle_error import RaddleError

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures.thread import BrokenThreadPool

__all__ = [
    "BrokenExecutor",
    "BrokenThreadPool",
    "CancelledError",
    "InvalidStateError",
    "KillUnsupported",
    "RaddleError",
    "TaskTimeout",
    "TimeoutError",
]


def __getattr__(name: str) -> object:
    # Loaded when somebody needs it: a pool of processes does not.
    if name == "BrokenThreadPool":
        from concurrent.futures.thread import BrokenThreadPool

        return BrokenThreadPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class KillUnsupported(RaddleError, RuntimeError):
    """A running task cannot be stopped, because it runs on a thread."""


if sys.version_info >= (3, 11):
    WaitTimeout = builtins.TimeoutError
else:

    class WaitTimeout(TimeoutError, builtins.TimeoutError):
        """Both exceptions for a timeout, which are one from Python 3.11 on."""


class TaskTimeout(RaddleError, WaitTimeout):
    """A task ran longer than its ``task_timeout``.

    It is the future's exception. ``future.result(timeout=...)`` raises the plain `TimeoutError`
    when the caller does not want to wait any longer, while the task goes on.

    Examples
    --------
    >>> import threading
    >>> from raddle import ThreadPoolExecutor
    >>> stuck = threading.Event()
    >>> with ThreadPoolExecutor(max_workers=1) as executor:
    ...     future = executor.options(task_timeout=0.01, label="stuck").submit(stuck.wait)
    ...     print(type(future.exception()).__name__)
    TaskTimeout
    >>> _ = stuck.set()
    """
