"""DeadlockError in pools: workers that wait for tasks only they can run, and tasks with locks."""

from __future__ import annotations

import concurrent.futures
import threading

import pytest
from waiting import SECONDS, outcome, wait_asleep

WAYS = {
    "result": lambda raddle, executor: executor.submit(int).result(),
    "exception": lambda raddle, executor: executor.submit(int).exception(),
    "wait": lambda raddle, executor: raddle.wait([executor.submit(int)]),
    "wait for the first": lambda raddle, executor: raddle.wait(
        [executor.submit(int), executor.submit(int)], return_when=raddle.FIRST_COMPLETED
    ),
    "as_completed": lambda raddle, executor: list(raddle.as_completed([executor.submit(int)])),
    "map": lambda raddle, executor: list(executor.map(int, range(3))),
    "map with a buffer": lambda raddle, executor: list(executor.map(int, range(3), buffersize=1)),
}


def is_deadlock(raddle, error):
    return isinstance(error, raddle.DeadlockError)


@pytest.fixture(params=[1, 2, 4])
def workers(request):
    return request.param


@pytest.fixture(params=list(WAYS))
def way(request):
    return WAYS[request.param]


def fill(raddle, executor, workers, way):
    """Have every worker wait for a task that stands in the queue; what became of each."""
    all_in = threading.Barrier(workers)

    def outer():
        all_in.wait(SECONDS)
        try:
            way(raddle, executor)
        except raddle.DeadlockError as error:
            return error
        return "went on"

    return [outcome(future) for future in [executor.submit(outer) for _ in range(workers)]]


def test_a_pool_whose_workers_all_wait_for_its_queue_is_reported(raddle, make_raddle, workers, way):
    executor = make_raddle(workers)
    outcomes = fill(raddle, executor, workers, way)
    errors = [given for given in outcomes if is_deadlock(raddle, given)]
    # The one that was told goes on, and its worker is free for what the others wait for.
    assert len(errors) == 1, outcomes
    assert outcomes.count("went on") == workers - 1
    assert executor.submit(abs, -1).result(timeout=SECONDS) == 1


def test_the_report_of_a_full_pool_names_its_workers(raddle, make_raddle, workers):
    executor = make_raddle(workers, thread_name_prefix="crew")
    outcomes = fill(raddle, executor, workers, WAYS["result"])
    (error,) = [given for given in outcomes if is_deadlock(raddle, given)]
    assert error.cycle
    names = {thread.name for thread in executor._threads}
    for link in error.cycle:
        assert link.thread in names
        assert link.waits_for.startswith("a task")
        assert set(link.held_by) == names
        assert link.taken_at is None
        assert link.waits_at.startswith(f"{__file__}:")
    assert "crew" in str(error)


def test_the_first_link_is_the_thread_that_was_told(raddle, make_raddle, workers, way):
    executor, all_in = make_raddle(workers), threading.Barrier(workers)

    def outer():
        all_in.wait(SECONDS)
        try:
            way(raddle, executor)
        except raddle.DeadlockError as error:
            return error.cycle[0].ident == threading.get_ident()
        return None

    futures = [executor.submit(outer) for _ in range(workers)]
    assert [o for o in map(outcome, futures) if o is not None] == [True]


def test_a_free_worker_runs_what_the_others_wait_for(raddle, make_raddle, way):
    executor, all_in = make_raddle(3), threading.Barrier(2)

    def outer():
        all_in.wait(SECONDS)
        way(raddle, executor)
        return "went on"

    for _ in range(20):
        futures = [executor.submit(outer) for _ in range(2)]
        assert [outcome(future) for future in futures] == ["went on"] * 2


def test_a_worker_that_is_busy_with_something_else_is_waited_for(make_raddle, blocker):
    executor, threads = make_raddle(2), []
    blocker.hold(executor)
    begun = threading.Event()

    def outer():
        threads.append(threading.current_thread())
        begun.set()
        return executor.submit(abs, -5).result()

    # The second worker waits for a task that the first, once released, will run.
    future = executor.submit(outer)
    assert begun.wait(SECONDS)
    wait_asleep(threads[0])
    assert not future.done()
    blocker.release()
    assert future.result(timeout=SECONDS) == 5


def test_a_timed_wait_of_a_full_pool_is_not_reported(raddle, make_raddle):
    executor = make_raddle(1)

    def outer():
        inner = executor.submit(int)
        with pytest.raises(raddle.TimeoutError):
            inner.result(timeout=0.1)
        return inner

    assert executor.submit(outer).result(timeout=SECONDS).result(timeout=SECONDS) == 0


