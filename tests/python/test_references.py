"""What is let go, and when: arguments, results, exceptions, cycles through futures.

Unless a test says otherwise the cyclic collector is off: what is asked to go must go when its
last reference goes.
"""

import gc
import threading
import weakref

import pytest
from blocking import Payload

pytestmark = pytest.mark.usefixtures("no_collector")


class Watch:
    """Knows when all the objects it was shown are gone."""

    def __init__(self):
        self._references, self._gone, self._left = [], threading.Semaphore(0), 0

    def over(self, thing):
        self._references.append(weakref.ref(thing, lambda _: self._gone.release()))
        self._left += 1
        return thing

    def wait_gone(self):
        assert self._left, "nothing is watched"
        for _ in range(self._left):
            self._gone.acquire()


def consume(*_args, **_kwargs):
    return None


def test_arguments_go_when_the_task_is_done(make_any):
    executor, watch = make_any(1), Watch()
    future = executor.submit(consume, watch.over(Payload()), key=watch.over(Payload()))
    watch.wait_gone()
    assert future.result() is None


def test_the_function_goes_when_the_task_is_done(make_any):
    executor, watch = make_any(1), Watch()
    future = executor.submit(watch.over(Payload()).method)
    result = future.result()
    assert isinstance(result, Payload)
    del result, future
    watch.wait_gone()


def test_arguments_go_before_the_next_task_is_done(make_any, blocker):
    executor, watch = make_any(1), Watch()
    executor.submit(consume, watch.over(Payload()))
    blocker.hold(executor)
    watch.wait_gone()


def test_a_result_goes_with_its_future(make_any):
    executor, watch = make_any(1), Watch()
    future = executor.submit(Payload)
    watch.over(future.result())
    del future
    watch.wait_gone()


def test_a_result_that_nobody_asks_for_goes(make_any):
    executor, watch = make_any(1), Watch()

    def make():
        return watch.over(Payload())

    executor.submit(make).exception()
    watch.wait_gone()


def test_a_future_goes_when_its_user_lets_go(make_any, blocker):
    executor, watch = make_any(1), Watch()
    watch.over(executor.submit(blocker))
    blocker.wait_started()
    blocker.release()
    watch.wait_gone()


def test_what_a_failed_task_held_goes_with_its_future(make_any):
    executor, watch = make_any(1), Watch()

    def fail(thing):
        raise ValueError(thing.method)

    future = executor.submit(fail, watch.over(Payload()))
    assert isinstance(future.exception(), ValueError)
    del future
    watch.wait_gone()


def test_what_a_failed_task_held_goes_after_its_exception_was_raised_here(make_any):
    executor, watch = make_any(1), Watch()

    def fail(thing):
        raise ValueError("no")

    future = executor.submit(fail, watch.over(Payload()))

    def ask(future):
        try:
            future.result()
        except ValueError:
            return True
        finally:
            del future  # the exception holds this frame

    assert ask(future)
    del future
    watch.wait_gone()


def test_results_of_map_go_as_they_are_taken(make_any):
    taken = 0
    for thing in make_any(2).map(lambda _: Payload(), range(20)):
        gone = weakref.ref(thing)
        del thing
        assert gone() is None
        taken += 1
    assert taken == 20


def test_arguments_of_map_go_when_their_task_is_done(make_any):
    executor, watch = make_any(2), Watch()
    results = executor.map(consume, [watch.over(Payload()) for _ in range(20)])
    watch.wait_gone()
    assert list(results) == [None] * 20


def test_what_a_failed_map_held_goes_with_its_results(make_any):
    executor, watch = make_any(2), Watch()

    def fail(thing):
        raise ValueError("no")

    def run():
        results = executor.map(fail, [watch.over(Payload()) for _ in range(10)])
        with pytest.raises(ValueError):
            next(results)

    run()
    executor.submit(int).result()
    gc.collect()  # the traceback that pytest.raises keeps is a cycle
    watch.wait_gone()


@pytest.mark.parametrize("kind", [list, iter])
def test_the_function_of_a_map_goes_when_its_tasks_are_done(make_any, kind):
    executor, watch = make_any(1), Watch()
    results = executor.map(watch.over(Payload()).take, kind([1, 2, 3]))
    watch.wait_gone()
    assert list(results) == [1, 2, 3]


def test_the_function_of_a_map_that_was_left_goes(make_any):
    executor, watch = make_any(1), Watch()
    results = executor.map(watch.over(Payload()).take, [1, 2, 3])
    assert next(results) == 1
    results.close()
    watch.wait_gone()


def test_arguments_of_a_cancelled_task_go(make_any, blocker):
    executor, watch = make_any(1), Watch()
    blocker.hold(executor)
    future = executor.submit(consume, watch.over(Payload()))
    assert future.cancel()
    blocker.release()
    watch.wait_gone()


