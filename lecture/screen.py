"""What a part looks like: a title, the program, its output, a measured table, a conclusion.

Invariant: at most 24 lines of 80 columns a part, and plain text where the output is no terminal.
"""

import inspect
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

import raddle
from lecture.report import Report

WIDTH = 79
BAR_WIDTH = 22
BOLD, DIM, GREEN, RESET = "\033[1m", "\033[2m", "\033[32m", "\033[0m"


def time_text(seconds: float) -> str:
    """Write a time with three figures and its unit.

    Examples
    --------
    >>> time_text(6.004), time_text(0.1032), time_text(5.3e-7)
    ('6.00 s', '103 ms', '0.530 us')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            value = seconds / size
            break
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{decimals}f} {unit}"


def ratio_text(ratio: float) -> str:
    """Write a ratio so that it can be compared at a glance.

    Examples
    --------
    >>> ratio_text(0.98), ratio_text(9.71), ratio_text(1234.5)
    ('0.98x', '9.7x', '1,234x')
    """
    return f"{ratio:,.{0 if ratio >= 100 else 1 if ratio >= 2 else 2}f}x"


class Bar(Protocol):
    """A bar at the last line of a terminal, which makes room for what is printed."""

    def clear(self) -> None:
        """Take the bar away."""

    def refresh(self) -> object:
        """Show the bar again."""


@dataclass(frozen=True)
class Screen:
    """Where the lecture is printed, and what can be shown there.

    Parameters
    ----------
    stream : TextIO
        The output.
    bars : bool
        Whether tables have bars.
    blocks : bool
        Whether the output can write the characters of fine bars.
    colour : bool
        Whether the output understands colours.
    report : Report, optional
        What is printed is written down here too, so that both show the same figures.
    progress : Bar, optional
        The bar of what takes long, below all that is printed.
    """

    stream: TextIO
    bars: bool = False
    blocks: bool = False
    colour: bool = False
    report: Report | None = None
    progress: Bar | None = None

    @classmethod
    def of(
        cls, stream: TextIO, report: Report | None = None, progress: Bar | None = None
    ) -> "Screen":
        """Return the screen that fits a stream: plain, unless it is a terminal."""
        terminal = stream.isatty()
        blocks = "utf" in (getattr(stream, "encoding", None) or "").lower()
        colour = "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"
        return cls(
            stream,
            bars=terminal,
            blocks=terminal and blocks,
            colour=terminal and colour,
            report=report,
            progress=progress,
        )

    def print(self, text: str = "") -> None:
        """Print a line of the part's own."""
        if self.report:
            self.report.line(text)
        self.write(text)

    def row(self, text: str, cells: Sequence[str], *, head: bool = False) -> None:
        """Print a row of a table of the part's own, laid out in a text, and what its cells are."""
        if self.report:
            self.report.row([cell.strip() for cell in cells], head=head)
        self.write(self.styled(BOLD, text) if head else text)

    def write(self, text: str = "") -> None:
        """Write a line at once, so that a reader sees it while the next is measured."""
        if self.progress:
            self.progress.clear()
        print(text, file=self.stream, flush=True)
        if self.progress:
            self.progress.refresh()

    def styled(self, style: str, text: str) -> str:
        """Return a text in a style, where there are styles."""
        return f"{style}{text}{RESET}" if self.colour and text else text

    def title(self, name: str, text: str) -> None:
        """Begin a part."""
        if self.report:
            self.report.begin(name, text)
        line = f"== {name}: {text} "
        self.write(self.styled(BOLD, line.ljust(WIDTH, "=")))

    def program(self, *functions: Callable[..., Any], comment: str = "") -> None:
        """Print the source of the functions that are about to run, without their docstrings.

        A function with a parameter `library` says what that is; others, what `comment` says.
        """
        for function in functions:
            lines = textwrap.dedent(inspect.getsource(function)).splitlines()
            lines = [line for line in lines if '"""' not in line]
            if "library" in inspect.signature(function).parameters:
                comment = "# library: concurrent.futures, then raddle"
            if comment:
                self.write("    " + self.styled(DIM, comment))
            for line in lines:
                self.write("    " + line)
            self.write()
            if self.report:
                self.report.program("\n".join([comment, *lines] if comment else lines))
            comment = ""

    def output(self, lines: Iterable[object]) -> None:
        """Print what the program put out."""
        for line in lines:
            if self.report:
                self.report.output(str(line))
            self.write(f"  > {line}")

    def bar(self, share: float) -> str:
        """Return a bar for a share between 0 and 1, of at least one mark."""
        if not self.bars:
            return ""
        mark = "\N{FULL BLOCK}" if self.blocks else "#"
        return self.styled(GREEN, mark * max(1, round(share * BAR_WIDTH)))

    def table(self, measured: Sequence[tuple[str, float]], ratio: str = "speed") -> None:
        """Print measured times beside that of the first row, the loop.

        Parameters
        ----------
        measured : sequence of (str, float)
            What was measured, and its time in seconds.
        ratio : {"speed", "cost"}
            Whether a row is told as times as fast as the loop, or times as expensive.
        """
        first, longest = measured[0][1], max(seconds for _, seconds in measured)
        heading = "times as fast" if ratio == "speed" else "times the cost"
        self.write(self.styled(BOLD, f"  {'':<26}{'time':>10}{heading:>16}"))
        rows = []
        for name, seconds in measured:
            times = first / seconds if ratio == "speed" else seconds / first
            row = f"  {name:<26}{time_text(seconds):>10}{ratio_text(times):>16}"
            self.write(f"{row}  {self.bar(seconds / longest)}".rstrip())
            rows.append((name, time_text(seconds), ratio_text(times), seconds / longest))
        if self.report:
            self.report.table(heading, rows)

    def compare(self, loop: float, standard: float, ours: float) -> None:
        """Print the table of a program that ran in three ways, by their seconds."""
        self.table([("loop", loop), ("standard library", standard), ("raddle", ours)])

    def conclude(self, text: str) -> None:
        """Print what the part shows, and an empty line that ends it."""
        for line in textwrap.wrap(text, WIDTH):
            self.write(line)
        self.write()
        if self.report:
            self.report.conclude(text)

    def timeline(self, recording: raddle.Timeline, title: str) -> None:
        """Put a recording into the report, where it is drawn."""
        if self.report:
            self.report.timeline(recording, title)

    @contextmanager
    def recorded(self, title: str) -> Iterator[None]:
        """Record what runs in a ``with`` block for the report, if there is one."""
        if not self.report:
            yield
            return
        with raddle.timeline() as recording:
            yield
        self.timeline(recording, title)
