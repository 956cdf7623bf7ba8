"""`share`: one copy for all tasks, that nobody writes."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys

import large_tasks as tasks
import numpy
import pytest
from process_holdings import arena_in_use

import raddle
from raddle import _native

COUNT = tasks.LARGE // 8


pytestmark = pytest.mark.usefixtures("nothing_stays_in_the_arena")


def is_writable(values):
    return values.flags.writeable


def sum_of(thing):
    return float(thing["values"].sum())


def try_to_write(values):
    values[0] = 5


def test_a_task_gets_the_object_and_nobody_writes_it(make_default):
    shared = raddle.share(numpy.ones(COUNT))
    pool = make_default(2)
    assert list(pool.map(tasks.total, [shared] * 10)) == [COUNT] * 10
    assert pool.submit(is_writable, shared).result() is False
    assert isinstance(pool.submit(try_to_write, shared).exception(), ValueError)
    assert (shared.value == 1).all() and not shared.value.flags.writeable


def test_it_may_lie_within_something_else(make_default):
    shared = raddle.share(numpy.ones(COUNT))
    assert make_default(1).submit(sum_of, {"values": shared}).result() == COUNT


def test_all_tasks_have_the_same_memory(make_default):
    shared = raddle.share(numpy.ones(COUNT))
    before = arena_in_use()
    pool = make_default(2)
    futures = [pool.submit(tasks.total, shared) for _ in range(50)]
    assert arena_in_use() == before
    assert [future.result() for future in futures] == [COUNT] * 50


def test_what_is_shared_may_be_part_of_what_is_shared(make_default):
    inner = raddle.share(numpy.ones(COUNT))
    outer = raddle.share({"values": inner, "more": numpy.zeros(COUNT)})
    pool = make_default(1)
    assert pool.submit(sum_of, outer).result() == COUNT
    assert (outer.value["values"] == 1).all() and (outer.value["more"] == 0).all()
    del inner
    for number in range(5):
        assert raddle.share(numpy.full(COUNT, float(number))).value.sum() == COUNT * number
    assert pool.submit(sum_of, outer).result() == COUNT
    # with nothing large beside it
    holder = raddle.share({"values": raddle.share(numpy.ones(COUNT))})
    assert pool.submit(sum_of, holder).result() == COUNT


def test_it_is_a_snapshot(make_default):
    values = numpy.ones(COUNT)
    shared = raddle.share(values)
    values[...] = 7
    assert make_default(1).submit(tasks.total, shared).result() == COUNT


def test_a_task_that_waits_keeps_it(make_default, gate):
    pool = make_default(1)
    held = pool.submit(gate)
    future = pool.submit(tasks.total, raddle.share(numpy.ones(COUNT)))
    for number in range(5):
        assert raddle.share(numpy.full(COUNT, float(number))).value.sum() == COUNT * number
    gate.open()
    assert held.result() is None
    assert future.result() == COUNT


def test_a_worker_that_keeps_it_has_it_as_it_was(make_default):
    pool = make_default(1)
    pool.submit(tasks.keep, raddle.share(numpy.ones(COUNT))).result()
    for number in range(10):
        assert raddle.share(numpy.full(COUNT, float(number))).value.sum() == COUNT * number
    assert pool.submit(tasks.kept_sums).result() == [COUNT / 2]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_started_in_other_ways_see_it(method, pools):
    context = multiprocessing.get_context(method)
    pools.append(raddle.ProcessPoolExecutor(1, mp_context=context))
    # What is there when the program forks stays while the worker does: so nothing is yet.
    assert pools[-1].submit(tasks.identity, 1).result() == 1
    shared = raddle.share(numpy.ones(COUNT))
    assert pools[-1].submit(tasks.total, shared).result() == COUNT


def test_pools_made_later_see_it(make_default):
    shared = raddle.share(numpy.ones(COUNT))
    for _ in range(2):
        assert make_default(1).submit(tasks.total, shared).result() == COUNT


def test_a_small_object_is_sent_as_it_is(make_default):
    shared = raddle.share([1, 2, 3])
    assert make_default(1).submit(tasks.identity, shared).result() == [1, 2, 3]
    assert repr(shared) == "<raddle.share of list>"


def test_to_others_it_goes_as_the_object():
    shared = raddle.share(numpy.ones(COUNT))
    assert pickle.loads(pickle.dumps(shared)).sum() == COUNT


def test_without_room_it_is_sent_with_each_task(make_default):
    before = _native.limit_arena(0)
    try:
        shared = raddle.share(numpy.ones(COUNT))
        assert make_default(1).submit(tasks.total, shared).result() == COUNT
    finally:
        _native.limit_arena(before)


def test_a_retried_task_gets_it_again(make_default):
    pool = make_default(1)
    shared = raddle.share(numpy.ones(COUNT))
    future = pool.options(retries=1).submit(tasks.die, shared)
    assert isinstance(future.exception(), raddle.WorkerDied)
    assert pool.submit(tasks.total, shared).result() == COUNT


def test_an_object_of_a_class_of_the_program_itself(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy, raddle\n"
        "class Held:\n"
        f"    def __init__(self): self.values = numpy.ones({COUNT})\n"
        "def total(held): return float(held.values.sum())\n"
        "shared = raddle.share(Held())\n"
        "with raddle.ProcessPoolExecutor(1) as pool:\n"
        "    print(pool.submit(total, shared).result(), type(shared.value) is Held)\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{float(COUNT)} True\n"
