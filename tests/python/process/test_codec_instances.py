"""Objects of plain classes have an encoding of their own, and arrive as by a pickle."""

from __future__ import annotations

import abc
import copyreg
import enum
import pickle
import sys
import types
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_codec import RETURNED, UNHURRIED, first

from raddle._native import Codec

PICKLE = b"\x80\x05"


@dataclass
class Record:
    number: int
    name: str
    weight: float | None = None


@dataclass(frozen=True)
class Frozen:
    number: int
    raw: bytes = b""


class Child(Record):
    """A plain class whose base is plain."""


class Empty:
    pass


class Initialised:
    """Its `__init__` is not called again."""

    def __init__(self) -> None:
        self.calls = getattr(self, "calls", 0) + 1


@dataclass
class Nested:
    inner: Any = field(default_factory=list)


class Slotted:
    __slots__ = ("__dict__", "number")

    def __init__(self) -> None:
        self.number, self.more = 1, 2


class Reduced:
    def __reduce__(self) -> Any:
        return Reduced._made, ()

    @staticmethod
    def _made() -> Reduced:
        made = Reduced()
        made.how = "by __reduce__"
        return made


class WithState:
    def __getstate__(self) -> Any:
        return {"how": "by __getstate__"}


class SetsState:
    def __init__(self) -> None:
        self.number = 1

    def __setstate__(self, state: Any) -> None:
        self.how = f"by __setstate__ of {state}"


class Newly:
    def __new__(cls) -> Newly:
        made = super().__new__(cls)
        made.how = "by __new__"
        return made


class WithArguments:
    def __new__(cls, number: int = 0) -> WithArguments:
        made = super().__new__(cls)
        made.number = number
        return made

    def __getnewargs__(self) -> Any:
        return (self.number + 1,)


class Asked:
    def __getattr__(self, name: str) -> Any:
        if name == "__getnewargs__":
            return lambda: ()
        raise AttributeError(name)


class Hidden:
    """What its `__dict__` says is not what it has."""

    @property
    def __dict__(self) -> Any:
        return {"how": "by a property"}


class Registered:
    pass


class RegisteredOfProcesses:
    pass


class Listed(list):  # type: ignore[type-arg]
    pass


class Abstract(abc.ABC):
    @abc.abstractmethod
    def other(self) -> None:
        pass


class Concrete(Abstract):
    def other(self) -> None:
        pass


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    left: int
    right: int


class Outer:
    class Inner:
        pass


def made(kind: type, **attributes: Any) -> Any:
    instance = kind()
    vars(instance).update(attributes)
    return instance


