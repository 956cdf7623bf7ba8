"""What the workers of the process pools run, in a module that every one of them can import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SUMS = 4
TEXT_LENGTH = 1_024
LARGE_BYTES = 1_000_000


@dataclass(frozen=True)
class Work:
    """A function, what it is called with, and what it must return.

    Parameters
    ----------
    function : callable
        Takes one item.
    items : sequence
        One a task.
    expected : list
        The results in the order of the items.
    """

    function: Callable[[Any], Any]
    items: Any
    expected: list[Any]


@dataclass(frozen=True)
class Record:
    """A small object as programs send them."""

    number: int
    name: str
    weight: float


def no_op(item: Any) -> Any:
    """Return the item: what is left of a task is the executor's own cost."""
    return item


def sum_of_squares(n: int) -> int:
    """Add the squares of the numbers below n, as the lecture does."""
    return sum(i * i for i in range(n))


def right_sum(n: int) -> int:
    """Return what `sum_of_squares` must return, by the formula.

    Examples
    --------
    >>> right_sum(1_000) == sum_of_squares(1_000)
    True
    """
    return (n - 1) * n * (2 * n - 1) // 6


#: What makes the item of a number, by the name of its kind.
KINDS: dict[str, Callable[[int], Any]] = {
    "int": int,
    "dict": lambda number: {"number": number, "name": f"item {number}", "weight": number / 7},
    "dataclass": lambda number: Record(number, f"item {number}", number / 7),
    "text": lambda number: f"{number:0{TEXT_LENGTH}d}",
    "large": lambda number: number.to_bytes(8, "little") * (LARGE_BYTES // 8),
}


def no_ops(kind: str, count: int) -> Work:
    """Return so many calls of a function that returns its item."""
    items = [KINDS[kind](number) for number in range(count)]
    return Work(no_op, items, items)


def sums(n: int) -> Work:
    """Return four sums of the squares below n."""
    return Work(sum_of_squares, [n] * SUMS, [right_sum(n)] * SUMS)
