"""wait and as_completed, each library's functions on each library's futures and on mixtures."""

import gc
import threading
import weakref
from concurrent.futures import TimeoutError as WaitTimeout

import pytest
from blocking import Payload
from implementations import MODULES, load
from waiting import outcome, wait_asleep

SOURCES = (*MODULES, "mixed")


@pytest.fixture(params=SOURCES)
def make_futures(request):
    """Makes *n* futures by hand, of one library or of both in turn."""
    names = list(MODULES) if request.param == "mixed" else [request.param]
    modules = [load(name) for name in names]
    return lambda count: [modules[n % len(modules)].Future() for n in range(count)]


@pytest.fixture(params=SOURCES)
def make_pools(request, executors):
    """Makes a pool of *workers* for each library of the source."""
    names = list(MODULES) if request.param == "mixed" else [request.param]

    def make(workers):
        made = [load(name).ThreadPoolExecutor(workers) for name in names]
        executors.extend(made)
        return made

    return make


# wait


def test_wait_returns_done_and_not_done(library, make_futures):
    first, second, third = make_futures(3)
    first.set_result(1)
    second.set_exception(OSError())
    outcome = library.wait([first, second, third], timeout=0)
    assert outcome.done == {first, second}
    assert outcome.not_done == {third}
    done, not_done = outcome
    assert (done, not_done) == ({first, second}, {third})


def test_wait_takes_any_iterable_and_counts_duplicates_once(library, make_futures):
    first, second = make_futures(2)
    first.set_result(1)
    outcome = library.wait(iter([first, second, first]), timeout=0)
    assert outcome.done == {first} and outcome.not_done == {second}
    assert library.wait({first}).done == {first}
    assert library.wait([]).done == set()


def test_wait_for_all_ends_with_the_last(library, make_futures):
    futures = make_futures(10)
    started = threading.Event()

    def settle():
        started.wait()
        for number, future in enumerate(futures):
            if number % 3 == 0:
                future.set_result(number)
            elif number % 3 == 1:
                future.set_exception(OSError())
            else:
                future.cancel()
                future.set_running_or_notify_cancel()

    thread = threading.Thread(target=settle)
    thread.start()
    started.set()
    outcome = library.wait(futures)
    thread.join()
    assert outcome.done == set(futures) and not outcome.not_done


def test_wait_for_the_first_ends_with_any(library, make_futures):
    futures = make_futures(6)
    thread = threading.Thread(target=futures[3].set_result, args=(1,))
    thread.start()
    outcome = library.wait(futures, return_when=library.FIRST_COMPLETED)
    thread.join()
    assert outcome.done == {futures[3]}
    again = library.wait(futures, return_when=library.FIRST_COMPLETED)
    assert again.done == {futures[3]}, "at once, what is done already counts"


def test_wait_for_the_first_exception_passes_over_results(library, make_futures):
    futures = make_futures(6)
    futures[0].set_result(0)

    def settle():
        futures[1].set_result(1)
        futures[2].set_exception(OSError())

    thread = threading.Thread(target=settle)
    thread.start()
    outcome = library.wait(futures, return_when=library.FIRST_EXCEPTION)
    thread.join()
    assert outcome.done == set(futures[:3]) and outcome.not_done == set(futures[3:])
    assert library.wait(futures, return_when=library.FIRST_EXCEPTION).done == set(futures[:3])


def test_wait_for_the_first_exception_ends_when_all_succeed(library, make_futures):
    futures = make_futures(4)
    thread = threading.Thread(target=lambda: [f.set_result(1) for f in futures])
    thread.start()
    outcome = library.wait(futures, return_when=library.FIRST_EXCEPTION)
    thread.join()
    assert outcome.done == set(futures)


def test_a_cancelled_future_is_done_for_wait_once_its_executor_knows(library, make_futures):
    first, second = make_futures(2)
    first.cancel()
    assert library.wait([first, second], timeout=0).done == set()
    first.set_running_or_notify_cancel()
    assert library.wait([first, second], timeout=0).done == {first}


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_wait_gives_up_after_its_timeout(library, make_futures, timeout):
    futures = make_futures(3)
    outcome = library.wait(futures, timeout=timeout)
    assert outcome.done == set() and outcome.not_done == set(futures)


def test_a_wait_that_gave_up_leaves_nothing_behind(library, make_futures):
    futures = make_futures(2)
    library.wait(futures, timeout=0)
    with pytest.raises(WaitTimeout):
        list(library.as_completed(futures, timeout=0))
    for future in futures:
        with future._condition:
            assert list(future._waiters) == []


def test_an_unknown_condition_is_a_value_error(library, make_futures):
    with pytest.raises(ValueError, match="Invalid return condition: 'SOME'"):
        library.wait(make_futures(1), return_when="SOME")


def test_what_is_no_future_is_refused(library):
    with pytest.raises((TypeError, AttributeError)):
        library.wait([3])
    with pytest.raises((TypeError, AttributeError)):
        list(library.as_completed([3]))


def test_wait_returns_the_futures_of_pools(library, make_pools, blocker):
    pools = make_pools(2)
    quick = [pool.submit(abs, -n) for n in range(20) for pool in pools]
    held = [future for pool in pools for future in blocker.hold(pool)]
    first = library.wait(quick + held, return_when=library.FIRST_COMPLETED)
    assert first.done and first.not_done >= set(held)
    assert library.wait(quick).done == set(quick)
    blocker.release()
    assert library.wait(quick + held) == (set(quick + held), set())


