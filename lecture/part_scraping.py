"""Web scraping: the sizes of pages, by five threads and requests, and by one call of raddle."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import requests

import raddle
from lecture.measure import measure
from lecture.pages import PageError, Pages
from lecture.screen import Screen


class Answer(Protocol):
    """What both libraries give for a page."""

    @property
    def content(self) -> bytes:
        """The page's bytes."""


Get = Callable[..., Answer]


def told(url: str, size: int) -> str:
    """Tell a page by the last part of its address and its size."""
    return f"{url.rstrip('/').rpartition('/')[2]}: {size:,} bytes"


def in_a_row(urls: list[str]) -> list[str]:
    """Scrape in a loop."""
    return [told(url, len(requests.get(url, timeout=10).content)) for url in urls]


def scrape(get: Get, urls: list[str]) -> list[str]:
    """Scrape with at most five threads."""

    def size(url: str) -> int:
        return len(get(url, timeout=10).content)

    with ThreadPoolExecutor(max_workers=5) as executor:
        return [told(url, n) for url, n in zip(urls, executor.map(size, urls))]


def fetch(urls: list[str]) -> list[str]:
    """Scrape in one call, in which a page that fails costs no other."""
    return [
        f"{url}: {page.error}" if page.error else told(url, len(page.content))
        for url, page in zip(urls, raddle.fetch(urls, timeout=10))
    ]


def show(screen: Screen, pages: Pages) -> None:
    """Run the programs and print what they did and took."""
    urls = pages.urls(10)
    screen.program(scrape, fetch)
    try:
        loop = measure(in_a_row, urls)
        threads = measure(scrape, requests.get, urls)
        one_line = measure(scrape, raddle.get, urls)
    except (requests.RequestException, raddle.FetchError) as error:
        raise PageError(f"a page could not be downloaded: {error}") from error
    ours = measure(fetch, urls)
    screen.output(ours.value[:2])
    screen.table(
        [
            ("loop, requests.get", loop.seconds),
            ("standard library, requests", threads.seconds),
            ("raddle.get, one line", one_line.seconds),
            ("raddle.fetch", ours.seconds),
        ]
    )
    screen.conclude(
        "get: requests.get, then raddle.get. raddle.fetch has all pages under way at once, "
        "and one that fails tells why and costs no other."
    )
