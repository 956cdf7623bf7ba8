"""Cases that hung, leaked or differed from the standard library once."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import CancelledError

import pytest
from programs import run


def test_shutdown_does_not_wait_for_the_rest_of_a_limit(make_raddle):
    executor = make_raddle(1)
    begun, gate = threading.Event(), threading.Event()
    future = executor.options(task_timeout=3600).submit(lambda: (begun.set(), gate.wait()))
    begun.wait()
    closer = threading.Thread(target=executor.shutdown)
    closer.start()
    gate.set()
    closer.join()
    assert future.done()


def test_a_signal_that_a_sleeping_worker_gets_changes_nothing():
    source = """
        signal.signal(signal.SIGUSR1, lambda *_: None)
        executor = futures.ThreadPoolExecutor(4)
        executor.submit(int).result()
        (worker,) = executor._threads
        for _ in range(20):
            signal.pthread_kill(worker.ident, signal.SIGUSR1)
            event = threading.Event()
            first = executor.submit(event.wait)
            second = executor.submit(event.set)
            assert first.result() and second.result() is None
        say("all met")
        """
    assert run("raddle", source) == (0, ["all met"], [])


def test_an_item_that_is_cancelled_may_run_code_that_uses_the_pool(make_raddle, blocker):
    gone = []

    class Item:
        def __del__(self):
            executor.shutdown(wait=False, cancel_futures=True)
            gone.append(1)

    executor = make_raddle(1)
    blocker.hold(executor)
    results = executor.map(id, (Item() for _ in range(3)))
    executor.shutdown(wait=False, cancel_futures=True)
    assert len(gone) == 3
    with pytest.raises(CancelledError):
        next(results)


def test_a_callback_after_a_timeout_may_wait_for_the_pool(make_raddle, raddle):
    """The thread given up is replaced first, and the timer is not held up."""
    executor, gate, told = make_raddle(1), threading.Event(), threading.Event()
    late = executor.options(task_timeout=0.02).submit(gate.wait)
    answers = []

    def ask(_):
        answers.append(executor.submit(abs, -3).result())
        with pytest.raises(RuntimeError):
            executor.shutdown(wait=True)
        told.set()

    late.add_done_callback(ask)
    assert isinstance(late.exception(), raddle.TaskTimeout)
    told.wait()
    gate.set()
    assert answers == [3]


def test_an_item_that_the_pool_refused_is_not_run(library, make_executor):
    executor, ran, gate = make_executor(1), [], threading.Event()
    executor.submit(gate.wait)

    def items():
        yield 1
        yield 2
        executor.shutdown(wait=False)
        yield 3

    with pytest.raises(RuntimeError, match="shutdown"):
        executor.map(ran.append, items())
    gate.set()
    executor.shutdown(wait=True)
    assert ran == [1, 2]


def test_one_task_starts_one_initializer(library, make_executor):
    started = []
    executor = make_executor(8, initializer=lambda: started.append(1))
    executor.submit(int).result()
    executor.shutdown(wait=True)
    assert len(started) == 1


def test_an_unfinished_map_in_a_cycle_is_collected(library, make_executor):
    executor = make_executor(1)

    class Owner:
        def work(self, item):
            return item

    owner = Owner()
    owner.results = executor.map(owner.work, [1, 2, 3])
    assert next(owner.results) == 1
    executor.shutdown(wait=True)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_a_callback_added_after_one_that_left_is_called(library):
    future, called = library.Future(), []

    def leave(_):
        raise SystemExit

    future.add_done_callback(leave)
    future.add_done_callback(called.append)
    with pytest.raises(SystemExit):
        future.set_result(1)
    late = []
    future.add_done_callback(late.append)
    assert late == [future]


def test_map_is_refused_while_the_interpreter_exits(library):
    source = """
        import atexit
        def late():
            try:
                futures.ThreadPoolExecutor(1).map(abs, [-1])
            except RuntimeError as error:
                say(error)
        atexit.register(late)
        futures.ThreadPoolExecutor(1).submit(int).result()
        """
    code, output, errors = run(library.__name__, source)
    assert (code, errors) == (0, [])
    assert output == ["cannot schedule new futures after interpreter shutdown"]


def test_as_completed_begun_before_a_fork_is_refused_in_the_child():
    source = """
        executor, gate = futures.ThreadPoolExecutor(1), threading.Event()
        completed = futures.as_completed([executor.submit(gate.wait)])
        pid = os.fork()
        if pid == 0:
            try:
                next(completed)
            except RuntimeError as error:
                assert "fork" in str(error), error
                os._exit(7)
            os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        gate.set()
        assert len(list(completed)) == 1
        """
    assert run("raddle", source)[0] == 0


def test_a_streamed_map_inherits_the_context_of_each_item(make_raddle):
    import contextvars

    number = contextvars.ContextVar("number", default=None)

    def items():
        for n in range(3):
            number.set(n)
            yield n

    executor = make_raddle(1, inherit_context=True)
    assert list(executor.map(lambda n: (n, number.get()), items())) == [(0, 0), (1, 1), (2, 2)]


def test_looking_at_the_callbacks_survives_a_collection(raddle):
    future = raddle.Future()
    for _ in range(50):
        future.add_done_callback(print)
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        assert all(len(future._done_callbacks) == 50 for _ in range(100))
    finally:
        gc.set_threshold(*before)
