"""A code object under examination by `_effects`: its stack and variables at each instruction.

What is known at an instruction is joined over all the ways that lead there, and the code is walked
until that does not grow any more.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

from ._effects_values import NULL, Made, Value, elements, join, own

#: How often the code is walked at most: once more for each loop inside a loop that carries a value.
_PASSES = 4
_JUMPS = {*dis.hasjrel, *dis.hasjabs}
_ENDS = ("JUMP_FORWARD", "JUMP_ABSOLUTE", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT",
         "RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")  # fmt: skip
#: Instructions that leave the stack as it is.
_IDLE = ("NOP", "RESUME", "CACHE", "EXTENDED_ARG", "PRECALL", "KW_NAMES", "MAKE_CELL", "GEN_START",
         "COPY_FREE_VARS", "POP_BLOCK", "SETUP_ANNOTATIONS", "NOT_TAKEN", "DELETE_FAST",
         "DELETE_NAME", "CHECK_EXC_MATCH")  # fmt: skip
#: Those that take values off the stack and leave what is below as it is.
_DROPS = {"POP_TOP": 1, "RETURN_VALUE": 1, "PRINT_EXPR": 1, "RAISE_VARARGS": 1, "STORE_NAME": 1,
          "END_FOR": 2 if sys.version_info < (3, 13) else 1, "DELETE_DEREF": 0,
          "JUMP_IF_TRUE_OR_POP": 1, "JUMP_IF_FALSE_OR_POP": 1}  # fmt: skip
_ADDS = {"LIST_APPEND": 1, "SET_ADD": 1, "MAP_ADD": 2, "LIST_EXTEND": 1, "SET_UPDATE": 1,
         "DICT_UPDATE": 1, "DICT_MERGE": 1}  # fmt: skip
_BUILDS = ("BUILD_LIST", "BUILD_TUPLE", "BUILD_SET", "BUILD_MAP", "BUILD_CONST_KEY_MAP")
#: From Python 3.12 on the end of a loop takes the iterator off itself.
_KEEPS_ITERATOR = sys.version_info >= (3, 12)


class Frame:
    """A code and what is known of its values at the instruction that is looked at."""

    def __init__(
        self,
        code: CodeType,
        names: dict[str, Any],
        cells: dict[str, Any],
        variables: dict[str, Value],
    ) -> None:
        self.code = code
        #: The globals, and the cells of a function that exists.
        self.names = names
        self.cells = cells
        #: The variables that it begins with.
        self.first = variables
        self.locals: dict[str, Value] = {}
        self.stack: list[Value] = []
        self._is_reached = True
        self._entries: dict[int, tuple[list[Value], dict[str, Value]]] = {}
        self._made: dict[int, Made] = {}
        self._grew = False
        self._handlers = _handlers(code)
        #: Cells that this code has made, and those of the codes around it.
        self.own_cells = {n: variables[n] for n in code.co_cellvars if n in variables}
        self.outer: dict[str, Value] = {}
        self.returned: Value = ()
        #: Before Python 3.11: the blocks that errors leave, by where to and the stack's depth.
        self._blocks: list[tuple[int, int]] = []
        #: The latest constant: it may have the names of a call's keywords.
        self.constant: Any = None
        #: The latest code among the constants: that of the function that is made next.
        self.made_code: CodeType | None = None

    # --- The way through the code -----------------------------------------------------------

    def steps(self) -> Iterator[dis.Instruction]:
        """Yield the instructions that can be reached, until nothing new is found."""
        steps = list(dis.get_instructions(self.code))
        for _ in range(_PASSES):
            self.stack, self.locals, self._is_reached = [], dict(self.first), True
            self._blocks = []
            self._grew = False
            for step in steps:
                self._arrive(step)
                if self._is_reached:
                    before = list(self.stack)
                    yield step
                    self._leave(step, before)
            if not self._grew:
                break

    def _arrive(self, step: dis.Instruction) -> None:
        entry = self._entries.get(step.offset)
        if entry is not None:
            stack, variables = entry
            if self._is_reached:
                stack, variables = _merged(stack, self.stack), _joined(variables, self.locals)
            self.stack, self.locals, self._is_reached = list(stack), dict(variables), True

    def _leave(self, step: dis.Instruction, before: list[Value]) -> None:
        for start, end, target, depth, pushed in self._handlers:
            if start <= step.offset < end:
                self._enter(target, self._padded(depth, pushed))
        for target, depth in self._blocks:
            self._enter(target, self._padded(depth, 6))
        if step.opname == "SETUP_FINALLY":
            self._blocks.append((step.argval, len(self.stack)))
        elif step.opname == "POP_BLOCK":
            del self._blocks[-1:]
        if step.opcode in _JUMPS and isinstance(step.argval, int):
            self._enter(step.argval, self._jumps_with(step, before))
        if step.opname in _ENDS:
            self._is_reached = False

    def _padded(self, depth: int, pushed: int) -> list[Value]:
        stack = self.stack[:depth]
        return [*stack, *[()] * (depth - len(stack) + pushed)]

    def _jumps_with(self, step: dis.Instruction, before: list[Value]) -> list[Value]:
        name = step.opname
        if name == "FOR_ITER" and not _KEEPS_ITERATOR:
            return self.stack[:-2]
        if name.endswith("_OR_POP"):
            return before
        if name == "SETUP_FINALLY":
            return [*self.stack, *[()] * 6]
        if name == "SETUP_WITH":
            return [*self.stack[:-1], *[()] * 6]
        return list(self.stack)

    def _enter(self, target: int, stack: list[Value]) -> None:
        known = self._entries.get(target)
        if known is None:
            self._entries[target] = stack, dict(self.locals)
            self._grew = True
            return
        merged = _merged(known[0], stack), _joined(known[1], self.locals)
        if merged != known:
            self._entries[target] = merged
            self._grew = True

    # --- The stack --------------------------------------------------------------------------

    def pop(self) -> Value:
        """Take the top of the stack."""
        return self.stack.pop() if self.stack else ()

    def pops(self, count: int) -> list[Value]:
        """Take some values, the top last."""
        return [self.pop() for _ in range(count)][::-1]

    def made(self, step: dis.Instruction, kind: type | None = None) -> Made:
        """Return what an instruction makes: the same each time that the code is walked."""
        return self._made.setdefault(step.offset, Made(kind))

    def load_global(self, step: dis.Instruction, value: Value) -> None:
        """Push a global, and the NULL that may belong to it."""
        pushes_null = step.opname == "LOAD_GLOBAL" and sys.version_info >= (3, 11)
        null = [(NULL,)] if pushes_null and (step.arg or 0) & 1 else []
        self.stack += [value, *null] if sys.version_info >= (3, 13) else [*null, value]

    def call(self, step: dis.Instruction) -> tuple[Value, list[Value], dict[str, Value]]:
        """Take a call off the stack: what is called, arguments, and those with a name."""
        name, count = step.opname, step.arg or 0
        if name == "CALL_FUNCTION_EX":
            below = self.pops(2 + (count & 1) + (sys.version_info >= (3, 11)))
            places = below[-2] if count & 1 else below[-1]
            named = elements(below[-1]) if count & 1 else ()
            return _callee(below[: -1 - (count & 1)]), [elements(places)], {"": named}
        names: tuple[str, ...] = ()
        if name in ("CALL_FUNCTION_KW", "CALL_KW"):
            self.pop()
            names = self.constant
        elif isinstance(self.constant, _Keywords):
            names = self.constant
        self.constant = None
        if not isinstance(names, tuple) or len(names) > count:
            names = ()
        values = self.pops(count)
        places_count = count - len(names)
        is_alone = name in ("CALL_FUNCTION", "CALL_FUNCTION_KW")
        below = self.pops(1 if is_alone else 2)
        by_name = dict(zip(names, values[places_count:]))
        given = values[:places_count]
        if len(below) == 2 and below[1] and below[0] and (NULL,) not in below:
            given.insert(0, below[1])  # the iterator of a comprehension
        return _callee(below), given, by_name

    def move(self, step: dis.Instruction) -> None:
        """Do what all other instructions do to the stack."""
        name, stack = step.opname, self.stack
        if name == "KW_NAMES":
            self.constant = _Keywords(self.code.co_consts[step.arg or 0])
        elif name in _DROPS or name.startswith("POP_JUMP"):
            self.pops(_DROPS.get(name, 1))
        elif name in _IDLE or name.startswith("JUMP_") or name == "SETUP_FINALLY":
            pass
        elif name in ("LOAD_CONST", "RETURN_CONST"):
            self.constant = step.argval
            if isinstance(step.argval, CodeType):
                self.made_code = step.argval
            if name == "LOAD_CONST":
                stack.append(())
        elif name.startswith("LOAD_FAST"):
            names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
            stack += [self.locals.get(one, ()) for one in names]
        elif name.startswith("STORE_FAST"):
            self._store(name, step.argval)
        elif name == "PUSH_NULL":
            stack.append((NULL,))
        elif name in ("DUP_TOP", "COPY"):
            depth = step.arg or 1
            stack.append(stack[-depth] if len(stack) >= depth else ())
        elif name == "DUP_TOP_TWO":
            stack += stack[-2:]
        elif name in ("SWAP", "ROT_TWO"):
            depth = step.arg or 2
            if len(stack) >= depth:
                stack[-1], stack[-depth] = stack[-depth], stack[-1]
        elif name in ("ROT_THREE", "ROT_FOUR"):
            stack.insert(-2 if name == "ROT_THREE" else -3, self.pop())
        elif name in _BUILDS or name in _ADDS:
            self._gather(step)
        else:
            self._other(step)

    def _store(self, name: str, argument: Any) -> None:
        if name == "STORE_FAST":
            self.locals[argument] = self.pop()
        elif name == "STORE_FAST_LOAD_FAST":
            self.locals[argument[0]] = self.pop()
            self.stack.append(self.locals.get(argument[1], ()))
        else:
            self.locals[argument[0]] = self.pop()
            if isinstance(argument, tuple):
                self.locals[argument[1]] = self.pop()

    def _gather(self, step: dis.Instruction) -> None:
        """Put values into a container that the call makes itself."""
        name, count = step.opname, step.arg or 0
        if name in _ADDS:
            values = self.pops(_ADDS[name])
            whole = self.stack[-count] if 0 < count <= len(self.stack) else ()
            adds_all = name in ("LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE")
            for value in values:
                for origin in whole:
                    if isinstance(origin.value, Made):
                        origin.value.put("[]", elements(value) if adds_all else value)
            return
        pairs = {"BUILD_MAP": 2 * count, "BUILD_CONST_KEY_MAP": count + 1}
        made = self.made(step)
        for value in self.pops(pairs.get(name, count)):
            made.put("[]", value)
        self.stack.append(own(made))

    def _other(self, step: dis.Instruction) -> None:
        try:
            effect = dis.stack_effect(step.opcode, step.arg, jump=False)
        except ValueError:
            return
        if effect > 0:
            self.stack += [()] * effect
        else:
            self.pops(1 - effect)
            self.stack.append(())


class _Keywords(tuple[str, ...]):
    """Names of the keywords of the call that comes next."""


def _callee(below: list[Value]) -> Value:
    return next((one for one in below if one and one[0] is not NULL), ())


def _merged(one: list[Value], other: list[Value]) -> list[Value]:
    return [join(first, second) for first, second in zip(one, other)]


def _joined(one: dict[str, Value], other: dict[str, Value]) -> dict[str, Value]:
    return {name: join(one.get(name, ()), other.get(name, ())) for name in {**one, **other}}


def _handlers(code: CodeType) -> list[tuple[int, int, int, int, int]]:
    """Return where errors go: from, to, target, depth of the stack, and what is pushed on it."""
    parse = getattr(dis, "_parse_exception_table", None)
    if parse is None:
        return []
    return [(one.start, one.end, one.target, one.depth, 1 + bool(one.lasti)) for one in parse(code)]
