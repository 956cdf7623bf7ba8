"""Debuggers, profilers and tracers see the workers and what runs in them."""

import faulthandler
import sys
import threading
import traceback

import pytest


def user_function(value):
    local = value + 1
    return local


def test_a_tracer_sees_the_lines_of_a_task(make_executor):
    seen = set()

    def trace(frame, event, _argument):
        if frame.f_code.co_name == "user_function":
            seen.add((event, threading.current_thread().name))
            return trace
        return None

    before = threading._trace_hook
    threading.settrace(trace)
    try:
        executor = make_executor(1, thread_name_prefix="traced")
        assert executor.submit(user_function, 1).result() == 2
        assert list(executor.map(user_function, [1, 2])) == [2, 3]
    finally:
        threading.settrace(before)
    assert seen == {(event, "traced_0") for event in ("call", "line", "return")}


def test_a_profiler_sees_the_calls_of_a_task(make_executor):
    seen = []

    def profile(frame, event, _argument):
        if frame.f_code.co_name == "user_function":
            seen.append(event)

    before = threading._profile_hook
    threading.setprofile(profile)
    try:
        executor = make_executor(1)
        assert executor.submit(user_function, 1).result() == 2
        assert list(executor.map(user_function, [1, 2])) == [2, 3]
        executor.shutdown(wait=True)
    finally:
        threading.setprofile(before)
    assert seen == ["call", "return"] * 3


def test_a_sampling_profiler_finds_the_frames_of_a_task(make_executor, blocker):
    executor = make_executor(1)
    blocker.hold(executor)
    thread = next(t for t in threading.enumerate() if t in set(executor._threads))
    stack = traceback.extract_stack(sys._current_frames()[thread.ident])
    assert "__call__" in [entry.name for entry in stack]


def test_the_stacks_of_workers_are_in_a_crash_dump(make_executor, blocker, tmp_path):
    blocker.hold(make_executor(1))
    path = tmp_path / "stacks"
    with path.open("w") as file:
        faulthandler.dump_traceback(file, all_threads=True)
    assert "blocking.py" in path.read_text()


def test_a_task_may_set_a_tracer_for_itself(make_executor):
    def work():
        seen = []
        sys.settrace(lambda frame, event, _: seen.append(frame.f_code.co_name))
        user_function(1)
        sys.settrace(None)
        return seen

    assert "user_function" in make_executor(1).submit(work).result()


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="sys.monitoring is from Python 3.12")
def test_monitoring_sees_the_calls_of_a_task(make_executor):
    monitoring, seen = sys.monitoring, []
    monitoring.use_tool_id(monitoring.PROFILER_ID, "tests")
    try:
        monitoring.register_callback(
            monitoring.PROFILER_ID,
            monitoring.events.PY_START,
            lambda code, _: seen.append(code.co_name),
        )
        monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)
        assert make_executor(1).submit(user_function, 1).result() == 2
    finally:
        monitoring.set_events(monitoring.PROFILER_ID, 0)
        monitoring.register_callback(monitoring.PROFILER_ID, monitoring.events.PY_START, None)
        monitoring.free_tool_id(monitoring.PROFILER_ID)
    assert "user_function" in seen
