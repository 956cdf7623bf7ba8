"""The cases of fetching pages, against nginx on loopback, each with its target."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import ModuleType

from benchmarks import web_server
from benchmarks.fetchers import (
    AIOHTTP,
    AT_ONCE,
    GET,
    HTTPX,
    PRIMP,
    REQUESTS,
    SESSION,
    Fetch,
    fetchers,
    one_by_one,
)
from benchmarks.measure import timed
from benchmarks.model import RADDLE, Case, Sample, Scale, Setup, Target
from benchmarks.web_server import SIZES, nginx, wrk

WRK = "wrk"
URLLIB = "urllib.request"
EMPTY = "import only"
#: What is fetched in one call, so that a call takes tenths of a second in each contender.
COUNTS = {RADDLE: 4000, AIOHTTP: 800, PRIMP: 1200, SESSION: 200, REQUESTS: 200, HTTPX: 128}
LARGE_COUNTS = {**COUNTS, RADDLE: 600, AIOHTTP: 400, PRIMP: 400}

HOSTS = [f"127.0.{third}.{last}" for third in (1, 2) for last in range(1, 101)]
DEAD = {HOSTS[49], HOSTS[149]}  # 1 %: nobody listens there
URLS = 10_000


def right(size: int, count: int, bodies: list[bytes]) -> bool:
    """Return whether each of so many bodies has the size of the page."""
    return len(bodies) == count and all(len(body) == size for body in bodies)


def pages(
    opened: Callable[[ModuleType], AbstractContextManager[dict[str, Fetch]]],
    page: str,
    counts: Mapping[str, int],
    limit: bool,
) -> Setup:
    """Give samplers of one page, fetched many times."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        with nginx() as port, opened(subject) as contenders:
            url = f"http://127.0.0.1:{port}/{page}"
            samplers = {}
            for name, fetch in contenders.items():
                urls = [url] * scale.tasks(counts[name])
                check = partial(right, SIZES[page], len(urls))
                samplers[name] = timed(partial(fetch, urls), check, len(urls), scale)
            if limit and (sampler := wrk(url, AT_ONCE, scale)):
                samplers[WRK] = sampler
            yield samplers

    return setup


PROGRAMS = {
    RADDLE: "import sys, raddle; assert len(raddle.get(sys.argv[1]).content) == 1024",
    "requests": "import sys, requests; assert len(requests.get(sys.argv[1]).content) == 1024",
    HTTPX: "import sys, httpx; assert len(httpx.get(sys.argv[1]).content) == 1024",
    URLLIB: "import sys, urllib.request\n"
    "with urllib.request.urlopen(sys.argv[1]) as page: assert len(page.read()) == 1024",
}


