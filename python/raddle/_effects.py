"""What a function may change outside of itself, read from its code: `effects_of`.

A map must not move such a function: a process would change a copy, and threads change in another
order. The code is walked once, with a stack that knows of each value only where it comes from.
What it cannot see is left to `_fingerprint`, which looks at what the first items have changed.
"""

from __future__ import annotations

import builtins
import dis
import sys
import sysconfig
from collections.abc import Sequence
from contextvars import ContextVar, copy_context
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ._effects_frame import UNKNOWN, Frame, Origin, attribute_of, content, one_of

#: Methods that change their object, of the types of the standard library and of files.
MUTATORS = frozenset(
    "append extend insert remove pop popitem clear sort reverse add discard update setdefault "
    "difference_update intersection_update symmetric_difference_update appendleft extendleft "
    "popleft rotate subtract move_to_end write writelines put put_nowait send sendall truncate "
    "fill resize __setitem__ __delitem__ __iadd__ __setattr__".split()
)
#: Functions that change their first argument, by module and name; those of C tell their own module.
_CHANGERS = {
    "builtins": frozenset(("next", "setattr", "delattr")),
    "_heapq": frozenset("heappush heappop heapify heapreplace heappushpop".split()),
    "_bisect": frozenset("insort insort_left insort_right".split()),
    "_operator": frozenset(
        "setitem delitem iadd iand iconcat ifloordiv ilshift imatmul imod imul ior ipow irshift "
        "isub itruediv ixor".split()
    ),
    "numpy": frozenset("copyto put place putmask fill_diagonal".split()),
}
#: Functions of one argument that call a method of its.
_PROTOCOLS = {
    "len": "__len__", "str": "__str__", "repr": "__repr__", "iter": "__iter__", "next": "__next__",
    "abs": "__abs__", "int": "__int__", "float": "__float__", "bool": "__bool__",
    "hash": "__hash__",
}  # fmt: skip
#: Those whose result consists of what is in their argument.
_VIEWS = frozenset(("iter", "next", "reversed", "enumerate", "zip", "min", "max", "filter"))
#: Methods of containers that give what is in them.
_GIVERS = frozenset("get values items keys setdefault pop popitem popleft __getitem__".split())
_OPERATORS = {
    "+": "add", "-": "sub", "*": "mul", "/": "truediv", "//": "floordiv", "%": "mod", "**": "pow",
    "@": "matmul", "&": "and", "|": "or", "^": "xor", "<<": "lshift", ">>": "rshift",
}  # fmt: skip
#: Of Python 3.10, which has an instruction for each.
_INSTRUCTIONS = {
    "ADD": "add", "SUBTRACT": "sub", "MULTIPLY": "mul", "TRUE_DIVIDE": "truediv",
    "FLOOR_DIVIDE": "floordiv", "MODULO": "mod", "POWER": "pow", "MATRIX_MULTIPLY": "matmul",
    "AND": "and", "OR": "or", "XOR": "xor", "LSHIFT": "lshift", "RSHIFT": "rshift",
}  # fmt: skip
#: Instructions that call a method of a value, and how deep that lies.
_SPECIAL = {
    "GET_ITER": ("__iter__", 1), "FOR_ITER": ("__next__", 1), "BINARY_SUBSCR": ("__getitem__", 2),
    "CONTAINS_OP": ("__contains__", 1), "COMPARE_OP": ("__eq__", 2),
    "BEFORE_WITH": ("__enter__", 1), "SETUP_WITH": ("__enter__", 1),
}  # fmt: skip
#: How many functions are looked into; what lies deeper is left to the fingerprints.
_MOST_FUNCTIONS = 200
#: What only the thread may use that has made it.
_OF_ONE_THREAD = frozenset(
    (
        ("_thread", "_local"), ("_threading_local", "local"), ("sqlite3", "Connection"),
        ("sqlite3", "Cursor"), ("tkinter", "Tk"),
    )
)  # fmt: skip
#: By these a function guards what several threads change.
_LOCK_MODULES = frozenset(("_thread", "threading", "multiprocessing", "raddle"))
_LOCKS = frozenset(("lock", "rlock", "semaphore", "boundedsemaphore", "condition", "counter"))


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


