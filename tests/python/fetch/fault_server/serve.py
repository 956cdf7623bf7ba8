"""The connections: requests are read one after another, noted, and given to their page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .record import Log, Record
from .wire import ClientLeft, Exchange, NotHTTP, Request, read_request

Page = Callable[[Exchange], Awaitable[None]]
PAGES: dict[str, Page] = {}


def page(function: Page) -> Page:
    """Register a page by the name of its function, with hyphens."""
    PAGES[function.__name__.replace("_", "-")] = function
    return function


def note(request: Request, scheme: str, connection: int) -> Record:
    """Return the record of a request."""
    host = (request.header("host") or "").rpartition(":")[0].lower()
    body = request.body.decode("latin-1")
    return Record(
        request.token, request.page, request.method, request.target, request.version, scheme,
        host, request.headers, body, connection,
    )  # fmt: skip


async def answer(exchange: Exchange) -> None:
    """Have the page answer, and note how it went."""
    log, record = exchange.log, exchange.record
    await log.begin(record)
    try:
        await PAGES.get(record.page, missing)(exchange)
    except ClientLeft:
        record.left = True
        exchange.close()
    finally:
        await log.end(record)


async def missing(exchange: Exchange) -> None:
    """Say that there is no such page."""
    await exchange.send(404, [("Content-Type", "text/plain")], b"there is no such page")


async def serve(
    log: Log, scheme: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection of HTTP/1."""
    connection = log.new_connection()
    try:
        while request := await read_request(reader):
            record = note(request, scheme, connection)
            exchange = Exchange(log, request, record, reader, writer)
            await answer(exchange)
            if not exchange.keep:
                break
    except NotHTTP:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()