def test_a_worker_that_will_be_replaced_is_waited_for(raddle, make_raddle):
    executor, inner = make_raddle(1), []

    def outer():
        inner.append(executor.submit(abs, -7))
        return inner[0].result()

    late = executor.options(task_timeout=0.2).submit(outer)
    assert isinstance(outcome(late), raddle.TaskTimeout)
    assert inner[0].result(timeout=SECONDS) == 7


class Gate:
    """A place where a thread says that it is there, and stands still until it may pass."""

    def __init__(self, let_pass):
        self.reached = threading.Event()
        self.let_pass = let_pass

    def __call__(self):
        self.reached.set()
        assert self.let_pass.wait(SECONDS)


@pytest.fixture
def stop_start(monkeypatch, start):
    """Has whoever starts a thread of this name stand still at a gate before."""

    def stop(name):
        gate, begin = Gate(start.gate()), threading.Thread.start

        def begin_after_the_gate(thread):
            if thread.name == name:
                gate()
            begin(thread)

        monkeypatch.setattr(threading.Thread, "start", begin_after_the_gate)
        return gate

    return stop


@pytest.mark.parametrize("next_thread", ["crew_callbacks_1", "crew_2"])
def test_a_worker_that_is_being_replaced_is_waited_for(
    raddle, make_raddle, start, stop_start, next_thread
):
    """The timer has given a worker up, and starts a thread for its callbacks or in its place."""
    executor, lock = make_raddle(2, thread_name_prefix="crew"), raddle.Lock(name="mine")
    gate, never, go, holds = stop_start(next_thread), start.gate(), start.gate(), start.gate()
    begun, wanting = threading.Event(), []

    def want():
        wanting.append(threading.current_thread())
        holds.set()
        with lock:
            return "went on"

    def wait_for_the_queue():
        with lock:
            holds.set()
            assert go.wait(SECONDS)
            queued = executor.submit(abs, -7)
            begun.set()
            return queued.result()

    waiter = start(wait_for_the_queue)
    assert holds.wait(SECONDS)
    holds.clear()
    wants = executor.submit(want)
    assert holds.wait(SECONDS)
    wait_asleep(wanting[0])
    late = executor.options(task_timeout=0.1).submit(never.wait)
    if "callbacks" in next_thread:
        late.add_done_callback(lambda future: None)
    executor.submit(int)  # so that another worker is needed in any case
    assert gate.reached.wait(SECONDS)
    go.set()
    assert begun.wait(SECONDS)
    wait_asleep(waiter)
    gate.let_pass.set()
    assert outcome(waiter) == 7
    assert outcome(wants) == "went on"
    assert isinstance(outcome(late), raddle.TaskTimeout)


def test_a_task_that_waits_for_itself_is_reported(raddle, make_raddle):
    executor, own, given = make_raddle(2), [], threading.Event()

    def outer():
        given.wait(SECONDS)
        return own[0].result()

    own.append(executor.submit(outer))
    given.set()
    error = outcome(own[0])
    assert is_deadlock(raddle, error)
    assert len(error.cycle) == 1
    assert error.cycle[0].held_by == (error.cycle[0].thread,)


def test_tasks_that_wait_for_each_other_are_reported(raddle, make_raddle):
    executor, futures, given = make_raddle(2), [], threading.Event()

    def outer(other):
        given.wait(SECONDS)
        try:
            return futures[other].result()
        except raddle.DeadlockError as error:
            return error

    futures += [executor.submit(outer, 1), executor.submit(outer, 0)]
    given.set()
    first, second = map(outcome, futures)
    # The other one gets what the first returned.
    assert first is second
    assert len(first.cycle) == 2


def test_two_pools_that_wait_for_each_other_are_reported(raddle, make_raddle):
    left, right, both = make_raddle(1), make_raddle(1), threading.Barrier(2)

    def outer(other):
        both.wait(SECONDS)
        try:
            other.submit(int).result()
        except raddle.DeadlockError as error:
            return error
        return "went on"

    outcomes = [outcome(f) for f in (left.submit(outer, right), right.submit(outer, left))]
    (error,) = [given for given in outcomes if given != "went on"]
    assert is_deadlock(raddle, error) and len(error.cycle) == 2


def test_a_cancelled_future_ends_the_wait_for_it(make_raddle, start, blocker):
    executor = make_raddle(1)
    blocker.hold(executor)
    queued = executor.submit(int)
    waiter = start(queued.result)
    wait_asleep(waiter)
    assert queued.cancel()
    assert isinstance(outcome(waiter), concurrent.futures.CancelledError)


def test_a_cancelled_future_is_no_edge_any_more(raddle, make_raddle, blocker):
    executor, lock = make_raddle(1), raddle.Lock()
    blocker.hold(executor)
    queued = executor.submit(int)
    queued.cancel()

    def want():
        with lock:
            return "went on"

    with lock:
        wanting = executor.submit(want)
        blocker.release()
        with pytest.raises(concurrent.futures.CancelledError):
            queued.result()
    assert outcome(wanting) == "went on"


