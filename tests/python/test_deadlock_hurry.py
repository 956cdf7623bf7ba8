"""Locks and reports in a hurry: threads that change at any moment, a collector that runs code."""

from __future__ import annotations

import pytest
from programs import run
from waiting import outcome


@pytest.fixture(params=["Lock", "RLock"])
def kind(raddle, request):
    return getattr(raddle, request.param)


@pytest.mark.stress
@pytest.mark.usefixtures("hurried")
def test_a_lock_passed_around_in_a_hurry_is_never_reported(raddle, kind, start):
    locks = [kind() for _ in range(3)]
    counts = [0, 0, 0]

    def work(seed):
        for number in range(1500):
            which = (number + seed) % 3
            with locks[which]:
                counts[which] += 1
                if which < 2 and number % 7 == 0:
                    with locks[which + 1]:
                        counts[which + 1] += 1
        return "went on"

    threads = [start(work, seed) for seed in range(6)]
    assert [outcome(thread) for thread in threads] == ["went on"] * 6
    assert sum(counts) == 6 * 1500 + sum(
        1 for seed in range(6) for n in range(1500) if (n + seed) % 3 < 2 and n % 7 == 0
    )


def test_reports_beside_a_collector_that_runs_python_code_freeze_nobody():
    # What lists all frames does it, on CPython 3.11, in a lock of the interpreter, in which the
    # collector may begin, run a callback of a weak reference, and change threads.
    source = """
        import gc, weakref
        sys.setswitchinterval(1e-6)
        class Node:
            pass
        def callback(_):
            for _ in range(500):
                pass
        def litter():
            node = Node()
            node.itself = node
            return weakref.ref(node, callback)
        def work(refs):
            for _ in range(600):
                refs.append(litter())
                lock = futures.Lock()
                with lock:
                    try:
                        lock.acquire()
                    except futures.DeadlockError:
                        pass
        for threshold in (3, 5, 7, 9, 11, 13, 17):
            gc.set_threshold(threshold)
            threads = [threading.Thread(target=work, args=([],)) for _ in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        say("ended")
        """
    assert run("raddle", source) == (0, ["ended"], [])
