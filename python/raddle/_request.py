"""One request: a URL, and what differs from a plain GET."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, TypeAlias

#: Headers and parameters: a mapping, whose values may be lists, or pairs, whose names may repeat.
Pairs: TypeAlias = "Mapping[str, Any] | Iterable[tuple[str, Any]]"
#: User and password.
Auth: TypeAlias = "tuple[str, str]"


class Timeout:
    """Time limits of a request, in seconds; None is no limit.

    They are those of one attempt, redirects included, and start when it is sent.

    Parameters
    ----------
    total : float, optional
        From the first step to the last byte of the body.
    connect : float, optional
        For the connection: name lookup, TCP and TLS.
    read : float, optional
        For the server's silence: until the headers are there, and between two pieces of the body.

    Examples
    --------
    >>> Timeout(total=30, connect=2)
    Timeout(total=30, connect=2, read=None)
    """

    __slots__ = ("connect", "read", "total")

    def __init__(
        self, total: float | None = None, connect: float | None = None, read: float | None = None
    ) -> None:
        self.total = total
        self.connect = connect
        self.read = read
        self._seconds()

    def _seconds(self) -> tuple[float | None, float | None, float | None]:
        """Check the limits, and name the one that is wrong."""
        limits = (self.total, self.connect, self.read)
        for name, seconds in zip(("total", "connect", "read"), limits):
            check_seconds(name, seconds)
        total, connect, read = (None if s in (None, inf) else float(s or 0) for s in limits)
        return total, connect, read

    def __eq__(self, other: object) -> bool:
        return self._seconds() == other._seconds() if isinstance(other, Timeout) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._seconds())

    def __repr__(self) -> str:
        return f"Timeout(total={self.total!r}, connect={self.connect!r}, read={self.read!r})"


def check_seconds(name: str, seconds: object) -> None:
    """Refuse what is no time limit."""
    if seconds is None:
        return
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise TypeError(f"{name}= must be seconds or None, not {seconds!r}")
    if not seconds > 0:
        raise ValueError(f"{name}= must be more than 0 seconds, not {seconds!r}")
    read_float(name, seconds)


def read_float(name: str, number: float) -> float:
    """Make a float of a number, unless it is a whole number beyond all of them."""
    try:
        return float(number)
    except OverflowError:
        raise ValueError(f"{name}= is too large") from None


def read_timeout(
    timeout: float | Timeout | None,
) -> tuple[float | None, float | None, float | None]:
    """Make time limits ready for the engine: total, connect, read."""
    if isinstance(timeout, Timeout):
        return timeout._seconds()
    check_seconds("timeout", timeout)
    return (None if timeout in (None, inf) else float(timeout or 0), None, None)


def read_headers(headers: Pairs | None) -> list[tuple[str, bytes]]:
    """Make headers ready for the engine, which checks what they hold."""
    return [(name, _header_bytes(name, value)) for name, value in read_pairs(headers, "headers")]


def read_params(params: Pairs | None) -> list[tuple[str, str]]:
    """Make parameters ready for the engine; those that are None are left out."""
    pairs = read_pairs(params, "params")
    return [
        (_encodable(name, name), _param_text(name, value))
        for name, value in pairs
        if value is not None
    ]


def read_pairs(pairs: Pairs | None, argument: str) -> list[tuple[str, Any]]:
    """Return a mapping or pairs as pairs; a list as a mapping's value stands for several."""
    if pairs is None:
        return []
    wrong = _wrong_pairs(argument, pairs)
    if not isinstance(pairs, Iterable):
        raise TypeError(wrong)
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    found: list[tuple[str, Any]] = []
    for item in items:
        if isinstance(item, str) or len(item) != 2:
            raise TypeError(wrong)
        name, value = item
        if not isinstance(name, str):
            raise TypeError(f"{argument}= must have names of type str, not {name!r}")
        several = value if isinstance(value, (list, tuple)) else [value]
        found.extend((name, one) for one in several)
    return found


def _kept(argument: str, pairs: Pairs | None) -> dict[str, Any] | list[tuple[str, Any]]:
    """Copy a mapping or pairs, which may be an iterator."""
    if isinstance(pairs, Mapping):
        return dict(pairs)
    if pairs is not None and not isinstance(pairs, Iterable):
        raise TypeError(_wrong_pairs(argument, pairs))
    return list(pairs or ())


