"""task_timeout of a thread pool: the future fails on time, the thread is given up and replaced."""

import concurrent.futures
import threading
import time

import pytest

SHORT = 0.05
LONG = 600.0


@pytest.fixture
def make_late(make_blocker):
    """Makes a task that runs until it is released, and whose thread can be waited for."""

    class Late:
        def __init__(self):
            self.blocker, self.thread = make_blocker(), None

        def __call__(self, value=None):
            self.thread = threading.current_thread()
            return self.blocker(value)

        def end(self):
            """Let the late call return and wait until its thread is gone."""
            self.blocker.release()
            self.thread.join()

    return Late


def test_a_task_that_takes_too_long_fails_with_task_timeout(raddle, make_raddle, blocker):
    future = make_raddle(1).options(task_timeout=SHORT).submit(blocker)
    with pytest.raises(raddle.TaskTimeout):
        future.result()
    assert future.done() and not future.cancelled()
    assert isinstance(future.exception(), concurrent.futures.TimeoutError)
    assert isinstance(future.exception(), raddle.RaddleError)


def test_the_message_names_the_task_and_its_limit(make_raddle, blocker):
    def fetch_page():
        return blocker()

    view = make_raddle(1).options(task_timeout=SHORT, label="page 7")
    text = str(view.submit(fetch_page).exception())
    assert "0.05" in text
    assert "page 7" in text or "fetch_page" in text


def test_a_task_in_time_is_not_touched(make_raddle):
    view = make_raddle(2).options(task_timeout=LONG)
    assert list(view.map(abs, range(-500, 0))) == list(range(500, 0, -1))
    assert view.statistics().abandoned == 0


def test_the_time_counts_from_the_start_of_the_task(make_raddle, blocker):
    executor = make_raddle(1)
    (held,) = blocker.hold(executor)
    waiting = executor.options(task_timeout=1.0).submit(abs, -1)
    assert concurrent.futures.wait([waiting], timeout=1.5).not_done, "it waits, and that is free"
    blocker.release()
    assert waiting.result() == 1
    assert held.result() is None


def test_the_pool_works_on_with_a_new_thread(raddle, make_raddle, make_late):
    executor, late = make_raddle(1), make_late()
    future = executor.options(task_timeout=SHORT).submit(late)
    queued = [executor.submit(abs, -n) for n in range(20)]
    assert isinstance(future.exception(), raddle.TaskTimeout)
    assert [f.result() for f in queued] == list(range(20))
    replacement = executor.submit(threading.current_thread).result()
    assert replacement is not late.thread
    assert late.thread.is_alive(), "nobody can kill a thread"
    assert executor.statistics().abandoned == 1
    assert executor.statistics().workers == 1
    late.end()


def test_every_worker_may_be_given_up(raddle, make_raddle, blocker):
    executor = make_raddle(3)
    view = executor.options(task_timeout=SHORT)
    futures = [view.submit(blocker) for _ in range(9)]
    for future in futures:
        assert isinstance(future.exception(), raddle.TaskTimeout)
    assert executor.submit(abs, -2).result() == 2
    assert executor.statistics().abandoned == 9


def test_the_late_result_is_dropped(raddle, make_raddle, make_late):
    executor, late, seen = make_raddle(1), make_late(), []
    over = threading.Event()
    future = executor.options(task_timeout=SHORT).submit(late, "late")
    future.add_done_callback(seen.append)
    future.add_done_callback(lambda _: over.set())
    over.wait()
    error = future.exception()
    assert isinstance(error, raddle.TaskTimeout)
    late.end()
    assert future.exception() is error
    assert seen == [future]
    executor.shutdown(wait=True)
    figures = executor.statistics()
    assert (figures.submitted, figures.done, figures.failed) == (1, 0, 1)
    assert figures.abandoned == 1


def test_the_late_exception_is_dropped(raddle, make_raddle, make_late, caplog):
    executor, late = make_raddle(1), make_late()

    def fail():
        late()
        raise ValueError("late")

    future = executor.options(task_timeout=SHORT).submit(fail)
    assert isinstance(future.exception(), raddle.TaskTimeout)
    late.end()
    assert isinstance(future.exception(), raddle.TaskTimeout)
    assert not caplog.records


def test_a_thread_that_was_given_up_takes_no_more_tasks(raddle, make_raddle, make_late):
    executor, late = make_raddle(1), make_late()
    future = executor.options(task_timeout=SHORT).submit(late)
    assert isinstance(future.exception(), raddle.TaskTimeout)
    late.end()
    threads = set(executor.map(lambda _: threading.current_thread(), range(50)))
    assert len(threads) == 1 and late.thread not in threads


