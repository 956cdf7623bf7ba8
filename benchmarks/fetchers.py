"""The contenders that fetch pages: each is opened, kept for all rounds, and gives every body.

Invariant: whatever a contender is, a call returns the bodies in the order of the addresses, so that
all of them make Python bytes of each body and keep them until the call is over.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any

AIOHTTP = "aiohttp"
PRIMP = "primp"
SESSION = "requests.Session"
REQUESTS = "requests.get"
HTTPX = "httpx"
GET = "raddle.get"
THREADS = 32
AT_ONCE = 64

Fetch = Callable[[list[str]], list[bytes]]
PEERS = (AIOHTTP, PRIMP, HTTPX, "requests")


class PeersMissing(Exception):
    """Some peers are not installed; the text names them and says how to get them."""


def check() -> None:
    """Raise `PeersMissing` unless every peer can be imported."""
    missing = []
    for name in PEERS:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise PeersMissing(
            f"not installed: {', '.join(missing)}; `python dev.py bench -- fetch` installs them"
        )


def raddle_fetch(subject: ModuleType, urls: list[str]) -> list[bytes]:
    """Fetch with one call of raddle."""
    return [response.content for response in subject.fetch(urls, concurrency=AT_ONCE)]


def raddle_threads(pool: Any, subject: ModuleType, urls: list[str]) -> list[bytes]:
    """Fetch with ``raddle.get`` in raddle's thread pool."""
    return [response.content for response in pool.map(subject.get, urls)]


async def at_once(one: Callable[[str], Any], urls: list[str]) -> list[bytes]:
    """Run a coroutine function over the addresses, always as many at once as everybody."""
    bodies: list[bytes] = [b""] * len(urls)
    numbered = iter(enumerate(urls))

    async def worker() -> None:
        for index, url in numbered:
            bodies[index] = await one(url)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return bodies


@contextmanager
def aiohttp_session() -> Iterator[Fetch]:
    """Open a session of aiohttp on a loop of its own."""
    import aiohttp

    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE))

    loop = asyncio.new_event_loop()
    session = loop.run_until_complete(opened())

    async def one(url: str) -> bytes:
        async with session.get(url) as response:
            return await response.read()

    yield lambda urls: loop.run_until_complete(at_once(one, urls))
    loop.run_until_complete(session.close())
    loop.close()


@contextmanager
def httpx_client() -> Iterator[Fetch]:
    """Open an asyncio client of httpx on a loop of its own."""
    import httpx

    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(limits=limits, trust_env=False)

    async def one(url: str) -> bytes:
        return (await client.get(url)).content

    yield lambda urls: loop.run_until_complete(at_once(one, urls))
    loop.run_until_complete(client.aclose())
    loop.close()


def in_threads(stack: ExitStack, one: Callable[[str], bytes]) -> Fetch:
    """Return a fetch by threads of the standard library."""
    pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(THREADS))
    return lambda urls: list(pool.map(one, urls))


def requests_session(stack: ExitStack) -> Fetch:
    """Return a fetch by one session of requests that keeps a connection for each thread."""
    import requests.adapters

    session = stack.enter_context(requests.Session())
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=THREADS))
    return in_threads(stack, lambda url: bytes(session.get(url, timeout=10).content))


def requests_get(stack: ExitStack) -> Fetch:
    """Return a fetch as the lecture does it: each page over a connection of its own."""
    import requests

    return in_threads(stack, lambda url: bytes(requests.get(url, timeout=10).content))


def primp_client(stack: ExitStack) -> Fetch:
    """Return a fetch by one client of primp in threads."""
    import primp

    client = primp.Client()
    return in_threads(stack, lambda url: bytes(client.get(url).content))


@contextmanager
def fetchers(subject: ModuleType) -> Iterator[dict[str, Fetch]]:
    """Open raddle and its peers, each ready to fetch many pages."""
    check()
    with ExitStack() as stack:
        yield {
            subject.__name__: partial(raddle_fetch, subject),
            AIOHTTP: stack.enter_context(aiohttp_session()),
            PRIMP: primp_client(stack),
            SESSION: requests_session(stack),
            REQUESTS: requests_get(stack),
            HTTPX: stack.enter_context(httpx_client()),
        }


@contextmanager
def one_by_one(subject: ModuleType) -> Iterator[dict[str, Fetch]]:
    """Open pools in which each task fetches one page: the lecture's program and its new line."""
    check()
    with ExitStack() as stack:
        pool = stack.enter_context(subject.ThreadPoolExecutor(THREADS))
        yield {
            subject.__name__: partial(raddle_threads, pool, subject),
            GET: in_threads(stack, lambda url: bytes(subject.get(url).content)),
            SESSION: requests_session(stack),
            REQUESTS: requests_get(stack),
        }
