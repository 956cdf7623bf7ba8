"""submit, map, cancel, shutdown: what holds for the standard library's pool of processes and ours.

Every test runs against the standard library too, and is right only if it passes there.
"""

import concurrent.futures
import functools
import itertools
import math
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import process_tasks as tasks
import pytest

# submit


def test_submit_returns_a_future_of_the_result(make_pool):
    future = make_pool(2).submit(pow, 2, 8)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 256
    assert future.exception() is None
    assert future.done() and not future.running() and not future.cancelled()


def test_tasks_run_in_other_processes(make_pool):
    pool = make_pool(2)
    assert os.getpid() not in set(pool.map(tasks.pid_of, range(20)))


def test_submit_passes_every_keyword_to_the_function(make_pool):
    keywords = dict(self=1, fn=2, executor=3, timeout=4, label=5, retries=6, task_timeout=7)
    assert make_pool(1).submit(tasks.capture, 0, **keywords).result() == ((0,), keywords)


def test_submit_takes_the_function_by_position_only(make_pool):
    pool = make_pool(1)
    with pytest.raises(TypeError):
        pool.submit(fn=tasks.square)
    with pytest.raises(TypeError):
        pool.submit()


VALUES = (
    None, True, False, 0, 1, -1, 255, 256, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63,
    -(2**63) - 1, 2**64, 10**400, 0.0, -0.0, 1.5, 1e308, math.inf, -math.inf, "", "a",
    "é", "\U0001f600", "\x00", "\ud800", "x" * 1000, b"", b"\x00\xff", b"x" * 1000,
    bytearray(b"ab"), (), (1,), (1, "a", None),
    ((), ((),)), [], [1, [2, [3]]], {}, {"a": {1: 2}}, {1, 2}, frozenset({1}), 1j, Ellipsis,
    range(3), slice(1, 2), int, len, NotImplemented,
)  # fmt: skip


def test_values_of_every_kind_come_back_as_they_went(make_pool):
    pool = make_pool(1)
    for value in VALUES:
        back = pool.submit(tasks.identity, value).result()
        assert type(back) is type(value) and repr(back) == repr(value)
    assert math.isnan(pool.submit(tasks.identity, math.nan).result())
    assert [repr(v) for v in pool.map(tasks.identity, VALUES)] == [repr(v) for v in VALUES]


class Kilo(int):
    """A subclass of a type that has an encoding of its own."""


class Name(str):
    pass


def test_subclasses_of_simple_types_keep_their_class(make_pool):
    pool = make_pool(1)
    for value in (Kilo(3), Name("x"), True):
        assert type(pool.submit(tasks.identity, value).result()) is type(value)
        (back,) = pool.map(tasks.identity, [value])
        assert type(back) is type(value)


def same(a, b):
    return a is b


def test_one_object_given_twice_is_one_object_in_the_task(make_pool):
    shared = ["x"]
    pool = make_pool(1)
    assert pool.submit(same, shared, shared).result()
    assert pool.submit(same, a=shared, b=shared).result()
    assert pool.submit(same, shared, b=shared).result()
    assert not pool.submit(same, ["x"], ["x"]).result()


def test_callables_of_every_kind_that_can_be_imported_run(make_pool):
    pool = make_pool(1)
    assert pool.submit(tasks.Account(7).read).result() == 7
    assert pool.submit(tasks.Account, 3).result().balance == 3
    assert pool.submit(functools.partial(pow, 2), 5).result() == 32
    assert pool.submit(str.upper, "a").result() == "A"
    assert pool.submit("-".join, ["a", "b"]).result() == "a-b"
    assert pool.submit(dict.fromkeys, [1]).result() == {1: None}


def test_a_partial_and_a_method_are_seen_as_they_are_at_each_submit(make_pool):
    pool, account = make_pool(1), tasks.Account(1)
    assert pool.submit(account.read).result() == 1
    account.balance = 2
    assert pool.submit(account.read).result() == 2
    assert list(pool.map(account.read, range(3))) == [2, 2, 2]
    account.balance = 3
    assert list(pool.map(account.read, range(3))) == [3, 3, 3]
    numbers = [1]
    total = functools.partial(sum, numbers)
    assert pool.submit(total).result() == 1
    numbers.append(2)
    assert pool.submit(total).result() == 3


def test_what_a_task_changes_of_its_arguments_stays_there(make_pool):
    pool, numbers = make_pool(1), [1]
    pool.submit(list.append, numbers, 2).result()
    assert numbers == [1]


def test_as_many_tasks_run_at_once_as_there_are_workers(make_pool, gate):
    pool = make_pool(3)
    held = [pool.submit(gate, n) for n in range(3)]
    assert len(set(gate.wait_started(3))) == 3
    gate.open()
    assert [future.result() for future in held] == [0, 1, 2]


