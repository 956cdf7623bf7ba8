"""`fetch_async`: a batch in asyncio, awaited as a whole or read as its responses come."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Sized
from typing import Any, Literal

from ._fetch import check_urls
from ._fetch_options import make_options
from ._native import FetchStream, Response
from ._progress import Progress, Report, report
from ._request import Auth, Pairs, Request, Timeout

#: Items that may wait for a host that is at its limits, for each place, so that other hosts go on.
_PARKED = 16
#: Seconds between two reports of the progress.
_REPORTED = 0.1


class _Pace:
    """What a batch shares with those whom the event loop holds, which must not hold the batch."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.most = concurrency * (1 + _PARKED)
        self.room = concurrency
        self.drawn = 0
        self.given = 0
        self.is_drawn_out = False
        self.failure: BaseException | None = None
        self.rung = asyncio.Event()
        self.has_room = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether no more items may be drawn for now."""
        return self.drawn - self.given >= self.room

    def grow(self) -> None:
        """Make room: everything that waits is for hosts at their limits."""
        self.room = min(self.most, self.room + self.concurrency)

    def shrink(self) -> None:
        """Take note that a response has been given, and go back to the usual room."""
        self.given += 1
        self.room = max(self.concurrency, self.room - 1)


def _on_bell(bell: socket.socket, pace: _Pace) -> None:
    """Take note that the engine has news."""
    try:
        bell.recv(64)
    except OSError:  # closed in between, or read already
        return
    pace.rung.set()


async def _draw_slowly(
    feed: AsyncIterator[str | Request], stream: FetchStream, pace: _Pace
) -> None:
    """Draw from an asynchronous input, beside the reader."""
    try:
        async for item in feed:
            pace.drawn += 1
            stream.push([item])
            while pace.is_full:
                pace.has_room.clear()
                await pace.has_room.wait()
    except BaseException as error:
        pace.failure = error
    pace.is_drawn_out = True
    stream.close()
    pace.rung.set()


class AsyncFetch(AsyncIterator[Response]):
    """A batch that can be awaited, for a list in the order of the input, or read as it comes.

    It is made by `raddle.fetch_async`. The requests go on in a thread that needs no interpreter;
    the event loop is told by a socket. Cancelling a task that awaits the whole ends them. A step of
    ``async for`` that is cancelled, as by ``asyncio.wait_for(anext(batch), 5)``, loses nothing: the
    next one goes on. ``contextlib.aclosing(batch)`` ends them however its block is left.

    Examples
    --------
    >>> import asyncio, raddle
    >>> async def main():
    ...     return [response.ok async for response in raddle.fetch_async(["no url"])]
    >>> asyncio.run(main())
    [False]
    """

    def __init__(
        self,
        source: Iterable[str | Request] | AsyncIterable[str | Request],
        stream: FetchStream,
        concurrency: int,
        raises: bool,
        told: Report | None,
    ) -> None:
        self._feed: Iterator[str | Request] | None = None
        self._async_feed: AsyncIterator[str | Request] | None = None
        if isinstance(source, AsyncIterable):
            self._async_feed = aiter(source)
        else:
            self._feed = iter(source)
        self._stream = stream
        self._pace = _Pace(concurrency)
        self._raises = raises
        self._report = told
        self._due = time.monotonic() + _REPORTED
        self._ready: deque[tuple[int, Response]] = deque()
        self._last_index = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self._feeder: asyncio.Task[None] | None = None

    def __aiter__(self) -> AsyncFetch:
        return self

    def __await__(self) -> Generator[Any, None, list[Response]]:
        return self._gather().__await__()

    async def _gather(self) -> list[Response]:
        responses: dict[int, Response] = {}
        try:
            async for response in self:
                responses[self._last_index] = response
        except asyncio.CancelledError:
            self.close()
            raise
        return [responses[index] for index in sorted(responses)]

    async def __anext__(self) -> Response:
        try:
            response = await self._next()
        except asyncio.CancelledError:
            raise  # only this step is over, and it has taken nothing
        except BaseException:
            self.close()
            raise
        if response is None:
            self.close()
            raise StopAsyncIteration
        return response

    async def _next(self) -> Response | None:
        self._begin()
        self._draw()
        while await self._wait():
            # The loop gets its turn even if responses are always there. It may cancel this step, or
            # let another one take what was there: so nothing is taken before.
            await asyncio.sleep(0)
            if self._ready:
                return self._take()
        return None

    async def _wait(self) -> bool:
        """Wait until there are responses, and tell whether there are any to come."""
        pace = self._pace
        while not self._ready:
            if pace.failure is not None:
                raise pace.failure
            pace.rung.clear()
            self._ready.extend(self._stream.take())
            if self._ready:
                break
            news = self._stream.news()
            if news == "idle" and pace.is_drawn_out:
                return False
            if news == "hungry":
                pace.grow()
            self._stream.sate()
            if not self._draw():
                await pace.rung.wait()
        return True

    def _take(self) -> Response:
        """Take the first response that is there."""
        self._last_index, response = self._ready.popleft()
        self._pace.shrink()
        if self._report is not None and time.monotonic() >= self._due:
            self._due = time.monotonic() + _REPORTED
            self._report(self._pace.given)
        if self._raises and response.error is not None:
            raise response.error
        return response

    def _begin(self) -> None:
        """Bind the batch to the running loop."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._socket = socket.socket(fileno=self._stream.doorbell())
            loop.add_reader(self._socket, _on_bell, self._socket, self._pace)
            if self._async_feed is not None:
                drawing = _draw_slowly(self._async_feed, self._stream, self._pace)
                self._feeder = loop.create_task(drawing)
        elif self._loop is not loop:
            raise RuntimeError("this fetch_async belongs to another event loop: start one in each")

    def _draw(self) -> bool:
        """Draw items while there is room, and tell whether there were any."""
        pace = self._pace
        if not pace.is_full:
            pace.has_room.set()
        items: list[str | Request] = []
        while self._feed is not None and not pace.is_full:
            try:
                items.append(next(self._feed))
            except StopIteration:
                self._feed = None
                pace.is_drawn_out = True
                self._push(items)
                self._stream.close()
                return True
            pace.drawn += 1
        self._push(items)
        return bool(items)

    def _push(self, items: list[str | Request]) -> None:
        if items:
            self._stream.push(items)

    def close(self) -> None:
        """End the batch: what is under way is given up."""
        self._feed = self._async_feed = None
        self._pace.is_drawn_out = True
        self._ready.clear()
        self._stream.cancel()
        loop, bell, feeder = self._loop, self._socket, self._feeder
        self._socket = self._feeder = None
        if not self._stream.is_ours():
            # In a child of the process that fetches: both of them watch what this loop watches.
            self._report = None
            if bell is not None:
                bell.close()
            return
        if loop is not None and bell is not None:
            if loop.is_closed():
                bell.close()
            elif _is_running_here(loop) or not loop.is_running():
                _let_go(loop, bell, feeder)
            else:
                loop.call_soon_threadsafe(_let_go, loop, bell, feeder)
        if self._report is not None:
            told, self._report = self._report, None
            told(self._pace.given)
            told.close()

    async def aclose(self) -> None:
        """End the batch, as `close` does; for ``contextlib.aclosing``."""
        self.close()

    def __del__(self) -> None:
        # The loop holds only what is shared: a batch that nobody reads any more comes here.
        if getattr(self, "_socket", None) is not None:
            self.close()


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether this thread is inside the loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _let_go(
    loop: asyncio.AbstractEventLoop, bell: socket.socket, feeder: asyncio.Task[None] | None
) -> None:
    """Take what the batch has in the loop out of it."""
    loop.remove_reader(bell)
    bell.close()
    if feeder is not None:
        feeder.cancel()


