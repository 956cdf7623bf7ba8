"""os.fork(): what another thread held is free in the child, what the forker held is its own."""

from __future__ import annotations

import sys
import textwrap

import pytest
from programs import run

if sys.platform != "linux":
    pytest.skip("the platform's fork differs", allow_module_level=True)

PRELUDE = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
    kind = futures.{kind}

    def in_child(check):
        pid = os.fork()
        if pid == 0:
            check()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"

    def checked(check):
        def run():
            try:
                check()
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        in_child(run)

    def usable(lock):
        assert not lock.locked(), lock
        assert lock.statistics().holder is None
        for _ in range(3):
            with lock:
                assert lock.locked()
        seen = []
        def take():
            with lock:
                seen.append(1)
        with lock:
            threads = [futures.Thread(target=take) for _ in range(3)]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()
        assert seen == [1, 1, 1]

    def held_by_another(lock):
        held, gate = threading.Event(), threading.Event()
        def hold():
            with lock:
                held.set()
                gate.wait()
        thread = futures.Thread(target=hold)
        thread.start()
        held.wait()
        return thread, gate
"""


@pytest.fixture(params=["Lock", "RLock"])
def run_forking(request):
    def forking(source):
        text = textwrap.dedent(PRELUDE.format(kind=request.param)) + textwrap.dedent(source)
        code, output, errors = run("raddle", text)
        assert (code, errors) == (0, []), output
        return output

    return forking


def test_a_free_lock_works_in_the_child(run_forking):
    run_forking(
        """
        lock = kind()
        with lock:
            pass
        checked(lambda: usable(lock))
        usable(lock)
        """
    )


def test_a_lock_that_another_thread_held_is_free_in_the_child(run_forking):
    run_forking(
        """
        lock = kind(name="held")
        thread, gate = held_by_another(lock)
        checked(lambda: usable(lock))
        assert lock.locked(), "the parent's lock is still held"
        gate.set()
        thread.join()
        usable(lock)
        """
    )


def test_a_lock_that_the_forking_thread_held_is_still_its_own(run_forking):
    run_forking(
        """
        lock = kind(name="mine")
        lock.acquire()
        def check():
            assert lock.locked()
            assert lock.statistics().holder == threading.current_thread().name
            others = []
            other = futures.Thread(target=lambda: others.append(lock.acquire(timeout=0.05)))
            other.start()
            other.join()
            assert others == [False]
            lock.release()
            usable(lock)
        checked(check)
        assert lock.locked()
        lock.release()
        usable(lock)
        """
    )


def test_the_holder_that_another_thread_is_told_first_in_the_child_is_the_forking_one(run_forking):
    output = run_forking(
        """
        lock = kind(name="mine")
        threading.current_thread().name = "forker"
        lock.acquire()
        def check():
            def ask():
                say(lock.statistics().holder)
                waits.set()
                with lock:
                    say("taken")
            # The first of the child to use a lock is not the thread that forked.
            waits = threading.Event()
            asker = threading.Thread(target=ask, name="asker")
            asker.start()
            waits.wait()
            say(lock.statistics().holder)
            lock.release()
            asker.join()
        checked(check)
        """
    )
    assert output == ["forker", "forker", "taken"]


def test_a_lock_that_a_forking_side_thread_held_is_still_its_own(run_forking):
    run_forking(
        """
        lock = kind(name="mine")
        other = kind(name="the main thread's")
        other.acquire()
        def side():
            with lock:
                def check():
                    assert lock.locked()
                    lock.release()
                    usable(lock)
                    usable(other)
                    lock.acquire()
                checked(check)
            assert not lock.locked()
        thread = futures.Thread(target=side)
        thread.start()
        thread.result()
        other.release()
        usable(lock)
        """
    )


def test_a_lock_that_others_wait_for_is_free_in_the_child(run_forking):
    run_forking(
        """
        lock = kind(name="wanted")
        thread, gate = held_by_another(lock)
        got = []
        def want():
            with lock:
                got.append(1)
        waiters = [futures.Thread(target=want) for _ in range(4)]
        for waiter in waiters:
            waiter.start()
        for _ in range(50):
            checked(lambda: usable(lock))
        gate.set()
        for waiter in waiters:
            waiter.join()
        assert got == [1] * 4
        usable(lock)
        """
    )


def test_a_lock_of_the_forker_that_others_wait_for_is_its_own_in_the_child(run_forking):
    run_forking(
        """
        lock, got, waiters = kind(name="wanted"), [], []
        def want():
            with lock:
                got.append(1)
        with lock:
            waiters += [futures.Thread(target=want) for _ in range(4)]
            for waiter in waiters:
                waiter.start()
            def check():
                assert lock.locked()
                lock.release()
                usable(lock)
            for _ in range(50):
                checked(check)
        for waiter in waiters:
            waiter.join()
        assert got == [1] * 4
        """
    )


def test_forks_at_any_moment_of_a_hurried_lock_never_hang(run_forking):
    run_forking(
        """
        sys.setswitchinterval(1e-6)
        locks, stop = [kind(name=str(number)) for number in range(3)], []
        counter = futures.Counter()
        def work(number):
            while not stop:
                with locks[number % 3]:
                    counter.add()
                    with locks[2]:
                        pass
        threads = [futures.Thread(target=work, args=(number,)) for number in (0, 1, 0, 1)]
        for thread in threads:
            thread.start()
        def check():
            for lock in locks:
                usable(lock)
            assert counter.add() > 0
        for _ in range(50):
            checked(check)
        stop.append(True)
        for thread in threads:
            thread.join()
        for lock in locks:
            usable(lock)
        """
    )


def test_deadlocks_are_still_reported_in_the_child(run_forking):
    run_forking(
        """
        lock = kind(name="parent's")
        thread, gate = held_by_another(lock)
        def check():
            a, b, both, told = kind(name="a"), kind(name="b"), threading.Barrier(2), []
            def cross(one, other):
                with one:
                    both.wait()
                    try:
                        with other:
                            pass
                    except futures.DeadlockError as error:
                        told.append(error)
            threads = [futures.Thread(target=cross, args=pair) for pair in ((a, b), (b, a))]
            for other in threads:
                other.start()
            for other in threads:
                other.join()
            assert len(told) == 1 and len(told[0].cycle) == 2
        checked(check)
        gate.set()
        thread.join()
        """
    )


def test_waits_of_the_parents_threads_are_no_edges_in_the_child(run_forking):
    run_forking(
        """
        a, b = kind(name="a"), kind(name="b")
        thread, gate = held_by_another(b)
        def want():
            with b:
                pass
        waiter = futures.Thread(target=want)
        waiter.start()
        def check():
            # In the parent the waiter waits for b; here there is no waiter, and b is free.
            with a, b:
                pass
            try:
                waiter.join()
            except RuntimeError:
                pass  # the standard library's threads are over in a child; ours may say so
        checked(check)
        gate.set()
        waiter.join()
        thread.join()
        """
    )


def test_a_condition_over_our_lock_works_in_the_child(run_forking):
    run_forking(
        """
        condition = threading.Condition(kind())
        thread, gate = held_by_another(condition)
        def check():
            with condition:
                condition.notify_all()
            assert condition.acquire(timeout=5)
            condition.release()
        checked(check)
        gate.set()
        thread.join()
        """
    )


def test_a_child_of_a_child_has_free_locks_too(run_forking):
    run_forking(
        """
        lock = kind()
        thread, gate = held_by_another(lock)
        def again():
            other, let_go = held_by_another(lock)
            checked(lambda: usable(lock))
            let_go.set()
            other.join()
        checked(again)
        gate.set()
        thread.join()
        """
    )
