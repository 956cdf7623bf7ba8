"""The death of a worker: it costs the task that it ran, and no other."""

import concurrent.futures
import os
import pickle
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

import process_tasks as tasks
import pytest

ENDS = {
    "SIGKILL": (tasks.end_by_signal, signal.SIGKILL),
    "SIGTERM": (tasks.end_by_signal, signal.SIGTERM),
    "SIGABRT": (tasks.end_by_signal, signal.SIGABRT),
    "exit 3": (tasks.end_by_exit, 3),
    "exit 0": (tasks.end_by_exit, 0),
    "fault": (tasks.end_by_fault,),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_worker_that_dies_fails_only_the_task_that_it_ran(make_unbreakable, raddle, end):
    pool = make_unbreakable(2)
    before = [pool.submit(tasks.square, n) for n in range(20)]
    bad = pool.submit(*ENDS[end])
    after = [pool.submit(tasks.square, n) for n in range(200)]
    assert [f.result() for f in before + after] == [n * n for n in [*range(20), *range(200)]]
    error = bad.exception()
    assert type(error) is raddle.WorkerDied
    assert isinstance(error, BrokenProcessPool) and isinstance(error, raddle.RaddleError)
    assert list(pool.map(tasks.square, range(50))) == [n * n for n in range(50)]


def test_worker_died_says_what_died_of_what_while_doing_what(make_default, raddle):
    pool = make_default(2)
    error = pool.submit(tasks.end_by_signal, signal.SIGKILL, "some", ["arguments"]).exception()
    assert isinstance(error.pid, int) and error.pid > 0
    assert isinstance(error.worker, int)
    assert (error.signal, error.exit_code) == ("SIGKILL", None)
    assert isinstance(error.peak_memory, int) and error.peak_memory > 1_000_000
    for said in ("end_by_signal", "'some'", "SIGKILL", str(error.pid)):
        assert said in str(error), str(error)
    error = pool.submit(tasks.end_by_exit, 3).exception()
    assert (error.signal, error.exit_code) == (None, 3)
    assert "end_by_exit(3)" in str(error) and "3" in str(error)


def test_worker_died_shows_the_python_stack_of_a_fault(make_default):
    error = make_default(1).submit(tasks.end_by_fault).exception()
    assert error.signal == "SIGSEGV"
    assert "in end_by_fault" in error.stack
    assert "in end_by_fault" in str(error)


def test_worker_died_names_the_label_of_the_task(make_default):
    view = make_default(1).options(label="page 7")
    assert "page 7" in str(view.submit(tasks.end_by_exit, 3).exception())


def test_a_huge_argument_is_shortened_in_the_message(make_default):
    error = make_default(1).submit(tasks.end_by_exit, 3, "x" * 1_000_000, [0] * 10_000).exception()
    assert "end_by_exit(3" in str(error) and len(str(error)) < 2000


def test_worker_died_can_be_pickled(make_default):
    error = make_default(1).submit(tasks.end_by_exit, 3).exception()
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.exit_code) == (type(error), str(error), 3)


def test_tasks_that_the_dead_worker_had_taken_early_run_once_elsewhere(
    make_unbreakable, gate, tmp_path
):
    pool, trace = make_unbreakable(1), tmp_path / "trace"
    held = pool.submit(gate)
    (pid,) = gate.wait_started()
    queued = [pool.submit(tasks.append_line, str(trace), str(n)) for n in range(100)]
    os.kill(pid, signal.SIGKILL)
    assert isinstance(held.exception(), BrokenProcessPool)
    assert [future.result() for future in queued] == [str(n) for n in range(100)]
    assert sorted(trace.read_text().split(), key=int) == [str(n) for n in range(100)]


def test_an_idle_worker_that_is_killed_is_replaced_and_costs_nothing(make_unbreakable):
    pool = make_unbreakable(1)
    first = pool.submit(tasks.pid_of).result()
    for _ in range(3):
        os.kill(first, signal.SIGKILL)
        second = pool.submit(tasks.pid_of).result()
        assert second != first
        first = second


