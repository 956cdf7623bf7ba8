"""Future by itself and as a pool makes it: states, cancelling, callbacks, setting by hand."""

import copy
import pickle
import re
import threading
import weakref
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as StandardFuture
from concurrent.futures import TimeoutError as WaitTimeout

import pytest
from implementations import need_release


def address_free(text):
    return re.sub(r"0x[0-9a-f]+", "0x", text)


# states


def test_a_new_future_is_pending(library):
    future = library.Future()
    assert not (future.done() or future.running() or future.cancelled())
    assert future._state == "PENDING"


def test_a_future_runs_then_finishes(make_any, blocker):
    future = make_any(1).submit(blocker, 5)
    blocker.wait_started()
    assert future.running() and not future.done() and not future.cancelled()
    blocker.release()
    assert future.result() == 5
    assert future.done() and not future.running()


def test_repr_names_state_and_type(library, make_any, blocker):
    pending, cancelled = library.Future(), library.Future()
    cancelled.cancel()
    running = make_any(1).submit(blocker)
    blocker.wait_started()
    failed, returned = library.Future(), library.Future()
    failed.set_exception(OSError())
    returned.set_result(3)
    assert [address_free(repr(f)) for f in (pending, cancelled, running, failed, returned)] == [
        "<Future at 0x state=pending>",
        "<Future at 0x state=cancelled>",
        "<Future at 0x state=running>",
        "<Future at 0x state=finished raised OSError>",
        "<Future at 0x state=finished returned int>",
    ]


def test_the_result_is_the_same_object_each_time(make_any):
    future = make_any(1).submit(object)
    first = future.result()
    assert future.result() is first and future.result(timeout=0) is first


def test_result_without_time_raises_timeout_error(make_any, blocker):
    future = make_any(1).submit(blocker)
    for timeout in (0, 0.001, -1, -0.5):
        with pytest.raises(WaitTimeout):
            future.result(timeout=timeout)
        with pytest.raises(WaitTimeout):
            future.exception(timeout)
    blocker.release()
    assert future.result(timeout=None) is None


@pytest.mark.parametrize("timeout", [0, -3, 1e-9, 60, 1_000_000.0, True])
def test_a_finished_future_answers_whatever_the_timeout(make_any, timeout):
    future = make_any(1).submit(abs, -1)
    future.result()
    assert future.result(timeout) == 1
    assert future.exception(timeout) is None


def test_a_timeout_that_is_no_number_is_a_type_error(make_any, blocker):
    future = make_any(1).submit(blocker)
    with pytest.raises(TypeError):
        future.result("soon")
    with pytest.raises(TypeError):
        future.exception(timeout=[])


def test_every_waiting_thread_gets_the_result(make_any, blocker):
    future, got = make_any(1).submit(blocker, 9), []
    threads = [threading.Thread(target=lambda: got.append(future.result())) for _ in range(10)]
    for thread in threads:
        thread.start()
    blocker.release()
    for thread in threads:
        thread.join()
    assert got == [9] * 10


