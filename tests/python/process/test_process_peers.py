"""What users of other libraries suffer from, case by case.

Each test is named after the case; the number of its report stands beside it.
"""

import concurrent.futures
import contextvars
import functools
import gc
import itertools
import logging
import os
import signal
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import process_tasks as tasks
import pytest
from process_programs import MarkedProgram, run_python

# hangs and wrong results


def test_workers_that_end_by_their_limit_lose_no_task(make_default):
    # cpython#115634: hangs once every worker has reached max_tasks_per_child
    pool = make_default(2, max_tasks_per_child=1)
    futures = [pool.submit(tasks.square, n) for n in range(40)]
    assert [future.result() for future in futures] == [n * n for n in range(40)]


def test_a_worker_that_ends_by_its_limit_is_replaced_though_tasks_came_before(make_default, gate):
    # cpython#111498: a worker is replaced only when something is submitted
    pool = make_default(1, max_tasks_per_child=2)
    gate.hold(pool)
    futures = [pool.submit(tasks.pid_of) for _ in range(5)]
    gate.open()
    assert len({future.result() for future in futures}) == 3


def test_an_executor_collected_while_a_worker_ends_is_no_hang(raddle):
    # cpython#152967
    for _ in range(5):
        pool = raddle.ProcessPoolExecutor(1, max_tasks_per_child=1)
        futures = [pool.submit(tasks.square, n) for n in range(3)]
        futures[0].result()
        del pool
        gc.collect()
        assert [future.result() for future in futures] == [0, 1, 4]


def test_work_that_cannot_be_pickled_does_not_hang(make_default):
    # cpython#74192, #83285, #116685, pebble#146, multiprocess#19
    pool = make_default(2)
    lock = threading.Lock()
    futures = [pool.submit(tasks.identity, lock) for _ in range(20)]
    good = [pool.submit(tasks.square, n) for n in range(20)]
    assert all(isinstance(future.exception(), TypeError) for future in futures)
    assert [future.result() for future in good] == [n * n for n in range(20)]
    with pytest.raises(TypeError):
        list(pool.map(tasks.identity, [1, lock, 2]))
    pool.shutdown(wait=True)


def test_a_result_that_cannot_be_pickled_does_not_hang(make_default):
    # cpython#74192
    pool = make_default(1)
    assert isinstance(pool.submit(threading.Lock).exception(), TypeError)
    assert pool.submit(tasks.square, 3).result() == 9


def test_exceptions_that_cannot_be_unpickled_do_not_hang(make_default):
    # cpython#103061, #79492
    pool = make_default(2)
    futures = [pool.submit(tasks.raise_needs_two) for _ in range(10)]
    assert all("it is locked" in str(future.exception()) for future in futures)
    assert pool.submit(tasks.square, 3).result() == 9


def test_many_tasks_submitted_at_once_do_not_deadlock(make_default):
    # cpython#105829: submit and the collecting thread wait for each other through a full pipe
    pool = make_default(2)
    futures = [pool.submit(tasks.square, n) for n in range(70_000)]
    assert sum(future.result() for future in futures) == sum(n * n for n in range(70_000))


def test_a_worker_that_dies_on_large_arguments_does_not_deadlock(make_default):
    # cpython#94777: a crash while large data is on its way
    pool, data = make_default(2), "a" * (4 << 20)
    futures = [pool.submit(tasks.end_by_exit, 1, data) for _ in range(10)]
    good = [pool.submit(tasks.length, data) for _ in range(5)]
    assert all(isinstance(future.exception(), BrokenProcessPool) for future in futures)
    assert [future.result() for future in good] == [4 << 20] * 5


def test_an_error_after_shutdown_does_not_hang(make_default):
    # cpython#125451: a task that cannot be pickled, then shutdown without wait
    pool = make_default(2)
    good = pool.submit(tasks.square, 3)
    bad = pool.submit(tasks.identity, tasks.AtPickle("error"))
    worse = pool.submit(tasks.end_by_exit, 3)
    pool.shutdown(wait=False)
    assert isinstance(bad.exception(), ValueError)
    assert isinstance(worse.exception(), BrokenProcessPool)
    assert good.result() == 9


def test_submit_is_not_blocked_by_results_that_are_written(make_default):
    # cpython#78126
    pool = make_default(1)
    futures = [pool.submit(tasks.big, 4_000_000) for _ in range(10)]
    futures += [pool.submit(tasks.length, b"x" * 4_000_000) for _ in range(10)]
    assert [f.result() for f in futures[10:]] == [4_000_000] * 10


