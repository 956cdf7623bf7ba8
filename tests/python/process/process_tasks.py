"""What the tests of processes submit: functions and objects that workers can import."""

from __future__ import annotations

import contextvars
import ctypes
import os
import pickle
import random
import signal
import sys
import threading
from typing import Any

#: Of a pool that passes it on.
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")


# plain tasks


def square(number: int) -> int:
    return number * number


def identity(value: Any) -> Any:
    return value


def capture(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def length(data: Any) -> int:
    return len(data)


def double(data: Any) -> Any:
    return data + data


def pid_of(_value: Any = None) -> int:
    return os.getpid()


def pid_and(value: Any) -> tuple[int, Any]:
    return os.getpid(), value


def append_line(path: str, line: str) -> str:
    """Leave a trace that a task has run: one line, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)
    return line


def raise_error(error: BaseException) -> None:
    raise error  # the line that a traceback shows


def raise_from(path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise ValueError("no settings") from error


def read_all(path: str) -> str:
    with open(path) as file:
        return file.read()


def big(size: int, fill: int = 7) -> bytes:
    return bytes([fill]) * size


# ends of a worker


def end_by_signal(number: int = signal.SIGKILL, *_more: Any) -> None:
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    threading.Event().wait()


def end_by_exit(code: int = 3, *_more: Any) -> None:
    os._exit(code)


def end_by_fault(*_more: Any) -> None:
    ctypes.string_at(0)


def end_once(path: str, value: Any = None) -> Any:
    """End the worker the first time, and give *value* from then on."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return value
    os.kill(os.getpid(), signal.SIGKILL)


# what fails where: the matrix


def do(what: str) -> Any:
    """Fail in one of three ways."""
    if what == "error":
        raise ValueError("it fails on purpose")
    if what == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(5)


class AtPickle:
    """Fails when it is pickled."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return do(self.what)


class AtUnpickle:
    """Fails when it is unpickled, wherever that is."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return do, (self.what,)


def make(kind: type, *args: Any) -> Any:
    return kind(*args)


# exceptions that cannot be rebuilt


class NeedsTwo(Exception):
    """Pickled with its one argument, it cannot be made again (cpython#103061, #79492)."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")


class ExitsWhenRebuilt(Exception):
    def __reduce__(self) -> Any:
        return do, ("exit",)


class HoldsALock(Exception):
    """Cannot be pickled at all."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class RefusesPickle(Exception):
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not me")


def raise_needs_two() -> None:
    raise NeedsTwo("door", "it is locked")


def raise_exits_when_rebuilt() -> None:
    raise ExitsWhenRebuilt("the message")


def raise_holds_a_lock() -> None:
    raise HoldsALock("the message")


def raise_refuses_pickle() -> None:
    raise RefusesPickle("the message")


def raise_local() -> None:
    class Local(Exception):
        pass

    raise Local("the message")


# state


class Account:
    """An object whose method is submitted: what its state was, the task sees."""

    def __init__(self, balance: int) -> None:
        self.balance = balance

    def read(self, *_values: Any) -> int:
        return self.balance


MARK: list[Any] = []


def set_mark(value: Any) -> None:
    MARK[:] = [value]


def read_mark(_value: Any = None) -> Any:
    return MARK[0] if MARK else None


def has_mark() -> bool:
    return bool(MARK)


def fail_in_set_up(*_args: Any) -> None:
    raise RuntimeError("no licence for this worker")


class Tied:
    """Says when it goes: writes to a named pipe that the test reads."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __del__(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        os.close(descriptor)


def use(*_args: Any) -> None:
    return None


def fail_with(*_args: Any) -> None:
    raise ValueError("with arguments at hand")


def announce_and_hang(number: int) -> None:
    os.write(1, f"task {number}\n".encode())
    while True:
        signal.pause()


def scribble(seed: int) -> str:
    """Write rubbish over all memory that this worker shares with others."""
    chance, areas = random.Random(seed), 0
    with open("/proc/self/maps") as file:
        for line in file:
            span, mode, *_rest = line.split()
            if mode.startswith("rw") and mode.endswith("s") and "memfd" in line:
                start, end = (int(word, 16) for word in span.split("-"))
                size = end - start
                areas += 1
                for _ in range(20_000):
                    place = start + chance.randrange(size // 8) * 8
                    ctypes.c_uint64.from_address(place).value = chance.getrandbits(64)
                for place in range(start, min(end, start + 65_536), 8):
                    ctypes.c_uint64.from_address(place).value = chance.getrandbits(64)
    assert areas, "there was something to write over"
    return "scribbled"


def hang_at_three(number: int) -> int:
    if number == 3:
        signal.pause()
    return number


def hang_once(path: str, value: Any) -> Any:
    """Never end the first time, and give *value* from then on."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return value
    signal.pause()
