"""inherit_context: whose context variables a task sees, and where its changes stay."""

import contextvars
import decimal
import sys

import pytest

LANGUAGE = contextvars.ContextVar("language", default="none")


@pytest.fixture(autouse=True)
def submitter_speaks_welsh():
    token = LANGUAGE.set("Welsh")
    yield
    LANGUAGE.reset(token)


def change_to(value):
    before = LANGUAGE.get()
    LANGUAGE.set(value)
    return before


@pytest.mark.skipif(
    getattr(sys.flags, "thread_inherit_context", False),
    reason="this interpreter gives each thread its starter's context",
)
def test_a_task_does_not_see_the_context_of_its_submitter_by_default(make_any):
    assert make_any(1).submit(LANGUAGE.get).result() == "none"


def test_a_task_changes_the_context_of_its_thread_by_default(make_any):
    executor = make_any(1)
    executor.submit(change_to, "Basque").result()
    assert executor.submit(LANGUAGE.get).result() == "Basque"
    assert LANGUAGE.get() == "Welsh"


def test_none_is_the_default(make_raddle):
    executor = make_raddle(1, inherit_context=None)
    executor.submit(change_to, "Basque").result()
    assert executor.submit(LANGUAGE.get).result() == "Basque"


def test_a_task_sees_the_context_of_its_submitter(make_raddle):
    executor = make_raddle(1, inherit_context=True)
    assert executor.submit(LANGUAGE.get).result() == "Welsh"
    assert list(executor.map(lambda _: LANGUAGE.get(), range(3))) == ["Welsh"] * 3
    assert executor.options(label="x").submit(LANGUAGE.get).result() == "Welsh"


def test_the_context_is_that_of_the_moment_of_submission(make_raddle, blocker):
    executor = make_raddle(1, inherit_context=True)
    blocker.hold(executor)
    first = executor.submit(LANGUAGE.get)
    mapped = executor.map(lambda _: LANGUAGE.get(), range(2))
    token = LANGUAGE.set("Breton")
    second = executor.submit(LANGUAGE.get)
    LANGUAGE.reset(token)
    blocker.release()
    assert first.result() == "Welsh"
    assert list(mapped) == ["Welsh", "Welsh"]
    assert second.result() == "Breton"


def test_a_change_reaches_neither_the_next_task_nor_the_submitter(make_raddle):
    executor = make_raddle(1, inherit_context=True)
    assert executor.submit(change_to, "Basque").result() == "Welsh"
    assert executor.submit(LANGUAGE.get).result() == "Welsh"
    assert LANGUAGE.get() == "Welsh"


def test_tasks_of_one_map_have_each_their_own_copy(make_raddle):
    executor = make_raddle(2, inherit_context=True)
    assert list(executor.map(change_to, ["a", "b", "c", "d"])) == ["Welsh"] * 4
    assert LANGUAGE.get() == "Welsh"


def test_each_try_of_a_task_begins_with_the_submitters_context(make_raddle):
    seen = []

    def work():
        seen.append(change_to("Basque"))
        if len(seen) < 3:
            raise OSError

    make_raddle(1, inherit_context=True, retries=2).submit(work).result()
    assert seen == ["Welsh"] * 3


def test_a_failing_task_leaves_its_context_too(make_raddle):
    executor = make_raddle(1, inherit_context=True)

    def fail():
        LANGUAGE.set("Basque")
        raise OSError

    assert isinstance(executor.submit(fail).exception(), OSError)
    assert executor.submit(LANGUAGE.get).result() == "Welsh"


def test_tasks_submitted_by_tasks_inherit_from_them(make_raddle):
    executor = make_raddle(2, inherit_context=True)

    def outer():
        LANGUAGE.set("Basque")
        return executor.submit(LANGUAGE.get).result()

    assert executor.submit(outer).result() == "Basque"


def test_the_decimal_context_is_inherited(make_raddle):
    executor = make_raddle(1, inherit_context=True)
    with decimal.localcontext() as context:
        context.prec = 3
        future = executor.submit(lambda: str(decimal.Decimal(1) / 3))
    assert future.result() == "0.333"


@pytest.mark.parametrize("value", ["yes", 1, 0.5, object()])
def test_another_value_is_refused(raddle, value):
    with pytest.raises((TypeError, ValueError), match="inherit_context"):
        raddle.ThreadPoolExecutor(1, inherit_context=value)
