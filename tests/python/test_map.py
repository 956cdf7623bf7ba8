"""Executor.map: order, exceptions, timeouts, what is read when, what is cancelled."""

import itertools
import threading

import pytest
from implementations import need_release


@pytest.fixture
def make_buffered(make_any, request):
    """Makes executors whose ``map`` takes ``buffersize``."""
    import concurrent.futures

    if request.node.callspec.params["make_any"] == "standard":
        need_release(concurrent.futures, (3, 14), "map(buffersize=)")
    return make_any


class Taken:
    """An iterator that counts what was read of it, and stops the test if read beyond *limit*."""

    def __init__(self, source, limit=100_000):
        self.source, self.limit, self.count = iter(source), limit, 0

    def __iter__(self):
        return self

    def __next__(self):
        assert self.count < self.limit, "read far ahead of what is needed"
        value = next(self.source)
        self.count += 1
        return value


# results


def test_map_gives_the_results_in_the_order_of_the_input(make_any):
    assert list(make_any(3).map(abs, range(-1000, 0))) == list(range(1000, 0, -1))


def test_map_zips_its_iterables_and_stops_at_the_shortest(make_any):
    executor = make_any(2)
    assert list(executor.map(pow, [2, 3, 4], itertools.count(1))) == [2, 9, 64]
    assert list(executor.map(max, "ab", "ba", "cc")) == ["c", "c"]


def test_map_of_no_iterable_is_empty(make_any):
    executor = make_any(2)
    assert list(executor.map(abs)) == []
    assert list(executor.map(abs, [])) == []


def test_map_returns_an_iterator(make_any):
    results = make_any(2).map(abs, [-1, -2])
    assert iter(results) is results
    assert [next(results), next(results)] == [1, 2]
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(results)


def test_results_come_before_later_tasks_are_done(make_any, blocker):
    results = make_any(2).map(lambda n: blocker(n) if n else n, [0, 1])
    assert next(results) == 0
    blocker.wait_started()
    blocker.release()
    assert next(results) == 1


@pytest.mark.parametrize("chunksize", [1, 3, 1000])
def test_chunksize_is_accepted(make_any, chunksize):
    results = make_any(2).map(abs, range(-10, 0), chunksize=chunksize)
    assert list(results) == list(range(10, 0, -1))


def test_timeout_and_chunksize_are_keyword_only(make_any):
    executor = make_any(1)
    assert list(executor.map(pow, [2], [3], timeout=60, chunksize=1)) == [8]
    with pytest.raises(TypeError):
        executor.map(pow, [2], [3], unknown=1)


