"""`apply`: a function of pandas' `apply`, element by element or row by row, in processes.

The workers call the function; pandas itself, here, makes the result of what it returned: it is
given a function that hands out the returned values, in the order in which pandas asks for them. So
the result is that of `apply` in every detail.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from ._frame_kinds import in_one_piece
from ._frame_tasks import (
    PARTS_A_WORKER,
    bounds,
    check_count,
    check_function,
    executor_for,
    own_source,
    run,
)
from ._progress import Progress


def apply(
    fn: Callable[..., Any],
    data: Any,
    *,
    axis: Any = 0,
    result_type: Any = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Progress = None,
) -> Any:
    """Apply a function to a Series or DataFrame as pandas does, in processes.

    Parameters
    ----------
    fn : callable
        Called with each element of a Series; with each column of a DataFrame, or, with ``axis=1``,
        with each row.
    data : pandas.Series or pandas.DataFrame
        What it is applied to.
    axis : {0, "index", 1, "columns"}
        As for `pandas.DataFrame.apply`.
    result_type : {"expand", "reduce", None}
        As for `pandas.DataFrame.apply`.
    args : tuple
        Further arguments for `fn`.
    kwargs : dict, optional
        Keyword arguments for `fn`. Those that `apply` of pandas takes for itself, such as
        ``by_row``, mean what they mean there, and pandas then does it all, here.
    executor, workers, progress
        As for `raddle.map_frame`.

    Returns
    -------
    pandas.Series or pandas.DataFrame
        What ``data.apply(fn, ...)`` returns.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong type or value.
    Exception
        What `fn` raised first; its traceback names the rows or columns.

    Notes
    -----
    Where pandas does not call `fn` once for each element, it does all of it, here: for functions of
    numpy, which take a whole column, for names of methods, and for empty data.

    Examples
    --------
    >>> import pandas, raddle
    >>> numbers = pandas.Series([1, 2, 3])
    >>> raddle.apply(lambda n: n * n, numbers, workers=2).tolist()
    [1, 4, 9]
    """
    check_count("workers", workers)
    kind = _kind_of(data)
    keywords: dict[str, Any] = {"args": tuple(args), **(kwargs or {})}
    if kind == "DataFrame":
        is_by_row = axis in (1, "columns")
        if axis not in (0, 1, "index", "columns"):
            raise ValueError(f"axis= must be 0, 'index', 1 or 'columns', not {axis!r}")
        if result_type not in (None, "expand", "reduce"):
            raise ValueError(
                f"result_type= must be 'expand', 'reduce' or None, not {result_type!r}"
            )
        keywords = {"axis": axis, "result_type": result_type, **keywords}
    else:
        is_by_row = True
    if _is_for_pandas(fn, data, keywords):
        return data.apply(fn, **keywords)
    check_function(fn, "apply")
    values = _call_in_workers(fn, data, is_by_row, keywords, executor, workers, progress)
    return _put_together(values, data, kind, is_by_row, keywords)


def _kind_of(data: object) -> str:
    for base in type(data).__mro__:
        if base.__module__.partition(".")[0] == "pandas" and base.__name__ in (
            "Series",
            "DataFrame",
        ):
            return base.__name__
    raise TypeError(
        f"apply() takes a Series or DataFrame of pandas, not {type(data).__name__}; map_frame() "
        "takes frames of other libraries"
    )


#: Keywords that `apply` of pandas takes for itself, and which make it call a function otherwise.
_OF_PANDAS = frozenset({"by_row", "convert_dtype", "engine", "engine_kwargs", "raw"})


def _is_for_pandas(fn: object, data: Any, keywords: dict[str, Any]) -> bool:
    """Tell whether pandas does something else than to call the function for each element."""
    is_asked_for = not _OF_PANDAS.isdisjoint(keywords)
    return is_asked_for or data.size == 0 or not callable(fn) or type(fn).__name__ == "ufunc"


def _call_in_workers(
    fn: Callable[..., Any],
    data: Any,
    is_by_row: bool,
    keywords: dict[str, Any],
    executor: Executor | None,
    workers: int | None,
    progress: Progress,
) -> list[Any]:
    with executor_for(executor, workers, fn, _example(data)) as (pool, at_once):
        task: Callable[..., list[Any]]
        if data.ndim == 1:
            what = "elements"
            task, count, part_of = _elements(data)
        else:
            task, what = _record, "rows" if is_by_row else "columns"
            source = own_source(data, pool)
            count, part_of = (
                data.shape[0 if is_by_row else 1],
                lambda *place: _part(source, place, is_by_row),
            )
        places = bounds(count, 2 * PARTS_A_WORKER * at_once)
        calls = ((fn, part_of(*place), keywords) for place in places)

        def name(number: int, _error: BaseException) -> str:
            start, stop = places[number]
            return f"{what} {start} to {stop - 1}"

        results = run(pool, task, calls, name, progress, len(places))
    return [value for values in results for value in values]


def _example(data: Any) -> object:
    """Return something of the kind that workers are sent."""
    if data.ndim == 2:
        return data
    return 0 if _is_of_numbers(data.dtype) else data.iloc[0]


#: What numbers are to numpy and to `memoryview`, which makes the same objects of them.
_NUMBERS = frozenset("?bBhHiIlLqQfd")


def _elements(
    data: Any,
) -> tuple[Callable[..., list[Any]], int, Callable[[int, int], Any]]:
    """Return a task, how many elements of a Series pandas calls a function with, and a range's."""
    kind = data.dtype
    if _is_of_numbers(kind):
        # Each is the number of its place, and an object only where the function is called.
        return (
            _call_numbers,
            len(data),
            lambda start, stop: (kind.char, data.iloc[start:stop].to_numpy().tobytes()),
        )
    # What pandas makes of others may depend on all of them: whether one is missing, say.
    elements: list[Any] = []
    data.apply(elements.append)
    return _call_each, len(elements), lambda start, stop: elements[start:stop]


