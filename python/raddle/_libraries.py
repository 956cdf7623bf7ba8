"""Which libraries the workers of a pool of raddle's own are going to need (submit).

That is a guess, and only a matter of time: a worker loads what it lacks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ._preloaded_template import LIBRARIES
from ._processes import ProcessPoolExecutor

#: What these load too, if it is there.
_BROUGHT = {"pandas": ("numpy", "pyarrow"), "pyarrow": ("numpy",)}
#: Modules and functions that are looked at, at most.
_MOST = 300


class OwnPool(ProcessPoolExecutor):
    """A pool for one call, whose tasks are known when it is made."""

    def __init__(self, workers: int | None, libraries: tuple[str, ...], **more: Any) -> None:
        self._libraries = libraries
        super().__init__(workers, **more)


def needed_for(*values: object) -> tuple[str, ...]:
    """Return the libraries that a worker loads when it is sent a function, or other values.

    Examples
    --------
    >>> import numpy
    >>> needed_for(lambda n: numpy.sqrt(n))
    ('numpy',)
    >>> needed_for(len)
    ()
    """
    if not any(name in sys.modules for name in LIBRARIES):
        return ()
    found: set[str] = set()
    seen: set[int] = set()
    left = list(values)
    while left and len(seen) < _MOST and "pandas" not in found:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if not issubclass(type(value), ModuleType):
            left += _parts(value)
            continue
        name = str(getattr(value, "__name__", "")).partition(".")[0]
        if name in LIBRARIES:
            found.add(name)
        elif not _is_usual(name):
            left += _modules_in(value)
    for name in tuple(found):
        found.update(_BROUGHT.get(name, ()))
    return tuple(name for name in LIBRARIES if name in found and name in sys.modules)


def _is_usual(name: str) -> bool:
    """Tell whether a package brings none of the libraries."""
    # polars names them, and loads them when somebody needs them.
    return name in sys.stdlib_module_names or name in ("__main__", "raddle", "polars")


# What a value is, its type tells: to ask `isinstance` may run code of the user's.


def _modules_in(module: Any) -> Iterator[ModuleType]:
    """Give the modules that a module has loaded, as far as its names tell."""
    for value in list(vars(module).values()):
        # Of other types are those that stand for modules which nobody has needed yet.
        if type(value) is ModuleType:
            yield value
        elif issubclass(type(value), (FunctionType, type)):
            yield from _module_of(value)


def _module_of(value: Any) -> Iterator[ModuleType]:
    """Give the module of a function or a class."""
    name = getattr(value, "__module__", None)
    module = sys.modules.get(name) if type(name) is str else None
    if type(module) is ModuleType:
        yield module


def _parts(value: Any) -> Iterable[object]:
    """Return what comes along with a value."""
    kind = type(value)
    if kind is FunctionType:
        return _of_function(value)
    if kind is MethodType:
        return value.__func__, value.__self__
    if kind is partial:
        return value.func, *value.args, *value.keywords.values()
    if kind in (list, tuple):
        return list(value[:1])
    classes = (value if issubclass(kind, type) else kind).__mro__
    return [module for each in classes for module in _module_of(each)]


def _of_function(function: FunctionType) -> list[object]:
    is_inner = "<" in function.__qualname__
    if not is_inner and function.__module__ != "__main__":
        return list(_module_of(function))
    # It is sent as its code, with the globals that this names.
    from ._by_value import _content, _taken_apart

    _, names, _ = _taken_apart(function.__code__)
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    cells = [content for cell in function.__closure__ or () for content in _content(cell)]
    return values + cells
