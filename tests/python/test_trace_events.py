"""The trace events of a recording have the form that Perfetto and chrome://tracing read."""

import json
import threading
import time

import pytest

import raddle
from raddle._trace_events import trace

#: What the format asks of each phase, with the types: "Trace Event Format", sections 2 and 3.
NUMBER = (int, float)
EVERY = {"ph": str, "name": str, "pid": int, "tid": int, "ts": NUMBER}
MORE = {
    "X": {"dur": NUMBER, "cat": str},
    "M": {"args": dict},
    "C": {"args": dict},
    "i": {"s": str, "cat": str},
    "b": {"id": int, "cat": str},
    "e": {"id": int, "cat": str},
    "s": {"id": int, "cat": str},
    "f": {"id": int, "cat": str, "bp": str},
}
METADATA = {
    "process_name": {"name": str},
    "process_sort_index": {"sort_index": int},
    "thread_name": {"name": str},
    "thread_sort_index": {"sort_index": int},
}
OPTIONAL = {"args": dict}


def check(event):
    """Refuse an event that is not of the format."""
    wanted = {**EVERY, **MORE[event["ph"]]}
    assert wanted.keys() <= event.keys() <= wanted.keys() | OPTIONAL.keys(), event
    for key, value in event.items():
        assert isinstance(value, {**wanted, **OPTIONAL}[key]), (key, event)
    assert event["ts"] >= 0 and event.get("dur", 0) >= 0
    if event["ph"] == "M":
        (name, kind), *others = METADATA[event["name"]].items()
        assert not others and event["args"].keys() == {name}
        assert isinstance(event["args"][name], kind)
    if event["ph"] == "C":
        assert all(isinstance(value, NUMBER) for value in event["args"].values())
    if event["ph"] == "i":
        assert event["s"] in ("g", "p", "t")


def check_nesting(events):
    """Refuse spans of one thread that overlap without one being in the other."""
    threads = {}
    for event in events:
        if event["ph"] == "X":
            threads.setdefault((event["pid"], event["tid"]), []).append(event)
    assert threads
    for spans in threads.values():
        spans.sort(key=lambda span: (span["ts"], -span["dur"]))
        open_until = []
        for span in spans:
            start, end = span["ts"], round(span["ts"] + span["dur"], 3)
            while open_until and open_until[-1] <= start + 0.002:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 0.002
            open_until.append(end)


def check_flows(events):
    """Refuse flows that do not go from one event to a later one."""
    begun = {event["id"]: event for event in events if event["ph"] == "s"}
    ended = {event["id"]: event for event in events if event["ph"] == "f"}
    assert begun and begun.keys() == ended.keys()
    assert all(begun[number]["ts"] <= ended[number]["ts"] for number in begun)


def square(x):
    return x * x


def refuse(_x):
    raise ValueError("no")


@pytest.fixture
def traced(tmp_path):
    """A program with most of what can happen, read back from its file."""
    path = tmp_path / "run.json"
    gate = threading.Event()
    with raddle.timeline(path):
        with raddle.ThreadPoolExecutor(2) as executor:
            assert list(executor.map(square, range(20))) == [x * x for x in range(20)]
            executor.submit(refuse, 1).exception()
            held = [executor.submit(gate.wait) for _ in range(2)]
            executor.submit(square, 2).cancel()
            gate.set()
            [future.result() for future in held]
        with raddle.ProcessPoolExecutor(1) as executor:
            assert executor.submit(square, 3).result() == 9
            with pytest.raises(raddle.TaskTimeout):
                executor.options(task_timeout=0.01).submit(time.sleep, 600).result()
    return json.loads(path.read_text())


def test_every_event_is_of_the_format(traced):
    events = traced["traceEvents"]
    for event in events:
        check(event)
    assert {event["ph"] for event in events} == set(MORE) - {"b", "e"}
    check_nesting(events)
    check_flows(events)
    assert traced["displayTimeUnit"] in ("ms", "ns")
    assert all(isinstance(value, str) for value in traced["otherData"].values())


def test_tasks_stand_on_named_threads_of_named_processes(traced):
    events = traced["traceEvents"]
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    tasks = [event for event in events if event["ph"] == "X" and event["cat"] == "task"]
    assert len(tasks) == 25
    assert {(event["pid"], event["tid"]) for event in tasks} <= named
    assert {event["pid"] for event in tasks} == set(processes)
    assert any(name.startswith("worker 0 of ProcessPoolExecutor") for name in processes.values())
    states = [event["args"]["state"] for event in tasks]
    assert (states.count("failed"), states.count("timed out")) == (1, 1)


def test_the_queue_is_empty_at_the_end(traced):
    last = {e["name"]: e["args"]["tasks"] for e in traced["traceEvents"] if e["ph"] == "C"}
    assert last and set(last.values()) == {0}


def test_a_check_refuses_what_is_not_of_the_format():
    good = {"ph": "X", "name": "a", "pid": 1, "tid": 1, "ts": 0, "dur": 5, "cat": "task"}
    check(good)
    for bad in ({**good, "ts": -1}, {**good, "dur": "5"}, {**good, "colour": 1}):
        with pytest.raises(AssertionError):
            check(bad)
    with pytest.raises(AssertionError):
        check_nesting([good, {**good, "ts": 3}])
    with pytest.raises(AssertionError):
        check_flows([])


def test_an_empty_recording_has_no_spans():
    with raddle.timeline() as recording:
        pass
    assert {event["ph"] for event in trace(recording._record())["traceEvents"]} <= {"M", "X"}
