"""`fetch_iter`: responses as they come, while the input is drawn no further than they are read."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Literal

from ._fetch import check_urls
from ._fetch_options import make_options
from ._native import FetchStream, Response
from ._progress import Progress, Report, report
from ._request import Auth, Pairs, Request, Timeout

#: Items that may wait for a host that is at its limits, for each place, so that other hosts go on.
_PARKED = 16
#: Seconds that an input may take before responses that are there already go first.
_PATIENCE = 0.001
#: Items that are handed over at once.
_CHUNK = 32
#: Seconds between two reports of the progress.
_REPORTED = 0.1


class FetchIterator(Iterator[Response]):
    """The responses of a batch, as they come. It goes on by itself while its reader is busy.

    It is made by `raddle.fetch_iter`. Leaving a ``with`` block, `close` and its end as an object
    end the requests that are still under way.

    Examples
    --------
    >>> import raddle
    >>> with raddle.fetch_iter(["no url"]) as responses:
    ...     print(next(responses).ok)
    False
    """

    def __init__(
        self,
        source: Iterator[str | Request],
        stream: FetchStream,
        concurrency: int,
        raises: bool,
        told: Report | None,
    ) -> None:
        self._source: Iterator[str | Request] | None = source
        self._stream = stream
        self._room = concurrency
        self._most = concurrency * (1 + _PARKED)
        self._concurrency = concurrency
        self._raises = raises
        self._ready: deque[tuple[int, Response]] = deque()
        #: The place in the input of the response that was given last.
        self.last_index = -1
        self._drawn = 0
        self._given = 0
        self._busy = False
        self._report = told
        self._due = time.monotonic() + _REPORTED

    def __iter__(self) -> FetchIterator:
        return self

    def __next__(self) -> Response:
        if self._busy:
            raise ValueError("this fetch_iter is in use: by another thread, or by its own input")
        self._busy = True
        try:
            response = self._next()
        except BaseException:
            self.close()
            raise
        finally:
            self._busy = False
        if response is None:
            self.close()
            raise StopIteration
        return response

    def _next(self) -> Response | None:
        """Return the next response, or None at the end."""
        self._draw()
        while not self._ready:
            news = self._stream.wait()
            if news == "outcomes":
                self._ready.extend(self._stream.take())
            elif news == "hungry" and self._source is not None and self._room < self._most:
                # Everything that waits is for hosts at their limits: look for others.
                self._room = min(self._most, self._room + self._concurrency)
                self._draw()
            elif news == "idle":
                if self._source is None:
                    return None
                self._draw()
            elif news == "hungry":
                self._stream.sate()
        self.last_index, response = self._ready.popleft()
        self._given += 1
        self._room = max(self._concurrency, self._room - 1)
        self._tell()
        if self._raises and response.error is not None:
            raise response.error
        return response

    def _draw(self) -> None:
        """Draw items while there is room; a slow input draws one, if responses are there."""
        start = time.perf_counter()
        items: list[str | Request] = []
        while self._source is not None and self._drawn - self._given < self._room:
            try:
                items.append(next(self._source))
            except StopIteration:
                self._source = None
                break
            self._drawn += 1
            is_slow = time.perf_counter() - start > _PATIENCE
            if is_slow or len(items) >= _CHUNK:
                self._push(items)
                items = []
            if is_slow and (self._ready or self._stream.news() == "outcomes"):
                break
        self._push(items)
        if self._source is None:
            self._stream.close()

    def _push(self, items: list[str | Request]) -> None:
        if items:
            self._stream.push(items)

    def _tell(self) -> None:
        if self._report is not None and time.monotonic() >= self._due:
            self._due = time.monotonic() + _REPORTED
            self._report(self._given)

    def close(self) -> None:
        """End the batch: what is under way is given up."""
        self._source = None
        self._ready.clear()
        self._stream.cancel()
        if self._report is not None:
            told, self._report = self._report, None
            told(self._given)
            told.close()

    def __enter__(self) -> FetchIterator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def fetch_iter(
    urls: Iterable[str | Request],
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
) -> FetchIterator:
    """Fetch pages, and yield the responses as they come.

    The input may be lazy, and infinite: an item is drawn, in the thread that reads, when there is
    room for it. Responses that were not read yet count, so that nothing is fetched far ahead of
    the reader. Requests go on while the reader is busy, on a thread that needs no interpreter.

    Parameters
    ----------
    urls : iterable of str or Request
        What to fetch. Items whose hosts are at their limits (`per_host`, `rate`) wait aside, up to
        16 times `concurrency` of them, while others go on.
    concurrency, per_host, rate, timeout, retries, headers, params, auth, follow_redirects, \
max_bytes, progress, on_error, retry_statuses, longest_wait, cookies, robots, proxy, verify, cert, \
http2
        As for `fetch`.

    Returns
    -------
    FetchIterator
        An iterator, also a context manager that ends the batch.

    Examples
    --------
    >>> import raddle
    >>> with raddle.fetch_iter(f"url {n}" for n in range(3)) as responses:
    ...     for response in responses:
    ...         print(response.url, response.ok)
    url 0 False
    url 1 False
    url 2 False
    """
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
    return FetchIterator(
        iter(urls),
        FetchStream(options),
        concurrency,
        on_error == "raise",
        report(progress, total, "page"),
    )