def test_the_tasks_of_one_map_run_at_once(make_any):
    executor = make_any(4)
    for count in (4, 40):
        barrier = threading.Barrier(4)
        places = list(executor.map(lambda _: barrier.wait(), range(count)))
        assert sorted(places) == sorted(list(range(4)) * (count // 4))


@pytest.mark.parametrize("place", [0, 1, 250, 499])
def test_a_blocked_task_of_a_map_holds_no_other_task_back(make_any, place):
    executor, lock, others, left = make_any(2), threading.Lock(), threading.Event(), 499

    def work(number):
        nonlocal left
        if number == place:
            others.wait()
            return number
        with lock:
            left -= 1
            if not left:
                others.set()
        return number

    assert list(executor.map(work, range(500))) == list(range(500))


def test_two_maps_share_the_workers(make_any):
    executor = make_any(2)
    left, right = threading.Barrier(2), threading.Barrier(2)
    first = executor.map(lambda _: left.wait(), range(2))
    second = executor.map(lambda _: right.wait(), range(2))
    assert sorted(second) == sorted(first) == [0, 1]


def test_submit_and_map_run_beside_each_other(make_any, blocker):
    executor = make_any(2)
    results = executor.map(blocker, [5])
    blocker.wait_started()
    assert executor.submit(abs, -3).result() == 3
    blocker.release()
    assert list(results) == [5]


def test_a_task_may_map_on_its_own_pool_while_a_worker_is_free(make_any):
    executor = make_any(2)
    future = executor.submit(lambda: sum(executor.map(abs, range(-100, 0))))
    assert future.result() == 5050


def test_the_results_may_be_read_by_another_thread(make_any):
    results, read = make_any(2).map(abs, range(-100, 0)), []
    reader = threading.Thread(target=lambda: read.extend(results))
    reader.start()
    reader.join()
    assert read == list(range(100, 0, -1))


# what is read, and when


def test_map_reads_all_of_its_input_at_the_call(make_any):
    taken = Taken(range(100))
    results = make_any(1).map(abs, taken)
    assert taken.count == 100
    assert len(list(results)) == 100


def test_tasks_run_while_the_input_is_still_being_read(make_any):
    """An input may wait for what the first tasks did: a crawler's list of pages does."""
    first_is_done = threading.Event()

    def work(number):
        first_is_done.set()
        return number

    def source():
        yield 0
        first_is_done.wait()
        yield 1

    assert list(make_any(1).map(work, source())) == [0, 1]


def test_map_runs_its_tasks_even_if_nobody_iterates(make_any):
    executor, seen = make_any(2), []
    executor.map(seen.append, range(100))
    executor.shutdown(wait=True)
    assert sorted(seen) == list(range(100))


def test_dropping_results_that_were_never_iterated_cancels_nothing(make_any, blocker):
    executor, seen = make_any(1), []
    blocker.hold(executor)
    results = executor.map(seen.append, range(100))
    del results
    blocker.release()
    executor.shutdown(wait=True)
    assert seen == list(range(100))


def test_an_error_of_the_input_is_raised_by_map(make_any):
    def source():
        yield 1
        raise LookupError("input")

    executor, seen = make_any(1), []
    with pytest.raises(LookupError, match="input"):
        executor.map(seen.append, source())
    executor.shutdown(wait=True)
    assert seen == [1], "what was read before has been submitted"


def test_an_input_that_is_not_iterable_is_a_type_error(make_any):
    with pytest.raises(TypeError):
        make_any(1).map(abs, 3)


def test_an_input_may_use_the_pool_that_reads_it(make_any):
    executor = make_any(2)
    source = (executor.submit(abs, -n).result() for n in range(20))
    assert list(executor.map(str, source)) == [str(n) for n in range(20)]


# exceptions


def test_an_exception_is_raised_in_its_place(make_any):
    results = make_any(2).map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_an_exception_cancels_what_has_not_started(make_any, blocker):
    executor, seen = make_any(1), []

    def work(number):
        seen.append(number)
        return blocker() if number else 1 / number

    results = executor.map(work, range(10))
    with pytest.raises(ZeroDivisionError):
        next(results)
    blocker.release()
    executor.shutdown(wait=True)
    assert seen in ([0], [0, 1]), "the second had perhaps started, no other"


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), GeneratorExit()])
def test_map_raises_what_is_no_ordinary_exception_too(make_any, error):
    def work(number):
        if number == 3:
            raise error
        return number

    results = make_any(2).map(work, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)) as caught:
        next(results)
    assert caught.value is error


