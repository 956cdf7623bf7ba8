"""User code runs where one does not expect it: finalizers, iterators, callbacks, handlers.

It may use the pool from there; the pool holds no lock of its own meanwhile.
"""

import gc
import itertools
import sys
import threading
from concurrent.futures import TimeoutError as WaitTimeout

import pytest


class Finalized:
    """Calls *function* when it is freed."""

    def __init__(self, function):
        self.function = function

    def __del__(self):
        self.function()

    def __call__(self, *_arguments):
        return None


@pytest.fixture
def count():
    """A semaphore that finalizers release."""
    return threading.Semaphore(0)


def uses_of(executor, count):
    """What a finalizer may do with a pool."""
    future = executor.submit(int)

    def submit():
        executor.submit(count.release)

    def add_callback():
        future.add_done_callback(lambda _: count.release())

    def cancel():
        executor.submit(int).cancel()
        count.release()

    def ask():
        future.done(), future.running(), repr(future), future._state
        count.release()

    return [submit, add_callback, cancel, ask]


def wait_for(count, number):
    for _ in range(number):
        count.acquire()


def test_arguments_whose_finalizers_use_the_pool(make_any, count):
    executor = make_any(2)
    uses = uses_of(executor, count)
    for use in uses * 20:
        executor.submit(lambda _: None, Finalized(use))
    wait_for(count, len(uses) * 20)


def test_functions_and_results_whose_finalizers_use_the_pool(make_any, count):
    executor = make_any(2)
    uses = uses_of(executor, count)
    for use in uses * 20:
        executor.submit(Finalized(use))
        executor.submit(Finalized, use)
    wait_for(count, len(uses) * 40)


def test_arguments_of_a_map_whose_finalizers_use_the_pool(make_any, count):
    executor = make_any(2)
    uses = uses_of(executor, count)
    results = executor.map(lambda _: None, [Finalized(use) for use in uses * 20])
    assert list(results) == [None] * (len(uses) * 20)
    del results
    wait_for(count, len(uses) * 20)


def test_arguments_of_cancelled_tasks_whose_finalizers_use_the_pool(make_any, blocker, count):
    executor = make_any(1)
    uses = uses_of(executor, count)
    blocker.hold(executor)
    futures = [executor.submit(lambda _: None, Finalized(use)) for use in uses * 5]
    assert all(f.cancel() for f in futures)
    blocker.release()
    wait_for(count, len(uses) * 5)


def test_arguments_dropped_at_shutdown_whose_finalizers_ask_the_pool(make_raddle, blocker, count):
    """The standard library frees them while it holds the pool's lock, and hangs."""
    executor = make_raddle(1)
    (held,) = blocker.hold(executor)

    def ask():
        held.running(), executor.statistics()
        with pytest.raises(RuntimeError):
            executor.submit(int)
        count.release()

    for _ in range(10):
        executor.submit(lambda _: None, Finalized(ask))
    executor.shutdown(wait=False, cancel_futures=True)
    blocker.release()
    wait_for(count, 10)


def test_a_callback_that_drops_the_last_reference_to_its_future(library):
    for _ in range(100):
        box = [library.Future()]
        seen = []

        def drop(_, box=box, seen=seen):
            box.clear()
            gc.collect()
            seen.append(1)

        box[0].add_done_callback(drop)
        box[0].set_result(None)
        assert seen == [1]


