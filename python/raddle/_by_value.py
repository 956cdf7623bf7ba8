"""Pickles of what another process cannot import: the code itself goes along.

Functions and classes of ``__main__`` are named in a pickle as if they could be imported, and their
definitions, with the globals that they use, go before it (see `_main_globals.unpack`). Functions
are taken apart here; cloudpickle, which takes long to load, is for all the rest.
"""

from __future__ import annotations

import marshal
import sys
from _pickle import Pickler, PicklingError, dumps
from _thread import RLock
from importlib import import_module
from io import BytesIO
from types import FunctionType, ModuleType

from . import _main_globals, _native
from ._pickling import (
    PROTOCOL,
    is_importable_module,
    reducers,
)
from ._reductions import Cached, reduce_cached, table, with_slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType
    from typing import Any


class _Circle(Exception):
    """Definitions need one another before any of them is there."""


def dumps_by_value(
    value: object, is_worker: bool, plain: tuple[bytes, list[tuple[str, str]]] | None
) -> bytes:
    """Pickle a value with the definitions of what it needs of ``__main__`` and other modules.

    A worker does not send back what came from the program. `plain` is what the C pickler made of
    the value, if it could and nothing in it is to be pickled in another way, and what that names.
    """
    strangers: set[str] = set()
    while True:
        before = len(strangers)
        try:
            data = _Parcel(strangers, is_worker).dumps(value, plain)
        except _Circle:
            data = _dumps_by_cloudpickle(value, strangers)
        if len(strangers) == before:
            return data
        plain = None


