"""submit, workers and their set-up, bad input: what holds for the standard library's pool."""

import concurrent.futures
import os
import threading
from concurrent.futures.thread import BrokenThreadPool

import pytest


def capture(*args, **kwargs):
    return args, kwargs


# submit


def test_submit_returns_a_future_of_the_result(make_any):
    future = make_any(2).submit(pow, 2, 8)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 256
    assert future.exception() is None
    assert future.done() and not future.running() and not future.cancelled()


def test_submit_passes_every_keyword_to_the_function(make_any):
    keywords = dict(self=1, fn=2, executor=3, timeout=4, label=5, retries=6, task_timeout=7)
    future = make_any(1).submit(capture, 0, **keywords)
    assert future.result() == ((0,), keywords)


def test_submit_takes_the_function_by_position_only(make_any):
    executor = make_any(1)
    with pytest.raises(TypeError):
        executor.submit(fn=capture)
    with pytest.raises(TypeError):
        executor.submit()


def test_submit_keeps_its_own_copy_of_the_keywords(make_any, blocker):
    executor = make_any(1)
    blocker.hold(executor)
    keywords = {"a": 1}
    future = executor.submit(capture, **keywords)
    keywords["a"] = 2
    blocker.release()
    assert future.result() == ((), {"a": 1})


def test_something_that_cannot_be_called_is_a_type_error(make_any):
    executor = make_any(1)
    with pytest.raises(TypeError, match="callable"):
        executor.submit(3).result()
    assert executor.submit(int).result() == 0, "the pool goes on"


def test_callables_of_every_kind_run(make_any):
    class Adder:
        def __call__(self, a, b):
            return a + b

        def method(self, a, b):
            return a - b

        @classmethod
        def of_class(cls, a, b):
            return cls, a * b

    executor = make_any(1)
    assert executor.submit(Adder(), 1, 2).result() == 3
    assert executor.submit(Adder().method, 1, 2).result() == -1
    assert executor.submit(Adder.of_class, 3, 2).result() == (Adder, 6)
    assert isinstance(executor.submit(Adder).result(), Adder)
    assert executor.submit(max, [3, 1], key=lambda x: -x).result() == 1


def test_one_worker_runs_tasks_in_the_order_of_submission(make_any):
    executor, seen = make_any(1), []
    for number in range(1000):
        executor.submit(seen.append, number)
    executor.shutdown(wait=True)
    assert seen == list(range(1000))


def test_map_and_submit_share_one_order(make_any, blocker):
    executor, seen = make_any(1), []
    blocker.hold(executor)
    executor.map(seen.append, [0, 1, 2])
    executor.submit(seen.append, "between")
    executor.map(seen.append, iter([3, 4]))
    executor.submit(seen.append, "last")
    blocker.release()
    executor.shutdown(wait=True)
    assert seen == [0, 1, 2, "between", 3, 4, "last"]


def test_what_an_input_of_map_submits_keeps_its_place(make_any, blocker):
    executor, seen = make_any(1), []
    blocker.hold(executor)

    def source():
        for number in range(3):
            yield number
            executor.submit(seen.append, f"after {number}")

    executor.map(seen.append, source())
    blocker.release()
    executor.shutdown(wait=True)
    assert seen == [0, "after 0", 1, "after 1", 2, "after 2"]


def test_a_submitter_that_never_waits_sees_its_tasks_done(make_any):
    executor = make_any(2)
    for number in range(20):
        future = executor.submit(abs, -number)
        while not future.done():
            pass
        assert future.result(timeout=0) == number


@pytest.mark.parametrize("workers", [2, 5, 64])
def test_as_many_tasks_run_at_once_as_there_are_workers(make_any, workers):
    executor = make_any(workers)
    barrier = threading.Barrier(workers)
    for _ in range(3):
        futures = [executor.submit(barrier.wait) for _ in range(workers)]
        assert sorted(f.result() for f in futures) == list(range(workers))


def test_no_more_tasks_run_at_once_than_there_are_workers(make_any):
    executor, lock, now, most = make_any(3), threading.Lock(), 0, 0

    def count(_):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        os.sched_yield()
        with lock:
            now -= 1

    assert len(list(executor.map(count, range(500)))) == 500
    assert 1 <= most <= 3


