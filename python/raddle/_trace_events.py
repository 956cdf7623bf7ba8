"""A recording as trace events: the format that Perfetto and ``chrome://tracing`` open.

The format is described in "Trace Event Format" (Nduca and Sinclair, Google, 2016). Times are in
microseconds. The program and each worker process are processes, lanes are threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: How an attempt stood at the end, by the number in a record.
STATES = (
    "finished",
    "failed",
    "cancelled",
    "timed out",
    "worker died",
    "running",
    "retried",
)
_WORKER_DIED = 4
_MICROSECONDS = 1e6
#: The lane of the interpreter lock; no thread of a system has such a number.
_GIL_TID = 2**31 - 1


def trace(record: dict[str, Any]) -> dict[str, Any]:
    """Return the recording as one object of trace events."""
    events = [
        *_processes(record),
        *_threads(record),
        *_tasks(record),
        *_fetches(record),
        *_queues(record),
        *_gil(record),
        *_ends(record),
    ]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            **{key: str(value) for key, value in record["machine"].items()},
            "began": str(record["began"]),
            "dropped": str(record["dropped"]),
            "summary": record["summary"],
        },
    }


def _event(phase: str, name: str, pid: int, tid: int, at: float, **more: Any) -> dict[str, Any]:
    times = round(at * _MICROSECONDS, 3)
    return {"ph": phase, "name": name, "pid": pid, "tid": tid, "ts": times, **more}


def _about(kind: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return _event("M", kind, pid, tid, 0.0, args=args)


def _processes(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for order, process in enumerate(record["processes"]):
        pid = process["pid"]
        name = record["machine"]["program"] if order == 0 else process["name"]
        yield _about("process_name", pid, pid, name=name)
        yield _about("process_sort_index", pid, pid, sort_index=order)


def _place(record: dict[str, Any], lane: int) -> tuple[int, int]:
    """Return the process and the thread of a lane."""
    row = record["lanes"][lane]
    return record["processes"][row["process"]]["pid"], row["tid"]


def _threads(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for order, lane in enumerate(record["lanes"]):
        pid, tid = _place(record, order)
        yield _about("thread_name", pid, tid, name=lane["name"])
        yield _about("thread_sort_index", pid, tid, sort_index=order)


def _tasks(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    columns = record["tasks"]
    for row in zip(*columns.values(), strict=True):
        task = dict(zip(columns, row, strict=True))
        if task["started"] is None or task["lane"] < 0:
            yield from _never_begun(record, task)
        else:
            yield from _begun(record, task)


def _label(record: dict[str, Any], task: dict[str, Any]) -> str:
    return str(_named(record, task["label"]) or "task")


def _named(record: dict[str, Any], index: int) -> str | None:
    return None if index < 0 else record["names"][index]


def _args(record: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    args = {
        "task": task["task"],
        "executor": _named(record, task["executor"]),
        "state": STATES[task["state"]],
        "attempt": task["attempt"],
        "error": _named(record, task["error"]),
        "bytes_in": task["bytes_in"] or None,
        "bytes_out": task["bytes_out"] or None,
    }
    return {key: value for key, value in args.items() if value is not None}


def _never_begun(record: dict[str, Any], task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    submitter = max(task["submitter"], 0)
    name = f"{_label(record, task)} ({STATES[task['state']]})"
    at = task["ended"] if task["ended"] is not None else task["submitted"]
    args = _args(record, task)
    yield _event("i", name, *_place(record, submitter), at, s="t", cat="task", args=args)


def _begun(record: dict[str, Any], task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pid, tid = _place(record, task["lane"])
    start = task["started"]
    end = record["duration"] if task["ended"] is None else task["ended"]
    name = _label(record, task)
    length = round((end - start) * _MICROSECONDS, 3)
    args = _args(record, task)
    yield _event("X", name, pid, tid, start, dur=length, cat="task", args=args)
    if task["submitter"] >= 0 and task["attempt"] == 1:
        flow = {"cat": "submit", "id": task["task"]}
        place = _place(record, task["submitter"])
        yield _event("s", "submit", *place, task["submitted"], **flow)
        yield _event("f", "submit", pid, tid, start, bp="e", **flow)
    if task["state"] == _WORKER_DIED:
        died = f"{name}: {_named(record, task['error']) or 'its worker died'}"
        yield _event("i", died, pid, tid, end, s="p", cat="death", args=args)


def _fetches(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield pages as asynchronous spans, for those of a host overlap; phases lie in their page."""
    for number, fetch in enumerate(record["fetches"]):
        if not fetch["phases"]:
            continue
        place = _place(record, fetch["lane"])
        about: dict[str, Any] = {"cat": "fetch", "id": number}
        name = record["names"][fetch["url"]]
        args = {"status": fetch["status"], "error": _named(record, fetch["error"])}
        told = {key: value for key, value in args.items() if value is not None}
        start, end = fetch["phases"][0][1], fetch["phases"][-1][2]
        yield _event("b", name, *place, start, **about, args={**told, "bytes": fetch["bytes"]})
        for phase, since, until in fetch["phases"]:
            yield _event("b", phase, *place, since, **about)
            yield _event("e", phase, *place, until, **about)
        yield _event("e", name, *place, end, **about)


def _queues(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield how many tasks waited, for each executor, whenever that changes."""
    columns = record["tasks"]
    changes: dict[int, list[tuple[float, int]]] = {}
    rows = zip(
        columns["executor"],
        columns["submitted"],
        columns["started"],
        columns["ended"],
        columns["attempt"],
        strict=True,
    )
    for executor, submitted, started, ended, attempt in rows:
        left = started if started is not None else ended
        if executor >= 0 and attempt == 1:
            times = changes.setdefault(executor, [])
            times.append((submitted, 1))
            times.append((record["duration"] if left is None else left, -1))
    pid = record["processes"][0]["pid"]
    for executor, times in changes.items():
        depth = 0
        name = f"queue of {record['names'][executor]}"
        for at, change in sorted(times):
            depth += change
            yield _event("C", name, pid, 0, at, args={"tasks": max(depth, 0)})


def _gil(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    gil = record["gil"]
    if not gil["sampled"]:
        return
    pid = record["processes"][0]["pid"]
    yield _about("thread_name", pid, _GIL_TID, name="GIL (sampled)")
    for lane, start, end in gil["holder"]:
        length = round((end - start) * _MICROSECONDS, 3)
        name = record["lanes"][lane]["name"]
        yield _event("X", name, pid, _GIL_TID, start, dur=length, cat="gil")


def _ends(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield how worker processes ended."""
    for process in record["processes"][1:]:
        if process["ended"] is not None:
            name = f"{process['name']} ended: {process['end'] or 'unknown'}"
            pid = process["pid"]
            yield _event("i", name, pid, pid, process["ended"], s="p", cat="death")
