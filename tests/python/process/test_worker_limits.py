"""Limits of workers: memory, idle time, and one budget of cores."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from concurrent.futures.process import BrokenProcessPool

import limit_tasks
import process_tasks as tasks
import pytest
from process_programs import run_python

MB = 1 << 20
FORK = multiprocessing.get_context("fork")


# memory


@pytest.fixture
def make_limited(pools, raddle):
    """Makes pools with a limit, by each way to start a worker that shares memory with others."""

    def make(*args, **kwargs):
        pools.append(raddle.ProcessPoolExecutor(*args, **kwargs))
        return pools[-1]

    return make


@pytest.mark.parametrize("context", [None, FORK])
def test_a_task_beyond_the_limit_fails_and_the_pool_goes_on(make_limited, raddle, context):
    # What a fork of this process comes to hold for itself is at most what this process holds.
    limit = 150 + (0 if context is None else limit_tasks.resident() // MB + 1)
    pool = make_limited(2, context, memory_limit=f"{limit} MB")
    others = [pool.submit(tasks.square, number) for number in range(100)]
    size = (limit + 250) * MB
    error = pool.submit(limit_tasks.hold, size).exception()
    assert type(error) is raddle.MemoryLimit
    assert isinstance(error, (raddle.WorkerDied)) and isinstance(error, MemoryError)
    assert isinstance(error, BrokenProcessPool)
    assert (error.limit, error.signal) == (limit * MB, "SIGKILL")
    assert error.peak_memory > error.limit
    for said in (f"hold({size})", f"{limit}.0 MB", str(error.pid)):
        assert said in str(error)
    assert [future.result() for future in others] == [n * n for n in range(100)]
    assert pool.submit(limit_tasks.hold_a_while, 20 * MB).result() == 20 * MB


def test_the_error_can_be_sent(raddle):
    error = raddle.MemoryLimit("load()", 1, 41, 5, 6)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.limit, again.peak_memory) == (str(error), 5, 6)


def test_a_task_beyond_the_limit_may_be_tried_again(make_limited, raddle):
    pool = make_limited(1, memory_limit=100 * MB, retries=1, label="large")
    error = pool.submit(limit_tasks.hold, 300 * MB).exception()
    assert type(error) is raddle.MemoryLimit and "'large'" in str(error).replace('"', "'")
    assert pool.statistics().retried == 1


def test_memory_that_is_shared_does_not_count():
    # In a program that holds little else.
    program = """
        import multiprocessing
        import sys
        sys.path.insert(0, sys.argv[1])
        import limit_tasks
        import raddle
        MB = 1 << 20
        ballast = bytearray(120 * MB)
        fork = multiprocessing.get_context("fork")
        with raddle.ProcessPoolExecutor(1, fork, memory_limit=100 * MB) as pool:
            # Of the program, which the worker was forked from, and of a shared mapping.
            print(pool.submit(limit_tasks.hold_a_while, MB).result() // MB)
            print(pool.submit(limit_tasks.map_shared, 120 * MB).result() // MB)
    """
    lines = run_python("-c", textwrap.dedent(program), os.path.dirname(limit_tasks.__file__))
    assert lines == ["1", "120"]


def test_a_worker_that_cannot_become_ready_within_the_limit_breaks_the_pool(make_limited):
    pool = make_limited(1, memory_limit=60 * MB, initializer=limit_tasks.hold, initargs=(300 * MB,))
    assert isinstance(pool.submit(abs, 1).exception(), BrokenProcessPool)


@pytest.mark.parametrize("limit", [0, -1, "0 MB", "two", "2 XB", "-1 GB"])
def test_a_limit_that_is_none_is_refused(raddle, limit):
    with pytest.raises(ValueError, match="memory_limit"):
        raddle.ProcessPoolExecutor(1, memory_limit=limit)


@pytest.mark.parametrize("limit", [1.5, b"2 GB", True])
def test_a_limit_of_another_type_is_refused(raddle, limit):
    with pytest.raises(TypeError, match="memory_limit"):
        raddle.ProcessPoolExecutor(1, memory_limit=limit)


# idle time


def wait_until(reached):
    """Look until it is so; the watchdog of the run sees to it that this ends."""
    while not reached():
        time.sleep(0.005)


def test_idle_workers_end_and_come_back(make_ours):
    pool = make_ours(2, idle_timeout=0.05)
    before = {pool.submit(os.getpid).result()}
    wait_until(lambda: pool.statistics().workers == 0)
    after = {pool.submit(os.getpid).result()}
    assert after.isdisjoint(before)
    assert pool.statistics().abandoned == 0
    assert list(pool.map(tasks.square, range(100))) == [n * n for n in range(100)]
    wait_until(lambda: pool.statistics().workers == 0)


def test_a_worker_that_works_is_not_idle(make_default, gate):
    pool = make_default(2, idle_timeout=0.02)
    running = pool.submit(gate)
    (pid,) = gate.wait_started()
    pool.submit(abs, 1).result()
    wait_until(lambda: pool.statistics().workers == 1)
    assert set(pool._processes) == {pid}
    gate.open()
    running.result()


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_an_idle_timeout_that_is_none_is_refused(raddle, value, error):
    with pytest.raises(error, match="idle_timeout"):
        raddle.ProcessPoolExecutor(1, idle_timeout=value)


def test_pools_one_after_the_other_have_one_template(raddle):
    templates = set()
    for _ in range(3):
        with raddle.ProcessPoolExecutor(1) as pool:
            templates.add(pool.submit(os.getppid).result())
    assert len(templates) == 1 and templates != {os.getpid()}


def test_a_template_that_was_killed_between_pools_is_replaced(raddle):
    with raddle.ProcessPoolExecutor(1) as pool:
        template = pool.submit(os.getppid).result()
    os.kill(template, signal.SIGKILL)
    with raddle.ProcessPoolExecutor(1) as pool:
        assert pool.submit(os.getppid).result() != template


def parents(*pools):
    """Return whose children the workers are that run a task of each pool; None: one has died."""
    futures = [pool.submit(os.getppid) for pool in pools]
    return {None if future.exception() else future.result() for future in futures}


def test_all_pools_of_a_template_that_was_killed_go_on(raddle):
    with raddle.ProcessPoolExecutor(2) as one, raddle.ProcessPoolExecutor(2) as other:
        (template,) = parents(one, other)
        old = {*one._processes, *other._processes}
        os.kill(template, signal.SIGKILL)
        # Its workers die with it, each in its own time, and what they run with them.
        wait_until(lambda: parents(one, other).isdisjoint({None, 1, template}))
        wait_until(lambda: old.isdisjoint({*one._processes, *other._processes}))
        assert len(parents(one, other)) == 1
        assert [list(pool.map(abs, range(-50, 0))) for pool in (one, other)] == [
            list(range(50, 0, -1))
        ] * 2


def test_a_template_lets_go_of_the_streams_of_the_program():
    program = """
        import os, sys
        import raddle
        with raddle.ProcessPoolExecutor(1) as pool:
            print(pool.submit(abs, -1).result(), flush=True)
        for descriptor in (1, 2):
            os.close(descriptor)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        # All of it, though the program is still there.
        assert running.stdout.read() == b"1\n"
        assert running.poll() is None
        running.stdin.close()
        assert running.wait() in (0, 120)


# cores


@pytest.fixture
def four_cores(monkeypatch):
    """As on a machine with four cores, where the user has set nothing."""
    monkeypatch.setattr("raddle._cores.cpu_count", lambda: 4)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["template", "fork", "spawn", "forkserver"])
def make_any_way(request, pools, raddle):
    """Makes pools of raddle by each way to start a worker."""
    way = request.param
    context = None if way == "template" else multiprocessing.get_context(way)

    def make(*args, **kwargs):
        pools.append(raddle.ProcessPoolExecutor(*args, mp_context=context, **kwargs))
        return pools[-1]

    return make


def test_a_worker_has_its_share_of_the_cores(make_any_way, four_cores):
    allowed = len(os.sched_getaffinity(0))
    for workers, share in ((1, 4), (2, 2), (4, 1), (9, 1)):
        pool = make_any_way(workers)
        seen = pool.submit(limit_tasks.share).result()
        assert seen[1:] == (str(share), allowed)
        assert pool.statistics().threads_per_core == max(1, workers / 4)


def test_what_the_user_has_set_stays(make_default, raddle, four_cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    lets = "OMP_NUM_THREADS=3 lets each of 2 workers"
    with pytest.warns(raddle.OversubscriptionWarning, match=lets):
        pool = make_default(2)
    assert pool.submit(limit_tasks.share).result()[1] == "3"
    assert pool.statistics().threads_per_core == 1.5
    # One of them may have as many.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_default(1).statistics().threads_per_core == 1


def test_a_pool_made_in_a_worker_has_as_many_workers_as_its_share(make_default):
    share = make_default(1).submit(limit_tasks.share).result()[0]
    # Threads as the standard library has them.
    threads = min(32, share + 4)
    assert make_default(1).submit(limit_tasks.default_workers).result() == (share, threads)
    half = make_default(max(2, share)).submit(limit_tasks.default_workers).result()
    assert half == (1, 5)


def test_a_share_is_one_of_what_the_user_has_said(monkeypatch, raddle):
    # On interpreters that know the setting.
    monkeypatch.setattr("raddle._cores._override", lambda: 8)
    monkeypatch.delenv("RADDLE_CORES", raising=False)
    assert raddle.cpu_count() == 8
    monkeypatch.setenv("RADDLE_CORES", "3")
    assert raddle.cpu_count() == 3
    monkeypatch.setenv("RADDLE_CORES", "9")
    assert raddle.cpu_count() == 8


def test_a_nested_pool_of_more_is_warned_of(make_default, raddle):
    with pytest.warns(raddle.OversubscriptionWarning, match="made in a worker process whose share"):
        make_default(2).submit(limit_tasks.nest_too_many).result()


def test_nested_pools_end(make_default):
    pool = make_default(2)
    futures = [pool.submit(limit_tasks.nest, 2, 200) for _ in range(4)]
    assert [future.result() for future in futures] == [list(range(200, 0, -1))] * 4


def test_the_template_of_a_worker_is_forked_and_ends_with_it(make_default):
    outer, inner = make_default(1).submit(limit_tasks.template_of_own).result()
    assert inner != outer
    # It is a fork of the other, not a new interpreter.
    with open(f"/proc/{outer}/cmdline") as file:
        command = file.read()
    kept = make_default(1)
    inner, told = kept.submit(limit_tasks.keep_a_pool).result()
    assert told == command
    os.kill(kept.submit(os.getpid).result(), signal.SIGKILL)
    wait_until(lambda: not is_alive(inner))


def is_alive(pid):
    """Whether a process runs: one that waits to be waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_blas_computes_with_the_share(make_any_way, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    # Loaded before a fork too, with as many threads as there are cores.
    assert limit_tasks.blas_threads(), "numpy has a library with threads"
    pool = make_any_way(len(os.sched_getaffinity(0)))
    seen = list(pool.map(limit_tasks.blas_threads, range(4)))
    # A process may have further libraries than another, by what it has loaded besides.
    assert all(seen) and {number for each in seen for number in each} == {1}


def test_pinned_workers_run_on_cores_of_their_own(make_any_way, raddle):
    allowed = sorted(os.sched_getaffinity(0))
    pool = make_any_way(len(allowed), pin=True)
    futures = [pool.submit(limit_tasks.cores) for _ in range(50)]
    seen = {tuple(future.result()) for future in futures}
    assert seen <= {(core,) for core in allowed}
    # As many as may be kept busy: a quota may leave fewer than there are.
    alone = make_any_way(1, pin=True).submit(limit_tasks.cores).result()
    assert len(alone) == min(raddle.cpu_count(), len(allowed))
    assert set(alone) <= set(allowed)
