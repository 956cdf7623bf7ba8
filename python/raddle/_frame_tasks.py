"""Parts of a frame as tasks: an executor for a call, errors that name the part, and progress."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any

from ._futures import Future, as_completed
from ._progress import Progress, report

#: For each worker so many parts: they end at about the same time though some take longer.
PARTS_A_WORKER = 2


@contextlib.contextmanager
def executor_for(
    executor: Executor | None, workers: int | None, *sent: object
) -> Iterator[tuple[Executor, int]]:
    """Give the executor of the caller, or one of processes for this call, and its workers.

    What is sent there tells which libraries the workers of that one need.
    """
    from ._cores import cpu_count

    if executor is None:
        from ._libraries import OwnPool, needed_for

        with OwnPool(workers, needed_for(*sent)) as own:
            yield own, own._max_workers
        return
    if workers is not None:
        raise ValueError("workers= is for the executor that is made when none is passed")
    if not isinstance(executor, Executor):
        raise TypeError(f"executor= must be an executor, not {executor!r}")
    inner: Any = getattr(executor, "_executor", executor)
    yield executor, getattr(inner, "_max_workers", None) or cpu_count()


def own_source(frame: Any, executor: Executor) -> Any:
    """Return what parts are taken of.

    What `fn` writes into its part is its own. Where parts are not pickled on their way, that takes
    a copy: in threads, and in every executor that is not known to be one of processes.
    """
    inner = type(getattr(executor, "_executor", executor))
    is_of_processes = any(base.__name__ == "ProcessPoolExecutor" for base in inner.__mro__)
    return frame if is_of_processes or not hasattr(frame, "copy") else frame.copy()


def check_function(fn: object, function: str) -> None:
    """Refuse what cannot be called before anything is sent."""
    if not callable(fn):
        raise TypeError(f"{function}() takes a function first, not {fn!r}")


def check_count(name: str, count: object) -> None:
    """Refuse what is no number of things."""
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name}= must be an int or None, not {count!r}")
    if count < 1:
        raise ValueError(f"{name}= must be >= 1, not {count}")


def bounds(rows: int, parts: int) -> list[tuple[int, int]]:
    """Return where each of so many parts begins and ends; no part is empty if there are rows."""
    parts = max(1, min(parts, rows))
    edges = [rows * number // parts for number in range(parts + 1)]
    return list(itertools.pairwise(edges))


def run(
    executor: Executor,
    task: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
    name_of: Callable[[int, BaseException], str],
    progress: Progress,
    total: int,
) -> list[Any]:
    """Run a task for each part; the results in order.

    After the first error nothing that has not begun is run; the error says by `name_of` which part
    it is of.
    """
    told = report(progress, total, "part")
    futures: dict[Future[Any], int] = {}
    try:
        for call in calls:
            futures[executor.submit(task, *call)] = len(futures)  # type: ignore[index]
        for done, future in enumerate(as_completed(futures), 1):
            error = future.exception()
            if error is not None:
                _name(error, name_of(futures[future], error))
                raise error
            if told is not None:
                told(done)
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        # The error has this frame, and this frame would have the error.
        error = future = None  # type: ignore[assignment]
        if told is not None:
            told.close()


def _name(error: BaseException, part: str) -> None:
    """Have an error say of which part it is."""
    note = f"raised by the function in {part}"
    cause: Any = error.__cause__
    if isinstance(getattr(cause, "tb", None), str):
        cause.tb = f"\n{note}{cause.tb}"
    if hasattr(error, "add_note"):
        error.add_note(note)
