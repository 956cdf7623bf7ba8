"""A proxy: plain requests and tunnels, for any name, which it takes to this server.

A tunnel shows no path, so it is noted under the first label of the host: ``TOKEN.fault.test``.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from .record import Log
from .serve import answer, missing, note
from .wire import Exchange, Request, read_request


async def serve_proxy(
    log: Log, ports: dict[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection of the proxy."""
    connection = log.new_connection()
    try:
        while request := await read_request(reader):
            if request.method == "CONNECT":
                await tunnel(log, ports, request, connection, reader, writer)
                break
            await forward(log, request, connection, reader, writer)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def forward(
    log: Log,
    request: Request,
    connection: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Answer a plain request in the place of the server that it names."""
    parts = urlsplit(request.target)
    if parts.scheme:
        request.target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    record = note(request, "proxy", connection)
    record.host = parts.netloc
    exchange = Exchange(log, request, record, reader, writer)
    if parts.scheme:
        await answer(exchange)
    else:
        await missing(exchange)


async def tunnel(
    log: Log,
    ports: dict[str, int],
    request: Request,
    connection: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Connect to the server for HTTPS, whatever name was asked for, or refuse."""
    host, _, _ = request.target.rpartition(":")
    record = note(request, "tunnel", connection)
    record.token, record.page, record.host = host.partition(".")[0], "CONNECT", host
    await log.begin(record)
    await log.end(record)
    if host.endswith(".refused.test"):
        await Exchange(log, request, record, reader, writer).send(407)
        return
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", ports["https"])
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
