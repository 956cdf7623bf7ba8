"""Figures as people read them: a table on the terminal, Markdown and JSON in files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.model import FUTURES, PLAIN, RADDLE, THREAD_POOL, Result, Spread

RESULTS = Path(__file__).resolve().parent / "results"
THREAD_COLUMNS = (RADDLE, FUTURES, THREAD_POOL, PLAIN)


def number(value: float) -> str:
    """Return `value` with three significant digits, without an exponent.

    Examples
    --------
    >>> number(0.13149), number(33.333), number(812.4), number(0.0)
    ('0.131', '33.3', '812', '0')
    """
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def spread(figures: Spread, unit: str = "", ranges: bool = True) -> str:
    """Return the median and, with `ranges`, lowest and highest, as in ``0.13 (0.12-0.15)``."""
    lowest_highest = f" ({number(figures.low)}-{number(figures.high)})" if ranges else ""
    return f"{number(figures.median)}{unit}{lowest_highest}"


def live_line(result: Result) -> str:
    """Return one case for the terminal, printed as soon as it is measured."""
    head = f"{result.name}: {result.title}"
    if result.failure is not None:
        return f"{head}\n    FAILED {result.failure}"
    lines = [head]
    for name in result.figures:
        beside = "" if name not in result.peers() else f"   {spread(result.ratio(name), 'x')}"
        lines.append(f"    {name:<30} {spread(result.cost(name)):>26} {result.unit}{beside}")
    if result.target is not None:
        lines.append(f"    {result.target}: {result.verdict}")
    return "\n".join(lines)


def markdown(suite: dict[str, Any]) -> str:
    """Return a suite's tables: cost, ratio to each peer, targets, and what was measured on."""
    results = [Result.from_json(stored) for stored in suite["cases"]]
    beside = [result for result in results if result.peers() or result.failure]
    alone = [result for result in results if result.figures and not result.peers()]
    failed = [result for result in results if result.failure is not None]
    parts = [_machine(suite), wide_table(beside, suite["columns"])]
    parts += [f"**{result.title}** ({result.unit})\n\n{_tall_table(result)}" for result in alone]
    parts += [f"`{result.name}` failed: {result.failure}" for result in failed]
    parts += ["\n".join(f"- {r.title}: {r.note}" for r in results if r.note)]
    return "\n\n".join(part for part in parts if part) + "\n"


def wide_table(results: Sequence[Result], columns: Sequence[str], ranges: bool = True) -> str:
    """Return one row a case: each contender's cost, with how many times raddle's it is."""
    header = ["case", "unit", *columns, "target", "result"]
    rows = [header, ["---"] * len(header)]
    for result in results:
        cells = [_cell(result, column, ranges) for column in columns]
        target = str(result.target or "-")
        rows.append([result.title, result.unit, *cells, target, result.verdict or "-"])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(result: Result, contender: str, ranges: bool) -> str:
    if contender not in result.figures:
        return "-"
    cost = spread(result.cost(contender), ranges=ranges)
    if contender not in result.peers():
        return f"**{cost}**"
    return f"{cost}, {spread(result.ratio(contender), 'x', ranges)}"


def _tall_table(result: Result) -> str:
    rows = [f"| {name} | {spread(result.cost(name))} |" for name in result.figures]
    return "\n".join(["| | median (range) |", "| --- | --- |", *rows])


def _machine(suite: dict[str, Any]) -> str:
    machine = suite["machine"]
    state = "a quiet machine" if machine["quiet"] else "A MACHINE THAT WAS NOT QUIET"
    return (
        f"Median (lowest-highest) of {suite['rounds']} rounds, contenders in turn, on {state}; "
        "a peer's cost is followed by how many times raddle's it is: above 1x, raddle costs "
        f"less.\nraddle {machine['raddle']}, {machine['python']}, {machine['rustc']}, "
        f"{machine['kernel']}, {machine['cores']} cores of {machine['processor']}, load average "
        f"before the run {machine['load_average_before']}, {machine['date']}."
    )


def write(suite: dict[str, Any]) -> list[Path]:
    """Write a suite to ``results/NAME.json`` and ``results/NAME.md``."""
    RESULTS.mkdir(exist_ok=True)
    figures = RESULTS / f"{suite['suite']}.json"
    table = RESULTS / f"{suite['suite']}.md"
    figures.write_text(json.dumps(suite, indent=1) + "\n")
    table.write_text(f"# Measured: {suite['suite']}\n\n{markdown(suite)}")
    return [figures, table]
