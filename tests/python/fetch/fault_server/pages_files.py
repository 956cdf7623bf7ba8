"""Files for downloads: ranges, validators that change, names that attack, ends that are early."""

from __future__ import annotations

import re

from .pages_plain import filling
from .serve import page
from .wire import Exchange

WHEN = "Wed, 21 Oct 2015 07:28:00 GMT"


def validators(exchange: Exchange, attempt: int) -> list[tuple[str, str]]:
    """Return ETag or Last-Modified, as the query asks."""
    how = exchange.request.query.get("validator", "strong")
    return {
        "strong": [("ETag", '"one"')],
        "weak": [("ETag", 'W/"one"')],
        "date": [("Last-Modified", WHEN)],
        "none": [],
        "changing": [("ETag", f'"{attempt}"')],
    }[how]


def wanted_range(exchange: Exchange, tags: list[tuple[str, str]], size: int) -> int | None:
    """Return where the rest begins that was asked for, if it is the same file still."""
    request = exchange.request
    found = re.fullmatch(r"bytes=(\d+)-", request.header("range") or "")
    condition = request.header("if-range")
    current = condition is None or condition in [value for _, value in tags]
    if not found or not current or request.query.get("ranges") == "no":
        return None
    return int(found[1]) if int(found[1]) < size else size


@page
async def file(exchange: Exchange) -> None:
    """A file of ``size`` bytes, whose first answers (``cut`` of them) end at the half.

    ``changes=1`` gives each answer another content, ``wrong=1`` lies about the range.
    """
    request = exchange.request
    size, attempt = request.number("size", 10_000), exchange.log.attempt(request.target)
    tags = validators(exchange, attempt)
    body = filling(size)
    if request.query.get("changes"):
        body = bytes([64 + attempt]) * size
    start = wanted_range(exchange, tags, size)
    if start is not None and start >= size:
        await exchange.send(416, [*tags, ("Content-Range", f"bytes */{size}")])
        return
    headers = [("Accept-Ranges", "bytes"), ("Content-Type", "application/octet-stream"), *tags]
    part = body[start or 0 :]
    if start is not None:
        told = start + 7 if request.query.get("wrong") else start
        headers.append(("Content-Range", f"bytes {told}-{size - 1}/{size}"))
    headers.append(("Content-Length", str(len(part))))
    await exchange.head(206 if start is not None else 200, headers)
    if attempt <= request.number("cut", 0):
        await exchange.raw(part[: len(part) // 2])
        exchange.reset() if request.query.get("how") == "reset" else exchange.close()
        return
    if request.query.get("gate"):
        await exchange.raw(part[: len(part) // 2])
        await exchange.hold(request.query["gate"])
        part = part[len(part) // 2 :]
    await exchange.raw(part)


@page
async def named(exchange: Exchange) -> None:
    """A file whose name is told by Content-Disposition, as the query gives it."""
    disposition = exchange.request.query["disposition"]
    await exchange.send(200, [("Content-Disposition", disposition)], b"content")
