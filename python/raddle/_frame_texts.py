"""Frames of pandas whose columns of strings travel in one piece, or, unchanged, not at all.

A column of objects that are all strings is taken out of a part, and sent as one text. What comes
back of such a column is, if it holds the very same strings, only the word that it does: then the
strings of the caller's own frame are the result.
"""

from __future__ import annotations

from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

from . import _native

#: A part with fewer rows is pickled as it is.
_FEW_ROWS = 100


class Texts:
    """A column of strings in one piece."""

    def __init__(self, ends: Any, data: Any) -> None:
        self._parts = (ends, data)

    def __reduce__(self) -> tuple[Any, ...]:
        return Texts, tuple(map(PickleBuffer, self._parts))

    def open(self) -> Any:
        """Return an array of strings."""
        import numpy

        column: Any = numpy.empty(memoryview(self._parts[0]).nbytes // 4, dtype=object)
        _native.unpack_texts(*self._parts, column)
        return column


class Repeated:
    """A column of few strings in many rows: the number of each row's, and a list of them."""

    def __init__(self, numbers: Any, distinct: list[Any]) -> None:
        self._numbers, self._distinct = numbers, distinct

    def __reduce__(self) -> tuple[Any, ...]:
        return Repeated, (PickleBuffer(self._numbers), self._distinct)

    def open(self) -> Any:
        """Return an array of strings."""
        import numpy

        distinct: Any = numpy.empty(len(self._distinct), dtype=object)
        distinct[:] = self._distinct
        return distinct[numpy.frombuffer(self._numbers, dtype=numpy.uint32)]


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
        self._rest, self._names, self._columns = rest, names, columns
        self.texts = texts

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedFrame, (self._rest, self._names, self._columns)

    def open(self, column_of: Callable[[Any], Any]) -> tuple[Any, dict[int, Any]]:
        """Return the frame, and the columns that were apart; `column_of` gives their values."""
        import numpy
        import pandas

        frame = self._rest
        frame.columns = range(len(frame.columns))
        opened = {position: column_of(each) for position, each in self._columns.items()}
        for position, column in opened.items():
            # As objects, whatever they look like; under a name that no other column has until they
            # all get theirs.
            values = pandas.Series(column, index=frame.index, dtype=object)
            frame.insert(position, -1 - position, values)
            if numpy.may_share_memory(frame.iloc[:, position].to_numpy(), column):
                # The frame is written by whoever gets it.
                opened[position] = column.copy()
        frame.columns = self._names
        return frame, opened


def packed(frame: Any, sent: dict[int, Any] | None = None) -> Any:
    """Return a frame with its strings in one piece, or as it is if it has none.

    `sent` are columns of strings that whoever is to get it has.
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
            # A copy of the references: whoever has the frame may change it before this is back.
            # In a worker nobody else has it.
            values = frame.iloc[:, position].to_numpy(copy=sent is None)
            column = _column(values, sent or {})
            if column is not None:
                columns[position], texts[position] = column, values
    if not columns:
        return frame
    kept = [position for position in range(len(frame.columns)) if position not in columns]
    return PackedFrame(frame.iloc[:, kept], frame.columns, columns, texts)


def _column(values: Any, sent: dict[int, Any]) -> Texts | Repeated | Unchanged | None:
    for position, column in sent.items():
        if _native.same_objects(values, column):
            return Unchanged(position)
    found = _native.pack_texts(values if values.flags.c_contiguous else values.copy())
    if found is None:
        return None
    first, second = found
    return Repeated(first, second) if isinstance(second, list) else Texts(first, second)


def opened(part: Any) -> tuple[Any, dict[int, Any]]:
    """Return in a worker a part as a frame, and its columns of strings."""
    if isinstance(part, PackedFrame):
        return part.open(lambda column: column.open())
    return part, {}


def noted(part: Any, texts: list[dict[int, Any]]) -> Any:
    """Return a part that is about to be sent, its columns of strings added to a list."""
    texts.append(part.texts or {} if isinstance(part, PackedFrame) else {})
    return part


def received(result: Any, texts: dict[int, Any]) -> Any:
    """Return in the program a result as a frame; `texts` are what its part had of strings."""
    if not isinstance(result, PackedFrame):
        return result

    taken: set[int] = set()

    def values(column: Texts | Repeated | Unchanged) -> Any:
        if not isinstance(column, Unchanged):
            return column.open()
        if column.position in taken:
            return texts[column.position].copy()
        taken.add(column.position)
        return texts[column.position]

    return result.open(values)[0]
