"""Cases that break pools of processes: user code in odd places, systems at their limits, rubbish.

Most run in programs of their own, because they do things to a process that a test run must not
suffer from.
"""

import asyncio
import concurrent.futures
import gc
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool
from typing import ClassVar

import process_tasks as tasks
import pytest
from process_programs import MarkedProgram


def run_clean(source):
    """Run a program; it must leave with 0, write no errors and leave no process."""
    with MarkedProgram(source) as program:
        code = program.wait()
        program.wait_nothing_left()
    assert (code, program.errors) == (0, []), program.output + program.errors
    return program.output


# user code in odd places


class Reenters:
    """Uses a pool while it is pickled or unpickled in this process."""

    pool = None
    seen: ClassVar[list] = []

    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        if self.pool is not None:
            self.seen.append(self.pool.submit(tasks.square, self.value).result())
        return self.value

    def __setstate__(self, value):
        self.value = value
        if self.pool is not None:
            self.seen.append(self.pool.submit(tasks.square, value).result())


@pytest.fixture
def reenters(make_default):
    Reenters.pool, Reenters.seen = make_default(2), []
    yield Reenters
    Reenters.pool = None


def test_pickling_may_use_the_pool_that_it_is_for(reenters):
    pool = reenters.pool
    assert pool.submit(tasks.use, reenters(3)).result() is None
    assert list(pool.map(tasks.use, [reenters(4), reenters(5)])) == [None, None]
    assert reenters.seen == [9, 16, 25]


def test_unpickling_a_result_may_use_the_pool_that_made_it(reenters):
    future = reenters.pool.submit(tasks.make, Reenters, 4)
    assert future.result().value == 4
    results = reenters.pool.map(tasks.make, [Reenters] * 2, [5, 6])
    assert [result.value for result in results] == [5, 6]
    assert reenters.seen == [16, 25, 36]


def test_pickling_may_shut_the_pool_down(make_default):
    pool = make_default(1)

    class Ends:
        def __reduce__(self):
            pool.shutdown(wait=False)
            return int, ()

    first = pool.submit(tasks.square, 3)
    try:
        second = pool.submit(tasks.identity, Ends())
        assert second.exception() is not None or second.result() == 0
    except RuntimeError as error:
        assert "shutdown" in str(error)
    assert first.result() == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(tasks.square, 1)


def test_a_finalizer_may_submit_at_any_moment(make_default):
    pool, later = make_default(2), []

    class Submits:
        def __init__(self):
            self.cycle = self

        def __del__(self):
            later.append(pool.submit(tasks.square, 5))

    threshold = gc.get_threshold()
    gc.set_threshold(10)
    try:
        for number in range(300):
            Submits()
            assert pool.submit(tasks.square, number).result() == number * number
    finally:
        gc.set_threshold(*threshold)
        gc.collect()
    assert later and [future.result() for future in later] == [25] * len(later)


def test_a_signal_handler_may_submit_at_any_moment():
    output = run_clean("""
        later = []
        pool = futures.ProcessPoolExecutor(2)
        def handle(*_):
            later.append(pool.submit(tasks.square, 5))
            later[0].done()
        signal.signal(signal.SIGALRM, handle)
        pool.submit(tasks.square, 1).result()
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for number in range(1000):
            assert pool.submit(tasks.square, number).result() == number * number
        while not later:
            pass
        assert list(pool.map(tasks.square, range(3000))) == [n * n for n in range(3000)]
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert {future.result() for future in later} == {25}
        pool.shutdown()
        say("done")
    """)
    assert output == ["done"]


def test_a_signal_handler_that_raises_leaves_a_wait_and_the_pool_whole():
    output = run_clean("""
        class Alarm(Exception): pass
        def handle(*_):
            raise Alarm
        signal.signal(signal.SIGALRM, handle)
        pool = futures.ProcessPoolExecutor(2)
        reader, writer = os.pipe()
        held = pool.submit(tasks.read_all, f"/proc/{os.getpid()}/fd/{reader}")
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            try:
                held.result()
            except Alarm:
                pass
        for number in range(100):
            assert pool.submit(tasks.square, number).result() == number * number
        os.close(writer)
        assert held.result() == ""
        say("done")
    """)
    assert output == ["done"]


def test_a_callback_that_raises_is_told_and_costs_nothing(make_default, caplog):
    pool, told = make_default(1), threading.Event()

    def callback(_future):
        told.set()
        raise ValueError("a bad callback")

    future = pool.submit(tasks.square, 3)
    future.add_done_callback(callback)
    told.wait()
    assert future.result() == 9
    assert pool.submit(tasks.square, 4).result() == 16


