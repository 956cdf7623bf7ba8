"""``python -m benchmarks [names ...]``: measure, print, write results, rewrite the README's table.

Names are suites (``threads``, ``processes``, ``locks``, ``fetch``, ``frames``, ``timeline``,
``rust``) or cases of all but the last; ``threads`` when none is given. ``soak`` is no comparison: a
million tasks through one process pool, and what its processes hold meanwhile. ``choice`` is a
corpus of workloads on which `raddle.map` has to choose.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import (
    choice,
    fetch,
    fetchers,
    frames,
    locks,
    machine,
    process_contenders,
    processes,
    readme,
    report,
    rust,
    soak,
    timeline,
    web_server,
)
from benchmarks.measure import measure_apart
from benchmarks.model import RADDLE, Case, Result
from benchmarks.threads import CASES

#: The suites whose cases are measured here, each with its cases and the columns of its table.
SUITES = {
    "threads": (CASES, report.THREAD_COLUMNS),
    "processes": (processes.CASES, processes.COLUMNS),
    "locks": (locks.CASES, locks.COLUMNS),
    "fetch": (fetch.CASES, fetch.COLUMNS),
    "frames": (frames.CASES, frames.COLUMNS),
    "timeline": (timeline.CASES, timeline.COLUMNS),
}
#: What tells that a suite has not got what it measures against.
MISSING = (fetchers.PeersMissing, process_contenders.PeersMissing, web_server.NginxMissing)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options; an unknown name ends the program with the known ones."""
    known = [
        *SUITES,
        "rust",
        "soak",
        "choice",
        *(case.name for cases, _ in SUITES.values() for case in cases),
    ]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="try it out: results not written")
    parser.add_argument("--no-write", action="store_true", help="leave results and README alone")
    parser.add_argument("--check", action="store_true", help="status 1 if a target is missed")
    parser.add_argument(
        "--subject",
        default=RADDLE,
        metavar="MODULE",
        help="measure another module in raddle's place (concurrent.futures, or threading for the "
        "cases of locks: how far from 1x two equal contenders come out); results not written",
    )
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in known:
            parser.error(f"no suite or case is named {name!r}; there are: {', '.join(known)}")
    if options.subject != RADDLE and chosen(options.names, "fetch"):
        parser.error("--subject takes the place of raddle's thread pool; it cannot fetch")
    return options


def chosen(names: Sequence[str], suite: str) -> list[Case]:
    """Return the cases of a suite that are asked for: all of them by the suite's own name."""
    cases, _ = SUITES[suite]
    return [case for case in cases if suite in names or case.name in names]


def run(cases: Sequence[Case], options: argparse.Namespace) -> list[Result]:
    """Measure the cases and print each at once."""
    results = []
    for case in cases:
        results.append(measure_apart(case, options.subject, options.quick))
        print(report.live_line(results[-1]), flush=True)
    return results


def suite(
    name: str, columns: Sequence[str], results: list[Result], described: dict[str, Any]
) -> dict[str, Any]:
    """Return a suite as it stands in its JSON file."""
    rounds = max((len(taken) for r in results for taken in r.figures.values()), default=0)
    cases = [result.to_json() for result in results]
    return {
        "suite": name,
        "rounds": rounds,
        "columns": list(columns),
        "machine": described,
        "cases": cases,
    }


def summary(results: list[Result]) -> str:
    """Return how many targets were met, which were not, and which cases failed."""
    judged = [result for result in results if result.target is not None]
    met = sum(result.verdict.startswith("met") for result in judged)
    lines = [f"{met} of {len(judged)} targets met"]
    for verdict in ("missed", "failed"):
        names = [result.name for result in results if result.verdict == verdict]
        lines += [f"{verdict}: {', '.join(names)}"] if names else []
    return "\n".join(lines)


def measure(names: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the named suites and cases and return the suites."""
    described = machine.describe()
    machine.warn_unless_quiet(described)
    suites = []
    for name, (_, columns) in SUITES.items():
        if results := run(chosen(names, name), options):
            suites.append(suite(name, columns, results, described))
    if "rust" in names:
        engine = rust.run(options.quick)
        print("\n".join(report.live_line(result) for result in engine))
        suites.append(suite("rust", rust.COLUMNS, engine, described))
    return suites


def write(suites: list[dict[str, Any]]) -> None:
    """Write the suites to files and into the README."""
    for written in suites:
        for path in report.write(written):
            print(f"wrote benchmarks/results/{path.name}")
    readme.main()


def can_import(module: str) -> bool:
    """Return whether there is something to measure, and say what to do when there is not."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(
            f"{module} cannot be imported ({error}): run python dev.py build and start the "
            "benchmarks with the Python of .venv",
            file=sys.stderr,
        )
        return False
    return True


def soaked(options: argparse.Namespace) -> int:
    """Run the soak as the command line asks for it and return its status."""
    words = ["--subject", options.subject]
    words += ["--tasks", "50000"] if options.quick else []
    return soak.main([*words, "--no-write"] if options.no_write else words)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for and return the exit status."""
    options = parse(arguments)
    names = options.names or ["threads"]
    if set(names) != {"rust"} and not can_import(options.subject):
        return 2
    if "soak" in names:
        status = soaked(options)
        names = [name for name in names if name != "soak"]
        if status or not names:
            return status
    if "choice" in names:
        words = ["--rounds", "1"] if options.quick else []
        status = choice.main([*words, "--no-write"] if options.quick or options.no_write else words)
        names = [name for name in names if name != "choice"]
        if status or not names:
            return status
    try:
        if chosen(names, "fetch"):
            fetch.ready()
        if chosen(names, "processes"):
            processes.ready()
        if chosen(names, "frames"):
            frames.ready()
        suites = measure(names, options)
    except MISSING as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 2
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        print(f"the engine's benchmark did not run: {error}", file=sys.stderr)
        return 2
    results = [Result.from_json(case) for measured in suites for case in measured["cases"]]
    print(summary(results))
    whole = set(names) <= {*SUITES, "rust"}
    if whole and options.subject == RADDLE and not (options.quick or options.no_write):
        write(suites)
    lost = any(result.verdict in ("missed", "failed") for result in results)
    return 1 if options.check and lost else 0


if __name__ == "__main__":
    sys.exit(main())
