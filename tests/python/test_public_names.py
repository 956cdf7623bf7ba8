"""The names that users import, and where they stand among the standard library's."""

import concurrent.futures
import concurrent.futures.thread
import inspect
import pickle

import pytest

NAMES = """ThreadPoolExecutor Future wait as_completed FIRST_COMPLETED FIRST_EXCEPTION ALL_COMPLETED
CancelledError TimeoutError InvalidStateError BrokenExecutor BrokenThreadPool TaskTimeout
RaddleError ExecutorView Statistics""".split()
SHARED = [name for name in NAMES if hasattr(concurrent.futures, name)]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_public(raddle, name):
    assert hasattr(raddle, name)
    assert name in raddle.__all__


def test_every_public_name_exists_and_is_documented(raddle):
    assert len(raddle.__all__) >= len(NAMES)
    for name in raddle.__all__:
        thing = getattr(raddle, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{name} has no docstring"


@pytest.mark.parametrize("name", ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
def test_constants_are_those_of_the_standard_library(raddle, name):
    assert getattr(raddle, name) == getattr(concurrent.futures, name)


@pytest.mark.parametrize("name", SHARED)
def test_whoever_catches_or_asks_for_the_standard_name_gets_ours(raddle, name):
    ours, theirs = getattr(raddle, name), getattr(concurrent.futures, name)
    if inspect.isclass(theirs):
        assert issubclass(ours, theirs)


def test_there_are_shared_names():
    assert len(SHARED) >= 10


def test_the_broken_pool_is_the_standard_one(raddle):
    assert issubclass(raddle.BrokenThreadPool, concurrent.futures.thread.BrokenThreadPool)


def test_task_timeout_is_ours_and_a_timeout(raddle):
    assert issubclass(raddle.TaskTimeout, raddle.RaddleError)
    assert issubclass(raddle.TaskTimeout, TimeoutError)
    assert issubclass(raddle.TaskTimeout, concurrent.futures.TimeoutError)
    assert issubclass(raddle.RaddleError, Exception)


def test_signatures_begin_as_in_the_standard_library(raddle):
    pairs = [
        (raddle.wait, concurrent.futures.wait),
        (raddle.as_completed, concurrent.futures.as_completed),
        (raddle.ThreadPoolExecutor, concurrent.futures.ThreadPoolExecutor),
        (raddle.ThreadPoolExecutor.submit, concurrent.futures.ThreadPoolExecutor.submit),
        (raddle.ThreadPoolExecutor.map, concurrent.futures.ThreadPoolExecutor.map),
        (raddle.ThreadPoolExecutor.shutdown, concurrent.futures.ThreadPoolExecutor.shutdown),
    ]
    for ours, theirs in pairs:
        expected = [(p.name, p.kind) for p in inspect.signature(theirs).parameters.values()]
        found = [(p.name, p.kind) for p in inspect.signature(ours).parameters.values()]
        assert [p for p in expected if p not in found] == [], f"{ours} lacks parameters"
        positional = [p for p in found if p[1] is not inspect.Parameter.KEYWORD_ONLY]
        wanted = [p for p in expected if p[1] is not inspect.Parameter.KEYWORD_ONLY]
        assert [p for p in positional if p in wanted] == wanted, f"{ours} has another order"


def test_submit_has_no_keywords_of_its_own(raddle):
    for executor in (raddle.ThreadPoolExecutor, raddle.ExecutorView):
        kinds = {p.kind for p in inspect.signature(executor.submit).parameters.values()}
        assert inspect.Parameter.KEYWORD_ONLY not in kinds
        assert inspect.Parameter.VAR_KEYWORD in kinds


@pytest.mark.parametrize("name", ["RaddleError", "TaskTimeout", "BrokenThreadPool"])
def test_exceptions_can_be_pickled(raddle, name):
    error = getattr(raddle, name)("why")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)


def test_a_pool_cannot_be_pickled(make_any):
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(make_any(1))
