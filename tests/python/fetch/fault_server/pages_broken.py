"""Pages that break the protocol, the connection or a promise."""

from __future__ import annotations

import asyncio
import itertools

from .pages_plain import HTML, filling
from .serve import page
from .wire import Exchange

TEXT = ("Content-Type", "text/plain")
PAUSE = 0.02


@page
async def silent(exchange: Exchange) -> None:
    """Never answers."""
    await exchange.until_client_leaves()


@page
async def slow_headers(exchange: Exchange) -> None:
    """A header every moment, without an end."""
    await exchange.raw(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        await asyncio.sleep(PAUSE)
        await exchange.raw(b"X-%d: slow\r\n" % number)


@page
async def slow_body(exchange: Exchange) -> None:
    """A byte every moment."""
    size = exchange.request.number("size", 1_000_000)
    await exchange.head(200, [TEXT, ("Content-Length", str(size))])
    for _ in range(size):
        await exchange.raw(b"x")
        await asyncio.sleep(PAUSE)


@page
async def stalled_body(exchange: Exchange) -> None:
    """Half of a body, and then nothing."""
    await exchange.head(200, [TEXT, ("Content-Length", "1000")])
    await exchange.raw(filling(500))
    await exchange.until_client_leaves()


@page
async def reset(exchange: Exchange) -> None:
    """A reset: before the answer, in its headers, or in its body."""
    where = exchange.request.query.get("where", "body")
    if where == "headers":
        await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-")
    elif where == "body":
        await exchange.head(200, [TEXT, ("Content-Length", "1000")])
        await exchange.raw(filling(500))
    exchange.reset()


@page
async def short(exchange: Exchange) -> None:
    """Fewer bytes than announced."""
    await exchange.head(200, [TEXT, ("Content-Length", "1000")])
    await exchange.raw(filling(500))
    exchange.close()


@page
async def long(exchange: Exchange) -> None:
    """More bytes than announced, which look like the answer to the next request."""
    await exchange.head(200, [TEXT, ("Content-Length", "10")])
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"
    await exchange.raw(filling(10) + poison * 3)


@page
async def lengths(exchange: Exchange) -> None:
    """Content-Length as the query gives it, several with commas between."""
    values = exchange.request.query["values"].split(",")
    await exchange.head(200, [TEXT, *(("Content-Length", value) for value in values)])
    await exchange.raw(filling(20))
    exchange.close()


CHUNKS = {
    "good": b"5\r\nhello\r\n6;note=1\r\n world\r\n0\r\nX-Trailer: yes\r\n\r\n",
    "size": b"zz\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "huge": b"FFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "joined": b"5\r\nhello6\r\n world\r\n0\r\n\r\n",
    "cut": b"5\r\nhello\r\n6\r\n wor",
    "endless": b"5\r\nhello\r\n",
}


@page
async def chunks(exchange: Exchange) -> None:
    """A body in chunks, good ones or bad."""
    how = exchange.request.query["how"]
    await exchange.head(200, [TEXT, ("Transfer-Encoding", "chunked")])
    await exchange.raw(CHUNKS[how])
    if how != "good":
        exchange.close()


@page
async def both(exchange: Exchange) -> None:
    """Chunks and a length that says otherwise."""
    await exchange.head(200, [TEXT, ("Content-Length", "3"), ("Transfer-Encoding", "chunked")])
    await exchange.raw(CHUNKS["good"])
    exchange.close()


HEADS = {
    "bytes": b"HTTP/1.1 200 OK\r\nX-Raw: caf\xe9 \xff\xfe\r\nContent-Length: 2\r\n\r\nok",
    "folded": b"HTTP/1.1 200 OK\r\nX-Folded: one\r\n two\r\nContent-Length: 2\r\n\r\nok",
    "colon": b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\nok",
    "name": b"HTTP/1.1 200 OK\r\nX bad\x01name: one\r\nContent-Length: 2\r\n\r\nok",
    "nul": b"HTTP/1.1 200 OK\r\nX-Nul: a\x00b\r\nContent-Length: 2\r\n\r\nok",
    "empty": b"HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok",
    "reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "reason-bytes": b"HTTP/1.1 200 S\xfc\xdf\r\nContent-Length: 2\r\n\r\nok",
    "status": b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok",
    "status-text": b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
    "old": b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello world",
    "none": b"hello world",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "until-close": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello world",
    "large": b"HTTP/1.1 200 OK\r\nX-Large: " + b"x" * 60_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "many": b"HTTP/1.1 200 OK\r\n"
    + b"".join(b"X-%d: v\r\n" % number for number in range(90))
    + b"Content-Length: 2\r\n\r\nok",
}


@page
async def head(exchange: Exchange) -> None:
    """An answer as bytes, by its name, and then the end of the connection."""
    await exchange.raw(HEADS[exchange.request.query["how"]])
    exchange.close()


@page
async def endless_headers(exchange: Exchange) -> None:
    """Headers without an end, as fast as they go."""
    await exchange.raw(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        await exchange.raw(b"X-%d: %s\r\n" % (number, b"x" * 1000))


@page
async def endless_body(exchange: Exchange) -> None:
    """A body without an end, with a length that says less or without any."""
    length = exchange.request.query.get("length")
    await exchange.head(200, [TEXT, *([("Content-Length", length)] if length else [])])
    while True:
        await exchange.raw(b"x" * 65536)


@page
async def closed_after(exchange: Exchange) -> None:
    """A whole answer that promises a further one, and then the end of the connection."""
    await exchange.send(200, [HTML, ("Connection", "keep-alive")], b"last")
    exchange.close()


@page
async def endless_continue(exchange: Exchange) -> None:
    """One interim answer after another."""
    while True:
        await exchange.raw(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(PAUSE)