class _Parcel:
    """A pickle and the definitions that go before it."""

    def __init__(self, strangers: set[str], is_worker: bool) -> None:
        self._strangers = strangers
        self._is_worker = is_worker
        self._main = _main_globals.main_globals()
        self._definitions: dict[str, bytes] = {}
        self._open: set[str] = set()
        #: Those that cannot be sent, and why.
        self._unsent: dict[str, Exception] = {}
        #: Globals that functions use: they may come in any order.
        self.used: dict[str, None] = {}

    def dumps(self, value: object, plain: tuple[bytes, list[tuple[str, str]]] | None) -> bytes:
        """Pickle a value, unless its pickle is there already."""
        if plain is None:
            body = self._pickle(value, None)
            plain = body, _native.named_globals(body)
        body, named = plain
        for name in self._of_main(named):
            self._define(name)
        while self.used:
            name = next(iter(self.used))
            del self.used[name]
            self._define_used(name)
        if not self._definitions:
            return body
        return _UNPACK + dumps((self._definitions, body), PROTOCOL)[2:-1] + b"R."

    def _define_used(self, name: str) -> None:
        """Define what a function uses; if it cannot be sent, who does use it fails, there."""
        still_open = set(self._open)
        try:
            self._define(name)
        except _Circle:
            raise
        except Exception as error:
            self._open = still_open
            why = f"{type(error).__name__}: {error}"
            self._unsent[name] = error.with_traceback(None)
            self._definitions[name] = dumps(_main_globals.Unsent(name, why), PROTOCOL)

    def _define(self, name: str) -> None:
        if name in self._unsent:
            raise self._unsent[name]
        if name in self._definitions or name not in self._main:
            return
        if self._is_worker and _main_globals.has_come(name):
            return
        if name in self._open:
            raise _Circle
        self._open.add(name)
        value = self._main[name]
        try:
            pickled, needed = self._definition(name, value)
        except (TypeError, PicklingError) as error:
            _add_note(error, f"It was met in the global {name!r} of __main__, which is sent along.")
            raise
        # What its pickle names has to be there when it is loaded.
        for other in needed:
            self._define(other)
        if not isinstance(value, (FunctionType, ModuleType)):
            # Loading it may call functions, and these use more.
            self._define_what_is_used()
        self._open.remove(name)
        self._definitions[name] = pickled

    def _define_what_is_used(self) -> None:
        for name in list(self.used):
            still_open = set(self._open)
            try:
                self._define_used(name)
                self.used.pop(name, None)
            except _Circle:
                # It needs what is being defined; its turn comes after that.
                self._open = still_open

    def _definition(self, name: str, value: object) -> tuple[bytes, list[str]]:
        version = _native.type_version(value) if isinstance(value, type) else 0
        kept = _kept.get(name)
        if kept is not None and kept.value is value and kept.version == version != 0:
            self.used.update(kept.used)
            return kept.pickled, kept.needed
        before, self.used = self.used, {}
        try:
            pickled = self._pickle(value, name)
            used = self.used
        finally:
            self.used = before
        self.used.update(used)
        needed = [n for n in self._of_main(_native.named_globals(pickled)) if n != name]
        if isinstance(value, type) and _is_simple(value):
            _kept[name] = _Kept(value, version, pickled, needed, used)
        return pickled, needed

    def _pickle(self, value: object, defining: str | None) -> bytes:
        buffer = BytesIO()
        pickler = _Quick(buffer, self, defining)
        pickler.dispatch_table = {**table(defining is not None), **reducers()}
        try:
            with _Copied(self._strangers):
                pickler.dump(value)
            return buffer.getvalue()
        except (PicklingError, AttributeError, TypeError):
            pass
        return _dumps_by_cloudpickle(value, self._strangers, self, defining)

    def _of_main(self, named: list[tuple[str, str]]) -> list[str]:
        """Return which globals of ``__main__`` are named; note modules that are strange."""
        found = []
        for module, name in named:
            if module == "__main__":
                found.append(name.partition(".")[0])
            elif not is_importable_module(module):
                self._strangers.add(module)
        return found

    def reduce(self, value: Any, defining: str | None) -> Any:
        """Return how a function or class is pickled, or None if it is none of ``__main__``."""
        if self._is_found(value, defining):
            return NotImplemented
        if type(value) is FunctionType and value.__globals__ is self._main:
            return self._reduce_function(value)
        if type(value) is Cached and not self.is_importable(value):
            return reduce_cached(value)
        return None

    def _is_found(self, value: Any, defining: str | None) -> bool:
        """Return whether it is found in ``__main__`` by its name, so that its name is enough."""
        if getattr(value, "__module__", None) != "__main__":
            return False
        first, *more = value.__qualname__.split(".")
        if first == defining:
            return False
        found = self._main.get(first)
        for part in more:
            found = getattr(found, part, None)
        return found is value

    def _reduce_function(self, function: FunctionType) -> tuple[Any, ...]:
        code, names, words = _taken_apart(function.__code__)
        self.used.update(dict.fromkeys(names))
        modules = [module for name in names for module in _submodules(self._main.get(name), words)]
        cells = [_content(cell) for cell in function.__closure__ or ()]
        state = (_attributes(function), cells, function.__dict__)
        make, complete = _main_globals.make_function, _main_globals.set_function
        return make, (code, modules), state, None, None, complete

    def is_importable(self, value: Any) -> bool:
        """Return whether a function or class of another module is found there by its name."""
        name = getattr(value, "__module__", None)
        if not isinstance(name, str) or name in self._strangers or name == "__main__":
            return False
        found: Any = sys.modules.get(name)
        for part in value.__qualname__.split("."):
            found = getattr(found, part, None)
        return found is value


#: The beginning of a pickle that calls `unpack`, in place of the two bytes that say the protocol;
#: the arguments follow, and at the end the opcode of the call.
_UNPACK = b"\x80\x05c%b\nunpack\n" % _main_globals.__name__.encode()


class _Quick(Pickler):
    """The C pickler, which asks here about modules, classes and functions."""

    def __init__(self, buffer: BytesIO, parcel: _Parcel, defining: str | None) -> None:
        super().__init__(buffer, PROTOCOL)
        self._parcel = parcel
        self._defining = defining
        self._cloud: Any = None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, ModuleType):
            if is_importable_module(value.__name__):
                return import_module, (value.__name__,)
            return self._ask_cloudpickle(value)
        if not _has_a_name(value):
            return NotImplemented
        reduced = self._parcel.reduce(value, self._defining)
        if reduced is not None:
            return reduced
        if self._parcel.is_importable(value):
            return NotImplemented
        return self._ask_cloudpickle(value)

    def _ask_cloudpickle(self, value: Any) -> Any:
        if self._cloud is None:
            # It writes nothing itself: it only says how things are taken apart.
            self._cloud = _cloud_pickler(BytesIO(), self._parcel, self._defining)
            self.dispatch_table = self._cloud.dispatch_table
        if isinstance(value, ModuleType):
            return NotImplemented
        return self._cloud.reducer_override(value)


