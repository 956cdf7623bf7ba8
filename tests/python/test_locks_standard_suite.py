"""Locks of raddle in the standard library's own tests of locks, on this Python's own version."""

from __future__ import annotations

import sys
from typing import Any

import lock_suite
import pytest

CASES = lock_suite.cases()


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Keep what a bare thread of those tests raises: it belongs to the difference under test."""
    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: raised.append(told.exc_value))
    return raised


@pytest.mark.parametrize("name", [name for name in CASES if name not in lock_suite.DIFFERENCES])
def test_the_standard_librarys_test_passes(name, unraisable):
    verdict, told = lock_suite.outcome(CASES[name])
    assert (verdict, unraisable) == ("passed", []), told


@pytest.mark.parametrize("name", lock_suite.DIFFERENCES)
def test_the_standard_librarys_test_fails_by_the_documented_difference_alone(
    raddle, name, unraisable
):
    difference, error = lock_suite.DIFFERENCES[name]
    verdict, told = lock_suite.outcome(CASES[name])
    assert verdict == "failed", f"passes, though {difference}"
    assert lock_suite.fails_with(told, error), told
    assert all(isinstance(raised, RuntimeError) for raised in unraisable)
    if name == "LockTests.test_reacquire":
        assert [type(raised) for raised in unraisable] == [raddle.DeadlockError]


def test_the_suite_is_there_and_is_run_as_a_whole():
    methods = {name for name in dir(lock_suite.suite().LockTests) if name.startswith("test_")}
    assert len(methods) >= 15
    assert {f"LockTests.{method}" for method in methods} <= set(CASES)
    assert len(CASES) >= 90
    assert set(lock_suite.DIFFERENCES) <= set(CASES)