def fetch_async(
    urls: Iterable[str | Request] | AsyncIterable[str | Request],
    *,
    concurrency: int = 64,
    per_host: int | None = None,
    rate: float | None = None,
    timeout: float | Timeout | None = 10.0,
    retries: int = 2,
    headers: Pairs | None = None,
    params: Pairs | None = None,
    auth: Auth | None = None,
    follow_redirects: bool | int = True,
    max_bytes: int | None = None,
    progress: Progress = None,
    on_error: Literal["return", "raise"] = "return",
    retry_statuses: tuple[int, ...] = (429, 503),
    longest_wait: float = 30.0,
    cookies: bool = False,
    robots: bool = False,
    proxy: str | Literal[False] | None = None,
    verify: bool | str | os.PathLike[str] = True,
    cert: str | os.PathLike[str] | tuple[Any, Any] | None = None,
    http2: bool = True,
) -> AsyncFetch:
    """Fetch pages in asyncio: ``await`` it for a list, or read it with ``async for``.

    Parameters
    ----------
    urls : iterable or asynchronous iterable of str or Request
        What to fetch. It may be lazy, and infinite for ``async for``: an item is drawn when there
        is room for it.
    concurrency, per_host, rate, timeout, retries, headers, params, auth, follow_redirects, \
max_bytes, progress, on_error, retry_statuses, longest_wait, cookies, robots, proxy, verify, cert, \
http2
        As for `fetch`.

    Returns
    -------
    AsyncFetch
        Awaited, it gives a list of `Response` in the order of the input. As an asynchronous
        iterator it gives each as it comes. Cancelling a task that awaits the whole ends the batch.

    Examples
    --------
    >>> import asyncio, raddle
    >>> async def main():
    ...     responses = await raddle.fetch_async(["no url"])
    ...     print(responses[0].ok)
    ...     async for response in raddle.fetch_async(["no url", "no url"]):
    ...         print(response.url)
    >>> asyncio.run(main())
    False
    no url
    no url
    """
    if not isinstance(urls, AsyncIterable):
        check_urls(urls)
    options = make_options(
        concurrency=concurrency,
        per_host=per_host,
        rate=rate,
        timeout=timeout,
        retries=retries,
        headers=headers,
        params=params,
        auth=auth,
        follow_redirects=follow_redirects,
        max_bytes=max_bytes,
        retry_statuses=retry_statuses,
        longest_wait=longest_wait,
        cookies=cookies,
        robots=robots,
        proxy=proxy,
        verify=verify,
        cert=cert,
        http2=http2,
        on_error=on_error,
    )
    total = len(urls) if isinstance(urls, Sized) else None
    told = report(progress, total, "page")
    return AsyncFetch(urls, FetchStream(options), concurrency, on_error == "raise", told)
