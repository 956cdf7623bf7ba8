"""What the calls of a function change: its surroundings and arguments, compared by digests."""

from __future__ import annotations

import sys
from _pickle import Pickler
from collections.abc import Mapping
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

#: Bytes of a pickle that are looked at: a map over large arguments is not to be slowed down.
LIMIT = 1 << 18
#: What cannot change, or changes in ways that the code would tell.
_FIXED = (
    bool, int, float, complex, str, bytes, type(None), range, type, FunctionType, MethodType,
    BuiltinFunctionType, ModuleType, CodeType,
)  # fmt: skip


class _Enough(Exception):
    """So many bytes are all that is looked at."""


class _Digest:
    """A file that keeps only a digest of what is written to it."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._size = 0

    def write(self, data: Any) -> None:
        view = memoryview(data)[: LIMIT - self._size]
        self._hash.update(view)
        self._size += len(view)
        if self._size >= LIMIT:
            raise _Enough

    def value(self) -> bytes:
        return self._hash.digest()


def digest(value: object) -> object:
    """Return what is compared of a value; None if it cannot be looked into.

    >>> digest([1, 2]) == digest([1, 2]), digest([1, 2]) == digest([1, 3])
    (True, False)
    """
    if isinstance(value, _FIXED):
        return None
    written = _Digest()
    try:
        Pickler(written, 5).dump(value)
    except _Enough:
        pass
    except Exception:
        return None
    return written.value(), _length(value)


def _length(value: object) -> int:
    try:
        return len(value)  # type: ignore[arg-type]
    except Exception:
        return -1


def surroundings(reached: Mapping[str, tuple[Any, Any]]) -> dict[str, object]:
    """Return digests of what a function reaches: of globals, closure variables and its object."""
    found: dict[str, object] = {}
    for label, (space, key) in reached.items():
        try:
            value = getattr(space, key) if key == "cell_contents" else space[key]
        except (KeyError, ValueError):
            continue
        found[label] = digest(value)
    found[_SHARED] = _random_state()
    return found


#: So many values of a container are compared.
_MOST = 1000


def plain_values(reached: Mapping[str, tuple[Any, Any]]) -> dict[str, str]:
    """Return what a function reaches that is a number, a text or a container of such, written out.

    Unlike digests these can be compared between processes.

    >>> plain_values({"global 'rate'": ({"rate": 3}, "rate")})
    {"global 'rate'": '3'}
    """
    found = {}
    for label, (space, key) in reached.items():
        if key != "cell_contents" and not str(key).startswith("__") and key in space:
            try:
                found[label] = repr(_written_out(space[key], [_MOST]))
            except _Enough:
                pass
    return found


def _written_out(value: Any, left: list[int]) -> Any:
    """Return a value as one whose `repr` is always the same; raise `_Enough` if it has none."""
    left[0] -= 1
    kind = type(value)
    if left[0] < 0 or kind not in _PLAIN:
        raise _Enough
    if kind is dict:
        return {key: _written_out(each, left) for key, each in value.items() if _key(key)}
    if kind in (list, tuple):
        return kind(_written_out(each, left) for each in value)
    if kind in (set, frozenset):
        return sorted(repr(_written_out(each, left)) for each in value)
    return value


_PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None), list, tuple, dict, set,
                    frozenset))  # fmt: skip


def _key(key: object) -> bool:
    if type(key) not in (str, int, float, bool, bytes, type(None)):
        raise _Enough
    return True


#: How the random numbers are called that are nobody's own.
_SHARED = "state of the random numbers that the whole program shares"


def _random_state() -> object:
    modules = sys.modules
    state: list[object] = []
    try:
        if "random" in modules:
            state.append(hash(modules["random"].getstate()))
        if "numpy.random" in modules:
            state.append(digest(modules["numpy.random"].get_state()))
    except Exception:
        return None
    return state


def change(before: Mapping[str, object], after: Mapping[str, object]) -> str | None:
    """Return what is no longer what it was."""
    for label, value in after.items():
        if label in before and before[label] != value:
            return label
    return None
