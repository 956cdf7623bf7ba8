"""A recording of threads: a known program gives the known picture."""

import itertools
import json
import os
import sys
import threading
import time

import pytest
from programs import run

import raddle

STATES = ["finished", "failed", "cancelled", "timed out", "worker died", "running", "retried"]
COLUMNS = {
    "lane", "label", "executor", "submitted", "started", "ended", "state", "attempt", "error",
    "bytes_in", "bytes_out", "submitter", "task",
}  # fmt: skip


def rows(recording):
    """The tasks of a recording, each with its texts in place of their indices."""
    record = recording._record()
    columns = record["tasks"]
    assert set(columns) == COLUMNS
    found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for row in found:
        for key in ("label", "executor", "error"):
            row[key] = record["names"][row[key]] if row[key] >= 0 else None
        row["state"] = STATES[row["state"]]
        row["lane_name"] = record["lanes"][row["lane"]]["name"] if row["lane"] >= 0 else None
    return found


def square(x):
    return x * x


def refuse(_x):
    raise ValueError("not this one")


class TestPicture:
    def test_tasks_that_meet_overlap_on_lanes_of_their_own(self):
        barrier = threading.Barrier(2)
        with raddle.timeline() as recording, raddle.ThreadPoolExecutor(2) as executor:
            for future in [executor.submit(barrier.wait) for _ in range(2)]:
                future.result()
        one, other = rows(recording)
        assert one["lane"] != other["lane"]
        assert one["started"] <= other["started"] < one["ended"]
        for row in (one, other):
            assert (row["state"], row["attempt"], row["label"]) == ("finished", 1, "wait")
            assert row["lane_name"].startswith(row["executor"])
            assert row["submitted"] <= row["started"] <= row["ended"]
        lanes = recording._record()["lanes"]
        assert lanes[one["submitter"]]["name"] == threading.current_thread().name
        assert lanes[one["submitter"]]["kind"] == "caller"
        assert lanes[one["lane"]]["kind"] == "thread"

    def test_one_worker_runs_in_the_order_of_the_queue(self):
        with raddle.timeline() as recording, raddle.ThreadPoolExecutor(1) as executor:
            assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
        found = rows(recording)
        assert [row["task"] for row in found] == [1, 2, 3, 4, 5]
        assert {row["label"] for row in found} == {"square"}
        pairs = itertools.pairwise(found)
        assert all(before["ended"] <= after["started"] for before, after in pairs)

    def test_failures_and_attempts_say_why(self):
        with raddle.timeline() as recording, raddle.ThreadPoolExecutor(1) as executor:
            executor.options(retries=1, label="again").submit(refuse, 1).exception()
            executor.submit(refuse, 2).exception()
        found = [
            (row["label"], row["attempt"], row["state"], row["error"]) for row in rows(recording)
        ]
        assert found == [
            ("again", 1, "retried", "ValueError: not this one"),
            ("again", 2, "failed", "ValueError: not this one"),
            ("refuse", 1, "failed", "ValueError: not this one"),
        ]
        assert "2 failed, 1 retry" in recording.summary()

    def test_what_is_cancelled_never_began(self):
        gate = threading.Event()
        with raddle.timeline() as recording, raddle.ThreadPoolExecutor(1) as executor:
            running = executor.submit(gate.wait)
            waiting = executor.submit(square, 1)
            assert waiting.cancel()
            gate.set()
            running.result()
        first, second = rows(recording)
        assert (first["state"], second["state"]) == ("finished", "cancelled")
        assert second["started"] is None and second["lane"] == -1

    def test_what_still_runs_at_the_end_is_open(self):
        gate, begun = threading.Event(), threading.Event()
        with raddle.ThreadPoolExecutor(1) as executor:
            with raddle.timeline() as recording:
                future = executor.submit(lambda: begun.set() or gate.wait())
                begun.wait()
            gate.set()
            future.result()
        (row,) = rows(recording)
        assert (row["state"], row["label"], row["ended"]) == ("running", "<lambda>", None)
        assert "1 still running" in recording.summary()

    def test_a_task_that_overran_ends_when_its_limit_is_over(self):
        gate = threading.Event()
        with raddle.timeline() as recording, raddle.ThreadPoolExecutor(1) as executor:
            late = executor.options(task_timeout=0.01).submit(gate.wait)
            assert isinstance(late.exception(), raddle.TaskTimeout)
            gate.set()
        (row,) = rows(recording)
        assert row["state"] == "timed out" and row["ended"] >= row["started"] + 0.01

    def test_a_thread_of_ones_own_is_a_task(self):
        with raddle.timeline() as recording:
            thread = raddle.Thread(target=square, args=(7,), name="own")
            thread.start()
            assert thread.result() == 49
        (row,) = rows(recording)
        assert (row["state"], row["lane_name"], row["executor"]) == ("finished", "own", None)
        assert row["label"] == "thread 'own'"

    def test_who_waited_for_a_lock_and_who_held_it(self):
        lock = raddle.Lock(name="balance")
        held, waits = threading.Event(), threading.Event()

        def hold():
            with lock:
                held.set()
                waits.wait()
                # Nothing tells that another thread sleeps on the lock but that time passes.
                while lock.statistics().acquisitions and not waits.is_set():
                    pass

        def want():
            held.wait()
            waits.set()
            with lock:
                pass

        record = None
        while record is None or not record["locks"]:
            held.clear()
            waits.clear()
            with raddle.timeline() as recording, raddle.ThreadPoolExecutor(2) as executor:
                for future in [executor.submit(hold), executor.submit(want)]:
                    future.result()
            record = recording._record()
        (wait,) = record["locks"]
        assert record["names"][wait["lock"]] == "balance"
        assert wait["lane"] != wait["holder"] and wait["start"] <= wait["end"]

    def test_the_label_is_the_name_of_what_runs_and_asks_no_code_of_the_users(self):
        from functools import partial

        class Sly:
            def __call__(self):
                return 1

            def __getattr__(self, name):
                raise AssertionError(name)

        with raddle.timeline() as recording, raddle.ThreadPoolExecutor(1) as executor:
            for call in (partial(square, 2), Sly(), "abc".upper, int):
                executor.submit(call).result()
        assert [row["label"] for row in rows(recording)] == ["square", "Sly", "upper", "int"]


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12) or sys.version_info >= (3, 14),
    reason="this interpreter does not tell who holds the GIL",
)
class TestGil:
    def test_threads_that_compute_hold_it_in_turn(self):
        def compute():
            end = time.perf_counter() + 0.05
            while time.perf_counter() < end:
                pass

        seen, waited = set(), 0
        while len(seen) < 2 or not waited:
            with raddle.timeline() as recording, raddle.ThreadPoolExecutor(2) as executor:
                for future in [executor.submit(compute) for _ in range(2)]:
                    future.result()
            record = recording._record()
            gil = record["gil"]
            assert gil["sampled"] and gil["period"] > 0
            workers = {at for at, lane in enumerate(record["lanes"]) if lane["kind"] == "thread"}
            seen = {lane for lane, _, _ in gil["holder"]} & workers
            waited = len(gil["waiting"]) or not gil["waits_seen"]
            times = [time for _, start, end in gil["holder"] for time in (start, end)]
            assert times == sorted(times)

    def test_a_recording_without_tasks_says_so(self):
        with raddle.timeline() as recording:
            pass
        assert recording.summary().startswith("No tasks in")
        assert recording._record()["tasks"]["lane"] == []


