"""What a review of the process pool has found, each with the smallest program that shows it."""

import contextvars
import os
import signal
import threading
import weakref
from concurrent.futures import CancelledError, wait

import process_tasks as tasks
import pytest
from process_programs import MarkedProgram

LEVEL = contextvars.ContextVar("LEVEL", default="none")
LARGE = 50_000_000


def read_level():
    return LEVEL.get()


def pass_and_fail(gate):
    gate()
    raise ValueError("on purpose")


def pass_and_end(gate):
    gate()
    os._exit(3)


def warm(pool):
    """Let the pool see that tasks are short, so that it sends more than one ahead."""
    for number in range(50):
        pool.submit(tasks.square, number).result()


def wait_until(is_so):
    pause = threading.Event()
    while not is_so():
        pause.wait(0.002)


# what becomes of a task


def test_a_task_that_is_tried_again_ends_though_it_was_cancelled(make_default, make_gate):
    pool, first, second = make_default(1), make_gate(), make_gate()
    warm(pool)
    retried = pool.options(retries=5).submit(pass_and_fail, first)
    held = pool.submit(second)
    first.wait_started()
    assert not retried.cancel()
    first.open()
    wait_until(lambda: pool.statistics().retried >= 1)
    is_cancelled = retried.cancel()
    second.open()
    assert held.result() is None
    try:
        assert isinstance(retried.exception(), ValueError)
    except CancelledError:
        assert is_cancelled
    else:
        assert not is_cancelled


def hold_supervisor(pool, may_go):
    """Keep the supervising thread in a callback."""
    inside, program = threading.Event(), threading.current_thread()
    done = threading.Event()

    def stay(_future):
        if threading.current_thread() is not program:
            inside.set()
            may_go.wait()
        done.set()

    while not inside.is_set():
        done.clear()
        pool.submit(tasks.square, 1).add_done_callback(stay)
        wait_until(lambda: inside.is_set() or done.is_set())


def test_kill_of_a_task_that_is_over_leaves_the_next_alone(make_default, gate):
    pool, may_go = make_default(1), threading.Event()
    warm(pool)
    try:
        hold_supervisor(pool, may_go)
        over, next_one = pool.submit(tasks.square, 3), pool.submit(gate, "next")
        gate.wait_started()
        assert not over.kill()
    finally:
        may_go.set()
    gate.open()
    assert (over.result(), next_one.result()) == (9, "next")


def test_a_callback_may_end_all_workers_when_one_has_died(make_default, gate):
    pool, told = make_default(1), threading.Event()
    bad = pool.submit(pass_and_end, gate)
    more = [pool.submit(tasks.square, n) for n in range(20)]
    gate.wait_started()

    def end(_future):
        pool.kill_workers()
        told.set()

    bad.add_done_callback(end)
    gate.open()
    told.wait()
    for future in wait(more).done:
        assert future.cancelled() or future.exception() is not None


def test_tasks_that_cannot_be_pickled_are_counted_as_failed(raddle):
    with raddle.ProcessPoolExecutor(1) as pool:
        for _ in range(3):
            assert pool.submit(tasks.use, threading.Lock()).exception() is not None
    figures = pool.statistics()
    assert (figures.submitted, figures.failed, figures.waiting, figures.done) == (3, 3, 0, 0)


def test_what_was_cancelled_is_not_counted_as_failed_when_the_pool_breaks(make_default, gate):
    pool = make_default(1, on_crash="break")
    futures = [pool.submit(gate) for _ in range(11)]
    (pid,) = gate.wait_started()
    assert all(future.cancel() for future in futures[1:])
    os.kill(pid, signal.SIGKILL)
    assert futures[0].exception() is not None
    pool.shutdown()
    figures = pool.statistics()
    assert (figures.failed, figures.cancelled) == (1, 10)


# starts


def test_ctrl_c_at_the_first_submit_leaves_one_supervisor(make_default, monkeypatch):
    start, interrupted = threading.Thread.start, []

    def start_and_raise(thread):
        start(thread)
        if thread.name.startswith("ProcessPoolExecutor") and not interrupted:
            interrupted.append(thread)
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_and_raise)
    pool = make_default(2)
    with pytest.raises(KeyboardInterrupt):
        pool.submit(tasks.square, 1)
    futures = [pool.submit(tasks.square, n) for n in range(200)]
    assert [future.result() for future in futures] == [n * n for n in range(200)]
    names = [thread.name for thread in threading.enumerate()]
    assert names.count(interrupted[0].name) == 1


def test_starts_that_the_system_refuses_break_no_pool_that_works(make_default, monkeypatch, gate):
    pool = make_default(3)
    (held,) = gate.hold(pool)
    refused = threading.Event()

    def refuse(_seat, _number):
        refused.set()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(pool._launcher, "start", refuse)
    futures = [pool.submit(tasks.square, n) for n in range(20)]
    refused.wait()
    gate.open()
    assert held.result() is None
    assert [future.result() for future in futures] == [n * n for n in range(20)]


# map, and calls that are pickled late


def test_a_map_begins_before_its_input_is_at_an_end(make_default, gate):
    def draw():
        yield 1
        gate.wait_started()
        gate.open()
        yield 2

    assert list(make_default(1).map(gate, draw())) == [1, 2]


def test_a_call_that_is_pickled_late_has_the_values_of_submit(make_default, gate):
    pool = make_default(1, inherit_context=[LEVEL])
    gate.hold(pool)
    token, large = LEVEL.set("mine"), bytes(LARGE)
    try:
        before = [pool.submit(tasks.length, large) for _ in range(5)]
        late = pool.submit(read_level)
    finally:
        LEVEL.reset(token)
    gate.open()
    assert late.result() == "mine"
    assert [future.result() for future in before] == [LARGE] * 5


