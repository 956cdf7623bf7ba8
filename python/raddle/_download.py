"""`download`: pages straight to files, whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, TypeAlias

from . import _native
from ._fetch import check_urls
from ._fetch_errors import FetchError, make_error
from ._fetch_options import make_options
from ._progress import Progress, report
from ._request import Auth, Pairs, Request, Timeout

#: What to download: URLs or requests, pairs of these and names, or a mapping from these to names.
Items: TypeAlias = (
    "Iterable[str | Request | tuple[str | Request, str | None]] | Mapping[str, str | None]"
)


class Download:
    """What became of one download.

    Attributes
    ----------
    url : str
        The URL that was asked for.
    path : pathlib.Path or None
        Where the file is; None if there is none.
    status : int or None
        The status of the last answer.
    size : int
        The file's size in bytes; if there is none, what had come.
    resumed : bool
        Whether it goes on from what an earlier attempt or call had left.
    checksum : str or None
        The checksum that was asked for, and is right.
    elapsed : float
        Seconds from the moment the last attempt was sent to its end.
    attempts : int
        How often it was tried.
    error : FetchError or None
        Why there is no file.

    Examples
    --------
    >>> import raddle, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     download = raddle.download(["no url"], folder)[0]
    >>> download.ok, download.path, type(download.error).__name__
    (False, None, 'InvalidURL')
    """

    __slots__ = (
        "attempts",
        "checksum",
        "elapsed",
        "error",
        "path",
        "resumed",
        "size",
        "status",
        "url",
    )

    def __init__(
        self,
        url: str,
        path: Path | None,
        status: int | None,
        size: int,
        resumed: bool,
        checksum: str | None,
        elapsed: float,
        attempts: int,
        error: FetchError | None,
    ) -> None:
        self.url = url
        self.path = path
        self.status = status
        self.size = size
        self.resumed = resumed
        self.checksum = checksum
        self.elapsed = elapsed
        self.attempts = attempts
        self.error = error

    @property
    def ok(self) -> bool:
        """Whether the file is there."""
        return self.error is None

    def raise_for_status(self) -> Download:
        """Raise the error if there is one; else return the download."""
        if self.error is not None:
            raise self.error
        return self

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<Download {type(self.error).__name__} {self.error}>"
        how = ", resumed," if self.resumed else ""
        return f"<Download {self.path} {self.size:,} bytes{how} in {self.elapsed:.2f} s>"


def download(
    urls: Items,
    into: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    checksum: Mapping[str, str] | None = None,
    resume: bool = True,
    concurrency: int = 64,
    per_host: int | None = None,
    rate: float | None = None,
    timeout: float | Timeout | None = Timeout(connect=10.0, read=30.0),  # noqa: B008 - immutable
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
) -> list[Download]:
    """Download files into a folder; each is whole, or not there.

    A file is written under a temporary, hidden name and renamed when it is whole. One that was cut
    is gone on with, in this call or a later one, if the server says that its file is still the
    same. Memory is the same for any size. The data is not forced to the disk (``fsync``).

    Parameters
    ----------
    urls : iterable of str, Request or (str or Request, name), or mapping to names
        What to download. Without a given name, a file is called as the server says
        (``Content-Disposition``), else as the last part of the URL's path; neither can lead out of
        the folder, hide a file or name a device.
    into : path
        The folder; it is made if it is missing.
    overwrite : bool
        Whether files that are there are replaced. Otherwise, and for files of one call, a second
        ``name.ext`` becomes ``name (2).ext``.
    checksum : mapping from URL to str, optional
        What files must be, such as ``"sha256:..."``; also sha512, sha384, sha1 and md5. A file
        that is something else is removed.
    resume : bool
        Whether to go on with what an earlier attempt or call has left.
    timeout : float or Timeout, optional
        As for `fetch`. By default 10 s for the connection and 30 s for silence, and no limit for
        the whole, since files may be large.
    concurrency, per_host, rate, retries, headers, params, auth, follow_redirects, max_bytes, \
progress, on_error, retry_statuses, longest_wait, cookies, robots, proxy, verify, cert, http2
        As for `fetch`.

    Returns
    -------
    list of Download
        One for each item, in the order of the input.

    Raises
    ------
    TypeError, ValueError
        If an argument, a name or a checksum is none of these; nothing is sent then.
    OSError
        If the folder cannot be made.

    Examples
    --------
    >>> import raddle, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(raddle.download(["no url"], folder)[0].error)
    no url: this is no URL: it must begin with http:// or https://
    """
    items = _read_items(urls, checksum)
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
    folder = Path(into)
    told = report(progress, len(items), "file")
    folder.mkdir(parents=True, exist_ok=True)
    with told or nullcontext():
        done = _native.download(items, folder, options, bool(overwrite), bool(resume), told)
    return [_made(*parts) for parts in done]


def _made(
    url: str,
    path: Path | None,
    status: int | None,
    size: int,
    resumed: bool,
    checksum: str | None,
    elapsed: float,
    attempts: int,
    error: tuple[str, str, str, int, Any] | None,
) -> Download:
    made = None if error is None else make_error(*error)
    place = None if path is None else Path(path)
    return Download(url, place, status, size, resumed, checksum, elapsed, attempts, made)


def _read_items(
    urls: Items, checksum: Mapping[str, str] | None
) -> list[tuple[str | Request, str | None, str | None]]:
    """Check items, names and checksums before anything is sent."""
    check_urls(urls)
    sums = _read_checksums(checksum)
    items: list[tuple[str | Request, str | None, str | None]] = []
    for index, given in enumerate(urls.items() if isinstance(urls, Mapping) else urls):
        item, name = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        if not isinstance(item, (str, Request)):
            raise TypeError(
                f"item {index} of urls must be a URL (str), a raddle.Request, or a pair of one and "
                f"a name, not {given!r}"
            )
        if name is not None:
            if not isinstance(name, str):
                raise TypeError(f"item {index} of urls has a name that is no str: {name!r}")
            _native.check_name(name)
        url = item if isinstance(item, str) else item.url
        items.append((item, name, sums.get(url)))
    missing = set(sums) - {item if isinstance(item, str) else item.url for item, _, _ in items}
    if missing:
        raise ValueError(f"checksum= has a URL that is not downloaded: {min(missing)!r}")
    return items


def _read_checksums(checksum: Mapping[str, str] | None) -> dict[str, str]:
    if checksum is None:
        return {}
    if not isinstance(checksum, Mapping):
        raise TypeError(f"checksum= must be a mapping from URLs to checksums, not {checksum!r}")
    for url, text in checksum.items():
        if not isinstance(text, str):
            raise TypeError(f"checksum= must have checksums of type str, not {text!r} ({url})")
        _native.check_checksum(text)
    return dict(checksum)