def test_no_more_tasks_run_at_once_than_there_are_workers(make_pool, gate):
    pool = make_pool(2)
    held = [pool.submit(gate, n) for n in range(8)]
    assert len(set(gate.wait_started(2))) == 2
    assert pool.submit(tasks.square, 3).running() in (False, True)
    assert gate.started() == []
    gate.open()
    assert [future.result() for future in held] == list(range(8))


def test_a_submitter_that_never_waits_sees_its_tasks_done(make_pool):
    pool = make_pool(2)
    for number in range(20):
        future = pool.submit(abs, -number)
        while not future.done():
            time.sleep(0)  # nobody waits: another thread has to bring the result
        assert future.result(timeout=0) == number


def test_any_thread_may_submit_and_wait(make_pool):
    pool, results = make_pool(2), {}

    def submit(number):
        results[number] = [pool.submit(tasks.square, n).result() for n in range(50)]

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(results.values()) == [[n * n for n in range(50)]] * 4


def test_the_same_result_is_the_same_object_every_time(make_pool):
    future = make_pool(1).submit(list, "abc")
    assert future.result() is future.result()
    future = make_pool(1).submit(tasks.raise_error, ValueError("x"))
    assert future.exception() is future.exception()


def test_callbacks_run_in_this_process_and_see_the_future_done(make_pool):
    pool, seen, told = make_pool(1), [], threading.Semaphore(0)

    def callback(future):
        seen.append((os.getpid(), future.done(), future.result()))
        told.release()

    future = pool.submit(tasks.square, 3)
    future.add_done_callback(callback)
    told.acquire()
    future.add_done_callback(callback)
    told.acquire()
    assert seen == [(os.getpid(), True, 9)] * 2


def test_a_callback_may_submit(make_pool):
    pool, later, told = make_pool(1), [], threading.Event()

    def callback(future):
        later.append(pool.submit(tasks.square, future.result()))
        told.set()

    pool.submit(tasks.square, 3).add_done_callback(callback)
    told.wait()
    assert later[0].result() == 81


