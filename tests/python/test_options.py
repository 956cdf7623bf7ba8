"""executor.options: views, labels, retries, and what is refused."""

import concurrent.futures
import math
import threading

import pytest


class Flaky:
    """Fails the first *failures* calls with *error*, then returns its argument."""

    def __init__(self, failures, error=OSError):
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, value=None):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"attempt {self.calls}")
        return value


def capture(*args, **kwargs):
    return args, kwargs


# views


def test_a_view_is_an_executor(raddle, make_raddle):
    view = make_raddle(1).options(label="x")
    assert isinstance(view, raddle.ExecutorView)
    assert isinstance(view, concurrent.futures.Executor)
    assert isinstance(view.submit(int), raddle.Future)


def test_a_view_uses_the_workers_of_its_pool(make_raddle, blocker):
    executor = make_raddle(1)
    blocker.hold(executor)
    future = executor.options(label="x").submit(threading.current_thread)
    assert not future.done()
    blocker.release()
    assert future.result() is executor.submit(threading.current_thread).result()


def test_shutting_a_view_down_shuts_its_pool_down(make_raddle):
    executor = make_raddle(1)
    executor.options(label="x").shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_leaving_the_with_block_of_a_view_waits_for_its_tasks(make_raddle, blocker):
    executor = make_raddle(1)
    with executor.options(label="x") as view:
        future = view.submit(blocker, 3)
        blocker.wait_started()
        blocker.release()
    assert future.done() and future.result() == 3
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_a_view_keeps_its_pool_alive(raddle):
    view = raddle.ThreadPoolExecutor(1).options(label="x")
    assert view.submit(abs, -3).result() == 3
    view.shutdown()


def test_making_a_view_changes_nothing_of_the_pool(make_raddle):
    executor, flaky = make_raddle(1), Flaky(1)
    executor.options(retries=5)
    assert isinstance(executor.submit(flaky).exception(), OSError)
    assert flaky.calls == 1


def test_views_stack_and_the_last_word_counts(make_raddle):
    executor = make_raddle(1)
    view = executor.options(retries=3).options(label="named")
    flaky = Flaky(3)
    assert view.submit(flaky, 1).result() == 1, "retries are kept"
    fewer, flaky = view.options(retries=0), Flaky(1)
    assert isinstance(fewer.submit(flaky).exception(), OSError)
    assert flaky.calls == 1
    assert view.submit(Flaky(3), 2).result() == 2, "and the first view is as it was"


def test_a_view_knows_the_statistics_of_its_pool(make_raddle):
    executor = make_raddle(1)
    view = executor.options(label="x")
    view.submit(int).result()
    executor.shutdown(wait=True)
    assert view.statistics() == executor.statistics()
    assert view.statistics().submitted == 1


def test_every_keyword_of_submit_reaches_the_function(make_raddle):
    view = make_raddle(1).options(retries=1, label="x", task_timeout=600)
    keywords = dict(retries=9, label="mine", task_timeout=1, retry_on=2, timeout=3, fn=4, self=5)
    assert view.submit(capture, 0, **keywords).result() == ((0,), keywords)


def test_options_are_keyword_only_and_known(make_raddle):
    executor = make_raddle(1)
    with pytest.raises(TypeError):
        executor.options(3)
    with pytest.raises(TypeError):
        executor.options(retry=3)


def test_options_without_any_is_a_view_all_the_same(make_raddle):
    assert list(make_raddle(1).options().map(abs, [-1, -2])) == [1, 2]


# retries


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_task_is_tried_again_until_it_succeeds(make_raddle, failures):
    executor, flaky = make_raddle(2), Flaky(failures)
    assert executor.options(retries=3).submit(flaky, 5).result() == 5
    assert flaky.calls == failures + 1
    executor.shutdown(wait=True)
    figures = executor.statistics()
    assert (figures.submitted, figures.done, figures.failed) == (1, 1, 0)
    assert figures.retried == failures


def test_the_last_exception_is_raised_when_the_retries_are_used_up(make_raddle):
    executor, flaky = make_raddle(1), Flaky(99)
    with pytest.raises(OSError, match="attempt 4"):
        executor.options(retries=3).submit(flaky).result()
    assert flaky.calls == 4
    executor.shutdown(wait=True)
    figures = executor.statistics()
    assert (figures.submitted, figures.done, figures.failed, figures.retried) == (1, 0, 1, 3)


@pytest.mark.parametrize(
    ("retry_on", "error", "tried_again"),
    [
        (OSError, OSError, True),
        (OSError, ConnectionError, True),
        (ConnectionError, OSError, False),
        (OSError, ValueError, False),
        ((OSError, ValueError), ValueError, True),
        ((OSError, ValueError), TypeError, False),
        ((), OSError, False),
        (Exception, OSError, True),
    ],
)
def test_retry_on_chooses_the_exceptions(make_raddle, retry_on, error, tried_again):
    flaky = Flaky(1, error)
    future = make_raddle(1).options(retries=2, retry_on=retry_on).submit(flaky, 1)
    if tried_again:
        assert future.result() == 1
    else:
        assert type(future.exception()) is error
    assert flaky.calls == 1 + tried_again


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_is_not_retried_by_default(make_raddle, error):
    flaky = Flaky(1, error)
    assert type(make_raddle(1).options(retries=5).submit(flaky).exception()) is error
    assert flaky.calls == 1


