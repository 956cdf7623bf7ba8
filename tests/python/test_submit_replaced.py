"""Whoever replaces ``submit`` (instrumentation does) sees every task, those of ``map`` too."""

import concurrent.futures
import threading

import pytest
from implementations import need_release


def test_map_goes_through_a_submit_overridden_in_a_subclass(library, executors):
    class Counting(library.ThreadPoolExecutor):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.seen = []

        def submit(self, fn, /, *args, **kwargs):
            self.seen.append((fn, args))
            return super().submit(fn, *args, **kwargs)

    executor = Counting(2)
    executors.append(executor)
    assert list(executor.map(abs, [-1, -2, -3])) == [1, 2, 3]
    assert executor.seen == [(abs, (-1,)), (abs, (-2,)), (abs, (-3,))]
    assert executor.submit(abs, -4).result() == 4
    assert len(executor.seen) == 4


def test_map_goes_through_a_submit_patched_on_the_instance(make_executor):
    executor, seen = make_executor(2), []
    submit = executor.submit

    def patched(fn, /, *args, **kwargs):
        seen.append(args)
        return submit(fn, *args, **kwargs)

    executor.submit = patched
    assert list(executor.map(abs, [-1, -2])) == [1, 2]
    assert seen == [(-1,), (-2,)]
    del executor.submit
    assert list(executor.map(abs, [-5])) == [5]
    assert len(seen) == 2


def test_map_goes_through_a_submit_patched_on_the_class(library, make_executor, monkeypatch):
    executor, seen = make_executor(2), []
    submit = library.ThreadPoolExecutor.submit

    def patched(self, fn, /, *args, **kwargs):
        seen.append((self, args))
        return submit(self, fn, *args, **kwargs)

    monkeypatch.setattr(library.ThreadPoolExecutor, "submit", patched)
    assert list(executor.map(abs, [-1, -2])) == [1, 2]
    assert seen == [(executor, (-1,)), (executor, (-2,))]


def test_map_goes_through_a_submit_of_a_mixin(library, executors):
    class Tracing:
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(lambda: ("traced", fn(*args, **kwargs)))

    class Both(Tracing, library.ThreadPoolExecutor):
        pass

    executor = Both(1)
    executors.append(executor)
    assert list(executor.map(abs, [-1])) == [("traced", 1)]


def test_an_overridden_submit_may_return_futures_of_its_own(library, executors):
    class Immediate(library.ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            future = concurrent.futures.Future()
            future.set_result(fn(*args, **kwargs))
            return future

    executor = Immediate(1)
    executors.append(executor)
    here = threading.get_ident()
    assert list(executor.map(lambda _: threading.get_ident(), range(3))) == [here] * 3


def test_a_failing_submit_fails_map_at_the_call(make_executor):
    executor = make_executor(1)

    def refuse(*_args, **_kwargs):
        raise PermissionError("no")

    executor.submit = refuse
    with pytest.raises(PermissionError):
        executor.map(abs, [1])


def test_map_with_a_buffer_goes_through_a_patched_submit(library, make_executor):
    need_release(library, (3, 14), "map(buffersize=)")
    executor, seen = make_executor(1), []
    submit = executor.submit

    def patched(fn, /, *args, **kwargs):
        seen.append(args)
        return submit(fn, *args, **kwargs)

    executor.submit = patched
    assert list(executor.map(abs, [-1, -2, -3], buffersize=1)) == [1, 2, 3]
    assert seen == [(-1,), (-2,), (-3,)]


def test_a_timeout_of_map_holds_with_a_patched_submit(make_executor, blocker):
    executor = make_executor(1)
    submit = executor.submit
    executor.submit = lambda fn, /, *args: submit(fn, *args)
    results = executor.map(blocker, range(3), timeout=0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(results)


def test_a_view_goes_through_the_submit_of_its_subclass(raddle, executors):
    class Counting(raddle.ThreadPoolExecutor):
        seen = 0

        def submit(self, fn, /, *args, **kwargs):
            type(self).seen += 1
            return super().submit(fn, *args, **kwargs)

    executor = Counting(1)
    executors.append(executor)
    view = executor.options(label="seen")
    assert view.submit(abs, -7).result() == 7
    assert list(view.map(abs, [-1, -2])) == [1, 2]
    assert Counting.seen == 3


def test_the_options_of_a_view_hold_beside_an_overridden_submit(raddle, executors):
    class Plain(raddle.ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(fn, *args, **kwargs)

    executor, attempts = Plain(1), []
    executors.append(executor)

    def flaky(value):
        attempts.append(value)
        if len(attempts) < 3:
            raise OSError
        return value

    assert executor.options(retries=2).submit(flaky, 7).result() == 7
    assert len(attempts) == 3


def test_map_of_a_view_goes_through_a_submit_patched_on_the_view(raddle, make_raddle):
    view, seen = make_raddle(1).options(label="seen"), []
    submit = view.submit

    def patched(fn, /, *args, **kwargs):
        seen.append(args)
        return submit(fn, *args, **kwargs)

    view.submit = patched
    assert list(view.map(abs, [-1, -2])) == [1, 2]
    assert seen == [(-1,), (-2,)]
