"""task_timeout and kill(): a running task is stopped, its worker replaced, no other disturbed."""

import concurrent.futures
import os
import signal
from concurrent.futures.process import BrokenProcessPool

import process_tasks as tasks
import pytest

SHORT = 0.1
LONG = 600.0


def gone(pid):
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


# task_timeout


def test_a_task_that_takes_too_long_fails_and_its_worker_is_ended(make_unbreakable, raddle, gate):
    pool = make_unbreakable(1)
    future = pool.options(task_timeout=SHORT).submit(gate)
    (pid,) = gate.wait_started()
    queued = [pool.submit(tasks.pid_and, n) for n in range(20)]
    with pytest.raises(raddle.TaskTimeout):
        future.result()
    assert isinstance(future.exception(), concurrent.futures.TimeoutError)
    assert future.done() and not future.cancelled()
    results = [future.result() for future in queued]
    assert [value for _, value in results] == list(range(20))
    assert pid not in {other for other, _ in results}
    assert gone(pid)


def test_the_message_names_label_limit_and_arguments(make_default, gate):
    view = make_default(1).options(task_timeout=SHORT, label="page 7")
    text = str(view.submit(gate, "some text").exception())
    assert "0.1" in text and "page 7" in text and "some text" in text
    text = str(
        make_default(1).options(task_timeout=SHORT).submit(hang, 7, "x" * 100_000).exception()
    )
    assert "hang(7" in text and len(text) < 2000


def hang(*_values):
    signal.pause()


def test_a_task_in_time_is_not_touched(make_unbreakable):
    view = make_unbreakable(2).options(task_timeout=LONG)
    pids = set(view.map(tasks.pid_of, range(100)))
    assert set(view.map(tasks.pid_of, range(100))) | pids <= pids | {*pids} or len(pids) <= 2


def test_the_time_counts_from_the_start_of_the_task(make_unbreakable, gate):
    pool = make_unbreakable(1)
    (held,) = gate.hold(pool)
    waiting = pool.options(task_timeout=1.0).submit(tasks.square, 3)
    assert concurrent.futures.wait([waiting], timeout=1.5).not_done, "it waits, and that is free"
    gate.open()
    assert waiting.result() == 9
    assert held.result() is None


