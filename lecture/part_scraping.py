"""Web scraping: the sizes of pages, by five threads and requests, and by one call of raddle."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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


def told(url: str, answer: Answer) -> str:
    """Tell a page by the last part of its address and its size, or why it could not be had."""
    name = url.rstrip("/").rpartition("/")[2]
    error = getattr(answer, "error", None)
    return f"{name}: {error or f'{len(answer.content):,} bytes'}"


def in_a_row(urls: list[str]) -> list[str]:
    """Scrape in a loop."""
    return [told(url, requests.get(url, timeout=10)) for url in urls]


def scrape(get: Get, urls: list[str]) -> list[str]:
    """Scrape with at most five threads."""
    with ThreadPoolExecutor(max_workers=5) as executor:
        answers = executor.map(partial(get, timeout=10), urls)
        return [told(url, answer) for url, answer in zip(urls, answers)]


def fetch(urls: list[str]) -> list[str]:
    """Scrape in one call, in which a page that fails costs no other."""
    answers = raddle.fetch(urls, timeout=10)
    return [told(url, answer) for url, answer in zip(urls, answers)]


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
    screen.output(ours.value[:3])
    screen.table(
        [
            ("loop", loop.seconds),
            ("standard library, requests", threads.seconds),
            ("raddle.get, a line changed", one_line.seconds),
            ("raddle.fetch", ours.seconds),
        ]
    )
    screen.conclude(
        "get is requests.get, then raddle.get: one line is changed, and five threads wait for five "
        "pages at a time. raddle.fetch has all of them under way at once without a thread, keeps "
        "to per_host= and rate= where asked, and tells why a page failed, which costs no other."
    )
