"""Where the values come from that a function works with, as far as its code tells.

A value is a tuple of `Origin`s, since branches may bring different ones; the empty tuple is a value
of the call's own that nothing outside can see.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import (
    BuiltinMethodType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple, TypeAlias

#: How many origins of one value are followed, and elements of a container looked at.
_MOST_ORIGINS, _MOST_ELEMENTS = 12, 32
#: Characters of a path.
_LONGEST = 60
#: What has no parts that could be changed.
IMMUTABLE = (bool, int, float, complex, str, bytes, range, type(None), type(Ellipsis), slice)


class _Unknown:
    """Stands for an object that only a call will bring."""


UNKNOWN: Any = _Unknown()


class Origin(NamedTuple):
    """Where a value comes from."""

    #: "global", "closure", "self", "default", "argument", "builtin", "own" or "null".
    kind: str
    #: How the program would write it: ``config.names``.
    path: str
    #: What it is, if that can be known; `Made` or `Inner` for what the call itself makes.
    value: Any
    #: Set for a method that has been looked up: the origin of what it is a method of.
    owner: Any = None

    def part(self, name: str, value: Any = UNKNOWN) -> Origin:
        """Return the origin of a part of it."""
        return self._replace(path=f"{self.path}{name}"[:_LONGEST], value=value, owner=None)

    @property
    def is_outside(self) -> bool:
        """Whether somebody else may see it changed."""
        return self.kind not in ("own", "builtin", "null") and type(self.value) not in IMMUTABLE

    def key(self) -> Any:
        """Return what two origins that are the same have in common."""
        owner = None if self.owner is None else self.owner.key()
        return self.kind, self.path, id(self.value), owner


Value: TypeAlias = tuple[Origin, ...]

#: Stands where the interpreter pushes a NULL.
NULL = Origin("null", "", None)


class Made:
    """An object that the call makes itself: its class, and what of outside is put into it."""

    def __init__(self, kind: type | None = None) -> None:
        self.kind = kind
        #: By attribute; "[]" are the elements.
        self.parts: dict[str, Value] = {}
        #: Its elements, if they are pairs that a builtin function makes.
        self.pair: Made | None = None

    def put(self, name: str, value: Value) -> None:
        """Note that a part may be this."""
        self.parts[name] = join(self.parts.get(name, ()), value)


class Inner:
    """A function that is made by the call: its code, and the frame that makes it."""

    def __init__(self, code: CodeType, frame: Any) -> None:
        self.code = code
        self.frame = frame


class Super:
    """What ``super()`` gives: attributes of the classes after one, of an object."""

    def __init__(self, after: Any, origin: Origin) -> None:
        self.after = after
        self.origin = origin


def own(value: Any) -> Value:
    """Return a value that the call makes itself."""
    return (Origin("own", "", value),)


def join(one: Value, other: Value) -> Value:
    """Return a value that is one or the other."""
    if not other or one == other:
        return one
    if not one:
        return other
    found = {origin.key(): origin for origin in (*one, *other)}
    return tuple(found.values())[:_MOST_ORIGINS]


def join_all(values: Iterable[Value]) -> Value:
    """Return a value that is any of them."""
    found: Value = ()
    for value in values:
        found = join(found, value)
    return found


def elements(value: Value, of_keys: bool = False) -> Value:
    """Return what an element of a container may be."""
    return join_all(_elements(origin, of_keys) for origin in value)


def _elements(origin: Origin, of_keys: bool) -> Value:
    whole = origin.value
    if isinstance(whole, Made):
        return whole.parts.get("[]", ())
    if not origin.is_outside:
        return ()
    if not isinstance(whole, (list, tuple, set, frozenset, dict)):
        return (origin.part("[...]"),)
    if isinstance(whole, dict) and not of_keys:
        whole = whole.values()
    try:
        some = [one for one, _ in zip(whole, range(_MOST_ELEMENTS))]
    except RuntimeError:  # another thread has changed it
        return (origin.part("[...]"),)
    kinds = {type(one): one for one in some if type(one) not in IMMUTABLE}
    if not some and not of_keys:
        return (origin.part("[...]"),)
    return tuple(origin.part("[...]", one) for one in kinds.values())


def class_of(origin: Origin) -> type | None:
    """Return the class of what comes from there, if it is known."""
    if isinstance(origin.value, Made):
        return origin.value.kind
    if origin.value is UNKNOWN or isinstance(origin.value, (Inner, Super)):
        return None
    return type(origin.value)


def attribute_of(owner: Any, name: str) -> Any:
    """Look an attribute up without running code of the user's."""
    if owner is UNKNOWN:
        return UNKNOWN
    if isinstance(owner, ModuleType):
        return vars(owner).get(name, UNKNOWN)
    kind = owner if isinstance(owner, type) else type(owner)
    found = class_attribute(kind, name)
    if isinstance(owner, type):
        return found
    if isinstance(found, MemberDescriptorType):
        try:
            return found.__get__(owner, kind)
        except AttributeError:
            return UNKNOWN
    try:
        state = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return found
    if type(state) is dict and name in state and not isinstance(found, property):
        return state[name]
    return found


def class_attribute(kind: type, name: str, after: Any = None) -> Any:
    """Look up an attribute of a class; only in those that follow one, if that is given."""
    bases = kind.__mro__
    if after in bases:
        bases = bases[bases.index(after) + 1 :]
    for base in bases:
        if name in vars(base):
            found = vars(base)[name]
            return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    return UNKNOWN


#: Functions of all kinds.
CALLABLES = (
    FunctionType, MethodType, BuiltinMethodType, MethodDescriptorType, WrapperDescriptorType,
)  # fmt: skip
