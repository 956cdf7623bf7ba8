"""The page of a recording: one HTML document that needs nothing else, no files and no network.

What can be read stands in it as plain HTML (:mod:`._timeline_tables`); the picture is drawn from
the recording, which lies beside it as JSON. Invariant: nothing that was recorded becomes markup or
program, and the document may load nothing: its policy (Content-Security-Policy) names the one
script and the one style sheet by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ._timeline_tables import STATES, about, figures, tables

SCRIPTS = ("recording.js", "drawing.js", "timeline.js")
#: A time in the page is exact to this many decimals of a second: a tenth of a microsecond.
DECIMALS = 7
HINT = (
    "Choose a bar to see its details. Zoom: + and -, the wheel after a click, or two fingers. "
    "Move: drag, or A and D."
)
#: The signs of states on their bars, so that none is told by its colour alone.
MARKS = ("", "\u2715", "\u2013", "\u25f7", "\u2020", "\u2026", "\u21bb")
BUTTONS = (
    ("in", "+", "Zoom in"),
    ("out", "\N{MINUS SIGN}", "Zoom out"),
    ("left", "\N{LEFTWARDS ARROW}", "Earlier"),
    ("right", "\N{RIGHTWARDS ARROW}", "Later"),
    ("all", "All", "Show everything"),
)


@lru_cache(maxsize=1)
def style() -> str:
    """Return the style sheet of the page and of reports."""
    return (files(__package__) / "_timeline_assets" / "page.css").read_text("utf-8")


@lru_cache(maxsize=1)
def script() -> str:
    """Return the program that draws every timeline of the document in which it stands."""
    folder = files(__package__) / "_timeline_assets"
    parts = "\n".join((folder / name).read_text("utf-8") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


def plain(text: object) -> str:
    """Return a text as HTML that shows just it; what is no character is shown by its number."""
    readable = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return html.escape(
        "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in readable)
    )


def page(record: dict[str, Any], title: str) -> str:
    """Return a recording as one HTML document.

    Parameters
    ----------
    record : dict
        What was recorded.
    title : str
        The heading of the page.

    Returns
    -------
    str
        The document. It loads nothing, and can be kept, sent and printed.
    """
    return document(title, about(record), fragment(record, ""))


def document(title: str, about_it: str, body: str) -> str:
    """Return a whole document around a body of HTML, such as that of :func:`fragment`."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="raddle">
<title>{plain(title)}</title>
<style>{style()}</style>
</head>
<body>
<header class="masthead">
<div><h1>{plain(title)}</h1><p class="about">{plain(about_it)}</p></div>
<button type="button" class="theme" hidden>Dark</button>
</header>
<main>
{body}
</main>
<script>{script()}</script>
</body>
</html>
"""


def policy() -> str:
    """Return what the document may do: run its script, use its style, and load nothing."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    allowed = f"script-src 'sha256-{digest(script())}'; style-src 'sha256-{digest(style())}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def fragment(record: dict[str, Any], title: str, *, level: int = 2, detailed: bool = True) -> str:
    """Return a recording as a section of a document that has the style and the script.

    Parameters
    ----------
    record : dict
        What was recorded.
    title : str
        The section's heading, or an empty text for none.
    level : int, default 2
        The level of that heading; those of the tables are one below.
    detailed : bool, default True
        Whether the tables of tasks and workers follow the picture.

    Returns
    -------
    str
        The section.
    """
    heading = f"<h{level}>{plain(title)}</h{level}>" if title else ""
    label = plain(title or "Timeline")
    summary = f'<p class="summary">{plain(record["summary"])}</p>' if record.get("summary") else ""
    return f"""<section class="raddle-timeline" aria-label="{label}">
{heading}
{summary}
{figures(record, plain)}
{picture(record)}
{tables(record, plain, level + 1) if detailed else ""}
<script type="application/json">{as_json(record)}</script>
</section>"""


def picture(record: dict[str, Any]) -> str:
    """Return the frame in which the script draws, with its buttons and its legend."""
    buttons = "".join(
        f'<button type="button" data-do="{what}" title="{words}" aria-label="{words}">{sign}'
        "</button>"
        for what, sign, words in BUTTONS
    )
    words = plain(alternative(record))
    return f"""<div class="panel">
<div class="tools" role="toolbar" aria-label="What the picture shows">{buttons}</div>
<div class="stage">
<canvas tabindex="0" role="application" aria-roledescription="timeline" aria-label="{words}">
{words}</canvas>
<div class="tip" hidden></div>
</div>
<div class="details" aria-live="polite" data-hint="{plain(HINT)}">{plain(HINT)}</div>
{legend(record)}
</div>"""


def alternative(record: dict[str, Any]) -> str:
    """Say in words what the picture shows, for those who do not see it."""
    workers = len(record["lanes"])
    parts = ["how many workers were busy", "how long the queue was"]
    if record["gil"].get("holder"):
        parts.append("who held the GIL")
    return (
        f"Timeline of {len(record['tasks']['lane']):,} task runs on {workers:,} workers in "
        f"{record['duration']:.3g} seconds: a row of bars for each worker; above them "
        f"{', '.join(parts[:-1])} and {parts[-1]}. The arrow keys go from task to task, plus and "
        "minus zoom, A and D move, 0 shows everything. The tables below tell the same in text."
    )


def legend(record: dict[str, Any]) -> str:
    """Return what the colours and patterns mean, as far as they occur."""
    entries = []
    labels = record["tasks"]["label"]
    counts: dict[int, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    frequent = sorted(counts, key=lambda label: (-counts[label], label))
    for place, label in enumerate(frequent[:7]):
        if label >= 0:
            entries.append((f'fill="var(--label-{place})"', "", record["names"][label]))
    if len(frequent) > 7:
        entries.append(('fill="var(--label-7)"', "", f"{len(frequent) - 7:,} other functions"))
    for state in sorted(set(record["tasks"]["state"]) - {0, 5}):
        colour = "var(--muted)" if state == 2 else "var(--bad)"
        entries.append(
            (f'fill="none" stroke="{colour}" stroke-width="3"', MARKS[state], STATES[state])
        )
    if record["gil"].get("holder"):
        entries.append(('fill="var(--hold)"', "", "below a bar: held the GIL"))
    if record["gil"].get("waiting"):
        entries.append(('fill="var(--wait)"', "", "below a bar: waited for the GIL"))
    if record.get("locks"):
        entries.append(('fill="var(--lock)"', "", "below a bar: waited for a lock"))
    items = "".join(
        f'<li><svg width="14" height="12" aria-hidden="true"><rect width="14" height="12" {paint}/>'
        f"</svg>{mark} {plain(words)}</li>"
        for paint, mark, words in entries
    )
    return f'<ul class="legend" aria-label="Colours and signs">{items}</ul>'


def as_json(record: dict[str, Any]) -> str:
    """Return a recording as JSON that cannot end the element in which it stands."""
    text = json.dumps(rounded(record), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def rounded(value: Any) -> Any:
    """Return plain values with their times rounded, which halves the document."""
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    return value


def embedded(record: dict[str, Any], title: str) -> str:
    """Return the page as an element that a notebook shows: a document of its own, in a frame."""
    document_text = html.escape(page(record, title))
    return (
        f'<iframe srcdoc="{document_text}" sandbox="allow-scripts" title="{plain(title)}" '
        'width="100%" height="720" style="border:0"></iframe>'
    )