def test_all_workers_killed_at_once_cost_only_what_they_ran(make_unbreakable, gate):
    pool = make_unbreakable(3)
    held = [pool.submit(gate) for _ in range(3)]
    pids = gate.wait_started(3)
    queued = [pool.submit(tasks.square, n) for n in range(50)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert all(isinstance(future.exception(), BrokenProcessPool) for future in held)
    assert [future.result() for future in queued] == [n * n for n in range(50)]


def test_a_worker_that_dies_while_nobody_waits_is_noticed(make_unbreakable, gate):
    pool, told = make_unbreakable(1), threading.Event()
    held = pool.submit(gate)
    (pid,) = gate.wait_started()
    held.add_done_callback(lambda _future: told.set())
    os.kill(pid, signal.SIGKILL)
    told.wait()
    assert isinstance(held.exception(timeout=0), BrokenProcessPool)


def test_a_stopped_worker_goes_on_when_it_is_continued(make_unbreakable, gate):
    pool = make_unbreakable(1)
    held = pool.submit(gate, 5)
    (pid,) = gate.wait_started()
    os.kill(pid, signal.SIGSTOP)
    gate.open()
    assert concurrent.futures.wait([held], timeout=0.1).not_done
    os.kill(pid, signal.SIGCONT)
    assert held.result() == 5
    assert pool.submit(tasks.pid_of).result() == pid


def test_a_worker_that_dies_in_the_middle_of_a_large_result_fails_its_task(make_unbreakable, gate):
    pool = make_unbreakable(1)
    held = pool.submit(gate, tasks.big(50_000_000))
    (pid,) = gate.wait_started()
    gate.open()
    os.kill(pid, signal.SIGKILL)
    try:
        assert held.result() == tasks.big(50_000_000)
    except BrokenProcessPool:
        pass
    assert pool.submit(tasks.square, 3).result() == 9


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_death_in_a_map_is_raised_in_its_place(make_unbreakable, chunksize):
    pool = make_unbreakable(2)
    results = pool.map(end_at_four, range(8), chunksize=chunksize)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BrokenProcessPool):
        for _ in range(5):
            next(results)
    assert list(pool.map(tasks.square, range(8))) == [n * n for n in range(8)]


def end_at_four(number):
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_every_worker_may_die_again_and_again_in_tasks(make_unbreakable):
    # Deaths at work say nothing against the pool, however many: only those at the start break it.
    pool = make_unbreakable(2)
    bad = [pool.submit(tasks.end_by_exit, 1) for _ in range(30)]
    assert all(isinstance(future.exception(), BrokenProcessPool) for future in bad)
    assert pool.submit(tasks.square, 3).result() == 9


# retries


def test_retries_run_the_task_of_a_dead_worker_again(make_unbreakable, tmp_path):
    pool = make_unbreakable(2).options(retries=2)
    futures = [pool.submit(tasks.end_once, str(tmp_path / str(n)), n) for n in range(6)]
    assert [future.result() for future in futures] == list(range(6))


def test_retries_end_with_the_last_death(make_unbreakable, raddle, tmp_path):
    trace = tmp_path / "trace"
    future = make_unbreakable(1).options(retries=2).submit(trace_and_end, str(trace))
    assert isinstance(future.exception(), raddle.WorkerDied)
    assert trace.read_text().split() == ["try"] * 3


def trace_and_end(path):
    tasks.append_line(path, "try")
    os._exit(1)


def test_retry_on_chooses_whether_a_death_counts(make_unbreakable, raddle, tmp_path):
    pool = make_unbreakable(1).options(retries=2, retry_on=ValueError)
    future = pool.submit(tasks.end_once, str(tmp_path / "once"), 3)
    assert isinstance(future.exception(), raddle.WorkerDied)


def test_retries_of_a_task_that_raises(make_unbreakable, tmp_path):
    future = make_unbreakable(1).options(retries=3).submit(fail_twice, str(tmp_path / "trace"))
    assert future.result() == 3


