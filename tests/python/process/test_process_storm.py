"""Storms, in which workers are killed at random among thousands of tasks; and a soak.

Scaled by SOAK for a long run: ``SOAK=100`` makes the soak a million tasks.
"""

import os
import random
import signal
import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import process_tasks as tasks
import pytest
from process_holdings import descriptors, holdings, mappings

pytestmark = pytest.mark.stress
SCALE = int(os.environ.get("SOAK", "1"))
KILLS = 40
TASKS = 4000


class Killer:
    """Kills workers, each named by the result of a task, at random moments of a storm."""

    def __init__(self, seed):
        self.random, self.kills, self.pids = random.Random(seed), 0, set()
        self.lock = threading.Lock()

    def see(self, pid):
        """A worker lives, and may be killed from now on; about one result in fifty kills one."""
        with self.lock:
            self.pids.add(pid)
            if self.kills >= KILLS or self.random.random() > 0.02:
                return
            victim = self.random.choice(sorted(self.pids))
            self.pids.discard(victim)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.kills += 1

    def look(self, future):
        """A callback: sees the worker of a task that ended well."""
        if not future.cancelled() and future.exception() is None:
            self.see(future.result()[0])


def pid_and_block(number, size):
    block = bytes([number % 251]) * size
    return os.getpid(), number, block


@pytest.mark.parametrize("size", [0, 300_000])
@pytest.mark.parametrize("retries", [0, 50])
@pytest.mark.timeout(180)
def test_a_storm_of_deaths_costs_only_what_was_running(make_default, raddle, retries, size):
    pool, killer = make_default(4).options(retries=retries), Killer(seed=retries + size)
    count = TASKS if size == 0 else TASKS // 10
    futures = []
    for number in range(count):
        future = pool.submit(pid_and_block, number, size)
        future.add_done_callback(killer.look)
        futures.append(future)
    failed = 0
    for number, future in enumerate(futures):
        error = future.exception()
        if error is None:
            _, came_back, block = future.result()
            assert came_back == number
            assert block == bytes([number % 251]) * size
        else:
            assert type(error) is raddle.WorkerDied
            failed += 1
    assert killer.kills >= (KILLS if size == 0 else 1), "there was a storm"
    assert failed <= (0 if retries else killer.kills)
    assert pool.submit(tasks.square, 3).result() == 9


@pytest.mark.timeout(180)
def test_a_storm_in_a_map_with_retries_loses_and_doubles_nothing(make_default, tmp_path):
    pool, killer = make_default(4).options(retries=50), Killer(seed=1)
    numbers = []
    for pid, number in pool.map(tasks.pid_and, range(TASKS)):
        numbers.append(number)
        killer.see(pid)
    assert numbers == list(range(TASKS))
    assert killer.kills


@pytest.mark.timeout(180)
def test_a_storm_while_tasks_are_cancelled_ends_every_future_once(make_default):
    pool, killer = make_default(4), Killer(seed=2)
    ends, futures = [], []
    for number in range(1500):
        future = pool.submit(tasks.pid_and, number)
        future.add_done_callback(ends.append)
        future.add_done_callback(killer.look)
        futures.append(future)
        if number % 3 == 0:
            futures[killer.random.randrange(len(futures))].cancel()
    for number, future in enumerate(futures):
        if future.cancelled():
            continue
        error = future.exception()
        assert error is None or isinstance(error, BrokenProcessPool)
        assert error is not None or future.result()[1] == number
    pool.shutdown(wait=True)
    assert len(ends) == len(set(ends)) == 1500


