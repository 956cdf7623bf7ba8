"""A program whose functions and classes live in ``__main__``, and a worker that has none of them.

Each check gets a worker process of its own. The program writes one line of JSON: what became of
each check, by its name.
"""

from __future__ import annotations

import abc
import collections
import concurrent.futures.thread
import dataclasses
import enum
import functools
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from raddle._native import Codec

WORKER = """
import sys, struct
sys.modules["__main__"] = type(sys)("__main__")
from raddle._native import Codec
codec = Codec(True, True)
source, sink = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr
while head := source.read(8):
    kind, reply = codec.run(source.read(struct.unpack("<Q", head)[0]))
    sink.write(struct.pack("<QH", len(reply), kind) + reply)
    sink.flush()
"""

T = TypeVar("T")
CHECKS: dict[str, Callable[[], None]] = {}
codec = Codec()


class Worker:
    """A process that runs calls one after the other."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-c", WORKER], stdin=pipe, stdout=pipe)

    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        call = codec.call(function, args, kwargs or None)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(struct.pack("<Q", len(call)) + call)
        self._process.stdin.flush()
        length, kind = struct.unpack("<QH", self._process.stdout.read(10))
        return codec.value(kind, self._process.stdout.read(length))

    def end(self) -> None:
        self._process.communicate()


run: Worker


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS[function.__name__] = function
    return function


# --- Globals ---------------------------------------------------------------------------------

state: Any = None
cache: dict[Any, Any] = {}
number = 1


def initialize(value: Any) -> None:
    global state
    state = value


def read() -> Any:
    return state, number


def remember(key: Any) -> int:
    cache[key] = True
    return len(cache)


@check
def an_initializer_and_tasks_share_globals() -> None:
    run(initialize, 7)
    assert run(read) == (7, 1)


@check
def changed_globals_are_seen_and_do_not_undo_what_the_worker_set() -> None:
    global number, state
    run(initialize, 7)
    number = 2
    assert run(read) == (7, 2)
    state = "changed here"
    assert run(read) == ("changed here", 2)
    number, state = 1, None


@check
def a_cache_of_the_worker_lives_from_task_to_task() -> None:
    assert [run(remember, key) for key in range(3)] == [1, 2, 3]
    cache["of the program"] = True
    assert run(remember, 4) == 2
    cache.clear()


# --- Functions -------------------------------------------------------------------------------


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


def is_even(n: int) -> bool:
    return n == 0 or is_odd(n - 1)


def is_odd(n: int) -> bool:
    return n != 0 and is_even(n - 1)


def with_everything(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> Any:
    """What it does."""
    return a, b, rest, c, more


def uses_a_submodule() -> str:
    return concurrent.futures.thread.__name__ + os.path.join("a", "b")


def makes_a_class() -> Any:
    class Local:
        value = number

    return Local.value


def generate(count: int) -> Iterator[int]:
    yield from range(count)


@check
def functions_call_one_another() -> None:
    assert run(factorial, 5) == 120
    assert run(is_even, 10) is True
    assert run(lambda: (lambda: is_odd(3))()) is True
    assert run(uses_a_submodule) == "concurrent.futures.threada/b"
    assert run(makes_a_class) == 1
    assert run(lambda: list(generate(3))) == [0, 1, 2]


@check
def a_function_is_as_it_was() -> None:
    assert run(with_everything, 1, 5, 6, d=7) == (1, 5, (6,), 3, {"d": 7})
    names = ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__")
    seen = run(lambda: [getattr(with_everything, name) for name in names])
    assert seen == [getattr(with_everything, name) for name in names]


@check
def closures_keep_what_they_hold() -> None:
    def count_down(n: int) -> int:
        return held if n == 0 else count_down(n - 1)

    held = 3
    assert run(count_down, 4) == 3
    held = 4
    assert run(count_down, 4) == 4

    def unbound() -> Any:
        return later

    try:
        run(unbound)
    except NameError:
        pass
    else:
        raise AssertionError("an empty cell has a value")
    later = 1
    assert run(unbound) == later


@check
def a_function_that_comes_back_is_the_programs_own() -> None:
    assert run(lambda: is_even) is is_even
    assert run(lambda: lambda x: x + number)(1) == 2


@check
def plain_functions_need_no_cloudpickle() -> None:
    assert run(lambda: "cloudpickle" in sys.modules) is False


lock = threading.Lock()
condition = threading.Condition()
local = threading.local()
stream = (n for n in range(3))


def hold(key: int) -> list[int]:
    with lock, condition:
        assert lock.locked()
        local.seen = [*getattr(local, "seen", []), key]
        return list(local.seen)


def use_stream(wanted: bool) -> Any:
    return next(stream) if wanted else "not wanted"


def set_stream() -> None:
    global stream
    stream = iter([7])  # type: ignore[assignment]


@check
def locks_among_the_globals_are_the_workers_own() -> None:
    with lock:
        assert [run(hold, key) for key in range(3)] == [[0], [0, 1], [0, 1, 2]]
    try:
        run(lambda taken: taken, lock)
    except TypeError as error:
        assert "cannot pickle" in str(error)
    else:
        raise AssertionError("a lock was passed")


@check
def a_global_that_cannot_be_sent_fails_who_uses_it() -> None:
    assert run(use_stream, False) == "not wanted"
    for function in (lambda: next(stream), lambda: len(stream), lambda: stream.close()):  # type: ignore[arg-type]
        try:
            run(function)
        except pickle.PicklingError as error:
            assert "the global 'stream' of __main__" in str(error)
            assert "cannot pickle 'generator' object" in str(error)
        else:
            raise AssertionError("a generator was sent")
    run(set_stream)
    assert run(use_stream, True) == 7


@check
def what_a_task_cannot_do_without_fails_at_once() -> None:
    try:
        run(Unsendable.look)
    except TypeError as error:
        notes = getattr(error, "__notes__", ["the global 'Unsendable'"])
        assert "the global 'Unsendable'" in notes[0], notes
    else:
        raise AssertionError("a generator was sent")


class Unsendable:
    kept = (n for n in range(3))

    @staticmethod
    def look() -> int:
        return 1


# --- Classes ---------------------------------------------------------------------------------


class Base:
    limit = 3

    def name(self) -> str:
        return shown(type(self).__name__)


class Counter(Base):
    def __init__(self, count: int) -> None:
        self.count = count

    def up(self) -> Counter:
        self.count += 1
        return self

    class Inner:
        pass


def shown(name: str) -> str:
    return name.lower()


@dataclasses.dataclass
class Point:
    x: int
    label: str = "none"


Pair = collections.namedtuple("Pair", "first second")


class Colour(enum.Enum):
    RED = 1


class Failure(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


def fail() -> None:
    raise Failure(3, "no")  # the line that the traceback shows


@check
def instances_come_back_as_of_the_programs_classes() -> None:
    counter = run(Counter.up, Counter(3))
    assert type(counter) is Counter and counter.count == 4
    assert run(Counter(1).up).count == 2
    assert run(lambda point: Point(point.x + 1), Point(1)) == Point(2)
    assert run(lambda pair: pair, Pair(1, 2)) == Pair(1, 2)
    assert run(lambda colour: colour, Colour.RED) is Colour.RED
    assert type(run(Counter.Inner)) is Counter.Inner
    assert run(lambda: Counter) is Counter


@check
def calls_are_told_without_the_definitions_that_go_along() -> None:
    assert codec.describe(codec.call(factorial, (3,))) == "factorial(3)"
    assert codec.describe(codec.call(shown, (Point(1), "text"))) == "shown(Point(...), 'text')"
    assert codec.describe(codec.call(shown, (Counter,), {"a": shown})) == "shown(Counter, a=shown)"
    assert codec.describe(codec.call(shown, (lambda: 1,))) == "shown(<lambda>)"


@check
def a_changed_class_is_seen() -> None:
    global shown
    assert run(Counter(1).name) == "counter"
    assert run(lambda: Counter(1).limit) == 3
    Base.limit = 4
    assert run(lambda: Counter(1).limit) == 4
    before, shown = shown, str.upper  # type: ignore[assignment]
    assert run(Counter(1).name) == "COUNTER"
    shown = before


@check
def an_exception_class_of_the_program_is_caught() -> None:
    try:
        run(fail)
    except Failure as error:
        assert error.code == 3
        assert "the line that the traceback shows" in str(error.__cause__)
    else:
        raise AssertionError("nothing was raised")


class Left:
    other: Any


class Right:
    other: Any = Left


Left.other = Right


@check
def classes_that_need_one_another_are_sent() -> None:
    assert run(lambda: Left.other.other is Left) is True
    assert run(lambda left: type(left).other.__name__, Left()) == "Right"


@check
def classes_that_no_name_leads_to_are_sent() -> None:
    class Local:
        value = 5

    assert run(lambda local: local.value, Local()) == 5
    assert isinstance(run(Local), Local)


class Slots:
    __slots__ = ("_Slots__private", "value")

    def __init__(self, value: int) -> None:
        self.value = value


class MoreSlots(Slots):
    __slots__ = ()


class Typed(NamedTuple):
    x: int
    y: str = "none"


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> int: ...


class Square(Shape):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    @property
    def twice(self) -> int:
        return self.side * 2

    @functools.cached_property
    def half(self) -> float:
        return self.side / 2

    @functools.lru_cache(maxsize=3)  # noqa: B019
    def area(self) -> int:
        return self.side**2


class Box(Generic[T]):
    def __init__(self, inside: T) -> None:
        self.inside = inside


class Registered(type):
    made: ClassVar[list[str]] = []

    def __new__(cls, name: str, bases: Any, body: Any) -> Any:
        return super().__new__(cls, name, bases, {**body, "registered": name})


class Member(metaclass=Registered):
    registered: str


class Flags(enum.Flag):
    A = 1
    B = 2


@check
def classes_of_all_kinds_travel_both_ways() -> None:
    def same(value: Any) -> Any:
        return value

    assert run(same, MoreSlots(3)).value == run(same, Slots(3)).value == 3
    assert run(lambda: hasattr(Slots(3), "__dict__")) is False
    assert run(same, Typed(1)) == Typed(1) and type(run(same, Typed(1))) is Typed
    assert run(lambda square: (square.twice, square.half, square.area()), Square(4)) == (8, 2, 16)
    assert type(run(same, Square(4))) is Square
    assert run(same, Box(3)).inside == 3
    assert run(lambda: Member.registered) == "Member"
    assert run(same, Flags.A | Flags.B) is Flags.A | Flags.B


# --- Decorated functions ---------------------------------------------------------------------


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return "logged", function(*args)

    return wrapper


@logged
def add_one(value: int) -> int:
    return value + 1


@functools.cache
def slow(value: int) -> int:
    return value * 2


@functools.singledispatch
def kind_of(value: object) -> str:
    return "something"


@kind_of.register
def _(value: int) -> str:
    return "a number"


@check
def decorated_functions_run() -> None:
    assert run(add_one, 3) == ("logged", 4)
    assert run(slow, 3) == 6
    assert run(lambda: (slow(3), slow.cache_info().hits)) == (6, 1)
    assert run(kind_of, 3) == "a number"
    assert run(kind_of, "text") == "something"
    assert run(functools.partial(add_one, 4)) == ("logged", 5)


@check
def a_large_global_is_sent() -> None:
    global large
    large = bytes(1_000_000)
    assert run(length_of_large) == 1_000_000
    large = bytes(2_000_000)
    assert run(length_of_large) == 2_000_000


large = b""


def length_of_large() -> int:
    return len(large)


@check
def a_name_bound_anew_is_the_new_one() -> None:
    global Point
    old, old_class = Point(1), Point

    @dataclasses.dataclass
    class Point:  # type: ignore[no-redef]
        x: int
        added: int = 9

    Point.__qualname__ = "Point"
    assert run(lambda: Point(1).added) == 9
    assert type(run(lambda: Point(1))) is Point
    assert run(lambda point: point.label, old) == "none"
    Point = old_class  # type: ignore[misc]


@check
def an_error_in_a_global_is_told_again() -> None:
    global number
    number = Unloadable()  # type: ignore[assignment]
    for _ in range(2):
        try:
            run(read)
        except Exception as error:
            assert "not here" in str(error), error
        else:
            raise AssertionError("nothing was raised")
    number = 1
    assert run(read) == (None, 1)


class Unloadable:
    def __reduce__(self) -> Any:
        return refuse, (os.getpid(),)


def refuse(pid: int) -> int:
    if os.getpid() != pid:
        raise ValueError("not here")
    return 1


def main() -> None:
    global run
    outcomes = {}
    for name, function in CHECKS.items():
        run = Worker()
        try:
            function()
            outcomes[name] = ""
        except BaseException:
            outcomes[name] = traceback.format_exc()
        finally:
            run.end()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
