"""Frames of pandas whose columns of strings travel in one piece, or, unchanged, not at all.

A column of objects that are all strings is taken out of a part, and sent as one text. What comes
back of such a column is, if it holds the very same strings, only the word that it does: then the
strings of the caller's own frame are the result. They are copied, as references, when their part
is packed, since the frame may change while the part is away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pickle import PickleBuffer
from typing import Any

from . import _native

#: A part with fewer rows is pickled as it is.
_FEW_ROWS = 100
#: A frame with more columns is not put together column by column, which takes some 10 us for each.
_MANY_COLUMNS = 100


class _Column:
    """A column that is apart."""

    def fill(self, into: Any) -> Any:
        """Put its objects into an array of None; return what tells later if an array has them."""
        raise NotImplementedError


class Texts(_Column):
    """A column of strings in one piece."""

    def __init__(self, ends: Any, data: Any) -> None:
        self._parts = (ends, data)

    def __reduce__(self) -> tuple[Any, ...]:
        return Texts, tuple(map(PickleBuffer, self._parts))

    def fill(self, into: Any) -> Any:
        """Make the strings."""
        lent = _native.lend_texts(*self._parts, into)
        if lent is not None:
            return lent
        _native.unpack_texts(*self._parts, into)
        return into.copy()


class Repeated(_Column):
    """A column of few strings in many rows: the number of each row's, and a list of them."""

    def __init__(self, numbers: Any, distinct: list[Any]) -> None:
        self._numbers, self._distinct = numbers, distinct

    def __reduce__(self) -> tuple[Any, ...]:
        return Repeated, (PickleBuffer(self._numbers), self._distinct)

    def fill(self, into: Any) -> Any:
        """Put each string where its number is."""
        import numpy

        distinct: Any = numpy.empty(len(self._distinct), dtype=object)
        distinct[:] = self._distinct
        values = distinct[numpy.frombuffer(self._numbers, dtype=numpy.uint32)]
        into[:] = values
        return values


class Unchanged:
    """A column that is the one at a position of the part that was sent."""

    def __init__(self, position: int) -> None:
        self.position = position

    def __reduce__(self) -> tuple[Any, ...]:
        return Unchanged, (self.position,)


class PackedFrame:
    """A frame without some columns, and those.

    `texts` are the columns of strings as they were packed, for what comes back unchanged.
    """

    def __init__(
        self, rest: Any, names: Any, columns: dict[int, Any], texts: dict[int, Any] | None = None
    ) -> None:
        self.rest, self.names, self.columns = rest, names, columns
        self.texts = texts

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedFrame, (self.rest, self.names, self.columns)

    def open(
        self, fill: Callable[[Any, Any], Any], left: Collection[int] = ()
    ) -> tuple[Any, dict[int, Any]]:
        """Return the frame, and what `fill` has given for each column that it has put in place.

        Columns at the positions `left` are left out: then those that are there are named by theirs.
        """
        # A frame of its own: this may be held until the task has ended, or be opened once more.
        frame = self.rest.copy(deep=False)
        frame.columns = range(len(frame.columns))
        filled = {}
        for position, column in self.columns.items():
            if position not in left:
                at = position - sum(other < position for other in left)
                filled[position] = fill(column, _inserted(frame, at))
        there = [position for position in range(len(self.names)) if position not in left]
        frame.columns = there if left else self.names
        return frame, filled


def _inserted(frame: Any, position: int) -> Any:
    """Insert a column of None into a frame, and return the array in which it lies, to be filled.

    Its name is one that no other column has until they all get theirs.
    """
    import numpy

    nothing: Any = numpy.array(None, dtype=object)
    frame.insert(position, -1 - position, numpy.broadcast_to(nothing, len(frame)))
    values = frame.iloc[:, position].to_numpy()
    # Which pandas forbids where frames share memory until they are written; nobody has this one.
    values.flags.writeable = True
    return values


def packed(
    frame: Any,
    sent: dict[int, Any] | None = None,
    kept_in: Callable[[int], Any] | None = None,
) -> Any:
    """Return a frame with its strings in one piece, or as it is if it has none.

    `sent` is what tells if a column has the strings that whoever is to get it has. `kept_in` gives
    for the position of a column the array in which its strings are kept.
    """
    if type(frame).__module__ != "pandas.core.frame" or type(frame).__name__ != "DataFrame":
        return frame
    if len(frame) < _FEW_ROWS or not frame.flags.allows_duplicate_labels:
        return frame
    import numpy

    columns: dict[int, Any] = {}
    texts: dict[int, Any] = {}
    for position, kind in enumerate(frame.dtypes):
        if isinstance(kind, numpy.dtype) and kind.kind == "O":
            values = frame.iloc[:, position].to_numpy()
            if not isinstance(values[0], (str, float, type(None))):
                continue  # Nor is the column one of strings then.
            kept = None if kept_in is None else kept_in(position)
            column = _column(values, sent or {}, kept)
            if column is not None:
                columns[position], texts[position] = column, kept
    if not columns:
        return frame
    return PackedFrame(_without(frame, columns), frame.columns, columns, texts)