def test_callables_that_cannot_be_hashed_or_compared_run(make_default):
    pool = make_default(1)
    assert pool.submit(Unhashable([1, 2])).result() == 2
    assert list(pool.map(Unhashable([1, 2]), [1, 2])) == [2, 2]


class Unhashable(list):
    def __call__(self, *_values):
        return len(self)

    def __eq__(self, other):
        raise RuntimeError("compared")

    __hash__ = None


def test_a_function_freed_and_another_made_in_its_place_are_not_confused(make_default):
    pool = make_default(1)
    for number in range(200):
        function = eval(f"lambda value: value + {number}")
        assert pool.submit(function, 1).result() == 1 + number
        del function


def test_modules_that_come_and_go_do_not_confuse_functions(make_default, tmp_path, monkeypatch):
    import importlib
    import sys

    monkeypatch.syspath_prepend(tmp_path)
    pool = make_default(1)
    for number in range(5):
        (tmp_path / f"late_{number}.py").write_text(
            f"def call(value):\n    return value + {number}"
        )
        importlib.invalidate_caches()
        module = importlib.import_module(f"late_{number}")
        future = pool.submit(module.call, 1)
        # A module that the worker cannot find is an error of that task, not a wrong result.
        assert isinstance(future.exception(), BrokenProcessPool) or future.result() == 1 + number
        del sys.modules[f"late_{number}"], module
        gc.collect()


def nest(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_too_deeply_is_an_error_of_its_future(make_default):
    pool = make_default(1)
    assert isinstance(pool.submit(tasks.use, nest(100_000)).exception(), RecursionError)
    assert isinstance(pool.submit(nest, 100_000).exception(), (RecursionError, MemoryError))
    assert pool.submit(tasks.square, 3).result() == 9


# tasks that do odd things


def fork_and_return():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return "child" if not child else "worker"


def fork_and_raise():
    child = os.fork()
    if not child:
        raise SystemExit(3)
    return os.waitpid(child, 0)[1]


def test_a_task_that_forks_and_returns_twice_gives_one_result(make_default):
    pool = make_default(1)
    for _ in range(5):
        assert pool.submit(fork_and_return).result() == "worker"
        assert isinstance(pool.submit(fork_and_raise).result(), int)
        assert [pool.submit(tasks.square, n).result() for n in range(5)] == [0, 1, 4, 9, 16]


def use_multiprocessing(number):
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(tasks.square, range(number))


def use_subprocess(text):
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", f"print({text!r})"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def use_threads(number):
    from concurrent.futures import ThreadPoolExecutor

    import raddle

    with raddle.ThreadPoolExecutor(2) as ours, ThreadPoolExecutor(2) as theirs:
        return list(ours.map(tasks.square, range(number))) + list(
            theirs.map(tasks.square, range(number))
        )


def use_asyncio(number):
    async def run():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(None, tasks.square, n) for n in range(number))
        )

    return asyncio.run(run())


def use_signals():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    signal.pause()
    return threading.current_thread() is threading.main_thread()


def test_tasks_may_use_processes_threads_signals_and_loops_of_their_own(make_unbreakable):
    pool = make_unbreakable(2)
    futures = [pool.submit(use_multiprocessing, 4), pool.submit(use_subprocess, "hello")]
    assert futures[0].result() == [0, 1, 4, 9]
    assert futures[1].result() == "hello"
    assert pool.submit(use_threads, 3).result() == [0, 1, 4] * 2
    assert pool.submit(use_asyncio, 3).result() == [0, 1, 4]
    assert pool.submit(use_signals).result(), "tasks run on the main thread"


def close_everything():
    os.closerange(0, 4096)
    return "closed"


def test_a_task_that_closes_every_descriptor_ends_one_way_or_the_other(make_default):
    pool = make_default(1)
    future = pool.submit(close_everything)
    assert future.exception() is not None or future.result() == "closed"
    assert list(pool.map(tasks.square, range(5))) == [0, 1, 4, 9, 16]


def replace_streams():
    import io
    import sys

    sys.stdout = sys.stderr = io.StringIO()
    sys.argv[:] = []
    os.environ.clear()
    os.chdir("/")
    sys.setrecursionlimit(80)
    return "replaced"


