"""A parallel executor for Python, its engine written in Rust.

Change one import and keep the rest of the program::

    from raddle import ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait

Names, signatures and semantics are those of :mod:`concurrent.futures`; what differs is the cost of
a task, and what the executors can do besides: ``executor.options(...)`` for time limits, retries
and labels, ``executor.statistics()`` for what happened.

Importing the package starts no thread and no process, and loads nothing until a name is used.

Examples
--------
>>> from raddle import ThreadPoolExecutor
>>> with ThreadPoolExecutor(max_workers=3) as executor:
...     list(executor.map(len, ["a", "bb", "ccc"]))
[1, 2, 3]
"""

from __future__ import annotations

# Here, where one thread alone is likely to be: of two that import it first, the interpreter (3.13)
# may show one a module that is still empty, and ours are loaded by whichever thread first uses a
# name.
import collections.abc as _collections_abc  # noqa: F401
from importlib import import_module

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._advise import Advice, advise
    from ._apply import apply
    from ._arrays import asarray, empty
    from ._budget import OversubscriptionWarning
    from ._cores import cpu_count
    from ._deadlock import DeadlockError, DeadlockLink
    from ._download import Download, download
    from ._errors import (
        BrokenExecutor,
        BrokenThreadPool,
        CancelledError,
        InvalidStateError,
        TaskTimeout,
        TimeoutError,
    )
    from ._fetch import Response, fetch, get
    from ._fetch_async import AsyncFetch, fetch_async
    from ._fetch_errors import (
        ChecksumMismatch,
        ConnectionFailed,
        DNSFailed,
        FetchCancelled,
        FetchError,
        FetchTimeout,
        FileFailed,
        HTTPStatusError,
        InvalidRequest,
        InvalidResponse,
        InvalidURL,
        RobotsDenied,
        TLSFailed,
        TooLarge,
        TooManyRedirects,
    )
    from ._fetch_iter import FetchIterator, fetch_iter
    from ._futures import (
        ALL_COMPLETED,
        FIRST_COMPLETED,
        FIRST_EXCEPTION,
        Future,
        as_completed,
        wait,
    )
    from ._headers import Headers
    from ._locks import Counter, Lock, RLock
    from ._map import map
    from ._map_frame import map_frame
    from ._map_iterator import MapIterator
    from ._native import __version__
    from ._process_errors import (
        BrokenProcessPool,
        MemoryLimit,
        TaskKilled,
        UnpicklingFailed,
        WorkerDied,
    )
    from ._processes import ProcessExecutorView, ProcessPoolExecutor
    from ._raddle_error import RaddleError
    from ._request import Request, Timeout
    from ._share import Shared, share
    from ._statistics import LockStatistics, Statistics
    from ._thread import Thread
    from ._threads import ExecutorView, ThreadPoolExecutor
    from ._timeline import Timeline, timeline
    from ._travel import CannotTravel

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "Advice",
    "AsyncFetch",
    "BrokenExecutor",
    "BrokenProcessPool",
    "BrokenThreadPool",
    "CancelledError",
    "CannotTravel",
    "ChecksumMismatch",
    "ConnectionFailed",
    "Counter",
    "DNSFailed",
    "DeadlockError",
    "DeadlockLink",
    "Download",
    "ExecutorView",
    "FetchCancelled",
    "FetchError",
    "FetchIterator",
    "FetchTimeout",
    "FileFailed",
    "Future",
    "HTTPStatusError",
    "Headers",
    "InvalidRequest",
    "InvalidResponse",
    "InvalidStateError",
    "InvalidURL",
    "Lock",
    "LockStatistics",
    "MapIterator",
    "MemoryLimit",
    "OversubscriptionWarning",
    "ProcessExecutorView",
    "ProcessPoolExecutor",
    "RLock",
    "RaddleError",
    "Request",
    "Response",
    "RobotsDenied",
    "Shared",
    "Statistics",
    "TLSFailed",
    "TaskKilled",
    "TaskTimeout",
    "Thread",
    "ThreadPoolExecutor",
    "Timeline",
    "Timeout",
    "TimeoutError",
    "TooLarge",
    "TooManyRedirects",
    "UnpicklingFailed",
    "WorkerDied",
    "__version__",
    "advise",
    "apply",
    "as_completed",
    "asarray",
    "cpu_count",
    "download",
    "empty",
    "fetch",
    "fetch_async",
    "fetch_iter",
    "get",
    "map",
    "map_frame",
    "share",
    "timeline",
    "wait",
]

#: Where each public name lives. The modules load `concurrent.futures` and `logging`, which take
#: longer than all the rest.
_HOMES = {
    "_budget": ("OversubscriptionWarning",),
    "_advise": ("Advice", "advise"),
    "_apply": ("apply",),
    "_arrays": ("asarray", "empty"),
    "_cores": ("cpu_count",),
    "_download": ("Download", "download"),
    "_fetch": ("Response", "fetch", "get"),
    "_fetch_async": ("AsyncFetch", "fetch_async"),
    "_fetch_errors": (
        "ChecksumMismatch",
        "ConnectionFailed",
        "DNSFailed",
        "FetchCancelled",
        "FetchError",
        "FetchTimeout",
        "FileFailed",
        "HTTPStatusError",
        "InvalidRequest",
        "InvalidResponse",
        "InvalidURL",
        "RobotsDenied",
        "TLSFailed",
        "TooLarge",
        "TooManyRedirects",
    ),
    "_fetch_iter": ("FetchIterator", "fetch_iter"),
    "_headers": ("Headers",),
    "_process_errors": (
        "BrokenProcessPool",
        "MemoryLimit",
        "TaskKilled",
        "UnpicklingFailed",
        "WorkerDied",
    ),
    "_processes": ("ProcessExecutorView", "ProcessPoolExecutor"),
    "_raddle_error": ("RaddleError",),
    "_request": ("Request", "Timeout"),
    "_share": ("Shared", "share"),
    "_deadlock": ("DeadlockError", "DeadlockLink"),
    "_locks": ("Counter", "Lock", "RLock"),
    "_map": ("map",),
    "_map_iterator": ("MapIterator",),
    "_map_frame": ("map_frame",),
    "_statistics": ("LockStatistics", "Statistics"),
    "_thread": ("Thread",),
    "_errors": (
        "BrokenExecutor",
        "BrokenThreadPool",
        "CancelledError",
        "InvalidStateError",
        "TaskTimeout",
        "TimeoutError",
    ),
    "_futures": (
        "ALL_COMPLETED",
        "FIRST_COMPLETED",
        "FIRST_EXCEPTION",
        "Future",
        "as_completed",
        "wait",
    ),
    "_native": ("__version__",),
    "_threads": ("ExecutorView", "ThreadPoolExecutor"),
    "_timeline": ("Timeline", "timeline"),
    "_travel": ("CannotTravel",),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
