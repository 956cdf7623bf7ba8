"""Runs the standard library's own tests of threads with ``raddle.Thread`` in the place of theirs.

Stage: a program of its own (``python thread_suite.py FILE CLASS``), because those tests count all
threads of the interpreter.  Invariant: whoever imports ``threading``, in this program or in one
that a test starts with ``-c``, sees raddle's class in it; only ``threading`` itself, and raddle,
see the standard one.  Writes to FILE one JSON object: test -> [verdict, traceback or reason].
"""

from __future__ import annotations

import faulthandler
import json
import sys
import unittest
from collections.abc import Iterator
from typing import Any

#: Puts a view of ``threading`` in its place that differs from it in the class alone.
SWAP = """
import sys, threading, types, raddle
class View(types.ModuleType):
    Thread = raddle.Thread
    def __getattr__(self, name, threading=threading):
        return getattr(threading, name)
    def __setattr__(self, name, value, threading=threading):
        setattr(threading, name, value)
    def __delattr__(self, name, threading=threading):
        delattr(threading, name)
sys.modules["threading"] = View("threading")
"""
CLASSES = ("ThreadTests", "ThreadJoinOnShutdown", "ThreadingExceptionTests", "ExceptHookTests")
#: The watchdog of one test; the slowest takes some seconds.
WATCHDOG_SECONDS = 45.0


def swap_in_programs() -> None:
    """Have the programs that tests start see raddle's class too."""
    from test.support import script_helper

    standard = script_helper.run_python_until_end

    def run(*args: Any, **variables: Any) -> Any:
        words = list(args)
        if "-c" in words[:-1]:
            place = words.index("-c") + 1
            words[place] = f"exec({SWAP!r}, {{}})\n{words[place]}"
        return standard(*words, **variables)

    script_helper.run_python_until_end = run


def swapped() -> Any:
    """Load ``test.test_threading`` where it sees raddle's class in ``threading``."""
    exec(SWAP, {})
    swap_in_programs()
    import test.test_threading as tests

    return tests


def cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        yield from cases(item) if isinstance(item, unittest.TestSuite) else [item]


def run(test: unittest.TestCase) -> tuple[str, str]:
    """Run one test; its watchdog ends the program, with the stacks of all threads."""
    result = unittest.TestResult()
    faulthandler.dump_traceback_later(WATCHDOG_SECONDS, exit=True)
    test.run(result)
    faulthandler.cancel_dump_traceback_later()
    if failed := result.failures + result.errors:
        return "failed", "\n".join(traceback for _, traceback in failed)
    if result.skipped:
        return "skipped", result.skipped[0][1]
    return "passed", ""


def main(file: str, name: str) -> None:
    tests = swapped()
    from test import support

    support.verbose = 0
    assert tests.threading.Thread is not sys.modules["threading"]._MainThread.__base__
    suite = unittest.defaultTestLoader.loadTestsFromName(name, tests)
    outcomes = {test._testMethodName: run(test) for test in cases(suite)}
    with open(file, "w") as out:
        json.dump(outcomes, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
