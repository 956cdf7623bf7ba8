"""Runs the standard library's own tests of threads with ``raddle.Thread`` in the place of theirs.

Stage: a program of its own (``python thread_suite.py``), because those tests count all threads of
the interpreter.  Invariant: nobody but raddle itself sees the standard class: it is replaced before
``test.test_threading`` is loaded, whose classes then derive from ours, and in every program that
those tests start with ``-c``.  Writes one JSON object: test -> [verdict, traceback or reason].
"""

from __future__ import annotations

import faulthandler
import json
import sys
import threading
import unittest
from collections.abc import Iterator
from typing import Any

#: What each program begins with that a test starts; on one line, so that line numbers stay.
SWAP = "import threading as _t, raddle as _r; _t.Thread = _r.Thread; del _t, _r;"
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
            words[place] = f"{SWAP}\n{words[place]}"
        return standard(*words, **variables)

    script_helper.run_python_until_end = run


def swapped() -> Any:
    """Load ``test.test_threading`` with raddle's class in ``threading``."""
    import raddle

    threading.Thread = raddle.Thread  # type: ignore[misc]
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


def quiet() -> None:
    """Have the tests print nothing."""
    from test import support

    support.verbose = 0


def main(names: list[str]) -> None:
    quiet()
    tests = swapped()
    loader = unittest.defaultTestLoader
    outcomes = {}
    for name in names or CLASSES:
        suite = loader.loadTestsFromName(name, tests)
        for test in cases(suite):
            outcomes[f"{type(test).__name__}.{test._testMethodName}"] = run(test)
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