def test_tasks_do_not_run_in_the_thread_that_submits(make_any):
    executor = make_any(1)
    assert executor.submit(threading.get_ident).result() != threading.get_ident()
    assert set(executor.map(lambda _: threading.get_ident(), range(50))).isdisjoint(
        {threading.get_ident()}
    )


def test_a_task_may_wait_for_a_later_one_while_a_worker_is_free(make_any):
    executor = make_any(2)
    for _ in range(300):
        later = threading.Event()
        first = executor.submit(later.wait)
        second = executor.submit(later.set)
        assert first.result() is True
        assert second.result() is None


def test_tasks_may_submit_tasks(make_any):
    executor = make_any(2)

    def spread(depth):
        return [executor.submit(spread, depth - 1) for _ in range(3)] if depth else []

    level, count = [executor.submit(spread, 5)], 0
    while level:
        count += len(level)
        level = [child for future in level for child in future.result()]
    assert count == sum(3**n for n in range(6))


def test_any_thread_may_submit(make_any):
    executor, futures = make_any(3), []

    def submit_many(start):
        futures.extend(executor.submit(abs, -n) for n in range(start, start + 500))

    threads = [threading.Thread(target=submit_many, args=(n * 500,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(f.result() for f in futures) == list(range(2000))


# exceptions of tasks


def fail(error):
    raise error


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException()],
)
def test_what_a_task_raises_lands_on_its_future(make_any, error):
    executor = make_any(1)
    future = executor.submit(fail, error)
    assert future.exception() is error
    with pytest.raises(type(error)) as caught:
        future.result()
    assert caught.value is error
    assert executor.submit(abs, -1).result() == 1, "the worker goes on"


def test_a_user_defined_base_exception_lands_on_its_future(make_any):
    class Odd(BaseException):
        pass

    with pytest.raises(Odd):
        make_any(1).submit(fail, Odd()).result()


def test_the_traceback_names_the_frames_of_the_task(make_any):
    def outer():
        inner()

    def inner():
        raise LookupError("deep")

    future = make_any(1).submit(outer)
    names = []
    trace = future.exception().__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-2:] == ["outer", "inner"]
    with pytest.raises(LookupError) as caught:
        future.result()
    assert [entry.name for entry in caught.traceback][-2:] == ["outer", "inner"]


def test_cause_and_context_of_an_exception_are_kept(make_any):
    def chain():
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("outer") from error

    error = make_any(1).submit(chain).exception()
    assert isinstance(error, ValueError) and isinstance(error.__cause__, KeyError)


# workers


def test_threads_start_only_when_there_is_work(make_executor):
    before = threading.active_count()
    executor = make_executor(1000)
    assert threading.active_count() == before
    executor.submit(int).result()
    assert before < threading.active_count() <= before + 2


def test_worker_threads_are_named_after_the_prefix(make_executor, blocker):
    executor = make_executor(3, thread_name_prefix="download")
    blocker.hold(executor, workers=3)
    names = {t.name for t in threading.enumerate() if t.name.startswith("download")}
    assert names == {"download_0", "download_1", "download_2"}


def test_worker_threads_have_a_name_of_their_pool_by_default(make_executor):
    def name():
        return threading.current_thread().name

    first, second = make_executor(1), make_executor(1)
    names = {first.submit(name).result(), second.submit(name).result()}
    assert len(names) == 2
    for one in names:
        start, _, number = one.partition("-")
        assert start == "ThreadPoolExecutor"
        assert number.replace("_", "").isdigit()


def test_the_initializer_runs_once_in_each_worker_before_its_tasks(make_executor):
    here, calls, lock = threading.local(), [], threading.Lock()

    def prepare(first, second):
        with lock:
            calls.append((first, second))
        here.ready = threading.get_ident()

    executor = make_executor(4, initializer=prepare, initargs=("a", "b"))
    barrier = threading.Barrier(4)

    def check(_):
        barrier.wait()
        return here.ready == threading.get_ident()

    assert all(executor.map(check, range(40)))
    assert calls == [("a", "b")] * 4