def test_a_pool_in_a_program_with_threads_that_hold_locks_does_not_deadlock(make_default):
    # cpython#105464, #90622, #84559, polars#20255: fork with threads
    lock, stop = threading.Lock(), threading.Event()

    def hold():
        while not stop.is_set():
            with lock:
                logging.getLogger("noise").debug("held")

    threads = [threading.Thread(target=hold) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            with make_default(2) as pool:
                assert list(pool.map(log_and_square, range(4))) == [0, 1, 4, 9]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def log_and_square(number):
    logging.getLogger("noise").debug("in a worker")
    return number * number


def test_a_killed_worker_leaves_nothing_stuck(make_default, gate):
    # cpython#96062, joblib#812, pebble#97
    pool = make_default(2)
    held = [pool.submit(gate) for _ in range(2)]
    pids = gate.wait_started(2)
    waiting = pool.map(tasks.square, range(100))
    os.kill(pids[0], signal.SIGKILL)
    gate.open()
    assert sum(isinstance(future.exception(), BrokenProcessPool) for future in held) == 1
    assert list(waiting) == [n * n for n in range(100)]


def test_one_worker_killed_for_its_memory_does_not_poison_later_requests(make_default):
    # BioPack-team/shepherd#119
    pool = make_default(2)
    for _ in range(3):
        assert isinstance(pool.submit(tasks.end_by_signal).exception(), BrokenProcessPool)
        assert list(pool.map(tasks.square, range(20))) == [n * n for n in range(20)]


def test_cancel_that_races_with_the_start_of_a_task_ends_one_way_or_the_other(make_default):
    # pebble#153: never completes
    pool = make_default(2)
    for _ in range(5):
        futures = [pool.submit(tasks.pid_and, n) for n in range(200)]
        cancelled = {n for n in range(199, -1, -1) if futures[n].cancel()}
        assert not concurrent.futures.wait(futures).not_done
        for number, future in enumerate(futures):
            assert future.cancelled() == (number in cancelled)
            assert future.cancelled() or future.result()[1] == number


def test_a_task_that_was_given_up_does_not_run_on(make_default, gate):
    # pebble#129: a timed-out worker ran on at full load for six days
    pool = make_default(1)
    future = pool.options(task_timeout=0.2).submit(gate)
    (pid,) = gate.wait_started()
    assert future.exception() is not None
    pool.submit(tasks.square, 1).result()
    assert not Path(f"/proc/{pid}").exists()


def test_idle_workers_are_found_again_and_again(make_default):
    # cpython#117344: idle-worker races
    pool = make_default(2)
    for number in range(2000):
        assert pool.submit(tasks.square, number).result() == number * number


def test_idle_workers_are_found_after_pauses(make_default):
    # cpython#117344, the other half: everybody is asleep by now
    pool, pause = make_default(2), threading.Event()
    for number in range(30):
        assert pool.submit(tasks.square, number).result() == number * number
        pause.wait(0.01)


def test_one_ctrl_c_is_enough():
    # cpython#111358: needs several presses
    source = """
        def hang(_):
            say("task")
            signal.pause()
        with futures.ProcessPoolExecutor(2) as pool:
            list(pool.map(hang, range(20)))
    """
    with MarkedProgram(source) as program:
        program.expect("task")
        program.expect("task")
        program.press_ctrl_c()
        assert program.wait() != 0
        program.wait_nothing_left()
    assert program.errors.count("Traceback (most recent call last):") == 1, program.errors
    assert program.errors[-1].startswith("KeyboardInterrupt")


# overhead: what it must not do; speed is measured in benchmarks


def test_workers_do_not_run_the_main_module_again(tmp_path):
    # cpython#137996: every child of the forkserver ran main again
    script = tmp_path / "script.py"
    script.write_text(
        "print('main runs', flush=True)\nimport raddle\n"
        "with raddle.ProcessPoolExecutor(4) as pool:\n"
        "    print(sum(pool.map(abs, range(100))))\n"
    )
    assert run_python(str(script)) == ["main runs", "4950"]


def test_workers_load_no_more_than_they_need():
    # Opentrons#14465: 1.5 s a worker
    names = "'asyncio', 'logging', 'multiprocessing', 'numpy', 'typing'"
    look = f"sorted({{{names}}} & set(__import__('sys').modules))"
    source = f"""
import raddle
with raddle.ProcessPoolExecutor(1) as pool:
    print(pool.submit(abs, 1).result(), pool.submit(eval, "{look}").result())
"""
    assert run_python("-c", source) == ["1 []"]


# memory


def test_a_map_with_a_buffer_does_not_eat_its_input(make_default):
    # cpython#74028, #74508: an infinite generator never returns
    pool, drawn = make_default(2), itertools.count()
    results = pool.map(tasks.square, drawn, buffersize=10)
    assert [next(results) for _ in range(100)] == [n * n for n in range(100)]
    assert next(drawn) <= 120


class Payload(list):
    """Can be referred to weakly."""


def wait_gone(reference):
    pause = threading.Event()
    while reference() is not None:
        gc.collect()
        pause.wait(0.005)


def test_arguments_and_futures_are_let_go_of_in_the_program(make_default):
    # cpython#90943, #98467: kept until the next task, or for ever
    pool, payload = make_default(1), Payload([1])
    reference = weakref.ref(payload)
    future = pool.submit(tasks.length, payload)
    del payload
    assert future.result() == 1
    wait_gone(reference)
    reference = weakref.ref(future)
    del future
    wait_gone(reference)


def test_arguments_of_a_map_are_let_go_of_as_it_goes(make_default):
    # joblib#869, #883
    pool, references = make_default(2), []

    def draw():
        for number in range(20):
            payload = Payload([number])
            references.append(weakref.ref(payload))
            yield payload

    results = pool.map(tasks.length, draw())
    assert list(results) == [1] * 20
    del results
    for reference in references:
        wait_gone(reference)


def test_results_are_let_go_of_as_they_are_taken(make_default):
    # cpython#79896
    for result in make_default(2).map(Payload, [[n] for n in range(20)]):
        reference = weakref.ref(result)
        del result
        wait_gone(reference)


@pytest.mark.parametrize("function", [tasks.use, tasks.fail_with])
def test_a_worker_lets_go_of_arguments_when_the_task_is_done(make_default, tmp_path, function):
    # cpython#98467, #79896: an idle worker keeps its last task
    path = tmp_path / "gone"
    os.mkfifo(path)
    with open(os.open(path, os.O_RDWR), "rb", buffering=0) as gone:
        pool, tied = make_default(1), tasks.Tied(str(path))
        pid = pool.submit(tasks.pid_of).result()
        future = pool.submit(function, tied, [tied])
        future.exception()
        assert int(gone.readline()) == pid
        tied.path = os.devnull


def test_a_worker_lets_go_of_its_result(make_default, tmp_path):
    path = tmp_path / "gone"
    os.mkfifo(path)
    with open(os.open(path, os.O_RDWR), "rb", buffering=0) as gone:
        future = make_default(1).submit(tasks.Tied, str(path))
        assert int(gone.readline()) != os.getpid()
        result = future.result()
        result.path = os.devnull


def test_nothing_is_reported_as_leaked_at_the_end():
    # cpython#82300, #116849: shared memory destroyed, or falsely reported
    source = (
        "import raddle\nwith raddle.ProcessPoolExecutor(2) as pool:\n"
        "    print(len(pool.submit(bytes, 3_000_000).result()))\n"
    )
    assert run_python("-X", "dev", "-W", "error", "-c", source) == ["3000000"]


def test_shared_memory_of_the_standard_library_survives_a_worker(make_default):
    # cpython#82300: a worker's resource tracker destroys what others still use
    from multiprocessing import shared_memory

    segment = shared_memory.SharedMemory(create=True, size=100)
    try:
        with make_default(1) as pool:
            assert pool.submit(write_segment, segment.name).result() is None
        assert bytes(segment.buf[:3]) == b"abc"
        again = shared_memory.SharedMemory(name=segment.name)
        again.close()
    finally:
        segment.close()
        segment.unlink()


def write_segment(name):
    from multiprocessing import resource_tracker, shared_memory

    segment = shared_memory.SharedMemory(name=name)
    segment.buf[:3] = b"abc"
    segment.close()
    resource_tracker.unregister(segment._name, "shared_memory")


def test_large_data_is_never_torn(make_default):
    # joblib#451: a corrupted frame
    pool = make_default(2)
    pieces = [os.urandom(1) * size for size in (10, 70_000, 1_000_000, 3) for _ in range(10)]
    assert list(pool.map(tasks.identity, pieces)) == pieces


# serialization


def test_a_function_of_main_is_no_attribute_error():
    # ipython#10894, jupyter/notebook#5951: Can't get attribute ... on __main__
    source = (
        "import raddle\ndef double(x):\n    return more(x) * 2\ndef more(x):\n    return x + 1\n"
        "with raddle.ProcessPoolExecutor(1) as pool:\n    print(pool.submit(double, 3).result())\n"
    )
    assert run_python("-c", source) == ["8"]


def test_a_function_that_uses_packages_sends_their_names_only(make_default):
    # cloudpickle#576: slow pickling of functions that use packages
    import json

    assert make_default(1).submit(lambda: json.dumps([1])).result() == "[1]"
    assert make_default(1).submit(lambda: logging.getLevelName(20)).result() == "INFO"


# use


def test_one_stuck_task_loses_no_good_one(make_default, gate):
    # joblib#1221, #522, #1551: 139,999 of 140,000 lost
    pool = make_default(2)
    stuck = pool.submit(gate)
    good = [pool.submit(tasks.square, n) for n in range(500)]
    assert [future.result() for future in good] == [n * n for n in range(500)]
    assert stuck.kill()
    assert stuck.exception() is not None


def test_killing_one_task_keeps_the_pool(make_default, gate):
    # cpython#128041: killing means the whole pool
    pool = make_default(1)
    stuck = pool.submit(gate)
    gate.wait_started()
    queued = pool.submit(tasks.square, 3)
    stuck.kill()
    assert queued.result() == 9


def test_the_number_of_workers_respects_the_affinity():
    # loky#634, #478
    source = (
        "import os, raddle\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(raddle.cpu_count(), raddle.ProcessPoolExecutor()._max_workers)"
    )
    assert run_python("-c", source) == ["1 1"]


LEVEL = contextvars.ContextVar("LEVEL", default="none")
OTHER = contextvars.ContextVar("OTHER", default="none")


def read_level(_value=None):
    return LEVEL.get(), OTHER.get()


def test_context_variables_that_are_asked_for_arrive(make_default):
    # cpython#78195, disruption-py#546: results silently became NaN
    pool = make_default(1, inherit_context=[LEVEL])
    token, other = LEVEL.set("high"), OTHER.set("set too")
    try:
        assert pool.submit(read_level).result() == ("high", "none")
        assert list(pool.map(read_level, range(2))) == [("high", "none")] * 2
        LEVEL.set("higher")
        assert pool.submit(read_level).result() == ("higher", "none")
    finally:
        LEVEL.reset(token)
        OTHER.reset(other)
    assert pool.submit(read_level).result() == ("none", "none")


def test_context_variables_stay_at_home_by_default(make_default):
    token = LEVEL.set("high")
    try:
        assert make_default(1).submit(read_level).result() == ("none", "none")
    finally:
        LEVEL.reset(token)


def test_a_task_that_waits_for_one_submitted_after_it_ends_when_a_worker_is_free(
    make_default, make_gate
):
    # nothing waits behind a running task while a worker is idle
    pool, first, second = make_default(2), make_gate(), make_gate()
    for number in range(50):
        pool.submit(tasks.square, number).result()
    held = pool.submit(first, 1)
    later = [pool.submit(tasks.square, n) for n in range(20)]
    assert [future.result() for future in later] == [n * n for n in range(20)]
    last = pool.submit(second, 2)
    second.wait_started()
    first.open()
    second.open()
    assert (held.result(), last.result()) == (1, 2)


def test_tasks_taken_early_by_a_worker_that_got_stuck_run_on_another(make_default, gate):
    pool = make_default(2)
    for _ in range(3):
        list(pool.map(tasks.square, range(3000)))
    results = pool.map(functools.partial(stop_at, 40, gate), range(400))
    assert [next(results) for _ in range(40)] == list(range(40))
    gate.wait_started()
    others = [pool.submit(tasks.square, n) for n in range(100)]
    assert [future.result() for future in others] == [n * n for n in range(100)]
    gate.open()
    assert list(results) == list(range(40, 400))


def stop_at(place, gate, number):
    return gate(number) if number == place else number


def test_idle_workers_cost_no_processor(make_default):
    pool, pause = make_default(2), threading.Event()
    pids = set(pool.map(tasks.pid_of, range(100)))
    pause.wait(0.3)

    def used():
        total = time.process_time()
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    before = used()
    pause.wait(1.0)
    assert used() - before < 0.5, "of 3 processor seconds that spinning would take"


def test_a_task_behind_one_that_takes_long_after_all_is_run_elsewhere(make_default, make_gate):
    # quick tasks lie with one worker, so that another need not be woken for them: that one of them
    # takes long nobody knows before
    pool = make_default(2)
    for _ in range(20):
        concurrent.futures.wait([pool.submit(tasks.square, n) for n in range(500)])
        gate = make_gate()
        held = pool.submit(gate, "held")
        later = [pool.submit(tasks.square, n) for n in range(10)]
        assert [future.result() for future in later] == [n * n for n in range(10)]
        assert not held.done()
        gate.open()
        assert held.result() == "held"
