"""The report of a run: one page with what the parts printed, drawn, and on which machine.

Invariant: the screen writes down here what it prints, so that both show the same figures.
"""

import datetime
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import raddle
from raddle import _timeline_page as timeline_page
from raddle._timeline_page import plain

TITLE = "Making Python Go Fast, with raddle"
NUMBER = ' class="number"'
COLOUR = re.compile("\033\\[[0-9;]*m")


@dataclass
class Part:
    """What one part showed.

    Parameters
    ----------
    name, text : str
        The part's name, and what it shows.
    blocks : list of (str, str)
        Kind and content, in order: a program, output, lines, rows, or what is HTML already.
    pictures : list of str
        Its recordings, as HTML: they come after the figures.
    """

    name: str
    text: str
    blocks: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def add(self, kind: str, content: str) -> None:
        """Add a block, or go on with the last one if that is of this kind."""
        if kind != "html" and self.blocks and self.blocks[-1][0] == kind:
            content = f"{self.blocks.pop()[1]}\n{content}"
        self.blocks.append((kind, content))

    def html(self) -> str:
        """Return the part as a section."""
        blocks = "\n".join(block(kind, content) for kind, content in self.blocks if content.strip())
        text = self.text[:1].upper() + self.text[1:]
        heading = f'<h2><span class="name">{plain(self.name)}</span> {plain(text)}</h2>'
        return f'<section class="part" id="{plain(self.name)}">\n{heading}\n{blocks}\n</section>'


class Report:
    """The parts of a run, as one page.

    Examples
    --------
    >>> report = Report()
    >>> report.begin("sums", "a sum in a loop")
    >>> report.table("times as fast", [("loop", "1.00 s", "1.00x", 1.0)])
    >>> "<td>loop</td>" in report.html()
    True
    """

    def __init__(self) -> None:
        self.began = datetime.datetime.now().astimezone()
        self.parts: list[Part] = []

    def begin(self, name: str, text: str) -> None:
        """Begin a part."""
        self.parts.append(Part(name, text))

    def program(self, source: str) -> None:
        """Add the source of a program."""
        self.parts[-1].add("program", f"{source}\n")

    def output(self, line: str) -> None:
        """Add a line that a program put out."""
        self.parts[-1].add("output", line)

    def line(self, text: str) -> None:
        """Add a line of a table that the part has laid out itself."""
        self.parts[-1].add("lines", COLOUR.sub("", text))

    def table(self, heading: str, rows: Sequence[tuple[str, str, str, float]]) -> None:
        """Add a table of measured times: name, time, ratio, and the share for its bar."""
        body = "\n".join(
            f'<tr><td>{plain(name)}</td><td class="number">{plain(time)}</td>'
            f'<td class="number">{plain(ratio)}</td><td>{bar(share)}</td></tr>'
            for name, time, ratio, share in rows
        )
        heads = '<th scope="col"></th><th scope="col" class="number">time</th>' + (
            f'<th scope="col" class="number">{plain(heading)}</th><th></th>'
        )
        self.parts[-1].add(
            "html",
            f'<div class="scroll measured"><table><thead><tr>{heads}</tr></thead>'
            f"<tbody>\n{body}\n</tbody></table></div>",
        )

    def row(self, cells: Sequence[str], *, head: bool = False) -> None:
        """Add a row to a table that the part has laid out itself; its first is the heading."""
        kind = 'th scope="col"' if head else "td"
        # What begins with a digit is a figure, and stands at the right as its heading does.
        numbers = [not cell or cell[0].isdigit() for cell in cells]
        if head:
            numbers = [bool(cell) and place > 0 for place, cell in enumerate(cells)]
        row = "".join(
            f"<{kind}{NUMBER if number else ''}>{plain(cell)}</{kind[:2]}>"
            for cell, number in zip(cells, numbers)
        )
        self.parts[-1].add("row", f"<tr>{row}</tr>")

    def conclude(self, text: str) -> None:
        """Add the recordings, and what the part shows."""
        part = self.parts[-1]
        for picture in part.pictures:
            part.add("html", picture)
        part.add("html", f'<p class="conclusion">{plain(text)}</p>')

    def timeline(self, recording: raddle.Timeline, title: str) -> None:
        """Add a recording, which the page draws."""
        # Public is the whole page of a recording; a part of this one is made of the same values.
        record = recording._record()
        section = timeline_page.fragment(record, title, level=3, detailed=False)
        self.parts[-1].pictures.append(section)

    def html(self) -> str:
        """Return the report as one document, which loads nothing."""
        links = "\n".join(
            f'<li><a href="#{plain(part.name)}">{plain(part.name)}</a>: {plain(part.text)}</li>'
            for part in self.parts
        )
        contents = f'<nav aria-label="Parts"><ol class="contents">{links}</ol></nav>'
        body = [machine(), contents, *(part.html() for part in self.parts)]
        return timeline_page.document(TITLE, f"{self.began:%Y-%m-%d %H:%M}", "\n".join(body))

    def save(self, path: Path) -> None:
        """Write the report to a file."""
        path.write_text(self.html(), encoding="utf-8")


def block(kind: str, content: str) -> str:
    """Return a block of a part as HTML."""
    if kind == "html":
        return content
    if kind == "row":
        return f'<div class="scroll"><table><tbody>\n{content}\n</tbody></table></div>'
    return f'<pre class="{kind}" tabindex="0">{plain(content)}</pre>'


def bar(share: float) -> str:
    """Draw a share between 0 and 1."""
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{max(1.0, 100 * share):.1f}" height="8"/></svg>'
    )


def machine() -> str:
    """Tell on which machine and with which versions all was measured."""
    rows = [
        ("raddle", raddle.__version__),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("System", f"{platform.system()} {platform.release()}"),
        ("Processor", processor()),
        ("Cores", f"{raddle.cpu_count()} of {os.cpu_count()}"),
    ]
    items = "".join(f"<div><dt>{plain(n)}</dt><dd>{plain(text)}</dd></div>" for n, text in rows)
    return f'<dl class="figures machine">{items}</dl>'


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()
