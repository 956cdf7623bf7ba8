"""What fails where: error, crash and exit, on every station of a task's way.

Wherever it fails, the future says so, whoever waits for it is told, and the pool works on; only
the standard library's, and ours that behaves like it, is broken afterwards in some places.

The standard library's pool hangs or breaks in places of this matrix, on some versions (cpython
#74192, #83285, #116685); it is the reference where it neither hangs nor ends the test's process.
"""

import concurrent.futures
import pickle
from concurrent.futures.process import BrokenProcessPool

import process_tasks as tasks
import pytest

WHATS = ("error", "crash", "exit")
#: The exception of an error, and what ``sys.exit`` raises, as they pass through unchanged.
RAISED = {"error": ValueError, "exit": SystemExit}


class Failing:
    """A callable whose pickling, or unpickling, fails."""

    def __init__(self, kind, what):
        self.kind, self.what = kind, what

    def __call__(self, *values):
        return values

    def __reduce__(self):
        return self.kind(self.what).__reduce__()


def check_works(pool):
    assert [pool.submit(tasks.square, n).result() for n in range(4)] == [0, 1, 4, 9]
    assert list(pool.map(tasks.square, range(10))) == [n * n for n in range(10)]


def check_told(future, error):
    """The same exception, however one asks, and ``wait`` has seen it as one."""
    done, _ = concurrent.futures.wait([future], return_when="FIRST_EXCEPTION")
    assert done == {future}
    assert isinstance(future.exception(), error), future.exception()
    with pytest.raises(error) as caught:
        future.result()
    assert caught.value is future.exception()
    assert future in list(concurrent.futures.as_completed([future]))


@pytest.mark.parametrize("position", ["argument", "keyword", "function"])
@pytest.mark.parametrize("what", ["error", "exit"])
def test_a_failure_when_the_task_is_pickled_is_the_futures(make_ours, what, position):
    pool, bad = make_ours(2), tasks.AtPickle(what)
    if position == "argument":
        future = pool.submit(tasks.identity, bad)
    elif position == "keyword":
        future = pool.submit(tasks.capture, 1, key=[bad])
    else:
        future = pool.submit(Failing(tasks.AtPickle, what), 1)
    check_told(future, RAISED[what])
    check_works(pool)


def test_an_error_when_the_task_is_pickled_is_the_same_everywhere(make_pool):
    # An exit at this place ends the standard library's feeding thread, and the pool hangs.
    pool = make_pool(2)
    check_told(pool.submit(tasks.identity, tasks.AtPickle("error")), ValueError)
    check_works(pool)


@pytest.mark.parametrize("position", ["argument", "keyword", "function"])
@pytest.mark.parametrize("what", WHATS)
def test_a_failure_when_the_task_is_unpickled_is_a_broken_process_pool(
    make_unbreakable, raddle, what, position
):
    pool, bad = make_unbreakable(2), tasks.AtUnpickle(what)
    if position == "argument":
        future = pool.submit(tasks.identity, bad)
    elif position == "keyword":
        future = pool.submit(tasks.capture, 1, key=[bad])
    else:
        future = pool.submit(Failing(tasks.AtUnpickle, what), 1)
    check_told(future, BrokenProcessPool)
    assert isinstance(future.exception(), raddle.RaddleError)
    assert isinstance(future.exception(), raddle.WorkerDied) == (what == "crash")
    if what == "error":
        assert "ValueError" in str(future.exception())
        assert "it fails on purpose" in str(future.exception())
    check_works(pool)


@pytest.mark.parametrize("what", WHATS)
def test_a_failure_of_the_function_is_the_futures_own(make_unbreakable, what):
    pool = make_unbreakable(2)
    check_told(pool.submit(tasks.do, what), RAISED.get(what, BrokenProcessPool))
    check_works(pool)


@pytest.mark.parametrize("what", ["error", "exit"])
def test_an_exception_of_the_function_is_the_same_everywhere(make_pool, what):
    pool = make_pool(2)
    check_told(pool.submit(tasks.do, what), RAISED[what])
    check_works(pool)


@pytest.mark.parametrize("what", WHATS)
def test_a_failure_when_the_result_is_pickled_is_the_futures_own(make_unbreakable, what):
    pool = make_unbreakable(2)
    future = pool.submit(tasks.make, tasks.AtPickle, what)
    check_told(future, RAISED.get(what, BrokenProcessPool))
    check_works(pool)


@pytest.mark.parametrize("what", ["error", "exit"])
def test_a_result_that_cannot_be_pickled_is_the_same_everywhere(make_pool, what):
    pool = make_pool(2)
    check_told(pool.submit(tasks.make, tasks.AtPickle, what), RAISED[what])
    check_works(pool)


@pytest.mark.parametrize("what", ["error", "exit"])
def test_a_result_that_cannot_be_unpickled_is_a_broken_process_pool(make_ours, raddle, what):
    pool = make_ours(2)
    future = pool.submit(tasks.make, tasks.AtUnpickle, what)
    check_told(future, BrokenProcessPool)
    assert isinstance(future.exception(), raddle.RaddleError)
    assert RAISED[what].__name__ in str(future.exception())
    check_works(pool)


def test_a_result_that_cannot_be_unpickled_is_an_exception_for_whoever_waits_for_the_first(
    make_ours, gate
):
    pool = make_ours(2)
    (held,) = gate.hold(pool)
    bad = pool.submit(tasks.make, tasks.AtUnpickle, "error")
    done, waiting = concurrent.futures.wait([held, bad], return_when="FIRST_EXCEPTION")
    assert (done, waiting) == ({bad}, {held})
    assert isinstance(bad.exception(timeout=0), BrokenProcessPool)


