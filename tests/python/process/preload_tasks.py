"""What the tests of templates with libraries have workers do; it loads none of them itself."""

from __future__ import annotations

import os
import sys
from typing import Any

NAMES = ("numpy", "pandas", "polars", "pyarrow")


def loaded() -> tuple[int, list[str]]:
    """Whose child this worker is, and what it has loaded."""
    return os.getppid(), [name for name in NAMES if name in sys.modules]


def is_one_of(template: int) -> bool:
    return os.getppid() == template and "pandas" in sys.modules


def openblas_threads() -> list[int]:
    """How many threads the library computes with, and how many come to be there."""
    import limit_tasks
    import numpy

    counts = limit_tasks.blas_threads()
    numpy.ones((600, 600)) @ numpy.ones((600, 600))
    return [*counts, len(os.listdir("/proc/self/task"))]


def arrow_threads() -> tuple[int, int]:
    """How many threads pyarrow has, and what it finds with them."""
    import pyarrow

    table = pyarrow.table({"n": list(range(10_000)), "key": [0, 1] * 5_000})
    groups = table.group_by("key", use_threads=True).aggregate([("n", "count")])
    return pyarrow.cpu_count(), groups.num_rows


def draw() -> list[float]:
    import numpy

    return [float(each) for each in numpy.random.random(4)]


def page_faults(pages: int, rounds: int) -> int:
    """How many pages the system gives for arrays that are made and dropped, some at a time."""
    import resource

    import numpy

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        values = [numpy.ones(pages * 512 // 8) for _ in range(8)]
        del values
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def start_of_worker() -> dict[str, Any]:
    """What a task may find that the worker has got from somewhere."""
    import logging
    import signal
    import threading
    import warnings

    import numpy
    import pandas  # noqa: F401
    import record_tasks

    return {
        "name": threading.current_thread().name,
        "is_main": threading.current_thread() is threading.main_thread(),
        "environ": {k: v for k, v in os.environ.items() if k != "PWD"},
        "path": sys.path,
        "argv": sys.argv,
        "file": numpy.__file__,
        "filters": record_tasks.filters(),
        "levels": record_tasks.levels(),
        "handlers": len(logging.root.handlers),
        "shows": warnings.showwarning.__module__,
        "main": sorted(vars(sys.modules["__main__"])),
        "open": sorted(map(_kind, os.listdir("/proc/self/fd"))),
        "alarm": signal.getsignal(signal.SIGALRM),
    }


def _kind(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").partition(":")[0]
    except OSError:
        return ""  # That of the look itself.


def nested() -> tuple[list[str], list[int]]:
    """What workers of a pool of this worker's have loaded, and what a frame gives there."""
    import raddle
    from raddle._libraries import OwnPool

    with OwnPool(2, ("numpy", "pandas")) as pool:
        _, names = pool.submit(loaded).result()
    with raddle.ProcessPoolExecutor(1) as pool:
        return names, pool.submit(openblas_threads).result()


def templates(part: Any) -> Any:
    return part.assign(template=os.getppid())