def test_two_threads_may_wait_for_the_same_futures(library, make_futures):
    futures, seen = make_futures(4), []
    threads = [
        threading.Thread(target=lambda: seen.append(library.wait(futures).done)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for future in futures:
        future.set_result(1)
    for thread in threads:
        thread.join()
    assert seen == [set(futures)] * 4


# as_completed


def test_as_completed_yields_what_is_done_first(library, make_futures):
    first, second, third = make_futures(3)
    second.set_result(2)
    completed = library.as_completed([first, second, third])
    assert next(completed) is second
    third.set_exception(OSError())
    assert next(completed) is third
    first.cancel()
    first.set_running_or_notify_cancel()
    assert next(completed) is first
    with pytest.raises(StopIteration):
        next(completed)


def test_as_completed_yields_in_the_order_of_completion(library, make_futures):
    ready, *futures = make_futures(9)
    ready.set_result(None)
    completed = library.as_completed([ready, *futures])
    assert next(completed) is ready, "from now on it sees each completion"
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    for number in order:
        futures[number].set_result(number)
    assert [future.result() for future in completed] == order


def test_as_completed_follows_each_completion_while_it_waits(library, make_futures):
    futures = make_futures(5)
    completed = library.as_completed(futures)
    for number in (4, 0, 3, 1, 2):
        setter = threading.Thread(target=futures[number].set_result, args=(number,))
        setter.start()
        assert next(completed) is futures[number]
        setter.join()


def test_as_completed_counts_duplicates_once(library, make_futures):
    first, second = make_futures(2)
    first.set_result(1)
    second.set_result(2)
    assert len(list(library.as_completed([first, second, first, second]))) == 2
    assert list(library.as_completed([])) == []


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_as_completed_gives_up_after_its_timeout(library, make_futures, timeout):
    first, second = make_futures(2)
    first.set_result(1)
    completed = library.as_completed([first, second], timeout=timeout)
    assert next(completed) is first
    with pytest.raises(WaitTimeout, match=r"1 \(of 2\) futures unfinished"):
        next(completed)


def test_as_completed_yields_all_futures_of_pools(library, make_pools):
    pools = make_pools(2)
    futures = {pool.submit(pow, n, 2): n**2 for n in range(500) for pool in pools}
    assert all(f.result() == futures[f] for f in library.as_completed(futures))
    assert len(list(library.as_completed(futures))) == len(futures)


def test_as_completed_may_be_left_early(library, make_pools, blocker):
    pools = make_pools(2)
    held = [future for pool in pools for future in blocker.hold(pool)]
    quick = [pool.submit(abs, -1) for pool in pools]
    completed = library.as_completed(quick + held)
    assert next(completed) in quick
    completed.close()
    blocker.release()
    assert library.wait(held + quick).done == set(held + quick)
    for future in held + quick:
        with future._condition:
            assert list(future._waiters) == []


def test_as_completed_that_another_thread_closes_ends_for_who_waits(
    raddle, make_raddle, start, blocker
):
    executor = make_raddle(1)
    running = blocker.hold(executor)[0]
    iterator = raddle.as_completed([running, executor.submit(int)])
    waiter = start(list, iterator)
    wait_asleep(waiter)
    iterator.close()
    assert outcome(waiter) == []
    assert list(iterator) == []
    assert not running.done(), "the iterator has not waited for it"


def test_as_completed_keeps_no_future_that_it_has_yielded(library, make_any):
    executor = make_any(2)
    futures = [executor.submit(Payload) for _ in range(20)]
    library.wait(futures)
    executor.submit(int).result()
    seen = 0
    for future in library.as_completed(futures):
        futures.remove(future)
        gone = weakref.ref(future)
        del future
        gc.collect()
        assert gone() is None
        seen += 1
    assert seen == 20


# both at once


@pytest.mark.parametrize("waiting", MODULES)
def test_no_completion_is_missed_when_it_races_with_wait(waiting, executors):
    wait = load(waiting).wait
    pools = [load(name).ThreadPoolExecutor(1) for name in MODULES]
    executors.extend(pools)
    for number in range(1500):
        futures = [pool.submit(abs, number) for pool in pools for _ in range(2)]
        assert wait(futures).done == set(futures)


@pytest.mark.parametrize("waiting", MODULES)
@pytest.mark.usefixtures("hurried")
def test_no_completion_is_missed_when_it_races_with_as_completed(waiting, executors):
    as_completed = load(waiting).as_completed
    pools = [load(name).ThreadPoolExecutor(1) for name in MODULES]
    executors.extend(pools)
    for number in range(500):
        futures = [pool.submit(abs, number) for pool in pools for _ in range(3)]
        assert {f.result() for f in as_completed(futures)} == {number}
        assert len(set(as_completed(futures))) == 6


@pytest.mark.parametrize("waiting", MODULES)
def test_first_completed_in_a_loop_sees_every_future(waiting, executors):
    library = load(waiting)
    pools = [load(name).ThreadPoolExecutor(2) for name in MODULES]
    executors.extend(pools)
    left = {pool.submit(abs, -n) for n in range(300) for pool in pools}
    seen = set()
    while left:
        done, left = library.wait(left, return_when=library.FIRST_COMPLETED)
        assert done and not done & seen
        seen |= done
    assert len(seen) == 600


@pytest.mark.parametrize("waiting", MODULES)
def test_cancelling_races_with_wait(waiting, executors):
    wait = load(waiting).wait
    pools = [load(name).ThreadPoolExecutor(1) for name in MODULES]
    executors.extend(pools)
    outcomes = set()
    for _ in range(400):
        futures = [pool.submit(int) for pool in pools for _ in range(3)]
        for future in futures:
            outcomes.add(future.cancel())
        assert wait(futures).done == set(futures)
    assert outcomes, "cancelled or not, each wait ended"
