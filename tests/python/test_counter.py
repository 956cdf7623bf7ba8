"""Counter: exact from any number of threads, and within 64 bits."""

from __future__ import annotations

import copy
import pickle
import threading
import weakref

import pytest
from waiting import SECONDS, outcome

LARGEST = 2**63 - 1


def test_a_new_counter_has_the_value_that_it_was_given(raddle):
    assert raddle.Counter().value == 0
    assert raddle.Counter(7).value == 7
    assert raddle.Counter(value=-7).value == -7


def test_add_gives_the_new_value(raddle):
    counter = raddle.Counter(10)
    assert counter.add() == 11
    assert counter.add(5) == 16
    assert counter.add(n=-20) == -4
    assert counter.add(0) == -4
    assert counter.value == -4


def test_int_and_the_representation_tell_the_value(raddle):
    counter = raddle.Counter(41)
    counter.add()
    assert int(counter) == 42
    assert "42" in repr(counter) and "Counter" in repr(counter)


def test_the_value_is_read_only(raddle):
    counter = raddle.Counter()
    with pytest.raises(AttributeError):
        counter.value = 1


@pytest.mark.parametrize("wrong", [1.0, "1", None, 1j, [1]])
def test_what_is_no_integer_is_refused_and_changes_nothing(raddle, wrong):
    counter = raddle.Counter(3)
    with pytest.raises(TypeError):
        counter.add(wrong)
    with pytest.raises(TypeError):
        raddle.Counter(wrong)
    assert counter.value == 3


def test_what_stands_for_an_integer_is_taken(raddle):
    class Three:
        def __index__(self):
            return 3

    assert raddle.Counter(Three()).add(Three()) == 6
    assert raddle.Counter().add(True) == 1


def test_an_index_that_raises_is_handed_on(raddle):
    class Broken:
        def __index__(self):
            raise LookupError

    counter = raddle.Counter()
    with pytest.raises(LookupError):
        counter.add(Broken())
    assert counter.value == 0


@pytest.mark.parametrize(
    ("start", "step"),
    [(LARGEST, 1), (-LARGEST - 1, -1), (1, LARGEST), (-2, -LARGEST), (LARGEST, LARGEST)],
)
def test_a_sum_beyond_64_bits_is_refused_and_changes_nothing(raddle, start, step):
    counter = raddle.Counter(start)
    with pytest.raises(OverflowError):
        counter.add(step)
    assert counter.value == start
    assert counter.add(0) == start


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**100, -(2**100)])
def test_a_number_beyond_64_bits_is_refused(raddle, number):
    with pytest.raises(OverflowError):
        raddle.Counter(number)
    counter = raddle.Counter(5)
    with pytest.raises(OverflowError):
        counter.add(number)
    assert counter.value == 5


def test_the_whole_range_can_be_used(raddle):
    counter = raddle.Counter(-LARGEST - 1)
    assert counter.add(LARGEST) == -1
    assert counter.add(LARGEST) == LARGEST - 1
    assert counter.add(1) == LARGEST
    assert counter.add(-LARGEST) == 0


@pytest.mark.stress
@pytest.mark.usefixtures("hurried")
def test_no_update_is_lost_and_no_value_is_given_twice(raddle, start):
    counter, barrier = raddle.Counter(), threading.Barrier(16)

    def add():
        barrier.wait(SECONDS)
        return [counter.add() for _ in range(10_000)]

    given = [outcome(thread) for thread in [start(add) for _ in range(16)]]
    assert counter.value == 160_000
    assert sorted(value for values in given for value in values) == list(range(1, 160_001))
    assert all(values == sorted(values) for values in given)


@pytest.mark.usefixtures("hurried")
def test_additions_at_the_limit_are_all_or_nothing(raddle, start):
    counter, barrier = raddle.Counter(LARGEST - 1000), threading.Barrier(8)

    def add():
        barrier.wait(SECONDS)
        refused = 0
        for _ in range(500):
            try:
                counter.add(3)
            except OverflowError:
                refused += 1
        return refused

    refused = sum(outcome(thread) for thread in [start(add) for _ in range(8)])
    assert counter.value == LARGEST - 1000 + 3 * (8 * 500 - refused)
    assert counter.value > LARGEST - 3


def test_a_counter_has_no_truth_of_its_number_by_accident(raddle):
    # It is no number: only int() makes it one.
    with pytest.raises(TypeError):
        raddle.Counter(1) + 1
    assert raddle.Counter(1) != 1


def test_a_counter_cannot_be_copied_or_pickled(raddle):
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(raddle.Counter())


def test_a_counter_goes_when_nobody_refers_to_it(raddle, no_collector):
    counter = raddle.Counter()
    gone = weakref.ref(counter)
    del counter
    assert gone() is None
