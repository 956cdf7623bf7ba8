"""What the errors of a map tell: which item they are of, and which call of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ._errors import TaskTimeout
from ._pickling import name_of
from ._process_errors import WorkerDied
from ._sketch import sketch

if TYPE_CHECKING:
    from ._map_chunk import Chunk

#: How notes of maps begin.
_MARK = "raddle.map: this was "
#: Characters of an item in a message.
_SHOWN = 200


def named(error: BaseException, item: tuple[Any, ...] | None, index: int) -> BaseException:
    """Add to an error which item it is of; one that was raised before tells of the latest."""
    try:
        shown = "" if item is None else f": {item[0]!r}"
    except Exception:
        shown = f": a {type(item[0]).__name__}" if item else ""
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return _noted(error, f"{_MARK}item {index}{shown}")


def named_range(error: BaseException, chunk: Chunk) -> BaseException:
    """Add to an error of a chunk of which items it may be."""
    if len(chunk.items) == 1:
        return named(error, (chunk.items[0],), chunk.start)
    last = chunk.start + len(chunk.items) - 1
    return _noted(error, f"{_MARK}one of items {chunk.start} to {last}")


def _noted(error: BaseException, note: str) -> BaseException:
    notes = getattr(error, "__notes__", ())
    others = [one for one in notes if not str(one).startswith(_MARK)]
    # Where notes are not shown yet, before Python 3.11, they can be looked at.
    error.__notes__ = [*others, note]  # type: ignore[attr-defined,unused-ignore]
    return error


def with_call(
    error: BaseException, function: Callable[..., Any], takes_tuples: bool, items: Sequence[Any]
) -> None:
    """Have an error of a worker name the user's call in place of that of a chunk."""
    name = name_of(function)
    if len(items) == 1:
        call = f"{name}{sketch(items[0], 'positional' if takes_tuples else 'one')}"
    else:
        call = f"{name}() with one of {len(items)} items"
    if isinstance(error, TaskTimeout):
        _shown, ran, rest = str(error).partition(" ran longer ")
        if ran:
            error.args = (f"{call}{ran}{rest}", *error.args[1:])
    elif isinstance(error, WorkerDied) and error.task is not None:
        error.args = (str(error).replace(error.task, call, 1), *error.args[1:])
        error.task = call
