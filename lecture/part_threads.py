"""Threads made by hand: create, start, join; and what becomes of a function's result or error."""

import threading
import time

import raddle
from lecture.measure import measure
from lecture.pages import Pages
from lecture.screen import Screen

Threads = list[threading.Thread]


def slow_download(name: str) -> str:
    """Take a second, as a slow page does."""
    if not name:
        raise ValueError("a download needs a name")
    time.sleep(1)
    return f"{name} downloaded"


def in_a_row(names: list[str]) -> list[str]:
    """Download in a loop."""
    return [slow_download(name) for name in names]


def in_threads(kind: type[threading.Thread], names: list[str]) -> Threads:
    """Download with a thread for each name."""
    threads = [kind(target=slow_download, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return threads


def results(threads: Threads) -> list[str]:
    """Take what the functions returned; a thread of the standard library has thrown it away."""
    return [thread.result() for thread in threads if isinstance(thread, raddle.Thread)]


def error_of(name: str) -> str:
    """Run a thread that fails, and take its error."""
    thread = raddle.Thread(target=slow_download, args=(name,))
    thread.start()
    try:
        return str(thread.result())
    except ValueError as error:
        return f"ValueError: {error}"


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what they did and took."""
    names = ["file 1", "file 2", "file 3"]
    screen.program(in_threads, comment="# kind: threading.Thread, then raddle.Thread")
    loop = measure(in_a_row, names)
    standard = measure(in_threads, threading.Thread, names)
    ours = measure(in_threads, raddle.Thread, names)
    lost = len(names) - len(results(standard.value))
    screen.output([f"threading.Thread: {lost} results of {len(names)} are lost"])
    screen.output([f"raddle.Thread: {', '.join(results(ours.value))}"])
    screen.output([f"raddle.Thread without a name: {error_of('')}"])
    screen.compare(loop.seconds, standard.seconds, ours.seconds)
    screen.conclude(
        "Create, start, join: the threads wait at the same time. thread.result() joins and gives "
        "what the function returned, or raises its error where you ask for it."
    )
