"""Calls shortened for messages, from their pickles, without running anything of the user's.

A pickle is read with every class and function replaced by a shadow that only has its name.
"""

from __future__ import annotations

import marshal
import reprlib
from io import BytesIO
from pickle import Unpickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Larger pickles are not read for the sake of a message.
LARGEST = 1 << 20
#: Characters that the arguments of a call may take.
WIDTH = 160

_HARMLESS: dict[str, type] = {
    kind.__name__: kind for kind in (complex, range, slice, set, frozenset)
}
#: Functions of pickles that make an object of the class that is their first argument.
_MAKERS = ("_reconstruct", "_reconstructor", "__newobj__", "__newobj_ex__")


class _ShadowClass(type):
    def __repr__(cls) -> str:
        return cls.__name__


class _Shadow(metaclass=_ShadowClass):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.__name__ in _MAKERS and args and isinstance(args[0], _ShadowClass):
            return args[0]()
        if cls.__name__ in ("_make_skeleton_class", "_make_function"):
            # By these cloudpickle makes what it has copied.
            names = [value for value in args if isinstance(value, str)]
            return _shadow_of(names[0] if names else "function")
        if cls.__name__ == "_frombuffer":
            # By this numpy makes an array of a buffer.
            return _shadow_of("ndarray")()
        if cls.__name__ == "make_function" and args and isinstance(args[0], bytes):
            return _shadow_of(marshal.loads(args[0]).co_name)
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Shadow:
        return self

    def append(self, item: object) -> None:
        """Take an item, as a list does."""

    def extend(self, items: object) -> None:
        """Take items, as a list does."""

    def add(self, item: object) -> None:
        """Take an item, as a set does."""


def _shadow_of(name: str) -> _ShadowClass:
    return _ShadowClass(name.rpartition(".")[2], (_Shadow,), {})


def _body_of(_definitions: dict[str, bytes], body: bytes) -> Any:
    """Leave out the definitions that go before a value."""
    return _ShadowUnpickler(BytesIO(body)).load()


class _ShadowUnpickler(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "builtins" and name in _HARMLESS:
            return _HARMLESS[name]
        if module == "raddle._main_globals" and name == "unpack":
            return _body_of
        return _shadow_of(name)

    def persistent_load(self, pid: object) -> Any:
        return _shadow_of("persistent")()


def _shortener() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxlevel = 3
    short.maxtuple = short.maxlist = short.maxdict = short.maxset = short.maxfrozenset = 4
    short.maxstring = short.maxother = 40
    return short


def sketch_size(size: int) -> str:
    """Return what stands for arguments of so many bytes, which are not read for a message."""
    amount = f"{size / 1e6:.0f} MB" if size >= LARGEST else f"{size / 1e3:.0f} KB"
    return f"(... {amount} of arguments)"


def sketch_pickle(pickle: bytes, form: str, buffers: int = 0) -> str:
    """Return the arguments in a pickle as the source of a call has them, shortened.

    So many buffers lie beside it, which are not looked at.
    """
    if len(pickle) > LARGEST:
        return sketch_size(len(pickle))
    value = _ShadowUnpickler(BytesIO(pickle), buffers=[b""] * buffers).load()
    return sketch(value, form)


def sketch(value: Any, form: str) -> str:
    """Return the arguments of a call as its source has them, shortened."""
    short = _shortener()
    keywords: dict[str, Any] = {}
    if form == "rows":
        others = len(value) - 1
        more = f" and {others} more call{'s' * (others > 1)}" if others > 0 else ""
        return sketch(value[0] if value else (), "positional") + more
    if form == "keywords":
        value, keywords = value
    if form == "one":
        value = (value,)
    parts = [short.repr(argument) for argument in value[:9]]
    parts += ["..."] * (len(value) > 9)
    parts += [f"{name}={short.repr(argument)}" for name, argument in list(keywords.items())[:9]]
    text = ", ".join(parts)
    return f"({text[:WIDTH]}...)" if len(text) > WIDTH else f"({text})"
