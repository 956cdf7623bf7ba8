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
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

#: Methods that change their object, of the types of the standard library and of files.
MUTATORS = frozenset(
    "append extend insert remove pop popitem clear sort reverse add discard update setdefault "
    "difference_update intersection_update symmetric_difference_update appendleft extendleft "
    "popleft rotate subtract move_to_end write writelines put put_nowait send sendall truncate "
    "fill resize __setitem__ __delitem__ __iadd__ __setattr__".split()
)
#: Functions that change their first argument.
_CHANGERS = (builtins.next, builtins.setattr, builtins.delattr)
#: How many functions are looked into; what lies deeper is left to the fingerprints.
_MOST_FUNCTIONS = 200
_JUMPS = {*dis.hasjrel, *dis.hasjabs}
_ENDS = ("JUMP_FORWARD", "JUMP_ABSOLUTE", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT",
         "RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")  # fmt: skip
#: Instructions that leave the stack as it is.
_IDLE = ("NOP", "RESUME", "CACHE", "EXTENDED_ARG", "PRECALL", "KW_NAMES", "MAKE_CELL", "GEN_START",
         "COPY_FREE_VARS", "POP_BLOCK", "SETUP_ANNOTATIONS", "NOT_TAKEN")  # fmt: skip
#: Those that take values off the stack and leave what is below as it is.
_DROPS = {"POP_TOP": 1, "LIST_APPEND": 1, "SET_ADD": 1, "MAP_ADD": 2, "LIST_EXTEND": 1,
          "SET_UPDATE": 1, "DICT_UPDATE": 1, "DICT_MERGE": 1, "RETURN_VALUE": 1, "END_FOR": 1,
          "JUMP_IF_TRUE_OR_POP": 1, "JUMP_IF_FALSE_OR_POP": 1, "PRINT_EXPR": 1}  # fmt: skip


#: By these a function guards what several threads change.
_LOCK_MODULES = frozenset(("_thread", "threading", "multiprocessing", "raddle"))
_LOCKS = frozenset(("lock", "rlock", "semaphore", "boundedsemaphore", "condition", "counter"))


class _Unknown:
    """Stands for an object that only a call will bring."""


_UNKNOWN: Any = _Unknown()


class Origin(NamedTuple):
    """Where a value comes from that is not the call's own."""

    #: "global", "closure", "self" or "argument".
    kind: str
    #: How the program would write it: ``config.names``.
    path: str
    #: What it is, if that can be known.
    value: Any
    #: The place of the argument.
    place: int = -1
    #: Set for a method that has been looked up: what it is a method of.
    owner: Any = None

    def part(self, name: str, value: Any = _UNKNOWN) -> Origin:
        """Return the origin of a part of it."""
        return self._replace(path=f"{self.path}{name}", value=value, owner=None)


#: Stands where the interpreter pushes a NULL.
_NULL = Origin("null", "", None)


class Effects:
    """What was found: why the function is to stay, and the objects that it reaches."""

    def __init__(self) -> None:
        #: Sentences: what it changes.
        self.reasons: dict[str, None] = {}
        #: What it uses of its surroundings: label, namespace and key.
        self.reached: dict[str, tuple[Any, Any]] = {}
        #: Whether it uses a lock, so that its author has thought of threads.
        self.has_locks = False

    @property
    def reason(self) -> str | None:
        """The first reason, if there is one."""
        return next(iter(self.reasons), None)


def effects_of(function: Any) -> Effects:
    """Read from a function's code what it changes that outlives the call.

    >>> seen = []
    >>> effects_of(lambda item: seen.append(item)).reason
    'it calls seen.append()'
    >>> effects_of(abs).reason is None
    True
    """
    effects = Effects()
    try:
        _Walk(effects).function(function)
    except RecursionError:
        pass
    return effects


