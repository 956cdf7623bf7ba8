"""A recording of processes: what each worker did, as it saw it, and how it ended."""

import itertools
import os
import signal
import time

import raddle
from raddle._trace_events import STATES


def rows(recording):
    """The tasks of a recording, each with its texts in place of their indices."""
    record = recording._record()
    columns = record["tasks"]
    found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for row in found:
        for key in ("label", "executor", "error"):
            row[key] = record["names"][row[key]] if row[key] >= 0 else None
        row["state"] = STATES[row["state"]]
    return found


def meet(folder, mine, other):
    (folder / mine).touch()
    while not (folder / other).exists():
        time.sleep(0.001)
    return os.getpid(), time.monotonic()


def fail_once(path):
    if path.exists():
        return 1
    path.touch()
    raise ValueError("the first time")


def kill_own(_path):
    os.kill(os.getpid(), signal.SIGKILL)


def lasts(path):
    path.touch()
    time.sleep(600)


def test_tasks_that_meet_overlap_in_processes_of_their_own(tmp_path):
    with raddle.timeline() as recording, raddle.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(meet, tmp_path, *names) for names in ("ab", "ba")]
        pids = [future.result()[0] for future in futures]
    record = recording._record()
    one, other = rows(recording)
    assert one["started"] <= other["started"] <= one["ended"]
    assert one["executor"].startswith("ProcessPoolExecutor-")
    for row in (one, other):
        lane = record["lanes"][row["lane"]]
        assert (row["state"], row["label"], lane["kind"]) == ("finished", "meet", "process")
        assert record["processes"][lane["process"]]["pid"] == lane["tid"]
        assert row["submitted"] <= row["started"] <= row["ended"] <= record["duration"]
        assert row["bytes_in"] > 0 and row["bytes_out"] > 0
    assert {record["lanes"][row["lane"]]["tid"] for row in (one, other)} == set(pids)
    assert {process["end"] for process in record["processes"][1:]} == {"idle"}
    assert recording.summary().startswith("2 tasks on 2 processes in ")


def test_a_killed_worker_is_there_with_its_task_and_how_it_ended():
    with raddle.ProcessPoolExecutor(1) as executor:
        # A worker may have done its first task before the program is told which process it is.
        assert executor.submit(abs, 0).result() == 0
        while not executor._processes:
            time.sleep(0.001)
        with raddle.timeline() as recording:
            assert executor.submit(abs, -1).result() == 1
            assert isinstance(executor.submit(kill_own, None).exception(), raddle.WorkerDied)
            assert executor.submit(abs, -2).result() == 2
    record = recording._record()
    first, lost, last = rows(recording)
    assert [row["state"] for row in (first, lost, last)] == ["finished", "worker died", "finished"]
    assert first["lane"] == lost["lane"] != last["lane"]
    assert "SIGKILL" in lost["error"] and lost["started"] <= lost["ended"]
    dead = record["processes"][record["lanes"][lost["lane"]]["process"]]
    assert dead["end"] == "SIGKILL" and dead["ended"] >= lost["started"]
    assert "1 task ended with its worker process" in recording.summary()


def test_attempts_of_a_process_task_and_their_errors(tmp_path):
    with raddle.timeline() as recording, raddle.ProcessPoolExecutor(1, retries=1) as executor:
        assert executor.submit(fail_once, tmp_path / "mark").result() == 1
    first, second = rows(recording)
    assert (first["state"], second["state"]) == ("retried", "finished")
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["task"] == second["task"]
    assert first["error"] == "ValueError: the first time"
    assert first["ended"] <= second["started"]


def test_what_still_runs_at_the_end_is_open(tmp_path):
    with raddle.ProcessPoolExecutor(1) as executor:
        with raddle.timeline() as recording:
            future = executor.submit(lasts, tmp_path / "begun")
            while not (tmp_path / "begun").exists():
                time.sleep(0.001)
        assert future.kill()
    (row,) = rows(recording)
    assert (row["state"], row["label"], row["ended"]) == ("running", "lasts", None)
    assert recording._record()["processes"][1]["end"] is None


def test_a_map_shows_each_chunk_that_is_sent():
    with raddle.timeline() as recording, raddle.ProcessPoolExecutor(1) as executor:
        assert list(executor.map(abs, range(-6, 0), chunksize=2)) == [6, 5, 4, 3, 2, 1]
    found = rows(recording)
    assert [(row["label"], row["state"]) for row in found] == [("abs", "finished")] * 3
    pairs = itertools.pairwise(found)
    assert all(before["ended"] <= after["started"] for before, after in pairs)


def test_a_pool_from_before_is_seen_with_its_workers():
    with raddle.ProcessPoolExecutor(1) as executor:
        pid = executor.submit(os.getpid).result()
        with raddle.timeline() as recording:
            assert executor.submit(os.getpid).result() == pid
    (row,) = rows(recording)
    assert row["started"] < row["ended"]
    assert recording._record()["processes"][1]["pid"] == pid