def _has_a_name(value: object) -> bool:
    """Return whether it may be found in a module, and is pickled by its name if it is."""
    return isinstance(value, type) or type(value) is FunctionType or type(value) is Cached


#: A class that is made when cloudpickle has been loaded.
_cloud_pickler_class: Any = None


def _cloud_pickler(buffer: BytesIO, parcel: _Parcel | None, defining: str | None) -> Any:
    global _cloud_pickler_class
    import cloudpickle  # type: ignore[import-untyped]

    if _cloud_pickler_class is None:

        class CloudPickler(cloudpickle.Pickler):  # type: ignore[misc]
            parcel: _Parcel | None = None
            defining: str | None = None

            def reducer_override(self, value: Any) -> Any:
                if self.parcel and _has_a_name(value):
                    reduced = self.parcel.reduce(value, self.defining)
                    if reduced is not None:
                        return reduced
                if type(value) is Cached:
                    return reduce_cached(value)
                reduced = super().reducer_override(value)
                return with_slots(value, reduced) if isinstance(value, type) else reduced

        _cloud_pickler_class = CloudPickler
    pickler = _cloud_pickler_class(buffer, PROTOCOL)
    pickler.parcel, pickler.defining = parcel, defining
    # What cloudpickle knows goes before what is registered for multiprocessing.
    pickler.dispatch_table = {
        **table(defining is not None),
        **reducers(),
        **pickler.dispatch_table,
    }
    return pickler


def _dumps_by_cloudpickle(
    value: object,
    strangers: set[str],
    parcel: _Parcel | None = None,
    defining: str | None = None,
) -> bytes:
    """Pickle a value; without a parcel, with copies of all that is not importable."""
    buffer = BytesIO()
    pickler = _cloud_pickler(buffer, parcel, defining)
    with _Copied(strangers):
        pickler.dump(value)
    if parcel is None:
        # Nobody else looks at this one.
        _note_strangers(buffer.getvalue(), strangers)
    return buffer.getvalue()


#: cloudpickle has one list of modules to copy: one thread at a time has its own in it.
_copying = RLock()


class _Copied:
    """Has cloudpickle copy what is of these modules."""

    def __init__(self, strangers: set[str]) -> None:
        self._strangers = strangers
        self._modules: list[ModuleType] = []
        self._is_held = False

    def __enter__(self) -> None:
        if self._strangers:
            import cloudpickle

            self._is_held = _copying.acquire()
            others = self._strangers - cloudpickle.list_registry_pickle_by_value()
            self._modules = [sys.modules[name] for name in others if name in sys.modules]
            for module in self._modules:
                cloudpickle.register_pickle_by_value(module)

    def __exit__(self, *_error: object) -> None:
        if self._is_held:
            import cloudpickle

            for module in self._modules:
                cloudpickle.unregister_pickle_by_value(module)
            _copying.release()


def _note_strangers(pickled: bytes, strangers: set[str]) -> None:
    named = {module for module, _ in _native.named_globals(pickled)}
    strangers.update(m for m in named if m != "__main__" and not is_importable_module(m))


# --- Functions -------------------------------------------------------------------------------

#: Code objects taken apart, by identity; they are kept, so that none takes the place of another.
_apart: dict[int, tuple[CodeType, tuple[bytes, tuple[str, ...], frozenset[str]]]] = {}


