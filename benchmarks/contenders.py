"""The pools under measurement behind one face, each used as its own documentation says."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.pool import ThreadPool
from types import ModuleType
from typing import Any

from benchmarks.model import FUTURES, RADDLE, THREAD_POOL

Task = Callable[[Any], Any]

WARM_UP_SECONDS = 60.0


class Contender(ABC):
    """A pool of threads; each method runs `fn` on every item and gives back the results.

    What a method gives back may be lazy where reading the results is no part of the cost.
    """

    @abstractmethod
    def map(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        """Run the pool's own ``map`` and collect a list."""

    @abstractmethod
    def submit_and_wait(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        """Submit all, then wait until all are done."""

    @abstractmethod
    def as_completed(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        """Submit all, read each result in the order of completion."""

    @abstractmethod
    def one_by_one(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        """Submit one, wait for its result, submit the next."""

    @abstractmethod
    def close(self) -> None:
        """End the threads."""

    def warm_up(self, workers: int) -> None:
        """Have every thread of the pool started and used once."""
        barrier = threading.Barrier(workers, timeout=WARM_UP_SECONDS)
        arrived = self.submit_and_wait(lambda _: barrier.wait(), range(workers))
        assert sorted(arrived) == list(range(workers))


class FuturesPool(Contender):
    """``ThreadPoolExecutor`` of a module with the interface of ``concurrent.futures``."""

    def __init__(self, module: ModuleType, workers: int) -> None:
        self._wait = module.wait
        self._as_completed = module.as_completed
        self._executor = module.ThreadPoolExecutor(workers)

    def map(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        return list(self._executor.map(fn, items))

    def submit_and_wait(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        submit = self._executor.submit
        futures = [submit(fn, item) for item in items]
        self._wait(futures)
        return (future.result() for future in futures)

    def as_completed(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        submit = self._executor.submit
        futures = [submit(fn, item) for item in items]
        return [future.result() for future in self._as_completed(futures)]

    def one_by_one(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        submit = self._executor.submit
        return [submit(fn, item).result() for item in items]

    def close(self) -> None:
        self._executor.shutdown()


class ThreadPoolPool(Contender):
    """``multiprocessing.pool.ThreadPool``, whose ``map`` hands out chunks of items."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPool(workers)

    def map(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        return self._pool.map(fn, items)

    def submit_and_wait(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        submit = self._pool.apply_async
        results = [submit(fn, (item,)) for item in items]
        for result in results:
            result.wait()
        return (result.get() for result in results)

    def as_completed(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        return list(self._pool.imap_unordered(fn, items))

    def one_by_one(self, fn: Task, items: Iterable[Any]) -> Iterable[Any]:
        submit = self._pool.apply_async
        return [submit(fn, (item,)).get() for item in items]

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


def openers(subject: ModuleType) -> dict[str, Callable[[int], Contender]]:
    """Return for each contender what opens it with a number of workers."""
    import concurrent.futures

    return {
        RADDLE: lambda workers: FuturesPool(subject, workers),
        FUTURES: lambda workers: FuturesPool(concurrent.futures, workers),
        THREAD_POOL: ThreadPoolPool,
    }


@contextmanager
def warm_pools(subject: ModuleType, workers: int) -> Iterator[dict[str, Contender]]:
    """Open every contender, warmed up; close them all at the end."""
    with ExitStack() as stack:
        pools = {}
        for name, open_pool in openers(subject).items():
            pools[name] = open_pool(workers)
            stack.callback(pools[name].close)
            pools[name].warm_up(workers)
        yield pools
