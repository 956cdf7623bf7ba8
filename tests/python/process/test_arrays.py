"""`empty` and `asarray`: sent without a copy, and yet as if they had been pickled."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import large_tasks as tasks
import numpy
import pytest
from process_holdings import arena_in_use

import raddle
from raddle import _native

COUNT = tasks.LARGE // 8

pytestmark = pytest.mark.usefixtures("nothing_stays_in_the_arena")


def filled(number, count=COUNT):
    values = raddle.empty(count)
    values[...] = number
    return values


def sums(one, other):
    return float(one.sum()), float(other.sum())


def write_and_sum(values):
    values[0] = 100.0
    return float(values.sum())


# what it is


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (COUNT, float),
        (numpy.int64(COUNT), "f4"),
        ((3, COUNT), "i2"),
        ([COUNT, 2], "datetime64[s]"),
        (COUNT, [("a", "i4"), ("b", "f8", (2,))]),
        (COUNT, ("f8", (2,))),
        (COUNT, "U3"),
        (3, float),
        ((), float),
        (0, float),
        ((COUNT, 0), float),
    ],
    ids=str,
)
def test_empty_makes_an_array_as_numpy_does(shape, dtype):
    made, expected = raddle.empty(shape, dtype), numpy.empty(shape, dtype)
    assert type(made) is numpy.ndarray
    assert (made.shape, made.dtype, made.strides) == (
        expected.shape,
        expected.dtype,
        expected.strides,
    )
    assert made.flags.writeable and made.flags.aligned and made.flags.c_contiguous
    assert _native.lies_in_arena(made) is (made.nbytes >= 1 << 16)


def test_asarray_copies_what_lies_elsewhere_and_nothing_else():
    values = numpy.arange(COUNT, dtype=float)
    placed = raddle.asarray(values)
    assert placed is not values and (placed == values).all()
    assert raddle.asarray(placed) is placed
    assert raddle.asarray(placed[10:]).base is not None
    assert raddle.asarray(placed, "f4").dtype == "f4"
    fortran = raddle.asarray(numpy.asfortranarray(values.reshape(-1, 64)))
    assert fortran.flags.f_contiguous and (fortran == values.reshape(-1, 64)).all()
    assert raddle.asarray([1, 2, 3]).tolist() == [1, 2, 3]


def test_what_cannot_lie_there_is_refused_at_the_call():
    with pytest.raises(TypeError, match=r"raddle\.empty\(\) makes arrays in shared memory"):
        raddle.empty(COUNT, object)
    with pytest.raises(TypeError, match=r"raddle\.asarray\(\) makes arrays in shared memory"):
        raddle.asarray(["a", None])
    with pytest.raises(TypeError):
        raddle.empty(2.5)
    with pytest.raises(ValueError, match="negative"):
        raddle.empty((-1, -COUNT))


def test_without_room_it_is_an_ordinary_array(make_default):
    before = _native.limit_arena(0)
    try:
        values = filled(1.0)
        assert not _native.lies_in_arena(values)
        assert make_default(1).submit(tasks.total, values).result() == COUNT
    finally:
        _native.limit_arena(before)


def test_an_array_that_no_memory_is_had_for_is_refused_with_sizes():
    # More than an address can tell of.
    items = 1 << 50
    limit = _native.limit_arena(0)
    _native.limit_arena(limit)
    sizes = rf"no memory for {8 * items} bytes .* shape \({items},\).* of at most {limit}: "
    with pytest.raises(MemoryError, match=sizes) as refused:
        raddle.empty(items)
    assert isinstance(refused.value.__cause__, MemoryError)
    with pytest.raises(MemoryError, match=sizes):
        raddle.asarray(numpy.broadcast_to(1.0, items))


# the same as pickled


def test_a_task_gets_it_as_it_was_at_submit(make_default, gate):
    pool = make_default(1)
    held = pool.submit(gate)
    values = filled(1.0)
    first = pool.submit(tasks.total, values)
    values[: COUNT // 2] = 5.0
    second = pool.submit(tasks.total, values)
    values[...] = 7.0
    gate.open()
    assert held.result() is None
    assert [first.result(), second.result()] == [COUNT, COUNT * 3]
    assert values.sum() == COUNT * 7


def test_what_a_task_writes_the_program_does_not_see(make_default):
    pool = make_default(2)
    values = filled(1.0)
    assert list(pool.map(write_and_sum, [values] * 4)) == [COUNT + 99.0] * 4
    assert values.sum() == COUNT


def test_parts_of_it_are_sent_as_parts(make_default):
    pool = make_default(1)
    values = raddle.asarray(numpy.arange(4 * COUNT, dtype=float)).reshape(4, COUNT)
    table = numpy.arange(4 * COUNT, dtype=float).reshape(4, COUNT)
    for part in (slice(1, 3), (slice(None), slice(None, None, 2)), slice(None, None, -1), 2):
        back = pool.submit(tasks.identity, values[part]).result()
        assert (back == table[part]).all()
    assert (pool.submit(tasks.identity, values.T).result() == table.T).all()
    view = values.view("u1")
    assert (pool.submit(tasks.identity, view).result() == table.view("u1")).all()
    read_only = values[:2]
    read_only.flags.writeable = False
    assert pool.submit(tasks.identity, read_only).result().flags.writeable is False


def test_it_goes_with_others_and_in_frames(make_default):
    pool = make_default(1)
    values, other = filled(1.0), filled(2.0)
    assert pool.submit(sums, values, other).result() == (COUNT, 2 * COUNT)
    mixed = {"a": values, "b": numpy.full(COUNT, 3.0), "c": [other, values[: COUNT // 2]], "d": 4}
    back = pool.submit(tasks.identity, mixed).result()
    assert (back["a"] == 1).all() and (back["b"] == 3).all() and (back["c"][0] == 2).all()
    assert back["c"][1].shape == (COUNT // 2,)


@pytest.mark.skipif(
    not os.access("/proc/self/pagemap", os.R_OK),
    reason="without it the system does not tell which pages were written, so all is copied",
)
def test_to_send_it_takes_no_memory_until_it_is_written(make_default, gate):
    pool = make_default(1)
    held = pool.submit(gate)
    values = filled(1.0, 4 * COUNT)
    before = arena_in_use()
    futures = [pool.submit(tasks.total, values) for _ in range(5)]
    futures += [pool.submit(tasks.total, values[: 2 * COUNT]) for _ in range(5)]
    assert arena_in_use() == before
    values[0] = 2.0
    futures.append(pool.submit(tasks.total, values[2 * COUNT :]))
    assert arena_in_use() == before
    futures.append(pool.submit(tasks.total, values))
    assert arena_in_use() > before
    gate.open()
    assert held.result() is None
    expected = [4 * COUNT] * 5 + [2 * COUNT] * 6 + [4 * COUNT + 1]
    assert [future.result() for future in futures] == expected


def test_a_shared_one_stays_as_it_was(make_default):
    values = filled(1.0)
    shared = raddle.share(values)
    values[...] = 2.0
    assert make_default(1).submit(tasks.total, shared).result() == COUNT
    assert shared.value.sum() == COUNT and values.sum() == 2 * COUNT


def test_a_worker_may_make_one_and_send_it_back(make_default):
    back = make_default(1).submit(filled, 3.0).result()
    assert back.sum() == 3 * COUNT


# whose memory it is


def test_it_is_free_when_it_and_its_views_are_gone(make_default):
    pool = make_default(1)
    before = arena_in_use()
    values = filled(1.0)
    part = values[5:]
    assert pool.submit(tasks.total, values).result() == COUNT
    del values
    assert arena_in_use() > before and part.sum() == COUNT - 5
    del part
    assert arena_in_use() == before


def test_a_task_that_waits_keeps_it(make_default, gate):
    pool = make_default(1)
    held = pool.submit(gate)
    future = pool.submit(tasks.total, filled(1.0))
    for number in range(5):
        assert filled(float(number)).sum() == COUNT * number
    gate.open()
    assert held.result() is None
    assert future.result() == COUNT


def test_a_worker_that_keeps_it_has_it_as_it_was(make_default):
    pool = make_default(1)
    values = filled(1.0)
    pool.submit(tasks.keep, values).result()
    values[...] = 9.0
    del values
    for number in range(10):
        assert filled(float(number)).sum() == COUNT * number
    assert pool.submit(tasks.kept_sums).result() == [COUNT / 2]


def test_thousands_take_no_more_memory_than_a_few(make_default):
    pool = make_default(1)
    before = sum(_native.arena_usage())
    for number in range(2000):
        values = filled(float(number), 10_000)
        if number % 100 == 0:
            assert pool.submit(tasks.total, values).result() == 10_000.0 * number
    # all of them would be 160 MB
    assert sum(_native.arena_usage()) < before + (64 << 20)


def test_threads_that_write_beside_a_submit_lose_nothing(make_default):
    pool = make_default(1)
    values = filled(0.0, 8 * COUNT)
    parts = [values[index::2] for index in range(2)]

    def count_up(part):
        for _ in range(20):
            part += 1.0

    threads = [threading.Thread(target=count_up, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    seen = [pool.submit(tasks.total, values).result() for _ in range(5)]
    for thread in threads:
        thread.join()
    assert (values == 20.0).all()
    assert seen == sorted(seen)


# forks

FORKING = """
import multiprocessing, os, raddle
import large_tasks as tasks
COUNT = tasks.LARGE // 8

def filled(number):
    values = raddle.empty(COUNT)
    values[...] = number
    return values

def totals(values):
    with raddle.ProcessPoolExecutor(1) as pool:
        one = pool.submit(tasks.total, values).result()
        return one, pool.submit(tasks.total, filled(3.0)).result()

values = filled(1.0)
to_child, from_child = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.read(to_child[0], 1)
    seen = float(values.sum())
    values[...] = 5.0
    os.write(from_child[1], repr(seen).encode())
    os._exit(0)
values[...] = 2.0
os.write(to_child[1], b"x")
print(os.read(from_child[0], 100).decode() == repr(float(COUNT)))
os.waitpid(child, 0)
print(values.sum() == 2 * COUNT)
context = multiprocessing.get_context("fork")
with raddle.ProcessPoolExecutor(1, mp_context=context) as pool:
    print(pool.submit(totals, values).result() == (2 * COUNT, 3 * COUNT))
"""


def test_after_a_fork_neither_sees_what_the_other_writes():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.stdout, done.stderr) == ("True\nTrue\nTrue\n", "")
