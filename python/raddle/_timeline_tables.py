"""What a page tells of a recording without drawing: the main figures, and tables of the details.

Invariant: all of it is plain HTML that needs no script, and every text of the recording goes
through the given function, which makes it harmless.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import Any

STATES = ("finished", "failed", "cancelled", "timed out", "worker died", "still ran", "retried")
RETRIED = 6
#: States that the table of failures shows.
TROUBLE = (1, 3, 4, 6)
#: Rows of the table of slowest tasks, and at most of each other table.
SLOWEST, MOST = 15, 200

Plain = Callable[[object], str]


def time_text(seconds: float | None) -> str:
    """Write a time with three figures and its unit; nothing for none.

    Examples
    --------
    >>> time_text(2.5), time_text(0.0125), time_text(3e-6), time_text(0.099999)
    ('2.50 s', '12.5 ms', '3.00 µs', '100 ms')
    """
    if seconds is None:
        return ""
    unit, size = next(
        ((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3)) if seconds >= 0.9995 * size),
        ("\N{MICRO SIGN}s", 1e-6),
    )
    value = seconds / size
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"


def about(record: dict[str, Any]) -> str:
    """Return what ran, when and where, in a line."""
    machine = record.get("machine", {})
    began = datetime.datetime.fromtimestamp(record["began"]).astimezone()
    cores = machine.get("cores")
    parts = [
        machine.get("program"),
        f"{began:%Y-%m-%d %H:%M}",
        machine.get("python"),
        "with the GIL" if machine.get("gil", True) else "without a GIL",
        f"{cores} cores" if cores else None,
        machine.get("system"),
        f"raddle {machine['raddle']}" if machine.get("raddle") else None,
    ]
    return " \N{MIDDLE DOT} ".join(str(part) for part in parts if part)


def spans(record: dict[str, Any]) -> list[float | None]:
    """Return how long each run of a task took, None for those that never began."""
    tasks = record["tasks"]
    return [
        None if start is None else (record["duration"] if end is None else end) - start
        for start, end in zip(tasks["started"], tasks["ended"])
    ]


def figures(record: dict[str, Any], plain: Plain) -> str:
    """Return the main figures as a list of terms."""
    tasks = record["tasks"]
    took = [span for span in spans(record) if span is not None]
    used = {lane for lane, start in zip(tasks["lane"], tasks["started"]) if start is not None}
    waiting = total(record["gil"].get("waiting", ()))
    busy, duration = sum(took), max(record["duration"], 1e-9)
    rows: list[tuple[str, str]] = [
        ("Tasks", f"{sum(state != RETRIED for state in tasks['state']):,}"),
        ("Recorded for", time_text(record["duration"])),
        ("Workers used", f"{len(used):,}"),
        # Who waits for the GIL has a task, and does not work at it.
        ("At work at a time", f"{max(0.0, busy - waiting) / duration:.2f}"),
    ]
    for state, count in counted(tasks["state"]):
        if state not in (0, 5):
            rows.append((STATES[state].capitalize(), f"{count:,}"))
    if waits_seen(record) and busy:
        rows.append(("Waited for the GIL", f"{min(1.0, waiting / busy):.0%}"))
    if record.get("dropped"):
        rows.append(("Not recorded", f"{record['dropped']:,}"))
    items = "".join(
        f"<div><dt>{plain(name)}</dt><dd>{plain(text)}</dd></div>" for name, text in rows
    )
    return f'<dl class="figures">{items}</dl>'


def waits_seen(record: dict[str, Any]) -> bool:
    """Tell whether the recording knows who waited for the GIL."""
    gil = record["gil"]
    return bool(gil.get("sampled") and gil.get("waits_seen", True))


def counted(states: Iterable[int]) -> list[tuple[int, int]]:
    """Return the states that occur, each with how often."""
    counts: dict[int, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return sorted(counts.items())


def total(stretches: Iterable[Sequence[Any]]) -> float:
    """Return the seconds of all stretches of (lane, start, end) together."""
    return float(sum(end - start for _, start, end in stretches))


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    """Return a table of ready cells; a head that ends with ``>`` is that of a column of numbers."""
    if not rows:
        return ""
    kinds = [' class="number"' if head.endswith(">") else "" for head in heads]
    head = "".join(
        f'<th scope="col"{kind}>{name.rstrip(">")}</th>' for name, kind in zip(heads, kinds)
    )
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds)) + "</tr>"
        for row in rows
    )
    more = f'<p class="about">{note}</p>' if note else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table>'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody>"
        f"</table></div>{more}"
    )


def tables(record: dict[str, Any], plain: Plain, level: int) -> str:
    """Return the tables of a recording, those without rows left out."""
    made = (
        ("What went wrong", troubles(record, plain)),
        ("Slowest tasks", slowest(record, plain)),
        ("Workers", workers(record, plain)),
        ("Pages", fetches(record, plain)),
        ("Waits for locks", locks(record, plain)),
    )
    return "\n".join(f"<h{level}>{title}</h{level}>\n{text}" for title, text in made if text)


def name_of(record: dict[str, Any], index: Any) -> str:
    """Return a name by its index; a text is taken as it is."""
    if isinstance(index, int):
        return str(record["names"][index]) if 0 <= index < len(record["names"]) else ""
    return str(index)


def lane_name(record: dict[str, Any], index: int) -> str:
    """Return the name of a worker, or nothing for none."""
    return str(record["lanes"][index]["name"]) if 0 <= index < len(record["lanes"]) else ""


def task_cell(record: dict[str, Any], place: int, plain: Plain) -> str:
    """Return a task's name as a button that shows it in the picture, if it is there."""
    tasks = record["tasks"]
    name = name_of(record, tasks["label"][place]) or f"task {tasks['task'][place]}"
    if tasks["started"][place] is None or tasks["lane"][place] < 0:
        return plain(name)
    shown = f'data-task="{place}" title="Show in the picture"'
    return f'<button type="button" {shown}>{plain(name)}</button>'


