"""Handlers of what workers tell may be slow, fail, or wait: only the teller's own replies wait."""

import logging
import mmap
import os
import threading
import time

import process_tasks as tasks
import pytest
import record_tasks

import raddle

SECONDS = 60


@pytest.fixture
def handle():
    """Has records of the test's logger handled by a function."""
    logger = logging.getLogger("raddle-test")
    added = []

    def add(emit):
        handler = logging.Handler()
        handler.emit = emit
        logger.addHandler(handler)
        added.append(handler)

    yield add
    for handler in added:
        logger.removeHandler(handler)


class Held:
    """A handler that keeps the first record until it is let go."""

    def __init__(self):
        self.seen = []
        self.has_come = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self, record):
        self.seen.append(record.getMessage())
        self.has_come.set()
        assert self.goes_on.wait(SECONDS)


@pytest.fixture
def held(handle):
    """A handler that keeps the first record until it is let go, at the end of the test at last."""
    one = Held()
    handle(one)
    yield one
    one.goes_on.set()


def test_only_replies_of_the_worker_that_told_wait_behind_it(make_ours, held, gate):
    pool = make_ours(2)
    telling = pool.submit(record_tasks.log_and, gate)
    gate.wait_started()
    assert held.has_come.wait(SECONDS)
    # Its handler is still at it; those of the other worker are there.
    assert [pool.submit(tasks.square, n).result() for n in range(20)] == [n * n for n in range(20)]
    gate.open()
    # It has ended, and nobody may know before the record has been handled.
    assert not telling.done()
    held.goes_on.set()
    assert telling.result() is None
    assert held.seen == ["it runs"]


def test_limits_are_kept_while_a_handler_is_slow(make_default, held, gate):
    pool = make_default(2)
    telling = pool.submit(record_tasks.log_and, gate)
    assert held.has_come.wait(SECONDS)
    limited = pool.options(task_timeout=0.05)
    assert type(limited.submit(time.sleep, SECONDS).exception()) is raddle.TaskTimeout
    # A worker was started in its place.
    assert pool.submit(tasks.square, 3).result() == 9
    held.goes_on.set()
    gate.open()
    assert telling.result() is None


def test_what_a_lost_task_told_is_handled_before_it_fails(make_default, held):
    pool = make_default(1)
    lost = pool.submit(record_tasks.log_many, 3, "is killed", logging.WARNING)
    assert held.has_come.wait(SECONDS)
    # The worker is buried, and another one has taken its place.
    assert pool.submit(tasks.square, 3).result() == 9
    assert not lost.done()
    held.goes_on.set()
    assert type(lost.exception()) is raddle.WorkerDied
    assert held.seen == ["record 0", "record 1", "record 2"]


def test_a_pool_that_breaks_has_handled_what_was_told(make_default, held):
    pool = make_default(1, on_crash="break")
    lost = pool.submit(record_tasks.log_many, 3, "is killed", logging.WARNING)
    waiting = pool.submit(tasks.square, 3)
    assert held.has_come.wait(SECONDS)
    held.goes_on.set()
    assert type(lost.exception()).__name__ == "WorkerDied"
    assert type(waiting.exception()).__name__ == "BrokenProcessPool"
    assert held.seen == ["record 0", "record 1", "record 2"]


def test_no_more_is_read_than_is_told(make_default, handle, tmp_path):
    path, count, size = tmp_path / "counter", 6_000, 2_000
    path.write_bytes(bytes(8))
    behind = []
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 8) as counter:

        def written():
            return int.from_bytes(counter[:8], "little")

        def emit(record):
            # First it stays behind by much: that much is taken in in any case.
            while not behind and written() < 1_000:
                time.sleep(0.001)
            behind.append(written() - record.args[0])

        handle(emit)
        pool = make_default(1)
        pool.submit(record_tasks.log_and_count, str(path), count, size).result()
    assert len(behind) == count
    # A few MB and the ring, of 12 MB.
    assert 900 < max(behind) < 3_000


def test_a_task_may_end_while_much_of_what_it_told_is_unread(make_default, held):
    pool = make_default(1, label="much")
    views = [pool.options(label=f"task {number}") for number in range(3)]
    futures = [view.submit(record_tasks.log_long, 60, 100_000) for view in views]
    assert held.has_come.wait(SECONDS)
    held.goes_on.set()
    assert [future.result() for future in futures] == [60] * 3
    assert len(held.seen) == 180


