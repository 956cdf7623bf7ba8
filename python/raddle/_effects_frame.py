"""What is known of the values of a code while it is walked through: where each comes from.

A frame has a stack and variables, and moves by one instruction at a time. Where ways of the code
meet, a value is the one that is not the call's own, if one of them is that.
"""

from __future__ import annotations

import dis
import sys
from collections import deque
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import Any, NamedTuple

_ROWS = (list, tuple)
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


class _Unknown:
    """Stands for an object that only a call will bring."""


UNKNOWN: Any = _Unknown()


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

    def part(self, name: str, value: Any = UNKNOWN) -> Origin:
        """Return the origin of a part of it."""
        return self._replace(path=f"{self.path}{name}", value=value, owner=None)

    @property
    def is_foreign(self) -> bool:
        """Whether others see it too."""
        return self.kind not in ("builtin", "null")

    def may_have(self, name: str) -> bool:
        """Tell whether it can have a method, as far as is known."""
        return self.value is UNKNOWN or hasattr(type(self.value), name)


#: Stands where the interpreter pushes a NULL.
NULL = Origin("null", "", None)


class Frame:
    """A code and what is known of its values at the instruction that is looked at."""

    def __init__(
        self,
        code: CodeType,
        names: dict[str, Any],
        cells: dict[str, Any],
        owner: Origin | None,
        values: Sequence[Any] = (),
    ) -> None:
        self.code = code
        self.names = names
        self.cells = cells
        self.stack: list[Origin | None] = []
        self._saved: dict[int, tuple[list[Origin | None], dict[str, Origin | None]]] = {}
        self._is_unreached = False
        #: Where on the stack the attribute lies that was looked up last.
        self.looked_up = 0
        arguments = code.co_argcount + code.co_kwonlyargcount
        self.locals: dict[str, Origin | None] = {
            name: Origin("argument", name, values[place] if place < len(values) else UNKNOWN, place)
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
        """Take up what a jump to here had."""
        if step.offset in self._saved:
            stack, names = self._saved[step.offset]
            self.stack = list(stack)
            self.locals = names if self._is_unreached else _met(self.locals, names)
        self._is_unreached = False

    def leave(self, step: dis.Instruction) -> None:
        """Keep what there is for where it may jump to."""
        if step.opcode in _JUMPS and isinstance(step.argval, int):
            kept = self.stack[:-2] if step.opname == "FOR_ITER" else self.stack
            stack, names = self._saved.get(step.argval, (kept, self.locals))
            self._saved[step.argval] = list(stack), _met(names, self.locals)
        if step.opname in _ENDS:
            self.stack = []
            self._is_unreached = True

    def load_global(self, step: dis.Instruction, origin: Origin | None) -> None:
        """Push a global, and the NULL that may belong to it."""
        pushes_null = step.opname == "LOAD_GLOBAL" and sys.version_info >= (3, 11)
        null = [NULL] if pushes_null and (step.arg or 0) & 1 else []
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
        elif name == "IMPORT_FROM":
            whole = stack[-1] if stack else None
            value = UNKNOWN if whole is None else attribute_of(whole.value, step.argval)
            self.looked_up = len(stack)
            stack.append(whole and whole.part(f".{step.argval}", value)._replace(owner=whole))
        elif name in ("BINARY_SUBSCR", "GET_ITER", "FOR_ITER", "UNPACK_SEQUENCE"):
            self._part(name, step.arg or 0)
        elif name == "PUSHNULL":
            stack.append(NULL)
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
        if owner is not None and owner is not NULL:
            found = owner.part(f".{name}", attribute_of(owner.value, name))
            found = found._replace(owner=owner)
        self.looked_up = len(self.stack)
        self.stack += [found, None] if is_method else [found]

    def _part(self, name: str, count: int) -> None:
        if name == "BINARY_SUBSCR":
            self.pop()
        whole = self.stack[-1] if name == "FOR_ITER" and self.stack else self.pop()
        if whole is None or name == "GET_ITER":
            self.stack += [whole] * (count if name == "UNPACK_SEQUENCE" else 1)
        elif name == "UNPACK_SEQUENCE":
            known = type(whole.value) in _ROWS and len(whole.value) == count
            values = whole.value if known else [UNKNOWN] * count
            self.stack += [whole.part("[...]", value) for value in reversed(values)]
        else:
            self.stack.append(whole.part("[...]", one_of(whole.value)))

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
    return next((one for one in below if one is not None and one is not NULL), None)


def _met(
    one: dict[str, Origin | None], other: dict[str, Origin | None]
) -> dict[str, Origin | None]:
    """Return what each variable may be where two ways meet: rather what is not the call's own."""
    met = {**other, **{name: origin for name, origin in one.items() if origin is not None}}
    for name, origin in other.items():
        if origin is not None and origin.kind != "argument":
            met[name] = origin
    return met


def one_of(value: Any) -> Any:
    """Return one of what a container holds, for its type; unknown if there is none."""
    if type(value) in (list, tuple, deque, set, frozenset):
        return next(iter(value), UNKNOWN)
    return next(iter(value.values()), UNKNOWN) if type(value) is dict else UNKNOWN


def content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return UNKNOWN


def attribute_of(owner: Any, name: str) -> Any:
    """Look an attribute up without running code of the user's."""
    if owner is UNKNOWN:
        return UNKNOWN
    if name == "__class__":
        return type(owner)
    if name == "__dict__" and not isinstance(owner, type):
        return getattr(owner, "__dict__", UNKNOWN)
    if isinstance(owner, ModuleType):
        return vars(owner).get(name, UNKNOWN)
    kind = owner if isinstance(owner, type) else type(owner)
    for base in kind.__mro__:
        if name in vars(base):
            found = vars(base)[name]
            return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    own = getattr(owner, "__dict__", None)
    return own.get(name, UNKNOWN) if type(own) is dict else UNKNOWN