def test_a_task_that_changes_its_process_changes_no_other(make_default):
    pool = make_default(1)
    before = os.getcwd(), len(os.environ)
    assert pool.submit(replace_streams).result() == "replaced"
    assert pool.submit(tasks.square, 3).result() == 9
    assert (os.getcwd(), len(os.environ)) == before


def test_a_worker_in_a_session_of_its_own_ends_with_the_program():
    source = """
        pool = futures.ProcessPoolExecutor(1)
        pool.submit(os.setsid).result()
        pool.submit(tasks.announce_and_hang, 0)
        signal.pause()
    """
    with MarkedProgram(source) as program:
        program.expect("task 0")
        program.kill()
        program.wait_nothing_left()


SCRIBBLED = """
    for seed in range(3):
        pool = futures.ProcessPoolExecutor(2, on_crash="{on_crash}")
        assert pool.submit(tasks.square, 3).result() == 9
        waiting = [pool.submit(tasks.square, n) for n in range(20)]
        bad = pool.submit(tasks.scribble, seed)
        more = [pool.submit(tasks.square, n) for n in range(200)]
        for future in [*waiting, bad, *more]:
            future.exception()
        pool.kill_workers()
        pool.shutdown(wait=True)
        say("shut down")
"""


@pytest.mark.parametrize("on_crash", ["isolate", "break"])
def test_rubbish_in_shared_memory_does_not_bring_the_program_down(on_crash):
    with MarkedProgram(SCRIBBLED.format(on_crash=on_crash)) as program:
        assert program.wait() == 0, program.errors
        program.wait_nothing_left()
        assert program.output == ["shut down"] * 3


# systems at their limits


def test_too_few_descriptors_are_told_and_leave_the_pool_usable_later():
    output = run_clean("""
        import resource
        pool = futures.ProcessPoolExecutor(2)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        try:
            pool.submit(tasks.square, 3).result()
        except Exception as error:
            say(isinstance(error, (OSError, futures.BrokenExecutor, RuntimeError)))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        with futures.ProcessPoolExecutor(2) as pool:
            say(pool.submit(tasks.square, 3).result())
    """)
    assert output == ["True", "9"]


def test_a_program_that_ignores_the_end_of_children_is_no_hang():
    output = run_clean("""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        pool = futures.ProcessPoolExecutor(2)
        say(list(pool.map(tasks.square, range(5))))
        say(type(pool.submit(tasks.end_by_exit, 3).exception()).__name__)
        say(pool.submit(tasks.square, 3).result())
        pool.shutdown()
    """)
    assert output == ["[0, 1, 4, 9, 16]", "WorkerDied", "9"]


def test_a_program_that_waits_for_all_children_takes_none_away():
    output = run_clean("""
        def take(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
        signal.signal(signal.SIGCHLD, take)
        for way in ({}, {"mp_context": __import__("multiprocessing").get_context("fork")}):
            pool = futures.ProcessPoolExecutor(2, **way)
            say(list(pool.map(tasks.square, range(5))))
            say(type(pool.submit(tasks.end_by_exit, 3).exception()).__name__)
            say(pool.submit(tasks.square, 3).result())
            pool.shutdown()
    """)
    assert output == ["[0, 1, 4, 9, 16]", "WorkerDied", "9"] * 2


def test_many_workers_meet(make_default, make_gate):
    pool, gate = make_default(40), make_gate()
    held = [pool.submit(gate, n) for n in range(40)]
    assert len(set(gate.wait_started(40))) == 40
    gate.open()
    assert [future.result() for future in held] == list(range(40))


# who waits