def test_a_timed_out_task_is_not_tried_again(raddle, make_raddle, make_late):
    late, calls = make_late(), []

    def work():
        calls.append(1)
        late()
        raise OSError

    executor = make_raddle(2)
    view = executor.options(task_timeout=SHORT, retries=5, retry_on=Exception)
    assert isinstance(view.submit(work).exception(), raddle.TaskTimeout)
    late.end()
    executor.shutdown(wait=True)
    assert calls == [1]
    assert executor.statistics().retried == 0


def test_each_try_has_the_whole_time(make_raddle):
    calls = []

    def work():
        calls.append(1)
        time.sleep(0.7)
        if len(calls) < 4:
            raise OSError
        return len(calls)

    future = make_raddle(1).options(task_timeout=2.0, retries=3).submit(work)
    assert future.result() == 4, "2.8 seconds in all, 0.7 each"


def test_a_task_inside_the_interpreter_is_given_up_too(raddle, make_raddle):
    stop = []

    def spin():
        while not stop:
            pass

    executor = make_raddle(1)
    future = executor.options(task_timeout=SHORT).submit(spin)
    assert isinstance(future.exception(), raddle.TaskTimeout)
    assert executor.submit(abs, -1).result() == 1
    stop.append(True)


def test_map_raises_task_timeout_in_its_place(raddle, make_raddle, blocker):
    view = make_raddle(2).options(task_timeout=0.2)
    results = view.map(lambda n: blocker() if n == 2 else n, range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(raddle.TaskTimeout):
        next(results)


def test_waiting_functions_see_the_timeout(raddle, make_raddle, blocker):
    view = make_raddle(2).options(task_timeout=SHORT)
    futures = [view.submit(blocker) for _ in range(2)]
    assert raddle.wait(futures).done == set(futures)
    futures = [view.submit(blocker) for _ in range(2)]
    assert set(concurrent.futures.as_completed(futures)) == set(futures)


def test_a_first_exception_may_be_a_timeout(raddle, make_raddle, blocker, make_blocker):
    executor, other = make_raddle(2), make_blocker()
    short = executor.options(task_timeout=SHORT).submit(blocker)
    long = executor.submit(other)
    outcome = raddle.wait([short, long], return_when=raddle.FIRST_EXCEPTION)
    assert outcome.done == {short} and outcome.not_done == {long}


def test_shutdown_does_not_wait_for_a_thread_that_was_given_up(raddle, make_raddle, make_late):
    executor, late = make_raddle(2), make_late()
    future = executor.options(task_timeout=SHORT).submit(late)
    assert isinstance(future.exception(), raddle.TaskTimeout)
    executor.shutdown(wait=True)
    assert late.thread.is_alive()
    late.end()


def test_shutdown_waits_no_longer_than_the_timeout_of_what_runs(make_raddle, make_late):
    executor, late = make_raddle(1), make_late()
    future = executor.options(task_timeout=0.3).submit(late)
    late.blocker.wait_started()
    executor.shutdown(wait=True)
    assert future.done()
    assert late.thread.is_alive()
    late.end()


def test_the_timeout_holds_after_the_pool_was_dropped(raddle, make_late):
    late = make_late()
    future = raddle.ThreadPoolExecutor(1).options(task_timeout=SHORT).submit(late)
    assert isinstance(future.exception(), raddle.TaskTimeout)
    late.end()


def test_timeouts_of_many_lengths_fire_each_for_its_own_task(raddle, make_raddle, blocker):
    executor = make_raddle(20)
    futures = [executor.options(task_timeout=0.01 * (1 + n % 7)).submit(blocker) for n in range(20)]
    fine = [executor.options(task_timeout=LONG).submit(abs, -n) for n in range(200)]
    assert [f.result() for f in fine] == list(range(200))
    assert all(isinstance(f.exception(), raddle.TaskTimeout) for f in futures)


def test_a_task_that_ends_as_its_time_runs_out_ends_once(raddle, make_raddle):
    executor, lock, ends = make_raddle(4), threading.Lock(), {}

    def count(future):
        with lock:
            ends[future] = ends.get(future, 0) + 1

    view = executor.options(task_timeout=0.002)
    futures = [view.submit(time.sleep, 0.002) for _ in range(300)]
    for future in futures:
        future.add_done_callback(count)
    outcomes = [type(f.exception()) for f in futures]
    executor.shutdown(wait=True)
    assert set(outcomes) <= {type(None), raddle.TaskTimeout}
    assert len(ends) == 300 and set(ends.values()) == {1}
    figures = executor.statistics()
    assert figures.done == outcomes.count(type(None))
    assert figures.failed == outcomes.count(raddle.TaskTimeout)


def test_initializer_runs_in_the_replacement_too(raddle, make_raddle, make_late):
    calls = []
    executor, late = make_raddle(1, initializer=calls.append, initargs=(1,)), make_late()
    future = executor.options(task_timeout=SHORT).submit(late)
    assert isinstance(future.exception(), raddle.TaskTimeout)
    executor.submit(int).result()
    assert calls == [1, 1]
    late.end()
