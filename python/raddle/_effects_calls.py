"""What calls, attributes and operators do to where values come from: a part of `_effects`."""

from __future__ import annotations

import bisect
import builtins
import heapq
import operator
import os
import sys
from abc import ABC, abstractmethod
from contextvars import ContextVar
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ._effects_values import (
    CALLABLES,
    IMMUTABLE,
    UNKNOWN,
    Inner,
    Made,
    Origin,
    Super,
    Value,
    attribute_of,
    class_attribute,
    class_of,
    elements,
    join,
    join_all,
    own,
)

#: Methods that change their object, of the types of the standard library and of files.
MUTATORS = frozenset(
    "append extend insert remove pop popitem clear sort reverse add discard update setdefault "
    "difference_update intersection_update symmetric_difference_update appendleft extendleft "
    "popleft rotate subtract move_to_end write writelines put put_nowait send sendall truncate "
    "fill resize __setitem__ __delitem__ __iadd__ __setattr__ __delattr__ __next__ __ior__".split()
)
#: Functions that change their first argument; those of numpy go by their names.
_CHANGERS = (
    builtins.next, builtins.setattr, builtins.delattr, heapq.heappush, heapq.heappop,
    heapq.heapify, heapq.heapreplace, heapq.heappushpop, bisect.insort, bisect.insort_left,
    bisect.insort_right, operator.setitem, operator.delitem, operator.iadd, operator.iconcat,
    operator.iand, operator.ior, operator.isub, operator.ixor, operator.imul,
)  # fmt: skip
_NUMPY_CHANGERS = frozenset("copyto put place putmask fill_diagonal put_along_axis".split())
#: Functions that change something of the whole process.
_PROCESS_CHANGERS = (
    os.chdir, os.umask, os.putenv, os.unsetenv, sys.setrecursionlimit, sys.setswitchinterval,
)  # fmt: skip
#: Those that return elements of their arguments, and those that gather them into something new.
_PICKERS = (builtins.next, builtins.min, builtins.max, builtins.sum)
_GATHERERS = (
    builtins.iter, builtins.list, builtins.tuple, builtins.set, builtins.frozenset, builtins.sorted,
    builtins.reversed, builtins.filter, builtins.dict,
)  # fmt: skip
_PAIRERS = (builtins.zip, builtins.enumerate)
#: Methods of containers that return an element, and that gather them.
_PICKING = frozenset("get pop popleft popitem setdefault __getitem__ __next__".split())
_GATHERING = frozenset("values keys copy union difference intersection __iter__".split())
#: Builtin functions by which a method is called.
_BY_FUNCTION = {
    getattr(builtins, name): (f"__{name}__",)
    for name in "len str repr bool hash next abs int float iter format round".split()
} | {builtins.sorted: ("__iter__",), builtins.list: ("__iter__",), builtins.sum: ("__iter__",)}
#: Methods of an operator: by its sign, and by the name of its instruction before Python 3.11.
_NAMES = {
    "+": "add", "-": "sub", "*": "mul", "/": "truediv", "//": "floordiv", "%": "mod", "**": "pow",
    "@": "matmul", "<<": "lshift", ">>": "rshift", "&": "and", "|": "or", "^": "xor",
}  # fmt: skip
_INSTRUCTIONS = {
    "add": "ADD", "sub": "SUBTRACT", "mul": "MULTIPLY", "truediv": "TRUE_DIVIDE",
    "floordiv": "FLOOR_DIVIDE", "mod": "MODULO", "pow": "POWER", "matmul": "MATRIX_MULTIPLY",
    "lshift": "LSHIFT", "rshift": "RSHIFT", "and": "AND", "or": "OR", "xor": "XOR",
}  # fmt: skip
OPERATORS: dict[str, tuple[str, ...]] = {
    "CONTAINS_OP": ("__contains__",),
    **{
        sign: (f"__{name}__",)
        for sign, name in zip(
            ("<", "<=", "==", "!=", ">", ">="), ("lt", "le", "eq", "ne", "gt", "ge")
        )
    },
}
for _sign, _name in _NAMES.items():
    _methods = (f"__{_name}__", f"__r{_name}__")
    _in_place = (f"__i{_name}__", *_methods)
    OPERATORS |= {_sign: _methods, f"{_sign}=": _in_place}
    OPERATORS |= {f"BINARY_{_INSTRUCTIONS[_name]}": _methods}
    OPERATORS |= {f"INPLACE_{_INSTRUCTIONS[_name]}": _in_place}


