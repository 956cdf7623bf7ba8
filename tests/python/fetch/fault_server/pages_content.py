"""Pages whose content is encoded, of some charset, elsewhere, or remembered by a cookie."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import brotli
import zstandard

from .pages_plain import HTML, JSON, filling
from .serve import page
from .wire import Exchange

BODY = filling(5000)
PIECE = 1 << 20  # of zeros, in a bomb


def raw_deflate(data: bytes, end: int = zlib.Z_FINISH) -> bytes:
    """Compress without any frame; ``Z_FULL_FLUSH`` gives a piece that can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(end)


GZIP = gzip.compress(BODY)
ENCODED = {
    "gzip": ("gzip", GZIP),
    "upper": ("GZIP", GZIP),
    "x-gzip": ("x-gzip", GZIP),
    "members": ("gzip", gzip.compress(BODY[:2000]) + gzip.compress(BODY[2000:])),
    "deflate": ("deflate", zlib.compress(BODY)),
    "raw-deflate": ("deflate", raw_deflate(BODY)),
    "br": ("br", brotli.compress(BODY)),
    "zstd": ("zstd", zstandard.compress(BODY)),
    "frames": ("zstd", zstandard.compress(BODY[:2000]) + zstandard.compress(BODY[2000:])),
    "identity": ("identity", BODY),
    "twice": ("gzip, br", brotli.compress(GZIP)),
    "unknown": ("rot13", BODY),
    "empty": ("gzip", b""),
    "cut": ("gzip", GZIP[: len(GZIP) // 2]),
    "rubbish": ("gzip", b"this was never compressed"),
    "cut-br": ("br", brotli.compress(BODY)[:20]),
    "cut-zstd": ("zstd", zstandard.compress(BODY)[:20]),
    "rubbish-deflate": ("deflate", b"this was never compressed"),
}


@page
async def encoded(exchange: Exchange) -> None:
    """The same body in each content encoding, and some that are none."""
    encoding, body = ENCODED[exchange.request.query["how"]]
    headers = [("Content-Type", "text/plain"), ("Content-Encoding", encoding)]
    await exchange.send(200, headers, body)


BOMBS = {
    # Opening of the frame, and a piece that stands for PIECE zeros and may be repeated.
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\xff", raw_deflate(bytes(PIECE), zlib.Z_FULL_FLUSH)),
    "deflate": (b"\x78\x9c", raw_deflate(bytes(PIECE), zlib.Z_FULL_FLUSH)),
    "zstd": (b"", zstandard.compress(bytes(PIECE))),
}


@page
async def bomb(exchange: Exchange) -> None:
    """A few kilobytes that become ``pieces`` MB of zeros."""
    how, pieces = exchange.request.query["how"], exchange.request.number("pieces", 1000)
    if how == "br":
        opening, body = b"", await asyncio.to_thread(brotli.compress, bytes(64 * PIECE), quality=1)
    else:
        opening, piece = BOMBS[how]
        body = piece * pieces
    await exchange.send(200, [HTML, ("Content-Encoding", how)], opening + body)


@page
async def written(exchange: Exchange) -> None:
    """A text: ``text`` in the charset ``as``, with the Content-Type ``type``."""
    query = exchange.request.query
    body = query["text"].encode(query.get("as", "utf-8"))
    headers = [("Content-Type", query["type"])] if "type" in query else []
    await exchange.send(200, headers, body)


@page
async def redirect(exchange: Exchange) -> None:
    """A redirect with the status ``code`` to ``to``, as it stands; without it, to nowhere."""
    query = exchange.request.query
    headers = [("Location", query["to"])] if "to" in query else []
    await exchange.send(int(query.get("code", 302)), [HTML, *headers], b"elsewhere")


@page
async def endless_redirects(exchange: Exchange) -> None:
    """A redirect to the next number."""
    number = exchange.request.number("n", 0) + 1
    await exchange.send(302, [("Location", f"endless-redirects?n={number}")])


@page
async def redirects(exchange: Exchange) -> None:
    """``n`` redirects, then a page."""
    left = exchange.request.number("n", 0)
    if left:
        await exchange.send(302, [("Location", f"redirects?n={left - 1}")])
    else:
        await exchange.send(200, [HTML], b"arrived")


@page
async def cookies(exchange: Exchange) -> None:
    """Sets the cookies of the query's ``set``, a line each, and goes on to ``to``, if given."""
    query = exchange.request.query
    headers = [("Set-Cookie", line) for line in query.get("set", "").split("\n") if line]
    if "to" in query:
        await exchange.send(302, [*headers, ("Location", query["to"])])
    else:
        received = exchange.request.header("cookie")
        await exchange.send(200, [*headers, JSON], json.dumps(received).encode())


@page
async def secret(exchange: Exchange) -> None:
    """A page for those who give user and password."""
    if exchange.request.header("authorization") == "Basic dXNlcjpww6Rzcw==":  # user:päss
        await exchange.send(200, [HTML], b"welcome")
    else:
        await exchange.send(401, [HTML, ("WWW-Authenticate", 'Basic realm="x"')], b"who is it?")
