"""Calls and replies of worker processes as bytes: what comes back is what was sent, or an error."""

from __future__ import annotations

import collections
import contextvars
import functools
import gc
import math
import pickle
import sys
import threading
import traceback
import types
import weakref
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import raddle
from raddle._native import Codec, named_globals

RETURNED, RAISED, UNREADABLE, CHUNK, CHUNK_RAISED = range(5)

#: An example may take as long as it does on a busy machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
unset: contextvars.ContextVar[Any] = contextvars.ContextVar("unset")


@pytest.fixture
def codec() -> Codec:
    return Codec()


def run(codec: Codec, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Encode a call, run it as a worker does, and decode its reply."""
    return codec.value(*codec.run(codec.call(function, args, kwargs or None)))


def capture(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def first(value: Any, *_more: Any) -> Any:
    return value


# --- Values ----------------------------------------------------------------------------------

atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.text(st.characters(categories=["Cs", "L"])),
    st.binary(),
)
values = st.recursive(
    atoms,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


class Text(str):
    pass


class Whole(int):
    pass


@UNHURRIED
@given(values)
def test_a_value_comes_back_equal_and_of_its_class(value: Any) -> None:
    result = run(Codec(), first, value)
    assert result == value
    assert type(result) is type(value)


@UNHURRIED
@given(st.lists(values, max_size=4), st.dictionaries(st.text(), values, max_size=3))
def test_arguments_come_as_they_were_passed(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert run(Codec(), capture, *args, **kwargs) == (tuple(args), kwargs)


@UNHURRIED
@given(st.lists(st.tuples(values, values), max_size=5))
def test_a_chunk_gives_the_result_of_each_call(items: list[Any]) -> None:
    codec = Codec()
    kind, reply = codec.run(codec.chunk(first, items))
    assert (kind, codec.chunk_values(kind, reply)) == (CHUNK, ([a for a, _ in items], None))


@pytest.mark.parametrize(
    "value",
    [
        2**63 - 1, -(2**63), 2**63, -(2**63) - 1, math.inf, -0.0, "", b"", "\ud800", "é" * 1000,
        "x" * 70_000, Text("a"), Whole(3), True, bytearray(b"a"), 1j, ..., [1], {1: 2}, {3},
        list(range(1000)), collections.OrderedDict(a=1), range(3), len, int, math,
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:12]!r}",
)  # fmt: skip
def test_values_at_the_edges_of_the_encoding(codec: Codec, value: Any) -> None:
    result = run(codec, first, value)
    assert (result, type(result)) == (value, type(value))
    assert math.copysign(1, result) == math.copysign(1, value) if value == 0.0 else True


def test_nan_is_nan(codec: Codec) -> None:
    assert math.isnan(run(codec, first, math.nan))


def test_plain_values_are_not_pickled(codec: Codec) -> None:
    number = 1  # of a function that was defined
    for value in (3, 2.5, "text", None, False, b"bytes"):
        assert b"\x80\x05" not in codec.call(number, (value,))
        assert b"\x80\x05" not in codec.call(number, (value, value))
        assert b"\x80\x05" not in codec.chunk(number, [(value,), (value,)])
    assert b"\x80\x05" in codec.call(number, ([],))


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 1000])
def test_any_number_of_arguments(codec: Codec, count: int) -> None:
    assert run(codec, capture, *range(count)) == (tuple(range(count)), {})


def test_arguments_that_are_one_object_stay_one(codec: Codec) -> None:
    shared: list[int] = []
    (one, two), kwargs = run(codec, capture, shared, shared, again=shared)
    assert one is two is kwargs["again"]


def is_same(one: Any, two: Any) -> bool:
    return one is two


def test_calls_of_a_chunk_share_what_they_shared(codec: Codec) -> None:
    shared: list[int] = []
    kind, reply = codec.run(codec.chunk(is_same, [(shared, shared)]))
    assert codec.chunk_values(kind, reply) == ([True], None)


def test_a_pickling_error_leaves_what_was_appended_before(codec: Codec) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        codec.call(first, (threading.Lock(),))
    with pytest.raises(TypeError, match="cannot pickle"):
        codec.chunk(first, [(1,), (threading.Lock(),)])


class RaisesOnPickling:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error("no pickling")


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, pickle.PicklingError])
def test_what_pickling_raises_is_raised(codec: Codec, error: type[BaseException]) -> None:
    with pytest.raises(error, match="no pickling"):
        codec.call(first, (RaisesOnPickling(error),))


# --- Functions -------------------------------------------------------------------------------


class Counter:
    made = 0

    def __init__(self, start: int) -> None:
        self.count = start

    def add(self, more: int) -> int:
        return self.count + more

    @classmethod
    def name(cls) -> str:
        return cls.__name__

    @staticmethod
    def double(number: int) -> int:
        return number * 2


def test_any_callable_runs(codec: Codec) -> None:
    captured = 4
    assert run(codec, abs, -1) == 1
    assert run(codec, str.upper, "a") == "A"
    assert run(codec, Counter(3).add, 4) == 7
    assert run(codec, Counter.name) == "Counter"
    assert run(codec, Counter.double, 4) == 8
    assert run(codec, Counter, 4).count == 4
    assert run(codec, functools.partial(max, 3), 5) == 5
    assert run(codec, lambda x: x + captured, 5) == 9
    assert run(codec, [3].index, 3) == 0


def test_only_what_a_module_holds_under_its_name_is_importable(codec: Codec) -> None:
    importable = [abs, math.sqrt, Counter, Counter.add, Counter.double, pickle.dumps, first]
    others = [Counter(1).add, Counter.name, functools.partial(first), lambda: 1, [].append, 3]
    assert all(codec.is_importable(function) for function in importable)
    assert not any(codec.is_importable(function) for function in others)


def test_a_name_that_is_bound_anew_is_not_importable(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = first
    monkeypatch.setattr(sys.modules[__name__], "first", lambda value: 3)
    assert not codec.is_importable(before)


HANDMADE = """
K = 5
def f(x): return g(x) + K
def g(x): return x * 2
class C:
    def m(self): return g(4)
"""


@pytest.fixture
def handmade() -> Iterator[types.ModuleType]:
    """A module that no other process can import."""
    module = types.ModuleType("handmade_module")
    source = (
        "K = 5\ndef f(x): return g(x) + K\ndef g(x): return x * 2\nclass C:\n def m(s): return g(4)"
    )
    exec(source, module.__dict__)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_functions_of_a_module_made_by_hand_are_sent_as_code(
    codec: Codec, handmade: types.ModuleType
) -> None:
    assert not codec.is_importable(handmade.f)
    calls = [codec.call(handmade.f, (3,)), codec.call(handmade.C().m, ())]
    calls.append(codec.call(lambda: handmade.f(1), ()))
    sys.modules["handmade_module"] = None  # type: ignore[assignment]
    assert [codec.value(*codec.run(call)) for call in calls] == [11, 8, 7]
    assert "handmade_module" not in __import__("cloudpickle").list_registry_pickle_by_value()


def test_a_module_that_was_loaded_by_its_path_is_sent_as_code(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    path = tmp_path / "plugin_by_path.py"
    path.write_text("def f(): return 'of the plugin'")
    spec = spec_from_file_location("plugin_by_path", path)
    assert spec is not None and spec.loader is not None
    plugin = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "plugin_by_path", plugin)
    spec.loader.exec_module(plugin)
    call = codec.call(plugin.f, ())
    monkeypatch.delitem(sys.modules, "plugin_by_path")
    assert codec.value(*codec.run(call)) == "of the plugin"


def test_a_definition_is_used_by_its_number(codec: Codec) -> None:
    kind, reply = codec.run(codec.call(7, (3, 4)), {7: codec.function(max)})
    assert codec.value(kind, reply) == 4
    kind, reply = codec.run(codec.call(8, (3, 4)), {7: codec.function(max)})
    with pytest.raises(raddle.UnpicklingFailed, match="not defined"):
        codec.value(kind, reply)


# --- Errors ----------------------------------------------------------------------------------


class Awkward(Exception):
    """Cannot be rebuilt: its constructor wants more than its args."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)


class Holding(Exception):
    pass


def fail(error: BaseException) -> None:
    raise error  # the line that the traceback shows


def fail_awkwardly() -> None:
    raise Awkward("out of order", 3)


def fail_from() -> None:
    try:
        {}["key"]
    except KeyError as error:
        raise ValueError("no such thing") from error


def fail_holding_a_lock() -> None:
    raise Holding("held", threading.Lock())


def exception_of(codec: Codec, function: Any, *args: Any) -> BaseException:
    kind, reply = codec.run(codec.call(function, args))
    assert kind in (RETURNED, RAISED, UNREADABLE)
    with pytest.raises(BaseException) as caught:
        codec.value(kind, reply)
    return caught.value


@pytest.mark.parametrize(
    "error", [ValueError("a", 3), SystemExit(4), KeyboardInterrupt(), OSError(2, "none", "file")]
)
def test_an_exception_comes_with_the_workers_traceback(codec: Codec, error: BaseException) -> None:
    raised = exception_of(codec, fail, error)
    assert (type(raised), raised.args) == (type(error), error.args)
    assert type(raised.__cause__) is _RemoteTraceback
    assert "raise error  # the line that the traceback shows" in raised.__cause__.tb
    assert raised.__cause__.tb.startswith('\n"""\nTraceback (most recent call last):')


def test_a_cause_is_told(codec: Codec) -> None:
    raised = exception_of(codec, fail_from)
    assert "KeyError: 'key'" in str(raised.__cause__)
    assert "direct cause" in "".join(traceback.format_exception(raised))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes from 3.11 on")
def test_notes_come_along(codec: Codec) -> None:
    error = ValueError("a")
    error.add_note("seen before breakfast")  # type: ignore[attr-defined,unused-ignore]
    notes = vars(exception_of(codec, fail, error))["__notes__"]
    assert notes == ["seen before breakfast"]


def test_an_exception_that_cannot_be_rebuilt_is_told(codec: Codec) -> None:
    raised = exception_of(codec, fail_awkwardly)
    assert isinstance(raised, raddle.UnpicklingFailed)
    assert isinstance(raised, BrokenProcessPool)
    assert raised.type_name == f"{__name__}.Awkward"
    assert raised.message == "out of order"
    assert 'raise Awkward("out of order", 3)' in str(raised.__cause__)
    assert "missing 1 required positional argument" in str(raised)


def test_an_exception_that_cannot_be_pickled_is_the_pickling_error(codec: Codec) -> None:
    raised = exception_of(codec, fail_holding_a_lock)
    assert isinstance(raised, TypeError)
    assert "cannot pickle" in str(raised)
    assert "Holding: ('held'" in str(raised.__cause__)


def test_a_result_that_cannot_be_pickled_is_the_pickling_error(codec: Codec) -> None:
    raised = exception_of(codec, threading.Lock)
    assert isinstance(raised, TypeError)
    assert type(raised.__cause__) is _RemoteTraceback


class Rebuilt:
    """Raises when it is unpickled, `left` times at most."""

    left = 0

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return rebuild, (self.error,)


def rebuild(error: type[BaseException]) -> str:
    if Rebuilt.left:
        Rebuilt.left -= 1
        raise error("no rebuilding")
    return "rebuilt"


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_call_that_cannot_be_rebuilt_is_told(
    codec: Codec, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(Rebuilt, "left", 1)
    raised = exception_of(codec, first, Rebuilt(error))
    assert isinstance(raised, raddle.UnpicklingFailed)
    assert (raised.type_name, raised.message) == (error.__name__, "no rebuilding")
    assert "in rebuild" in str(raised.remote_traceback)


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_result_that_cannot_be_rebuilt_is_told(
    codec: Codec, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    kind, reply = codec.run(codec.call(Rebuilt, (error,)))
    monkeypatch.setattr(Rebuilt, "left", 1)
    with pytest.raises(raddle.UnpicklingFailed, match="no rebuilding") as caught:
        codec.value(kind, reply)
    assert type(caught.value.__cause__) is error


def test_an_interrupt_while_a_result_is_rebuilt_is_not_its_outcome(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, reply = codec.run(codec.call(Rebuilt, (KeyboardInterrupt,)))
    monkeypatch.setattr(Rebuilt, "left", 1)
    with pytest.raises(KeyboardInterrupt):
        codec.value(kind, reply)
    assert codec.value(kind, reply) == "rebuilt"


class Silent(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    def __reduce__(self) -> Any:
        raise ValueError("nor this")


def fail_silently() -> None:
    raise Silent


def test_an_exception_whose_text_cannot_be_made_harms_nobody(codec: Codec) -> None:
    raised = exception_of(codec, fail_silently)
    assert (type(raised), str(raised)) == (ValueError, "nor this")


def fail_at(number: int, at: int) -> int:
    if number == at:
        raise ValueError(f"at {at}")
    return number


@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_chunk_gives_the_results_before_an_error(codec: Codec, at: int) -> None:
    kind, reply = codec.run(codec.chunk(fail_at, [(n, at) for n in range(5)]))
    found, error = codec.chunk_values(kind, reply)
    assert kind == CHUNK_RAISED
    assert found == list(range(at))
    assert isinstance(error, ValueError) and error.args == (f"at {at}",)
    assert type(error.__cause__) is _RemoteTraceback


def test_the_exceptions_can_be_pickled() -> None:
    died = raddle.WorkerDied("f(1)", 2, 33, None, "SIGKILL", 5 << 30, "File x, line 3")
    killed = raddle.TaskKilled("f(1)", 2, 33, signal="SIGKILL")
    failed = raddle.UnpicklingFailed("text", "ValueError", "no", "Traceback")
    for error in (died, killed, failed):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
        assert again.__dict__ == error.__dict__
    assert "5.0 GB" in str(died) and "File x, line 3" in str(died)
    assert isinstance(killed, raddle.WorkerDied) and isinstance(died, BrokenProcessPool)


# --- What stays alive ------------------------------------------------------------------------

alive: weakref.WeakSet[Any] = weakref.WeakSet()


class Watched:
    def __setstate__(self, state: dict[str, Any]) -> None:
        alive.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"any": 1}


def fail_with_argument(watched: Watched) -> None:
    local = watched
    try:
        raise KeyError("first")
    except KeyError as error:
        kept = error
        raise ValueError(len(repr(local)), repr(kept)) from kept


@pytest.mark.parametrize("function", [id, len, fail_with_argument])
def test_nothing_of_a_task_is_alive_after_its_reply(codec: Codec, function: Any) -> None:
    call = codec.call(function, (Watched(),))
    gc.disable()
    try:
        codec.run(call)
        assert not list(alive)
    finally:
        gc.enable()


# --- Context variables -----------------------------------------------------------------------


def look() -> Any:
    seen = variable.get("unset"), unset.get("unset")
    variable.set("of the task")
    return seen


def test_values_of_context_variables_come_with_a_call(codec: Codec) -> None:
    def submit(value: Any) -> bytes:
        variable.set(value)
        return codec.call(look, (), None, [variable, unset])

    call = contextvars.copy_context().run(submit, ["any"])
    assert codec.value(*codec.run(call, {}, [variable, unset])) == (["any"], "unset")
    assert variable.get("unset") == "unset"
    call = codec.call(look, (), None, [variable, unset])
    assert contextvars.copy_context().run(codec.run, call, {}, [variable, unset])[0] == RETURNED


# --- Damage ----------------------------------------------------------------------------------


@settings(UNHURRIED, max_examples=300)
@given(st.integers(0, 6), st.binary(max_size=60))
def test_a_reply_of_rubbish_is_an_error_or_a_value(kind: int, reply: bytes) -> None:
    codec = Codec()
    try:
        codec.value(kind, reply)
    except raddle.UnpicklingFailed:
        pass
    _, error = codec.chunk_values(kind, reply)
    assert error is None or isinstance(error, raddle.UnpicklingFailed)


@settings(UNHURRIED, max_examples=300)
@given(st.data())
def test_a_call_that_was_damaged_is_an_error_or_runs(data: st.DataObject) -> None:
    codec = Codec()
    call = bytearray(codec.call(7, (1, "text", b"bytes", None, 2.5)))
    for _ in range(data.draw(st.integers(1, 3))):
        call[data.draw(st.integers(0, len(call) - 1))] = data.draw(st.integers(0, 255))
    kind, reply = codec.run(bytes(call), {7: codec.function(capture)})
    if kind == UNREADABLE:
        with pytest.raises(raddle.UnpicklingFailed):
            codec.value(kind, reply)
    else:
        assert kind in (RETURNED, CHUNK)


def test_a_reply_cut_short_is_an_error_at_any_length(codec: Codec) -> None:
    for task in (codec.call(first, ("text",)), codec.chunk(first, [("a",), ("b",)])):
        kind, reply = codec.run(task)
        for length in range(len(reply)):
            values, error = codec.chunk_values(kind, reply[:length])
            assert not values and isinstance(error, raddle.UnpicklingFailed)


def test_a_length_that_is_not_there_costs_nothing(codec: Codec) -> None:
    huge = (2**63).to_bytes(8, "little")
    for tag in (5, 6, 7):
        with pytest.raises(raddle.UnpicklingFailed, match="ends too early"):
            codec.value(RETURNED, bytes([tag]) + huge)
    _, error = codec.chunk_values(CHUNK, bytes([48]) + huge)
    assert "ends too early" in str(error)


# --- What a pickle names ---------------------------------------------------------------------


@UNHURRIED
@given(values)
def test_a_pickle_of_values_names_nothing(value: Any) -> None:
    assert named_globals(pickle.dumps(value, 5)) == []


def test_all_classes_and_functions_in_a_pickle_are_named() -> None:
    value = [
        Counter(1),
        Counter(2),
        Counter.add,
        math.sqrt,
        collections.deque(),
        "raddle",
        {Text: 1},
    ]
    found = named_globals(pickle.dumps([value, "x" * 300, "y" * 70_000, Whole(1)], 5))
    here = {(__name__, name) for name in ("Counter", "Counter.add", "Text", "Whole")}
    assert here | {("math", "sqrt"), ("collections", "deque")} <= set(found)
    assert len(found) == len(set(found))


@UNHURRIED
@given(st.binary())
def test_rubbish_names_something_or_nothing(rubbish: bytes) -> None:
    named_globals(rubbish)
    named_globals(b"\x80\x05" + rubbish + b"\x93.")


# --- Calls in messages -----------------------------------------------------------------------


class Noisy:
    """Must not be asked for its repr, nor rebuilt, for a message."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __repr__(self) -> str:
        raise AssertionError("its repr was asked for")

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("it was rebuilt")


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "told"),
    [
        (math.sqrt, (4.0,), {}, "sqrt(4.0)"),
        (first, ("a.csv", 3), {"mode": "fast"}, "first('a.csv', 3, mode='fast')"),
        (first, (), {}, "first()"),
        (Counter.add, (1,), {}, "Counter.add(1)"),
        (functools.partial(max, 3), (4,), {}, "partial(max)(4)"),
        (first, (Noisy(1), [Noisy()]), {}, "first(Noisy(...), [Noisy(...)])"),
        (first, ({"a": Noisy},), {}, "first({'a': Noisy})"),
        (first, (list(range(100)),), {}, "first([0, 1, 2, 3, ...])"),
        (first, ({3}, frozenset([1])), {}, "first({3}, frozenset({1}))"),
        (first, (1j, range(3)), {}, "first(1j, range(0, 3))"),
        (first, (collections.OrderedDict(a=1),), {}, "first(OrderedDict(...))"),
    ],
)  # fmt: skip
def test_a_call_is_told_without_running_anything(
    codec: Codec, function: Any, args: Any, kwargs: Any, told: str
) -> None:
    assert codec.describe(codec.call(function, args, kwargs)) == told


def test_a_long_call_is_shortened(codec: Codec) -> None:
    told = codec.describe(codec.call(first, ("x" * 10_000, b"y" * 10_000, [["z" * 999] * 99] * 99)))
    assert len(told) < 200
    assert (
        codec.describe(codec.call(first, (bytearray(5_000_000),))) == "first(... 5 MB of arguments)"
    )


def test_a_chunk_is_told_by_its_first_call(codec: Codec) -> None:
    assert codec.describe(codec.chunk(first, [(1,), (2,), (3,)])) == "first(1) and 2 more calls"
    assert codec.describe(codec.chunk(first, [([1],), (2,)])) == "first([1]) and 1 more call"


@UNHURRIED
@given(st.binary(max_size=60))
def test_rubbish_is_told_as_such(rubbish: bytes) -> None:
    assert Codec().describe(rubbish)
    assert Codec().describe(Codec().call(7, (1,)), {7: rubbish})


# --- Objects of multiprocessing --------------------------------------------------------------


def send_down(connection: Any, value: Any) -> None:
    connection.send(value)
    connection.close()


# What the worker's side made is dropped here without being closed, as in a worker.
@pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning")
def test_connections_and_sockets_are_sent_as_multiprocessing_sends_them(codec: Codec) -> None:
    import multiprocessing
    import socket

    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        run(codec, send_down, writer, "through the pipe")
        assert reader.recv() == "through the pipe"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with run(codec, first, theirs) as again:
            again.sendall(b"word")
        assert ours.recv(9) == b"word"


@pytest.mark.parametrize("make", ["Lock", "Queue", "Value"])
def test_what_can_only_be_inherited_is_refused(codec: Codec, make: str) -> None:
    import multiprocessing

    thing = getattr(multiprocessing, make)(*("i",) * (make == "Value"))
    with pytest.raises(RuntimeError, match="inheritance"):
        codec.call(first, (thing,))
