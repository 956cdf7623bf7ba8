"""The process pools under measurement behind one face, each used as its own documentation says."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from benchmarks.family import one_core_until
from benchmarks.model import FUTURES, RADDLE

POOL = "multiprocessing.Pool"
LOKY = "loky"
JOBLIB = "joblib"
MPIRE = "mpire"
NO_SPIN = "raddle without spinning"
PEERS = (LOKY, JOBLIB, MPIRE)

Task = Callable[[Any], Any]
Chunk = int | str | None
#: What each contender's chunks are tried with; its own choice is added where it has one.
CHUNKS = (100, 1_000, 10_000)


class PeersMissing(Exception):
    """Some peers are not installed; the text names them and says how to get them."""


def check() -> None:
    """Raise `PeersMissing` unless every peer can be imported."""
    missing = []
    for name in PEERS:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise PeersMissing(
            f"not installed: {', '.join(missing)}; `python dev.py bench -- processes` installs them"
        )


class ProcessPool(ABC):
    """A pool of processes; each method runs `fn` on every item and gives back the results."""

    #: The sizes of chunks that the pool is tried with.
    chunks: tuple[Chunk, ...] = CHUNKS

    @abstractmethod
    def map(self, fn: Task, items: Sequence[Any], chunk: Chunk = 1) -> list[Any]:
        """Run the pool's own ``map``, with so many items a chunk."""

    def submit_and_wait(self, fn: Task, items: Sequence[Any]) -> list[Any]:
        """Submit all, wait until all are done, read the results."""
        raise NotImplementedError(f"{type(self).__name__} cannot submit")

    def one_by_one(self, fn: Task, items: Sequence[Any]) -> list[Any]:
        """Submit one, wait for its result, submit the next."""
        raise NotImplementedError(f"{type(self).__name__} cannot submit")

    @abstractmethod
    def close(self) -> None:
        """End the processes."""


class FuturesPool(ProcessPool):
    """``ProcessPoolExecutor`` of a module with the interface of ``concurrent.futures``."""

    def __init__(self, module: ModuleType, workers: int, **options: Any) -> None:
        self._wait = module.wait
        self._executor = module.ProcessPoolExecutor(workers, **options)

    def map(self, fn: Task, items: Sequence[Any], chunk: Chunk = 1) -> list[Any]:
        return list(self._executor.map(fn, items, chunksize=chunk))

    def submit_and_wait(self, fn: Task, items: Sequence[Any]) -> list[Any]:
        submit = self._executor.submit
        futures = [submit(fn, item) for item in items]
        self._wait(futures)
        return [future.result() for future in futures]

    def one_by_one(self, fn: Task, items: Sequence[Any]) -> list[Any]:
        submit = self._executor.submit
        return [submit(fn, item).result() for item in items]

    def close(self) -> None:
        self._executor.shutdown()


class MultiprocessingPool(ProcessPool):
    """``multiprocessing.Pool`` with forked workers; without a size it chooses one."""

    chunks = (None, *CHUNKS)

    def __init__(self, workers: int) -> None:
        import multiprocessing

        self._pool = multiprocessing.get_context("fork").Pool(workers)

    def map(self, fn: Task, items: Sequence[Any], chunk: Any = 1) -> list[Any]:
        return self._pool.map(fn, items, chunksize=chunk)

    def submit_and_wait(self, fn: Task, items: Sequence[Any]) -> list[Any]:
        submit = self._pool.apply_async
        results = [submit(fn, (item,)) for item in items]
        for result in results:
            result.wait()
        return [result.get() for result in results]

    def one_by_one(self, fn: Task, items: Sequence[Any]) -> list[Any]:
        submit = self._pool.apply_async
        return [submit(fn, (item,)).get() for item in items]

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class JoblibPool(ProcessPool):
    """``joblib.Parallel`` in a ``with`` block, which keeps its workers; it has no ``submit``."""

    chunks = ("auto", *CHUNKS)

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._parallels: dict[Chunk, Any] = {}

    def map(self, fn: Task, items: Sequence[Any], chunk: Chunk = 1) -> list[Any]:
        from joblib import delayed

        call = delayed(fn)
        return list(self._parallel(chunk)(call(item) for item in items))

    def _parallel(self, chunk: Chunk) -> Any:
        """Return the one with this size of a batch; all of them share the workers."""
        if chunk not in self._parallels:
            import joblib

            parallel = joblib.Parallel(n_jobs=self._workers, batch_size=chunk)
            self._parallels[chunk] = parallel.__enter__()
        return self._parallels[chunk]

    def close(self) -> None:
        for parallel in self._parallels.values():
            parallel.__exit__(None, None, None)


class MpirePool(ProcessPool):
    """``mpire.WorkerPool`` with forked workers that are kept; without a size it chooses one."""

    chunks = (None, *CHUNKS)

    def __init__(self, workers: int) -> None:
        from mpire import WorkerPool

        self._pool = WorkerPool(n_jobs=workers, start_method="fork", keep_alive=True)

    def map(self, fn: Task, items: Sequence[Any], chunk: Any = 1) -> list[Any]:
        from mpire.utils import make_single_arguments

        arguments = make_single_arguments(items, generator=False)
        return list(self._pool.map(fn, arguments, chunk_size=chunk))

    def submit_and_wait(self, fn: Task, items: Sequence[Any]) -> list[Any]:
        submit = self._pool.apply_async
        results = [submit(fn, (item,)) for item in items]
        for result in results:
            result.wait()
        return [result.get() for result in results]

    def one_by_one(self, fn: Task, items: Sequence[Any]) -> list[Any]:
        submit = self._pool.apply_async
        return [submit(fn, (item,)).get() for item in items]

    def close(self) -> None:
        self._pool.stop_and_join()


def forked(workers: int) -> ProcessPool:
    """Open the standard library's executor with forked workers."""
    import concurrent.futures
    import multiprocessing

    context = multiprocessing.get_context("fork")
    return FuturesPool(concurrent.futures, workers, mp_context=context)


def without_spinning(subject: ModuleType, workers: int) -> ProcessPool:
    """Open raddle's executor such that nobody in it spins before going to sleep.

    A process of raddle looks once, when it is about to spin for the first time, whether it has a
    core to spare. Here that look comes while all have one core between them.
    """
    with one_core_until():
        pool = FuturesPool(subject, workers)
        for _ in range(10 * workers):
            pool.one_by_one(abs, range(-1, workers))
    return pool


def openers(subject: ModuleType) -> dict[str, Callable[[int], ProcessPool]]:
    """Return for each contender what opens it with a number of workers."""
    return {
        RADDLE: lambda workers: FuturesPool(subject, workers),
        NO_SPIN: lambda workers: without_spinning(subject, workers),
        FUTURES: forked,
        POOL: MultiprocessingPool,
        LOKY: lambda workers: FuturesPool(importlib.import_module("loky"), workers),
        JOBLIB: JoblibPool,
        MPIRE: MpirePool,
    }
