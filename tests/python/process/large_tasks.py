"""What the tests of large data submit."""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import Any

import numpy

#: Bytes that surely lie apart, and few enough that a test is quick.
LARGE = 1 << 20

KEPT: list[Any] = []


@dataclasses.dataclass
class Labelled:
    label: str
    values: Any


def identity(value: Any) -> Any:
    return value


def double(values: Any) -> Any:
    return values * 2


def ones(count: int) -> Any:
    return numpy.ones(count)


def total(values: Any) -> float:
    return float(values.sum())


def fill(values: Any, number: float) -> float:
    """Write into the argument."""
    values[...] = number
    return float(values.sum())


def keep(values: Any) -> float:
    """Keep a view of a part of the argument."""
    KEPT.append(values[: len(values) // 2])
    return float(values.sum())


def kept_sums(_value: Any = None) -> list[float]:
    return [float(values.sum()) for values in KEPT]


def forget(_value: Any = None) -> None:
    KEPT.clear()


def make(number: int, count: int = LARGE // 8) -> Any:
    return numpy.full(count, float(number))


def make_and_keep(number: int) -> Any:
    """Return an array that the worker goes on to use."""
    KEPT.append(make(number))
    return KEPT[-1]


def change_kept(_value: Any = None) -> None:
    for values in KEPT:
        values[...] = -1.0


def die(values: Any) -> None:
    """End after the argument has been read, at once."""
    assert values is not None
    os.kill(os.getpid(), signal.SIGKILL)


def make_and_die(number: int) -> Any:
    """Return what ends the worker when it is pickled, after a large part of it has been taken."""
    return [make(number), Deadly()]


class Deadly:
    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class FailsAfterAnArray:
    """What cannot be pickled after a large part of it has been taken."""

    def __init__(self) -> None:
        self.values = make(1)

    def __reduce__(self) -> Any:
        return (list, ((self.values, Unpicklable()),))


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ValueError("it is not to be pickled")


def make_unpicklable(_value: Any = None) -> Any:
    return FailsAfterAnArray()


def sum_after_fork(values: Any, gate_in: int, gate_out: int) -> float:
    """Have a child look at the argument when it is told to; what it sees goes to the pipe."""
    child = os.fork()
    if child == 0:
        os.read(gate_in, 1)
        os.write(gate_out, str(float(values.sum())).encode())
        os._exit(0)
    return float(values.sum())


def wait_for_a_child(values: Any) -> float:
    """Fork a child, and wait for its end."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return float(values.sum())


def die_before_a_child(values: Any, gate_in: int, gate_out: int) -> None:
    """Leave a child behind that looks at the argument when it is told to."""
    child = os.fork()
    if child == 0:
        os.read(gate_in, 1)
        os.write(gate_out, str(float(values.sum())).encode())
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