def _column(values: Any, sent: dict[int, Any], kept: Any) -> Texts | Repeated | Unchanged | None:
    for position, column in sent.items():
        if _native.same_objects(values, column):
            return Unchanged(position)
    found = _native.pack_texts(values if values.flags.c_contiguous else values.copy(), kept)
    if found is None:
        return None
    first, second = found
    return Repeated(first, second) if isinstance(second, list) else Texts(first, second)


def _without(frame: Any, positions: dict[int, Any]) -> Any:
    """Return the other columns, in the same memory."""
    rest = frame.copy(deep=False)
    rest.columns = range(len(frame.columns))
    for position in positions:
        del rest[position]
    return rest


def opened(part: Any) -> tuple[Any, dict[int, Any]]:
    """Return in a worker a part as a frame, and what tells its columns of strings."""
    if isinstance(part, PackedFrame):
        return part.open(lambda column, into: column.fill(into))
    return part, {}


def noted(part: Any, texts: list[dict[int, Any]]) -> Any:
    """Return a part that is about to be sent, its columns of strings added to a list."""
    texts.append(part.texts or {} if isinstance(part, PackedFrame) else {})
    return part


def received(result: Any, texts: dict[int, Any], left: Collection[int] = ()) -> Any:
    """Return in the program a result as a frame; `texts` are what its part had of strings."""
    if not isinstance(result, PackedFrame):
        return result

    def put(column: Any, into: Any) -> None:
        if isinstance(column, Unchanged):
            into[:] = texts[column.position]
        else:
            column.fill(into)

    return result.open(put, left)[0]


def _with_strings(frame: Any, strings: dict[int, Any], names: Any) -> Any:
    """Return a frame with columns of strings, by their positions, besides; nothing is copied."""
    import pandas

    others = (frame.iloc[:, position] for position in range(len(frame.columns)))
    # As objects, whatever they look like.
    columns = [
        pandas.Series(strings[position], index=frame.index, dtype=object)
        if position in strings
        else next(others)
        for position in range(len(names))
    ]
    whole = pandas.DataFrame(dict(enumerate(columns)), index=frame.index, copy=False)
    whole.columns, whole.attrs = names, frame.attrs
    return whole


class Kept:
    """The strings of a frame, as they were when its parts were packed: of each column an array."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._columns: dict[int, Any] = {}

    def rows(self, start: int, stop: int) -> Callable[[int], Any]:
        """Give what gives, of a column at a position, the place for these rows."""

        def place(position: int) -> Any:
            import numpy

            if position not in self._columns:
                self._columns[position] = numpy.empty(self._rows, dtype=object)
            return self._columns[position][start:stop]

        return place

    def joined(
        self,
        results: list[Any],
        texts: list[dict[int, Any]],
        join: Callable[[list[Any]], Any],
    ) -> Any:
        """Return what `join` makes of the results of all parts; `texts` are as for `received`.

        Columns of strings that came back unchanged with every part are put into the whole at once.
        """
        whole = self._unchanged(results, texts)
        pairs = zip(results, texts, strict=True)
        frame = join([received(result, text, whole) for result, text in pairs])
        if not whole:
            return frame
        strings: dict[int, Any] = {}
        for position, source in whole.items():
            is_taken = source in list(whole.values())[: len(strings)]
            strings[position] = self._columns[source].copy() if is_taken else self._columns[source]
        return _with_strings(frame, strings, results[0].names)

    def _unchanged(self, results: list[Any], texts: list[dict[int, Any]]) -> dict[int, int]:
        """Return which columns of all results are which of all parts."""
        if not all(isinstance(result, PackedFrame) for result in results):
            return {}
        first, *others = results
        if len(first.names) > _MANY_COLUMNS or not all(
            result.names.identical(first.names) for result in others
        ):
            return {}
        found = {}
        for position, column in first.columns.items():
            columns = [result.columns.get(position) for result in results]
            if (
                all(isinstance(each, Unchanged) for each in columns)
                and len({each.position for each in columns}) == 1
                and all(column.position in text for text in texts)
            ):
                found[position] = column.position
        return found
