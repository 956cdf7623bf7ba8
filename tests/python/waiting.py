"""What the tests of locks say about waiting: that a thread sleeps by now, and how a wait ended."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The watchdog of one wait. A timed wait is no edge of the graph of waits: it changes nothing.
SECONDS = 40.0


def wait_asleep(thread: threading.Thread) -> None:
    """Wait until a thread sleeps, for ten looks in a row, or has ended.

    No test needs this to be right: it lets something happen where it is interesting.
    """
    path = Path(f"/proc/self/task/{thread.native_id}/stat")
    pause, looks = threading.Event(), 0
    while looks < 10 and thread.is_alive():
        try:
            state = path.read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        looks = looks + 1 if state == "S" else 0
        pause.wait(0.002)


def outcome(life: Any) -> Any:
    """What a thread or future gave, or the exception that it raised."""
    try:
        return life.result(timeout=SECONDS)
    except Exception as error:
        return error


def place(function: Callable[..., Any], mark: str) -> str:
    """The place that a message gives for the line of a function that ends with ``# mark``."""
    lines, first = inspect.getsourcelines(function)
    (number,) = [n for n, line in enumerate(lines, first) if line.rstrip().endswith(f"# {mark}")]
    return f"{function.__code__.co_filename}:{number} in {function.__name__}"
