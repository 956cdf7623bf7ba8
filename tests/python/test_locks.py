"""Lock and RLock: what they promise besides what the standard library's own tests hold them to."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import threading
import time
import weakref

import pytest
from programs import run
from waiting import SECONDS, outcome, wait_asleep


@pytest.fixture(params=["Lock", "RLock"])
def kind(raddle, request):
    return getattr(raddle, request.param)


def hold(start, lock):
    """Have another thread hold the lock; the thread, and the event that makes it let go."""
    held, gate = threading.Event(), start.gate()

    def holding():
        with lock:
            held.set()
            gate.wait(SECONDS)

    thread = start(holding, name="holder")
    assert held.wait(SECONDS)
    return thread, gate


# names and texts


def test_a_lock_has_the_name_that_it_was_given(kind):
    assert kind(name="accounts").name == "accounts"
    assert kind().name is None
    assert kind(name=None).name is None


def test_the_name_is_given_by_keyword_and_is_a_text(kind):
    with pytest.raises(TypeError):
        kind("accounts")
    with pytest.raises(TypeError):
        kind(name=7)
    with pytest.raises(AttributeError):
        kind(name="a").name = "b"


@pytest.mark.parametrize(
    "name", ["accounts", "", "it's", "\N{LATIN SMALL LETTER O WITH DIAERESIS}"]
)
def test_the_representation_tells_state_kind_and_name(kind, name):
    lock = kind(name=name)
    pattern = rf"<{{}} raddle\.{kind.__name__} {re.escape(repr(name))} object .*at 0x[0-9a-f]+>"
    assert re.fullmatch(pattern.format("unlocked"), repr(lock))
    with lock:
        assert re.search("^<locked ", repr(lock))
    assert re.fullmatch(pattern.format("unlocked"), repr(lock))


def test_a_lock_without_a_name_is_told_without_one(raddle, kind, start):
    lock = kind()
    pattern = rf"<unlocked raddle\.{kind.__name__} object .*at 0x[0-9a-f]+>"
    assert re.fullmatch(pattern, repr(lock))
    hold(start, lock)
    error = outcome(start(lock.release))
    assert isinstance(error, RuntimeError) and "None" not in str(error)


@pytest.mark.parametrize("name", ["it's", 'a "b"', "two\nlines", "back\\slash"])
def test_reports_quote_a_name_as_python_does(raddle, name):
    lock = raddle.Lock(name=name)
    with lock, pytest.raises(raddle.DeadlockError) as raised:
        lock.acquire()
    assert raised.value.cycle[0].waits_for == f"lock {name!r}"


def test_signatures_are_those_of_the_standard_library(kind):
    for method in ("acquire", "release"):
        assert callable(getattr(kind, method))
    lock = kind()
    assert lock.acquire(True, -1) is True
    lock.release()
    assert lock.acquire(blocking=True, timeout=5) is True
    assert lock.release() is None
    assert lock.__enter__() is True
    assert lock.__exit__(None, None, None) is None
    with pytest.raises(TypeError):
        lock.acquire(wait=True)
    with pytest.raises(TypeError):
        lock.acquire(timeout="1")


@pytest.mark.parametrize("timeout", [-2, -0.5, float("nan")])
def test_a_timeout_that_is_none_is_refused(kind, timeout):
    with pytest.raises(ValueError):
        kind().acquire(timeout=timeout)


def test_a_timeout_for_a_call_that_does_not_block_is_refused(kind):
    with pytest.raises(ValueError):
        kind().acquire(False, 1)


def test_a_timeout_beyond_the_systems_is_refused(kind):
    with pytest.raises(OverflowError):
        kind().acquire(timeout=threading.TIMEOUT_MAX * 2)


# who may release


def test_a_release_by_another_thread_is_refused_and_names_both(kind, start):
    lock = kind(name="accounts")
    _, gate = hold(start, lock)
    error = outcome(start(lock.release, name="meddler"))
    assert isinstance(error, RuntimeError)
    assert "meddler" in str(error) and "holder" in str(error) and "accounts" in str(error)
    assert lock.locked()
    gate.set()


def test_a_release_of_a_free_lock_is_refused(kind):
    lock = kind(name="accounts")
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        pass
    with pytest.raises(RuntimeError):
        lock.release()
    assert not lock.locked()


def test_a_recursive_lock_is_free_after_as_many_releases_as_it_was_taken(raddle, start):
    lock = raddle.RLock()
    for _ in range(1000):
        assert lock.acquire()
    for _ in range(999):
        lock.release()
    assert lock.locked()
    assert outcome(start(lock.acquire, False)) is False
    lock.release()
    assert not lock.locked()


def test_a_recursive_lock_gives_itself_up_whole_and_takes_itself_back(raddle):
    lock = raddle.RLock()
    with lock, lock, lock:
        state = lock._release_save()
        assert not lock.locked() and not lock._is_owned()
        lock._acquire_restore(state)
        assert lock._is_owned() and lock._recursion_count() == 3
    assert not lock.locked() and lock._recursion_count() == 0


def test_a_lock_held_elsewhere_is_not_owned_here(raddle, start):
    lock = raddle.RLock()
    _, gate = hold(start, lock)
    assert lock.locked() and not lock._is_owned()
    assert lock._recursion_count() == 0
    gate.set()


# one at a time


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("way", ["with", "acquire", "timed", "try"])
def test_only_one_thread_at_a_time_is_inside(kind, start, way):
    lock, inside, worst = kind(), [0], [0]

    def enter():
        if way == "acquire":
            return lock.acquire()
        if way == "timed":
            return lock.acquire(timeout=SECONDS)
        while not lock.acquire(False):
            time.sleep(0)
        return True

    def critical():
        inside[0] += 1
        worst[0] = max(worst[0], inside[0])
        time.sleep(0)
        inside[0] -= 1

    def work():
        for _ in range(200):
            if way == "with":
                with lock:
                    critical()
            else:
                assert enter()
                critical()
                lock.release()
        return "ended"

    threads = [start(work) for _ in range(6)]
    assert [outcome(thread) for thread in threads] == ["ended"] * 6
    assert worst == [1]
    assert lock.statistics().acquisitions == 1200


@pytest.mark.usefixtures("hurried")
def test_no_update_is_lost_under_the_lock(kind, start):
    lock, count = kind(), [0]

    def add():
        for _ in range(2000):
            with lock:
                read = count[0]
                if read % 100 == 0:
                    time.sleep(0)
                count[0] = read + 1

    for thread in [start(add) for _ in range(8)]:
        assert outcome(thread) is None
    assert count == [16000]


def test_an_exception_inside_releases_the_lock(kind):
    lock = kind()
    with pytest.raises(LookupError), lock:
        raise LookupError
    assert not lock.locked()


def test_every_waiter_gets_the_lock_once_it_is_free(kind, start):
    lock = kind()
    _, gate = hold(start, lock)

    def take():
        with lock:
            return "got it"

    waiters = [start(take) for _ in range(12)]
    for waiter in waiters:
        wait_asleep(waiter)
    gate.set()
    assert [outcome(waiter) for waiter in waiters] == ["got it"] * 12


def test_waiters_that_give_up_leave_the_lock_to_the_others(kind, start):
    lock = kind()
    _, gate = hold(start, lock)
    patient = [start(lock.acquire, True, SECONDS) for _ in range(1)]
    hasty = [start(lock.acquire, True, 0.02 * n) for n in range(1, 9)]
    assert [outcome(thread) for thread in hasty] == [False] * 8
    gate.set()
    assert outcome(patient[0]) is True


# statistics


def test_a_new_lock_has_counted_nothing(raddle, kind):
    assert kind().statistics() == raddle.LockStatistics(
        acquisitions=0,
        contended=0,
        total_wait_seconds=0.0,
        longest_wait_seconds=0.0,
        holder=None,
    )


def test_every_way_to_take_a_lock_is_counted(kind):
    lock = kind()
    for number in range(1, 41):
        if number % 4 == 0:
            with lock:
                pass
        else:
            assert lock.acquire(*[(), (True, 1.0), (False,)][number % 4 - 1])
            lock.release()
        assert lock.statistics().acquisitions == number
    assert lock.statistics().contended == 0
    assert lock.statistics().total_wait_seconds == 0.0


def test_a_recursive_lock_counts_each_time_it_is_taken(raddle):
    lock = raddle.RLock()
    with lock, lock, lock:
        assert lock.statistics().acquisitions in (1, 3)
        seen = lock.statistics().acquisitions
    assert lock.statistics().acquisitions == seen
    assert lock.statistics().contended == 0


def test_the_holder_is_told_by_name(kind, start):
    lock = kind()
    assert lock.statistics().holder is None
    with lock:
        assert lock.statistics().holder == threading.current_thread().name
    thread, gate = hold(start, lock)
    assert lock.statistics().holder == "holder"
    gate.set()
    thread.join(timeout=SECONDS)
    assert lock.statistics().holder is None


def test_a_wait_is_counted_and_measured(kind, start):
    lock = kind()
    _, gate = hold(start, lock)
    waiter = start(lock.acquire, True, SECONDS)
    wait_asleep(waiter)
    pause = 0.05
    time.sleep(pause)
    gate.set()
    assert outcome(waiter) is True
    figures = lock.statistics()
    assert (figures.acquisitions, figures.contended) == (2, 1)
    assert figures.total_wait_seconds >= pause
    assert figures.longest_wait_seconds == figures.total_wait_seconds


def test_the_longest_wait_is_no_more_than_the_total(kind, start):
    lock, barrier = kind(), threading.Barrier(4)

    def work():
        barrier.wait(SECONDS)
        for _ in range(50):
            with lock:
                time.sleep(0.0001)

    for thread in [start(work) for _ in range(4)]:
        assert outcome(thread) is None
    figures = lock.statistics()
    assert figures.acquisitions == 200
    assert 0 < figures.contended <= 200
    assert 0 < figures.longest_wait_seconds <= figures.total_wait_seconds
    assert figures.total_wait_seconds <= figures.longest_wait_seconds * figures.contended * 1.0001


def test_statistics_are_a_picture_that_does_not_change(kind):
    lock = kind()
    before = lock.statistics()
    with lock:
        pass
    assert before.acquisitions == 0
    with pytest.raises(AttributeError):
        before.acquisitions = 5


# objects


def test_a_lock_cannot_be_copied_or_pickled(kind):
    lock = kind()
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(lock)


def test_a_lock_is_true_hashable_and_equal_to_itself_alone(kind):
    lock, other = kind(), kind()
    assert lock and lock == lock and lock != other
    assert len({lock, other, lock}) == 2


def test_a_held_lock_goes_when_nobody_refers_to_it(kind, no_collector):
    lock = kind(name="x" * 1000)
    lock.acquire()
    gone = weakref.ref(lock)
    del lock
    assert gone() is None


def test_a_lock_keeps_nobody_alive_who_took_it(kind, no_collector):
    lock = kind()

    class Owner(threading.Thread):
        def run(self):
            with lock:
                pass

    owner = Owner()
    gone = weakref.ref(owner)
    owner.start()
    owner.join()
    del owner
    assert gone() is None
    assert lock.statistics().acquisitions == 1


def test_an_error_keeps_neither_locks_nor_threads_alive(raddle, kind, start, no_collector):
    lock = kind()
    start(lock.acquire).join(timeout=SECONDS)
    with pytest.raises(raddle.DeadlockError) as raised:
        lock.acquire()
    error, gone = raised.value, weakref.ref(lock)
    error.__traceback__ = None
    del lock, raised
    gc.collect()
    assert error.cycle
    assert gone() is None


def test_many_locks_made_used_and_dropped_leave_no_memory_behind():
    source = """
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        def use(count):
            for number in range(count):
                lock = futures.Lock(name=f"lock {number}")
                with lock:
                    pass
                again = futures.RLock()
                with again, again, lock:
                    pass
        def use_in_threads(count):
            for _ in range(count):
                threads = [threading.Thread(target=use, args=(50,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        use(50_000); use_in_threads(50)
        before = resident()
        use(200_000); use_in_threads(200)
        grown = resident() - before
        say("grown by less than 4 MB:", grown < 4_000_000 or grown)
        """
    assert run("raddle", source) == (0, ["grown by less than 4 MB: True"], [])


def test_deadlocks_leave_no_memory_behind():
    source = """
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        def work(count):
            for _ in range(count):
                lock = futures.Lock(name="own")
                with lock:
                    try:
                        lock.acquire()
                    except futures.DeadlockError:
                        pass
                    else:
                        raise AssertionError("not told")
        work(5_000)
        before = resident()
        work(50_000)
        grown = resident() - before
        say("grown by less than 4 MB:", grown < 4_000_000 or grown)
        """
    assert run("raddle", source) == (0, ["grown by less than 4 MB: True"], [])


def test_attributes_of_other_kinds_are_not_there(raddle):
    assert not hasattr(raddle.Lock(), "_release_save"), "a condition would take it for recursive"
    for name in ("_is_owned", "_release_save", "_acquire_restore", "_recursion_count"):
        assert hasattr(raddle.RLock(), name)