def test_an_exception_may_be_asked_for_again(make_any):
    future = make_any(1).submit(divmod, 1, 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            future.result()
    assert isinstance(future.exception(), ZeroDivisionError)


def test_asking_again_does_not_lengthen_the_traceback_for_ever(make_any):
    """Each ``raise`` of one exception adds the frames that it passes, and no more."""
    future = make_any(1).submit(divmod, 1, 0)

    def depth():
        count, trace = 0, future.exception().__traceback__
        while trace is not None:
            count, trace = count + 1, trace.tb_next
        return count

    depths = []
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            future.result()
        depths.append(depth())
    assert depths[4] - depths[3] <= 3


def test_an_exception_that_is_false_is_still_an_exception(library, make_executor):
    need_release(library, (3, 14), "support for exceptions that are false")

    class Empty(Exception):
        def __len__(self):
            return 0

    def fail():
        raise Empty

    future = make_executor(1).submit(fail)
    with pytest.raises(Empty):
        future.result()
    assert isinstance(future.exception(), Empty)


# cancelling


def test_a_waiting_task_can_be_cancelled_and_never_runs(make_any, blocker):
    executor, seen = make_any(1), []
    blocker.hold(executor)
    future = executor.submit(seen.append, 1)
    assert future.cancel() is True
    assert future.cancel() is True, "and again"
    assert future.cancelled() and future.done() and not future.running()
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(CancelledError):
        future.exception()
    blocker.release()
    executor.shutdown(wait=True)
    assert seen == []


def test_running_and_finished_tasks_cannot_be_cancelled(make_any, blocker):
    executor = make_any(1)
    (running,) = blocker.hold(executor)
    assert running.cancel() is False
    blocker.release()
    assert running.result() is None
    assert running.cancel() is False
    failed = executor.submit(divmod, 1, 0)
    failed.exception()
    assert failed.cancel() is False


def test_cancelling_wakes_whoever_waits(make_any, blocker):
    executor, errors = make_any(1), []
    blocker.hold(executor)
    future = executor.submit(int)

    def ask():
        try:
            future.result()
        except CancelledError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert future.cancel()
    for thread in threads:
        thread.join()
    assert len(errors) == 5


def test_cancelling_races_with_starting(make_any):
    """Cancelled or run, never both and never neither."""
    executor = make_any(2)
    cancelled = finished = 0
    for _ in range(3000):
        seen = []
        future = executor.submit(seen.append, 1)
        if future.cancel():
            cancelled += 1
            with pytest.raises(CancelledError):
                future.result()
        else:
            finished += 1
            future.result()
            assert seen == [1]
    assert cancelled + finished == 3000


# callbacks


def test_callbacks_run_in_the_order_they_were_added(make_any, blocker):
    executor, seen, over = make_any(1), [], threading.Event()
    future = executor.submit(blocker)
    for number in range(20):
        future.add_done_callback(lambda f, number=number: seen.append((number, f is future)))
    future.add_done_callback(lambda _: over.set())
    blocker.release()
    over.wait()
    assert seen == [(n, True) for n in range(20)]


def test_the_same_callback_added_twice_runs_twice(library):
    future, seen = library.Future(), []
    future.add_done_callback(seen.append)
    future.add_done_callback(seen.append)
    future.set_result(1)
    assert seen == [future, future]


def test_callbacks_of_a_task_run_in_its_worker(make_any, blocker):
    executor, where, over = make_any(1), [], threading.Event()
    worker = executor.submit(threading.get_ident).result()
    future = executor.submit(blocker)

    def note(_):
        where.append(threading.get_ident())
        over.set()

    future.add_done_callback(note)
    blocker.release()
    over.wait()
    assert where == [worker]


def test_callbacks_of_a_cancelled_task_run_where_it_was_cancelled(make_any, blocker):
    executor, where = make_any(1), []
    blocker.hold(executor)
    future = executor.submit(int)
    future.add_done_callback(lambda _: where.append(threading.get_ident()))
    future.cancel()
    future.cancel()
    assert where == [threading.get_ident()]


def test_a_callback_added_afterwards_runs_at_once(make_any, library):
    finished = make_any(1).submit(abs, -1)
    finished.result()
    cancelled, failed = library.Future(), library.Future()
    cancelled.cancel()
    failed.set_exception(OSError())
    for future in (finished, cancelled, failed):
        seen = []
        assert future.add_done_callback(lambda f, seen=seen: seen.append(f)) is None
        assert seen == [future]


def test_the_future_is_done_when_its_callback_runs(make_any, blocker):
    executor, seen, over = make_any(1), [], threading.Event()
    future = executor.submit(blocker, 4)

    def look(f):
        seen.append((f.done(), f.running(), f.result(timeout=0)))
        over.set()

    future.add_done_callback(look)
    blocker.release()
    over.wait()
    assert seen == [(True, False, 4)]


def test_an_error_of_a_callback_is_logged_and_the_others_run(library, caplog):
    future, seen = library.Future(), []

    def fail(_):
        raise ValueError("callback")

    future.add_done_callback(seen.append)
    future.add_done_callback(fail)
    future.add_done_callback(seen.append)
    future.set_result(5)
    assert seen == [future, future]
    future.add_done_callback(fail)
    records = [r for r in caplog.records if r.name == "concurrent.futures"]
    assert len(records) == 2
    for record in records:
        assert record.levelname == "ERROR"
        assert record.getMessage() == f"exception calling callback for {future!r}"
        assert isinstance(record.exc_info[1], ValueError)


def test_an_error_of_a_callback_in_a_worker_is_logged_and_the_pool_goes_on(
    make_any, blocker, caplog
):
    executor, over = make_any(1), threading.Event()
    future = executor.submit(blocker)
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: over.set())
    blocker.release()
    over.wait()
    assert executor.submit(abs, -2).result() == 2
    assert [r.name for r in caplog.records] == ["concurrent.futures"]
    assert isinstance(caplog.records[0].exc_info[1], ZeroDivisionError)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_a_base_exception_of_a_callback_reaches_who_sets_the_result(library, error):
    def leave(_):
        raise error

    future = library.Future()
    future.add_done_callback(leave)
    with pytest.raises(type(error)):
        future.set_result(1)
    assert future.result() == 1
    with pytest.raises(type(error)):
        future.add_done_callback(leave)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_base_exception_of_a_callback_costs_the_pool_no_worker(make_raddle, blocker, error):
    """In the standard library the worker ends, and a pool of one runs nothing any more."""

    def leave(_):
        raise error

    executor, seen, over = make_raddle(1), [], threading.Event()
    future = executor.submit(blocker, 1)
    future.add_done_callback(leave)
    queued = [executor.submit(abs, -n) for n in range(5)]
    blocker.release()
    assert future.result() == 1
    assert [f.result() for f in queued] == list(range(5))
    assert executor.submit(seen.append, 1).add_done_callback(lambda _: over.set()) is None
    over.wait()
    assert seen == [1]


