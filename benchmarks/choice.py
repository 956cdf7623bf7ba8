"""``python dev.py bench -- choice``: how well `raddle.map` chooses, and `advise` predicts.

Each workload of the corpus runs as a plain loop, in threads, in processes, and as it chooses by
itself; medians of some rounds, in turn. A way that raises, or whose results or effects are not
those of the loop, counts for nothing. A missed target stands in the table.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import raddle
from benchmarks import machine
from benchmarks.choice_corpus import CORPUS, Workload
from benchmarks.report import RESULTS

WAYS = ("sequential", "threads", "processes")
#: Workers with which a way is tried, the best of which counts: waiting asks for many threads.
WORKERS: dict[str, tuple[int | None, ...]] = {"threads": (None, 16, 32)}
ROUNDS = 3
#: What auto may take more than the loop, and than the best way: a share, and seconds.
LOOP, BEST = (1.05, 0.02), (1.15, 0.05)
#: What a prediction may be off: a factor, or these seconds, in which nothing is to be won.
FACTOR, NEGLIGIBLE = 1.5, 0.02
TRIVIAL = 1_000_000


class Row(NamedTuple):
    """What a workload took, in seconds by way; nothing for a way that is not possible."""

    name: str
    seconds: dict[str, float]
    equal: bool
    way: str
    advised: str
    predicted: float
    actual: float

    @property
    def keeps_up(self) -> bool:
        return self.seconds["auto"] <= self.seconds["sequential"] * LOOP[0] + LOOP[1]

    @property
    def is_best(self) -> bool:
        best = min(self.seconds[way] for way in WAYS if way in self.seconds)
        return self.seconds["auto"] <= best * BEST[0] + BEST[1]

    @property
    def is_within_factor(self) -> bool:
        actual = self.actual
        return max(actual, self.predicted) / max(min(actual, self.predicted), 1e-9) <= FACTOR

    @property
    def is_predicted(self) -> bool:
        return self.is_within_factor or abs(self.actual - self.predicted) < NEGLIGIBLE


def once(workload: Workload, **options: Any) -> tuple[float, Any, str]:
    """Run a workload; return seconds, what is to be equal, and what the map reports."""
    workload.reset()
    items = workload.items()
    start = time.perf_counter()
    results = raddle.map(workload.function, items, **options)
    values = list(results)
    seconds = time.perf_counter() - start
    return seconds, (values, workload.effects()), results.report()


def measure(workload: Workload, rounds: int) -> Row:
    """Run a workload in all ways, and ask for advice."""
    taken: dict[str, list[float]] = {}
    expected: Any = None
    equal, way = True, ""
    for _ in range(rounds):
        for how in (*WAYS, "auto"):
            try:
                tries = [once(workload, how=how, workers=n) for n in WORKERS.get(how, (None,))]
            except (TypeError, raddle.RaddleError):
                continue
            seconds = min(one[0] for one in tries)
            # One that differs counts for all.
            outcome = next((one[1] for one in tries if one[1] != expected), tries[0][1])
            report = tries[0][2]
            expected = outcome if expected is None else expected
            if how == "auto":
                equal &= outcome == expected
                way = report.splitlines()[0].rpartition(" ")[2]
            elif outcome != expected:
                continue
            taken.setdefault(how, []).append(seconds)
    # A way that was right only by chance does not count.
    medians = {how: statistics.median(all_) for how, all_ in taken.items() if len(all_) == rounds}
    workload.reset()
    items = workload.items()
    total = None if hasattr(items, "__len__") else sum(1 for _ in workload.items())
    advice = raddle.advise(workload.function, items, total=total)
    predicted = next((one.seconds for one in advice.forecasts if one.how == advice.how), 0.0)
    again = [once(workload, how=advice.how, workers=advice.workers)[0] for _ in range(rounds)]
    actual = statistics.median(again)
    return Row(workload.name, medians, equal, way, advice.how, predicted, actual)


def trivial() -> float:
    """Return how many times as long auto takes as the builtin map, for a million trivial items."""

    def seconds(make: Callable[[], Any]) -> float:
        start = time.perf_counter()
        list(make())
        return time.perf_counter() - start

    def increment(n: int) -> int:
        return n + 1

    pairs = [
        (
            seconds(lambda: map(increment, range(TRIVIAL))),
            seconds(lambda: raddle.map(increment, range(TRIVIAL))),
        )
        for _ in range(7)
    ]
    return statistics.median(ours / theirs for theirs, ours in pairs)


def line(row: Row) -> str:
    cells = [
        f"{row.seconds[how] * 1e3:,.0f}" if how in row.seconds else "-" for how in (*WAYS, "auto")
    ]
    lost = [] if row.equal else ["DIFFERENT RESULT"]
    lost += [] if row.keeps_up else ["slower than the loop"]
    lost += [] if row.is_best else ["not near the best"]
    advice = f"{row.advised}: {row.predicted * 1e3:,.0f}, took {row.actual * 1e3:,.0f}"
    lost += [] if row.is_predicted else ["prediction off"]
    return f"| {row.name} | {' | '.join(cells)} | {row.way} | {advice} | {'; '.join(lost)} |"


def table(rows: list[Row], overhead: float) -> str:
    """Return what is written and printed."""
    heading = "| workload | loop | threads | processes | auto | auto's way | advice | lost |"
    count = len(rows)
    told = [
        heading,
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(line, rows),
        "",
        f"- equal results and effects: {sum(row.equal for row in rows)} of {count}",
        f"- auto within 5 % and 20 ms of the loop: {sum(row.keeps_up for row in rows)} of {count}",
        f"- auto within 15 % and 50 ms of the best: {sum(row.is_best for row in rows)} of {count}",
        f"- advise within {FACTOR}x or {NEGLIGIBLE * 1e3:.0f} ms of what its way took: "
        f"{sum(row.is_predicted for row in rows)} of {count} "
        f"(by the factor alone: {sum(row.is_within_factor for row in rows)})",
        "- threads: the best of the default number, 16 and 32 of them",
        f"- auto on {TRIVIAL:,} trivial items: {overhead:.2f}x the builtin map "
        "(target: at most 1.3x)",
    ]
    return "\n".join(told)


def main(words: list[str]) -> int:
    """Measure, print and write; the status is 1 if a result differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks choice", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="workloads whose names hold this")
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args(words)
    described = machine.describe()
    machine.warn_unless_quiet(described)
    rows = []
    for workload in CORPUS:
        if options.only in workload.name:
            rows.append(measure(workload, options.rounds))
            print(line(rows[-1]), flush=True)
    text = table(rows, trivial())
    print("\n".join(text.splitlines()[len(rows) + 3 :]))
    if not (options.no_write or options.only):
        write(text, described, options.rounds)
    return 0 if all(row.equal for row in rows) else 1


def write(text: str, described: dict[str, Any], rounds: int) -> None:
    quiet = "" if described["quiet"] else " The machine was not quiet."
    where = f"{described['python']}, {described['cores']} cores of {described['processor']}"
    path = RESULTS / "choice.md"
    path.write_text(
        "# Measured: choice\n\n"
        f"Milliseconds, medians of {rounds} rounds, the ways in turn in one process. "
        f"{where}, {described['date']}.{quiet} A dash: the way raised, or changed the result.\n\n"
        f"{text}\n"
    )
    print(f"wrote benchmarks/results/{path.name}")


if __name__ == "__main__":
    raise SystemExit(main([]))