def state_cell(state: int) -> str:
    """Return a state in words, marked if it is a bad one."""
    return f'<span class="state{" bad" if state in TROUBLE else ""}">{STATES[state]}</span>'


def slowest(record: dict[str, Any], plain: Plain) -> str:
    """Return the tasks that ran longest."""
    tasks, took = record["tasks"], spans(record)
    places = [place for place, span in enumerate(took) if span is not None]
    places.sort(key=lambda place: -(took[place] or 0.0))
    rows = [
        [
            task_cell(record, place, plain),
            plain(lane_name(record, tasks["lane"][place])),
            time_text(took[place]),
            time_text(tasks["started"][place]),
            time_text(queued(tasks, place)),
            state_cell(tasks["state"][place]),
        ]
        for place in places[:SLOWEST]
    ]
    heads = ("Task", "Worker", "Ran for>", "Started at>", "In the queue>", "State")
    return table(f"The longest {len(rows)} of {len(places):,} runs", heads, rows)


def queued(tasks: dict[str, Any], place: int) -> float | None:
    """Return how long a task was in the queue, as far as it is known."""
    submitted, started = tasks["submitted"][place], tasks["started"][place]
    if submitted is None or started is None:
        return None
    return float(max(0.0, started - submitted))


def troubles(record: dict[str, Any], plain: Plain) -> str:
    """Return the runs that failed, with their errors and what became of them."""
    tasks = record["tasks"]
    places = [place for place, state in enumerate(tasks["state"]) if state in TROUBLE]
    rows = [
        [
            task_cell(record, place, plain),
            state_cell(tasks["state"][place]),
            str(tasks["attempt"][place]),
            plain(name_of(record, tasks["error"][place])),
            plain(lane_name(record, tasks["lane"][place])),
            time_text(tasks["ended"][place]),
        ]
        for place in places[:MOST]
    ]
    heads = ("Task", "State", "Attempt>", "Error", "Worker", "Ended at>")
    left = len(places) - len(rows)
    return table(
        f"{len(places):,} runs failed or were retried",
        heads,
        rows,
        f"{left:,} more are in the picture." if left else "",
    )