def test_waits_with_and_without_limits_in_many_threads_all_end(make_default, gate):
    # One waiter drains for all; when it leaves, another has to take over.
    pool, results = make_default(2), []

    def impatient():
        while not held.done():
            concurrent.futures.wait([held], timeout=0.001)
        results.append("held")

    def patient(number):
        for n in range(200):
            assert pool.submit(tasks.square, n).result() == n * n
        results.append(number)

    held = pool.submit(gate)
    threads = [threading.Thread(target=impatient) for _ in range(2)]
    threads += [threading.Thread(target=patient, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads[2:]:
        thread.join()
    gate.open()
    for thread in threads:
        thread.join()
    assert len(results) == 5


def test_one_future_may_be_awaited_by_many_threads(make_default, gate):
    pool, results = make_default(1), []
    held = pool.submit(gate, [1])
    threads = [threading.Thread(target=lambda: results.append(held.result())) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    assert len({id(result) for result in results}) == 1


def test_a_short_wait_gives_up_while_a_task_runs(make_pool, gate):
    (held,) = gate.hold(make_pool(1))
    for timeout in (0, 0.001, 0.05):
        with pytest.raises(concurrent.futures.TimeoutError):
            held.result(timeout=timeout)
        with pytest.raises(concurrent.futures.TimeoutError):
            held.exception(timeout=timeout)
        assert concurrent.futures.wait([held], timeout=timeout).not_done == {held}


def test_the_standard_wait_sees_states_that_stand_still(make_pool):
    # It reads the states several times with all conditions held, and counts on them meanwhile.
    pool = make_pool(3)
    for number in range(300):
        futures = [pool.submit(tasks.square, number) for _ in range(1 + number % 4)]
        assert not concurrent.futures.wait(futures).not_done
        futures = [pool.submit(tasks.square, number) for _ in range(1 + number % 4)]
        assert set(concurrent.futures.as_completed(futures)) == set(futures)


def test_asyncio_runs_tasks_in_the_pool(make_pool):
    pool = make_pool(2)

    async def run():
        loop = asyncio.get_running_loop()
        values = await asyncio.gather(
            *(loop.run_in_executor(pool, tasks.square, n) for n in range(50))
        )
        wrapped = await asyncio.wrap_future(pool.submit(tasks.square, 9))
        with pytest.raises(ValueError):
            await loop.run_in_executor(pool, tasks.raise_error, ValueError("x"))
        return values, wrapped

    assert asyncio.run(run()) == ([n * n for n in range(50)], 81)


def test_a_future_of_a_process_can_be_awaited(make_default):
    pool = make_default(2)

    async def run():
        return [await pool.submit(tasks.square, n) for n in range(20)]

    assert asyncio.run(run()) == [n * n for n in range(20)]


def test_asyncio_gives_up_on_a_task_and_the_pool_goes_on(make_default, gate):
    pool = make_default(1)

    async def run():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(
                asyncio.get_running_loop().run_in_executor(pool, gate), timeout=0.05
            )

    asyncio.run(run())
    gate.open()
    assert pool.submit(tasks.square, 3).result() == 9


def test_the_functions_of_raddle_wait_for_processes_too(raddle, make_default, gate):
    pool = make_default(2)
    held = pool.submit(gate, 1)
    quick = pool.submit(tasks.square, 3)
    bad = pool.submit(tasks.raise_error, ValueError("x"))
    assert raddle.wait([held, quick], return_when=raddle.FIRST_COMPLETED).done == {quick}
    assert raddle.wait([held, bad], return_when=raddle.FIRST_EXCEPTION).done == {bad}
    assert raddle.wait([held], timeout=0.01).not_done == {held}
    first = next(raddle.as_completed([held, quick]))
    assert first is quick
    gate.open()
    assert set(raddle.as_completed([held, quick, bad])) == {held, quick, bad}


def test_a_thread_pool_may_wait_for_a_process_pool(raddle, make_default):
    pool = make_default(2)
    with raddle.ThreadPoolExecutor(8) as threads:
        results = threads.map(lambda n: pool.submit(tasks.square, n).result(), range(300))
        assert list(results) == [n * n for n in range(300)]


def test_a_wait_for_a_process_is_no_deadlock(raddle, make_default, gate):
    # A thread holds a lock and waits for a process; the process waits for the gate that this
    # thread opens, of which the graph of waits knows nothing.
    pool, lock, started = make_default(1), raddle.Lock(), threading.Event()
    seen = []

    def hold():
        with lock:
            started.set()
            seen.append(pool.submit(gate, 5).result())

    thread = raddle.Thread(target=hold)
    thread.start()
    started.wait()
    gate.wait_started()
    gate.open()
    with lock:
        assert seen == [5]
    thread.join()


def test_statistics_add_up(make_default, gate):
    pool = make_default(2)
    held = gate.hold(pool, 2)
    queued = [pool.submit(tasks.square, n) for n in range(10)]
    figures = pool.statistics()
    assert (figures.submitted, figures.running, figures.waiting) == (12, 2, 10)
    assert figures.workers == 2
    assert queued[-1].cancel()
    gate.open()
    concurrent.futures.wait([*held, *queued])
    pool.submit(tasks.raise_error, ValueError("x")).exception()
    pool.submit(tasks.end_by_exit, 3).exception()
    pool.shutdown(wait=True)
    figures = pool.statistics()
    assert (figures.submitted, figures.done, figures.failed, figures.cancelled) == (14, 11, 2, 1)
    assert (figures.running, figures.waiting, figures.workers) == (0, 0, 0)
