"""The options of a call, checked so that a wrong one is named where it was given."""

from __future__ import annotations

import os
from typing import Any, Literal

# Loaded with the first call, not with the first error: that may be that no file can be opened.
from . import _fetch_errors, _headers  # noqa: F401
from ._native import FetchOptions
from ._request import (
    Auth,
    Pairs,
    Timeout,
    read_auth,
    read_float,
    read_headers,
    read_params,
    read_timeout,
)

#: As many redirects as browsers follow.
_REDIRECTS = 20
#: The largest counts and sizes that the engine can count to.
_MOST_ITEMS = 2**31 - 1
_MOST_BYTES = 2**63 - 1


def make_options(
    *,
    concurrency: int = 64,
    per_host: int | None = None,
    rate: float | None = None,
    timeout: float | Timeout | None = 10.0,
    retries: int = 2,
    retry_statuses: tuple[int, ...] = (429, 503),
    longest_wait: float = 30.0,
    headers: Pairs | None = None,
    params: Pairs | None = None,
    auth: Auth | None = None,
    follow_redirects: bool | int = True,
    max_bytes: int | None = None,
    cookies: bool = False,
    robots: bool = False,
    proxy: str | Literal[False] | None = None,
    verify: bool | str | os.PathLike[str] = True,
    cert: str | os.PathLike[str] | tuple[Any, Any] | None = None,
    http2: bool = True,
    on_error: Literal["return", "raise"] = "return",
) -> FetchOptions:
    """Check the options of a call, and make them ready for the engine."""
    if on_error not in ("return", "raise"):
        raise ValueError(f'on_error= must be "return" or "raise", not {on_error!r}')
    values: dict[str, Any] = {
        "concurrency": _count("concurrency", concurrency, 1),
        "timeout": read_timeout(timeout),
        "retries": _count("retries", retries, 0),
        "retry_statuses": [_status(status) for status in retry_statuses],
        "longest_wait": _positive("longest_wait", longest_wait),
        "redirects": _redirects(follow_redirects),
        "cookies": bool(cookies),
        "robots": bool(robots),
        "http2": bool(http2),
        "raises": on_error == "raise",
    }
    if per_host is not None:
        values["per_host"] = _count("per_host", per_host, 1)
    if rate is not None:
        values["rate"] = _positive("rate", rate)
    if max_bytes is not None:
        values["max_bytes"] = _count("max_bytes", max_bytes, 0, _MOST_BYTES)
    if headers is not None:
        values["headers"] = read_headers(headers)
    if params is not None:
        values["params"] = read_params(params)
    if auth is not None:
        values["auth"] = read_auth(auth)
    _connection(values, proxy, verify, cert)
    return FetchOptions(values)


def _connection(values: dict[str, Any], proxy: object, verify: object, cert: object) -> None:
    """Check what connections are made with."""
    if proxy is False:
        values["proxy"] = ""
    elif isinstance(proxy, str) and proxy:
        values["proxy"] = proxy
    elif proxy is not None:
        raise TypeError(f"proxy= must be a URL, None (as the environment says) or False: {proxy!r}")
    if isinstance(verify, (str, os.PathLike)):
        values["verify"] = _file("verify", verify)
    elif isinstance(verify, bool):
        values["verify"] = verify
    else:
        raise TypeError(f"verify= must be True, False or the path of a PEM file, not {verify!r}")
    if cert is not None:
        pair = cert if isinstance(cert, (tuple, list)) else (cert, cert)
        if len(pair) != 2 or not all(isinstance(part, (str, os.PathLike)) for part in pair):
            raise TypeError(f"cert= must be a path or a pair (certificate, key), not {cert!r}")
        values["cert"] = (_file("cert", pair[0]), _file("cert", pair[1]))


def _file(name: str, path: str | os.PathLike[str]) -> str:
    text = os.fsdecode(path)
    if not os.path.isfile(text):
        raise FileNotFoundError(f"{name}={text!r}: there is no such file")
    return os.path.abspath(text)


def _count(name: str, value: object, least: int, most: int = _MOST_ITEMS) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}= must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name}= must be at least {least}, not {value}")
    if value > most:
        raise ValueError(f"{name}= must be at most {most}: leave it out, or name what is needed")
    return value


def _status(value: object) -> int:
    status = _count("retry_statuses", value, 100)
    if status > 599:
        raise ValueError(f"retry_statuses= must be statuses of HTTP, and {status} is none")
    return status


def _positive(name: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name}= must be a number, not {value!r}")
    if not value > 0:
        raise ValueError(f"{name}= must be more than 0, not {value!r}")
    return read_float(name, value)


def _redirects(follow: object) -> int:
    if isinstance(follow, bool):
        return _REDIRECTS if follow else 0
    return _count("follow_redirects", follow, 0)
