"""Pages that answer as asked: what was sent, a given size, a given status, a given moment."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import time

from .serve import page
from .wire import Exchange

HTML = ("Content-Type", "text/html; charset=utf-8")
JSON = ("Content-Type", "application/json")


def filling(size: int) -> bytes:
    """Return a body that differs at each place, so that a shifted one is seen."""
    return (b"%07d\n" * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]


@page
async def ok(exchange: Exchange) -> None:
    """A body of ``size`` bytes."""
    body = filling(exchange.request.number("size", 13))
    await exchange.send(200, [("Content-Type", "text/plain")], body)


@page
async def echo(exchange: Exchange) -> None:
    """What was received, as JSON."""
    request = exchange.request
    told = {
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "body": base64.b64encode(request.body).decode(),
    }
    await exchange.send(200, [JSON], json.dumps(told).encode())


@page
async def status(exchange: Exchange) -> None:
    """A given status."""
    code = exchange.request.number("code", 200)
    body = b"" if code in (204, 304) else f"this is {code}".encode()
    await exchange.send(code, [HTML], body)


@page
async def given(exchange: Exchange) -> None:
    """A body and headers that the query gives, as ``body=`` and ``header=Name: value``."""
    query = exchange.request.query
    headers = [line.partition(": ") for line in query.get("header", "").split("\n") if line]
    body = query.get("body", "").encode("utf-8", "surrogateescape")
    await exchange.send(
        exchange.request.number("code", 200), [(name, value) for name, _, value in headers], body
    )


@page
async def hold(exchange: Exchange) -> None:
    """An answer that waits for its gate."""
    await exchange.hold(exchange.request.query.get("gate", "gate"))
    await exchange.send(200, [HTML], b"released")


@page
async def later(exchange: Exchange) -> None:
    """An answer after some seconds: a test may only ask that it took no less."""
    await asyncio.sleep(float(exchange.request.query["seconds"]))
    await exchange.send(200, [HTML], b"later")


@page
async def busy(exchange: Exchange) -> None:
    """``code`` with Retry-After for the first ``times`` requests, then an answer."""
    request = exchange.request
    key = f"{request.token} {request.target}"
    if exchange.log.attempt(key) > request.number("times", 1):
        await exchange.send(200, [HTML], b"at last")
        return
    headers = [HTML]
    seconds = request.query.get("after")
    if seconds is not None and request.query.get("as") == "date":
        headers.append(
            ("Retry-After", email.utils.formatdate(time.time() + int(seconds), False, True))
        )
    elif seconds is not None:
        headers.append(("Retry-After", seconds))
    await exchange.send(request.number("code", 503), headers, b"not now")


@page
async def flaky(exchange: Exchange) -> None:
    """Reset or closed without an answer for the first ``times`` requests, then an answer."""
    request = exchange.request
    if exchange.log.attempt(f"{request.token} {request.target}") > request.number("times", 1):
        await exchange.send(200, [HTML], b"at last")
    elif request.query.get("how") == "reset":
        exchange.reset()
    else:
        exchange.close()


@page
async def large(exchange: Exchange) -> None:
    """``size`` bytes, written piece by piece from one piece."""
    size = exchange.request.number("size", 1 << 20)
    piece = bytes(range(256)) * 256
    await exchange.head(200, [("Content-Length", str(size))])
    for start in range(0, size, len(piece)):
        await exchange.raw(piece[: size - start])