@pytest.mark.timeout(180)
def test_a_storm_over_several_pools_and_submitters(raddle):
    def storm(seed):
        killer = Killer(seed)
        with raddle.ProcessPoolExecutor(2) as pool:
            view = pool.options(retries=50)
            for number in range(5):
                results = list(view.map(tasks.pid_and, range(100)))
                assert [value for _, value in results] == list(range(100)), number
                for pid, _ in results:
                    killer.see(pid)
        seen.append(killer.kills)

    seen = []
    threads = [threading.Thread(target=storm, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 3 and sum(seen) > 0


@pytest.mark.timeout(180)
def test_deaths_time_limits_kills_and_errors_mixed_end_every_future(make_default, raddle, tmp_path):
    chance = random.Random(5)
    pool = make_default(3)
    expected = []
    for number in range(400):
        way = chance.random()
        if way < 0.02:
            future = pool.submit(tasks.end_by_exit, number)
            expected.append((future, raddle.WorkerDied))
        elif way < 0.03:
            future = pool.options(task_timeout=0.2).submit(hang)
            expected.append((future, raddle.TaskTimeout))
        elif way < 0.2:
            expected.append((pool.submit(tasks.raise_error, ValueError(number)), ValueError))
        elif way < 0.25:
            expected.append((pool.submit(tasks.raise_needs_two), BrokenProcessPool))
        elif way < 0.35:
            expected.append((pool.submit(tasks.length, b"x" * 400_000), 400_000))
        else:
            expected.append((pool.submit(tasks.square, number), number * number))
    for future, end in expected:
        if isinstance(end, int):
            assert future.result() == end
        else:
            assert isinstance(future.exception(), end)


def hang():
    signal.pause()


# soak


def resident(pid):
    """The private memory of a process, in KiB: pages that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    parts = [line.split() for line in lines]
    return sum(int(p[1]) for p in parts if p[0] in ("Private_Clean:", "Private_Dirty:"))


@pytest.mark.parametrize("way", ["submit", "map", "chunks", "large"])
@pytest.mark.timeout(60 + 60 * SCALE)
def test_memory_stays_flat_in_parent_and_workers(make_default, way):
    pool = make_default(2)

    def round_of(count):
        if way == "submit":
            futures = [pool.submit(tasks.pid_and, n) for n in range(count)]
            return {future.result()[0] for future in futures}
        if way == "large":
            data = b"x" * 200_000
            return {pid for pid, _ in pool.map(tasks.pid_and, (data for _ in range(count // 50)))}
        chunksize = 100 if way == "chunks" else 1
        return {pid for pid, _ in pool.map(tasks.pid_and, range(count), chunksize=chunksize)}

    for _ in range(3):
        pids = round_of(2500)
    before = {pid: resident(pid) for pid in [os.getpid(), *pids]}
    held = holdings()
    for _ in range(4 * SCALE):
        round_of(2500)
    grown = {pid: resident(pid) - before[pid] for pid in before}
    assert max(grown.values()) < 3000, f"KiB more in 10,000 tasks: {grown}"
    after = holdings()
    assert {**after, "threads": 0} == {**held, "threads": 0}


def test_the_measure_of_memory_notices_what_is_kept():
    before = resident(os.getpid())
    kept = b"x" * 40_000_000  # a mapping of its own
    assert resident(os.getpid()) - before > 3000
    del kept


# what is left after shutdown


def use_everything(pool, raddle):
    """Use a pool in ways that take descriptors, memory and processes."""
    assert list(pool.map(tasks.square, range(200))) == [n * n for n in range(200)]
    assert pool.submit(tasks.length, b"x" * 3_000_000).result() == 3_000_000
    assert len(pool.submit(tasks.big, 3_000_000).result()) == 3_000_000
    assert isinstance(pool.submit(tasks.end_by_exit, 3).exception(), raddle.WorkerDied)
    late = pool.options(task_timeout=0.05).submit(hang)
    assert isinstance(late.exception(), raddle.TaskTimeout)
    assert pool.submit(tasks.square, 3).result() == 9


@pytest.mark.parametrize("way", ["shutdown", "drop", "break", "kill", "fork"])
def test_no_descriptor_process_mapping_or_thread_is_left(raddle, way):
    import multiprocessing

    def run():
        options = {"on_crash": "break"} if way == "break" else {}
        if way == "fork":
            options["mp_context"] = multiprocessing.get_context("fork")
        pool = raddle.ProcessPoolExecutor(2, **options)
        if way == "break":
            assert pool.submit(tasks.square, 3).result() == 9
            assert isinstance(pool.submit(tasks.end_by_exit, 3).exception(), BrokenProcessPool)
        else:
            use_everything(pool, raddle)
        if way == "kill":
            pool.kill_workers()
        if way != "drop":
            pool.shutdown(wait=True)

    run()
    wait_same(holdings(), run)


def wait_same(before, run):
    """Run three times more; then as much must be held as before, at once or a little later."""
    files = descriptors(), mappings()
    for _ in range(3):
        run()
    pause = threading.Event()
    for _ in range(500):
        after = holdings()
        if all(after[name] <= before[name] for name in before):
            return
        pause.wait(0.01)
    raise AssertionError(f"before {before}, after {after}\n{files}\n{descriptors()}\n{mappings()}")


def test_a_thousand_deaths_leave_nothing(make_default, raddle):
    pool = make_default(2)
    for _ in range(5):
        pool.submit(tasks.end_by_exit, 1).exception()
    held = holdings()
    bad = [pool.submit(tasks.end_by_exit, 1) for _ in range(100 * SCALE)]
    assert all(type(future.exception()) is raddle.WorkerDied for future in bad)
    assert list(pool.map(tasks.square, range(100))) == [n * n for n in range(100)]
    pause = threading.Event()
    while (after := holdings())["children"] > held["children"] + 2:
        pause.wait(0.01)
    assert after["descriptors"] <= held["descriptors"] + 4, descriptors()
    assert after["mappings"] <= held["mappings"] + 2, mappings()