def test_options_can_be_given_to_the_constructor(make_raddle):
    executor = make_raddle(1, retries=2, retry_on=OSError, label="all", task_timeout=600)
    assert executor.submit(Flaky(2), 4).result() == 4
    assert type(executor.submit(Flaky(1, ValueError)).exception()) is ValueError
    assert list(executor.map(Flaky(2), [1, 2, 3])) == [1, 2, 3]
    assert isinstance(executor.options(retries=0).submit(Flaky(1)).exception(), OSError)


def test_each_task_of_a_map_has_its_own_retries(make_raddle):
    lock, calls = threading.Lock(), {}

    def work(number):
        with lock:
            calls[number] = calls.get(number, 0) + 1
        if calls[number] <= number % 3:
            raise OSError
        return number

    assert list(make_raddle(2).options(retries=2).map(work, range(30))) == list(range(30))
    assert calls == {n: n % 3 + 1 for n in range(30)}


def test_a_retried_task_tells_its_callbacks_once(make_raddle):
    executor, seen, over = make_raddle(1), [], threading.Event()
    future = executor.options(retries=3).submit(Flaky(3), 1)
    future.add_done_callback(seen.append)
    future.add_done_callback(lambda _: over.set())
    over.wait()
    executor.shutdown(wait=True)
    assert seen == [future]


def test_a_task_between_two_tries_is_not_lost_at_shutdown(make_raddle, blocker):
    executor, flaky = make_raddle(1), Flaky(2)
    blocker.hold(executor)
    future = executor.options(retries=2).submit(flaky, 6)
    executor.shutdown(wait=False)
    blocker.release()
    assert future.result() == 6
    assert flaky.calls == 3


def test_a_cancelled_task_is_not_tried(make_raddle, blocker):
    executor, flaky = make_raddle(1), Flaky(1)
    blocker.hold(executor)
    future = executor.options(retries=3).submit(flaky)
    assert future.cancel()
    blocker.release()
    executor.shutdown(wait=True)
    assert flaky.calls == 0
    assert executor.statistics().retried == 0


def test_a_generator_of_arguments_is_read_once_for_all_tries(make_raddle):
    read, calls = [], []

    def source():
        for number in range(3):
            read.append(number)
            yield number

    def work(number):
        calls.append(number)
        if calls.count(number) == 1:
            raise OSError
        return number

    assert list(make_raddle(1).options(retries=1).map(work, source())) == [0, 1, 2]
    assert read == [0, 1, 2]
    assert sorted(calls) == [0, 0, 1, 1, 2, 2]


# what is refused, at the call

BAD_OPTIONS = [
    ({"retries": -1}, ValueError),
    ({"retries": 1.5}, TypeError),
    ({"retries": "3"}, TypeError),
    ({"retries": True}, TypeError),
    ({"retries": None}, TypeError),
    ({"task_timeout": 0}, ValueError),
    ({"task_timeout": -0.5}, ValueError),
    ({"task_timeout": math.nan}, ValueError),
    ({"task_timeout": "1"}, TypeError),
    ({"task_timeout": True}, TypeError),
    ({"task_timeout": []}, TypeError),
    ({"retry_on": "OSError"}, TypeError),
    ({"retry_on": OSError()}, TypeError),
    ({"retry_on": int}, TypeError),
    ({"retry_on": (OSError, int)}, TypeError),
    ({"retry_on": None}, TypeError),
    ({"label": 3}, TypeError),
    ({"label": b"bytes"}, TypeError),
]


@pytest.mark.parametrize(("option", "error"), BAD_OPTIONS)
def test_bad_options_are_refused_at_the_call(make_raddle, option, error):
    (name,) = option
    executor = make_raddle(1)
    with pytest.raises(error, match=name):
        executor.options(**option)
    with pytest.raises(error, match=name):
        executor.options(label="x").options(**option)
    assert executor.submit(abs, -1).result() == 1


@pytest.mark.parametrize(("option", "error"), BAD_OPTIONS)
def test_bad_options_are_refused_by_the_constructor(raddle, option, error):
    (name,) = option
    with pytest.raises(error, match=name):
        raddle.ThreadPoolExecutor(1, **option)


def test_an_infinite_task_timeout_is_none_at_all(make_raddle):
    assert make_raddle(1).options(task_timeout=math.inf).submit(abs, -1).result() == 1


def test_none_takes_the_timeout_and_the_label_back(make_raddle, blocker):
    view = make_raddle(1, task_timeout=0.05, label="all").options(task_timeout=None, label=None)
    future = view.submit(blocker, 1)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.2)
    assert future.running()
    blocker.release()
    assert future.result() == 1