@pytest.mark.parametrize("chunksize", [1, 4])
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("kind", [tasks.AtUnpickle, tasks.AtPickle])
def test_a_failure_in_a_map_is_raised_in_its_place(make_unbreakable, kind, what, chunksize):
    if kind is tasks.AtPickle and what == "crash":
        pytest.skip("it would end this process, as pickling happens here")
    pool = make_unbreakable(2)
    with pytest.raises((BrokenProcessPool, ValueError, SystemExit)):
        items = [1, 2, kind(what), 4]
        list(pool.map(tasks.identity, items, chunksize=chunksize))
    check_works(pool)


@pytest.mark.parametrize("chunksize", [1, 5])
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("kind", [tasks.AtUnpickle, tasks.AtPickle])
def test_a_failing_result_in_a_map_is_raised_in_its_place(make_unbreakable, kind, what, chunksize):
    if kind is tasks.AtUnpickle and what == "crash":
        pytest.skip("it would end this process, as unpickling happens here")
    pool = make_unbreakable(2)
    results = pool.map(tasks.make, [kind] * 3, [what] * 3, chunksize=chunksize)
    with pytest.raises((BrokenProcessPool, ValueError, SystemExit)):
        list(results)
    check_works(pool)


def test_many_failures_of_all_kinds_between_good_tasks_lose_none(make_unbreakable):
    pool, expected = make_unbreakable(3), []
    for number in range(120):
        what = ("error", "exit", "crash")[number // 4 % 3]
        if number % 4 == 0 and what != "crash":
            expected.append((pool.submit(tasks.identity, tasks.AtPickle(what)), RAISED[what]))
        elif number % 4 == 1:
            future = pool.submit(tasks.identity, tasks.AtUnpickle(what))
            expected.append((future, BrokenProcessPool))
        elif number % 4 == 2:
            error = RAISED.get(what, BrokenProcessPool)
            expected.append((pool.submit(tasks.make, tasks.AtPickle, what), error))
        expected.append((pool.submit(tasks.square, number), number * number))
    for future, end in expected:
        if isinstance(end, int):
            assert future.result() == end
        else:
            assert isinstance(future.exception(), end)
    check_works(pool)


# exceptions that cannot be rebuilt

STRANGE = {
    tasks.raise_needs_two: ("NeedsTwo", "door: it is locked"),
    tasks.raise_exits_when_rebuilt: ("ExitsWhenRebuilt", "the message"),
}


@pytest.mark.parametrize("function", STRANGE)
def test_an_exception_that_cannot_be_rebuilt_is_told_all_the_same(make_ours, raddle, function):
    pool, (name, message) = make_ours(2), STRANGE[function]
    future = pool.submit(function)
    check_told(future, BrokenProcessPool)
    error = future.exception()
    assert isinstance(error, raddle.RaddleError)
    assert name in str(error) and message in str(error)
    told = str(error) + str(error.__cause__)
    assert f"in {function.__name__}" in told, "the remote traceback names the function"
    check_works(pool)
    with pytest.raises(BrokenProcessPool, match=name):
        list(pool.map(tasks.make, [function]))


@pytest.mark.parametrize("function", [tasks.raise_holds_a_lock, tasks.raise_refuses_pickle])
def test_an_exception_that_cannot_be_pickled_is_told_all_the_same(make_ours, function):
    pool = make_ours(2)
    future = pool.submit(function)
    error = future.exception()
    assert error is not None and future.exception() is error
    told = str(error) + str(error.__cause__)
    assert "the message" in told and f"in {function.__name__}" in told, told
    check_works(pool)


def test_an_exception_of_a_class_made_in_the_function_is_told(make_ours):
    pool = make_ours(1)
    error = pool.submit(tasks.raise_local).exception()
    told = f"{type(error).__name__} {error} {error.__cause__}"
    assert "Local" in told and "the message" in told
    check_works(pool)


def test_an_exception_made_of_a_huge_message_arrives(make_pool):
    error = make_pool(1).submit(tasks.raise_error, ValueError("x" * 3_000_000)).exception()
    assert type(error) is ValueError and len(error.args[0]) == 3_000_000


def test_a_lambda_as_an_argument_of_a_standard_pool_is_an_error_of_its_future(make_pool, request):
    pool = make_pool(1)
    future = pool.submit(tasks.identity, lambda: 3)
    if "standard" in request.node.callspec.id or "fork" in request.node.callspec.id:
        assert isinstance(future.exception(), (pickle.PicklingError, AttributeError))
    else:
        assert future.result()() == 3
    check_works(pool)


# in pools that break as the standard library's do


@pytest.mark.parametrize("kind", ["standard", "raddle-break"])
@pytest.mark.parametrize("stage", ["unpickle", "function", "result"])
def test_a_crash_breaks_a_pool_of_the_standard_kind(kind, stage, pools):
    from process_pools import make_process_pool

    pool = make_process_pool(kind, 2)
    pools.append(pool)
    if stage == "unpickle":
        future = pool.submit(tasks.identity, tasks.AtUnpickle("crash"))
    elif stage == "function":
        future = pool.submit(tasks.do, "crash")
    else:
        future = pool.submit(tasks.make, tasks.AtPickle, "crash")
    check_told(future, BrokenProcessPool)
    with pytest.raises(BrokenProcessPool):
        while True:
            pool.submit(tasks.square, 1).result()