def _is_of_numbers(kind: Any) -> bool:
    is_of_numpy = type(kind).__module__.startswith("numpy")
    return is_of_numpy and kind.char in _NUMBERS and bool(kind.isnative)


def _part(data: Any, place: tuple[int, int], is_by_row: bool) -> Any:
    part = data.iloc[slice(*place)] if is_by_row else data.iloc[:, slice(*place)]
    return in_one_piece(part)


def _call_each(fn: Callable[..., Any], elements: list[Any], keywords: dict[str, Any]) -> list[Any]:
    """Run in a worker: the results for elements."""
    keywords = dict(keywords)
    args = keywords.pop("args")
    return [fn(element, *args, **keywords) for element in elements]


def _call_numbers(
    fn: Callable[..., Any], numbers: tuple[str, bytes], keywords: dict[str, Any]
) -> list[Any]:
    """Run in a worker: the results for numbers, which it makes objects of, without numpy."""
    kind, data = numbers
    view: Any = memoryview(data)
    return _call_each(fn, view.cast(kind).tolist(), keywords)


def _record(fn: Callable[..., Any], part: Any, keywords: dict[str, Any]) -> list[Any]:
    """Run in a worker: what the function returns, each time that pandas calls it."""
    returned = []

    def call(value: Any, *args: Any, **kwargs: Any) -> None:
        result = fn(value, *args, **kwargs)
        # A row is used again by pandas for the next.
        is_series = type(result).__name__ == "Series"
        returned.append(result.copy() if is_series else result)

    part.apply(call, **{**keywords, "result_type": None})
    return returned


def _put_together(
    values: list[Any], data: Any, kind: str, is_by_row: bool, keywords: dict[str, Any]
) -> Any:
    rest = iter(values)
    if kind == "Series":
        # Called with an element, which is what `next` would return if there were no more.
        return data.apply(partial(next, rest))

    def give(_value: Any, *_args: Any, **_kwargs: Any) -> Any:
        return next(rest)

    if is_by_row:
        # Of the frame pandas takes the index alone, and makes each row of it: of this one quickly.
        slim = data.iloc[:, :0].assign(**{"0": 0.0})
        return slim.apply(give, **keywords)
    return data.apply(give, **keywords)