@pytest.mark.parametrize("when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_wait_knows_what_is_done(make_pool, gate, when):
    pool = make_pool(2)
    (held,) = gate.hold(pool)
    failed = pool.submit(tasks.raise_error, ValueError("x"))
    if when != "ALL_COMPLETED":
        done, not_done = concurrent.futures.wait([held, failed], return_when=when)
        assert (done, not_done) == ({failed}, {held})
    gate.open()
    done, not_done = concurrent.futures.wait([held, failed])
    assert (done, not_done) == ({held, failed}, set())


def test_as_completed_gives_each_future_once(make_pool):
    futures = [make_pool(2).submit(tasks.square, n) for n in range(20)]
    assert set(concurrent.futures.as_completed(futures)) == set(futures)


# what a task raises


def test_what_a_task_raises_lands_on_its_future(make_pool):
    pool = make_pool(1)
    for error in (ValueError("x", 1), KeyError("k"), StopIteration(3), SystemExit(4),
                  KeyboardInterrupt("k"), GeneratorExit(), MemoryError("m")):  # fmt: skip
        future = pool.submit(tasks.raise_error, error)
        assert type(future.exception()) is type(error) and future.exception().args == error.args
        with pytest.raises(type(error)):
            future.result()
    assert pool.submit(tasks.square, 3).result() == 9


def test_the_remote_traceback_is_told(make_pool):
    error = make_pool(1).submit(tasks.raise_error, ValueError("x")).exception()
    assert type(error.__cause__) is concurrent.futures.process._RemoteTraceback
    assert "raise error  # the line that a traceback shows" in str(error.__cause__)


def test_what_an_exception_came_from_is_told(make_pool):
    error = make_pool(1).submit(tasks.raise_from, "/no/such/file").exception()
    assert type(error) is ValueError
    assert "FileNotFoundError" in str(error.__cause__) and "direct cause" in str(error.__cause__)


def test_a_huge_allocation_is_only_an_error(make_pool):
    pool = make_pool(1)
    assert isinstance(pool.submit(tasks.big, 1 << 60).exception(), MemoryError)
    assert pool.submit(tasks.square, 3).result() == 9


# map


def test_map_gives_the_results_in_the_order_of_the_input(make_pool):
    pool = make_pool(2)
    assert list(pool.map(tasks.square, range(200))) == [n * n for n in range(200)]
    assert list(pool.map(pow, [2, 3, 4], (5, 6))) == [32, 729]
    assert list(pool.map(tasks.square, [])) == []


@pytest.mark.parametrize("chunksize", [1, 2, 7, 50, 1000])
def test_chunks_change_no_result(make_pool, chunksize):
    pool = make_pool(2)
    expected = [n * n for n in range(50)]
    assert list(pool.map(tasks.square, range(50), chunksize=chunksize)) == expected
    assert list(pool.map(pow, range(9), range(9), chunksize=chunksize)) == [n**n for n in range(9)]


@pytest.mark.parametrize("chunksize", [0, -1])
def test_a_chunksize_below_one_is_a_value_error(make_pool, chunksize):
    with pytest.raises(ValueError, match="chunksize"):
        list(make_pool(1).map(abs, range(3), chunksize=chunksize))


def test_an_exception_in_a_map_is_raised_in_its_place(make_pool):
    results = make_pool(2).map(divmod, [6, 6, 6], [3, 0, 2])
    assert next(results) == (2, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_exception_in_a_chunk_is_raised(make_pool):
    results = make_pool(2).map(divmod, [6, 6, 6], [3, 0, 2], chunksize=3)
    with pytest.raises(ZeroDivisionError):
        list(results)


def test_map_raises_timeout_error(make_pool, gate):
    results = make_pool(1).map(gate, range(3), timeout=0.05)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(results)


def test_results_of_a_map_outlive_the_pool(make_pool):
    pool = make_pool(2)
    results = pool.map(tasks.square, range(100))
    pool.shutdown(wait=True)
    assert list(results) == [n * n for n in range(100)]


def test_map_can_be_read_by_one_thread_while_another_submits(make_pool):
    pool, seen = make_pool(2), []
    results = pool.map(tasks.square, range(300))
    reader = threading.Thread(target=lambda: seen.extend(results))
    reader.start()
    assert [pool.submit(tasks.square, n).result() for n in range(100)] == [
        n * n for n in range(100)
    ]
    reader.join()
    assert seen == [n * n for n in range(300)]


# size

SIZES = [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 3, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_arguments_and_results_of_any_size_arrive_whole(make_pool, size):
    pool, data = make_pool(2), os.urandom(size)
    assert pool.submit(tasks.double, data).result() == data * 2
    text = "ä" * size
    assert list(pool.map(tasks.identity, [text, data, [text]])) == [text, data, [text]]


def test_large_arguments_to_busy_workers_do_not_block_submit(make_pool, gate):
    pool = make_pool(1)
    (held,) = gate.hold(pool)
    data = b"x" * 3_000_000
    futures = [pool.submit(tasks.length, data) for _ in range(20)]
    assert not held.done()
    gate.open()
    assert [future.result() for future in futures] == [len(data)] * 20


def test_large_results_that_nobody_reads_do_not_block_the_workers(make_pool):
    pool = make_pool(2)
    futures = [pool.submit(tasks.big, 2_000_000, n) for n in range(30)]
    assert pool.submit(tasks.square, 3).result() == 9
    pool.shutdown(wait=True)
    assert [(f.result()[0], len(f.result())) for f in futures] == [
        (n, 2_000_000) for n in range(30)
    ]


# cancel


def test_a_task_that_has_not_begun_can_be_cancelled(make_pool, gate, tmp_path):
    pool, trace = make_pool(1), tmp_path / "trace"
    gate.hold(pool)
    queued = [pool.submit(tasks.append_line, str(trace), str(n)) for n in range(30)]
    assert all(future.cancel() for future in queued[10:])
    gate.open()
    pool.shutdown(wait=True)
    assert [future.cancelled() for future in queued] == [False] * 10 + [True] * 20
    assert trace.read_text().split() == [str(n) for n in range(10)]


def test_a_running_task_cannot_be_cancelled(make_pool, gate):
    (held,) = gate.hold(make_pool(1))
    while not held.running():
        time.sleep(0)  # the standard library says so a little later
    assert not held.cancel()
    gate.open()
    assert held.result() is None


def test_cancel_tells_waiters_and_callbacks(make_pool, gate):
    pool, seen = make_pool(1), []
    gate.hold(pool)
    queued = [pool.submit(tasks.square, n) for n in range(10)]
    queued[-1].add_done_callback(seen.append)
    assert queued[-1].cancel()
    assert seen == [queued[-1]]
    gate.open()
    with pytest.raises(concurrent.futures.CancelledError):
        queued[-1].result()
    done, _ = concurrent.futures.wait(queued[-1:])
    assert done == {queued[-1]}


# shutdown


def test_submit_after_shutdown_is_a_runtime_error(make_pool):
    pool = make_pool(1)
    pool.submit(tasks.square, 1).result()
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(tasks.square, 2)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(pool.map(tasks.square, [2]))


def test_shutdown_waits_for_queued_tasks(make_pool, gate):
    pool = make_pool(2)
    futures = [*gate.hold(pool, 2), *(pool.submit(tasks.square, n) for n in range(50))]
    threading.Timer(0.05, gate.open).start()
    pool.shutdown(wait=True)
    assert all(future.done() for future in futures)


def test_shutdown_without_wait_lets_queued_tasks_run(make_pool, gate):
    pool = make_pool(1)
    gate.hold(pool)
    futures = [pool.submit(tasks.square, n) for n in range(50)]
    pool.shutdown(wait=False)
    assert not futures[-1].done()
    gate.open()
    assert [future.result() for future in futures] == [n * n for n in range(50)]


def test_shutdown_can_cancel_what_has_not_begun(make_pool, gate):
    pool = make_pool(1)
    (held,) = gate.hold(pool)
    futures = [pool.submit(tasks.square, n) for n in range(50)]
    leaving = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True})
    leaving.start()
    while not futures[-1].cancelled():
        time.sleep(0)  # a thread of the pool does it
    assert not held.done()
    gate.open()
    leaving.join()
    assert held.result() is None
    assert all(future.done() for future in futures)
    assert len([future for future in futures if future.cancelled()]) >= 48


def test_shutdown_may_be_called_again_and_unused(make_pool):
    pool = make_pool(2)
    for _ in range(3):
        pool.shutdown()
    used = make_pool(2)
    used.submit(tasks.square, 1)
    for _ in range(3):
        used.shutdown()


def test_several_threads_may_shut_down_at_once(make_ours, gate):
    # The standard library's, on some versions, closes a pipe that the other thread still reads.
    pool = make_ours(2)
    gate.hold(pool, 2)
    threads = [threading.Thread(target=pool.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    with pytest.raises(RuntimeError):
        pool.submit(tasks.square, 1)


def test_with_waits_for_the_tasks_and_keeps_an_error_of_its_block(make_pool):
    with pytest.raises(KeyError), make_pool(2) as pool:
        futures = [pool.submit(tasks.square, n) for n in range(30)]
        raise KeyError("block")
    assert [future.result() for future in futures] == [n * n for n in range(30)]


# set-up


def test_the_initializer_runs_in_each_worker_before_its_tasks(make_pool, gate):
    pool = make_pool(2, initializer=tasks.set_mark, initargs=("ready",))
    held = [pool.submit(gate) for _ in range(2)]
    gate.wait_started(2)
    gate.open()
    assert [future.result() for future in held] == [None, None]
    assert set(pool.map(tasks.read_mark, range(20))) == {"ready"}


def test_a_failing_initializer_breaks_the_pool(make_pool, capfd):
    pool = make_pool(2, initializer=tasks.fail_in_set_up)
    futures = []
    with pytest.raises(BrokenProcessPool):
        futures.extend(pool.submit(tasks.square, n) for n in range(5))
        [future.result() for future in futures]
    assert all(isinstance(future.exception(), BrokenProcessPool) for future in futures)
    with pytest.raises(BrokenProcessPool):
        while True:  # submit refuses from some moment on
            assert isinstance(pool.submit(tasks.square, 1).exception(), BrokenProcessPool)


def test_bad_arguments_are_refused_at_construction(make_pool):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        make_pool(0)
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        make_pool(-1)
    with pytest.raises(TypeError):
        make_pool("two")
    with pytest.raises(TypeError, match="initializer must be a callable"):
        make_pool(1, initializer=3)
    with pytest.raises(TypeError):
        make_pool(1, colour="green")


def test_multiprocessing_primitives_can_be_handed_to_the_initializer(make_pool):
    context = multiprocessing.get_context("fork")
    queue, lock = context.SimpleQueue(), context.Lock()
    pool = make_pool(2, initializer=tasks.set_mark, initargs=((queue, lock),))
    assert list(pool.map(put_in_mark, range(10))) == [None] * 10
    assert sorted(queue.get() for _ in range(10)) == list(range(10))


def put_in_mark(value):
    queue, lock = tasks.read_mark()
    with lock:
        queue.put(value)


def test_manager_proxies_may_be_arguments_and_results(make_pool):
    pool = make_pool(2)
    with multiprocessing.get_context("fork").Manager() as manager:
        log = manager.list()
        futures = [pool.submit(tasks.identity, log) for _ in range(3)]
        list(pool.map(log.append, range(10)))
        assert sorted(futures[0].result()) == list(range(10))


def test_arguments_that_only_a_fork_may_carry_are_refused_in_a_task(make_pool):
    pool = make_pool(1)
    lock = multiprocessing.get_context("fork").Lock()
    error = pool.submit(tasks.identity, lock).exception()
    assert isinstance(error, RuntimeError) and "inheritance" in str(error)
    assert pool.submit(tasks.square, 3).result() == 9


def test_pickling_is_the_only_way_an_executor_may_not_go(make_pool):
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(make_pool(1))


def test_an_infinite_iterator_in_another_argument_ends_with_the_shortest(make_pool):
    assert list(make_pool(1).map(pow, itertools.count(1), [2, 2, 2])) == [1, 4, 9]
