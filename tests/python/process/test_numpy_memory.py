"""Arrays that a task makes lie in the arena: they are sent without a copy, and nobody can tell."""

from __future__ import annotations

import multiprocessing
import os
import queue
import subprocess
import sys
import warnings
from pathlib import Path

import array_tasks as tasks
import numpy
import process_tasks
import pytest
from process_holdings import arena_in_use

from raddle import MemoryLimit, ProcessPoolExecutor, WorkerDied, _native

COUNT = tasks.COUNT
BYTES = 8 * COUNT
SUM = float(COUNT * (COUNT - 1) // 2)

pytestmark = pytest.mark.usefixtures("nothing_stays_in_the_arena")


@pytest.fixture
def pool(make_default):
    return make_default(1)


def soon(ask):
    """Tell whether it is so in one of some attempts.

    Where the program is slow to answer, arrays lie elsewhere until the end of the task.
    """
    return any(ask() for _ in range(50))


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_large_arrays_of_a_task_lie_in_the_arena(pools, context):
    chosen = None if context is None else multiprocessing.get_context(context)
    pools.append(ProcessPoolExecutor(1, chosen))
    assert soon(lambda: all(pools[-1].submit(tasks.where_they_lie, COUNT).result()))
    assert not any(pools[-1].submit(tasks.where_they_lie, 64).result())


def test_they_do_in_the_very_task_that_loads_numpy(make_default):
    loading = f"__import__('array_tasks').where_they_lie({COUNT})"

    def load():
        pool = make_default(1)
        assert pool.submit(eval, "'numpy' in __import__('sys').modules").result() is False
        return all(pool.submit(eval, loading).result())

    assert soon(load)


def test_they_do_whatever_context_a_task_has(make_default):
    pool = make_default(1, inherit_context=[process_tasks.VARIABLE])
    loading = f"__import__('array_tasks').where_they_lie({COUNT})"
    before = process_tasks.VARIABLE.set("something")
    assert soon(lambda: all(pool.submit(eval, loading).result()))
    process_tasks.VARIABLE.reset(before)
    assert soon(lambda: all(pool.submit(tasks.where_they_lie, COUNT).result()))
    assert pool.submit(tasks.arange_in_a_context, COUNT).result().sum() == SUM


def test_those_of_other_threads_lie_elsewhere_and_arrive(pool):
    values, is_there = pool.submit(tasks.in_a_thread, COUNT).result()
    assert not is_there and values.sum() == SUM


def test_a_result_takes_one_segment(pool):
    before = arena_in_use()
    values = pool.submit(tasks.arange, COUNT).result()
    assert arena_in_use() - before == BYTES
    assert (values == numpy.arange(COUNT)).all() and values.flags.writeable


def test_what_a_task_dropped_is_used_again_and_given_back(pool):
    before = arena_in_use()
    values = pool.submit(tasks.many_steps, 400).result()
    assert values[0] == 401.0
    assert arena_in_use() - before == BYTES
    assert sum(_native.arena_usage()) - before <= 8 * BYTES


def test_arrays_of_the_same_memory_are_apart_when_they_arrive(pool):
    first, second, part = pool.submit(tasks.same_memory_thrice, COUNT).result()
    first[...] = 0
    assert second.sum() == SUM
    second[...] = 1
    assert part[-1] == COUNT // 2


def test_a_small_part_does_not_hold_the_whole(pool):
    part = pool.submit(tasks.a_small_part, COUNT).result()
    assert part[0] == 10.0 and len(part) == COUNT // 4 - 10
    assert arena_in_use() < BYTES


@pytest.mark.parametrize("task", [tasks.short_after_long, tasks.cut])
def test_a_result_holds_little_more_than_itself(pool, task):
    before = arena_in_use()
    result = pool.submit(task, COUNT).result()
    assert result.sum() == COUNT
    assert arena_in_use() - before <= 2 * BYTES


def test_an_array_can_become_longer_and_shorter(pool):
    values = pool.submit(tasks.longer_and_longer, COUNT).result()
    assert len(values) == 5 * COUNT
    assert values[:COUNT].sum() == SUM and not values[COUNT:].any()


def test_zeros_are_zeros(pool):
    assert not pool.submit(tasks.zeros_after_others, COUNT).result().any()


# what the worker goes on to use


def test_a_result_that_the_worker_keeps_is_the_callers_alone(pool):
    result = pool.submit(tasks.keep, COUNT).result()
    pool.submit(tasks.write_kept, -1.0).result()
    assert result.sum() == SUM
    result[...] = 3.0
    again = pool.submit(tasks.give_kept).result()
    assert again.sum() == -COUNT
    pool.submit(tasks.write_kept, -2.0).result()
    assert again.sum() == -COUNT and pool.submit(tasks.give_kept).result()[0] == -2.0


@pytest.mark.parametrize("task", [tasks.scrubbed, tasks.view_of_scrubbed])
def test_what_a_result_does_at_its_end_is_not_seen(pool, task):
    for _ in range(3):
        assert pool.submit(task, COUNT).result().sum() == SUM


def test_what_is_kept_and_not_sent_can_be_sent_later(pool):
    assert pool.submit(tasks.keep_alone, COUNT).result() == COUNT
    first = pool.submit(tasks.give_kept).result()
    pool.submit(tasks.write_kept, 0.0).result()
    assert first.sum() == SUM and pool.submit(tasks.give_kept).result().sum() == 0


def test_what_is_kept_no_more_is_free(pool):
    before = arena_in_use()
    result = pool.submit(tasks.keep, COUNT).result()
    pool.submit(tasks.keep_alone, COUNT).result()
    del result
    # Less, where the program was slow to answer.
    assert arena_in_use() - before <= 2 * BYTES
    for _ in range(2):
        pool.submit(tasks.forget).result()
    assert arena_in_use() == before


def test_nothing_is_left_of_a_task_that_fails_or_dies(pool):
    before = arena_in_use()
    assert str(pool.submit(tasks.raise_with, COUNT).exception()) == f"it has {COUNT}"
    assert arena_in_use() == before
    assert isinstance(pool.submit(tasks.hold_and_die, COUNT).exception(), WorkerDied)
    assert pool.submit(tasks.arange, COUNT).result().sum() == SUM
    assert arena_in_use() == before


def test_a_task_goes_on_while_the_program_is_held_up_by_a_callback(pool, make_gate):
    # the callback runs on the thread that looks after the workers, and waits for the second task
    gate, made = make_gate(), make_gate()
    seen = queue.SimpleQueue()
    pool.submit(gate).add_done_callback(lambda _future: seen.put(made.wait_started()))
    second = pool.submit(tasks.make_and_announce, made, COUNT)
    gate.open()
    assert seen.get() == list(pool._processes) and second.result() == SUM


# forks


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_a_forked_child_writes_is_its_own(pool):
    values, seen = pool.submit(tasks.write_in_a_child, COUNT).result()
    assert seen == SUM - COUNT
    assert (values[0], values[1:].sum()) == (5.0, SUM)
    # a task after that has its arrays in the arena as before
    assert soon(lambda: pool.submit(tasks.mapped_when_returned, COUNT).result()[1])


#: A task forks a child, which looks at an array of it after other tasks have used memory.
CHILD = """
import multiprocessing, os, raddle
import array_tasks as tasks

gate_in, go = os.pipe()
out, gate_out = os.pipe()
with raddle.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
    future = pool.submit(tasks.leave_a_child, tasks.COUNT, gate_in, gate_out, {dies})
    print(type(future.exception()).__name__)
    for _ in range(20):
        pool.submit(tasks.many_steps, 3).result()
    os.write(go, b"x")
    print(os.read(out, 100).decode() == str(float(tasks.COUNT)))
"""


@pytest.mark.parametrize(("dies", "said"), [(False, "NoneType"), (True, "WorkerDied")])
def test_a_child_sees_the_array_as_it_was(dies, said):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-W", "ignore", "-c", CHILD.format(dies=dies)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == (f"{said}\nTrue\n", "")


def test_a_fork_of_the_program_does_not_hold_what_a_task_computes_in(pool, gate):
    before = arena_in_use()
    task = pool.submit(tasks.hold_at, gate, COUNT)
    gate.wait_started()
    pipe, end = os.pipe()
    child = _fork_that_reads(pipe)
    gate.open()
    values, _ = task.result()
    assert values.sum() == SUM
    del values, task
    pool.submit(tasks.forget).result()
    assert arena_in_use() == before
    os.write(end, b"x")
    os.waitpid(child, 0)
    os.close(pipe)
    os.close(end)


def _fork_that_reads(pipe):
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        os.read(pipe, 1)
        os._exit(0)
    return child


# bounds


def test_with_a_full_arena_arrays_lie_elsewhere_and_arrive(pool):
    before = _native.limit_arena(arena_in_use() + 2 * BYTES)
    try:
        made = [pool.submit(tasks.mapped_when_returned, COUNT).result() for _ in range(4)]
    finally:
        _native.limit_arena(before)
    assert [values.sum() for values, _ in made] == [SUM] * 4
    # half of the arena is for what is sent
    assert [is_there for _, is_there in made].count(True) <= 1


def test_what_lies_in_the_arena_counts_for_the_memory_limit(make_default):
    pool = make_default(1, memory_limit="200 MB")
    errors = [pool.submit(tasks.hold, 250).exception()]
    assert soon(lambda: errors[-1] or errors.append(pool.submit(tasks.hold, 250).exception()))
    assert isinstance(errors[-1], MemoryLimit)
    assert errors[-1].peak_memory > errors[-1].limit == 200 << 20


def test_what_is_kept_and_written_counts_once(make_default):
    pool = make_default(1, memory_limit="400 MB")
    result = pool.submit(tasks.keep, 30 << 20).result()
    pool.submit(tasks.write_kept, 3.0).result()
    assert pool.submit(tasks.give_kept).result()[-1] == 3.0 and result[-1] == (30 << 20) - 1


def test_what_a_task_has_dropped_does_not_count(make_default):
    pool = make_default(1, memory_limit="400 MB")
    assert pool.submit(tasks.grow, 60).result() == list(range(1, 61))
