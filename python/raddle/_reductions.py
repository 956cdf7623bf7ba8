"""How things are taken apart that neither the C pickler nor cloudpickle takes apart well."""

from __future__ import annotations

import _thread
import functools
import sys
from types import MemberDescriptorType

from . import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The class of functions decorated with `functools.lru_cache` or `functools.cache`.
Cached: type = functools._lru_cache_wrapper


def reduce_cached(function: Any) -> tuple[Any, ...]:
    """Take a cached function apart; its cache stays behind."""
    return make_cached, (function.__wrapped__, function.cache_parameters())


def make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Make a cached function again."""
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(prop: Any) -> tuple[Any, ...]:
    # Up to Python 3.11 it holds a lock.
    state = {name: value for name, value in vars(prop).items() if name != "lock"}
    return functools.cached_property, (prop.func,), state


def _reduce_weak_dictionary(dictionary: Any) -> tuple[Any, ...]:
    return type(dictionary), (dict(dictionary),)


def _make_again(thing: Any) -> tuple[Any, ...]:
    return type(thing), ()


def _reduce_lock(_lock: Any) -> tuple[Any, ...]:
    return _thread.allocate_lock, ()


def table(is_global: bool) -> dict[type, Callable[[Any], Any]]:
    """Return the reductions by class, as in `copyreg.dispatch_table`.

    A global that is a lock, or holds one, is one for each process, as it is where each process
    runs the program's top level. A lock that is passed as an argument is refused.
    """
    known: dict[type, Callable[[Any], Any]] = {functools.cached_property: _reduce_cached_property}
    weakref = sys.modules.get("weakref")
    if weakref is not None:
        for kind in (weakref.WeakKeyDictionary, weakref.WeakValueDictionary):
            known[kind] = _reduce_weak_dictionary
    if is_global:
        known[_thread.LockType] = _reduce_lock
        for kind in (_thread.RLock, _thread._local, _native.Lock, _native.RLock):
            known[kind] = _make_again
    return known


def with_slots(kind: type, reduced: Any) -> Any:
    """Complete what cloudpickle makes of a class: it leaves out that instances have slots."""
    slots = kind.__dict__.get("__slots__")
    if slots is None or not isinstance(reduced, tuple) or len(reduced[1]) != 6:
        return reduced
    if not all(isinstance(base, type) for base in reduced[1][2]):
        return reduced  # `typing.NamedTuple`, say, which sees to the slots itself
    maker, (meta, name, bases, keywords, *rest), (attributes, others), *setter = reduced
    kept = {key: value for key, value in attributes.items() if not _is_slot(kind, value)}
    keywords = {**keywords, "__slots__": slots}
    return (maker, (meta, name, bases, keywords, *rest), (kept, others), *setter)


def _is_slot(kind: type, value: object) -> bool:
    return type(value) is MemberDescriptorType and value.__objclass__ is kind
