"""What can go wrong with a request: one class for each cause, with the fitting standard parent.

Each has ``url`` and ``attempts``, says what happened and what to do, and can be pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ._raddle_error import RaddleError

if TYPE_CHECKING:
    from ._native import Response

Phase = Literal["connect", "headers", "body"]


class FetchError(RaddleError):
    """A request has no answer, or not the one that was asked for.

    Parameters
    ----------
    message : str
        What happened, and what to do.
    url : str
        The URL that was being fetched; after redirects, the last one.
    attempts : int
        How often it was tried; 0 if it could not be sent at all.

    Examples
    --------
    >>> import raddle
    >>> error = raddle.fetch(["no url"])[0].error
    >>> print(error)
    no url: this is no URL: it must begin with http:// or https://
    >>> error.url, error.attempts
    ('no url', 0)
    """

    def __init__(self, message: str, url: str = "", attempts: int = 0) -> None:
        # Not that of OSError, which some have for a parent, and which would read an errno here.
        BaseException.__init__(self, message, url, attempts)
        self.message = message
        self.url = url
        self.attempts = attempts

    def __str__(self) -> str:
        tried = f" (tried {self.attempts} times)" if self.attempts > 1 else ""
        return f"{self.url}: {self.message}{tried}" if self.url else f"{self.message}{tried}"


class InvalidRequest(FetchError, ValueError):
    r"""A method, header or file name that must not be used, such as one with a line break.

    Examples
    --------
    >>> import raddle
    >>> request = raddle.Request("http://127.0.0.1/", headers={"X-Note": "a\nb"})
    >>> isinstance(raddle.fetch([request])[0].error, raddle.InvalidRequest)
    True
    """


class InvalidURL(InvalidRequest):
    """The URL cannot be read, or is none that can be fetched.

    Examples
    --------
    >>> import raddle
    >>> isinstance(raddle.fetch(["ftp://127.0.0.1/"])[0].error, raddle.InvalidURL)
    True
    """


class ConnectionFailed(FetchError, ConnectionError):
    """No connection could be made, or the one that was made broke.

    Examples
    --------
    >>> import raddle
    >>> error = raddle.fetch(["http://127.0.0.1:1/"], retries=0)[0].error
    >>> isinstance(error, raddle.ConnectionFailed) and isinstance(error, ConnectionError)
    True
    """


class DNSFailed(ConnectionFailed):
    """The host's name has no address.

    Examples
    --------
    >>> import raddle
    >>> isinstance(raddle.fetch(["http://nowhere.invalid/"])[0].error, raddle.DNSFailed)
    True
    """


class TLSFailed(ConnectionFailed):
    """The TLS handshake failed, for example for a wrong, expired or unknown certificate.

    Examples
    --------
    >>> issubclass(TLSFailed, ConnectionFailed)
    True
    """


class FetchTimeout(FetchError, TimeoutError):
    """A time limit of a request passed.

    Parameters
    ----------
    message, url, attempts
        As for `FetchError`.
    phase : "connect", "headers" or "body"
        What was under way: the connection, the wait for the answer's headers, or its body.

    Examples
    --------
    >>> try:
    ...     raise FetchTimeout("the server is slow", "http://127.0.0.1/", 1, "body")
    ... except TimeoutError as error:
    ...     print(error.phase, error.url)
    body http://127.0.0.1/
    """

    def __init__(
        self, message: str, url: str = "", attempts: int = 0, phase: Phase = "headers"
    ) -> None:
        super().__init__(message, url, attempts)
        self.args = (message, url, attempts, phase)
        self.phase: Phase = phase


class TooManyRedirects(FetchError):
    """There were more redirects than allowed.

    Examples
    --------
    >>> issubclass(TooManyRedirects, FetchError)
    True
    """


class TooLarge(FetchError):
    """The body is larger than ``max_bytes``.

    Examples
    --------
    >>> issubclass(TooLarge, FetchError)
    True
    """


class InvalidResponse(FetchError):
    """The server's answer is not HTTP, or its encoding is broken.

    Examples
    --------
    >>> issubclass(InvalidResponse, FetchError)
    True
    """


class RobotsDenied(FetchError):
    """The site's robots.txt does not want it.

    Examples
    --------
    >>> issubclass(RobotsDenied, FetchError)
    True
    """


class FetchCancelled(FetchError):
    """The batch ended before this request.

    Examples
    --------
    >>> issubclass(FetchCancelled, FetchError)
    True
    """


class ChecksumMismatch(FetchError, ValueError):
    """A download is not what its checksum says.

    Examples
    --------
    >>> issubclass(ChecksumMismatch, ValueError)
    True
    """


class FileFailed(FetchError, OSError):
    """A download's file could not be written.

    Examples
    --------
    >>> issubclass(FileFailed, OSError)
    True
    """


class HTTPStatusError(FetchError):
    """The answer's status is 400 or above.

    Parameters
    ----------
    message, url, attempts
        As for `FetchError`.
    response : Response, optional
        The answer; a download has none.

    Examples
    --------
    >>> error = HTTPStatusError("the server answered 404 Not Found", "http://127.0.0.1/", 1)
    >>> print(error)
    http://127.0.0.1/: the server answered 404 Not Found
    """

    def __init__(
        self, message: str, url: str = "", attempts: int = 0, response: Response | None = None
    ) -> None:
        super().__init__(message, url, attempts)
        self.args = (message, url, attempts, response)
        self.response = response


_CLASSES: dict[str, type[FetchError]] = {
    "url": InvalidURL,
    "request": InvalidRequest,
    "dns": DNSFailed,
    "connection": ConnectionFailed,
    "tls": TLSFailed,
    "redirects": TooManyRedirects,
    "large": TooLarge,
    "response": InvalidResponse,
    "robots": RobotsDenied,
    "cancelled": FetchCancelled,
    "checksum": ChecksumMismatch,
    "file": FileFailed,
    "status": HTTPStatusError,
}


def make_error(kind: str, url: str, message: str, attempts: int, phase: Phase | None) -> FetchError:
    """Make the exception for a word of the engine."""
    if phase is not None:
        return FetchTimeout(message, url, attempts, phase)
    return _CLASSES[kind](message, url, attempts)


def make_status_error(response: Response) -> HTTPStatusError:
    """Make the exception for a status of 400 or above."""
    from http import HTTPStatus

    status = response.status or 0
    try:
        reason = f" {HTTPStatus(status).phrase}"
    except ValueError:
        reason = ""
    whose = "the request is at fault" if status < 500 else "the server is at fault"
    message = f"the server answered {status}{reason}: {whose}"
    return HTTPStatusError(message, response.url, response.attempts, response)
