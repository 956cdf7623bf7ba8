"""Under which subject of the reference each public name stands."""

from collections.abc import Iterable

#: The subjects, in the order of the reference. A name of a future version may stand here already.
GROUPS = {
    "executors": """ThreadPoolExecutor ProcessPoolExecutor Future wait as_completed FIRST_COMPLETED
        FIRST_EXCEPTION ALL_COMPLETED ExecutorView ProcessExecutorView Statistics cpu_count""",
    "map": "map MapIterator advise Advice",
    "data": "map_frame apply share Shared empty asarray",
    "pages": """fetch get fetch_iter FetchIterator fetch_async AsyncFetch download Download Request
        Response Headers Timeout""",
    "threads": "Thread Lock RLock Counter LockStatistics",
    "seeing": "timeline Timeline",
    "errors": """RaddleError TaskTimeout TimeoutError CancelledError InvalidStateError
        BrokenExecutor BrokenThreadPool BrokenProcessPool WorkerDied TaskKilled MemoryLimit
        UnpicklingFailed CannotTravel DeadlockError DeadlockLink OversubscriptionWarning""",
    "fetching": """FetchError FetchTimeout ConnectionFailed DNSFailed TLSFailed HTTPStatusError
        TooLarge TooManyRedirects RobotsDenied InvalidRequest InvalidURL InvalidResponse
        ChecksumMismatch FileFailed FetchCancelled""",
}


def documented(public: Iterable[str]) -> list[str]:
    """Return the public names that the reference has to have: all but those of the module."""
    return [name for name in public if not name.startswith("__")]


def groups(public: Iterable[str]) -> dict[str, list[str]]:
    """Sort public names by subject; those without one come under ``other``."""
    there = set(documented(public))
    sorted_in = {
        group: [name for name in names.split() if name in there] for group, names in GROUPS.items()
    }
    placed = {name for names in sorted_in.values() for name in names}
    return {**sorted_in, "other": sorted(there - placed)}