class TestUse:
    def test_several_recordings_see_the_same(self):
        with raddle.ThreadPoolExecutor(1) as executor, raddle.timeline() as outer:
            with raddle.timeline() as inner:
                executor.submit(square, 1).result()
            executor.submit(square, 2).result()
        assert len(rows(inner)) == 1
        assert len(rows(outer)) == 2

    def test_it_is_used_once_and_looked_at_afterwards(self):
        recording = raddle.timeline()
        with pytest.raises(RuntimeError, match="has not ended"):
            recording.summary()
        assert repr(recording) == "<raddle.Timeline: not begun>"
        with recording:
            assert repr(recording) == "<raddle.Timeline: recording>"
            with pytest.raises(RuntimeError, match="has not ended"):
                recording.summary()
        assert recording._repr_html_ is not None
        with pytest.raises(RuntimeError, match="has been used"), recording:
            pass

    def test_it_is_saved_when_the_block_raises(self, tmp_path):
        path = tmp_path / "run.json"
        with pytest.raises(KeyError), raddle.timeline(path):
            with raddle.ThreadPoolExecutor(1) as executor:
                executor.submit(square, 1).result()
            raise KeyError("the block's own")
        assert json.loads(path.read_text())["otherData"]["summary"].startswith("1 task on 1 thread")
        assert os.listdir(tmp_path) == ["run.json"]

    def test_a_path_that_cannot_be_is_refused_before_the_work(self, tmp_path):
        with pytest.raises(ValueError, match=r"\.html.*\.json.*'run\.txt'"):
            raddle.timeline("run.txt")
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            raddle.timeline(tmp_path / "nowhere" / "run.json")

    def test_what_the_block_raised_outlives_a_save_that_fails(self, tmp_path, capsys):
        folder = tmp_path / "gone"
        folder.mkdir()
        with pytest.raises(KeyError), raddle.timeline(folder / "run.json"):
            folder.rmdir()
            raise KeyError
        assert "was not written" in capsys.readouterr().err

    def test_a_child_of_a_fork_records_nothing_and_does_not_hang(self):
        # From 3.12 on the interpreter warns of a fork beside threads.
        code, output, _warnings = run(
            "raddle",
            """
            with futures.timeline() as outer:
                with futures.ThreadPoolExecutor(2) as executor:
                    list(executor.map(abs, range(100)))
                    pid = os.fork()
                    if pid == 0:
                        with futures.timeline() as own, futures.ThreadPoolExecutor(1) as fresh:
                            fresh.submit(abs, 1).result()
                        outer.__exit__(None, None, None)
                        say(len(own._record()["tasks"]["task"]), outer.summary()[:8])
                        os._exit(0)
                    os.waitpid(pid, 0)
            say(len(outer._record()["tasks"]["task"]))
            """,
        )
        assert (code, output) == (0, ["1 No tasks", "100"])
