"""Ten downloads take ten waits in a loop, and one wait when they are started together."""

import concurrent.futures
from types import ModuleType

import raddle
from lecture.measure import measure
from lecture.pages import Page, Pages, download
from lecture.screen import Screen


def one_after_the_other(urls: list[str]) -> list[Page]:
    """Download in a loop."""
    return [download(url) for url in urls]


def together(library: ModuleType, urls: list[str]) -> list[Page]:
    """Download with a thread for each page."""
    with library.ThreadPoolExecutor(max_workers=len(urls)) as executor:
        return list(executor.map(download, urls))


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what they did and took."""
    urls = pages.urls(10)
    screen.program(one_after_the_other, together)
    loop = measure(one_after_the_other, urls)
    standard = measure(together, concurrent.futures, urls)
    with screen.recorded("The downloads in raddle's threads"):
        ours = measure(together, raddle, urls)
    screen.output(ours.value[:3])
    if len(urls) > 3:
        total = sum(len(page.body) for page in ours.value)
        screen.output([f"... all {len(urls)}: {total:,} bytes"])
    screen.compare(loop.seconds, standard.seconds, ours.seconds)
    screen.conclude(
        "A download is mostly waiting for an answer. Started together, the downloads wait at the "
        "same time. To go from the standard library to raddle, change one import."
    )
