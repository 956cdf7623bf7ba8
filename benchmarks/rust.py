"""The engine's own benchmark (``cargo bench``) as a suite: raddle beside rayon and tokio."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable

from benchmarks.measure import ROOT
from benchmarks.model import MICROSECONDS_A_TASK, RADDLE, Result, Target

COLUMNS = (RADDLE, "rayon", "tokio")
WITHIN_TWICE = Target(0.5, peers=["rayon", "tokio"])
TITLES = {
    "submit-all": "submit 100,000 no-ops, then read all results, 2 workers",
    "one-by-one": "submit one no-op, read its result, submit the next, 2 workers",
    "map": "map of 1,000,000 numbers, 2 workers",
}
NOTES = {
    "submit-all": "rayon: spawn and one channel for all. tokio: spawn_blocking, a handle a task.",
    "one-by-one": "rayon: spawn and the same channel. tokio: spawn_blocking, a handle a task.",
    "map": "rayon: par_iter, which splits the range and makes no task of an item.",
}
TARGETS = {"submit-all": WITHIN_TWICE, "one-by-one": WITHIN_TWICE}


def run(quick: bool) -> list[Result]:
    """Run ``cargo bench`` and return its cases; raises CalledProcessError where it fails."""
    command = ["cargo", "bench", "--quiet", "-p", "raddle", "--bench", "threads"]
    command += ["--", "--quick"] if quick else []
    environment = {**os.environ, "RADDLE_BENCH_JSON": "1"}
    output = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return results(output.splitlines())


def results(lines: Iterable[str]) -> list[Result]:
    """Return the cases that JSON lines of nanoseconds a task tell about.

    Examples
    --------
    >>> [case] = results(['{"case": "map", "contender": "raddle", "nanoseconds": [500.0]}'])
    >>> case.name, case.figures
    ('map', {'raddle': [0.5]})
    """
    figures: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        if line.startswith("{"):
            told = json.loads(line)
            costs = [nanoseconds / 1e3 for nanoseconds in told["nanoseconds"]]
            figures.setdefault(told["case"], {})[told["contender"]] = costs
    return [
        Result(name, TITLES[name], MICROSECONDS_A_TASK, NOTES[name], TARGETS.get(name), found)
        for name, found in figures.items()
    ]
