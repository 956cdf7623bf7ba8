"""The standard library's own tests of threads, those of the running Python, over raddle.Thread.

Each class of tests runs in a program of its own, see `thread_suite.py`.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import pytest
import test.test_threading as standard

SUITE = Path(__file__).with_name("thread_suite.py")
CLASSES = ("ThreadTests", "ThreadJoinOnShutdown", "ThreadingExceptionTests", "ExceptHookTests")
NAMES = [
    f"{name}.{method}"
    for name in CLASSES
    for method in unittest.defaultTestLoader.getTestCaseNames(getattr(standard, name))
]
#: The watchdog of a class; the longest takes a quarter of a minute.
WATCHDOG_SECONDS = 55

KEPT = "an error is kept for whoever asks, and told to the hook when nobody can ask any more"
#: The tests that meet the documented difference, and what they fail with.
DIFFERENCES = {
    "ThreadTests.test_no_refcycle_through_target": (KEPT, "AssertionError: .* is not None"),
    "ExceptHookTests.test_excepthook": (KEPT, "AssertionError: .* not found in ''"),
    "ExceptHookTests.test_custom_excepthook": (KEPT, "AttributeError: .*'exc_type'"),
    "ExceptHookTests.test_custom_excepthook_fail": (KEPT, "AssertionError: '' != "),
    "ExceptHookTests.test_original_excepthook": (KEPT, "AssertionError: '' == ''"),
}
#: The tests in which there is no place for another class, and why.
INAPPLICABLE = {
    "ThreadTests.test_import_from_another_thread": "needs a program that has not imported threading"
}


@functools.cache
def outcomes(name):
    """Run a class; verdict and traceback or reason of each of its tests."""
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, SUITE, file.name, name]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG_SECONDS)
        told = file.read()
    assert ended.returncode == 0 and told, ended.stderr
    return json.loads(told)


def outcome(name):
    kind, _, method = name.partition(".")
    return outcomes(kind)[method]


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in {**DIFFERENCES, **INAPPLICABLE}]
)
def test_the_standard_librarys_test_passes(name):
    verdict, told = outcome(name)
    if verdict == "skipped":
        pytest.skip(f"the standard library skips it here: {told}")
    assert verdict == "passed", told


@pytest.mark.parametrize("name", [name for name in DIFFERENCES if name in NAMES])
def test_the_standard_librarys_test_fails_by_the_documented_difference_alone(name):
    difference, error = DIFFERENCES[name]
    verdict, told = outcome(name)
    assert verdict == "failed", f"passes, though {difference}"
    assert re.search(rf"^{error}", told, re.MULTILINE), told


def test_the_suite_is_run_as_a_whole():
    assert len(NAMES) >= 50
    for kind in CLASSES:
        assert {f"{kind}.{method}" for method in outcomes(kind)} <= set(NAMES)
    assert {*DIFFERENCES, *INAPPLICABLE} & set(NAMES)