def test_a_callback_may_add_a_callback(library):
    future, seen = library.Future(), []
    future.add_done_callback(lambda f: f.add_done_callback(seen.append))
    future.set_result(None)
    assert seen == [future]


def test_a_callback_may_submit_and_wait_for_the_pool(make_any, blocker):
    executor, results, over = make_any(2), [], threading.Event()
    future = executor.submit(blocker, 3)

    def go_on(f):
        results.append(executor.submit(abs, -f.result()).result())
        over.set()

    future.add_done_callback(go_on)
    blocker.release()
    over.wait()
    assert results == [3]


# by hand


def test_a_future_may_be_driven_by_hand(library):
    future = library.Future()
    assert future.set_running_or_notify_cancel() is True
    assert future.running()
    future.set_result("value")
    assert future.result() == "value"


def test_a_cancelled_future_tells_whoever_would_run_it(library):
    future = library.Future()
    future.cancel()
    assert future._state == "CANCELLED"
    assert future.set_running_or_notify_cancel() is False
    assert future._state == "CANCELLED_AND_NOTIFIED"
    assert future.cancelled()


def test_a_second_outcome_is_an_invalid_state(library):
    error = OSError("first")
    future = library.Future()
    future.set_exception(error)
    with pytest.raises(InvalidStateError) as caught:
        future.set_result(1)
    assert address_free(str(caught.value)) == (
        "FINISHED: <Future at 0x state=finished raised OSError>"
    )
    with pytest.raises(InvalidStateError):
        future.set_exception(ValueError())
    assert future.exception() is error


def test_starting_a_finished_future_is_refused_and_logged(library, caplog):
    future = library.Future()
    future.set_result(1)
    with pytest.raises(RuntimeError, match="Future in unexpected state"):
        future.set_running_or_notify_cancel()
    (record,) = caplog.records
    assert record.name == "concurrent.futures" and record.levelname == "CRITICAL"
    assert record.getMessage() == f"Future {id(future)} in unexpected state: FINISHED"


