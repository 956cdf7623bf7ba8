"""Three waits of two seconds take six seconds in a row, and two in threads."""

import concurrent.futures
import time
from types import ModuleType

import raddle
from lecture.measure import measure
from lecture.pages import Pages
from lecture.screen import Screen


def slow_download(name: str) -> str:
    """Take two seconds, as a slow page does."""
    time.sleep(2)
    return f"{name} downloaded"


def in_a_row(names: list[str]) -> list[str]:
    """Download in a loop."""
    return [slow_download(name) for name in names]


def in_threads(library: ModuleType, names: list[str]) -> list[str]:
    """Download with a thread for each name."""
    with library.ThreadPoolExecutor(max_workers=3) as executor:
        return list(executor.map(slow_download, names))


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what they did and took."""
    names = ["file 1", "file 2", "file 3"]
    screen.program(slow_download, in_threads)
    loop = measure(in_a_row, names)
    standard = measure(in_threads, concurrent.futures, names)
    with screen.recorded("The same in raddle's threads"):
        ours = measure(in_threads, raddle, names)
    screen.output(ours.value)
    screen.compare(loop.seconds, standard.seconds, ours.seconds)
    screen.conclude(
        "A thread that waits needs no processor, so three of them wait as long as one. No library "
        "can wait faster: what raddle saves is the cost of each task (part tasks)."
    )
