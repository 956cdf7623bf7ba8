"""How frames of each library are split into parts and put together again.

A library is loaded here only when a frame of its is passed, and then it is loaded already.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ._frame_texts import packed

if TYPE_CHECKING:
    from typing import Protocol

    class Kind(Protocol):
        """What is asked of the frames of a library."""

        def rows(self, frame: Any) -> int:
            """Return how many rows there are."""
            raise NotImplementedError

        def block(self, frame: Any, start: int, stop: int) -> Any:
            """Return the rows from `start` to before `stop`, as they are sent best."""
            raise NotImplementedError

        def groups(self, frame: Any, by: Any) -> Iterator[tuple[Hashable, Any]]:
            """Give each key and its rows, in the order of the result."""
            raise NotImplementedError

        def join(self, results: list[Any], keys: Sequence[Hashable] | None, by: Any) -> Any:
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

    def block(self, frame: Any, start: int, stop: int) -> Any:
        block = frame if stop - start == len(frame) else frame.iloc[start:stop]
        return packed(block if _is_in_one_piece(block) else block.copy())

    def groups(self, frame: Any, by: Any) -> Iterator[tuple[Hashable, Any]]:
        return iter(frame.groupby(by, observed=True))

    def join(self, results: list[Any], keys: Sequence[Hashable] | None, by: Any) -> Any:
        import pandas

        found = _split_results(results, (pandas.DataFrame, pandas.Series))
        if found is None:
            if all(result is None for result in results):
                return None
            return pandas.Series(results, index=self._index(keys, by))
        if len(found) == 1:
            return found[0]
        return pandas.concat(_with_same_categories(found))

    def _index(self, keys: Sequence[Hashable] | None, by: Any) -> Any:
        import pandas

        if keys is None:
            return None
        names = by if isinstance(by, list) else [by]
        names = [
            name if isinstance(name, Hashable) and not callable(name) else None for name in names
        ]
        if keys and isinstance(keys[0], tuple):
            return pandas.MultiIndex.from_tuples(keys, names=names)
        return pandas.Index(list(keys), name=names[0])


def _is_in_one_piece(block: Any) -> bool:
    """Tell whether the memory of a part can be sent as it lies."""
    values = [getattr(part, "values", None) for part in getattr(block._mgr, "blocks", ())]
    flags = [getattr(each, "flags", None) for each in values]
    return all(each is None or each.c_contiguous or each.f_contiguous for each in flags)


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
        categories = categories.sort_values()
    return [column.cat.set_categories(categories) for column in columns]


class _Polars:
    def rows(self, frame: Any) -> int:
        return len(frame)

    def block(self, frame: Any, start: int, stop: int) -> Any:
        return frame.slice(start, stop - start)

    def groups(self, frame: Any, by: Any) -> Iterator[tuple[Hashable, Any]]:
        parts = frame.partition_by(by, maintain_order=True, as_dict=True)
        if isinstance(by, str):
            return ((key[0], part) for key, part in parts.items())
        return iter(parts.items())

    def join(self, results: list[Any], keys: Sequence[Hashable] | None, by: Any) -> Any:
        import polars

        found = _split_results(results, (polars.DataFrame, polars.Series))
        if found is not None:
            how = "vertical_relaxed" if isinstance(found[0], polars.DataFrame) else "vertical"
            return found[0] if len(found) == 1 else polars.concat(found, how=how)
        if all(result is None for result in results):
            return None
        return polars.Series(results)


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

    def block(self, frame: Any, start: int, stop: int) -> Any:
        return ArrowTable(frame.slice(start, stop - start))

    def groups(self, frame: Any, by: Any) -> Iterator[tuple[Hashable, Any]]:
        names = [by] if isinstance(by, str) else list(by)
        places: dict[Any, list[int]] = {}
        for place, key in enumerate(zip(*(frame[name].to_pylist() for name in names), strict=True)):
            places.setdefault(tuple(map(_one_nan, key)), []).append(place)
        for key, rows in places.items():
            yield key[0] if isinstance(by, str) else key, ArrowTable(frame.take(rows))

    def join(self, results: list[Any], keys: Sequence[Hashable] | None, by: Any) -> Any:
        import pyarrow

        results = [each.open() if isinstance(each, ArrowTable) else each for each in results]
        found = _split_results(results, (pyarrow.Table,))
        if found is not None:
            return found[0] if len(found) == 1 else pyarrow.concat_tables(found)
        arrays = (pyarrow.Array, pyarrow.ChunkedArray)
        if any(isinstance(result, arrays) for result in results):
            chunks: list[Any] = []
            for result in results:
                if result is not None:
                    chunks += getattr(result, "chunks", [result])
            return pyarrow.chunked_array(chunks)
        if all(result is None for result in results):
            return None
        return pyarrow.array(results)


class _NumPy:
    def rows(self, frame: Any) -> int:
        if frame.ndim == 0:
            raise TypeError("an array without dimensions has no rows to be split")
        return len(frame)

    def block(self, frame: Any, start: int, stop: int) -> Any:
        return frame[start:stop]

    def groups(self, frame: Any, by: Any) -> Iterator[tuple[Hashable, Any]]:
        import numpy

        keys = numpy.asarray(by)
        if keys.shape != (len(frame),):
            raise ValueError(
                f"by= must have one key for each of the {len(frame)} rows of the array, "
                f"not the shape {keys.shape}"
            )
        # By the inverse: a NaN is equal to no key.
        distinct, which = numpy.unique(keys, return_inverse=True)
        for number, key in enumerate(distinct.tolist()):
            yield key, frame[which == number]

    def join(self, results: list[Any], keys: Sequence[Hashable] | None, by: Any) -> Any:
        import numpy

        if all(result is None for result in results):
            return None
        arrays = [each for each in results if isinstance(each, numpy.ndarray) and each.ndim > 0]
        if not arrays:
            return numpy.array(results)
        found = _split_results(results, (numpy.ndarray,)) or arrays
        if isinstance(found[0], numpy.ma.MaskedArray):
            return numpy.ma.concatenate(found)  # type: ignore[no-untyped-call]
        return found[0] if len(found) == 1 else numpy.concatenate(found)


_KINDS: dict[tuple[str, str], Kind] = {
    ("pandas", "DataFrame"): _Pandas(),
    ("pandas", "Series"): _Pandas(),
    ("polars", "DataFrame"): _Polars(),
    ("polars", "Series"): _Polars(),
    ("pyarrow", "Table"): _PyArrow(),
    ("numpy", "ndarray"): _NumPy(),
}
