"""Taking figures: one call timed, contenders interleaved, a case in an interpreter of its own."""

from __future__ import annotations

import compileall
import gc
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.model import FULL, QUICK, Case, Result, Sample, Scale

ROOT = Path(__file__).resolve().parent.parent
CASE_SECONDS = 900.0
FACTORS = {"ns": 1e9, "us": 1e6, "ms": 1e3, "bytes": 1.0, "MB": 1e-6}


def timed(
    call: Callable[[], Any], check: Callable[[Any], bool], tasks: int, scale: Scale
) -> Sample:
    """Return a sampler of the seconds that `call` takes for each of its `tasks`.

    Parameters
    ----------
    call : callable
        What is timed.
    check : callable
        Whether what `call` returned is right; runs outside the timing.
    tasks : int
        The number of tasks that one call runs.
    scale : Scale
        Says how long to repeat the call.
    """

    def sample() -> float:
        calls, spent = 0, 0.0
        while calls == 0 or spent < scale.figure_seconds:
            started = time.perf_counter()
            outcome = call()
            spent += time.perf_counter() - started
            calls += 1
            if not check(outcome):
                raise AssertionError("a contender returned wrong results: the figure is void")
            del outcome
        return spent / (calls * tasks)

    return sample


def measure(case: Case, subject: str, scale: Scale) -> dict[str, list[float]]:
    """Return each contender's figures, taken in turn, in the unit of the case."""
    factor = FACTORS[case.unit.split()[0]]
    with case.setup(importlib.import_module(subject), scale) as samplers:
        figures: dict[str, list[float]] = {name: [] for name in samplers}
        for sample in samplers.values():
            sample()
        order = list(samplers)
        for _ in range(scale.rounds):
            for name in order:
                gc.collect()
                figures[name].append(samplers[name]() * factor)
            order.append(order.pop(0))
    return figures


def compile_package(module: ModuleType) -> None:
    """Compile a package's modules to byte code, as pip does when it installs one.

    Whole programs load it anew each time, and Python may have been told not to write byte code.
    """
    for folder in getattr(module, "__path__", ()):
        compileall.compile_dir(folder, quiet=2)


def measure_apart(case: Case, subject: str, quick: bool) -> Result:
    """Measure a case in a fresh interpreter; what goes wrong there is the result's failure."""
    command = [sys.executable, "-m", "benchmarks.measure", case.name, subject]
    command += ["--quick"] if quick else []
    figures: dict[str, list[float]] = {}
    failure = None
    try:
        child = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=CASE_SECONDS
        )
    except subprocess.TimeoutExpired:
        failure = f"no figures within {CASE_SECONDS:g} seconds"
    else:
        sys.stderr.write(child.stderr)
        if child.returncode == 0:
            figures = json.loads(child.stdout)
        else:
            failure = _last_words(child)
    return Result(case.name, case.title, case.unit, case.note, case.target, figures, failure)


def _last_words(child: subprocess.CompletedProcess[str]) -> str:
    lines = child.stderr.strip().splitlines()
    last = lines[-1] if lines else "nothing on its standard error"
    told = f"ended with status {child.returncode}: {last}"
    return told.replace(sys.executable, "python").replace(str(ROOT), ".")


def main(arguments: list[str]) -> None:
    """Measure one case in this interpreter and print its figures as JSON."""
    from benchmarks import fetch, frames, locks, processes, threads, timeline

    name, subject, *options = arguments
    suites = (threads, processes, locks, fetch, frames, timeline)
    cases = [case for suite in suites for case in suite.CASES]
    [case] = [case for case in cases if case.name == name]
    json.dump(measure(case, subject, QUICK if "--quick" in options else FULL), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
