"""Arrays that a task makes lie in the arena: they are sent without a copy, and nobody can tell."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
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


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_large_arrays_of_a_task_lie_in_the_arena(pools, context):
    chosen = None if context is None else multiprocessing.get_context(context)
    pools.append(ProcessPoolExecutor(1, chosen))
    assert all(pools[-1].submit(tasks.where_they_lie, COUNT).result())
    assert not any(pools[-1].submit(tasks.where_they_lie, 64).result())


def test_they_do_in_the_very_task_that_loads_numpy(pool):
    assert pool.submit(eval, "'numpy' in __import__('sys').modules").result() is False
    loading = f"__import__('array_tasks').where_they_lie({COUNT})"
    assert all(pool.submit(eval, loading).result())


def test_they_do_whatever_context_a_task_has(make_default):
    pool = make_default(1, inherit_context=[process_tasks.VARIABLE])
    loading = f"__import__('array_tasks').where_they_lie({COUNT})"
    before = process_tasks.VARIABLE.set("something")
    assert all(pool.submit(eval, loading).result())
    process_tasks.VARIABLE.reset(before)
    assert all(pool.submit(tasks.where_they_lie, COUNT).result())
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
    assert arena_in_use() - before == 2 * BYTES
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


# forks


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_a_forked_child_writes_is_its_own(pool):
    values, seen = pool.submit(tasks.write_in_a_child, COUNT).result()
    assert seen == SUM - COUNT
    assert (values[0], values[1:].sum()) == (5.0, SUM)
    # a task after that has its arrays in the arena as before
    assert pool.submit(tasks.mapped_when_returned, COUNT).result()[1]


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


# bounds


def test_with_a_full_arena_arrays_lie_elsewhere_and_arrive(pool):
    before = _native.limit_arena(arena_in_use() + 2 * BYTES)
    try:
        made = [pool.submit(tasks.mapped_when_returned, COUNT).result() for _ in range(4)]
    finally:
        _native.limit_arena(before)
    assert [values.sum() for values, _ in made] == [SUM] * 4
    # half of the arena is for what is sent
    assert [is_there for _, is_there in made] == [True, False, False, False]


def test_what_lies_in_the_arena_counts_for_the_memory_limit(make_default):
    pool = make_default(1, memory_limit="400 MB")
    error = pool.submit(tasks.hold, 500).exception()
    assert isinstance(error, MemoryLimit) and error.peak_memory > error.limit == 400 << 20


def test_what_a_task_has_dropped_does_not_count(make_default):
    pool = make_default(1, memory_limit="400 MB")
    assert pool.submit(tasks.grow, 60).result() == list(range(1, 61))
