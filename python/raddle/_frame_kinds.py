"""How frames of each library are split into parts and put together again.

A library is loaded here only when a frame of its is passed, and then it is loaded already.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

from ._frame_texts import Kept, packed

if TYPE_CHECKING:
    from typing import Protocol, TypeAlias

    #: What single values, one a group, are made a Series with: its index and its name.
    Labels: TypeAlias = Callable[[], dict[str, Any]]
    #: Each key and its rows; the labels, where the library has them.
    Groups: TypeAlias = tuple[Iterable[tuple[Hashable, Any]], Labels | None]

    class Kind(Protocol):
        """What is asked of the frames of a library."""

        def rows(self, frame: Any) -> int:
            """Return how many rows there are."""
            raise NotImplementedError

        def block(self, frame: Any, start: int, stop: int, kept: Kept) -> Any:
            """Return the rows from `start` to before `stop`, as they are sent best.

            `kept` takes what need not come back.
            """
            raise NotImplementedError

        def groups(self, frame: Any, by: Any) -> Groups:
            """Return the groups in the order of the result, and what their values are labelled."""
            raise NotImplementedError

        def join(self, results: list[Any], labels: Labels | None = None) -> Any:
            """Put results together: frames, or one value for each part."""
            raise NotImplementedError


class ResultMismatch(TypeError):
    """Parts of one frame gave results of kinds that do not go together."""


def kind_of(frame: object, function: str) -> Kind:
    """Return how to treat a frame; TypeError if it is none."""
    for base in type(frame).__mro__:
        module, name = base.__module__.partition(".")[0], base.__name__
        if (module, name) in _KINDS:
            return _KINDS[module, name]
    raise TypeError(
        f"{function}() takes a DataFrame or Series of pandas, a DataFrame or Series of polars, a "
        f"Table of pyarrow or an array of numpy, not {type(frame).__name__}"
    )


def _split_results(results: list[Any], frames: tuple[type, ...]) -> list[Any] | None:
    """Return the frames among the results, without None; None if all are single values."""
    found = [result for result in results if isinstance(result, frames)]
    if not found:
        return None
    others = [r for r in results if r is not None and not isinstance(r, type(found[0]))]
    if others:
        raise ResultMismatch(
            "fn must return the same kind of thing for every part: it returned "
            f"{type(found[0]).__name__} for one and {type(others[0]).__name__} for another"
        )
    return found


class _Pandas:
    def rows(self, frame: Any) -> int:
        return len(frame)

    def block(self, frame: Any, start: int, stop: int, kept: Kept) -> Any:
        block = frame if stop - start == len(frame) else frame.iloc[start:stop]
        part = packed(block, kept_in=kept.rows(start, stop))
        if part is block:
            return in_one_piece(block)
        part.rest = in_one_piece(part.rest)
        return part

    def groups(self, frame: Any, by: Any) -> Groups:
        grouped = frame.groupby(by, observed=True)
        name = frame.name if frame.ndim == 1 else None
        # With its type, categories and frequency, which no list of keys has.
        return grouped, lambda: {"index": grouped.size().index, "name": name}

    def join(self, results: list[Any], labels: Labels | None = None) -> Any:
        import pandas

        found = _split_results(results, (pandas.DataFrame, pandas.Series))
        if found is None:
            if all(result is None for result in results):
                return None
            return pandas.Series(results, **(labels() if labels else {}))
        if len(found) == 1:
            return found[0]
        return pandas.concat(_with_same_categories(found))


def in_one_piece(block: Any) -> Any:
    """Return a part whose memory can be sent as it lies."""
    values = [getattr(part, "values", None) for part in getattr(block._mgr, "blocks", ())]
    flags = [getattr(each, "flags", None) for each in values]
    is_so = all(each is None or each.c_contiguous or each.f_contiguous for each in flags)
    return block if is_so else block.copy()


def _with_same_categories(frames: list[Any]) -> list[Any]:
    """Give categorical columns the categories of all: each part has found its own."""
    import pandas

    if isinstance(frames[0], pandas.Series):
        return _united(frames)
    for position, kind in enumerate(frames[0].dtypes):
        if not isinstance(kind, pandas.CategoricalDtype):
            continue
        if not all(frame.columns.equals(frames[0].columns) for frame in frames):
            break
        columns = [frame.iloc[:, position] for frame in frames]
        united = _united(columns)
        if united is not columns:
            frames = [frame.copy(deep=False) for frame in frames]
            for frame, column in zip(frames, united, strict=True):
                frame.isetitem(position, column)
    return frames


def _united(columns: list[Any]) -> list[Any]:
    import pandas

    kinds = [column.dtype for column in columns]
    if not all(isinstance(kind, pandas.CategoricalDtype) for kind in kinds):
        return columns
    if all(kind == kinds[0] for kind in kinds) or any(kind.ordered for kind in kinds):
        return columns
    categories = kinds[0].categories
    for kind in kinds[1:]:
        categories = categories.append(kind.categories)
    categories = categories.unique()
    if all(kind.categories.is_monotonic_increasing for kind in kinds):
        # As the categories of a column are that are found in its values.
        try:
            categories = categories.sort_values()
        except TypeError:
            pass  # Numbers and strings, say: of those pandas leaves the order as it is found.
    return [column.cat.set_categories(categories) for column in columns]


class _Polars:
    def rows(self, frame: Any) -> int:
        return len(frame)

    def block(self, frame: Any, start: int, stop: int, _kept: Kept) -> Any:
        return frame.slice(start, stop - start)

    def groups(self, frame: Any, by: Any) -> Groups:
        if not hasattr(frame, "partition_by"):
            raise TypeError(
                "by= names columns, and a Series of polars has none: pass a DataFrame with the keys"
            )
        parts = frame.partition_by(by, maintain_order=True, as_dict=True)
        if isinstance(by, str):
            return [(key[0], part) for key, part in parts.items()], None
        return parts.items(), None

    def join(self, results: list[Any], labels: Labels | None = None) -> Any:
        import polars

        found = _split_results(results, (polars.DataFrame, polars.Series))
        if found is None:
            return None if all(each is None for each in results) else polars.Series(results)
        if len(found) == 1:
            return found[0]
        if isinstance(found[0], polars.DataFrame):
            return polars.concat(found, how="vertical_relaxed")
        # As columns: of Series alone, a part without a value has no place beside one of numbers.
        columns = [series.to_frame(found[0].name) for series in found]
        return polars.concat(columns, how="vertical_relaxed").to_series()


class ArrowTable:
    """A table on its way: the memory of a slice alone, not of all that it is a slice of."""

    def __init__(self, table: Any) -> None:
        import pyarrow

        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        self.buffer = sink.getvalue()

    def open(self) -> Any:
        """Return the table, in the memory in which it came."""
        import pyarrow

        return pyarrow.ipc.open_stream(self.buffer).read_all()


_NAN = float("nan")


def _one_nan(key: Any) -> Any:
    """Return the same object for every NaN, which a dict then finds again."""
    return _NAN if isinstance(key, float) and key != key else key


class _PyArrow:
    def rows(self, frame: Any) -> int:
        return int(frame.num_rows)

    def block(self, frame: Any, start: int, stop: int, _kept: Kept) -> Any:
        return ArrowTable(frame.slice(start, stop - start))

    def groups(self, frame: Any, by: Any) -> Groups:
        names = [by] if isinstance(by, str) else list(by)
        places: dict[Any, list[int]] = {}
        for place, key in enumerate(zip(*(frame[name].to_pylist() for name in names), strict=True)):
            places.setdefault(tuple(map(_one_nan, key)), []).append(place)
        groups = (
            (key[0] if isinstance(by, str) else key, ArrowTable(frame.take(rows)))
            for key, rows in places.items()
        )
        return groups, None

    def join(self, results: list[Any], labels: Labels | None = None) -> Any:
        import pyarrow

        results = [each.open() if isinstance(each, ArrowTable) else each for each in results]
        found = _split_results(results, (pyarrow.Table,))
        if found is not None:
            return _concatenated(found)
        arrays = (pyarrow.Array, pyarrow.ChunkedArray)
        if any(isinstance(result, arrays) for result in results):
            columns = [pyarrow.table({"": each}) for each in results if each is not None]
            return _concatenated(columns).column(0)
        if all(result is None for result in results):
            return None
        return pyarrow.array(results)


def _concatenated(tables: list[Any]) -> Any:
    import pyarrow

    if all(table.schema.equals(tables[0].schema) for table in tables):
        return tables[0] if len(tables) == 1 else pyarrow.concat_tables(tables)
    # A column without any value in a part has no type there, and takes that of the others.
    return pyarrow.concat_tables(tables, promote_options="permissive")


class _NumPy:
    def rows(self, frame: Any) -> int:
        if frame.ndim == 0:
            raise TypeError("an array without dimensions has no rows to be split")
        return len(frame)

    def block(self, frame: Any, start: int, stop: int, _kept: Kept) -> Any:
        return frame[start:stop]

    def groups(self, frame: Any, by: Any) -> Groups:
        import numpy

        keys = numpy.asarray(by)
        if keys.shape != (len(frame),):
            raise ValueError(
                f"by= must have one key for each of the {len(frame)} rows of the array, "
                f"not the shape {keys.shape}"
            )
        # By the inverse: a NaN is equal to no key.
        distinct, which = numpy.unique(keys, return_inverse=True)
        groups = ((key, frame[which == number]) for number, key in enumerate(distinct.tolist()))
        return groups, None

    def join(self, results: list[Any], labels: Labels | None = None) -> Any:
        import numpy

        if all(result is None for result in results):
            return None
        arrays = [each for each in results if isinstance(each, numpy.ndarray) and each.ndim > 0]
        if not arrays:
            return numpy.array(results)
        found = _split_results(results, (numpy.ndarray,)) or arrays
        if isinstance(found[0], numpy.ma.MaskedArray):
            return numpy.ma.concatenate(found)  # type: ignore[no-untyped-call]
        if len(found) == 1:
            return found[0]
        kinds = {each.dtype for each in found}
        # Told, for numpy would turn bytes that lie in the other order.
        return numpy.concatenate(found, dtype=kinds.pop() if len(kinds) == 1 else None)


_KINDS: dict[tuple[str, str], Kind] = {
    ("pandas", "DataFrame"): _Pandas(),
    ("pandas", "Series"): _Pandas(),
    ("polars", "DataFrame"): _Polars(),
    ("polars", "Series"): _Polars(),
    ("pyarrow", "Table"): _PyArrow(),
    ("numpy", "ndarray"): _NumPy(),
}
