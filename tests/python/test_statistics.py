"""executor.statistics(): what the figures say, and that they add up."""

import dataclasses
import threading
from concurrent.futures import TimeoutError as WaitTimeout

import pytest

COUNTS = (
    "submitted running waiting done failed cancelled retried abandoned workers longest_queue"
).split()


def assert_adds_up(figures):
    parts = figures.running + figures.waiting + figures.done + figures.failed + figures.cancelled
    assert figures.submitted == parts, figures


def test_a_new_pool_has_done_nothing(make_raddle):
    figures = make_raddle(3).statistics()
    assert [getattr(figures, name) for name in COUNTS] == [0] * len(COUNTS)
    assert figures.busy_seconds == 0.0


def test_the_figures_are_a_frozen_dataclass(raddle, make_raddle):
    figures = make_raddle(1).statistics()
    assert isinstance(figures, raddle.Statistics)
    assert {f.name for f in dataclasses.fields(figures)} >= {*COUNTS, "busy_seconds"}
    assert all(type(getattr(figures, name)) is int for name in COUNTS)
    assert type(figures.busy_seconds) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        figures.done = 3


def test_figures_are_of_one_moment(make_raddle):
    executor = make_raddle(1)
    before = executor.statistics()
    executor.submit(int).result()
    assert before.submitted == 0
    assert executor.statistics().submitted == 1


def test_running_and_waiting_tasks_are_counted(make_raddle, blocker):
    executor = make_raddle(2)
    blocker.hold(executor, workers=2)
    queued = [executor.submit(int) for _ in range(7)]
    figures = executor.statistics()
    assert (figures.submitted, figures.running, figures.waiting) == (9, 2, 7)
    assert figures.workers == 2
    assert figures.longest_queue >= 7
    assert_adds_up(figures)
    blocker.release()
    for future in queued:
        future.result()
    executor.shutdown(wait=True)
    figures = executor.statistics()
    assert (figures.submitted, figures.running, figures.waiting, figures.done) == (9, 0, 0, 9)
    assert figures.workers == 0


def test_every_end_of_a_task_is_counted_once(make_raddle, blocker):
    executor = make_raddle(1)
    (held,) = blocker.hold(executor)
    for _ in range(5):
        executor.submit(abs, -1)
    for _ in range(4):
        executor.submit(divmod, 1, 0)
    cancelled = [executor.submit(int) for _ in range(3)]
    for future in cancelled:
        assert future.cancel() and future.cancel()
    assert_adds_up(executor.statistics())
    assert executor.statistics().cancelled == 3
    blocker.release()
    held.result()
    executor.shutdown(wait=True)
    figures = executor.statistics()
    assert (figures.done, figures.failed, figures.cancelled) == (6, 4, 3)
    assert figures.submitted == 13
    assert_adds_up(figures)


def test_what_shutdown_cancels_is_counted(make_raddle, blocker):
    executor = make_raddle(1)
    blocker.hold(executor)
    for _ in range(10):
        executor.submit(int)
    executor.shutdown(wait=False, cancel_futures=True)
    assert executor.statistics().cancelled == 10
    assert executor.statistics().waiting == 0


def test_the_tasks_of_a_map_are_counted(make_raddle):
    executor = make_raddle(2)
    assert len(list(executor.map(abs, range(-1000, 0)))) == 1000
    executor.shutdown(wait=True)
    figures = executor.statistics()
    assert (figures.submitted, figures.done) == (1000, 1000)
    assert_adds_up(figures)


def test_what_map_cancels_is_counted(make_raddle):
    executor = make_raddle(1)
    results = executor.map(divmod, [1] * 100, [0] * 100)
    with pytest.raises(ZeroDivisionError):
        next(results)
    executor.shutdown(wait=True)
    figures = executor.statistics()
    assert figures.submitted == 100
    assert figures.failed >= 1
    assert_adds_up(figures)


def test_the_longest_queue_stays(make_raddle, blocker):
    executor = make_raddle(1)
    blocker.hold(executor)
    futures = [executor.submit(int) for _ in range(25)]
    blocker.release()
    for future in futures:
        future.result()
    assert 25 <= executor.statistics().longest_queue <= 26


def test_busy_seconds_grow_while_tasks_run(make_raddle, blocker):
    executor = make_raddle(1)
    future = executor.submit(blocker)
    blocker.wait_started()
    with pytest.raises(WaitTimeout):
        future.result(timeout=0.2)
    blocker.release()
    executor.shutdown(wait=True)
    assert executor.statistics().busy_seconds >= 0.2


def test_failing_tasks_count_as_busy_too(make_raddle):
    def fail():
        threading.Event().wait(0.05)
        raise OSError

    executor = make_raddle(1)
    executor.submit(fail).exception()
    executor.shutdown(wait=True)
    assert executor.statistics().busy_seconds >= 0.05


def test_figures_add_up_while_threads_work(make_raddle):
    executor, stop, seen = make_raddle(3), threading.Event(), []

    def submit_many():
        while not stop.is_set():
            executor.submit(divmod, 1, 0).cancel()
            list(executor.map(abs, range(20)))

    threads = [threading.Thread(target=submit_many) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(500):
            figures = executor.statistics()
            assert min(getattr(figures, name) for name in COUNTS) >= 0, figures
            seen.append(figures.submitted)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    executor.shutdown(wait=True)
    assert seen == sorted(seen), "counted up only"
    assert_adds_up(executor.statistics())


def test_figures_can_be_had_from_a_task_and_from_a_callback(make_raddle):
    executor, seen, over = make_raddle(1), [], threading.Event()
    future = executor.submit(executor.statistics)
    assert future.result().running == 1

    def look(_):
        seen.append(executor.statistics())
        over.set()

    executor.submit(int).add_done_callback(look)
    over.wait()
    assert seen[0].submitted == 2


def test_figures_print_readably(make_raddle):
    assert "submitted=0" in repr(make_raddle(1).statistics())