def test_results_may_be_read_by_several_threads_in_turn(make_any):
    executor, lock, read = make_any(3), threading.Lock(), []
    results = executor.map(abs, range(-400, 0))

    def read_some():
        while True:
            with lock:
                value = next(results, None)
                if value is None:
                    return
                read.append(value)

    threads = [threading.Thread(target=read_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == list(range(400, 0, -1))


def test_results_read_by_several_threads_at_once_are_given_out_once(make_any):
    """A generator refuses a second reader while the first one waits; that is allowed."""
    executor, read = make_any(3), []
    results = executor.map(abs, range(-400, 0))

    def read_some():
        while True:
            try:
                value = next(results, None)
            except ValueError:
                continue
            if value is None:
                return
            read.append(value)

    threads = [threading.Thread(target=read_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read) == list(range(1, 401))


def test_an_input_that_lies_about_its_length_is_read_all_the_same(make_any):
    class Lying:
        def __init__(self, hint):
            self.left, self.hint = 5, hint

        def __iter__(self):
            return self

        def __next__(self):
            self.left -= 1
            if self.left < 0:
                raise StopIteration
            return self.left

        def __length_hint__(self):
            return self.hint

        __len__ = __length_hint__

    for hint in (0, 2, 1000, 2**40):
        assert list(make_any(1).map(abs, Lying(hint))) == [4, 3, 2, 1, 0]


def test_endless_recursion_of_a_task_is_its_exception(make_any):
    def deeper():
        return deeper()

    executor = make_any(1)
    assert isinstance(executor.submit(deeper).exception(), RecursionError)
    assert executor.submit(abs, -1).result() == 1


def test_a_chain_of_callbacks_that_set_futures_ends(library):
    futures = [library.Future() for _ in range(100)]
    for here, there in itertools.pairwise(futures):
        here.add_done_callback(lambda f, there=there: there.set_result(f.result() + 1))
    futures[0].set_result(0)
    assert futures[-1].result() == 99


def test_a_pool_can_be_subclassed_with_a_signature_of_its_own(library, executors):
    class Crawler(library.ThreadPoolExecutor):
        def __init__(self, site, *, politeness):
            super().__init__(max_workers=2, thread_name_prefix=site)
            self.politeness = politeness

        def fetch(self, page):
            return self.submit(lambda: (threading.current_thread().name, page))

    crawler = Crawler("example", politeness=3)
    executors.append(crawler)
    name, page = crawler.fetch("index").result()
    assert name == "example_0" and page == "index" and crawler.politeness == 3
    with crawler as entered:
        assert entered is crawler


def test_a_prefix_of_none_is_no_prefix(make_executor):
    executor = make_executor(1, thread_name_prefix=None)
    assert executor.submit(threading.current_thread).result().name.startswith("ThreadPool")


def test_initializer_arguments_may_be_a_list(make_executor):
    calls = []
    executor = make_executor(1, None, lambda *got: calls.append(got), [1, 2])
    executor.submit(int).result()
    assert calls == [(1, 2)]


def test_a_thread_that_cannot_start_is_a_runtime_error(make_executor, monkeypatch):
    executor = make_executor(2)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            executor.submit(int)
    assert executor.submit(abs, -4).result() == 4


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_while_a_worker_starts_is_raised_and_breaks_nothing(
    make_raddle, monkeypatch, begun
):
    """A signal handler may raise anywhere inside Thread.start, before or after the thread runs."""

    class Interrupted(BaseException):
        pass

    start = threading.Thread.start

    def interrupted(thread):
        if begun:
            start(thread)
        raise Interrupted

    executor = make_raddle(2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Interrupted):
            executor.submit(int)
    assert [f.result() for f in [executor.submit(abs, -n) for n in range(10)]] == list(range(10))
    executor.shutdown(wait=True)
    assert executor.statistics().workers == 0


def test_a_pool_that_cannot_grow_goes_on_with_the_workers_it_has(make_executor, monkeypatch):
    """The standard library raises from submit although the task is queued and will run."""
    executor, ran = make_executor(8), []
    executor.submit(int).result()

    def refuse(_):
        raise RuntimeError("can't start new thread")

    refused = 0
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for number in range(50):
            try:
                executor.submit(ran.append, number)
            except RuntimeError:
                refused += 1
    executor.shutdown(wait=True)
    assert ran == list(range(50)) or len(ran) == 50 - refused


@pytest.mark.parametrize("timeout", [1e20, float("inf"), sys.float_info.max, 2**80])
def test_an_enormous_timeout_waits_or_is_an_overflow_error(library, make_any, timeout):
    executor = make_any(2)
    waits = [
        lambda f: f.result(timeout),
        lambda f: f.exception(timeout),
        lambda f: library.wait([f], timeout),
        lambda f: list(library.as_completed([f], timeout)),
        lambda f: list(executor.map(abs, [1], timeout=timeout)),
    ]
    for wait in waits:
        gate = threading.Event()
        future = executor.submit(gate.wait)
        opener = threading.Timer(0.01, gate.set)
        opener.start()
        try:
            wait(future)
        except OverflowError:
            pass
        gate.set()
        opener.join()


def test_a_timeout_that_is_not_a_number_never_waits_for_ever(library, make_any, blocker):
    """It counts as no time in the standard library; a ValueError says more."""
    future, nan = make_any(1).submit(blocker), float("nan")
    for ask in (future.result, future.exception):
        with pytest.raises((WaitTimeout, ValueError)):
            ask(nan)
    try:
        assert library.wait([future], nan).not_done == {future}
    except ValueError:
        pass