def _taken_apart(code: CodeType) -> tuple[bytes, tuple[str, ...], frozenset[str]]:
    """Return a code's bytes, the names of globals that it uses, and all names in it."""
    kept = _apart.get(id(code))
    if kept is not None:
        return kept[1]
    names: dict[str, None] = {}
    words: set[str] = set()
    _find_names(code, names, words)
    apart = marshal.dumps(code), tuple(names), frozenset(words)
    if len(_apart) > 1000:
        _apart.clear()
    _apart[id(code)] = code, apart
    return apart


def _find_names(code: CodeType, names: dict[str, None], words: set[str]) -> None:
    words.update(code.co_names)
    for opcode, operand in _instructions(code.co_code):
        shift = _global_operations().get(opcode)
        if shift is not None:
            names.setdefault(code.co_names[operand >> shift])
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            _find_names(constant, names, words)


def _instructions(code: bytes) -> Iterable[tuple[int, int]]:
    extended = 0
    extend = _extended_arg()
    for opcode, operand in zip(code[::2], code[1::2]):
        operand |= extended
        extended = operand << 8 if opcode == extend else 0
        yield opcode, operand


def _extended_arg() -> int:
    from opcode import EXTENDED_ARG

    return EXTENDED_ARG


#: Opcodes that name a global, and by how many bits the name's number is shifted in the operand.
_operations: dict[int, int] = {}


def _global_operations() -> dict[int, int]:
    if not _operations:
        from opcode import opmap

        # From 3.11 on the lowest bit of LOAD_GLOBAL says something else.
        shifted = {"LOAD_GLOBAL": 1 if sys.version_info >= (3, 11) else 0}
        names = ("STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
        shifts = {**dict.fromkeys(names, 0), **shifted}
        _operations.update((opmap[name], shift) for name, shift in shifts.items() if name in opmap)
    return _operations


def _submodules(package: object, words: frozenset[str]) -> list[str]:
    """Return the loaded submodules of a package that a function may use by their names."""
    if not isinstance(package, ModuleType) or not hasattr(package, "__path__"):
        return []
    start = f"{package.__name__}."
    loaded = [name for name in list(sys.modules) if name.startswith(start)]
    return [name for name in loaded if words.issuperset(name[len(start) :].split("."))]


def _content(cell: Any) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _attributes(function: FunctionType) -> dict[str, Any]:
    code = function.__code__
    first = code.co_consts[0] if code.co_consts else None
    usual: dict[str, Any] = {
        "__name__": code.co_name,
        "__qualname__": getattr(code, "co_qualname", code.co_name),
        "__module__": "__main__",
        "__doc__": first if isinstance(first, str) else None,
        "__defaults__": None,
        "__kwdefaults__": None,
        "__annotations__": {},
        "__type_params__": (),
    }
    attributes = {name: getattr(function, name, value) for name, value in usual.items()}
    return {name: value for name, value in attributes.items() if value != usual[name]}


# --- Classes ---------------------------------------------------------------------------------


class _Kept:
    """The definition of a class, which takes long to make, while the class is as it was."""

    def __init__(
        self,
        value: object,
        version: int,
        pickled: bytes,
        needed: list[str],
        used: dict[str, None],
    ) -> None:
        self.value = value
        self.version = version
        self.pickled = pickled
        self.needed = needed
        self.used = used


_kept: dict[str, _Kept] = {}

_PLAIN = (
    str,
    int,
    float,
    bool,
    type(None),
    bytes,
    FunctionType,
    staticmethod,
    classmethod,
    property,
)
#: What the interpreter and `dataclasses` leave in a class, and nobody changes in place.
_USUAL = (
    "__annotations__", "__dataclass_fields__", "__dataclass_params__", "__dict__", "__match_args__",
    "__slotnames__", "__slots__", "__static_attributes__", "__weakref__",
)  # fmt: skip


def _is_simple(kind: type) -> bool:
    """Return whether nothing in a class can change but by setting its attributes."""
    return type(kind) is type and all(
        name in _USUAL or isinstance(value, _PLAIN) or type(value).__name__ == "member_descriptor"
        for name, value in vars(kind).items()
    )


def _add_note(error: BaseException, note: str) -> None:
    add = getattr(error, "add_note", None)
    if add is not None:
        add(note)