def effects_of(function: Any, arguments: tuple[Any, ...] = ()) -> Effects:
    """Read from a function's code what it changes that outlives the call.

    Of `arguments`, those of one call, more is known: which methods they have, and what these do.

    >>> seen = []
    >>> effects_of(lambda item: seen.append(item)).reason
    'it calls seen.append()'
    >>> effects_of(abs).reason is None
    True
    """
    effects = Effects()
    try:
        _Walk(effects).function(function, arguments)
    except RecursionError:
        pass
    return effects


class _Walk:
    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        #: Places of the arguments that functions change, by their code.
        self._changed: dict[CodeType, set[int]] = {}
        #: Where what they return comes from, if it is not their own.
        self._returned: dict[CodeType, Origin] = {}
        self._under_way: set[CodeType] = set()

    # --- What to walk through ---------------------------------------------------------------

    def function(self, function: Any, arguments: Sequence[Any] = ()) -> None:
        """Look into whatever can be called."""
        inner = getattr(function, "func", None)
        if inner is not None and type(function).__name__ == "partial":
            for place, value in enumerate([*function.args, *function.keywords.values()]):
                self._reach(f"partial argument {place}", (value,), 0)
                self._note(Origin("self", "a partial argument", value))
            self.function(inner, [*function.args, *arguments])
        elif isinstance(function, MethodType):
            self._reach("self", (function.__self__,), 0)
            owner = self._note(Origin("self", "self", function.__self__))
            self._method(function.__func__, owner, arguments)
        elif isinstance(function, BuiltinMethodType):
            self._builtin(function)
        elif isinstance(function, FunctionType) and hasattr(function, "registry"):
            for one in function.registry.values():  # of functools.singledispatch
                self.function(one, arguments)
        elif isinstance(function, FunctionType):
            self._into(function, None, _with_defaults(function, arguments))
        elif isinstance(function, type):
            self._pass(function, [], None, set())
        elif isinstance(getattr(function, "__wrapped__", None), FunctionType):
            self.function(function.__wrapped__, arguments)  # of functools.lru_cache
        else:
            call = attribute_of(type(function), "__call__")
            if isinstance(call, FunctionType):
                self._reach("self", (function,), 0)
                self._method(call, self._note(Origin("self", "self", function)), arguments)

    def _builtin(self, function: Any) -> None:
        owner = function.__self__
        if owner is not None and not isinstance(owner, ModuleType):
            self._reach("self", (owner,), 0)
            if function.__name__ in MUTATORS:
                self._effects.reasons[f"it is {type(owner).__name__}.{function.__name__}"] = None
            self._random(function)
        elif _is_changer(function):
            self._effects.reasons[f"it is {function.__name__}(), which changes its argument"] = None

    def _method(self, function: Any, owner: Origin, arguments: Sequence[Any]) -> None:
        if isinstance(function, FunctionType):
            values = _with_defaults(function, [owner.value, *arguments])
            self._into(function, owner, values)

    def _into(
        self, function: FunctionType, owner: Origin | None, values: Sequence[Any] = ()
    ) -> set[int]:
        """Walk through a function; return the places of the arguments that it changes."""
        code = function.__code__
        if code in self._under_way or (code in self._changed and owner is None):
            return self._changed[code]
        if len(self._changed) >= _MOST_FUNCTIONS or not _is_users(function):
            return set()
        if owner is not None and owner.kind == "argument":
            owner = owner._replace(path=code.co_varnames[0] if code.co_argcount else "", place=0)
        changed = self._changed.setdefault(code, set())
        cells = dict(zip(code.co_freevars, function.__closure__ or ()))
        self._under_way.add(code)
        self._code(Frame(code, function.__globals__, cells, owner, values), changed)
        self._under_way.discard(code)
        return changed

    def _code(self, frame: Frame, changed: set[int]) -> None:
        for step in dis.get_instructions(frame.code):
            frame.arrive(step)
            self._step(frame, step, changed)
            frame.leave(step)
        for constant in frame.code.co_consts:
            if isinstance(constant, CodeType):
                inner = Frame(constant, frame.names, frame.cells, None)
                inner.outer = {**frame.outer, **frame.own_cells}
                inner.locals = {}
                self._code(inner, changed)

    # --- One instruction --------------------------------------------------------------------

    def _step(self, frame: Frame, step: dis.Instruction, changed: set[int]) -> None:
        name = step.opname
        if name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            frame.pop()
            self._effects.reasons[f"it stores to the global {step.argval!r}"] = None
        elif name in ("LOAD_GLOBAL", "LOAD_NAME"):
            frame.load_global(step, self._reach_global(frame, step.argval))
        elif name in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            frame.stack.append(self._cell(frame, step.argval))
        elif name in ("STORE_DEREF", "DELETE_DEREF"):
            self._store_cell(frame, step.argval)
        elif name == "STORE_ATTR":
            owner, _value = frame.pop(), frame.pop()
            self._change(owner, f"it sets {{}}.{step.argval}", changed)
        elif name in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"):
            below = frame.pops({"STORE_SUBSCR": 3, "DELETE_SUBSCR": 2, "STORE_SLICE": 4}[name])
            self._change(below[-3 if name == "STORE_SLICE" else -2], "it stores into {}", changed)
        elif name == "DELETE_ATTR":
            self._change(frame.pop(), f"it deletes {{}}.{step.argval}", changed)
        elif name.startswith("CALL") and "INTRINSIC" not in name:
            self._call(frame, name, step.arg or 0, changed)
        elif name == "IMPORT_NAME":
            frame.pops(2)
            module = sys.modules.get(step.argval, UNKNOWN)
            frame.stack.append(Origin("global", step.argval, module))
        elif name.startswith(("BINARY_OP", "INPLACE_")) or name[7:] in _INSTRUCTIONS:
            self._operate(frame, step, changed)
        else:
            self._special(frame, name, changed)
            if name == "RETURN_VALUE":
                self._note_result(frame)
            frame.move(step)
            if name in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
                self._look_up(frame, step, changed)

    def _operate(self, frame: Frame, step: dis.Instruction, changed: set[int]) -> None:
        """Take an operator of two values: it may be a method of the first, which may change it."""
        left, right = frame.pops(2)
        symbol = step.argrepr.rstrip("=") if step.opname == "BINARY_OP" else ""
        word = _OPERATORS.get(symbol) or _INSTRUCTIONS.get(step.opname.partition("_")[2], "")
        is_in_place = step.argrepr.endswith("=") or step.opname.startswith("INPLACE_")
        result = None
        if left is not None and left.value is not UNKNOWN:
            if is_in_place and hasattr(type(left.value), f"__i{word}__"):
                self._change(left, "it changes {} in place", changed)
                result = left
            else:
                self._dunder(left, f"__{word}__", [right], changed)
        frame.stack.append(result)

    def _special(self, frame: Frame, name: str, changed: set[int]) -> None:
        """Look into the method that an instruction calls."""
        method, depth = _SPECIAL.get(name, ("", 0))
        if 0 < depth <= len(frame.stack):
            self._dunder(frame.stack[-depth], method, [], changed)

    def _dunder(
        self, origin: Origin | None, name: str, rest: list[Any], changed: set[int]
    ) -> Origin | None:
        if origin is None or origin.value is UNKNOWN or not origin.is_foreign:
            return None
        method = attribute_of(type(origin.value), name)
        if not isinstance(method, FunctionType):
            return None
        return self._pass(method, [origin, *rest], origin, changed)

    def _note_result(self, frame: Frame) -> None:
        top = frame.stack[-1] if frame.stack else None
        if top is not None and top.is_foreign:
            self._returned.setdefault(frame.code, top)

    def _look_up(self, frame: Frame, step: dis.Instruction, changed: set[int]) -> None:
        """Take note of an attribute, which may be a property or that of a module."""
        place = frame.looked_up
        found = frame.stack[place]
        if found is None:
            return
        owner = found.owner
        if owner is not None and owner.value is not UNKNOWN:
            if isinstance(owner.value, ModuleType) and _is_users_module(owner.value):
                self._reach(f"global {found.path!r}", vars(owner.value), step.argval)
            if isinstance(found.value, property) and owner.is_foreign:
                getter = found.value.fget
                frame.stack[place] = self._pass(getter, [owner], owner, changed)
                return
            if found.value is UNKNOWN:
                self._dunder(owner, "__getattr__", [], changed)
        self._note(found)

    def _cell(self, frame: Frame, name: str) -> Origin | None:
        cell = frame.cells.get(name)
        if cell is None:
            return frame.own_cells.get(name) or frame.outer.get(name)
        self._reach(f"closure variable {name!r}", cell, "cell_contents")
        return self._note(Origin("closure", name, content(cell)))

    def _store_cell(self, frame: Frame, name: str) -> None:
        origin = frame.pop()
        if name in frame.cells:
            self._effects.reasons[f"it stores to the closure variable {name!r}"] = None
        else:
            frame.own_cells[name] = origin

    def _reach_global(self, frame: Frame, name: str) -> Origin | None:
        if name not in frame.names:
            value = getattr(builtins, name, UNKNOWN)
            return None if value is UNKNOWN else Origin("builtin", name, value)
        self._reach(f"global {name!r}", frame.names, name)
        return self._note(Origin("global", name, frame.names[name]))

    def _note(self, origin: Origin) -> Origin:
        kind = type(origin.value)
        module, name = kind.__module__.partition(".")[0], kind.__name__
        self._effects.has_locks |= module in _LOCK_MODULES and name.lower() in _LOCKS
        if (module, name) in _OF_ONE_THREAD or name.endswith("EventLoop"):
            what = f"it uses {origin.path}, a {name}, which belongs to the thread that made it"
            self._effects.ties.setdefault("threads", what)
        elif kind is ContextVar and origin.value in copy_context():
            what = f"it uses the context variable {origin.value.name!r}"
            self._effects.ties.setdefault("processes", f"{what}, which a process has not")
        return origin

    def _reach(self, label: str, space: Any, key: Any) -> None:
        self._effects.reached.setdefault(label, (space, key))

    def _change(self, origin: Origin | None, what: str, changed: set[int]) -> None:
        """Note that something is changed, if it is not the call's own."""
        if origin is None or not origin.is_foreign:
            return
        if origin.kind == "argument":
            changed.add(origin.place)
            if not self._is_root(changed):
                return
            self._effects.reasons[f"{what.format(origin.path)}, its argument"] = None
        else:
            self._effects.reasons[what.format(origin.path)] = None

    def _is_root(self, changed: set[int]) -> bool:
        return bool(self._changed) and next(iter(self._changed.values())) is changed

    # --- Calls ------------------------------------------------------------------------------

    def _call(self, frame: Frame, name: str, count: int, changed: set[int]) -> None:
        arguments, callee = frame.call(name, count)
        for argument in arguments:
            if argument is not None and argument.is_foreign:
                self._hand_over(argument, changed)
        if callee is not None and callee.value is builtins.globals:
            result: Origin | None = Origin("global", "globals()", frame.names)
        else:
            result = None if callee is None else self._called(callee, arguments, changed)
        frame.stack.append(result)

    def _hand_over(self, argument: Origin, changed: set[int]) -> None:
        """Look at what a call is given that it may call itself."""
        method = argument.path.rpartition(".")[2]
        if argument.owner is not None and method in MUTATORS and argument.owner.may_have(method):
            self._change(argument.owner, f"it hands {{}}.{method} on to be called", changed)
        elif isinstance(argument.value, (FunctionType, MethodType)):
            self._pass(argument.value, [], None, changed)

    def _called(self, callee: Origin, arguments: list[Any], changed: set[int]) -> Origin | None:
        """Look at a call; return where its result comes from, if it is not the call's own."""
        self._random(callee.value)
        first = arguments[0] if arguments else None
        if _is_changer(callee.value):
            self._change(first, f"it calls {callee.path}({{}})", changed)
        if callee.owner is not None and not isinstance(callee.owner.value, ModuleType):
            return self._call_method(callee, arguments, changed)
        name = getattr(callee.value, "__name__", "")
        if callee.kind == "builtin" and first is not None and first.is_foreign:
            self._dunder(first, _PROTOCOLS.get(name, ""), [], changed)
            return _result_of_builtin(name, arguments[-1] if name == "filter" else first)
        return self._pass(callee.value, arguments, None, changed)

    def _call_method(
        self, callee: Origin, arguments: list[Any], changed: set[int]
    ) -> Origin | None:
        owner: Origin = callee.owner
        method, name = callee.value, callee.path.rpartition(".")[2]
        if isinstance(owner.value, type):
            if name in MUTATORS and arguments and not isinstance(method, FunctionType):
                self._change(arguments[0], f"it calls {callee.path}({{}})", changed)
            return self._pass(method, arguments, None, changed)
        if isinstance(method, FunctionType):
            return self._pass(method, [owner, *arguments], owner, changed)
        if name in MUTATORS and owner.is_foreign and owner.may_have(name):
            self._change(owner, f"it calls {{}}.{name}()", changed)
        if name in _GIVERS and owner.is_foreign:
            return owner.part(f".{name}()", _given(owner.value, name))
        return self._pass(method, arguments, None, changed)

    def _pass(
        self, function: Any, arguments: list[Any], owner: Any, changed: set[int]
    ) -> Origin | None:
        """Look into a function that is called, at what it does to the arguments and returns."""
        if isinstance(function, MethodType):
            owner = Origin("global", "self", function.__self__)
            function, arguments = function.__func__, [owner, *arguments]
        elif isinstance(function, type):
            function, arguments = attribute_of(function, "__init__"), [None, *arguments]
        elif not isinstance(function, FunctionType) and hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif _is_called_by_itself(function):
            owner = Origin("global", type(function).__name__, function)
            function, arguments = attribute_of(type(function), "__call__"), [owner, *arguments]
        if not isinstance(function, FunctionType):
            return None
        known = owner if owner is not None and owner.value is not UNKNOWN else None
        for place in self._into(function, known):
            what = f"it has {function.__name__}() change {{}}"
            if place < len(arguments):
                self._change(arguments[place], what, changed)
            elif (default := _default(function, place)) is not None:
                self._change(Origin("global", "its default", default), what, changed)
        result = self._returned.get(function.__code__)
        if result is None or result.kind != "argument":
            return result
        return arguments[result.place] if result.place < len(arguments) else None

    def _random(self, function: Any) -> None:
        """Note the use of random numbers that the whole program shares."""
        source = getattr(function, "__self__", None)
        if type(source).__name__ in ("Random", "RandomState"):
            self._effects.reasons[
                "it draws from the random numbers that the whole program shares"
            ] = None


