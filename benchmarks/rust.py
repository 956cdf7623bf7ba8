"""The engine's own benchmarks (``cargo bench``) as a suite: beside rayon, tokio and a socket."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable

from benchmarks.measure import ROOT
from benchmarks.model import MICROSECONDS_A_TASK, RADDLE, Result, Target

COLUMNS = (RADDLE, "rayon", "tokio", "socket", "procspawn")
BENCHES = ("threads", "processes")
WITHIN_TWICE = Target(0.5, peers=["rayon", "tokio"])
TITLES = {
    "submit-all": "submit 100,000 no-ops, then read all results, 2 workers",
    "one-by-one": "submit one no-op, read its result, submit the next, 2 workers",
    "map": "map of 1,000,000 numbers, 2 workers",
    "process-submit-all": "submit 100,000 echoes to processes, then read all results, 2 workers",
    "process-one-by-one": "submit one echo to a process, read its result, submit the next",
    "process-function": "run one registered function in a process, read its result, run the next",
    "process-map": "map of 1,000,000 numbers over processes, 2 workers",
}
NOTES = {
    "submit-all": "rayon: spawn and one channel for all. tokio: spawn_blocking, a handle a task.",
    "one-by-one": "rayon: spawn and the same channel. tokio: spawn_blocking, a handle a task.",
    "map": "rayon: par_iter, which splits the range and makes no task of an item.",
    "process-submit-all": "Eight bytes a task, there and back.",
    "process-one-by-one": "socket: the same bytes written to one process and read from it.",
    "process-function": "procspawn: its pool of two processes, one call at a time.",
    "process-map": "Each number is a task.",
}
TARGETS = {"submit-all": WITHIN_TWICE, "one-by-one": WITHIN_TWICE}


def run(quick: bool) -> list[Result]:
    """Run ``cargo bench`` and return its cases; raises CalledProcessError where it fails."""
    environment = {**os.environ, "RADDLE_BENCH_JSON": "1"}
    lines = []
    for bench in BENCHES:
        command = ["cargo", "bench", "--quiet", "-p", "raddle", "--bench", bench]
        command += ["--", "--quick"] if quick else []
        lines += subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.splitlines()
    return results(lines)


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
