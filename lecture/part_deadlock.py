"""Two locks taken in opposite orders: a hang with the standard library, a report with raddle."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from subprocess import PIPE
from types import ModuleType
from typing import Any

import raddle
from lecture.measure import measure
from lecture.pages import Pages
from lecture.screen import Screen, time_text

#: Seconds that the standard library's program is given before it is ended.
PATIENCE = 1.0
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def transfer(mine: Any, other: Any, both_hold: threading.Barrier) -> str:
    """Take two locks, one after the other."""
    with mine:
        both_hold.wait()
        with other:
            return "both locks"


def start_two(library: ModuleType, a: Any, b: Any, outcomes: list[object]) -> list[Any]:
    """Have two threads take the locks in opposite orders."""
    barrier = threading.Barrier(2)

    def run(mine: Any, other: Any) -> None:
        try:
            outcomes.append(transfer(mine, other, barrier))
        except raddle.DeadlockError as error:
            outcomes.append(error)

    pairs = (("left", (a, b)), ("right", (b, a)))
    threads = [library.Thread(target=run, args=locks, name=name) for name, locks in pairs]
    for thread in threads:
        thread.start()
    return threads


def with_the_standard_library() -> None:
    """Run it as a program of its own, which does not end."""
    threads = start_two(threading, threading.Lock(), threading.Lock(), [])
    print("started", flush=True)
    for thread in threads:
        thread.join()


def standard_hangs() -> bool:
    """Run that program; whether it still runs after a while."""
    program = f"from {__name__} import with_the_standard_library as run; run()"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=PIPE) as process:
        output = process.stdout
        assert output is not None
        started = output.readline() == b"started\n"
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return started
    return False


def raddle_reports() -> list[object]:
    """Run it with raddle; what the two threads got."""
    outcomes: list[object] = []
    a, b = raddle.Lock(name="a"), raddle.Lock(name="b")
    for thread in start_two(raddle, a, b, outcomes):
        thread.join()
    return sorted(outcomes, key=lambda outcome: isinstance(outcome, str))


def report(outcomes: list[object]) -> list[str]:
    """Write the outcomes in lines that fit the screen, the files without their folder."""
    lines = "\n".join(map(str, outcomes)).replace(f"{HERE}/", "").splitlines()
    wrapped = (textwrap.wrap(line, 75, subsequent_indent="    ") for line in lines)
    return [piece for pieces in wrapped for piece in pieces]


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what became of them."""
    screen.program(transfer)
    hangs = "hangs, and has been ended" if standard_hangs() else "has ended by itself"
    screen.output([f"threading.Lock, after {time_text(PATIENCE)}: the program {hangs}"])
    ours = measure(raddle_reports)
    screen.output([f"raddle.Lock, after {time_text(ours.seconds)}:"])
    screen.output(report(ours.value))
    screen.conclude(
        "One of the threads gets a DeadlockError, which names threads, locks and lines. It lets "
        "go of its lock, and the other goes on. A wait with a timeout is never part of a deadlock."
    )
