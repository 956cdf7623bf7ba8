"""Large data beside the calls and results: it is as if all had been pickled, and memory comes back.

The reference is what pickling gives: a snapshot at `submit`, private and writable in the worker,
and a result that is the caller's alone.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import large_tasks as tasks
import numpy
import pytest
from process_holdings import arena_in_use

from raddle import ProcessPoolExecutor, WorkerDied, _native, wait

LARGE = tasks.LARGE
COUNT = LARGE // 8


pytestmark = pytest.mark.usefixtures("nothing_stays_in_the_arena")


@pytest.fixture
def small_arena():
    before = _native.limit_arena(8 * LARGE)
    yield 8 * LARGE
    _native.limit_arena(before)


@pytest.fixture(params=["default", "fork", "spawn"])
def make_started(request, pools):
    """Makes pools whose workers are started in each way."""

    def make(*args, **kwargs):
        if request.param != "default":
            kwargs["mp_context"] = multiprocessing.get_context(request.param)
        pools.append(ProcessPoolExecutor(*args, **kwargs))
        return pools[-1]

    return make


# the same as pickled


@pytest.mark.parametrize(
    "value",
    [
        numpy.arange(COUNT, dtype=float),
        numpy.arange(COUNT, dtype=float)[::2],
        numpy.asfortranarray(numpy.arange(COUNT, dtype=float).reshape(-1, 64)),
        numpy.arange(COUNT).astype("datetime64[s]"),
        numpy.array(["text"] * COUNT, dtype=object),
        numpy.zeros(COUNT, dtype=[("a", "i4"), ("b", "f8")]),
        {"both": [numpy.arange(COUNT), numpy.arange(COUNT, dtype="u1")], "few": numpy.arange(3)},
        b"x" * LARGE,
        "ä" * LARGE,
        "\ud800" * LARGE,
        bytearray(LARGE),
        [b"x" * LARGE, "y" * LARGE, 3],
        tasks.Labelled("one", numpy.arange(COUNT)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_large_value_comes_back_as_from_a_pickle(make_started, value):
    pool = make_started(1)
    back = pool.submit(tasks.identity, value).result()
    expected = pickle.loads(pickle.dumps(value, 5))
    assert type(back) is type(value)
    assert pickle.dumps(back, 4) == pickle.dumps(expected, 4)
    in_map = list(pool.map(tasks.identity, [value, value], chunksize=2))
    assert [pickle.dumps(each, 4) for each in in_map] == [pickle.dumps(expected, 4)] * 2
    args, kwargs = pool.submit(_capture, 1, value, key=value).result()
    assert pickle.dumps(args[1], 4) == pickle.dumps(kwargs["key"], 4) == pickle.dumps(expected, 4)


def _capture(*args, **kwargs):
    return args, kwargs


@pytest.mark.parametrize("is_writable", [True, False])
def test_an_array_has_the_flags_that_pickling_gives_it(make_default, is_writable):
    values = numpy.arange(COUNT, dtype=float)
    values.flags.writeable = is_writable
    back = make_default(1).submit(tasks.identity, values).result()
    expected = pickle.loads(pickle.dumps(values, 5))
    assert str(back.flags) == str(expected.flags)


@pytest.mark.parametrize("content", [b"x" * LARGE, bytearray(LARGE)], ids=["bytes", "bytearray"])
def test_a_buffer_to_be_pickled_arrives_as_from_a_pickle(make_default, content):
    pool = make_default(1)
    buffer = pickle.PickleBuffer(content)
    for value in (buffer, [buffer, 1], {"key": buffer}):
        expected = pickle.loads(pickle.dumps(value, 5))
        back = pool.submit(tasks.identity, value).result()
        assert back == expected
    assert type(pool.submit(tasks.identity, buffer).result()) is type(content)


def test_a_value_with_a_class_of_the_program_itself_arrives(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import dataclasses, numpy, raddle\n"
        "@dataclasses.dataclass\n"
        "class Held:\n"
        "    values: object\n"
        "def double(held):\n"
        "    return Held(held.values * 2)\n"
        "with raddle.ProcessPoolExecutor(1) as pool:\n"
        f"    values = numpy.arange({COUNT})\n"
        "    back = pool.submit(double, Held(values)).result()\n"
        "    print((back.values == values * 2).all())\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


# whose it is


def test_an_argument_is_a_snapshot_at_submit(make_default, gate):
    pool = make_default(1)
    held = pool.submit(gate)
    values = numpy.ones(COUNT)
    future = pool.submit(tasks.total, values)
    values[...] = 5
    gate.open()
    assert held.result() is None
    assert future.result() == COUNT


def test_what_a_task_writes_into_its_argument_changes_nobody_elses(make_default):
    pool = make_default(2)
    values = numpy.ones(COUNT)
    futures = [pool.submit(tasks.fill, values, number) for number in range(6)]
    assert [future.result() for future in futures] == [COUNT * number for number in range(6)]
    assert values.sum() == COUNT


def test_what_is_written_into_a_result_changes_no_other(make_default):
    pool = make_default(1)
    one, other = pool.submit(tasks.make, 1), pool.submit(tasks.make, 1)
    one.result()[...] = 7
    assert other.result().sum() == COUNT
    assert pool.submit(tasks.make, 2).result().sum() == 2 * COUNT
    assert one.result().sum() == 7 * COUNT


def test_an_argument_that_a_worker_keeps_stays_as_it_was(make_default):
    pool = make_default(1)
    for number in range(1, 4):
        pool.submit(tasks.keep, numpy.full(COUNT, float(number))).result()
    # What would be used anew if it were free.
    for number in range(20):
        assert pool.submit(tasks.total, numpy.full(COUNT, float(number))).result() == COUNT * number
    half = COUNT // 2
    assert pool.submit(tasks.kept_sums).result() == [half, 2 * half, 3 * half]
    assert arena_in_use() > 0
    pool.submit(tasks.forget).result()
    # The worker tells when it next has nothing to do, or at the next reply.
    pool.submit(tasks.forget).result()


def test_what_a_worker_kept_is_free_when_the_worker_is_gone(make_default):
    pool = make_default(1)
    pool.submit(tasks.keep, numpy.ones(COUNT)).result()
    assert arena_in_use() > 0
    assert isinstance(pool.submit(tasks.die, 1).exception(), WorkerDied)
    assert pool.submit(tasks.kept_sums).result() == []


def test_a_result_that_the_worker_goes_on_to_use_is_the_callers_alone(make_default):
    pool = make_default(1)
    result = pool.submit(tasks.make_and_keep, 3).result()
    result[: COUNT // 2] = 0
    assert pool.submit(tasks.kept_sums).result() == [3 * COUNT]
    pool.submit(tasks.change_kept).result()
    assert result.sum() == 3 * COUNT / 2


def test_a_result_lives_as_long_as_a_view_of_it(make_default):
    pool = make_default(1)
    view = pool.submit(tasks.make, 3).result()[5:10].reshape(1, 5)
    for number in range(20):
        assert pool.submit(tasks.make, number).result().sum() == COUNT * number
    assert view.tolist() == [[3.0] * 5]
    assert arena_in_use() >= LARGE


def test_results_outlive_their_pool(make_default):
    pool = make_default(1)
    asked, unasked = pool.submit(tasks.make, 1), pool.submit(tasks.make, 2)
    result = asked.result()
    pool.shutdown()
    assert (result.sum(), unasked.result().sum()) == (COUNT, 2 * COUNT)


def test_a_retried_task_gets_its_argument_again(make_default, tmp_path):
    pool = make_default(1)
    marks = tmp_path / "marks"
    future = pool.options(retries=1).submit(_fail_once, numpy.ones(COUNT), str(marks))
    assert future.result() == COUNT


def _fail_once(values, marks):
    path = Path(marks)
    if not path.exists():
        path.touch()
        values[...] = 0
        raise ValueError("the first time")
    return float(values.sum())


# what goes wrong


def test_a_dead_worker_costs_its_own_task_alone(make_default):
    pool = make_default(2)
    futures = [pool.submit(tasks.make, number) for number in range(8)]
    dead = [pool.submit(tasks.die, numpy.ones(COUNT)), pool.submit(tasks.make_and_die, 1)]
    futures += [pool.submit(tasks.make, number) for number in range(8, 16)]
    assert [future.result().sum() for future in futures] == [COUNT * n for n in range(16)]
    assert all(isinstance(future.exception(), WorkerDied) for future in dead)


def test_the_error_of_a_lost_task_tells_what_it_was_given(make_default):
    error = make_default(1).submit(tasks.die, numpy.ones(COUNT)).exception()
    assert isinstance(error, WorkerDied)
    assert "die(ndarray(...))" in str(error)
    error = make_default(1).submit(tasks.die, "x" * 3 * LARGE).exception()
    assert "die(... 3 MB of arguments)" in str(error)


def test_what_cannot_be_pickled_fails_alone_and_leaves_nothing(make_default):
    pool = make_default(1)
    for _ in range(3):
        assert isinstance(
            pool.submit(tasks.total, tasks.FailsAfterAnArray()).exception(), ValueError
        )
        assert isinstance(pool.submit(tasks.make_unpicklable).exception(), ValueError)
    assert pool.submit(tasks.total, numpy.ones(COUNT)).result() == COUNT


def test_cancelled_calls_leave_nothing(make_default, gate):
    pool = make_default(1)
    held = pool.submit(gate)
    futures = [pool.submit(tasks.total, numpy.ones(COUNT)) for _ in range(5)]
    assert [future.cancel() for future in futures] == [True] * 5
    gate.open()
    assert held.result() is None


# memory


def test_a_full_arena_costs_time_and_no_result(make_default, small_arena):
    pool = make_default(2)
    futures = [pool.submit(tasks.make, number) for number in range(20)]
    wait(futures)
    assert arena_in_use() <= small_arena
    assert [future.result().sum() for future in futures] == [COUNT * n for n in range(20)]
    kept = [pool.submit(tasks.double, numpy.full(COUNT, 1.0)).result() for _ in range(20)]
    assert [values.sum() for values in kept] == [2 * COUNT] * 20


def test_what_is_larger_than_the_arena_arrives(make_default, small_arena):
    values = numpy.arange(2 * small_arena // 8, dtype=float)
    assert (make_default(1).submit(tasks.double, values).result() == values * 2).all()


def test_ten_thousand_results_take_no_more_memory_than_a_few(make_default):
    pool = make_default(2)
    most = 0
    for number, result in enumerate(pool.map(tasks.make, range(10_000), [10_000] * 10_000)):
        assert result[0] == number
        if number % 1000 == 0:
            most = max(most, sum(_native.arena_usage()))
    assert most < 1 << 30


def test_memory_is_given_back_when_a_pool_ends(make_default):
    pool = make_default(1)
    assert pool.submit(tasks.double, numpy.ones(COUNT)).result().sum() == 2 * COUNT
    assert sum(_native.arena_usage()) > 0
    pool.shutdown()
    assert _native.arena_usage()[1] == 0


def test_many_threads_submit_and_take_large_data(make_default):
    pool = make_default(2)
    failed = []

    def work(number):
        for turn in range(20):
            values = numpy.full(COUNT // 4, float(number * 100 + turn))
            back = pool.submit(tasks.double, values).result()
            if not (back == values * 2).all():
                failed.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# forks, and the end

FORKING = """
import os, numpy, raddle
import large_tasks as tasks
with raddle.ProcessPoolExecutor(1) as pool:
    future = pool.submit(tasks.make, 3)
    result = pool.submit(tasks.make, 4).result()
    unasked = pool.submit(tasks.make, 5)
    future.result(), unasked.exception()
    ready, go = os.pipe()
    out, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)
        seen = [float(result.sum()), float(unasked.result().sum())]
        result[...] = 0
        os.write(tell, repr(seen).encode())
        os._exit(0)
    del future, unasked
    held = result
    result = None
    for number in range(20):
        pool.submit(tasks.make, 9).result()
    held[0] = 100
    os.write(go, b"x")
    print(os.read(out, 100).decode(), float(held.sum()))
    os.waitpid(child, 0)
