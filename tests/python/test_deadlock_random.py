"""A thousand random programs: every deadlock is reported as what it is, and nothing else."""

from __future__ import annotations

import random
import threading

import pytest
from lock_plans import draw
from lock_programs import LockProgram

SEEDS = range(1000)
#: Each is one test, so that a hang costs one of them.
CHUNK = 50


def run_programs(raddle, seeds, ordered):
    reports = []
    for seed in seeds:
        plan = draw(seed, ordered)
        record = LockProgram(raddle, plan).run()
        assert not record.faults, f"{plan}\n" + "\n".join(record.faults)
        reports += record.reports
    return reports


@pytest.mark.stress
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("first", SEEDS[::CHUNK])
def test_every_program_ends_and_every_report_is_true(raddle, first):
    reports = run_programs(raddle, range(first, first + CHUNK), ordered=False)
    assert reports, "there were deadlocks to report"


@pytest.mark.stress
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("first", SEEDS[: len(SEEDS) // 4 : CHUNK])
def test_programs_that_keep_an_order_are_never_told_of_a_deadlock(raddle, first):
    assert run_programs(raddle, range(first, first + CHUNK), ordered=True) == []


def test_plans_have_all_that_they_shall_have():
    text = "\n".join(str(draw(seed, False)) for seed in SEEDS)
    for word in """Submit Pause 'acquire' 'with' 'timed' 'try' 'join' 'result' 'exception' 'wait'
                   'first' 'completed'""".split():
        assert text.count(word) > 100, word
    assert {draw(seed, False).workers for seed in SEEDS} == {0, 1, 2, 3}
    assert draw(7, True) == draw(7, True)


# programs that deadlock for certain


class Ring:
    """Threads and tasks of which each waits for the next one, once all stand where they shall."""

    def __init__(self, raddle, seed):
        self.random, self.raddle = random.Random(seed), raddle
        self.size = self.random.randint(2, 6)
        self.ready = threading.Barrier(self.size)
        self.idents, self.errors, self.names = [0] * self.size, [], [""] * self.size
        kinds = [self.random.choice([raddle.Lock, raddle.RLock]) for _ in range(self.size)]
        self.locks = [kind(name=f"lock {number}") for number, kind in enumerate(kinds)]
        self.kinds = [self.random.choice(["thread", "task"]) for _ in range(self.size)]
        self.lives = [None] * self.size
        self.made = threading.Event()

    def run(self):
        tasks = self.kinds.count("task")
        executor = self.raddle.ThreadPoolExecutor(tasks) if tasks else None
        for number, kind in enumerate(self.kinds):
            if kind == "thread":
                self.lives[number] = self.raddle.Thread(target=self.node, args=(number,))
                self.lives[number].start()
            else:
                self.lives[number] = executor.submit(self.node, number)
        self.made.set()
        for life in self.lives:
            life.result(timeout=50)
        if executor:
            executor.shutdown()

    def node(self, number):
        self.made.wait()
        thread = threading.current_thread()
        self.idents[number], self.names[number] = thread.ident, thread.name
        with self.locks[number]:
            self.ready.wait()
            try:
                self.wait_for((number + 1) % self.size)
            except self.raddle.DeadlockError as error:
                self.errors.append((number, error))

    def wait_for(self, other):
        ways = ["acquire", "with", "result"]
        ways += ["join"] if self.kinds[other] == "thread" else ["exception", "wait", "completed"]
        way, life = self.random.choice(ways), self.lives[other]
        if way == "acquire":
            self.locks[other].acquire()
            self.locks[other].release()
        elif way == "with":
            with self.locks[other]:
                pass
        elif way == "wait":
            self.raddle.wait([life])
        elif way == "completed":
            list(self.raddle.as_completed([life]))
        else:
            getattr(life, way)()


@pytest.mark.parametrize("seed", range(60))
def test_a_certain_deadlock_is_reported_once_and_the_others_go_on(raddle, seed):
    ring = Ring(raddle, seed)
    ring.run()
    [(number, error)] = ring.errors
    order = [(number + step) % ring.size for step in range(ring.size)]
    assert [link.ident for link in error.cycle] == [ring.idents[n] for n in order]
    assert [link.thread for link in error.cycle] == [ring.names[n] for n in order]
    for link, following in zip(error.cycle, [*error.cycle[1:], error.cycle[0]]):
        assert link.held_by == (following.thread,)
        assert link.waits_at.startswith(f"{__file__}:")
        assert (link.taken_at is not None) == link.waits_for.startswith("lock")
