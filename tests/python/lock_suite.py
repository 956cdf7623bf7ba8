"""The standard library's own tests of locks, those of the running Python, over locks of raddle.

Stage: before any test; `test_locks_standard_suite.py` runs what is listed here, one by one.
Invariant: every test of each class is run, and one that must fail is listed with its difference
and the error that it has to fail with.
"""

from __future__ import annotations

import re
import sys
import threading
import unittest
from types import ModuleType
from typing import Any

import raddle

#: The two documented differences, and what a test that meets one fails with.
BELONGS = "a lock belongs to the thread that took it: another cannot release it"
AGAIN = "a Lock that its own thread takes again raises DeadlockError in place of a hang"
DIFFERENCES = {
    # The thread that takes it twice is told, and its lock is not the main thread's to release.
    "LockTests.test_reacquire": (AGAIN, "RuntimeError: .*release"),
    "LockTests.test_different_thread": (BELONGS, "RuntimeError: .*release"),
    # A condition over a Lock, which this test takes twice: over threading.Lock it would hang.
    "ConditionOverLockTests.test_acquire": (AGAIN, r"[\w.]*DeadlockError: "),
}
if sys.version_info < (3, 11):
    # There the other thread's RuntimeError goes to the hook, and the main thread takes the lock
    # again that it still has.
    DIFFERENCES["LockTests.test_different_thread"] = (BELONGS, r"[\w.]*DeadlockError: ")


def suite() -> ModuleType:
    """``test.lock_tests``; a Python without its tests fails here, by the name of the module."""
    import test.lock_tests

    return test.lock_tests


def condition(kind: type) -> Any:
    """Make what takes the place of ``threading.Condition``, over a lock of raddle."""
    return staticmethod(lambda lock=None: threading.Condition(kind() if lock is None else lock))


def over(kind: type, standard: Any) -> Any:
    """Make what takes the place of a class of ``threading`` that has its condition in ``_cond``."""

    def make(*args: Any, **kwargs: Any) -> Any:
        made = standard(*args, **kwargs)
        made._cond = threading.Condition(kind())
        return made

    return staticmethod(make)


def classes() -> list[type[unittest.TestCase]]:
    """Make the classes of tests, each with a lock of raddle in the standard one's place."""
    tests, made = suite(), []

    def add(name: str, base: Any, **kinds: Any) -> None:
        made.append(type(name, (base,), {"__module__": __name__, "__qualname__": name, **kinds}))

    add("LockTests", tests.LockTests, locktype=staticmethod(raddle.Lock))
    add("RLockTests", tests.RLockTests, locktype=staticmethod(raddle.RLock))
    add("EventTests", tests.EventTests, eventtype=over(raddle.Lock, threading.Event))
    for kind in (raddle.Lock, raddle.RLock):
        word = f"Over{kind.__name__}Tests"
        add(f"Condition{word}", tests.ConditionTests, condtype=condition(kind))
        add(f"Semaphore{word}", tests.SemaphoreTests, semtype=over(kind, threading.Semaphore))
        bounded = over(kind, threading.BoundedSemaphore)
        add(f"BoundedSemaphore{word}", tests.BoundedSemaphoreTests, semtype=bounded)
        add(f"Barrier{word}", tests.BarrierTests, barriertype=over(kind, threading.Barrier))
    # As the standard library itself does: a condition has no _recursion_count.
    as_lock = {"locktype": condition(raddle.RLock), "test_recursion_count": None}
    add("ConditionAsRLockTests", tests.RLockTests, **as_lock)
    return made


def cases() -> dict[str, unittest.TestCase]:
    """Every test of the classes, by ``Class.test_name``."""
    loader = unittest.defaultTestLoader
    found = (test for kind in classes() for test in loader.loadTestsFromTestCase(kind))
    return {f"{type(test).__name__}.{test._testMethodName}": test for test in found}


def outcome(test: unittest.TestCase) -> tuple[str, str]:
    """Run one test: ``passed``, ``failed`` or ``skipped``, and its traceback or reason."""
    result = unittest.TestResult()
    test.run(result)
    if failed := result.failures + result.errors:
        return "failed", "\n".join(traceback for _, traceback in failed)
    if result.skipped:
        return "skipped", result.skipped[0][1]
    return "passed", ""


def fails_with(traceback: str, error: str) -> bool:
    """Whether the text of a failure has a line that begins with the error."""
    return re.search(rf"^[\s|]*{error}", traceback, re.MULTILINE) is not None
