"""`fetch` and `get`: many pages, or one, on the calling thread."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from contextlib import nullcontext
from typing import Any, Literal

from . import _native
from ._fetch_options import make_options
from ._native import FetchOptions, FetchStream, Response
from ._progress import Progress, report
from ._request import Auth, Pairs, Request, Timeout

__all__ = ["Response", "fetch", "get"]


def check_urls(urls: object) -> None:
    """Refuse what only looks like several URLs."""
    if isinstance(urls, (str, bytes, Request)):
        raise TypeError(
            f"urls must be a list of URLs, not one {type(urls).__name__}: "
            f"write raddle.fetch([url]), or raddle.get(url)"
        )
    if not isinstance(urls, Iterable):
        raise TypeError(f"urls must be a list of URLs, not {type(urls).__name__}")


def fetch(
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
) -> list[Response]:
    """Fetch many pages, and return the responses in the order of the input.

    The calling thread does all the work, without the interpreter; no thread is started, and
    connections are kept for the next call. One bad URL is one response with an ``error``.

    Parameters
    ----------
    urls : iterable of str or Request
        What to fetch.
    concurrency : int
        Requests under way at a time.
    per_host : int, optional
        Requests under way at a time to one host (name or address, whatever the port).
    rate : float, optional
        Requests a second to one host, evenly spaced.
    timeout : float or Timeout, optional
        Seconds for each attempt, redirects included, counted from when it is sent; None for no
        limit. `Timeout` has separate limits for the connection and for silence.
    retries : int
        How often a request is tried again if it failed and that is safe: if it never reached the
        server, if its method may be repeated (not POST), or if the server asks for it.
    headers, params : mapping or pairs, optional
        Headers of every request, and what is added to the query of every URL.
    auth : tuple of (str, str), optional
        User and password. A redirect to another origin goes without them, and without the headers
        ``Authorization`` and ``Cookie``; other headers, such as ``X-API-Key``, go along.
    follow_redirects : bool or int
        Whether redirects are followed, or how many at most (True: 20).
    max_bytes : int, optional
        The largest body, in bytes once decoded; a larger one ends early with `TooLarge`. None is
        no limit: a few kilobytes that were packed well may become a gigabyte.
    progress : bool or callable, optional
        A bar on a terminal or in a notebook (None), always (True), never (False), or a function
        that is called with the number of items done and of all, at most ten times a second.
    on_error : "return" or "raise"
        Whether a failed request is a response with an ``error``, or ends the call with it.
    retry_statuses : tuple of int
        Statuses after which a request is tried again. ``Retry-After`` is obeyed, for the whole
        host.
    longest_wait : float
        The longest wait before another attempt, in seconds; a server that asks for more is not
        asked again.
    cookies : bool
        Whether cookies are kept, within this call.
    robots : bool
        Whether robots.txt is obeyed (`RobotsDenied`), by the product named in ``User-Agent``.
    proxy : str or False, optional
        The URL of a proxy (http, https, socks5 or socks5h); False for none; by default
        what ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say.
    verify : bool or path
        True to trust the system's certificate authorities, a PEM file to trust those in it, False
        to trust anyone.
    cert : path or tuple of paths, optional
        The client's own certificate, and its key if that is in another file.
    http2 : bool
        Whether HTTP/2 is offered.

    Returns
    -------
    list of Response
        One for each item.

    Raises
    ------
    TypeError, ValueError
        If an argument, or an item, is none of these.
    FetchError
        With ``on_error="raise"``, the first that occurs.

    Examples
    --------
    >>> import raddle
    >>> for response in raddle.fetch(["no url", "http://localhost:0/"]):
    ...     print(response.ok, response.error)
    False no url: this is no URL: it must begin with http:// or https://
    False http://localhost:0/: no server listens on port 0
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
        on_error=on_error,
        retry_statuses=retry_statuses,
        longest_wait=longest_wait,
        cookies=cookies,
        robots=robots,
        proxy=proxy,
        verify=verify,
        cert=cert,
        http2=http2,
    )
    if not isinstance(urls, Sized):
        # Its items may be slow to come: requests go on meanwhile.
        return _gather(iter(urls), options, concurrency, on_error == "raise", progress)
    items = list(urls)
    told = report(progress, len(items), "page")
    with told or nullcontext():
        return _native.fetch(items, options, told)


def _gather(
    urls: Iterator[str | Request],
    options: FetchOptions,
    concurrency: int,
    raises: bool,
    progress: Progress,
) -> list[Response]:
    """Fetch what a lazy input draws, and put the responses into its order."""
    from ._fetch_iter import FetchIterator

    told = report(progress, None, "page")
    responses: dict[int, Response] = {}
    with FetchIterator(urls, FetchStream(options), concurrency, raises, told) as batch:
        for response in batch:
            responses[batch.last_index] = response
    return [responses[index] for index in sorted(responses)]


def get(
    url: str | Request,
    *,
    timeout: float | Timeout | None = 10.0,
    retries: int = 2,
    headers: Pairs | None = None,
    params: Pairs | None = None,
    auth: Auth | None = None,
    follow_redirects: bool | int = True,
    max_bytes: int | None = None,
    retry_statuses: tuple[int, ...] = (429, 503),
    longest_wait: float = 30.0,
    cookies: bool = False,
    robots: bool = False,
    proxy: str | Literal[False] | None = None,
    verify: bool | str | os.PathLike[str] = True,
    cert: str | os.PathLike[str] | tuple[Any, Any] | None = None,
    http2: bool = True,
) -> Response:
    """Fetch one page; raise if there is no answer.

    It is safe from many threads, and keeps connections for the calls to come.

    Parameters
    ----------
    url : str or Request
        What to fetch.
    timeout, retries, headers, params, auth, follow_redirects, max_bytes, retry_statuses, \
longest_wait, cookies, robots, proxy, verify, cert, http2
        As for `fetch`.

    Returns
    -------
    Response
        The answer, whatever its status: see ``raise_for_status()``.

    Raises
    ------
    FetchError
        If there is no answer.

    Examples
    --------
    >>> import raddle
    >>> raddle.get("no url")
    Traceback (most recent call last):
    ...
    raddle._fetch_errors.InvalidURL: no url: this is no URL: it must begin with http:// or https://
    """
    if not isinstance(url, (str, Request)):
        raise TypeError(f"url must be a str or a raddle.Request, not {type(url).__name__}")
    made = make_options(
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
    )
    return _native.get(url, made)