def test_each_task_of_a_map_has_a_time_of_its_own(make_unbreakable, raddle):
    pool = make_unbreakable(2)
    results = pool.options(task_timeout=2.0).map(tasks.hang_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(raddle.TaskTimeout):
        next(results)
    assert list(pool.map(tasks.square, range(6))) == [n * n for n in range(6)]


def test_a_task_that_overran_is_tried_again(make_unbreakable, tmp_path):
    view = make_unbreakable(1).options(task_timeout=2.0, retries=1)
    assert view.submit(tasks.hang_once, str(tmp_path / "once"), 5).result() == 5


def test_a_timeout_in_a_pool_that_breaks_costs_one_task_only(raddle, pools, gate):
    pool = raddle.ProcessPoolExecutor(1, on_crash="break")
    pools.append(pool)
    assert isinstance(pool.options(task_timeout=SHORT).submit(gate).exception(), raddle.TaskTimeout)
    assert pool.submit(tasks.square, 3).result() == 9


def test_a_task_that_ignores_every_signal_is_ended_too(make_default, raddle):
    pool = make_default(1)
    error = pool.options(task_timeout=0.5).submit(ignore_and_hang).exception()
    assert isinstance(error, raddle.TaskTimeout)
    assert pool.submit(tasks.square, 3).result() == 9


def ignore_and_hang():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


def test_a_stopped_worker_is_ended_by_its_time_limit(make_default, raddle, gate):
    pool = make_default(1)
    future = pool.options(task_timeout=0.5).submit(gate)
    os.kill(gate.wait_started()[0], signal.SIGSTOP)
    assert isinstance(future.exception(), raddle.TaskTimeout)
    assert pool.submit(tasks.square, 3).result() == 9


# views


def test_a_view_is_the_same_pool_with_other_options(make_default):
    pool = make_default(1)
    view = pool.options(label="x", retries=1)
    assert isinstance(view, concurrent.futures.Executor)
    assert list(view.map(tasks.square, range(50))) == [n * n for n in range(50)]
    assert list(view.map(tasks.square, range(50), chunksize=7)) == [n * n for n in range(50)]
    assert view.submit(tasks.pid_of).result() == pool.submit(tasks.pid_of).result()
    with view as entered:
        future = entered.submit(tasks.square, 3)
    assert future.result() == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(tasks.square, 3)


# kill


def test_kill_stops_a_running_task_and_no_other(make_unbreakable, raddle, make_gate):
    pool, stuck, fine = make_unbreakable(2), make_gate(), make_gate()
    victim, held = pool.submit(stuck), pool.submit(fine, 4)
    (pid,), (other,) = stuck.wait_started(), fine.wait_started()
    queued = [pool.submit(tasks.square, n) for n in range(20)]
    assert victim.kill()
    with pytest.raises(raddle.TaskKilled):
        victim.result()
    assert isinstance(victim.exception(), BrokenProcessPool)
    assert [future.result() for future in queued] == [n * n for n in range(20)]
    assert gone(pid) and not gone(other)
    fine.open()
    assert held.result() == 4


def test_kill_of_a_task_that_has_ended_changes_nothing(make_unbreakable):
    pool = make_unbreakable(1)
    future = pool.submit(tasks.pid_of)
    pid = future.result()
    assert not future.kill()
    assert future.result() == pid
    assert pool.submit(tasks.pid_of).result() == pid


def test_kill_of_a_task_that_has_not_begun_ends_it_without_a_worker(make_unbreakable, gate):
    pool = make_unbreakable(1)
    (held,) = gate.hold(pool)
    waiting = pool.submit(tasks.square, 3)
    waiting.kill()
    assert waiting.done() or waiting.cancel()
    gate.open()
    assert held.result() is None


def test_a_killed_task_is_not_tried_again(make_unbreakable, raddle, gate):
    future = make_unbreakable(1).options(retries=5).submit(gate)
    gate.wait_started()
    future.kill()
    assert isinstance(future.exception(), raddle.TaskKilled)
    assert gate.started() == []


def test_kill_of_a_task_of_a_thread_pool_still_raises(raddle, make_raddle, blocker):
    future = make_raddle(1).submit(blocker)
    blocker.wait_started()
    with pytest.raises(RuntimeError):
        future.kill()


# the whole pool

WAYS = ["kill_workers", "terminate_workers"]


@pytest.mark.parametrize("way", WAYS)
def test_all_workers_can_be_ended(make_default, gate, way):
    pool = make_default(2)
    held = [pool.submit(gate) for _ in range(2)]
    queued = [pool.submit(tasks.square, n) for n in range(10)]
    pids = gate.wait_started(2)
    getattr(pool, way)()
    for future in held:
        assert isinstance(future.exception(), BrokenProcessPool)
    for future in queued:
        assert future.cancelled() or isinstance(future.exception(), BrokenProcessPool)
    with pytest.raises(RuntimeError):
        pool.submit(tasks.square, 1)
    pool.shutdown(wait=True)
    assert all(map(gone, pids))


@pytest.mark.parametrize("way", WAYS)
def test_ending_the_workers_of_an_unused_pool_is_no_error(make_default, way):
    pool = make_default(2)
    getattr(pool, way)()
    with pytest.raises(RuntimeError):
        pool.submit(tasks.square, 1)


@pytest.mark.parametrize("way", WAYS)
def test_ending_the_workers_twice_is_no_error(make_default, gate, way):
    pool = make_default(1)
    held = pool.submit(gate)
    gate.wait_started()
    getattr(pool, way)()
    getattr(pool, way)()
    assert isinstance(held.exception(), BrokenProcessPool)


# max_tasks_per_child


@pytest.mark.parametrize("limit", [1, 3])
def test_a_worker_ends_after_its_number_of_tasks(make_default, limit):
    pool = make_default(1, max_tasks_per_child=limit)
    pids = [pool.submit(tasks.pid_of).result() for _ in range(9)]
    for start in range(0, 9, limit):
        assert len(set(pids[start : start + limit])) == 1
    assert len(set(pids)) == 9 // limit


def test_a_map_over_workers_that_end_after_a_few_tasks_loses_nothing(make_default):
    pool = make_default(3, max_tasks_per_child=4)
    results = list(pool.map(tasks.pid_and, range(100)))
    assert [value for _, value in results] == list(range(100))
    pids = [pid for pid, _ in results]
    assert max(pids.count(pid) for pid in pids) <= 4


@pytest.mark.parametrize("wrong, error", [(0, ValueError), (-1, ValueError), ("3", TypeError)])
def test_a_bad_max_tasks_per_child_is_refused(raddle, wrong, error):
    with pytest.raises(error, match="max_tasks_per_child"):
        raddle.ProcessPoolExecutor(1, max_tasks_per_child=wrong)
