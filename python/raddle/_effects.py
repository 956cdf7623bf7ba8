"""What a function may change outside of itself, read from its code: `effects_of`.

A map must not move such a function: a process would change a copy, and threads change in another
order. The code is walked with a stack that knows of each value where it comes from, and so are the
functions that it calls. What that cannot see is left to `_fingerprint`, which looks at what calls
have changed, here and in the workers.
"""

from __future__ import annotations

import builtins
import dis
import sys
import sysconfig
from collections.abc import Mapping
from contextvars import ContextVar, copy_context
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ._effects_calls import OPERATORS, Calls, changer_of
from ._effects_frame import Frame
from ._effects_values import (
    IMMUTABLE,
    UNKNOWN,
    Inner,
    Made,
    Origin,
    Super,
    Value,
    class_attribute,
    class_of,
    elements,
    join,
    join_all,
    own,
)

#: How many functions and instructions are looked into; what lies deeper is left to fingerprints.
_MOST_FUNCTIONS, _MOST_STEPS = 100, 5_000
#: By these a function guards what several threads change.
_LOCK_MODULES = frozenset(("_thread", "threading", "multiprocessing", "raddle"))
_LOCKS = frozenset(("lock", "rlock", "semaphore", "boundedsemaphore", "condition", "counter"))

#: What only the thread may use that has made it.
_OF_ONE_THREAD = frozenset(
    (
        ("_thread", "_local"), ("_threading_local", "local"), ("sqlite3", "Connection"),
        ("sqlite3", "Cursor"), ("tkinter", "Tk"),
    )
)  # fmt: skip

_LIBRARIES = tuple(
    {
        path
        for path in map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))
        if path
    }
)


class Effects:
    """What was found: why the function is to stay, and the objects that it reaches."""

    def __init__(self) -> None:
        #: Sentences: what it changes.
        self.reasons: dict[str, None] = {}
        #: What it uses of its surroundings: label, namespace and key.
        self.reached: dict[str, tuple[Any, Any]] = {}
        #: Whether it uses a lock, so that its author has thought of threads.
        self.has_locks = False
        #: Why it cannot go to threads, or to processes, though it changes nothing.
        self.ties: dict[str, str] = {}

    @property
    def reason(self) -> str | None:
        """The first reason, if there is one."""
        return next(iter(self.reasons), None)


def effects_of(function: Any, arguments: tuple[Any, ...] | None = None) -> Effects:
    """Read from a function's code what it changes that outlives the call.

    With arguments of one call, what their classes' methods do is read too.

    >>> seen = []
    >>> effects_of(lambda item: seen.append(item)).reason
    'it calls seen.append()'
    >>> effects_of(abs).reason is None
    True
    """
    effects = Effects()
    given: list[Value] | None = None
    if arguments is not None:
        given = [(Origin("argument", "", value),) for value in arguments]
    try:
        _Walk(effects).root(function, given)
    except RecursionError:
        pass
    return effects


