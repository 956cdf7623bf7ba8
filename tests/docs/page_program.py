"""A page of the documentation as one program: its blocks of Python, in their order.

A reader copies the blocks of a page one after the other. Blocks stay at their lines, so that an
error names the line of the page. In the page's text:

- a block ```` ```text ```` that follows a block of Python is what that block prints (``...`` stands
  for anything, blank space counts once);
- ``<!-- not run: REASON -->`` above a block leaves it out;
- ``<!-- run`` to ``-->`` encloses lines that run and that the reader does not see.
"""

from __future__ import annotations

import doctest
import re
from dataclasses import dataclass

END = "\x1e"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NOT_RUN = re.compile(r"<!-- not run: \S.*-->")


@dataclass
class Block:
    """Some lines of Python, and what they have to print: None if anything will do."""

    line: int
    source: list[str]
    output: str | None = None


def blocks_of(page: str) -> list[Block]:
    """Read the blocks of a page that run."""
    found: list[Block] = []
    above = ""
    lines = iter(enumerate(page.splitlines(), start=1))
    for number, line in lines:
        if line in ("```python", "<!-- run"):
            end = "```" if line == "```python" else "-->"
            block = Block(number, inside(lines, end))
            if not NOT_RUN.fullmatch(above):
                found.append(block)
            above = "code" if found and found[-1] is block else ""
        elif line == "```text" and above == "code":
            found[-1].output = "\n".join(inside(lines, "```")) + "\n"
            above = ""
        elif line.strip():
            above = line
    return found


def inside(lines: object, end: str) -> list[str]:
    """Read lines until the one that ends the block."""
    taken = []
    for _, line in lines:  # type: ignore[attr-defined]
        if line == end:
            return taken
        taken.append(line)
    raise ValueError(f"a block is not closed by {end}")


def program_of(blocks: list[Block]) -> str:
    """Make one program of blocks, each at its lines, which marks where the output of one ends."""
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - len(lines))
        lines += block.source
        lines.append(f"print({END!r}, end='', flush=True)")
    return "\n".join(lines) + "\n"


def differences(blocks: list[Block], printed: str) -> list[str]:
    """Compare what each block has printed with what the page says."""
    checker = doctest.OutputChecker()
    found = []
    for block, output in zip(blocks, printed.split(END)):
        if block.output is not None and not checker.check_output(block.output, output, FLAGS):
            example = doctest.Example("", block.output)
            difference = checker.output_difference(example, output, FLAGS)
            found.append(f"line {block.line}: {difference}")
    return found