def changer_of(function: Any, name: str = "", owner: Any = None) -> str | None:
    """Return how a function that changes its object or first argument is called, None if none.

    >>> changer_of(heapq.heappush), changer_of(list.append), changer_of(len)
    ('heappush', 'list.append', None)
    """
    if owner is not None:
        return name if name in MUTATORS or (name == "set" and type(owner) is ContextVar) else None
    found = getattr(function, "__name__", "")
    if any(function is one for one in _CHANGERS):
        return str(found)
    kind = getattr(function, "__objclass__", None)
    if kind is not None and isinstance(function, CALLABLES) and found in MUTATORS:
        return f"{kind.__name__}.{found}"
    module = str(getattr(function, "__module__", None))
    if module.partition(".")[0] == "numpy" and found in _NUMPY_CHANGERS:
        return str(found)
    return None


class Calls(ABC):
    """What is known of calls; walking through code and taking notes is the subclass's."""

    @abstractmethod
    def enter(self, function: FunctionType, places: list[Value], named: dict[str, Value]) -> Value:
        """Walk through a function with these arguments; return what it returns."""

    @abstractmethod
    def inner(self, inner: Inner, places: list[Value], named: dict[str, Value]) -> Value:
        """Walk through a function that the walked code makes."""

    @staticmethod
    @abstractmethod
    def is_users(function: FunctionType) -> bool:
        """Return whether a function is of the program."""

    @abstractmethod
    def reach(self, label: str, space: Any, key: Any) -> None:
        """Note what of its surroundings the function uses."""

    @abstractmethod
    def note(self, reason: str) -> None:
        """Note that something outside is changed."""

    @abstractmethod
    def change(self, origin: Origin, what: str) -> None:
        """Note that something is changed, if it is not the call's own."""

    # --- Attributes and elements ------------------------------------------------------------

    def attribute(self, origin: Origin, name: str) -> Value:
        """Return what an attribute may be."""
        whole = origin.value
        if isinstance(whole, Super):
            kind = class_of(whole.origin)
            found = UNKNOWN if kind is None else class_attribute(kind, name, whole.after)
            return (Origin("own", f"super().{name}", found, whole.origin),)
        if name == "__class__":
            return (self._class(origin),)
        if isinstance(whole, Made):
            return self._attribute_of_made(origin, whole, name)
        if isinstance(whole, Inner) or origin.kind == "null":
            return ()
        found = attribute_of(whole, name)
        if isinstance(whole, ModuleType):
            if found is not UNKNOWN and not isinstance(found, (ModuleType, *CALLABLES, type)):
                self.reach(f"global '{origin.path}.{name}'", vars(whole), name)
            return (origin.part(f".{name}", found)._replace(owner=origin, kind="global"),)
        if isinstance(found, property):
            return self._property(origin, found, name)
        if found is UNKNOWN:
            found_by = self.special(origin, ("__getattr__", "__getattribute__"), [])
            return join((origin.part(f".{name}")._replace(owner=origin),), found_by)
        return (origin.part(f".{name}", found)._replace(owner=origin),)

    def _attribute_of_made(self, origin: Origin, made: Made, name: str) -> Value:
        known = made.parts.get(name, ())
        found = UNKNOWN if made.kind is None else class_attribute(made.kind, name)
        if isinstance(found, property):
            return self._property(origin, found, name)
        if isinstance(found, CALLABLES) or (found is UNKNOWN and not known):
            return (Origin("own", f"(...).{name}", found, origin),)
        if known or found is UNKNOWN:
            return known
        assert made.kind is not None
        return (Origin("global", f"{made.kind.__name__}.{name}", found),)

    def _property(self, origin: Origin, found: property, name: str) -> Value:
        value: Value = (origin.part(f".{name}"),) if origin.is_outside else ()
        if isinstance(found.fget, FunctionType):
            value = join(value, self.enter(found.fget, [(origin,)], {}))
        return value

    def _class(self, origin: Origin) -> Origin:
        kind = class_of(origin)
        return Origin("global", f"type({origin.path or '...'})", kind or UNKNOWN)

    def element(self, whole: Value, of_keys: bool = False) -> Value:
        """Return what an element may be that a loop takes."""
        found = [self.special(origin, ("__iter__", "__next__"), []) for origin in whole]
        return join(elements(whole, of_keys), join_all(found))

    def special(self, origin: Origin, names: tuple[str, ...], others: list[Value]) -> Value:
        """Walk through those methods of an object that its class defines in Python."""
        kind = class_of(origin)
        value: Value = ()
        if kind is None or isinstance(origin.value, (ModuleType, type)):
            return value
        for name in names:
            method = class_attribute(kind, name)
            if isinstance(method, FunctionType):
                value = join(value, self.enter(method, [(origin,), *others], {}))
        return value

    def in_place(self, origin: Origin, symbol: str) -> None:
        """Note an operator that changes its left side, if that is of a kind that it changes."""
        kind = class_of(origin)
        if kind is None or isinstance(origin.value, Made):
            return
        name = symbol.removesuffix("=")
        method = f"__i{_NAMES.get(name, '')}__"
        if name not in _NAMES:
            name = name.removeprefix("INPLACE_")
            method = next((f"__i{k}__" for k, v in _INSTRUCTIONS.items() if v == name), "")
        if not isinstance(class_attribute(kind, method), FunctionType) and hasattr(kind, method):
            self.change(origin, f"it changes {{}} by an operator ({method})")

    # --- Calls ------------------------------------------------------------------------------

    def invoke(
        self, callee: Origin, places: list[Value], named: dict[str, Value], made: Made | None
    ) -> Value:
        """Return what a call may return, and note what it changes."""
        function = callee.value
        if isinstance(function, Inner):
            return self.inner(function, places, named)
        self.random(function)
        owner = callee.owner
        is_method = owner is not None and not isinstance(owner.value, (ModuleType, type))
        if is_method and not isinstance(function, (type, MethodType)):
            return self._method(callee, owner, places, named, made)
        if isinstance(owner, Origin) and isinstance(owner.value, type):
            is_of_class = _is_class_method(owner.value, callee.path.rpartition(".")[2])
            places = [(owner,), *places] if is_of_class else places
        if isinstance(function, FunctionType):
            return self._function(function, places, named)
        if isinstance(function, MethodType):
            bound = Origin("global", f"{callee.path}.__self__", function.__self__)
            if isinstance(function.__func__, FunctionType):
                return self.enter(function.__func__, [(bound,), *places], named)
            return ()
        if any(function is one for one in _BY_BUILTIN):
            return self._builtin(callee, places, named, made)
        if isinstance(function, type):
            return self.construct(function, places, named, made)
        return self._builtin(callee, places, named, made)

    def _function(
        self, function: FunctionType, places: list[Value], named: dict[str, Value]
    ) -> Value:
        changer = changer_of(function)
        if changer is not None:
            for origin in places[0] if places else ():
                self.change(origin, f"it calls {changer}({{}})")
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):
            self.enter(wrapped, places, named)
        return self.enter(function, places, named)

    def _method(
        self,
        callee: Origin,
        owner: Origin,
        places: list[Value],
        named: dict[str, Value],
        made: Made | None,
    ) -> Value:
        name = callee.path.rpartition(".")[2]
        if isinstance(callee.value, FunctionType):
            if name in MUTATORS and not self.is_users(callee.value):
                self.change(owner, f"it calls {{}}.{name}()")
            return self.enter(callee.value, [self._first(owner, name), *places], named)
        known = class_of(owner)
        if changer_of(callee.value, name, owner.value) is not None:
            if isinstance(owner.value, Made):
                owner.value.put("[]", _added(name, places))
            self.change(owner, f"it calls {{}}.{name}()")
        elif callee.value is not UNKNOWN and not isinstance(callee.value, CALLABLES):
            # An attribute that can be called: an object, or a function kept in one.
            self.special(callee, ("__call__",), places)
        if name == "items":
            return _paired(made, elements((owner,)))
        if name in _PICKING:
            return elements((owner,))
        if name in _GATHERING and (
            known is None or known.__module__ in ("builtins", "collections")
        ):
            return _gathered(made, elements((owner,)))
        return ()

    def _first(self, owner: Origin, name: str) -> Value:
        """Return what a method gets as its first argument: for class methods it is the class."""
        return (self._class(owner) if _is_class_method(class_of(owner), name) else owner,)

    def construct(
        self, kind: type, places: list[Value], named: dict[str, Value], made: Made | None
    ) -> Value:
        """Walk through what making an object does."""
        if kind in IMMUTABLE:
            return ()
        thing = made if made is not None and made.kind in (None, kind) else Made(kind)
        thing.kind = kind
        value = own(thing)
        meta = class_attribute(type(kind), "__call__")
        if isinstance(meta, FunctionType):
            self.enter(meta, [(Origin("global", kind.__name__, kind),), *places], named)
        maker = class_attribute(kind, "__new__")
        if isinstance(maker, FunctionType):
            given: Value = (Origin("global", kind.__name__, kind),)
            value = join(value, self.enter(maker, [given, *places], named))
        init = class_attribute(kind, "__init__")
        if isinstance(init, FunctionType):
            self.enter(init, [value, *places], named)
            # A dataclass calls it from code that it has made.
            self.special(value[0], ("__post_init__",), [])
        else:
            thing.put("[]", join_all([*places, *named.values()]))
        return value

    def _builtin(
        self, callee: Origin, places: list[Value], named: dict[str, Value], made: Made | None
    ) -> Value:
        function = callee.value
        first = places[0] if places else ()
        changer = changer_of(function)
        if changer is not None:
            for origin in first:
                self.change(origin, f"it calls {callee.path or changer}({{}})")
                if isinstance(origin.value, Made):
                    origin.value.put("[]", join_all(places[1:]))
        elif any(function is one for one in _PROCESS_CHANGERS):
            self.note(f"it calls {callee.path}(), which changes the whole process")
        for place in places if function in (list, sorted, sum) else places[:1]:
            if _is_key(function):
                for origin in place:
                    self.special(origin, _BY_FUNCTION.get(function, ()), [])
        if isinstance(getattr(function, "__wrapped__", None), FunctionType):
            return self.enter(function.__wrapped__, places, named)
        if type(function).__name__ == "partial" and isinstance(function.func, FunctionType):
            fixed: list[Value] = [(Origin("default", "partial", one),) for one in function.args]
            return self.enter(function.func, [*fixed, *places], named)
        if function is not UNKNOWN and not isinstance(function, (type, *CALLABLES)):
            return self.special(callee, ("__call__",), places)
        return self._result(function, first, places, made)

    def _result(self, function: Any, first: Value, places: list[Value], made: Made | None) -> Value:
        if function is type and len(places) == 1:
            return tuple(self._class(origin) for origin in first)
        if function is globals:
            return (Origin("global", "globals()", UNKNOWN),)
        if function is vars and places:
            return tuple(origin.part(".__dict__") for origin in first if origin.is_outside)
        if function is getattr:
            return tuple(o.part(".<attribute>")._replace(owner=o) for o in first if o.is_outside)
        if getattr(function, "__name__", "") == "getcontext":
            return (Origin("global", "getcontext()", UNKNOWN),)
        if any(function is one for one in _PICKERS):
            return join_all(self.element(place) for place in places)
        if any(function is one for one in _PAIRERS):
            return _paired(made, join_all(self.element(place, True) for place in places))
        if function is map:
            for place in places[1:]:
                self.hand(first, [self.element(place, True)])
            return ()
        if any(function is one for one in _GATHERERS):
            return _gathered(made, join_all(self.element(place, True) for place in places))
        return ()

    def hand(self, value: Value, places: list[Value] | None = None) -> None:
        """Look into a function that is given to another, which may call it."""
        for origin in value:
            function, owner = origin.value, origin.owner
            name = origin.path.rpartition(".")[2]
            if owner is not None and function is not UNKNOWN and name in MUTATORS:
                self.change(owner, f"it passes on {{}}.{name}")
            elif isinstance(function, (FunctionType, MethodType, Inner)):
                self.invoke(origin, places or [], {}, None)
            elif places and changer_of(function) is not None:
                self.invoke(origin, places, {}, None)

    def random(self, function: Any) -> None:
        """Note the use of random numbers that the whole program shares."""
        source = getattr(function, "__self__", None)
        if type(source).__name__ in ("Random", "RandomState"):
            self.note("it draws from the random numbers that the whole program shares")


