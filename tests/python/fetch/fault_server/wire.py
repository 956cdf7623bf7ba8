"""HTTP/1 as bytes: a request read, an answer written just as a page wants it, faults included."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from .record import Log, Record

REASONS = {
    200: "OK", 204: "No Content", 206: "Partial Content", 301: "Moved Permanently",
    302: "Found", 303: "See Other", 304: "Not Modified", 307: "Temporary Redirect",
    308: "Permanent Redirect", 401: "Unauthorized", 404: "Not Found",
    407: "Proxy Authentication Required", 416: "Range Not Satisfiable",
    429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
Headers = Iterable[tuple[str, str]]


GREETING_OF_TLS = b"\x16"


class NotHTTP(Exception):
    """What came is no request."""


class ClientLeft(Exception):
    """The client closed the connection before it had its answer."""


@dataclass
class Request:
    """One request as it came over the wire."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of a name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def path(self) -> list[str]:
        """The parts of the path: token, page and what follows."""
        parts = urlsplit(self.target).path.split("/")[1:]
        return [unquote(part) for part in parts] or [""]

    @property
    def token(self) -> str:
        """The first part of the path."""
        return self.path[0]

    @property
    def page(self) -> str:
        """The second part of the path."""
        return self.path[1] if len(self.path) > 1 else self.path[0]

    @property
    def query(self) -> dict[str, str]:
        """The query; bytes that are no UTF-8 come as surrogates."""
        pairs = parse_qsl(urlsplit(self.target).query, True, errors="surrogateescape")
        return dict(pairs)

    def number(self, name: str, default: int) -> int:
        """Return a number of the query."""
        return int(self.query.get(name, default))


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None at the end of the connection."""
    try:
        first_byte = await reader.readexactly(1)
        if first_byte == GREETING_OF_TLS:
            raise NotHTTP
        head = first_byte + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, version = first.split(" ", 2)
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    request = Request(method, target, version, headers, b"")
    length = request.header("content-length")
    if length:
        request.body = await reader.readexactly(int(length))
    elif "chunked" in (request.header("transfer-encoding") or ""):
        request.body = b"".join([chunk async for chunk in _chunks(reader)])
    return request


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readline()
    await reader.readline()


class Exchange:
    """One request and the way to answer it; over HTTP/1 a page may also write raw bytes."""

    def __init__(
        self,
        log: Log,
        request: Request,
        record: Record,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.log = log
        self.request = request
        self.record = record
        self.keep = request.version == "HTTP/1.1"
        self._reader = reader
        self._writer = writer

    async def send(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """Send a whole answer, with the length that it has."""
        bodiless = status in (204, 304)
        length = [] if bodiless else [("Content-Length", str(len(body)))]
        given = list(headers)
        if any(name.lower() == "content-length" for name, _ in given):
            length = []
        await self.head(status, [*given, *length])
        if not bodiless and self.request.method != "HEAD":
            await self.raw(body)

    async def head(self, status: int, headers: Headers = (), version: str = "HTTP/1.1") -> None:
        """Send status and headers."""
        lines = [f"{version} {status} {REASONS.get(status, 'Odd')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        text = "\r\n".join([*lines, "", ""])
        self._writer.write(text.encode("latin-1", "surrogateescape"))
        await self.flush()

    async def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)
        self.record.sent += len(data)
        await self.flush()

    async def flush(self) -> None:
        """Wait until the system has what was written."""
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise ClientLeft from error

    async def until_client_leaves(self) -> None:
        """Say nothing more until the client closes the connection."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass
        raise ClientLeft

    async def hold(self, gate: str) -> None:
        """Wait until a test opens the gate, or the client leaves."""
        opened = asyncio.ensure_future(self.log.gate(self.request.token, gate).wait())
        left = asyncio.ensure_future(self.until_client_leaves())
        await asyncio.wait({opened, left}, return_when=asyncio.FIRST_COMPLETED)
        gone = left.done()
        opened.cancel()
        left.cancel()
        await asyncio.gather(opened, left, return_exceptions=True)
        if gone:
            raise ClientLeft

    def close(self) -> None:
        """Close the connection after this answer."""
        self.keep = False

    def reset(self) -> None:
        """Close the connection with a reset, so that the client sees an error."""
        self.keep = False
        plain = self._writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
