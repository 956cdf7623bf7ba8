"""What cannot travel to another process, found by its path: the doctor of serialization."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pickle import PicklingError
from types import FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

from ._raddle_error import RaddleError

#: How deep is looked, and at how many objects.
_DEEPEST, _MOST = 12, 2_000
_INSIDE = "open it inside the function, or in an initializer of the pool, in each process"
_HINTS = {
    "socket": _INSIDE,
    "SSLSocket": _INSIDE,
    "TextIOWrapper": "pass the file's name and open it inside the function",
    "BufferedReader": "pass the file's name and open it inside the function",
    "BufferedWriter": "pass the file's name and open it inside the function",
    "FileIO": "pass the file's name and open it inside the function",
    "generator": "pass a list of its items",
    "lock": "each process would need a lock of its own: leave it out, or use threads",
    "RLock": "each process would need a lock of its own: leave it out, or use threads",
    "Connection": _INSIDE,
    "Thread": "pass what the thread works on, or use threads",
}


class Obstacle:
    """Something that cannot travel: where it is, what it is, and what would help."""

    def __init__(self, path: str, value: object, error: BaseException) -> None:
        self.path = path
        self.kind = _kind(value)
        self.hint = _HINTS.get(type(value).__name__, "leave it out, or make it inside the function")
        self.why = f"{type(error).__name__}: {error}"

    def __str__(self) -> str:
        return f"{self.path}: {self.kind} cannot travel to a process ({self.why}); {self.hint}"


def _kind(value: object) -> str:
    name = type(value).__name__
    if isinstance(value, GeneratorType):
        name = "generator"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def refusal(value: object) -> BaseException | None:
    """Return the error of pickling a value for a process, or None if it can be pickled."""
    from . import _by_value

    try:
        _by_value.dumps_by_value(value, False, None)
    except Exception as error:
        return error.with_traceback(None)
    return None


def obstacle(value: object, path: str) -> Obstacle | None:
    """Find what in a value cannot travel, as deep as it can be traced.

    Parameters
    ----------
    value : object
        What is to be sent.
    path : str
        How the program would write it.

    Returns
    -------
    Obstacle or None
        None if all of it can travel.

    Examples
    --------
    >>> print(obstacle({"pages": [1, (n for n in "ab")]}, "args[0]").path)
    args[0]['pages'][1]
    """
    error = refusal(value)
    if error is None:
        return None
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        seen.add(id(value))
        for inner_path, inner in _parts(value, path):
            if len(seen) > _MOST:
                break
            if id(inner) not in seen and (inner_error := refusal(inner)) is not None:
                value, path, error = inner, inner_path, inner_error
                break
            seen.add(id(inner))
        else:
            break
    return Obstacle(path, value, error)


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what a value consists of, with the paths."""
    if isinstance(value, dict):
        for key, part in list(value.items()):
            yield f"{path}[{key!r}]", part
            yield f"the key {key!r} of {path}", key
    elif isinstance(value, (list, tuple)):
        for place, part in enumerate(value):
            yield f"{path}[{place}]", part
    elif isinstance(value, (set, frozenset)):
        yield from ((f"an element of {path}", part) for part in value)
    elif isinstance(value, MethodType):
        yield f"{path}.__self__", value.__self__
    elif isinstance(value, FunctionType):
        yield from _of_function(value, path)
    elif not isinstance(value, (type, ModuleType)):
        yield from _attributes(value, path)


def _of_function(function: FunctionType, path: str) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield f"{path}'s closure variable {name}", cell.cell_contents
        except ValueError:
            pass
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield f"{path}'s global {name}", function.__globals__[name]
    for place, part in enumerate(function.__defaults__ or ()):
        yield f"{path}'s default {place}", part


def _attributes(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if type(value).__name__ == "partial":
        yield f"{path}.func", value.func
        yield f"{path}.args", value.args
        yield f"{path}.keywords", value.keywords
    # What an object says it consists of, which may leave out what cannot travel.
    state = getattr(value, "__dict__", None)
    if isinstance(state, dict):
        yield from ((f"{path}.{name}", part) for name, part in list(state.items()))
    for kind in type(value).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(value, name):
                yield f"{path}.{name}", getattr(value, name)


def add_note(error: BaseException, note: str) -> None:
    """Add a line to what an error tells, where notes are shown: from Python 3.11 on."""
    if sys.version_info >= (3, 11):
        error.add_note(note)
    else:
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [*notes, note]  # type: ignore[attr-defined]


class CannotTravel(RaddleError, PicklingError, TypeError):
    """Something cannot be sent to another process: the message names it by its path.

    Examples
    --------
    >>> import raddle
    >>> letters = (letter for letter in "ab")
    >>> try:
    ...     list(raddle.map(lambda n: next(letters), [1, 2], how="processes"))
    ... except raddle.CannotTravel as error:
    ...     print(str(error).partition(":")[0])
    the function's global letters
    """