def fail_twice(path):
    tasks.append_line(path, "try")
    with open(path) as file:
        tries = len(file.readlines())
    if tries < 3:
        raise OSError(tries)
    return tries


# breaking as the standard library does


@pytest.mark.parametrize("kind", ["standard", "raddle-break"])
def test_a_pool_that_breaks_fails_all_its_tasks_and_refuses_more(kind, pools, gate):
    from process_pools import make_process_pool

    pool = make_process_pool(kind, 2)
    pools.append(pool)
    held = [pool.submit(gate) for _ in range(2)]
    queued = [pool.submit(tasks.square, n) for n in range(20)]
    os.kill(gate.wait_started(2)[0], signal.SIGKILL)
    for future in held + queued:
        assert isinstance(future.exception(), BrokenProcessPool)
    with pytest.raises(BrokenProcessPool):
        pool.submit(tasks.square, 1)
    with pytest.raises(BrokenProcessPool):
        list(pool.map(tasks.square, [1]))
    pool.shutdown(wait=True)


def test_on_crash_knows_two_words(raddle):
    for wrong in ("explode", None, 3):
        with pytest.raises((ValueError, TypeError), match="on_crash"):
            raddle.ProcessPoolExecutor(1, on_crash=wrong)


def test_an_idle_worker_that_dies_breaks_a_pool_that_breaks(pools):
    from process_pools import make_process_pool

    pool = make_process_pool("raddle-break", 1)
    pools.append(pool)
    os.kill(pool.submit(tasks.pid_of).result(), signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        while True:
            pool.submit(tasks.square, 1).result()


# death at the start

STARTS = {
    "raises": (tasks.fail_in_set_up, ()),
    "exits": (tasks.do, ("exit",)),
    "ends": (tasks.end_by_exit, (7,)),
    "is killed": (tasks.end_by_signal, (signal.SIGKILL,)),
    "cannot be unpickled": (tasks.use, (tasks.AtUnpickle("error"),)),
    "crashes when unpickled": (tasks.use, (tasks.AtUnpickle("crash"),)),
}


@pytest.mark.parametrize("way", STARTS)
def test_a_worker_that_cannot_start_breaks_the_pool_with_the_reason(make_ours, capfd, request, way):
    initializer, initargs = STARTS[way]
    if initializer is tasks.use and "raddle-fork" in request.node.callspec.id:
        pytest.skip("a forked worker inherits the arguments: nothing is unpickled")
    pool = make_ours(2, initializer=initializer, initargs=initargs)
    try:
        futures = [pool.submit(tasks.square, n) for n in range(10)]
    except BrokenProcessPool:
        futures = []
    errors = [future.exception() for future in futures]
    assert all(isinstance(error, BrokenProcessPool) for error in errors)
    with pytest.raises(BrokenProcessPool) as caught:
        while True:
            pool.submit(tasks.square, 1).result()
    if way == "raises":
        told = f"{caught.value} {caught.value.__cause__} {errors}"
        assert "no licence for this worker" in told
    pool.shutdown(wait=True)


def test_arguments_of_an_initializer_that_cannot_be_pickled_are_inherited(make_default):
    pool = make_default(1, initializer=tasks.set_mark, initargs=(threading.Lock(),))
    assert pool.submit(tasks.has_mark).result()


def test_a_start_that_fails_now_and_then_is_tried_again(make_unbreakable, tmp_path):
    # The first worker works; its replacement dies at its first start and not at its second.
    pool = make_unbreakable(1, initializer=end_at_second, initargs=(str(tmp_path / "starts"),))
    first = pool.submit(tasks.pid_of).result()
    os.kill(first, signal.SIGKILL)
    assert pool.submit(tasks.pid_of).result() != first


def end_at_second(path):
    tasks.append_line(path, "start")
    with open(path) as file:
        if len(file.readlines()) == 2:
            os._exit(1)
