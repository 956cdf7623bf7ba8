#!/usr/bin/env python3
"""Run CPython's own ``test.test_concurrent_futures`` against another implementation.

The tests are the ones installed beside the running interpreter (``Lib/test``);
nothing of them is copied.  Every Python process that the run starts, worker
processes and ``python -I`` children included, sees the public classes of
``concurrent.futures`` replaced by those of the module under test: a ``.pth``
file, written into the running virtual environment's site-packages for the length of the run,
does the swap when ``CF_SWAP`` is set.

Usage
-----
    python run_cpython_suite.py raddle                    # every pool
    python run_cpython_suite.py raddle --only Thread      # tests whose id contains "Thread"
    python run_cpython_suite.py raddle --functions        # swap wait/as_completed/Future too
    python run_cpython_suite.py raddle --on-crash break   # process pools that break as theirs
    python run_cpython_suite.py concurrent.futures        # the baseline

Closes with ``N passed, N failed, N skipped`` and exits 1 if a test failed that is
not in a ``--known FILE`` (one test id a line, ``# reason`` after it), or if no test ran.
A test that hangs ends the run after three minutes with the stacks of all threads.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import subprocess
import sys
import sysconfig
import textwrap
import unittest
from pathlib import Path

SWAP = textwrap.dedent(
    '''
    import importlib, importlib.abc, importlib.util, os, sys

    NAMES = ("ThreadPoolExecutor", "ProcessPoolExecutor")
    FUNCTIONS = ("Future", "wait", "as_completed")

    def _swap(cf):
        impl = importlib.import_module(os.environ["CF_SWAP"])
        if impl is cf:
            return
        names = NAMES + (FUNCTIONS if os.environ.get("CF_SWAP_FUNCTIONS") else ())
        import concurrent.futures._base, concurrent.futures.process, concurrent.futures.thread
        on_crash = os.environ.get("CF_SWAP_ON_CRASH")
        for name in names:
            new = getattr(impl, name, None)
            if new is None:
                continue
            if name == "ProcessPoolExecutor" and on_crash:
                def init(self, *args, _init=new.__init__, **kwargs):
                    kwargs.setdefault("on_crash", on_crash)
                    _init(self, *args, **kwargs)
                new = type(name, (new,), {"__init__": init})
            for module in (cf, cf._base, cf.thread, cf.process):
                if hasattr(module, name):
                    setattr(module, name, new)

    class _Finder(importlib.abc.MetaPathFinder):
        """Swap right after the first import of ``concurrent.futures``."""
        def find_spec(self, name, path, target=None):
            if name != "concurrent.futures":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            execute = spec.loader.exec_module
            def exec_module(module):
                execute(module)
                # the implementation may itself import concurrent.futures: it is complete now
                _swap(module)
            spec.loader.exec_module = exec_module
            return spec

    if os.environ.get("CF_SWAP"):
        sys.meta_path.insert(0, _Finder())
    '''
)


#: Seconds for one test; the slowest takes some seconds.
TEST_TIMEOUT = 180


def site_packages() -> Path:
    path = Path(sysconfig.get_paths()["purelib"])
    if sys.prefix == sys.base_prefix:
        sys.exit("run this inside a virtual environment: it writes a .pth file there")
    return path


def load(only: str | None) -> unittest.TestSuite:
    name = "test.test_concurrent_futures"
    try:
        package = __import__(name, fromlist=["x"])
    except ModuleNotFoundError:
        sys.exit(f"this interpreter has no {name}: install CPython's test suite for it")
    loader = unittest.defaultTestLoader
    if hasattr(package, "__path__"):
        names = sorted(p.stem for p in Path(package.__path__[0]).glob("test_*.py"))
        suite = loader.loadTestsFromNames([f"{name}.{n}" for n in names])
    else:
        suite = loader.loadTestsFromName(name)
    tests = [t for t in flatten(suite) if only is None or only in t.id()]
    return unittest.TestSuite(tests)


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


class WatchedResult(unittest.TextTestResult):
    """Gives each test a watchdog of its own."""

    def startTest(self, test: unittest.TestCase) -> None:
        faulthandler.dump_traceback_later(TEST_TIMEOUT, exit=True)
        super().startTest(test)


def read_known(path: Path) -> set[str]:
    """Return the ids of a file of known differences, each of which must give its reason."""
    known = set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        test_id, _, reason = (part.strip() for part in line.partition("#"))
        if test_id and not reason:
            sys.exit(f"{path}, line {number}: {test_id} is listed without a reason (# why)")
        if test_id:
            known.add(test_id)
    return known


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", help="module that provides the executors")
    parser.add_argument("--only", help="run the tests whose id contains this")
    parser.add_argument(
        "--functions", action="store_true", help="swap Future, wait and as_completed too"
    )
    parser.add_argument("--on-crash", help="passed to ProcessPoolExecutor as on_crash=")
    known_help = "ids of tests allowed to fail, one a line; may be given again"
    parser.add_argument("--known", type=Path, action="append", default=[], help=known_help)
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()

    if os.environ.get("CF_SWAP") != args.module:
        site = site_packages()
        module, pth = site / "cf_swap_for_tests.py", site / "cf_swap_for_tests.pth"
        module.write_text(SWAP)
        pth.write_text("import cf_swap_for_tests\n")
        os.environ["CF_SWAP"] = args.module
        if args.functions:
            os.environ["CF_SWAP_FUNCTIONS"] = "1"
        if args.on_crash:
            os.environ["CF_SWAP_ON_CRASH"] = args.on_crash
        try:
            return subprocess.call([sys.executable, *sys.argv])
        finally:
            module.unlink()
            pth.unlink()

    import concurrent.futures as cf

    executors = (cf.ThreadPoolExecutor, cf.ProcessPoolExecutor)
    print("executors under test:", ", ".join(executor.__module__ for executor in executors))
    if not cf.ThreadPoolExecutor.__module__.startswith(args.module):
        sys.exit(f"the executors of {args.module} have not taken the place of the standard ones")
    from test import support

    support.use_resources = list(getattr(support, "ALL_RESOURCES", [])) or ["walltime", "cpu"]
    known = set[str]().union(*map(read_known, args.known))
    suite = load(args.only)
    ran = {t.id() for t in flatten(suite)}
    runner = unittest.TextTestRunner(verbosity=2 if args.verbose else 1, resultclass=WatchedResult)
    result = runner.run(suite)
    faulthandler.cancel_dump_traceback_later()
    bad = {t.id() for t, _ in result.failures + result.errors}
    # a subtest or a module-level fixture has an id of its own; count it as it stands
    new, fixed = sorted(bad - known), sorted((known & ran) - bad)
    for test_id in new:
        print("FAILED", test_id)
    for test_id in fixed:
        print("listed as known to fail, yet it did not:", test_id)
    skipped = len(result.skipped)
    print(f"{result.testsRun - len(bad) - skipped} passed, {len(bad)} failed, {skipped} skipped")
    return 1 if new or result.testsRun == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