@contextmanager
def single(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of whole programs that fetch one page, the import included."""
    del subject
    with nginx() as port:
        yield {name: program(text, port, scale) for name, text in PROGRAMS.items()}


def program(text: str, port: int, scale: Scale) -> Sample:
    """Return a sampler of a program that fetches the page of 1 KB."""
    command = [sys.executable, "-c", text, f"http://127.0.0.1:{port}/1k"]
    return timed(lambda: subprocess.run(command).returncode, lambda status: status == 0, 1, scale)


MANY = """
import sys
hosts, port, count = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
dead = set(sys.argv[4].split(","))
urls = [f"http://{hosts[i % len(hosts)]}:{port}/1k" for i in range(count)]
"""
TOLD = """
import time
answers, bodies, errors = 0, 0, 0
start = time.perf_counter()
for url, body in fetched():
    answers += 1
    if body is None:
        assert url.split("/")[2].partition(":")[0] in dead, f"{url} was lost"
        errors += 1
    else:
        assert len(body) == 1024, url
        bodies += 1
seconds = time.perf_counter() - start
assert answers == count, f"{answers} answers to {count} addresses"
assert errors == sum(url.split("/")[2].partition(":")[0] in dead for url in urls), errors
with open("/proc/self/status") as status:
    [peak] = [line.split()[1] for line in status if line.startswith("VmHWM")]
print(seconds, int(peak) * 1024)
"""
RADDLE_MANY = """
import raddle
def fetched():
    for url, response in zip(urls, raddle.fetch(urls, retries=0)):
        yield url, None if response.error else response.content
"""
RADDLE_ITER = """
import raddle
def fetched():
    for response in raddle.fetch_iter(urls, retries=0):
        yield response.request.url, None if response.error else response.content
"""
AIOHTTP_MANY = """
import asyncio, aiohttp
async def every():
    answers, numbered = [None] * len(urls), iter(enumerate(urls))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        async def worker():
            for i, url in numbered:
                try:
                    async with session.get(url) as response:
                        answers[i] = await response.read()
                except aiohttp.ClientConnectorError:
                    pass
        await asyncio.gather(*(worker() for _ in range(64)))
    return answers
def fetched():
    return zip(urls, asyncio.run(every()))
"""
CONTENDERS_MANY = {RADDLE: RADDLE_MANY, "raddle.fetch_iter": RADDLE_ITER, AIOHTTP: AIOHTTP_MANY}


def many(column: int) -> Setup:
    """Give samplers of many addresses on many hosts: the seconds, or the peak of memory."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        del subject
        count = scale.tasks(URLS)
        with nginx([host for host in HOSTS if host not in DEAD]) as port:

            def sample(text: str) -> float:
                words = [",".join(HOSTS), str(port), str(count), ",".join(DEAD)]
                command = [sys.executable, "-c", MANY + text + TOLD, *words]
                told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                return float(told.stdout.split()[column])

            yield {name: partial(sample, text) for name, text in CONTENDERS_MANY.items()}

    return setup


COLUMNS = (
    RADDLE, AIOHTTP, PRIMP, SESSION, REQUESTS, "requests", HTTPX, URLLIB, "raddle.fetch_iter", GET,
    WRK,
)  # fmt: skip
LIMIT = "wrk only counts bytes: it is the limit of this server on this machine."
SHARED = "nginx has one worker and shares the machine's cores with who fetches."
THREADED = f"requests and primp run in 32 threads, the others have {AT_ONCE} requests at once."
REFUSED = (
    f"{len(HOSTS)} hosts, on {len(DEAD)} of which nobody listens, {URLS:,} addresses of 1 KB in "
    "turn; the program checks that each address has its page or its error, and keeps the pages "
    "(fetch_iter drops them). No retries."
)

CASES = [
    Case(
        "fetch-1k",
        f"fetch pages of 1 KB, {AT_ONCE} at once",
        pages(fetchers, "1k", COUNTS, limit=True),
        "us a request",
        Target(5, 8, [AIOHTTP], further=[Target(3, 5, [PRIMP]), Target(40, 55, [SESSION])]),
        f"{THREADED} {LIMIT} {SHARED}",
    ),
    Case(
        "fetch-100k",
        f"fetch pages of 100 KB, {AT_ONCE} at once",
        pages(fetchers, "100k", LARGE_COUNTS, limit=True),
        "us a request",
        Target(3, None, [AIOHTTP], further=[Target(2, None, [PRIMP])]),
        "All bodies are kept until the call is over.",
    ),
    Case(
        "fetch-get",
        "get pages of 1 KB one by one, in a pool of 32 threads",
        pages(one_by_one, "1k", {**COUNTS, RADDLE: 1000, GET: 1000}, limit=False),
        "us a request",
        note="The first is raddle.get in raddle.ThreadPoolExecutor; the others are in "
        "concurrent.futures', raddle.get too.",
    ),
    Case(
        "fetch-single",
        "a whole program that gets one page of 1 KB",
        single,
        "ms a program",
        note="The interpreter's start and the import are in it.",
    ),
    Case(
        "fetch-hosts",
        f"{URLS:,} pages of {len(HOSTS)} hosts, 1 % dead",
        many(0),
        "ms",
        note=REFUSED,
    ),
    Case("fetch-memory", "the same, peak of the program's memory", many(1), "MB"),
]


def ready() -> None:
    """Raise where nginx or a peer is missing, before anything is measured."""
    from benchmarks.fetchers import check

    web_server.check()
    check()