def _registered(_: Any) -> Any:
    return dict, ()


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two classes pickled in a way that is registered for them."""
    monkeypatch.setitem(copyreg.dispatch_table, Registered, _registered)
    extra = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    monkeypatch.setitem(extra, RegisteredOfProcesses, _registered)


def sent(codec: Codec, value: Any) -> tuple[bytes, bytes, Any]:
    """Send a value to a function that gives it back: the call, the reply, and what arrives."""
    call = codec.call(first, (value,))
    kind, reply = codec.run(call)
    assert kind == RETURNED
    return call, reply, codec.value(kind, reply)


def arguments(codec: Codec, call: bytes) -> bytes:
    """Return a call without its function, which is a pickle."""
    return call.removeprefix(codec.call(first, (None,))[:-1])


PLAIN = [
    Record(1, "a", 0.5),
    Frozen(2, b"\0\xff"),
    Child(3, "b"),
    Empty(),
    Initialised(),
    made(Empty, **{"not an identifier": True, "größe": -(2**63)}),
]
PICKLED = [
    Nested([1]),
    Nested(Record(1, "a")),
    Record(2**80, "too large"),
    Record(1, "\ud800"),
    Slotted(),
    Reduced(),
    WithState(),
    SetsState(),
    Newly(),
    WithArguments(4),
    Asked(),
    Hidden(),
    Registered(),
    Listed([1, 2]),
    Concrete(),
    Colour.RED,
    Pair(1, 2),
    Outer.Inner(),
    made(Empty, **{f"a{n}": n for n in range(300)}),
]


def pickled_twice(value: Any) -> Any:
    """Return what comes back when a value goes there and back by pickles."""
    for _ in range(2):
        value = pickle.loads(pickle.dumps(value))
    return value


def seen(value: Any) -> tuple[type, Any, str]:
    """Return what tells two objects apart."""
    return type(value), getattr(value, "__dict__", None), repr(value).split(" object at ")[0]


@pytest.mark.parametrize("by_value", [True, False])
@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_an_object_of_a_plain_class_needs_no_pickle(value: Any, by_value: bool) -> None:
    codec = Codec(by_value)
    call, reply, back = sent(codec, value)
    assert PICKLE not in arguments(codec, call)
    assert PICKLE not in reply
    assert seen(back) == seen(pickled_twice(value))
    assert back is not value


@pytest.mark.parametrize("value", PICKLED, ids=lambda value: type(value).__name__)
def test_what_is_not_plain_is_pickled(value: Any) -> None:
    codec = Codec()
    call, _, back = sent(codec, value)
    assert PICKLE in arguments(codec, call)
    assert seen(back) == seen(pickled_twice(value))


def test_what_multiprocessing_pickles_in_its_own_way_is_left_to_it() -> None:
    _, _, back = sent(Codec(), RegisteredOfProcesses())
    assert back == {}


def test_an_object_that_says_itself_how_it_is_pickled_is_asked() -> None:
    value = Empty()
    value.__reduce_ex__ = lambda protocol: (int, (protocol,))  # type: ignore[method-assign]
    _, _, back = sent(Codec(), value)
    assert back == 5


def test_an_attribute_whose_name_is_no_text_is_sent_as_pickle_does() -> None:
    value = Empty()
    vars(value)[1] = 2  # type: ignore[index]
    _, _, back = sent(Codec(), value)
    assert vars(back) == {1: 2}


def test_a_class_that_changes_is_looked_at_again() -> None:
    class_ = types.new_class("Changing")
    class_.__module__, class_.__qualname__ = __name__, "Changing"
    sys.modules[__name__].Changing = class_  # type: ignore[attr-defined]
    codec = Codec()
    call, _, _ = sent(codec, class_())
    assert PICKLE not in arguments(codec, call)
    class_.__reduce__ = lambda self: (str, ("changed",))  # type: ignore[method-assign]
    assert sent(codec, class_())[2] == "changed"
    del class_.__reduce__
    call, _, back = sent(codec, class_())
    assert PICKLE not in arguments(codec, call)
    assert type(back) is class_


def test_a_base_that_changes_is_seen() -> None:
    base = types.new_class("Base")
    class_ = types.new_class("Derived", (base,))
    for kind in (base, class_):
        kind.__module__, kind.__qualname__ = __name__, kind.__name__
        setattr(sys.modules[__name__], kind.__name__, kind)
    codec = Codec()
    assert PICKLE not in arguments(codec, sent(codec, class_())[0])
    base.__setstate__ = lambda self, state: vars(self).update(how="by its base")  # type: ignore[attr-defined]
    assert vars(sent(codec, made(class_, number=1))[2]) == {"how": "by its base"}


def test_a_class_that_sets_its_state_only_in_the_other_process_is_asked_there() -> None:
    class_ = types.new_class("Elsewhere")
    class_.__module__, class_.__qualname__ = __name__, "Elsewhere"
    sys.modules[__name__].Elsewhere = class_  # type: ignore[attr-defined]
    codec = Codec()
    call = codec.call(first, (made(class_, number=1),))
    assert PICKLE not in arguments(codec, call)
    class_.__setstate__ = lambda self, state: vars(self).update(state, more=2)  # type: ignore[attr-defined]
    assert vars(codec.value(*codec.run(call))) == {"number": 1, "more": 2}


def test_a_class_that_is_not_what_its_name_says_travels_by_value() -> None:
    class_ = type("Record", (), {"__module__": __name__, "__qualname__": "Record"})
    _, _, back = sent(Codec(), made(class_, number=1))
    assert type(back) is not Record
    assert vars(back) == {"number": 1}


def test_a_class_that_the_other_process_does_not_find_fails_the_task() -> None:
    class_ = types.new_class("Gone")
    class_.__module__, class_.__qualname__ = __name__, "Gone"
    module: Any = sys.modules[__name__]
    module.Gone = class_
    codec = Codec()
    call = codec.call(first, (class_(),))
    del module.Gone
    kind, reply = codec.run(call)
    assert kind != RETURNED
    with pytest.raises(Exception, match="Gone"):
        codec.value(kind, reply)


def test_one_object_in_two_places_arrives_as_one() -> None:
    record = Record(1, "a")
    codec = Codec()
    left, right = codec.value(*codec.run(codec.call(pair, (record, record))))
    assert left is right


def pair(left: Any, right: Any) -> Any:
    return left, right


def test_a_message_about_a_call_names_the_class() -> None:
    codec = Codec()
    assert codec.describe(codec.call(first, (Record(1, "a"),))) == "first(Record(...))"


@UNHURRIED
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.binary(),
        max_size=5,
    )
)
def test_whatever_the_attributes_are_they_arrive(attributes: dict[str, Any]) -> None:
    _, _, back = sent(Codec(), made(Empty, **attributes))
    expected = pickle.loads(pickle.dumps(made(Empty, **attributes)))
    assert type(back) is Empty
    assert vars(back) == vars(expected)
    assert [*map(type, vars(back).values())] == [*map(type, vars(expected).values())]