class Slow:
    """Is pickled while a test does something else."""

    def __init__(self, inside, may_go):
        self.inside, self.may_go = inside, may_go

    def __reduce__(self):
        self.inside.set()
        self.may_go.wait()
        return int, ()


def test_what_is_cancelled_while_it_is_pickled_is_let_go_of(make_default, gate):
    pool, inside, may_go = make_default(1), threading.Event(), threading.Event()
    gate.hold(pool)
    large = bytes(LARGE)
    before = [pool.submit(tasks.length, large) for _ in range(5)]
    argument = Slow(inside, may_go)
    reference, future = weakref.ref(argument), pool.submit(tasks.use, argument)
    del argument
    gate.open()
    inside.wait()
    is_cancelled = future.cancel()
    may_go.set()
    assert [done.result() for done in before] == [LARGE] * 5
    assert is_cancelled == future.cancelled()
    wait_until(lambda: reference() is None)


# memory


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_results_of_a_map_that_nobody_wants_are_let_go_of_at_once(make_default):
    pool = make_default(1)
    assert pool.submit(tasks.square, 3).result() == 9
    before = resident()
    results = pool.map(tasks.big, [LARGE] * 3)
    wait_until(lambda: pool.statistics().done == 4)
    del results
    wait_until(lambda: resident() - before < LARGE)


def test_a_destructor_of_what_a_map_leaves_may_use_the_pool():
    source = """
        import asyncio
        class Noisy:
            def __del__(self):
                say("gone", pool.statistics().submitted > 0)
        class Evil: pass
        future = asyncio.new_event_loop().create_future()
        future.set_exception(ValueError(Noisy()))
        Evil.__reduce__ = future.result  # raises without a frame of Python
        pool = futures.ProcessPoolExecutor(1)
        results = pool.map(abs, [Evil(), -1])
        del Evil.__reduce__, future
        while pool.statistics().waiting or pool.statistics().running:
            time.sleep(0.002)
        del results
        say(pool.submit(abs, -5).result())
        pool.shutdown()
    """
    with MarkedProgram(source) as program:
        assert program.wait() == 0, program.errors
        program.wait_nothing_left()
    assert sorted(program.output) == ["5", "gone True"]


# damage


def own_mapping():
    """Where the memory begins that this worker shares with its program."""
    with open("/proc/self/maps") as file:
        for line in file:
            if "memfd:raddle" in line and "rw-s" in line:
                return int(line.split("-")[0], 16)
    raise AssertionError("a worker shares memory with its program")


def write(place, data):
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(place)
        memory.write(data)


def forget_claims():
    write(own_mapping() + 8 * (8 + 16), bytes(8 * 256))


def silence_and_end(gate):
    gate()
    write(own_mapping(), bytes(4))
    os.kill(os.getpid(), signal.SIGKILL)


def silence(gate):
    gate()
    write(own_mapping(), bytes(4))


def test_a_task_that_writes_over_its_claim_ends_its_own_future(make_default, raddle):
    pool = make_default(1)
    assert isinstance(pool.submit(forget_claims).exception(), raddle.WorkerDied)
    assert pool.submit(tasks.square, 3).result() == 9


def wait_asleep(thread):
    """Wait until a thread sleeps: it gives up the processor, and does not come back to it."""

    def switches():
        with open(f"/proc/self/task/{thread.native_id}/status") as file:
            return [line for line in file if "ctxt_switches" in line or line.startswith("State")]

    pause, before, same = threading.Event(), [], 0
    while same < 10:
        now = switches()
        same, before = same + 1 if now == before and "S" in now[0].split() else 0, now
        pause.wait(0.002)


def test_a_worker_that_dies_ringing_leaves_nobody_asleep(make_default, raddle, gate):
    future = make_default(2).submit(silence_and_end, gate)
    gate.wait_started()
    waiter = threading.Thread(target=future.exception, daemon=True)
    waiter.start()
    wait_asleep(waiter)
    gate.open()
    waiter.join()
    assert isinstance(future.exception(), raddle.WorkerDied)


def test_a_lost_ring_is_found_after_an_idle_time(make_default, gate):
    pool, told = make_default(1), threading.Event()
    pool.submit(tasks.square, 3).result()
    wait_asleep(pool._executor_manager_thread)
    future = pool.submit(silence, gate)
    gate.wait_started()
    future.add_done_callback(lambda _future: told.set())
    gate.open()
    told.wait()
    assert future.result() is None


# several pools


def test_one_wait_over_two_pools_is_told_by_both(raddle, make_default, make_gate):
    pools = make_default(4), make_default(4)
    gate_of = {}
    for pool in pools * 3:
        gate = make_gate()
        gate_of[pool.submit(gate)] = gate, pool
        gate.wait_started()
    order = list(set(gate_of))  # as the iteration looks through them
    kinds = [gate_of[future][1] for future in order]
    other = next(n for n, kind in enumerate(kinds) if kind is not kinds[0])
    later = next((n for n in range(other, 6) if kinds[n] is kinds[0]), other)
    told = threading.Semaphore(0)

    def consume():
        for _future in raddle.as_completed(gate_of):
            told.release()

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    for future in [*order[:other], order[later]]:
        wait_asleep(consumer)
        gate_of[future][0].open()
        told.acquire()
    for gate, _pool in gate_of.values():
        gate.open()
    consumer.join()