#: Classes among the builtin functions whose results are known better than those of a class.
_BY_BUILTIN: tuple[Any, ...] = (type, map, *_GATHERERS, *_PAIRERS, str, bool, int, float)


def _is_class_method(kind: type | None, name: str) -> bool:
    """Return whether what a class, or the first of its bases that has it, calls so is one."""
    bases = () if kind is None else kind.__mro__
    found = next((vars(base)[name] for base in bases if name in vars(base)), None)
    return type(found) is classmethod


def _added(name: str, places: list[Value]) -> Value:
    """Return what a method that changes a container puts into it."""
    if name in ("extend", "update", "extendleft", "difference_update", "__iadd__", "__ior__"):
        return join_all(map(elements, places))
    return join_all(places[1:] if name in ("setdefault", "insert", "__setitem__") else places)


def _gathered(made: Made | None, parts: Value) -> Value:
    made = Made() if made is None else made
    made.put("[]", parts)
    return own(made)


def _paired(made: Made | None, parts: Value) -> Value:
    """Return a container of pairs."""
    made = Made() if made is None else made
    made.pair = Made() if made.pair is None else made.pair
    made.pair.put("[]", parts)
    made.put("[]", own(made.pair))
    return own(made)


def _is_key(function: Any) -> bool:
    try:
        return function in _BY_FUNCTION
    except Exception:
        return False
