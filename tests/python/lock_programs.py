"""Runs the plans of `lock_plans.py`, noting each step in a `lock_record.Record`.

Invariant: nothing of a program waits for ever: a thread or task that is told of a deadlock
unwinds, releasing what it holds, and the watchdog ends the wait for one that was not told.
"""

from __future__ import annotations

import faulthandler
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from lock_plans import Action, Await, Join, Pause, Plan, Submit, Take
from lock_record import Held, Life, Pool, Record, Wait, Work

#: The watchdog of one program, which takes some thousandths of a second. A guess.
WATCHDOG_SECONDS = 15.0
SHORT = 0.001


class LockProgram:
    """One program, to be run once."""

    def __init__(self, raddle: ModuleType, plan: Plan) -> None:
        self._raddle, self._plan, self.record = raddle, plan, Record()
        self._start = threading.Barrier(len(plan.threads))
        kinds = [raddle.RLock if recursive else raddle.Lock for recursive in plan.recursive]
        self._locks = [kind(name=f"lock {number}") for number, kind in enumerate(kinds)]
        self._held = [Held(lock.name) for lock in self._locks]
        self._lives = [Life(f"thread {number}") for number in range(len(plan.threads))]
        self._threads = [
            raddle.Thread(target=self._live, args=(number,), name=life.name, daemon=True)
            for number, life in enumerate(self._lives)
        ]
        self._pool = Pool(plan.workers, [])
        self._tasks: list[tuple[Any, Work]] = []
        self._task_ends = threading.Semaphore(0)
        self._executor, self._deadline = None, math.inf
        if plan.workers:
            self._executor = raddle.ThreadPoolExecutor(plan.workers, initializer=self._arrive)

    def run(self) -> Record:
        """Run to the end of all threads and tasks; a fault of the record says what went wrong."""
        for thread in self._threads:
            thread.start()
        self._deadline = time.monotonic() + WATCHDOG_SECONDS
        ended = all(self._ends(thread) for thread in self._threads)
        finished = 0
        # A task may submit others before it ends, never after.
        while ended and finished < len(self._tasks):
            ended = self._task_ends.acquire(timeout=self._left())
            finished += 1
        if not ended:
            self._hangs()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        return self.record

    def _ends(self, thread: Any) -> bool:
        thread.join(timeout=self._left())
        return not thread.is_alive()

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _hangs(self) -> None:
        faulthandler.dump_traceback(file=sys.__stderr__)
        self.record.fault("the program hangs: a deadlock was not reported")

    # the threads

    def _live(self, number: int) -> None:
        life = self._lives[number]
        self.record.begin(threading.get_ident(), life.name)
        self.record.note(lambda: setattr(life, "ident", threading.get_ident()))
        self._start.wait()
        try:
            self._perform(self._plan.threads[number])
        finally:
            self.record.note(lambda: setattr(life, "ended", True))

    def _arrive(self) -> None:
        ident, name = threading.get_ident(), threading.current_thread().name
        self.record.begin(ident, name)
        self.record.note(lambda: self._pool.idents.append(ident))

    def _run_task(self, body: tuple[Action, ...], work: Work) -> None:
        self.record.note(lambda: setattr(work, "runner", threading.get_ident()))
        try:
            self._perform(body)
        finally:
            self.record.note(lambda: setattr(work, "done", True))
            self._task_ends.release()

    def _perform(self, body: tuple[Action, ...]) -> None:
        """Do a thread's or a task's actions; one that is told of a deadlock has unwound here."""
        try:
            self._do(body)
        except self._raddle.DeadlockError:
            pass
        except BaseException as error:
            self.record.fault(f"raised {error!r}")

    # the actions

    def _do(self, body: tuple[Action, ...]) -> None:
        for action in body:
            if isinstance(action, Take):
                self._take(action)
            elif isinstance(action, Join):
                self._join(action)
            elif isinstance(action, Submit):
                self._submit(action)
            elif isinstance(action, Await):
                self._await(action)
            elif isinstance(action, Pause):
                time.sleep(0)

    @contextmanager
    def _waiting(self, needs: Callable[[list[bool]], bool], *resources: Any) -> Iterator[None]:
        self.record.wait(Wait(needs, list(resources)))
        try:
            yield
        except self._raddle.DeadlockError as error:
            self.record.report(error)
            raise
        finally:
            self.record.go_on()

    def _take(self, action: Take) -> None:
        lock, held = self._locks[action.lock], self._held[action.lock]
        if not self._acquire(lock, held, action.how):
            return
        try:
            self._do(action.body)
        finally:
            self.record.note(lambda: self._strike_out(held))
            if action.how == "with":
                lock.__exit__(None, None, None)
            else:
                lock.release()

    def _acquire(self, lock: Any, held: Held, how: str) -> bool:
        if how in ("timed", "try"):
            taken = lock.acquire(timeout=SHORT) if how == "timed" else lock.acquire(False)
            if taken:
                self.record.note(lambda: self._note_held(held))
            return taken
        with self._waiting(all, held):
            taken = lock.__enter__() if how == "with" else lock.acquire()
            self.record.go_on(lambda: self._note_held(held))
        if taken is not True:
            self.record.fault(f"acquire gave {taken!r}")
        return True

    @staticmethod
    def _note_held(held: Held) -> None:
        held.holder, held.depth = threading.get_ident(), held.depth + 1

    @staticmethod
    def _strike_out(held: Held) -> None:
        held.depth -= 1
        if held.depth == 0:
            held.holder = None

    def _join(self, action: Join) -> None:
        thread, life = self._threads[action.thread], self._lives[action.thread]
        if action.how == "timed":
            thread.join(timeout=SHORT)
            return
        with self._waiting(all, life):
            thread.join() if action.how == "join" else thread.result()

    def _submit(self, action: Submit) -> None:
        assert self._executor is not None
        work = Work(self._pool)
        self._tasks.append((self._executor.submit(self._run_task, action.body, work), work))

    def _await(self, action: Await) -> None:
        known = list(self._tasks)
        if not known:
            return
        chosen = dict(known[number % len(known)] for number in action.numbers)
        futures, works = list(chosen), list(chosen.values())
        if action.how == "timed":
            self._raddle.wait(futures, timeout=SHORT)
        elif action.how == "completed":
            self._as_completed(chosen)
        elif action.how in ("wait", "first"):
            name = "ALL_COMPLETED" if action.how == "wait" else "FIRST_COMPLETED"
            with self._waiting(any if action.how == "wait" else all, *works):
                self._raddle.wait(futures, return_when=getattr(self._raddle, name))
        else:
            with self._waiting(all, works[0]):
                getattr(futures[0], action.how)()

    def _as_completed(self, chosen: dict[Any, Work]) -> None:
        left, completed = dict(chosen), self._raddle.as_completed(chosen)
        while left:
            with self._waiting(all, *left.values()):
                future = next(completed)
            del left[future]