def test_arguments_of_tasks_cancelled_at_shutdown_go(make_any, blocker):
    executor, watch = make_any(1), Watch()
    blocker.hold(executor)
    futures = [executor.submit(consume, watch.over(Payload())) for _ in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    blocker.release()
    watch.wait_gone()
    assert all(f.cancelled() for f in futures)


def test_an_idle_worker_keeps_nothing_of_its_last_task(make_any):
    executor, watch = make_any(1), Watch()

    def fail():
        local = watch.over(Payload())
        raise ValueError(local)

    executor.submit(fail)
    watch.wait_gone()


def test_the_pool_goes_with_its_last_user(library):
    executor = library.ThreadPoolExecutor(1)
    executor.submit(int).result()
    gone = weakref.ref(executor)
    del executor
    assert gone() is None


def test_the_initializer_and_its_arguments_go_with_the_pool(library):
    watch = Watch()
    executor = library.ThreadPoolExecutor(1, initializer=consume, initargs=(watch.over(Payload()),))
    executor.submit(int).result()
    executor.shutdown(wait=True)
    del executor
    watch.wait_gone()


# cycles: these are the collector's to find


def through_a_callback(future):
    future.add_done_callback(lambda _: future)


def through_an_attribute(future):
    future.itself = future


def through_its_result(future):
    future.set_result([future])


def through_its_exception(future):
    error = OSError()
    error.future = future
    future.set_exception(error)


def through_a_raised_exception(future):
    future.set_exception(OSError())
    try:
        future.result()
    except OSError as error:
        error.future = future


def through_a_waiter(future):
    future._waiters.append([future])


CYCLES = [
    through_a_callback,
    through_an_attribute,
    through_its_result,
    through_its_exception,
    through_a_raised_exception,
    through_a_waiter,
]


@pytest.mark.parametrize("tie", CYCLES)
def test_a_future_in_a_cycle_is_collected(library, tie):
    future = library.Future()
    tie(future)
    gone = weakref.ref(future)
    del future
    assert gone() is not None, "there was no cycle"
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("tie", [through_a_callback, through_an_attribute])
def test_the_future_of_a_task_in_a_cycle_is_collected(make_any, tie):
    executor = make_any(1)
    references = []
    for _ in range(100):
        future = executor.submit(Payload)
        future.result()
        tie(future)
        if tie is through_a_callback:
            future.itself = future
        references.append(weakref.ref(future))
    del future
    executor.submit(int).result()
    gc.collect()
    assert [r() for r in references] == [None] * 100


def test_a_result_that_holds_its_own_future_is_collected(make_any, blocker):
    executor = make_any(1)

    def tie():
        box = [Payload()]
        box.append(executor.submit(blocker, box))
        blocker.release()
        assert box[1].result() is box
        return weakref.ref(box[0]), weakref.ref(box[1])

    gone = tie()
    executor.submit(int).result()
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_an_object_that_holds_its_own_map_is_collected(make_any, taken):
    """``self.results = pool.map(self.work, ...)`` is how people write it."""
    executor = make_any(1)

    class Owner:
        def __init__(self):
            self.results = executor.map(self.work, range(3))

        def work(self, number):
            return self, number

    def use():
        owner = Owner()
        assert all(next(owner.results) == (owner, n) for n in range(taken))
        return weakref.ref(owner)

    gone = use()
    executor.submit(int).result()
    gc.collect()
    assert gone() is None


def test_a_future_that_holds_the_iterator_over_itself_is_collected(library):
    def use():
        done, pending = library.Future(), library.Future()
        done.set_result(None)
        pending.iterator = library.as_completed([done, pending])
        assert next(pending.iterator) is done
        return weakref.ref(pending)

    gone = use()
    gc.collect()
    assert gone() is None


def test_a_pool_in_a_cycle_is_collected_and_ends_its_workers(library):
    executor = library.ThreadPoolExecutor(1)
    worker = executor.submit(threading.current_thread).result()
    executor.itself = executor
    gone = weakref.ref(executor)
    del executor
    assert gone() is not None
    gc.collect()
    assert gone() is None
    worker.join()


def test_a_pool_that_its_initializer_holds_is_collected(library):
    class Owner:
        def __init__(self):
            self.executor = library.ThreadPoolExecutor(1, initializer=self.prepare)

        def prepare(self):
            pass

    owner = Owner()
    gone = weakref.ref(owner.executor)
    del owner
    gc.collect()
    assert gone() is None


def test_many_futures_leave_no_objects_behind(make_any):
    executor = make_any(2)

    def use(count):
        futures = [executor.submit(divmod, 1, n % 2) for n in range(count)]
        for future in futures:
            future.add_done_callback(consume)
            future.exception()
        assert len(list(executor.map(Payload.method, [Payload() for _ in range(count)]))) == count

    use(200)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(5):
        use(200)
    executor.submit(int).result()
    gc.collect()
    assert len(gc.get_objects()) - before < 200