def test_stop_iteration_of_a_task_does_not_end_the_results_silently(make_any):
    def work(number):
        if number == 2:
            raise StopIteration
        return number

    results = make_any(2).map(work, range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(results)


# timeouts and leaving early


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_map_raises_timeout_error_and_cancels_the_rest(make_any, library_timeout, blocker, timeout):
    executor, seen = make_any(1), []
    (held,) = blocker.hold(executor)
    results = executor.map(seen.append, range(10), timeout=timeout)
    with pytest.raises(library_timeout):
        next(results)
    blocker.release()
    held.result()
    executor.shutdown(wait=True)
    assert seen == []


@pytest.fixture
def library_timeout():
    """The exception of a wait that took too long; the builtin one from Python 3.11."""
    import concurrent.futures

    return concurrent.futures.TimeoutError


def test_results_that_are_there_beat_a_timeout_of_zero(make_any, library_timeout, blocker):
    executor = make_any(2)
    results = executor.map(lambda n: blocker(n) if n == 2 else n, range(4), timeout=0)
    blocker.wait_started()
    executor.submit(int).result()
    executor.submit(int).result()
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(library_timeout):
        next(results)


def test_a_timeout_that_is_no_number_is_a_type_error(make_any):
    with pytest.raises(TypeError):
        list(make_any(1).map(abs, [1], timeout="soon"))


def test_closing_started_results_cancels_the_rest(make_any, blocker):
    executor, seen = make_any(1), []

    def work(number):
        seen.append(number)
        return blocker(number) if number else number

    results = executor.map(work, range(10))
    assert next(results) == 0
    results.close()
    blocker.release()
    executor.shutdown(wait=True)
    assert seen in ([0], [0, 1])
    with pytest.raises(StopIteration):
        next(results)


def test_dropping_started_results_cancels_the_rest(make_any, blocker):
    executor, seen = make_any(1), []

    def work(number):
        seen.append(number)
        return blocker(number) if number else number

    results = executor.map(work, range(10))
    assert next(results) == 0
    del results
    blocker.release()
    executor.shutdown(wait=True)
    assert seen in ([0], [0, 1])


def test_breaking_out_of_a_loop_leaves_the_pool_usable(make_any):
    executor = make_any(2)
    for _ in range(100):
        for number in executor.map(abs, range(-50, 0)):
            if number == 45:
                break
    assert list(executor.map(abs, [-1, -2])) == [1, 2]


# buffersize


@pytest.mark.parametrize("buffersize", [1, 2, 4, 8])
def test_buffersize_changes_no_result(make_buffered, buffersize):
    results = make_buffered(2).map(str, range(4), buffersize=buffersize)
    assert list(results) == ["0", "1", "2", "3"]


def test_an_infinite_input_works_with_a_buffer(make_buffered):
    results = make_buffered(2).map(abs, itertools.count(), buffersize=3)
    assert list(itertools.islice(results, 1000)) == list(range(1000))
    results.close()


def test_several_infinite_inputs_work_with_a_buffer(make_buffered):
    results = make_buffered(2).map(pow, itertools.count(), itertools.repeat(2), buffersize=2)
    assert list(itertools.islice(results, 5)) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("buffersize", [1, 2, 7])
def test_a_buffer_is_filled_at_the_call_and_read_no_further(make_buffered, buffersize):
    executor, taken = make_buffered(2), Taken(range(100))
    executor.map(abs, taken, buffersize=buffersize)
    executor.shutdown(wait=True)
    assert taken.count == buffersize


@pytest.mark.parametrize("buffersize", [1, 2, 7])
def test_each_result_taken_lets_one_more_item_in(make_buffered, buffersize):
    executor, taken = make_buffered(2), Taken(itertools.count())
    results = executor.map(abs, taken, buffersize=buffersize)
    for done in range(1, 50):
        assert next(results) == done - 1
        assert done + buffersize - 1 <= taken.count <= done + buffersize


def test_no_more_tasks_run_than_the_buffer_admits(make_buffered, blocker):
    executor, started = make_buffered(8), []

    def work(number):
        started.append(number)
        return blocker(number)

    results = executor.map(work, itertools.count(), buffersize=3)
    blocker.wait_started(3)
    assert sorted(started) == [0, 1, 2]
    blocker.release()
    assert next(results) == 0


def test_a_buffer_of_nothing_is_empty(make_buffered):
    executor = make_buffered(2)
    assert list(executor.map(abs, [], buffersize=2)) == []
    assert list(executor.map(abs, buffersize=2)) == []


def test_an_exception_ends_a_buffered_map_in_its_place(make_buffered):
    taken = Taken([1, 2, 4, 0, 8, 16, 32, 64])
    results = make_buffered(2).map(lambda n: 64 // n, taken, buffersize=2)
    assert [next(results) for _ in range(3)] == [64, 32, 16]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert taken.count in (5, 6)
    with pytest.raises(StopIteration):
        next(results)


def test_an_error_of_a_buffered_input_is_raised_where_it_is_read(make_buffered):
    def source():
        yield 1
        yield 2
        raise LookupError("input")

    results = make_buffered(1).map(abs, source(), buffersize=1)
    assert next(results) == 1
    with pytest.raises(LookupError, match="input"):
        list(results)


def test_a_buffered_map_ends_early_when_its_pool_is_shut_down(make_buffered):
    executor = make_buffered(1)
    results = executor.map(abs, itertools.count(), buffersize=2)
    assert next(results) == 0
    executor.shutdown(wait=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(itertools.islice(results, 10))


def test_a_buffered_map_ends_when_its_pool_is_collected(library):
    need_release(library, (3, 14), "map(buffersize=)")
    executor = library.ThreadPoolExecutor(1)
    results = executor.map(abs, Taken(itertools.count(), limit=100), buffersize=2)
    assert next(results) == 0
    del executor
    assert list(results) == [1, 2]


@pytest.mark.parametrize("buffersize", ["3", 2.0, object()])
def test_a_buffersize_that_is_no_integer_is_a_type_error(make_buffered, buffersize):
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        make_buffered(1).map(abs, [1], buffersize=buffersize)


@pytest.mark.parametrize("buffersize", [0, -1])
def test_a_buffersize_below_one_is_a_value_error(make_buffered, buffersize):
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        make_buffered(1).map(abs, [1], buffersize=buffersize)


def test_buffersize_none_reads_everything(make_buffered):
    taken = Taken(range(50))
    assert list(make_buffered(1).map(abs, taken, buffersize=None)) == list(range(50))