@pytest.mark.parametrize("error", [ValueError("no start"), SystemExit(1), KeyboardInterrupt()])
def test_a_failed_initializer_breaks_the_pool(make_executor, caplog, error):
    executor = make_executor(2, initializer=fail, initargs=(error,))
    with pytest.raises(BrokenThreadPool):
        executor.submit(abs, -1).result()
    with pytest.raises(BrokenThreadPool, match="initializer"):
        while True:
            executor.submit(abs, -1)
    records = [r for r in caplog.records if r.name == "concurrent.futures"]
    assert records and records[0].levelname == "CRITICAL"
    assert records[0].exc_info[1] is error


def test_a_failed_initializer_fails_what_is_already_queued(make_executor, blocker):
    def prepare():
        blocker()
        raise ValueError("no start")

    executor = make_executor(1, initializer=prepare)
    futures = [executor.submit(abs, -n) for n in range(20)]
    blocker.wait_started()
    blocker.release()
    for future in futures:
        assert isinstance(future.exception(), BrokenThreadPool)


def test_workers_are_real_threads(make_executor, blocker):
    executor = make_executor(1)
    thread = executor.submit(threading.current_thread).result()
    assert isinstance(thread, threading.Thread)
    assert not isinstance(thread, threading._DummyThread)
    assert thread in threading.enumerate() and thread.is_alive()
    assert thread.ident == executor.submit(threading.get_ident).result()
    assert thread.native_id == executor.submit(threading.get_native_id).result()
    executor.shutdown(wait=True)
    assert not thread.is_alive()
    assert thread not in threading.enumerate()


def test_thread_locals_last_from_task_to_task(make_any):
    executor, here = make_any(1), threading.local()
    executor.submit(setattr, here, "value", 7).result()
    assert executor.submit(getattr, here, "value").result() == 7
    assert not hasattr(here, "value"), "the submitter has its own"


def test_threads_started_by_a_task_are_not_daemons(make_any):
    def flag():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        return thread.daemon

    assert make_any(1).submit(flag).result() is False


def test_what_tools_look_at_is_there(make_executor, blocker):
    executor = make_executor(2, thread_name_prefix="seen")
    assert executor._max_workers == 2 and len(executor._threads) == 0
    assert executor._thread_name_prefix == "seen"
    assert not executor._shutdown and not executor._broken
    blocker.hold(executor, workers=2)
    assert {t.name for t in executor._threads} == {"seen_0", "seen_1"}
    for _ in range(5):
        executor.submit(int)
    assert executor._work_queue.qsize() == 5
    executor.shutdown(wait=False)
    assert executor._shutdown


# bad input


@pytest.mark.parametrize("number", [0, -1, -1000])
def test_a_pool_without_workers_is_a_value_error(library, number):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        library.ThreadPoolExecutor(number)


@pytest.mark.parametrize("number", ["3", object(), [], 1j])
def test_a_number_of_workers_that_is_no_number_is_a_type_error(library, number):
    with pytest.raises(TypeError):
        library.ThreadPoolExecutor(max_workers=number)


def test_an_initializer_that_cannot_be_called_is_a_type_error(library):
    with pytest.raises(TypeError, match="initializer must be a callable"):
        library.ThreadPoolExecutor(initializer=123456)


def test_unknown_arguments_are_type_errors(library):
    with pytest.raises(TypeError):
        library.ThreadPoolExecutor(workers=3)
    with pytest.raises(TypeError):
        library.ThreadPoolExecutor(1, "prefix", None, (), 5)


def test_the_number_of_workers_follows_the_machine_by_default(make_executor):
    cpus = (getattr(os, "process_cpu_count", os.cpu_count)() or 1) + 4
    assert 1 <= make_executor()._max_workers <= min(32, cpus)


def test_the_pool_is_an_executor_of_the_standard_library(make_any):
    assert isinstance(make_any(1), concurrent.futures.Executor)


def test_the_pool_is_a_thread_pool_of_the_standard_library(make_executor):
    assert isinstance(make_executor(1), concurrent.futures.ThreadPoolExecutor)