"""


def test_a_forked_child_has_the_results_as_they_were(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(FORKING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == f"[{4.0 * COUNT}, {5.0 * COUNT}] {4.0 * COUNT + 96}\n"


FORKED_AND_GONE = """
import os, numpy, raddle
import large_tasks as tasks
from process_holdings import arena_in_use

with raddle.ProcessPoolExecutor(1) as pool:
    result = pool.submit(tasks.make, 4).result()
    mine = raddle.asarray(result)
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        # Even one that closes all it has.
        os.dup2(ready, 0)
        os.closerange(3, 1000)
        os.read(0, 1)
        os._exit(0 if result.sum() == mine.sum() == 4 * len(mine) else 1)
    del result, mine
    print(arena_in_use() >= 2 * tasks.LARGE)
    pool.submit(tasks.total, numpy.full(tasks.LARGE // 8, 9.0)).result()
    os.write(go, b"x")
    print(os.waitpid(child, 0)[1], arena_in_use())
"""


def test_when_a_forked_child_is_gone_the_memory_is_free():
    assert _said_by(FORKED_AND_GONE) == "True\n0 0\n"


def _said_by(program):
    """Run a program, whose forks newer Pythons warn of."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    return done.stdout


def test_when_a_child_that_a_task_forked_is_gone_the_memory_is_free(make_default):
    pool = make_default(1)
    before = arena_in_use()
    assert pool.submit(tasks.wait_for_a_child, numpy.ones(COUNT)).result() == COUNT
    # The worker tells with the next reply.
    for _ in range(2):
        assert pool.submit(tasks.identity, 1).result() == 1
    assert arena_in_use() == before


#: A task forks a child, which looks at the argument after other tasks have used its memory.
CHILD = """
import multiprocessing, os, numpy, raddle
import large_tasks as tasks

COUNT = tasks.LARGE // 8
gate_in, go = os.pipe()
out, gate_out = os.pipe()
with raddle.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
    future = pool.submit(tasks.{task}, numpy.ones(COUNT), gate_in, gate_out)
    print({said})
    for _ in range(20):
        pool.submit(tasks.total, numpy.full(COUNT, 9.0)).result()
    os.write(go, b"x")
    print(os.read(out, 100).decode() == str(float(COUNT)))
"""


def test_a_child_that_a_task_forks_has_the_argument_as_it_was():
    assert (
        _said_by(CHILD.format(task="sum_after_fork", said="future.result() == COUNT"))
        == "True\nTrue\n"
    )


def test_a_child_that_outlives_its_worker_has_the_argument_as_it_was():
    assert (
        _said_by(CHILD.format(task="die_before_a_child", said="type(future.exception()).__name__"))
        == "WorkerDied\nTrue\n"
    )


KILLED = """
import os, signal, numpy, raddle
import large_tasks as tasks
pool = raddle.ProcessPoolExecutor(2)
results = [pool.submit(tasks.make, number) for number in range(20)]
print(sorted(pool._processes), results[0].result()[0], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_program_leaves_no_file(tmp_path):
    temporary, shared = tmp_path / "temporary", Path("/dev/shm")
    temporary.mkdir()
    before = set(shared.iterdir())
    program = tmp_path / "program.py"
    program.write_text(KILLED)
    folder = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": folder, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, env=environment
    )
    assert done.stdout.endswith("0.0\n")
    assert list(temporary.iterdir()) == []
    assert [path for path in set(shared.iterdir()) - before if "raddle" in path.name] == []


def test_many_short_results_take_no_mappings(make_default):
    # a process has 65,530 of them, and without one it gets no memory at all
    def mappings():
        return len(Path("/proc/self/maps").read_text().splitlines())

    pool = make_default(2)
    before = mappings()
    results = list(pool.map(tasks.ones, [LARGE // 80] * 400))
    assert mappings() < before + 200
    assert [result.sum() for result in results] == [LARGE // 80] * 400
