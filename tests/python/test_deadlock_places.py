"""DeadlockError: where a lock was taken that its holder has taken more than once."""

from __future__ import annotations

import threading

import pytest
from waiting import SECONDS, outcome, place


def take_at_first(lock, then):
    lock.acquire()  # first
    try:
        return then()
    finally:
        lock.release()


def take_by_with(lock, then):
    with lock:  # first
        return then()


def take_for_a_moment(lock):
    """Take a lock once more, each way that there is."""
    lock.acquire()
    assert lock.acquire(blocking=False)
    assert lock.acquire(timeout=1)
    with lock:
        pass
    for _ in range(3):
        lock.release()


def take_to_keep(lock):
    lock.acquire()


@pytest.fixture
def told_place(raddle, start):
    """The place that is told for a lock when ``hold(lock, then)`` calls ``then``."""

    def find(hold):
        lock, other, holds = raddle.RLock(name="lock"), raddle.Lock(name="other"), start.gate()
        wanted = start.gate()

        def then():
            holds.set()
            assert wanted.wait(SECONDS)
            # Whoever comes second closes the circle and is told.
            with other:
                return "went on"

        def want():
            with other:
                assert holds.wait(SECONDS)
                wanted.set()
                with lock:
                    return "went on"

        threads = [start(hold, lock, then), start(want)]
        (error,) = [e for e in map(outcome, threads) if isinstance(e, raddle.DeadlockError)]
        (told,) = [link.taken_at for link in error.cycle if link.waits_for == "lock 'lock'"]
        return told

    return find


@pytest.mark.parametrize("hold", [take_at_first, take_by_with], ids=lambda hold: hold.__name__)
def test_an_rlock_taken_and_released_again_was_taken_at_first(told_place, hold):
    def again(lock, then):
        return hold(lock, lambda: (take_for_a_moment(lock), then())[1])

    assert told_place(again) == place(hold, "first")


@pytest.mark.parametrize("hold", [take_at_first, take_by_with], ids=lambda hold: hold.__name__)
def test_an_rlock_held_more_than_once_was_taken_at_first(told_place, hold):
    def deeper(lock, then):
        try:
            return hold(lock, lambda: (take_to_keep(lock), then())[1])
        finally:
            lock.release()

    assert told_place(deeper) == place(hold, "first")


def test_an_rlock_released_in_another_order_than_taken_was_taken_at_first(told_place):
    """It is the outermost of the acquisitions that counts, whichever release belongs to it."""

    def cross(lock, then):
        lock.acquire()  # outermost
        take_to_keep(lock)
        lock.release()
        try:
            return then()
        finally:
            lock.release()

    assert told_place(cross) == place(cross, "outermost")


def test_an_rlock_released_and_taken_anew_was_taken_at_the_new_place(told_place):
    def anew(lock, then):
        take_at_first(lock, lambda: take_for_a_moment(lock))
        with lock:  # anew
            take_for_a_moment(lock)
            return then()

    assert told_place(anew) == place(anew, "anew")


def test_an_rlock_that_was_waited_for_was_taken_where_the_wait_was(raddle, start, told_place):
    def after_a_wait(lock, then):
        gate, held = start.gate(), threading.Event()

        def hold():
            with lock:
                held.set()
                assert gate.wait(SECONDS)

        other = start(hold)
        assert held.wait(SECONDS)
        assert not lock.acquire(timeout=0.01)
        gate.set()
        with lock:  # waited
            take_for_a_moment(lock)
            outcome(other)
            return then()

    assert told_place(after_a_wait) == place(after_a_wait, "waited")
