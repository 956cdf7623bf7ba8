"""What the contenders of the frames suite run: functions that workers import, and data."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy
import pandas

import raddle

ROWS = 2_000_000
CALL_ROWS = 200_000
CHUNKS = 4
ELEMENTS = 200_000
#: How long the function of `apply` takes for an element.
ELEMENT_SECONDS = 20e-6


def numbers(megabytes: int) -> Any:
    """Return an array of floats."""
    return numpy.arange(megabytes * 131_072, dtype=float)


def shared_numbers(megabytes: int) -> Any:
    """Return the same array in memory that raddle sends without a copy."""
    values = raddle.empty(megabytes * 131_072)
    values[:] = numbers(megabytes)
    return values


def table(rows: int) -> Any:
    """Return a frame with a float, an int and a string column."""
    return pandas.DataFrame(
        {
            "float": numpy.arange(float(rows)),
            "int": numpy.arange(rows),
            "string": [f"row {number}" for number in range(rows)],
        }
    )


def double(values: Any) -> Any:
    """Return a new array."""
    return values * 2


def total(values: Any) -> float:
    """Return one number of an array."""
    return float(values[0] + values[-1])


def add_column(part: Any) -> Any:
    """Return a part with one more column."""
    return part.assign(double=part["float"] * 2)


def spin(value: Any) -> Any:
    """Compute for a while; a whole column at once is refused."""
    end = time.perf_counter() + ELEMENT_SECONDS
    while time.perf_counter() < end:
        pass
    return int(value) + 1


def edges(rows: int) -> list[int]:
    """Return where parts begin, and where the last one ends."""
    return [rows * number // CHUNKS for number in range(CHUNKS + 1)]


def numbered(rows: int) -> Any:
    """Return for each row the number of its part."""
    return numpy.searchsorted(edges(rows), numpy.arange(rows), side="right")


def blocks(frame: Any) -> list[Any]:
    """Return the parts as a user makes them."""
    return [frame.iloc[start:stop] for start, stop in pairwise(edges(len(frame)))]