class _Walk:
    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        #: Places of the arguments that functions change, by their code.
        self._changed: dict[CodeType, set[int]] = {}

    # --- What to walk through ---------------------------------------------------------------

    def function(self, function: Any) -> None:
        """Look into whatever can be called."""
        inner = getattr(function, "func", None)
        if inner is not None and type(function).__name__ == "partial":
            for place, value in enumerate([*function.args, *function.keywords.values()]):
                self._reach(f"partial argument {place}", (value,), 0)
            self.function(inner)
        elif isinstance(function, MethodType):
            self._reach("self", (function.__self__,), 0)
            self._method(function.__func__, Origin("self", "self", function.__self__))
        elif isinstance(function, BuiltinMethodType):
            self._builtin(function)
        elif isinstance(function, FunctionType):
            self._into(function, None)
        elif not isinstance(function, type):
            call = _attribute_of(type(function), "__call__")
            if isinstance(call, FunctionType):
                self._reach("self", (function,), 0)
                self._method(call, Origin("self", "self", function))

    def _builtin(self, function: Any) -> None:
        owner = function.__self__
        if owner is not None and not isinstance(owner, ModuleType):
            self._reach("self", (owner,), 0)
            if function.__name__ in MUTATORS:
                self._effects.reasons[f"it is {type(owner).__name__}.{function.__name__}"] = None
            self._random(function)

    def _method(self, function: Any, owner: Origin) -> None:
        if isinstance(function, FunctionType):
            self._into(function, owner)

    def _into(self, function: FunctionType, owner: Origin | None) -> set[int]:
        """Walk through a function; return the places of the arguments that it changes."""
        code = function.__code__
        if code in self._changed and owner is None:
            return self._changed[code]
        if len(self._changed) >= _MOST_FUNCTIONS or not _is_users(function):
            return set()
        changed = self._changed.setdefault(code, set())
        cells = dict(zip(code.co_freevars, function.__closure__ or ()))
        frame = _Frame(code, function.__globals__, cells, owner)
        self._code(frame, changed)
        return changed

    def _code(self, frame: _Frame, changed: set[int]) -> None:
        for step in dis.get_instructions(frame.code):
            frame.arrive(step)
            self._step(frame, step, changed)
            frame.leave(step)
        for constant in frame.code.co_consts:
            if isinstance(constant, CodeType):
                inner = _Frame(constant, frame.names, frame.cells, None)
                inner.outer = {**frame.outer, **frame.own_cells}
                inner.locals = {}
                self._code(inner, changed)

    # --- One instruction --------------------------------------------------------------------

    def _step(self, frame: _Frame, step: dis.Instruction, changed: set[int]) -> None:
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
        else:
            frame.move(step)

    def _cell(self, frame: _Frame, name: str) -> Origin | None:
        cell = frame.cells.get(name)
        if cell is None:
            return frame.own_cells.get(name) or frame.outer.get(name)
        self._reach(f"closure variable {name!r}", cell, "cell_contents")
        return self._note(Origin("closure", name, _content(cell)))

    def _store_cell(self, frame: _Frame, name: str) -> None:
        origin = frame.pop()
        if name in frame.cells:
            self._effects.reasons[f"it stores to the closure variable {name!r}"] = None
        else:
            frame.own_cells[name] = origin

    def _reach_global(self, frame: _Frame, name: str) -> Origin | None:
        if name not in frame.names:
            value = getattr(builtins, name, _UNKNOWN)
            return None if value is _UNKNOWN else Origin("builtin", name, value)
        self._reach(f"global {name!r}", frame.names, name)
        return self._note(Origin("global", name, frame.names[name]))

    def _note(self, origin: Origin) -> Origin:
        kind = type(origin.value)
        module = kind.__module__.partition(".")[0]
        self._effects.has_locks |= module in _LOCK_MODULES and kind.__name__.lower() in _LOCKS
        return origin

    def _reach(self, label: str, space: Any, key: Any) -> None:
        self._effects.reached.setdefault(label, (space, key))

    def _change(self, origin: Origin | None, what: str, changed: set[int]) -> None:
        """Note that something is changed, if it is not the call's own."""
        if origin is None or origin.kind in ("builtin", "null"):
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

    def _call(self, frame: _Frame, name: str, count: int, changed: set[int]) -> None:
        arguments, callee = frame.call(name, count)
        frame.stack.append(None)
        if callee is None:
            return
        self._random(callee.value)
        if callee.owner is not None:
            self._call_method(callee, arguments, changed)
        elif callee.value in _CHANGERS if _is_hashable(callee.value) else False:
            self._change(
                arguments[0] if arguments else None, f"it calls {callee.path}({{}})", changed
            )
        else:
            self._pass(callee.value, arguments, None, changed)

    def _call_method(self, callee: Origin, arguments: list[Any], changed: set[int]) -> None:
        owner: Origin = callee.owner
        method = callee.value
        if isinstance(owner.value, (ModuleType, type)):
            self._pass(method, arguments, None, changed)
        elif isinstance(method, FunctionType):
            self._pass(method, [owner, *arguments], owner, changed)
        elif callee.path.rpartition(".")[2] in MUTATORS and owner.kind != "builtin":
            self._change(owner, f"it calls {{}}.{callee.path.rpartition('.')[2]}()", changed)

    def _pass(self, function: Any, arguments: list[Any], owner: Any, changed: set[int]) -> None:
        """Look into a function that is called, and at what it does to the arguments."""
        if isinstance(function, MethodType):
            owner = Origin("global", "self", function.__self__)
            function, arguments = function.__func__, [owner, *arguments]
        if isinstance(function, type):
            function, arguments = vars(function).get("__init__"), [None, *arguments]
        if not isinstance(function, FunctionType):
            return
        known = owner if owner is not None and owner.value is not _UNKNOWN else None
        for place in self._into(function, known):
            if place < len(arguments):
                self._change(arguments[place], f"it has {function.__name__}() change {{}}", changed)

    def _random(self, function: Any) -> None:
        """Note the use of random numbers that the whole program shares."""
        source = getattr(function, "__self__", None)
        if type(source).__name__ in ("Random", "RandomState"):
            self._effects.reasons[
                "it draws from the random numbers that the whole program shares"
            ] = None