# Whoever hears waits himself.


def test_a_handler_may_wait_for_a_task_of_the_pool(make_ours, handle):
    pool = make_ours(1)
    results, are_all = [], threading.Event()

    def emit(record):
        number = record.args[0]
        first, second = [pool.submit(tasks.square, number + k) for k in range(2)]
        raddle.wait([first, second])
        results.append((first.result(), second.result(), *pool.map(tasks.square, [number])))
        if number == 2:
            are_all.set()

    handle(emit)
    for number in range(3):
        pool.submit(record_tasks.log, logging.WARNING, "%d", number).result()
    # Results do not wait for one who waits himself.
    assert are_all.wait(SECONDS)
    assert results == [(n * n, (n + 1) ** 2, n * n) for n in range(3)]


def test_a_handler_may_wait_for_a_task_that_tells_more_than_is_kept(make_default, handle):
    pool = make_default(1)
    seen = []

    def emit(record):
        seen.append(record.msg)
        if record.msg == "first":
            assert pool.submit(record_tasks.log_long, 60, 100_000).result() == 60

    handle(emit)
    pool.submit(record_tasks.log, logging.WARNING, "first").result()
    # All is told before it returns.
    pool.shutdown()
    assert len(seen) == 61


def test_a_callback_may_wait_for_a_task_of_the_pool(make_ours):
    pool, other = make_ours(1), make_ours(1)
    results, is_over = [], threading.Event()

    def then(future):
        try:
            number = future.result()
            results.append(pool.submit(tasks.square, number).result())
            futures = {other.submit(tasks.square, 4), pool.submit(tasks.square, 5)}
            done, _ = raddle.wait(futures)
            results.append(sorted(one.result() for one in done))
            again = pool.options(retries=1).submit(tasks.raise_error, ValueError("again"))
            results.append(str(again.exception()))
        finally:
            is_over.set()

    pool.submit(tasks.square, 3).add_done_callback(then)
    assert is_over.wait(SECONDS)
    assert results == [81, [16, 25], "again"]


def test_a_callback_that_waits_too_long_gets_a_timeout(make_default, gate):
    pool = make_default(1)
    raised, is_over = [], threading.Event()

    def then(_):
        try:
            pool.submit(gate).result(timeout=0.02)
        except TimeoutError as error:
            raised.append(error)
        is_over.set()

    pool.submit(abs, 1).add_done_callback(then)
    assert is_over.wait(SECONDS)
    assert len(raised) == 1


def test_a_worker_that_dies_under_a_callback_that_waits_is_replaced(make_default):
    pool = make_default(1)
    errors, is_over = [], threading.Event()

    def then(_):
        errors.append(pool.submit(os._exit, 3).exception())
        errors.append(pool.submit(tasks.square, 3).result())
        is_over.set()

    pool.submit(abs, 1).add_done_callback(then)
    assert is_over.wait(SECONDS)
    assert (type(errors[0]), errors[1]) == (raddle.WorkerDied, 9)


def test_a_handler_cannot_wait_for_the_end_of_the_pool(make_default, handle):
    pool = make_default(1)
    raised = []

    def emit(record):
        try:
            pool.shutdown(wait=True)
        except RuntimeError as error:
            raised.append(str(error))

    handle(emit)
    pool.submit(record_tasks.log, logging.WARNING, "to be told").result()
    assert len(raised) == 1 and "cannot wait for its end" in raised[0]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_handler_that_wants_to_end_the_program_costs_no_other_record(
    make_default, handle, capsys, error
):
    seen = []

    class Fails(logging.Handler):
        def handle(self, record):
            seen.append(record.getMessage())
            raise error("of the handler")

    handler = Fails()
    logging.getLogger("raddle-test").addHandler(handler)
    try:
        make_default(1).submit(record_tasks.log_many, 3, "lives", logging.WARNING).result()
    finally:
        logging.getLogger("raddle-test").removeHandler(handler)
    assert seen == ["record 0", "record 1", "record 2"]
    assert capsys.readouterr().err.count(f"{error.__name__}: of the handler") == 3