class _Walk(Calls):
    """Walks through a function and what it calls."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        #: What functions return, by their code and arguments.
        self._known: dict[Any, Value] = {}
        self._steps = 0

    # --- What to walk through ---------------------------------------------------------------

    def root(self, function: Any, given: list[Value] | None) -> None:
        """Look into what is mapped: whatever can be called."""
        self.random(function)
        inner = getattr(function, "func", None)
        if inner is not None and type(function).__name__ == "partial":
            fixed = [self._fixed(place, one) for place, one in enumerate(function.args)]
            for place, value in enumerate(function.keywords.values(), len(fixed)):
                self._fixed(place, value)
            self.root(inner, [*fixed, *(given if given is not None else [_argument("")])])
        elif isinstance(function, MethodType):
            self.reach("self", (function.__self__,), 0)
            owner = self._noted(Origin("self", "self", function.__self__))
            self._root_function(function.__func__, owner, given)
        elif isinstance(function, FunctionType):
            self._root_function(function, None, given)
        elif isinstance(function, type):
            self.construct(function, given if given is not None else [_argument("item")], {}, None)
        elif hasattr(type(function), "__self__"):
            self._root_builtin(function, given)
        else:
            self._root_object(function, given)

    def _fixed(self, place: int, value: Any) -> Value:
        self.reach(f"partial argument {place}", (value,), 0)
        return self._noted(Origin("default", f"partial argument {place}", value))

    def _root_builtin(self, function: Any, given: list[Value] | None) -> None:
        owner = getattr(function, "__self__", None)
        if owner is not None and not isinstance(owner, (ModuleType, type)):
            self.reach("self", (owner,), 0)
            if changer_of(function, function.__name__, owner):
                self.note(f"it is {type(owner).__name__}.{function.__name__}")
        elif changer_of(function) is not None and given is not None:
            self.invoke(Origin("global", function.__name__, function), given, {}, None)

    def _root_object(self, function: Any, given: list[Value] | None) -> None:
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None and callable(wrapped):
            self.root(wrapped, given)
            registry = getattr(function, "registry", None)
            for one in registry.values() if isinstance(registry, Mapping) else ():
                self.root(one, given)
            return
        call = class_attribute(type(function), "__call__")
        if isinstance(call, FunctionType):
            self.reach("self", (function,), 0)
            self._root_function(call, (Origin("self", "self", function),), given)
        elif changer_of(function) is not None and given is not None:
            self.invoke(Origin("global", function.__name__, function), given, {}, None)

    def _root_function(self, function: Any, owner: Value | None, given: list[Value] | None) -> None:
        if not isinstance(function, FunctionType):
            self.root(function, given)
            return
        code = function.__code__
        first = [] if owner is None else [owner]
        names = code.co_varnames[len(first) : code.co_argcount]
        if given is None:
            least = len(names) - len(function.__defaults__ or ())
            given = [_argument(name) for name in names[: max(1, least)]]
        else:
            given = [
                tuple(origin._replace(path=origin.path or name) for origin in value)
                for value, name in zip(given, [*names, *[code.co_name] * len(given)])
            ]
        registry = getattr(function, "registry", None)
        for one in registry.values() if isinstance(registry, Mapping) else ():
            if one is not function:
                self.root(one, given)
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):
            self.enter(wrapped, [*first, *given], {})
        self.enter(function, [*first, *given], {})

    def enter(self, function: FunctionType, places: list[Value], named: dict[str, Value]) -> Value:
        """Walk through a function with these arguments; return what it returns."""
        if not self.is_users(function):
            return ()
        variables = self._bound(function, places, named)
        code = function.__code__
        cells = dict(zip(code.co_freevars, function.__closure__ or ()))
        frame = Frame(code, function.__globals__, cells, variables)
        return self._frame(frame, id(function))

    @staticmethod
    def is_users(function: FunctionType) -> bool:
        """Return whether a function is of the program, and not of a library with its own caches."""
        return not function.__code__.co_filename.startswith((*_LIBRARIES, "<frozen"))

    def inner(self, inner: Inner, places: list[Value], named: dict[str, Value]) -> Value:
        """Walk through a function that the walked code makes."""
        code, around = inner.code, inner.frame
        count = code.co_argcount + code.co_kwonlyargcount
        variables = dict(zip(code.co_varnames[:count], places))
        variables |= {name: value for name, value in named.items() if name in code.co_varnames}
        frame = Frame(code, around.names, around.cells, variables)
        frame.outer = {**around.outer, **around.own_cells}
        value = self._frame(frame, id(code))
        for name in code.co_freevars:
            if name in around.own_cells:
                around.own_cells[name] = join(around.own_cells[name], frame.outer.get(name, ()))
        return value

    def _frame(self, frame: Frame, function: int) -> Value:
        key = (function, *((name, *map(Origin.key, v)) for name, v in frame.first.items() if v))
        if key in self._known or len(self._known) >= _MOST_FUNCTIONS:
            return self._known.get(key, ())
        self._known[key] = ()
        made: list[CodeType] = []
        for step in frame.steps():
            self._steps += 1
            if self._steps > _MOST_STEPS:
                break
            self._step(frame, step)
            if step.opname == "LOAD_CONST" and isinstance(step.argval, CodeType):
                made.append(step.argval)
        for code in dict.fromkeys(made):
            # It may be called later, by whoever gets it.
            self.inner(Inner(code, frame), [], {})
        self._known[key] = frame.returned
        return frame.returned

    def _bound(
        self, function: FunctionType, places: list[Value], named: dict[str, Value]
    ) -> dict[str, Value]:
        """Return the variables that a call begins with."""
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        variables = dict(zip(names, places))
        rest = code.co_argcount + code.co_kwonlyargcount
        if code.co_flags & 0x04:
            extra = Made(tuple)
            extra.put("[]", join_all(places[len(names) :]))
            variables[code.co_varnames[rest]] = own(extra)
        variables |= {name: value for name, value in named.items() if name in code.co_varnames}
        defaults = function.__defaults__ or ()
        for place, name in enumerate(names[len(names) - len(defaults) :]):
            if name not in variables:
                variables[name] = self._default(function, name, defaults, place)
        for name in function.__kwdefaults__ or {}:
            if name not in variables:
                variables[name] = self._default(function, name, function.__kwdefaults__, name)
        return variables

    def _default(self, function: FunctionType, name: str, space: Any, key: Any) -> Value:
        if type(space[key]) in IMMUTABLE:
            return ()
        self.reach(f"default {name!r} of {function.__name__}", space, key)
        return self._noted(Origin("default", name, space[key]))

    # --- One instruction --------------------------------------------------------------------

    def _step(self, frame: Frame, step: dis.Instruction) -> None:
        name = step.opname
        special = _STEPS.get(name)
        if special is not None:
            special(self, frame, step)
        elif name.startswith("CALL") and "INTRINSIC" not in name:
            self._call(frame, step)
        elif name.startswith(("BINARY_", "INPLACE_", "COMPARE_OP", "CONTAINS_OP")):
            self._operate(frame, step)
        else:
            if name == "RETURN_VALUE" or name == "YIELD_VALUE":
                frame.returned = join(frame.returned, frame.stack[-1] if frame.stack else ())
            frame.move(step)

    def _call(self, frame: Frame, step: dis.Instruction) -> None:
        callee, places, named = frame.call(step)
        made = frame.made(step)
        values = [
            _super(frame) if origin.value is super else self.invoke(origin, places, named, made)
            for origin in callee
        ]
        for value in (*places, *named.values()):
            self.hand(value)
        frame.stack.append(join_all(values))

    def _store_global(self, frame: Frame, step: dis.Instruction) -> None:
        if step.opname == "STORE_GLOBAL":
            frame.pop()
        self.note(f"it stores to the global {step.argval!r}")

    def _load_global(self, frame: Frame, step: dis.Instruction) -> None:
        frame.load_global(step, self._global(frame, step.argval))

    def _global(self, frame: Frame, name: str) -> Value:
        if name in frame.names:
            self.reach(f"global {name!r}", frame.names, name)
            return self._noted(Origin("global", name, frame.names[name]))
        value = getattr(builtins, name, UNKNOWN)
        return () if value is UNKNOWN else (Origin("builtin", name, value),)

    def _load_cell(self, frame: Frame, step: dis.Instruction) -> None:
        name = step.argval
        cell = frame.cells.get(name)
        if name in frame.own_cells or cell is None:
            known = frame.own_cells if name in frame.own_cells else frame.outer
            frame.stack.append(known.get(name, ()))
            return
        self.reach(f"closure variable {name!r}", cell, "cell_contents")
        frame.stack.append(self._noted(Origin("closure", name, _content(cell))))

    def _load_closure(self, frame: Frame, step: dis.Instruction) -> None:
        frame.stack.append(())

    def _store_cell(self, frame: Frame, step: dis.Instruction) -> None:
        name, value = step.argval, frame.pop()
        if name in frame.code.co_freevars and name in frame.cells:
            self.note(f"it stores to the closure variable {name!r}")
        elif name in frame.code.co_freevars:
            frame.outer[name] = join(frame.outer.get(name, ()), value)
        else:
            frame.own_cells[name] = join(frame.own_cells.get(name, ()), value)

    def _noted(self, origin: Origin) -> Value:
        kind = type(origin.value)
        module, name = str(kind.__module__).partition(".")[0], kind.__name__
        self._effects.has_locks |= module in _LOCK_MODULES and name.lower() in _LOCKS
        if (module, name) in _OF_ONE_THREAD or name.endswith("EventLoop"):
            what = f"it uses {origin.path}, a {name}, which belongs to the thread that made it"
            self._effects.ties.setdefault("threads", what)
        elif kind is ContextVar and origin.value in copy_context():
            what = f"it uses the context variable {origin.value.name!r}"
            self._effects.ties.setdefault("processes", f"{what}, which a process has not")
        return (origin,)

    def _load_attribute(self, frame: Frame, step: dis.Instruction) -> None:
        owner = frame.pop()
        is_method = step.opname == "LOAD_METHOD" or (
            step.opname == "LOAD_ATTR" and sys.version_info >= (3, 12) and (step.arg or 0) & 1
        )
        value = join_all(self.attribute(origin, step.argval) for origin in owner)
        for origin in value:
            self._noted(origin)
        frame.stack += [value, ()] if is_method else [value]

    def _load_super(self, frame: Frame, step: dis.Instruction) -> None:
        _super, kind, owner = frame.pops(3)
        after = next((one.value for one in kind), None)
        value = join_all(
            self.attribute(Origin("own", "super()", Super(after, origin)), step.argval)
            for origin in owner
        )
        frame.stack += [value, ()] if (step.arg or 0) & 1 else [value]

    def _store_attribute(self, frame: Frame, step: dis.Instruction) -> None:
        owner = frame.pop()
        value = frame.pop() if step.opname == "STORE_ATTR" else ()
        verb = "sets" if step.opname == "STORE_ATTR" else "deletes"
        for origin in owner:
            if isinstance(origin.value, Made):
                origin.value.put(step.argval, value)
            else:
                self.change(origin, f"it {verb} {{}}.{step.argval}")
            self.special(origin, ("__setattr__",), [(), value])
            setter = class_attribute(class_of(origin) or object, step.argval)
            if isinstance(setter, property) and isinstance(setter.fset, FunctionType):
                self.enter(setter.fset, [(origin,), value], {})

    def _store_part(self, frame: Frame, step: dis.Instruction) -> None:
        name = step.opname
        below = frame.pops({"STORE_SUBSCR": 3, "DELETE_SUBSCR": 2, "STORE_SLICE": 4}[name])
        value, owner = below[0], below[-3 if name == "STORE_SLICE" else -2]
        for origin in owner:
            if isinstance(origin.value, Made):
                stored = elements(value) if name == "STORE_SLICE" else value
                origin.value.put("[]", stored if name != "DELETE_SUBSCR" else ())
            self.change(origin, "it stores into {}")
            self.special(origin, ("__setitem__", "__delitem__"), [below[-1], value])

    def _iterate(self, frame: Frame, step: dis.Instruction) -> None:
        name, whole = step.opname, frame.pop()
        if name == "GET_ITER":
            for origin in whole:
                self.special(origin, ("__iter__",), [])
            frame.stack.append(whole)
        elif name == "FOR_ITER":
            frame.stack += [whole, self.element(whole, of_keys=True)]
        else:
            frame.stack += [self.element(whole, of_keys=True)] * (step.arg or 0)

    def _operate(self, frame: Frame, step: dis.Instruction) -> None:
        name = step.opname
        operands = frame.pops(3 if name == "BINARY_SLICE" else 2)
        symbol = step.argrepr if name in ("BINARY_OP", "COMPARE_OP") else name
        is_in_place = name.startswith("INPLACE") or (name == "BINARY_OP" and "=" in symbol)
        symbol = symbol.removeprefix("bool(").removesuffix(")")
        if name in ("BINARY_SUBSCR", "BINARY_SLICE"):
            frame.stack.append(self._subscript(name, *operands[:2]))
            return
        result: Value = ()
        for place, operand in enumerate(operands):
            for origin in operand:
                others = [operands[1 - place]]
                result = join(result, self.special(origin, OPERATORS.get(symbol, ()), others))
        if is_in_place:
            for origin in operands[0]:
                self.in_place(origin, symbol)
            result = join(result, operands[0])
        frame.stack.append(result)

    def _subscript(self, name: str, whole: Value, place: Value) -> Value:
        if name == "BINARY_SLICE":
            made = Made()
            made.put("[]", elements(whole))
            return own(made)
        found = [self.special(origin, ("__getitem__", "__missing__"), [place]) for origin in whole]
        return join(elements(whole), join_all(found))

    def _with(self, frame: Frame, step: dis.Instruction) -> None:
        context = frame.pop()
        entered = [self.special(origin, ("__enter__", "__exit__"), []) for origin in context]
        frame.stack += [(), join(context, join_all(entered))]

    def _import(self, frame: Frame, step: dis.Instruction) -> None:
        if step.opname == "IMPORT_FROM":
            module = frame.stack[-1] if frame.stack else ()
            value = join_all(self.attribute(origin, step.argval) for origin in module)
            frame.stack.append(value)
            return
        names = frame.constant
        frame.pops(2)
        name = str(step.argval)
        shown = name if names else name.partition(".")[0]
        frame.stack.append((Origin("global", shown, sys.modules.get(shown, UNKNOWN)),))

    def _make_function(self, frame: Frame, step: dis.Instruction) -> None:
        frame.pops(2 if sys.version_info < (3, 11) else 1)  # before 3.11 its name too
        if sys.version_info < (3, 13):
            frame.pops((step.arg or 0).bit_count())
        code = frame.made_code
        frame.stack.append(() if code is None else own(Inner(code, frame)))

    def _set_function_attribute(self, frame: Frame, step: dis.Instruction) -> None:
        function = frame.pop()
        frame.pop()
        frame.stack.append(function)

    # --- What was found ---------------------------------------------------------------------

    def reach(self, label: str, space: Any, key: Any) -> None:
        """Note what of its surroundings the function uses."""
        self._effects.reached.setdefault(label, (space, key))

    def note(self, reason: str) -> None:
        """Note that something outside is changed."""
        self._effects.reasons[reason] = None

    def change(self, origin: Origin, what: str) -> None:
        """Note that something is changed, if it is not the call's own."""
        if origin.is_outside:
            mark = ", its argument" if origin.kind == "argument" else ""
            self.note(f"{what.format(origin.path)}{mark}")


