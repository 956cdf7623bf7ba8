"""What the codec needs of Python: pickling that the C pickler cannot do, and errors as text.

It is loaded in the program and in every worker, so it imports nothing that takes time until that
is needed.
"""

from __future__ import annotations

import os
import sys
from _pickle import loads

from . import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from typing import Any

PROTOCOL = 5

os.register_at_fork(before=_native.pin_views, after_in_parent=_native.note_forked)


# --- Pickling --------------------------------------------------------------------------------


def dumps_forking(value: object, collect: Callable[[Any], bool] | None = None) -> bytes:
    """Pickle as :mod:`multiprocessing` does; `collect` is told of buffers, as in `pickle`."""
    from multiprocessing.reduction import ForkingPickler

    if collect is None:
        return bytes(ForkingPickler.dumps(value, PROTOCOL))
    from io import BytesIO

    data = BytesIO()
    ForkingPickler(data, PROTOCOL, True, collect).dump(value)
    return data.getvalue()


def reducers() -> dict[type, Callable[[Any], Any]]:
    """Return what is registered with `copyreg` and, if it is loaded, `multiprocessing`."""
    import copyreg

    return {**copyreg.dispatch_table, **(extra_reducers() or {})}


def extra_reducers() -> dict[type, Callable[[Any], Any]] | None:
    """Return what `multiprocessing` has registered, if the program has loaded it."""
    if "multiprocessing.reduction" not in sys.modules:
        return None
    try:
        # An import waits for another thread that is just loading it.
        from multiprocessing.reduction import ForkingPickler
    except ImportError:
        # This thread is just loading it: there is nothing yet that it could be for.
        return None
    extra: dict[type, Callable[[Any], Any]] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    return extra


#: What `multiprocessing` registers of these is pickled the same without it.
_NO_REASON = {"builtins", "functools"}


def modules_with_reducers(reducers: dict[type, Callable[[Any], Any]]) -> list[str]:
    """Return the modules of the classes that `multiprocessing` pickles in its own way."""
    return list({kind.__module__ for kind in reducers} - _NO_REASON)


class _Plain:
    """A class as simple as can be: instances have attributes, and nothing else."""


#: What makes pickling an instance something else than taking its attributes, unless it is
#: `object`'s own or missing.
_OWN_WAYS = (
    *("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__new__", "__getnewargs__"),
    *("__getnewargs_ex__", "__getattribute__", "__getattr__"),
)
_LAYOUT = ("__basicsize__", "__itemsize__", "__dictoffset__", "__weakrefoffset__")


def name_if_plain(kind: type) -> tuple[str, str] | None:
    """Return module and name of a class whose instances are just their attributes to a pickle."""
    module, name = kind.__module__, kind.__qualname__
    if type(kind) is not type or type(module) is not str or "." in name:
        return None
    # What is found through a base is that of `object`, as the bases have been asked too.
    if any(getattr(kind, way, None) is not getattr(object, way, None) for way in _OWN_WAYS):
        return None
    if any(getattr(kind, part) != getattr(_Plain, part) for part in _LAYOUT):
        return None
    getset = type(_Plain.__dict__["__dict__"])
    for base in kind.__mro__[:-1]:
        if "__class__" in vars(base) or base.__dict__.get("__slots__"):
            return None
        if type(base.__dict__.get("__dict__")) not in (type(None), getset):
            return None
    return module, name


#: Modules that can be imported elsewhere: it is found out once.
_importable: set[str] = set()


def is_importable_module(name: str) -> bool:
    """Return whether a fresh process that imports this name gets what this process has."""
    if name not in _importable:
        if not _find_importable(name):
            return False
        _importable.add(name)
    return True


def _find_importable(name: str) -> bool:
    if name == "__main__":
        return False
    top = name.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return True
    module = sys.modules.get(name)
    if module is None:
        return True
    spec = getattr(module, "__spec__", None)
    found = _find_spec(name)
    if found is None:
        # A package may make its submodules itself when it is imported.
        parent = name.rpartition(".")[0]
        return bool(parent) and spec is None and is_importable_module(parent)
    return spec is None or not spec.has_location or _is_same_file(spec.origin, found.origin)


def _find_spec(name: str) -> ModuleSpec | None:
    parent = name.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if parent and path is None:
        return None
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path, None)
        if spec is not None:
            return spec
    return None


def _is_same_file(one: str | None, other: str | None) -> bool:
    import os.path

    if one == other:
        return True
    try:
        return os.path.samefile(one or "", other or "")
    except OSError:
        return False


def name_of(function: object) -> str:
    """Return what messages call a function."""
    try:
        name = getattr(function, "__qualname__", None)
        if isinstance(name, str):
            return name
        inner = getattr(function, "func", None)
        if inner is not None:
            return f"{type(function).__name__}({name_of(inner)})"
        return type(function).__qualname__
    except Exception:
        return type(function).__name__


# --- Errors ----------------------------------------------------------------------------------


def class_name(error: BaseException) -> str:
    """Return an exception's class as tracebacks name it."""
    kind = type(error)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def tell(error: BaseException) -> tuple[str, str, str]:
    """Return an exception's class, message and traceback as text, and let go of its frames."""
    try:
        name = class_name(error)
    except BaseException:
        name = "BaseException"
    try:
        message = str(error)
    except BaseException:
        message = "<its message cannot be made: str() fails>"
    try:
        from traceback import format_exception

        text = "".join(format_exception(type(error), error, error.__traceback__))
    except BaseException:
        text = f"{name}: {message}\n"
    _forget_frames(error)
    return _encodable(name), _encodable(message), _encodable(text)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _forget_frames(error: BaseException) -> None:
    # The frames hold the arguments of the functions in them.
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            chain += (link.__cause__, link.__context__)


def raised(pickled: bytes | None, name: str, message: str, traceback: str) -> BaseException:
    """Return the exception that a task raised in a worker."""
    from ._process_errors import UnpicklingFailed

    error: object
    try:
        if pickled is None:
            raise ValueError("it could not be pickled")
        error = loads(pickled)
        if not isinstance(error, BaseException):
            raise TypeError(f"it was rebuilt as {type(error).__name__}, which is no exception")
    except KeyboardInterrupt:
        raise
    except BaseException as why:
        error = UnpicklingFailed.of_exception(why, name, message, traceback)
    return _with_remote_traceback(error, traceback)


def unreadable(pickled: bytes | None, name: str, message: str, traceback: str) -> BaseException:
    """Return the exception for a call that the worker could not rebuild."""
    from ._process_errors import UnpicklingFailed

    del pickled
    error = UnpicklingFailed.of_task(name, message, traceback)
    return _with_remote_traceback(error, traceback)


def _with_remote_traceback(error: BaseException, traceback: str) -> BaseException:
    # As the standard library does it, and by its class: programs look for that.
    from concurrent.futures import process

    remote: Any = process._RemoteTraceback
    error.__cause__ = remote(f'\n"""\n{traceback}"""')
    return error


def value_lost(why: BaseException) -> BaseException:
    """Return the exception for a value that cannot be rebuilt in the program."""
    from ._process_errors import UnpicklingFailed

    return UnpicklingFailed.of_value(why)


def damaged(what: str) -> BaseException:
    """Return the exception for a reply that is not what a worker sends."""
    from ._process_errors import UnpicklingFailed

    return UnpicklingFailed.of_damage(what)