def _with_defaults(function: FunctionType, arguments: Sequence[Any]) -> list[Any]:
    """Return what is known of all positional arguments of a call."""
    count = function.__code__.co_argcount
    known = [*arguments][:count]
    # A default that is a list or the like is shared by all calls, as a global is.
    return known + [_default(function, place, UNKNOWN) for place in range(len(known), count)]


def _default(function: FunctionType, place: int, otherwise: Any = None) -> Any:
    defaults = function.__defaults__ or ()
    first = function.__code__.co_argcount - len(defaults)
    return defaults[place - first] if 0 <= place - first < len(defaults) else otherwise


def _is_changer(function: object) -> bool:
    """Tell whether a function of a library changes its first argument."""
    if not isinstance(function, (BuiltinMethodType, FunctionType)):
        return type(function).__module__ == "numpy" and _is_named_changer("numpy", function)
    return _is_named_changer((function.__module__ or "").partition(".")[0], function)


def _is_named_changer(module: str, function: Any) -> bool:
    return getattr(function, "__name__", "") in _CHANGERS.get(module, ())


def _is_called_by_itself(function: object) -> bool:
    return function is not UNKNOWN and isinstance(
        attribute_of(type(function), "__call__"), FunctionType
    )


def _result_of_builtin(name: str, argument: Origin) -> Origin | None:
    """Return where the result of a builtin function comes from: its argument, or nowhere."""
    value = argument.value
    if name == "type":
        kind = UNKNOWN if value is UNKNOWN else type(value)
        return argument._replace(path=f"type({argument.path})", value=kind, owner=None)
    if name == "vars":
        names = UNKNOWN if value is UNKNOWN else getattr(value, "__dict__", UNKNOWN)
        return argument._replace(path=f"vars({argument.path})", value=names, owner=None)
    if name == "getattr":
        return argument._replace(path=f"getattr({argument.path})", value=UNKNOWN, owner=None)
    if name in ("min", "max", "next"):
        return argument.part("[...]", one_of(value))
    return argument if name in _VIEWS else None


def _given(value: Any, name: str) -> Any:
    """Return an example of what a method of a container gives."""
    if type(value) is dict and value:
        if name in ("items", "values", "keys"):
            return [next(iter(getattr(value, name)()))]
        return next(iter(value.values()))
    return one_of(value)


_LIBRARIES = tuple(
    {
        path
        for path in map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))
        if path
    }
)


def _is_users(function: FunctionType) -> bool:
    """Return whether a function is of the program, and not of a library with caches of its own."""
    return not function.__code__.co_filename.startswith((*_LIBRARIES, "<frozen"))


def _is_users_module(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not file.startswith(_LIBRARIES)