def test_setting_by_hand_wakes_a_waiting_thread(library):
    for outcome in ("result", "exception", "cancel"):
        future, got, waiting = library.Future(), [], threading.Event()

        def ask(future=future, got=got, waiting=waiting):
            waiting.set()
            try:
                got.append(future.result())
            except (OSError, CancelledError) as error:
                got.append(type(error))

        thread = threading.Thread(target=ask)
        thread.start()
        waiting.wait()
        if outcome == "result":
            future.set_result(7)
        elif outcome == "exception":
            future.set_exception(OSError())
        else:
            future.cancel()
        thread.join()
        assert got == [{"result": 7, "exception": OSError, "cancel": CancelledError}[outcome]]


def test_one_outcome_wins_when_many_threads_set_it(library):
    for _ in range(200):
        future, won = library.Future(), []
        start = threading.Barrier(4)

        def settle(number, future=future, won=won, start=start):
            start.wait()
            try:
                future.set_result(number)
            except InvalidStateError:
                return
            won.append(number)

        threads = [threading.Thread(target=settle, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [future.result()]


# as an object


def test_a_future_is_one_of_the_standard_library(library, make_any):
    assert isinstance(library.Future(), StandardFuture)
    assert isinstance(make_any(1).submit(int), library.Future | StandardFuture)


def test_a_future_can_be_subscripted_at_run_time(library):
    alias = library.Future[int]
    assert alias.__origin__ is library.Future
    assert alias.__args__ == (int,)


def test_a_future_takes_attributes_and_weak_references(make_any):
    future = make_any(1).submit(int)
    future.note = "mine"
    assert future.note == "mine" and vars(future)["note"] == "mine"
    assert weakref.ref(future)() is future


def test_futures_compare_and_hash_by_identity(make_any):
    executor = make_any(1)
    first, second = executor.submit(int), executor.submit(int)
    assert first == first and first != second
    assert len({first, second, first}) == 2


def test_a_future_can_be_subclassed(library):
    class Named(library.Future):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def result(self, timeout=None):
            return self.name, super().result(timeout)

    future, seen = Named("mine"), []
    future.add_done_callback(seen.append)
    assert future.set_running_or_notify_cancel()
    future.set_result(1)
    assert future.result() == ("mine", 1)
    assert seen == [future]
    assert address_free(repr(future)) == "<Named at 0x state=finished returned int>"


def test_a_future_cannot_be_pickled(make_any):
    future = make_any(1).submit(int)
    future.result()
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(future)
    with pytest.raises(TypeError, match="pickle"):
        copy.deepcopy(future)


def test_state_condition_and_waiters_can_be_reached(make_any):
    """Tools of other people, ``wait`` of the standard library among them, use them."""
    future = make_any(1).submit(int)
    future.result()
    with future._condition:
        assert future._state == "FINISHED"
        assert list(future._waiters) == []


def test_a_waiter_that_was_put_in_by_hand_is_told(library):
    class Waiter:
        def __init__(self):
            self.told = []

        def add_result(self, future):
            self.told.append(("result", future))

        def add_exception(self, future):
            self.told.append(("exception", future))

        def add_cancelled(self, future):
            self.told.append(("cancelled", future))

    def settle(future, outcome):
        if outcome == "cancelled":
            future.cancel()
            future.set_running_or_notify_cancel()
        elif outcome == "result":
            future.set_result(1)
        else:
            future.set_exception(OSError())

    for outcome in ("result", "exception", "cancelled"):
        future, waiter = library.Future(), Waiter()
        with future._condition:
            future._waiters.append(waiter)
        settle(future, outcome)
        assert waiter.told == [(outcome, future)]


def test_the_condition_is_notified_when_a_task_ends(make_any, blocker):
    future = make_any(1).submit(blocker)
    blocker.wait_started()
    with future._condition:
        threading.Thread(target=blocker.release).start()
        while future._state != "FINISHED":
            future._condition.wait()
    assert future.done()
