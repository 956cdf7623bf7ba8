"""What the tests of frames call with parts."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy


def with_double(part: Any) -> Any:
    return part.assign(double=part["f"] * 2)


def identity(part: Any) -> Any:
    return part


def first_column(part: Any) -> Any:
    return part.iloc[:, 0]


def even_rows(part: Any) -> Any:
    return part[part["i"] % 2 == 0]


def row_count(part: Any) -> int:
    return len(part)


def nothing(_part: Any) -> None:
    return None


def as_category(part: Any) -> Any:
    return part.astype({"s": "category"})


def write(part: Any) -> Any:
    part.loc[:, "f"] = -1.0
    return part


def write_texts(part: Any) -> Any:
    part.iloc[0, part.columns.get_loc("s")] = "changed"
    return part


def write_where_first(part: Any) -> Any:
    return write_texts(part) if part.index[0] == 0 else part


_kept: list[tuple[list[str], list[bytes]]] = []


def keep_some_texts(part: Any) -> bool:
    """Keep some strings in several ways; tell if all that were ever kept are what they were."""
    strings = part["s"].tolist()
    grown = strings[1]
    grown += " and more"
    assert grown == strings[1].encode().decode() + " and more"
    some = [*strings[::700], sys.intern(strings[2]), {strings[3]: None}.popitem()[0]]
    _kept.append((some, [text.encode() for text in some]))
    return all([text.encode() for text in texts] == then for texts, then in _kept)


def swap(part: Any) -> Any:
    return part.rename(columns={"s": "other", "other": "s"})


def only_texts(part: Any) -> Any:
    return part[["s"]]


def fail_at_five(part: Any) -> Any:
    if (numpy.asarray(part["i"]) == 5).any():
        raise ValueError("five is not wanted")
    return part


def frame_or_series(part: Any) -> Any:
    return part if (part["i"] == 0).any() else part["i"]


def double(value: Any) -> Any:
    return value * 2


def describe(row: Any) -> str:
    return f"{row.name}: {row.dtype} {list(row)}"


def sometimes(value: Any) -> Any:
    """Return things of several kinds."""
    kind = sum(map(ord, str(value))) % 5
    return [1, 2.5, None, "text", True][kind]


def pair(row: Any) -> Any:
    import pandas

    return pandas.Series({"first": row.iloc[0], "name": str(row.name)})


def fail_at_seven(value: Any) -> Any:
    if value == 7:
        raise ValueError("seven is not wanted")
    return value


def plus(value: Any, other: Any, *, more: Any = 0) -> Any:
    return value + other + more


def sum_of_v(part: Any) -> Any:
    return part["v"].sum()


def total(part: Any) -> Any:
    return part.sum()


def null_below_three(part: Any) -> Any:
    import pyarrow

    values = [value if value >= 3 else None for value in part["i"].to_pylist()]
    return pyarrow.table({"i": values})


def column_null_below_three(part: Any) -> Any:
    return null_below_three(part)["i"]


def series_null_below_three(part: Any) -> Any:
    import polars

    return polars.Series("i", [value if value >= 3 else None for value in part["i"]])


def reversed_rows(part: Any) -> Any:
    return part.iloc[::-1]


def doubled_column(part: Any) -> Any:
    return part[["s", "s"]].set_axis(["one", "two"], axis=1)


def distinct_objects(part: Any) -> int:
    return len(set(map(id, part["s"])))


def upper_s(part: Any) -> Any:
    return part.assign(s=part["s"].map({text: text.upper() for text in part["s"].unique()}))


def bounds(rows: int, parts: int) -> list[slice]:
    """Return the rows of each part, as `map_frame` splits them."""
    parts = max(1, min(parts, rows))
    edges = [rows * number // parts for number in range(parts + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]
