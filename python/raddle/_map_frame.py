"""`map_frame`: a function over parts of a frame, in processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from ._frame_kinds import ArrowTable, kind_of
from ._frame_tasks import (
    PARTS_A_WORKER,
    bounds,
    check_count,
    check_function,
    executor_for,
    own_source,
    run,
)
from ._frame_texts import Kept, noted, opened, packed, received
from ._progress import Progress

if TYPE_CHECKING:
    from ._frame_kinds import Kind

#: For each worker so many tasks of groups, which are of any sizes: then one large one evens out.
GROUP_TASKS_A_WORKER = 8
#: Where an error keeps which of the groups of its task it is of.
_MARK = "_raddle_group"


def map_frame(
    fn: Callable[[Any], Any],
    frame: Any,
    *,
    chunks: int | None = None,
    by: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Progress = None,
) -> Any:
    """Call a function with parts of a frame, in processes, and put the results together.

    The result is that of calling `fn` with each part here, one after the other, and concatenating.
    Large columns travel by shared memory.

    Parameters
    ----------
    fn : callable
        Takes a part, which is a frame of the same type and its own, and returns a frame, a series,
        an array, a single value, or None.
    frame : pandas, polars, pyarrow or numpy object
        A DataFrame or Series of pandas or polars, a Table, or an array.
    chunks : int, optional
        In how many blocks of rows to split it, by default two for each worker; or, with `by`, in
        how many tasks at most the groups are sent, by default eight for each worker.
    by : optional
        Split it by key instead: what `groupby` of pandas takes, a name or a list of names of
        columns for polars and pyarrow, an array of keys for numpy. Groups come in the order of
        their keys (pandas, numpy) or of their first rows (polars, pyarrow).
    executor : concurrent.futures.Executor, optional
        Where to run; by default a `raddle.ProcessPoolExecutor` for this call.
    workers : int, optional
        How many processes that one has at most; by default `raddle.cpu_count()`.
    progress : bool or callable, optional
        As for `raddle.fetch`.

    Returns
    -------
    object
        Frames are concatenated, with their index; parts for which `fn` returned None are left out.
        Of single values a Series or an array is made, one for each part; with pandas and `by` its
        index is the keys. None if every part gave None. Without any group `fn` is not called, and
        the result is `frame` without its rows.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong type or value, or the results are of different kinds.
    Exception
        What `fn` raised first. Its traceback names the rows or the group, parts that have not begun
        are not run.

    Notes
    -----
    The workers of a call's own executor have numpy, pandas and pyarrow from the start: the first
    call that needs them has a process load them, as the environment is then, which stays until the
    program ends and takes some 100 MB. Otherwise these workers are like all others.

    Examples
    --------
    >>> import pandas, raddle
    >>> frame = pandas.DataFrame({"n": range(6)})
    >>> squares = raddle.map_frame(lambda part: part.assign(square=part.n**2), frame, workers=2)
    >>> squares.square.tolist()
    [0, 1, 4, 9, 16, 25]
    """
    check_function(fn, "map_frame")
    check_count("chunks", chunks)
    check_count("workers", workers)
    kind = kind_of(frame, "map_frame")
    rows = kind.rows(frame)
    with executor_for(executor, workers, fn, frame) as (pool, at_once):
        source = own_source(frame, pool)
        if by is not None:
            tasks = chunks or GROUP_TASKS_A_WORKER * at_once
            return _map_groups(fn, kind, source, by, tasks, pool, progress)
        places = bounds(rows, chunks or PARTS_A_WORKER * at_once)
        texts: list[Any] = []
        kept = Kept(rows)
        blocks = (kind.block(source, start, stop, kept) for start, stop in places)
        calls = ((fn, noted(block, texts)) for block in blocks)

        def name(number: int, _error: BaseException) -> str:
            start, stop = places[number]
            return f"rows {start} to {stop - 1}" if stop > start else "the frame without rows"

        results = run(pool, _call, calls, name, progress, len(places))

    return kept.joined(results, texts, kind.join)


def _map_groups(
    fn: Callable[[Any], Any],
    kind: Kind,
    frame: Any,
    by: Any,
    tasks: int,
    pool: Executor,
    progress: Progress,
) -> Any:
    keys: list[Hashable] = []
    groups: list[Any] = []
    pairs, labels = kind.groups(frame, by)
    for key, group in pairs:
        keys.append(key)
        groups.append(group)
    if not groups:
        return frame[:0]
    places = list(_weighed(groups, tasks))
    texts: list[Any] = []
    calls = (
        (fn, [noted(_packed(group), texts) for group in groups[first:end]]) for first, end in places
    )

    def name(number: int, error: BaseException) -> str:
        first, end = places[number]
        which = getattr(error, _MARK, 0 if end - first == 1 else None)
        if which is None:
            return f"one of the groups from {keys[first]!r} to {keys[end - 1]!r}"
        return f"the group {keys[first + which]!r}"

    results = run(pool, _call_each, calls, name, progress, len(places))
    found = [result for each in results for result in each]
    return kind.join([received(*each) for each in zip(found, texts, strict=True)], labels)


def _packed(group: Any) -> Any:
    rows = _size(group)
    return packed(group, kept_in=Kept(rows).rows(0, rows))


def _weighed(groups: list[Any], tasks: int) -> Iterator[tuple[int, int]]:
    """Give runs of groups with about as many rows each: a group goes where its middle row lies."""
    sizes = [max(1, _size(group)) for group in groups]
    share = sum(sizes) / min(tasks, len(groups))
    middles = (end - size / 2 for end, size in zip(itertools.accumulate(sizes), sizes, strict=True))
    first = 0
    for _, together in itertools.groupby(middles, key=lambda middle: middle // share):
        end = first + sum(1 for _ in together)
        yield first, end
        first = end


def _size(group: Any) -> int:
    return len(group.buffer) if isinstance(group, ArrowTable) else len(group)


def _call(fn: Callable[[Any], Any], part: Any) -> Any:
    """Run in a worker."""
    if isinstance(part, ArrowTable):
        result = fn(part.open())
        return ArrowTable(result) if type(result).__name__ == "Table" else result
    part, texts = opened(part)
    return packed(fn(part), texts)


def _call_each(fn: Callable[[Any], Any], parts: list[Any]) -> list[Any]:
    """Run in a worker."""
    results = []
    for number, part in enumerate(parts):
        try:
            results.append(_call(fn, part))
        except Exception as error:
            try:
                setattr(error, _MARK, number)
            except (AttributeError, TypeError):
                pass  # Then it tells among which groups it is.
            raise
    return results