class _Frame:
    """A code and what is known of its values at the instruction that is looked at."""

    def __init__(
        self, code: CodeType, names: dict[str, Any], cells: dict[str, Any], owner: Origin | None
    ) -> None:
        self.code = code
        self.names = names
        self.cells = cells
        self.stack: list[Origin | None] = []
        self._saved: dict[int, list[Origin | None]] = {}
        arguments = code.co_argcount + code.co_kwonlyargcount
        self.locals: dict[str, Origin | None] = {
            name: Origin("argument", name, _UNKNOWN, place)
            for place, name in enumerate(code.co_varnames[:arguments])
        }
        if owner is not None and code.co_argcount:
            self.locals[code.co_varnames[0]] = owner._replace(owner=None)
        #: Cells that this code has made, and those of the codes around it.
        self.own_cells = {n: self.locals[n] for n in code.co_cellvars if n in self.locals}
        self.outer: dict[str, Origin | None] = {}

    def pop(self) -> Origin | None:
        """Take the top of the stack."""
        return self.stack.pop() if self.stack else None

    def pops(self, count: int) -> list[Origin | None]:
        """Take some values, the top last."""
        return [self.pop() for _ in range(count)][::-1]

    def arrive(self, step: dis.Instruction) -> None:
        """Take up the stack that a jump to here had."""
        if step.offset in self._saved:
            self.stack = list(self._saved[step.offset])

    def leave(self, step: dis.Instruction) -> None:
        """Keep the stack for where it may jump to."""
        if step.opcode in _JUMPS and isinstance(step.argval, int):
            kept = self.stack[:-2] if step.opname == "FOR_ITER" else self.stack
            self._saved.setdefault(step.argval, list(kept))
        if step.opname in _ENDS:
            self.stack = []

    def load_global(self, step: dis.Instruction, origin: Origin | None) -> None:
        """Push a global, and the NULL that may belong to it."""
        pushes_null = step.opname == "LOAD_GLOBAL" and sys.version_info >= (3, 11)
        null = [_NULL] if pushes_null and (step.arg or 0) & 1 else []
        self.stack += [origin, *null] if sys.version_info >= (3, 13) else [*null, origin]

    def call(self, name: str, count: int) -> tuple[list[Any], Origin | None]:
        """Take a call off the stack: its arguments, and what is called."""
        if name == "CALL_FUNCTION_EX":
            below = self.pops(2 + (count & 1) + (sys.version_info >= (3, 11)))
            return [], _callee(below)
        if name in ("CALL_FUNCTION_KW", "CALL_KW"):
            self.pop()
        arguments = self.pops(count)
        return arguments, _callee(self.pops(1 if name.startswith("CALL_FUNCTION") else 2))

    def move(self, step: dis.Instruction) -> None:
        """Do what all other instructions do to the stack."""
        name, stack = step.opname, self.stack
        if name in _IDLE or name.startswith(("JUMP_", "SETUP_")):
            if name in _DROPS:
                self.pop()
        elif name in _DROPS or name.startswith("POP_JUMP"):
            self.pops(_DROPS.get(name, 1))
        elif name.startswith("LOAD_FAST"):
            names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
            stack += [self.locals.get(one) for one in names]
        elif name.startswith("STORE_FAST"):
            self._store(name, step.argval)
        elif name in ("LOAD_ATTR", "LOAD_METHOD"):
            self._attribute(step)
        elif name in ("BINARY_SUBSCR", "GET_ITER", "FOR_ITER", "UNPACK_SEQUENCE"):
            self._part(name, step.arg or 0)
        elif name == "PUSH_NULL":
            stack.append(_NULL)
        elif name in ("DUP_TOP", "COPY"):
            depth = step.arg or 1
            stack.append(stack[-depth] if len(stack) >= depth else None)
        elif name in ("SWAP", "ROT_TWO"):
            depth = step.arg or 2
            if len(stack) >= depth:
                stack[-1], stack[-depth] = stack[-depth], stack[-1]
        elif name in ("ROT_THREE", "ROT_FOUR"):
            stack.insert(-2 if name == "ROT_THREE" else -3, self.pop())
        else:
            self._other(step)

    def _store(self, name: str, argument: Any) -> None:
        if name == "STORE_FAST":
            self.locals[argument] = self.pop()
        elif name == "STORE_FAST_LOAD_FAST":
            self.locals[argument[0]] = self.pop()
            self.stack.append(self.locals.get(argument[1]))
        else:
            self.locals[argument[0]] = self.pop()
            if isinstance(argument, tuple):
                self.locals[argument[1]] = self.pop()

    def _attribute(self, step: dis.Instruction) -> None:
        owner = self.pop()
        name = step.argval
        if step.opname == "LOAD_METHOD":
            is_method = True
        else:
            is_method = sys.version_info >= (3, 12) and bool((step.arg or 0) & 1)
        found = None
        if owner is not None and owner is not _NULL:
            found = owner.part(f".{name}", _attribute_of(owner.value, name))
            found = found._replace(owner=owner)
        self.stack += [found, None] if is_method else [found]

    def _part(self, name: str, count: int) -> None:
        if name == "BINARY_SUBSCR":
            self.pop()
        whole = self.stack[-1] if name == "FOR_ITER" and self.stack else self.pop()
        part = whole
        if whole is not None and name != "GET_ITER":
            part = whole.part("[...]")
        self.stack += [part] * (count if name == "UNPACK_SEQUENCE" else 1)

    def _other(self, step: dis.Instruction) -> None:
        try:
            effect = dis.stack_effect(step.opcode, step.arg, jump=False)
        except ValueError:
            return
        if effect > 0:
            self.stack += [None] * effect
        else:
            self.pops(1 - effect)
            self.stack.append(None)


def _callee(below: list[Origin | None]) -> Origin | None:
    return next((one for one in below if one is not None and one is not _NULL), None)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _UNKNOWN


def _attribute_of(owner: Any, name: str) -> Any:
    """Look an attribute up without running code of the user's."""
    if owner is _UNKNOWN:
        return _UNKNOWN
    if isinstance(owner, ModuleType):
        return vars(owner).get(name, _UNKNOWN)
    kind = owner if isinstance(owner, type) else type(owner)
    for base in kind.__mro__:
        if name in vars(base):
            found = vars(base)[name]
            return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    own = getattr(owner, "__dict__", None)
    return own.get(name, _UNKNOWN) if type(own) is dict else _UNKNOWN


def _is_hashable(value: object) -> bool:
    return isinstance(value, type(next))


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
