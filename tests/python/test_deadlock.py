"""DeadlockError: threads that wait for each other without timeouts, case by case."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import dataclasses
import pickle
import threading
import time

import pytest
from waiting import SECONDS, outcome, place, wait_asleep


@pytest.fixture(params=["Lock", "RLock"])
def kind(raddle, request):
    return getattr(raddle, request.param)


def cross(one, other, both):
    with one:
        both.wait(SECONDS)
        with other:
            return "went on"


def cross_alone(lock):
    with lock:
        return "went on"


def told(raddle, outcomes):
    """The one DeadlockError among the outcomes; all others went on."""
    errors = [given for given in outcomes if isinstance(given, raddle.DeadlockError)]
    assert len(errors) == 1, outcomes
    others = [given for given in outcomes if given not in errors]
    assert others == ["went on"] * len(others)
    return errors[0]


# locks


def test_two_locks_in_opposite_orders_are_reported_to_one_thread_and_the_other_goes_on(
    raddle, kind, start
):
    a, b, both = kind(name="a"), kind(name="b"), threading.Barrier(2)
    threads = [start(cross, a, b, both, name="ab"), start(cross, b, a, both, name="ba")]
    error = told(raddle, map(outcome, threads))
    first, second = error.cycle
    assert {first.thread, second.thread} == {"ab", "ba"}
    assert first.held_by == (second.thread,) and second.held_by == (first.thread,)
    assert first.waits_for == ("lock 'b'" if first.thread == "ab" else "lock 'a'")
    assert not a.locked() and not b.locked()


def test_the_report_says_who_waits_for_what_where_and_where_it_was_taken(raddle, start):
    a, b, both = raddle.Lock(name="accounts"), raddle.Lock(name="log"), threading.Barrier(2)

    def transfer():
        with a:  # took accounts
            both.wait(SECONDS)
            b.acquire()  # waits for log
            b.release()
        return "went on"

    def report():
        b.acquire()  # took log
        try:
            both.wait(SECONDS)
            with a:  # waits for accounts
                return "went on"
        finally:
            b.release()

    threads = [start(transfer, name="payer"), start(report, name="clerk")]
    error = told(raddle, map(outcome, threads))
    links = {link.thread: link for link in error.cycle}
    payer, clerk = (
        raddle.DeadlockLink(
            thread="payer",
            ident=threads[0].ident,
            waits_for="lock 'log'",
            waits_at=place(transfer, "waits for log"),
            held_by=("clerk",),
            taken_at=place(report, "took log"),
        ),
        raddle.DeadlockLink(
            thread="clerk",
            ident=threads[1].ident,
            waits_for="lock 'accounts'",
            waits_at=place(report, "waits for accounts"),
            held_by=("payer",),
            taken_at=place(transfer, "took accounts"),
        ),
    )
    assert links == {"payer": payer, "clerk": clerk}
    text = str(error)
    for link in (payer, clerk):
        for part in (link.thread, link.waits_for, link.waits_at, link.taken_at):
            assert part in text, text


def test_the_links_are_frozen_and_the_first_is_the_raising_threads(raddle):
    lock = raddle.Lock(name="own")
    with lock:
        with pytest.raises(raddle.DeadlockError) as raised:
            lock.acquire()
    (link,) = raised.value.cycle
    assert link.ident == threading.get_ident()
    assert link.thread == threading.current_thread().name
    with pytest.raises(dataclasses.FrozenInstanceError):
        link.thread = "another"


def test_the_error_has_its_standard_parent_and_can_be_pickled(raddle):
    assert issubclass(raddle.DeadlockError, raddle.RaddleError)
    assert issubclass(raddle.DeadlockError, RuntimeError)
    lock = raddle.Lock(name="own")
    with lock, pytest.raises(raddle.DeadlockError) as raised:
        lock.acquire()
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), str(again), again.cycle) == (
        raddle.DeadlockError,
        str(raised.value),
        raised.value.cycle,
    )


@pytest.mark.parametrize("count", [3, 5, 16])
def test_a_ring_of_threads_is_named_as_a_whole(raddle, kind, start, count):
    locks = [kind(name=f"lock {number}") for number in range(count)]
    both = threading.Barrier(count)
    threads = [
        start(cross, locks[n], locks[(n + 1) % count], both, name=f"thread {n}")
        for n in range(count)
    ]
    error = told(raddle, map(outcome, threads))
    assert len(error.cycle) == count
    numbers = [int(link.thread.split()[1]) for link in error.cycle]
    assert [(number + 1) % count for number in numbers] == [*numbers[1:], numbers[0]]
    assert [link.waits_for for link in error.cycle] == [
        f"lock 'lock {(number + 1) % count}'" for number in numbers
    ]


def take_again(lock):
    with lock:  # taken
        lock.acquire()  # again


def test_a_lock_taken_again_by_its_own_thread_raises(raddle, start):
    lock = raddle.Lock(name="own")
    thread = start(take_again, lock, name="twice")
    error = outcome(thread)
    assert error.cycle == (
        raddle.DeadlockLink(
            thread="twice",
            ident=thread.ident,
            waits_for="lock 'own'",
            waits_at=place(take_again, "again"),
            held_by=("twice",),
            taken_at=place(take_again, "taken"),
        ),
    )
    assert not lock.locked()


def test_a_with_statement_of_a_held_lock_raises_and_leaves_the_lock_held(raddle):
    lock = raddle.Lock()
    with lock:
        with pytest.raises(raddle.DeadlockError):
            with lock:
                raise AssertionError("entered")
        assert lock.locked()
    assert not lock.locked()


def test_a_timed_or_trying_acquire_of_a_held_lock_gives_up(raddle):
    lock = raddle.Lock()
    with lock:
        assert lock.acquire(timeout=0.01) is False
        assert lock.acquire(timeout=0) is False
        assert lock.acquire(blocking=False) is False
        assert lock.locked()


def test_a_thread_that_only_waits_for_the_cycle_is_told_nothing(raddle, start):
    a, b, both = raddle.Lock(), raddle.Lock(), threading.Barrier(3)

    def ask_for_a():
        both.wait(SECONDS)
        with a:
            return "went on"

    threads = [start(cross, a, b, both), start(cross, b, a, both)]
    threads.append(start(ask_for_a))
    error = told(raddle, map(outcome, threads))
    assert len(error.cycle) == 2


def test_threads_of_any_kind_are_named(raddle, start):
    a, b, both = raddle.Lock(), raddle.Lock(), threading.Barrier(2)
    outcomes, ended = [], threading.Semaphore(0)

    def bare():
        try:
            outcomes.append(cross(a, b, both))
        except raddle.DeadlockError as error:
            outcomes.append(error)
        ended.release()

    ident = _thread.start_new_thread(bare, ())

    def other():
        try:
            outcomes.append(cross(b, a, both))
        except raddle.DeadlockError as error:
            outcomes.append(error)
        ended.release()

    plain = start(other, kind=threading.Thread, name="plain")
    assert ended.acquire(timeout=SECONDS) and ended.acquire(timeout=SECONDS)
    error = told(raddle, outcomes)
    assert {link.ident for link in error.cycle} == {ident, plain.ident}
    assert "plain" in {link.thread for link in error.cycle}
    assert all(link.thread for link in error.cycle)


def test_a_thread_that_was_told_may_try_again(raddle, start):
    a, b, both = raddle.Lock(), raddle.Lock(), threading.Barrier(2)
    reports = []

    def take(one, other):
        first = True
        while True:
            try:
                with one:
                    if first:
                        first = False
                        both.wait(SECONDS)
                    with other:
                        return "went on"
            except raddle.DeadlockError as error:
                reports.append(error)

    threads = [start(take, a, b), start(take, b, a)]
    assert [outcome(thread) for thread in threads] == ["went on"] * 2
    assert reports


def test_a_hundred_deadlocks_leave_nothing_behind(raddle, start):
    a, b = raddle.Lock(), raddle.RLock()
    for _ in range(100):
        both = threading.Barrier(2)
        told(raddle, [outcome(t) for t in (start(cross, a, b, both), start(cross, b, a, both))])
    assert not a.locked() and not b.locked()
    assert a.statistics().holder is None


# joins and results


@pytest.mark.parametrize("way", ["join", "result"])
def test_waiting_for_a_thread_that_waits_for_my_lock_is_reported(raddle, start, way):
    lock, begun = raddle.Lock(name="mine"), threading.Event()

    def want():
        begun.set()
        with lock:
            return "went on"

    outcomes = []
    with lock:
        thread = start(want, name="wanting")
        assert begun.wait(SECONDS)
        try:
            getattr(thread, way)()
        except raddle.DeadlockError as error:
            outcomes.append(error)
    # Whichever of the two waited last was told; result() also hands on the thread's own error.
    assert isinstance(outcome(thread), raddle.DeadlockError) or outcome(thread) == "went on"
    if isinstance(outcome(thread), raddle.DeadlockError) and way == "join":
        outcomes.append(outcome(thread))
    (error,) = outcomes
    links = {link.thread: link for link in error.cycle}
    assert set(links) == {"wanting", threading.current_thread().name}
    assert links["wanting"].waits_for == "lock 'mine'"
    waits = links[threading.current_thread().name]
    assert (waits.waits_for, waits.taken_at) == ("the end of thread 'wanting'", None)
    assert waits.held_by == ("wanting",)


def test_threads_that_join_each_other_are_reported(raddle, start):
    both, threads = threading.Barrier(2), []

    def join(other):
        both.wait(SECONDS)
        threads[other].join()
        return "went on"

    made = threading.Event()

    def begin(other):
        assert made.wait(SECONDS)
        return join(other)

    threads += [start(begin, 1, name="left"), start(begin, 0, name="right")]
    made.set()
    error = told(raddle, map(outcome, threads))
    assert {link.waits_for for link in error.cycle} == {
        "the end of thread 'left'",
        "the end of thread 'right'",
    }


def test_the_main_thread_is_told_of_its_own_part(raddle, start):
    lock, gate = raddle.Lock(), threading.Event()
    main = threading.current_thread()

    def want():
        gate.set()
        with lock:
            return "went on"

    with lock:
        thread = start(want)
        assert gate.wait(SECONDS)
        wait_asleep(thread)
        with pytest.raises(raddle.DeadlockError) as raised:
            thread.join()
    assert outcome(thread) == "went on"
    assert raised.value.cycle[0].thread == main.name
    assert raised.value.cycle[0].waits_at.startswith(f"{__file__}:")


# no false alarm


def test_a_cycle_through_a_timed_wait_is_not_reported(raddle, kind, start):
    a, b, both = kind(), kind(), threading.Barrier(2)

    def give_up():
        with b:
            both.wait(SECONDS)
            return a.acquire(timeout=0.3)

    threads = [start(cross, a, b, both), start(give_up)]
    assert [outcome(thread) for thread in threads] == ["went on", False]


@pytest.mark.parametrize("way", ["join", "result"])
def test_a_timed_wait_for_a_thread_is_not_reported(raddle, start, way):
    lock = raddle.Lock()
    with lock:
        thread = start(cross_alone, lock)
        wait_asleep(thread)
        if way == "join":
            thread.join(timeout=0.1)
        else:
            with pytest.raises(raddle.TimeoutError):
                thread.result(timeout=0.1)
        assert thread.is_alive()
    assert outcome(thread) == "went on"


def test_a_cycle_through_a_standard_lock_is_not_reported(raddle, start):
    ours, theirs, both = raddle.Lock(), threading.Lock(), threading.Barrier(2)

    def hold_theirs():
        theirs.acquire()
        both.wait(SECONDS)
        with ours:
            return "went on"

    threads = [start(cross, ours, theirs, both), start(hold_theirs)]
    for thread in threads:
        wait_asleep(thread)
    theirs.release()
    assert [outcome(thread) for thread in threads] == ["went on"] * 2


def test_a_cycle_through_a_standard_future_is_not_reported(raddle, start):
    lock, future, held = raddle.Lock(), concurrent.futures.Future(), threading.Event()

    def wait_for_future():
        with lock:
            held.set()
            return future.result()

    def fulfil():
        assert held.wait(SECONDS)
        with lock:
            return "went on"

    threads = [start(wait_for_future), start(fulfil)]
    for thread in threads:
        wait_asleep(thread)
    future.set_result("went on")
    assert [outcome(thread) for thread in threads] == ["went on"] * 2


def test_a_lock_that_is_held_for_long_is_no_deadlock(raddle, start):
    lock, gate, held = raddle.Lock(), start.gate(), threading.Event()

    def hold():
        with lock:
            held.set()
            return gate.wait(SECONDS)

    holder = start(hold)
    assert held.wait(SECONDS)
    waiters = [start(cross_alone, lock) for _ in range(4)]
    for waiter in waiters:
        wait_asleep(waiter)
        waiter.join(timeout=0.01)
        assert waiter.is_alive()
    gate.set()
    assert outcome(holder) is True
    assert [outcome(waiter) for waiter in waiters] == ["went on"] * 4


def test_a_condition_over_our_lock_does_not_hold_it_while_it_waits(raddle, kind, start):
    condition, items, taken = threading.Condition(kind()), [], []

    def consume():
        for _ in range(50):
            with condition:
                condition.wait_for(lambda: items)
                taken.append(items.pop())
                condition.notify_all()
        return "went on"

    def produce():
        for number in range(50):
            with condition:
                condition.wait_for(lambda: len(items) < 2)
                items.append(number)
                condition.notify_all()
        return "went on"

    threads = [start(role) for role in (consume, produce) for _ in range(3)]
    assert [outcome(thread) for thread in threads] == ["went on"] * 6
    assert sorted(taken) == sorted(3 * list(range(50)))


def test_a_condition_lets_go_of_a_lock_taken_twice_and_takes_it_back(raddle, start):
    condition = threading.Condition(raddle.RLock())
    asleep = threading.Event()

    def wait():
        with condition, condition:
            asleep.set()
            condition.wait()
            return condition._lock._recursion_count()

    thread = start(wait)
    assert asleep.wait(SECONDS)
    with condition:
        condition.notify()
    assert outcome(thread) == 2


# asyncio


def test_functions_in_threads_of_asyncio_are_reported_too(raddle):
    a, b, both = raddle.Lock(), raddle.Lock(), threading.Barrier(2)

    async def main():
        pair = (asyncio.to_thread(cross, a, b, both), asyncio.to_thread(cross, b, a, both))
        return await asyncio.gather(*pair, return_exceptions=True)

    assert len(told(raddle, asyncio.run(main())).cycle) == 2


def test_functions_of_run_in_executor_are_reported_too(raddle, make_raddle):
    a, b, both, executor = raddle.Lock(), raddle.Lock(), threading.Barrier(2), make_raddle(2)

    async def main():
        run = asyncio.get_running_loop().run_in_executor
        pair = (run(executor, cross, a, b, both), run(executor, cross, b, a, both))
        return await asyncio.gather(*pair, return_exceptions=True)

    assert len(told(raddle, asyncio.run(main())).cycle) == 2


def test_awaiting_is_no_edge_because_the_loop_goes_on(raddle, make_raddle):
    executor = make_raddle(1)

    async def main():
        lock = raddle.Lock()
        with lock:
            task = asyncio.ensure_future(asyncio.wrap_future(executor.submit(cross_alone, lock)))
            await asyncio.sleep(0.05)
            assert not task.done()
        return await task

    assert asyncio.run(main()) == "went on"


# a holder that has ended


def leave_held(lock):
    lock.acquire()  # left held


def test_a_lock_whose_holder_has_ended_raises_and_says_so(raddle, kind, start):
    lock = kind(name="orphan")
    start(leave_held, lock, name="gone").join(timeout=SECONDS)
    assert lock.locked()
    with pytest.raises(raddle.DeadlockError, match=r"lock 'orphan'.* ended") as raised:
        lock.acquire()
    (link,) = raised.value.cycle
    assert link.taken_at == place(leave_held, "left held")
    assert link.taken_at in str(raised.value)
    assert lock.acquire(timeout=0.01) is False
    assert lock.acquire(blocking=False) is False


@pytest.mark.parametrize("way", ["thread", "bare"])
def test_a_lock_taken_without_a_frame_of_the_users_has_no_place(raddle, start, way):
    lock = raddle.Lock(name="orphan")
    if way == "thread":
        start(lock.acquire).join(timeout=SECONDS)
    else:
        _thread.start_new_thread(lock.acquire, ())
        while lock.statistics().holder is not None or not lock.locked():
            time.sleep(0)
    with pytest.raises(raddle.DeadlockError) as raised:
        lock.acquire()
    assert raised.value.cycle[0].taken_at is None
    assert "None" not in str(raised.value)


def test_a_lock_whose_holder_ends_tells_those_who_wait_already(raddle, kind, start):
    lock, held, gate = kind(name="orphan"), threading.Event(), start.gate()

    def leave():
        lock.acquire()
        held.set()
        gate.wait(SECONDS)

    holder = start(leave, name="gone")
    assert held.wait(SECONDS)
    waiter = start(cross_alone, lock)
    wait_asleep(waiter)
    gate.set()
    holder.join(timeout=SECONDS)
    error = outcome(waiter)
    assert isinstance(error, raddle.DeadlockError), error
    assert "orphan" in str(error)


def test_a_thread_with_the_name_or_identity_of_one_that_ended_does_not_hold_its_lock(raddle, start):
    lock = raddle.Lock()
    start(lock.acquire, name="again").join(timeout=SECONDS)
    for _ in range(10):
        # The system hands out identities again: the next thread may well have the last one's.
        error = outcome(start(lock.release, name="again"))
        assert isinstance(error, RuntimeError)
    assert lock.locked()


def test_the_time_of_a_timed_wait_is_kept(raddle, start):
    lock, held, gate = raddle.Lock(), threading.Event(), start.gate()

    def hold():
        with lock:
            held.set()
            gate.wait(SECONDS)

    start(hold)
    assert held.wait(SECONDS)
    before = time.monotonic()
    assert lock.acquire(timeout=0.1) is False
    assert time.monotonic() - before >= 0.09
    gate.set()