# locks and pools


def test_a_task_that_wants_the_lock_of_whoever_waits_for_it_is_reported(raddle, make_raddle):
    executor, lock = make_raddle(1), raddle.Lock(name="mine")

    def want():
        with lock:
            return "went on"

    with lock:
        future = executor.submit(want)
        # The task, told first, hands the error on; or the wait for it is told.
        with pytest.raises(raddle.DeadlockError) as raised:
            future.result()
    links = {link.thread: link for link in raised.value.cycle}
    waits = links.pop(threading.current_thread().name)
    (wants,) = links.values()
    assert wants.waits_for == "lock 'mine'"
    assert wants.held_by == (waits.thread,)
    assert waits.waits_for.startswith("a task")
    assert waits.held_by == (wants.thread,)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_map_of_tasks_that_want_the_lock_of_its_consumer_is_reported(raddle, make_raddle, count):
    executor, lock = make_raddle(count), raddle.Lock()

    def want(number):
        with lock:
            return number

    with lock:
        with pytest.raises(raddle.DeadlockError):
            list(executor.map(want, range(20)))
    assert list(executor.map(want, range(20))) == list(range(20))


def test_leaving_a_pool_with_the_lock_that_its_tasks_want_is_reported(raddle):
    lock, reports = raddle.Lock(), []

    def want():
        try:
            with lock:
                return "went on"
        except raddle.DeadlockError as error:
            reports.append(error)
            return "told"

    executor = raddle.ThreadPoolExecutor(2)
    with lock:
        try:
            with executor:
                futures = [executor.submit(want) for _ in range(3)]
        except raddle.DeadlockError as error:
            reports.append(error)
    assert {outcome(future) for future in futures} <= {"went on", "told"}
    assert reports
    main = threading.current_thread().name
    for error in reports:
        assert main in {link.thread for link in error.cycle}
        links = {link.thread: link for link in error.cycle}
        assert set(links[main].held_by) <= {thread.name for thread in executor._threads}
    executor.shutdown()


def test_the_queued_task_behind_a_lock_is_traced_to_its_holder(raddle, make_raddle):
    """The awaited task stands in the queue; its only worker waits for the lock of the waiter."""
    executor, lock, begun = make_raddle(1), raddle.Lock(name="mine"), threading.Event()
    reports = []

    def want():
        begun.set()
        try:
            with lock:
                return "went on"
        except raddle.DeadlockError as error:
            reports.append(error)
            return "told"

    with lock:
        first, queued = executor.submit(want), executor.submit(abs, -3)
        assert begun.wait(SECONDS)
        try:
            assert queued.result() == 3
        except raddle.DeadlockError as error:
            reports.append(error)
    assert outcome(queued) == 3
    assert outcome(first) in ("went on", "told")
    (error,) = reports
    assert len(error.cycle) == 2
    assert {link.waits_for for link in error.cycle} == {"lock 'mine'", "a task"}


def test_a_pool_that_may_still_grow_is_no_deadlock(raddle, make_raddle):
    executor, lock = make_raddle(8), raddle.Lock()

    def nested(depth):
        if depth == 0:
            with lock:
                return 0
        return executor.submit(nested, depth - 1).result() + 1

    for _ in range(10):
        assert executor.submit(nested, 7).result(timeout=SECONDS) == 7


def test_one_level_more_than_workers_is_a_deadlock_and_is_told_inside(raddle, make_raddle):
    executor = make_raddle(3)

    def nested(depth):
        if depth == 0:
            return 0
        try:
            return executor.submit(nested, depth - 1).result() + 1
        except raddle.DeadlockError:
            return -100

    # Any of the three may have been the last to wait, and is told.
    assert executor.submit(nested, 3).result(timeout=SECONDS) in (-100, -99, -98)


@pytest.mark.stress
@pytest.mark.usefixtures("hurried")
def test_nested_tasks_that_fit_are_never_reported(make_raddle):
    executor = make_raddle(4)

    def outer(number):
        return sum(f.result() for f in [executor.submit(abs, -n) for n in range(number)])

    for _ in range(100):
        futures = [executor.submit(outer, 5) for _ in range(3)]
        assert [outcome(future) for future in futures] == [10] * 3


def test_a_retried_task_may_be_told_and_try_again(raddle, make_raddle):
    executor = make_raddle(1)
    tries = []

    def outer():
        tries.append(1)
        return executor.submit(int).result() if len(tries) == 1 else "went on"

    view = executor.options(retries=1, retry_on=raddle.DeadlockError)
    assert view.submit(outer).result(timeout=SECONDS) == "went on"
    assert len(tries) == 2
