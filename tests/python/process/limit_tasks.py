"""What the tests of limits submit: tasks that hold memory, and tasks that look at their share."""

from __future__ import annotations

import os
import time
from typing import Any

#: What a worker keeps between tasks.
kept: list[bytearray] = []


def hold(size: int) -> int:
    """Hold so much memory until somebody ends this process."""
    block = bytearray(size)
    while True:
        time.sleep(1)
        block[0] = 1


def resident() -> int:
    """How many bytes of memory this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def hold_a_while(size: int) -> int:
    """Hold so much memory for several looks."""
    block = bytearray(size)
    time.sleep(0.2)
    return len(block)


def keep(size: int) -> int:
    kept.append(bytearray(size))
    return os.getpid()


def map_shared(size: int) -> int:
    """Touch so much memory that belongs to a file, or to whoever maps it too."""
    import mmap

    with mmap.mmap(-1, size) as shared:
        for place in range(0, size, 4096):
            shared[place] = 1
        time.sleep(0.2)
    return size


def share() -> tuple[int, str, int]:
    """What this process may use: by raddle, by the variable of OpenMP, by affinity."""
    import raddle

    return raddle.cpu_count(), os.environ["OMP_NUM_THREADS"], len(os.sched_getaffinity(0))


def default_workers() -> tuple[int, int]:
    import raddle

    with raddle.ProcessPoolExecutor() as processes, raddle.ThreadPoolExecutor() as threads:
        return processes._max_workers, threads._max_workers


def blas_threads(_item: Any = None) -> list[int]:
    """How many threads each library of this process that has some computes with."""
    import numpy
    import threadpoolctl

    numpy.ones((64, 64)) @ numpy.ones((64, 64))
    return [each["num_threads"] for each in threadpoolctl.threadpool_info()]


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def nest(workers: int, count: int) -> list[int]:
    """Compute in a pool of this task's own."""
    import warnings

    import raddle

    warnings.simplefilter("ignore", raddle.OversubscriptionWarning)
    with raddle.ProcessPoolExecutor(workers) as pool:
        return list(pool.map(abs, range(-count, 0)))


def nest_too_many() -> int:
    import raddle

    with raddle.ProcessPoolExecutor(raddle.cpu_count() + 1) as pool:
        return pool.submit(os.getpid).result()


def template_of_own() -> tuple[int, int]:
    """The process that starts workers for the program, and that for a pool of this task's."""
    import raddle

    with raddle.ProcessPoolExecutor(1) as pool:
        return os.getppid(), pool.submit(os.getppid).result()


#: A pool that a task leaves open.
pools: list[Any] = []


def keep_a_pool() -> tuple[int, str]:
    import raddle

    pools.append(raddle.ProcessPoolExecutor(1))
    template = pools[0].submit(os.getppid).result()
    with open(f"/proc/{template}/cmdline") as file:
        return template, file.read()
