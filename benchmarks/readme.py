"""Puts the measured tables into README.md, between ``<!-- bench:NAME -->`` and ``<!-- /bench -->``.

Run as ``python -m benchmarks.readme``; every figure comes from ``results/NAME.json``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.model import Result
from benchmarks.report import RESULTS, wide_table

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- bench:(\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def block(suite: dict[str, Any]) -> str:
    """Return what stands in the README for a suite: the cases with a target, and where from."""
    machine = suite["machine"]
    results = [Result.from_json(stored) for stored in suite["cases"]]
    shown = [result for result in results if result.target is not None]
    columns = [name for name in suite["columns"] if any(name in r.figures for r in shown)]
    quiet = "" if machine["quiet"] else " The machine was not quiet."
    name = suite["suite"]
    return (
        f"{wide_table(shown, columns, ranges=False)}\n\n"
        f"Median of {suite['rounds']} rounds in one run; a peer's cost is followed by how many "
        f"times raddle's it is. {machine['python']}, {machine['cores']} cores of "
        f"{machine['processor']}, {machine['date']}.{quiet} Lowest and highest, notes, all "
        f"cases: "
        f"[{name}.md](benchmarks/results/{name}.md).\n"
    )


def rewrite(text: str, suites: dict[str, dict[str, Any]]) -> tuple[str, list[str]]:
    """Return the text with each block replaced that has results, and the blocks' names."""
    replaced: list[str] = []

    def replacement(found: re.Match[str]) -> str:
        opening, name, closing = found.groups()
        if name not in suites:
            return found.group()
        replaced.append(name)
        return f"{opening}{block(suites[name])}{closing}"

    return BLOCK.sub(replacement, text), replaced


def main() -> int:
    """Rewrite README.md; the status is 1 where there is nothing to rewrite."""
    suites = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
    if not README.exists():
        print("README.md does not exist: nothing rewritten", file=sys.stderr)
        return 1
    text, replaced = rewrite(README.read_text(), suites)
    if not replaced:
        print(
            "README.md is unchanged: it needs a line <!-- bench:threads --> with a line "
            "<!-- /bench --> below it, and results written by python -m benchmarks",
            file=sys.stderr,
        )
        return 1
    README.write_text(text)
    print(f"README.md: rewrote the table of {', '.join(replaced)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