def workers(record: dict[str, Any], plain: Plain) -> str:
    """Return what each worker did: the picture's rows in words."""
    tasks, took, count = record["tasks"], spans(record), len(record["lanes"])
    runs, busy, held, waited = [0] * count, [0.0] * count, [0.0] * count, [0.0] * count
    for lane, span in zip(tasks["lane"], took):
        if span is not None and lane >= 0:
            runs[lane] += 1
            busy[lane] += span
    gil = record["gil"]
    for sums, stretches in ((held, gil.get("holder", ())), (waited, gil.get("waiting", ()))):
        for lane, start, end in stretches:
            if 0 <= lane < count:
                sums[lane] += end - start
    duration = max(record["duration"], 1e-9)
    used = [place for place in range(count) if runs[place] or held[place]]
    used.sort(key=lambda place: (record["lanes"][place]["process"], lane_name(record, place)))
    ends = any(each["end"] for each in record["processes"])
    rows = []
    for place in used[:MOST]:
        process = record["processes"][record["lanes"][place]["process"]]
        cells = [
            plain(lane_name(record, place)),
            plain(f"{process['name']} (pid {process['pid']})"),
            f"{runs[place]:,}",
            share_cell(busy[place] / duration),
        ]
        cells += [share_cell(held[place] / duration)] if gil.get("sampled") else []
        cells += [share_cell(waited[place] / duration)] if waits_seen(record) else []
        cells += [plain(end_text(process))] if ends else []
        rows.append(cells)
    heads = ["Worker", "Process", "Runs>", "Busy>"]
    heads += ["Held the GIL>"] if gil.get("sampled") else []
    heads += ["Waited for the GIL>"] if waits_seen(record) else []
    heads += ["Process ended"] if ends else []
    left = len(used) - len(rows)
    note = f"{left:,} more are in the picture." if left else ""
    return table(f"{len(used):,} threads and worker processes", heads, rows, note)


def end_text(process: dict[str, Any]) -> str:
    """Tell how and when a process ended, if it did."""
    if not process["end"]:
        return ""
    when = "" if process["ended"] is None else f" at {time_text(process['ended'])}"
    return f"{process['end']}{when}"


def share_cell(share: float) -> str:
    """Return a share as a bar and a figure."""
    share = min(1.0, max(0.0, share))
    return f'<meter min="0" max="1" value="{share:.3f}" aria-hidden="true"></meter>{share:.0%}'


def fetches(record: dict[str, Any], plain: Plain) -> str:
    """Return the pages that were fetched, the slowest first, with the time of each phase."""
    made = []
    for fetch in record.get("fetches", ()):
        phases = [(name_of(record, name), end - start) for name, start, end in fetch["phases"]]
        made.append((sum(seconds for _, seconds in phases), phases, fetch))
    made.sort(key=lambda each: -each[0])
    rows = [
        [
            plain(name_of(record, fetch["url"])),
            plain(name_of(record, fetch["error"]) or fetch["status"]),
            f"{fetch['bytes']:,}",
            time_text(seconds),
            plain(", ".join(f"{name} {time_text(each)}" for name, each in phases)),
        ]
        for seconds, phases, fetch in made[:MOST]
    ]
    heads = ("Page", "Status", "Bytes>", "Took>", "Of which")
    return table(f"{len(made):,} pages, the slowest first", heads, rows)


def locks(record: dict[str, Any], plain: Plain) -> str:
    """Return the locks that were waited for, each with who waited and for how long in all."""
    sums: dict[tuple[str, int], list[float]] = {}
    for wait in record.get("locks", ()):
        key = (name_of(record, wait["lock"]), wait["lane"])
        sums.setdefault(key, []).append(wait["end"] - wait["start"])
    ordered = sorted(sums.items(), key=lambda each: -sum(each[1]))
    rows = [
        [
            plain(lock),
            plain(lane_name(record, lane)),
            f"{len(waits):,}",
            time_text(sum(waits)),
            time_text(max(waits)),
        ]
        for (lock, lane), waits in ordered[:MOST]
    ]
    heads = ("Lock", "Waiter", "Waits>", "Together>", "Longest>")
    return table("Locks that were waited for", heads, rows)
