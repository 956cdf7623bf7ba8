"""``map`` gives the results in the order of the input, whichever is ready first."""

import concurrent.futures
from types import ModuleType

import raddle
from lecture.measure import measure
from lecture.pages import Page, Pages, download
from lecture.screen import Screen


def loop(urls: list[str]) -> list[Page]:
    """Download in a loop."""
    return [download(url) for url in urls]


def three_workers(library: ModuleType, urls: list[str]) -> list[Page]:
    """Download with three threads."""
    with library.ThreadPoolExecutor(max_workers=3) as executor:
        return list(executor.map(download, urls))


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what they did and took."""
    urls = pages.urls(5)
    screen.program(three_workers)
    in_a_row = measure(loop, urls)
    standard = measure(three_workers, concurrent.futures, urls)
    with screen.recorded("Three workers, five pages"):
        ours = measure(three_workers, raddle, urls)
    screen.output(ours.value)
    screen.compare(in_a_row.seconds, standard.seconds, ours.seconds)
    rounds = -(-len(urls) // 3)
    screen.conclude(
        f"Waits in a row: {len(urls)} in the loop, {rounds} with three workers. "
        "The results come in the order of the addresses."
    )