_STEPS: dict[str, Any] = {
    **dict.fromkeys(("STORE_GLOBAL", "DELETE_GLOBAL"), _Walk._store_global),
    **dict.fromkeys(("LOAD_GLOBAL", "LOAD_NAME"), _Walk._load_global),
    **dict.fromkeys(("LOAD_DEREF", "LOAD_CLASSDEREF"), _Walk._load_cell),
    "LOAD_CLOSURE": _Walk._load_closure,
    "STORE_DEREF": _Walk._store_cell,
    **dict.fromkeys(("LOAD_ATTR", "LOAD_METHOD"), _Walk._load_attribute),
    "LOAD_SUPER_ATTR": _Walk._load_super,
    **dict.fromkeys(("STORE_ATTR", "DELETE_ATTR"), _Walk._store_attribute),
    **dict.fromkeys(("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"), _Walk._store_part),
    **dict.fromkeys(("GET_ITER", "FOR_ITER", "UNPACK_SEQUENCE"), _Walk._iterate),
    **dict.fromkeys(("BEFORE_WITH", "SETUP_WITH"), _Walk._with),
    **dict.fromkeys(("IMPORT_NAME", "IMPORT_FROM"), _Walk._import),
    "MAKE_FUNCTION": _Walk._make_function,
    "SET_FUNCTION_ATTRIBUTE": _Walk._set_function_attribute,
}


def _argument(name: str) -> Value:
    return (Origin("argument", name, UNKNOWN),)


def _super(frame: Frame) -> Value:
    after = _content(frame.cells.get("__class__"))
    owners = frame.first.get(next(iter(frame.code.co_varnames), ""), ())
    return join_all(own(Super(after, origin)) for origin in owners)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return UNKNOWN
