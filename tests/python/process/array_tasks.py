"""What the tests of arrays that a task makes in the arena submit."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy

#: Values of arrays that surely lie in the arena: 2 MB.
COUNT = 1 << 18

KEPT: list[Any] = []


def lies_in_the_arena(values: Any) -> bool:
    """Whether an array's memory is the arena's own, shared with the program."""
    address = values.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, *_, file = line.split(maxsplit=5)
        start, end = (int(each, 16) for each in place.split("-"))
        if start <= address < end:
            return "raddle-arena" in file and rights.endswith("s")
    return False


def where_they_lie(count: int) -> list[bool]:
    """Make arrays in many ways."""
    base = numpy.full(count, 1.0)
    made = [base, numpy.empty(count), numpy.zeros(count), base * 2, numpy.concatenate([base, base])]
    made += [numpy.arange(count), base.astype("f4").repeat(4), base.reshape(2, -1).copy("F")]
    return [lies_in_the_arena(each) for each in made]


def arange(count: int) -> Any:
    return numpy.arange(count, dtype=float)


def arange_in_a_context(count: int) -> Any:
    import contextvars

    return contextvars.copy_context().run(arange, count)


def mapped_when_returned(count: int) -> tuple[Any, bool]:
    values = arange(count)
    return values, lies_in_the_arena(values)


def in_a_thread(count: int) -> Any:
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(arange(count)))
    thread.start()
    thread.join()
    return made[0], lies_in_the_arena(made[0])


def same_memory_thrice(count: int) -> list[Any]:
    values = arange(count)
    return [values, values[:], values[: count // 2 + 1]]


def a_small_part(count: int) -> Any:
    return arange(count)[10 : count // 4]


def many_steps(steps: int) -> Any:
    """Make and drop many arrays, one of which is left."""
    values = numpy.ones(COUNT)
    for _ in range(steps):
        values = values + 1
    return values


def longer_and_longer(count: int) -> Any:
    values = arange(count)
    for times in (2, 3, 9):
        values.resize(times * count, refcheck=False)
    values.resize(5 * count, refcheck=False)
    return values


def short_after_long(count: int) -> Any:
    """Return an array for which there was much room."""
    long = numpy.ones(5 * count)
    del long
    return numpy.ones(count)


def cut(count: int) -> Any:
    """Return an array that was longer."""
    values = numpy.ones(9 * count)
    values.resize(count, refcheck=False)
    return values


class Scrubbed:
    """An object that arrives as its array, and writes into that at its own end."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __reduce__(self) -> Any:
        return numpy.asarray, (self.values,)

    def __del__(self) -> None:
        self.values[...] = -7.0


class ScrubbedArray(numpy.ndarray):
    def __del__(self) -> None:
        self.view(numpy.ndarray)[...] = -7.0


def scrubbed(count: int) -> Any:
    return Scrubbed(arange(count))


def view_of_scrubbed(count: int) -> Any:
    owner = ScrubbedArray(count)
    owner[...] = arange(count)
    return owner.view(numpy.ndarray)


def hold_at(gate: Any, count: int) -> tuple[Any, bool]:
    values = arange(count)
    gate()
    return values, lies_in_the_arena(values)


def make_and_announce(gate: Any, count: int) -> float:
    """Make an array, and then say so."""
    values = arange(count)
    gate.announce()
    return float(values.sum())


def zeros_after_others(count: int) -> Any:
    for _ in range(3):
        others = numpy.full(count, 7.0)
        del others
    return numpy.zeros(count)


def keep(count: int) -> Any:
    KEPT.append(arange(count))
    return KEPT[-1]


def keep_alone(count: int) -> int:
    KEPT.append(arange(count))
    return count


def write_kept(number: float) -> None:
    for each in KEPT:
        each[...] = number


def give_kept(_value: Any = None) -> Any:
    return KEPT[-1]


def forget(_value: Any = None) -> None:
    KEPT.clear()


def hold_and_die(count: int) -> None:
    values = arange(count)
    assert len(values) == count
    os.kill(os.getpid(), signal.SIGKILL)


def raise_with(count: int) -> None:
    values = arange(count)
    raise ValueError(f"it has {len(values)}")


def write_in_a_child(count: int) -> tuple[Any, float]:
    """Fork a child that writes into what this process has made: what each sees is its own."""
    values = arange(count)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        values[...] = -1.0
        more = arange(count)
        os.write(into, str(values.sum() + more.sum()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    values[0] = 5.0
    return values, float(os.read(out, 100))


def leave_a_child(count: int, gate_in: int, gate_out: int, dies: bool) -> float:
    """Have a child look at an array of this task when it is told to."""
    values = numpy.ones(count)
    if os.fork() == 0:
        os.read(gate_in, 1)
        os.write(gate_out, str(float(values.sum())).encode())
        os._exit(0)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(values.sum())


def hold(megabytes: int) -> int:
    """Hold so much of the arena, until it is too much."""
    held = [numpy.full(1 << 17, 1.0) for _ in range(megabytes)]
    if all(map(lies_in_the_arena, held)):
        threading.Event().wait(60)
    return len(held)


def grow(megabytes: int) -> list[int]:
    """Hold little at a time, though more and more."""
    return [numpy.full(number << 17, 1.0).size >> 17 for number in range(1, megabytes + 1)]
