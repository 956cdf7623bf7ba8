"""Recordings made up for tests of the page: small ones that are known by heart, and large ones."""


def empty(duration=1.0):
    """Return a recording in which nothing happened."""
    columns = (
        "lane label executor submitted started ended state attempt error "
        "bytes_in bytes_out submitter task"
    )
    return {
        "version": 1,
        "began": 1764316800.0,
        "duration": duration,
        "machine": {
            "python": "CPython 3.11.7",
            "gil": True,
            "cores": 2,
            "system": "Linux",
            "raddle": "0.1.0",
            "program": "example.py",
        },
        "dropped": 0,
        "names": [],
        "processes": [{"pid": 100, "name": "program", "ended": None, "end": None}],
        "lanes": [],
        "tasks": {name: [] for name in columns.split()},
        "gil": {"period": 0.0005, "sampled": False, "holder": [], "waiting": []},
        "fetches": [],
        "locks": [],
        "summary": "",
    }


def name(record, text):
    """Return the index of a name, which is added if it is new."""
    if text not in record["names"]:
        record["names"].append(text)
    return record["names"].index(text)


def lane(record, text, process=0, kind="thread"):
    """Add a worker and return its index."""
    new = {"process": process, "executor": 0, "kind": kind, "name": text, "tid": 1}
    record["lanes"].append(new)
    return len(record["lanes"]) - 1


def task(record, on, label, submitted, started, ended, state=0, attempt=1, error=None):
    """Add the run of a task and return its index."""
    tasks = record["tasks"]
    values = {
        "lane": on,
        "label": name(record, label),
        "executor": 0,
        "submitted": submitted,
        "started": started,
        "ended": ended,
        "state": state,
        "attempt": attempt,
        "error": -1 if error is None else name(record, error),
        "bytes_in": 1200,
        "bytes_out": 64,
        "submitter": -1,
        "task": len(tasks["lane"]),
    }
    for key, value in values.items():
        tasks[key].append(value)
    return len(tasks["lane"]) - 1


def example():
    """Return two threads that share the GIL, beside a process that is killed, and two pages."""
    record = empty(2.0)
    record["processes"] += [
        {"pid": 101, "name": "worker 0 of ProcessPoolExecutor-1", "ended": 1.5, "end": "SIGKILL"},
        {"pid": 102, "name": "worker 1 of ProcessPoolExecutor-1", "ended": None, "end": None},
    ]
    first, second = (lane(record, f"ThreadPoolExecutor-0_{n}") for n in (0, 1))
    killed, kept = (lane(record, f"worker {n}", n + 1, "process") for n in (0, 1))
    pages = lane(record, "fetch", 0, "fetch")
    task(record, first, "square", 0.0, 0.1, 0.9)
    task(record, second, "square", 0.0, 0.1, 0.95)
    task(record, killed, "simulate", 0.05, 0.2, 0.6)
    task(record, kept, "simulate", 0.05, 0.2, 1.4)
    task(record, killed, "simulate", 0.05, 0.6, 1.5, 4, 1, "WorkerDied: killed by SIGKILL")
    task(record, first, "load", 0.3, 1.0, 1.1, 6, 1, "OSError: not yet")
    task(record, first, "load", 1.1, 1.3, 1.5, 0, 2)
    task(record, second, "parse", 0.3, 1.0, 1.2, 1, 1, "ValueError: <b>no number</b>")
    task(record, second, "sleep", 0.3, 1.25, 1.5, 3, 1, "TaskTimeout: longer than 0.25 s")
    task(record, second, "last", 0.4, 1.6, None, 5)
    task(record, -1, "never", 0.5, None, 1.9, 2)
    record["gil"]["sampled"] = True
    turns = [n / 20 for n in range(2, 18)]
    record["gil"]["holder"] = [[n % 2, at, round(at + 0.05, 2)] for n, at in enumerate(turns)]
    record["gil"]["waiting"] = [[1 - n % 2, at, round(at + 0.05, 2)] for n, at in enumerate(turns)]
    for n, url in enumerate(("http://a.example/", "http://b.example/")):
        phases = [
            ["lookup", 0.2, 0.3],
            ["connect", 0.3, 0.4],
            ["wait", 0.4, 0.9],
            ["body", 0.9, 1.0],
        ]
        record["fetches"].append(
            {
                "lane": pages,
                "url": name(record, url),
                "phases": [
                    [what, round(start + n / 10, 1), round(end + n / 10, 1)]
                    for what, start, end in phases
                ],
                "status": 200,
                "bytes": 5000,
                "error": -1,
            }
        )
    lock = {"lane": second, "lock": name(record, "balance"), "holder": first}
    record["locks"].append({**lock, "start": 1.02, "end": 1.12})
    record["summary"] = "11 tasks in 2.00 s; threads waited for the GIL: use processes."
    return record


def many(count, workers=8):
    """Return a recording of many short tasks, of which every thousandth failed."""
    record = empty(count / workers * 20e-6)
    lanes = [lane(record, f"ThreadPoolExecutor-0_{n}") for n in range(workers)]
    labels = [name(record, f"step {n}") for n in range(3)]
    error = name(record, "ValueError: one in a thousand")
    tasks = record["tasks"]
    numbers = range(count)
    starts = [n // workers * 20e-6 for n in numbers]
    failed = [n % 1000 == 999 for n in numbers]
    tasks["lane"] = [lanes[n % workers] for n in numbers]
    tasks["label"] = [labels[n % 3] for n in numbers]
    tasks["submitted"] = [0.0] * count
    tasks["started"] = starts
    tasks["ended"] = [start + (5 + n % 14) * 1e-6 for n, start in zip(numbers, starts)]
    tasks["state"] = [int(each) for each in failed]
    tasks["error"] = [error if each else -1 for each in failed]
    tasks["attempt"] = [1] * count
    for key in ("executor", "bytes_in", "bytes_out"):
        tasks[key] = [0] * count
    tasks["submitter"] = [-1] * count
    tasks["task"] = list(numbers)
    return record
