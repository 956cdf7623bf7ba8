"""What has come by value, made again: functions of ``__main__`` and the globals that they use.

In a worker all functions of the program's ``__main__`` live in one module of that name, as in the
program, so that an initializer and the tasks after it see the same globals. What has come with one
task stays for the next: a global is set again only when what the program sends for it has changed.
"""

from __future__ import annotations

import marshal
import sys
from _pickle import PicklingError, loads
from importlib import import_module
from types import CellType, FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

#: The bytes that last came for each global of ``__main__``, or a digest of them if they are many.
_came: dict[str, bytes] = {}
#: More bytes than these are not kept beside the value that was made of them.
MANY = 1 << 16


class Unsent:
    """Stands for a global that could not be sent: whoever uses it is told so."""

    __slots__ = ("_name", "_why")

    def __init__(self, name: str, why: str) -> None:
        self._name = name
        self._why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return Unsent, (self._name, self._why)

    def __repr__(self) -> str:
        return f"<the global {self._name!r} of __main__, which could not be sent: {self._why}>"

    def __getattr__(self, name: str) -> Any:
        return self._refuse()

    def _refuse(self, *_args: object) -> Any:
        raise PicklingError(
            f"the global {self._name!r} of __main__ is not in this process: it could not be sent "
            f"to it ({self._why}); make it in an initializer, or pass what the task needs of it"
        )

    __call__ = __enter__ = __exit__ = __bool__ = __iter__ = __next__ = __len__ = _refuse
    __getitem__ = __setitem__ = __delitem__ = __contains__ = _refuse


def main_globals() -> dict[str, Any]:
    """Return the globals of this process's ``__main__``."""
    return sys.modules["__main__"].__dict__


def has_come(name: str) -> bool:
    """Return whether this global of ``__main__`` came from the program."""
    return name in _came


def unpack(definitions: dict[str, bytes], body: bytes) -> object:
    """Set the globals that have changed, and load what needs them."""
    for name, pickled in definitions.items():
        before, mark = _came.get(name), _mark(pickled)
        if before == mark:
            continue
        # What the worker has set itself under this name stays until the program changes its own.
        if before is not None or name not in main_globals():
            main_globals()[name] = loads(pickled)
        _came[name] = mark
    return loads(body)


def _mark(pickled: bytes) -> bytes:
    if len(pickled) <= MANY:
        return pickled
    from _blake2 import blake2b

    return blake2b(pickled).digest()


def make_function(code: bytes, modules: list[str]) -> FunctionType:
    """Make a function of ``__main__`` from its code; `set_function` makes it complete.

    The modules are those that it uses through their packages.
    """
    for module in modules:
        import_module(module)
    loaded: CodeType = marshal.loads(code)
    cells = tuple(CellType() for _ in loaded.co_freevars)
    where = main_globals()
    where.setdefault("__builtins__", __builtins__)
    return FunctionType(loaded, where, loaded.co_name, None, cells or None)


def set_function(
    function: FunctionType, state: tuple[dict[str, Any], list[tuple[Any, ...]], dict[str, Any]]
) -> None:
    """Give a function its attributes, and its cells what they contain: a tuple of one or none."""
    attributes, contents, others = state
    for name, value in attributes.items():
        setattr(function, name, value)
    function.__dict__.update(others)
    for cell, content in zip(function.__closure__ or (), contents):
        if content:
            (cell.cell_contents,) = content