def _wrong_pairs(argument: str, pairs: object) -> str:
    return f"{argument}= must be a mapping or a list of pairs, not {pairs!r}"


def read_auth(auth: Auth | None) -> Auth | None:
    """Check credentials."""
    if auth is None:
        return None
    if (
        isinstance(auth, (tuple, list))
        and len(auth) == 2
        and all(isinstance(part, str) for part in auth)
    ):
        return (auth[0], auth[1])
    raise TypeError(
        "auth= must be a pair (user, password); "
        'a token goes into headers={"Authorization": "Bearer ..."}'
    )


def _header_bytes(name: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            return _utf8("headers", name, value)
    if isinstance(value, (int, float)):
        return str(value).encode()
    kind = type(value).__name__
    raise TypeError(f"headers= must have values of type str or bytes, and {name!r} has {kind}")


def _param_text(name: str, value: object) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError(
                f"params= has bytes for {name!r} that are no UTF-8: {value!r}"
            ) from None
    return _encodable(name, str(value))


def _encodable(name: str, text: str) -> str:
    _utf8("params", name, text)
    return text


def _utf8(argument: str, name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        why = "a character that is none (a surrogate)"
        raise ValueError(f"{argument}= has {why} in {name!r}: {text!r}") from None


class Request:
    """One request: a URL, and what differs from a plain GET.

    Parameters
    ----------
    url : str
        An ``http`` or ``https`` URL. A user and password in it are sent as credentials.
    method : str
        The method, in upper or lower case.
    headers : mapping or pairs, optional
        Headers of this request; those of the call under the same name do not count.
    params : mapping or pairs, optional
        What is added to the URL's query.
    body : bytes or str, optional
        The body; a text is sent in UTF-8.
    json : object, optional
        A body that is sent as JSON, in place of `body`.
    auth : tuple of (str, str), optional
        A user and a password.
    timeout : float or Timeout, optional
        Time limits in place of the call's.

    Examples
    --------
    >>> Request("http://127.0.0.1/find", method="POST", json={"q": "word"})
    Request('http://127.0.0.1/find', method='POST')
    """

    __slots__ = ("auth", "body", "headers", "json", "method", "params", "timeout", "url")

    def __init__(
        self,
        url: str,
        method: str = "GET",
        *,
        headers: Pairs | None = None,
        params: Pairs | None = None,
        body: bytes | str | None = None,
        json: object = None,
        auth: Auth | None = None,
        timeout: float | Timeout | None = None,
    ) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}: use str(url)")
        if not isinstance(method, str):
            raise TypeError(f"method= must be a str, not {method!r}")
        if body is not None and json is not None:
            raise TypeError("a request has either body= or json=, not both")
        if body is not None and not isinstance(body, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"body= must be bytes or str, not {type(body).__name__}")
        self.url = url
        self.method = method.upper()
        self.headers = _kept("headers", headers)
        self.params = _kept("params", params)
        self.body = body
        self.json = json
        self.auth = read_auth(auth)
        self.timeout = timeout
        read_headers(self.headers)
        read_params(self.params)
        if timeout is not None:
            read_timeout(timeout)

    def _parts(
        self,
    ) -> tuple[
        str,
        list[tuple[str, bytes]],
        list[tuple[str, str]],
        bytes | None,
        Auth | None,
        tuple[float | None, float | None, float | None] | None,
    ]:
        headers = read_headers(self.headers)
        body: bytes | None
        if self.json is not None:
            from json import dumps

            try:
                body = dumps(self.json, ensure_ascii=False, allow_nan=False).encode()
            except Exception as error:  # whatever the object does when it is read
                raise ValueError(f"json= cannot be sent: {error}") from error
            if not any(name.lower() == "content-type" for name, _ in headers):
                headers.append(("content-type", b"application/json"))
        elif isinstance(self.body, str):
            try:
                body = self.body.encode()
            except UnicodeEncodeError:
                raise ValueError(
                    "body= has a character that is none (a surrogate): pass bytes, or look how the "
                    "text was decoded"
                ) from None
        else:
            body = None if self.body is None else bytes(self.body)
        limits = None if self.timeout is None else read_timeout(self.timeout)
        return (self.method, headers, read_params(self.params), body, self.auth, limits)

    def _state(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._state() == other._state() if isinstance(other, Request) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        method = "" if self.method == "GET" else f", method={self.method!r}"
        return f"Request({self.url!r}{method})"
