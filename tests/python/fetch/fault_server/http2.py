"""HTTP/2 for the pages that only send: a whole answer, on as many streams as are open."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from .record import Log
from .serve import answer, note, page
from .wire import ClientLeft, Exchange, Headers, Request

BODY = bytes(2000)


@page
async def reset_stream(exchange: Exchange) -> None:
    """Half of a body, and then the stream is reset."""
    assert isinstance(exchange, Stream)
    await exchange.head(200, [("Content-Length", str(len(BODY)))])
    await exchange.raw(BODY[:1000])
    exchange.session.protocol.reset_stream(exchange.identity, ErrorCodes.INTERNAL_ERROR)
    await exchange.session.flush()


@page
async def goaway(exchange: Exchange) -> None:
    """A whole answer, after which the connection takes no further request."""
    assert isinstance(exchange, Stream)
    await exchange.send(200, [], b"last")
    exchange.session.protocol.close_connection()
    await exchange.session.flush()
    exchange.session.writer.close()


class Stream(Exchange):
    """One request on a stream and the way to answer it."""

    def __init__(self, session: Session, identity: int, request: Request, number: int) -> None:
        record = note(request, "h2", number)
        super().__init__(session.log, request, record, session.reader, session.writer)
        self.session = session
        self.identity = identity
        self.left = asyncio.Event()

    async def head(self, status: int, headers: Headers = (), version: str = "HTTP/2") -> None:
        """Send status and headers."""
        del version
        lines = [(":status", str(status)), *((name.lower(), value) for name, value in headers)]
        self.session.protocol.send_headers(self.identity, lines)
        await self.session.flush()

    async def send(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """Send a whole answer and end the stream."""
        await super().send(status, headers, body)
        self.session.protocol.end_stream(self.identity)
        await self.session.flush()

    async def raw(self, data: bytes) -> None:
        """Send a part of the body, as fast as the client's windows allow."""
        protocol = self.session.protocol
        while data:
            room = min(
                protocol.local_flow_control_window(self.identity), protocol.max_outbound_frame_size
            )
            if room <= 0:
                await self.session.until_window(self)
                continue
            protocol.send_data(self.identity, data[:room])
            self.record.sent += len(data[:room])
            data = data[room:]
            await self.session.flush()

    async def until_client_leaves(self) -> None:
        """Say nothing more until the client gives the stream or the connection up."""
        await self.left.wait()
        raise ClientLeft


class Session:
    """One connection of HTTP/2: its streams run beside each other."""

    def __init__(
        self,
        log: Log,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        streams: int,
    ) -> None:
        self.log = log
        self.reader = reader
        self.writer = writer
        self.protocol = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self.protocol.local_settings.max_concurrent_streams = streams
        self.protocol.local_settings.acknowledge()
        self._number = log.new_connection()
        self._requests: dict[int, Request] = {}
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._windows = asyncio.Event()

    async def flush(self) -> None:
        """Write what the protocol has to say."""
        try:
            self.writer.write(self.protocol.data_to_send())
            await self.writer.drain()
        except ConnectionError as error:
            raise ClientLeft from error

    async def until_window(self, stream: Stream) -> None:
        """Wait until the client takes more."""
        self._windows.clear()
        await self._windows.wait()
        if stream.left.is_set():
            raise ClientLeft

    async def run(self) -> None:
        """Serve until the client leaves."""
        self.protocol.initiate_connection()
        try:
            await self.flush()
            while data := await self.reader.read(65536):
                for event in self.protocol.receive_data(data):
                    self._receive(event)
                await self.flush()
        except (ConnectionError, ProtocolError, ClientLeft, ssl.SSLError):
            pass
        finally:
            for stream in self._streams.values():
                stream.left.set()
            self._windows.set()
            self.writer.close()

    def _receive(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self._open(event.stream_id, dict(event.headers), list(event.headers))
        elif isinstance(event, DataReceived):
            self._requests[event.stream_id].body += event.data
            self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._start(event.stream_id)
        elif isinstance(event, WindowUpdated):
            self._windows.set()
        elif isinstance(event, StreamReset) and event.stream_id in self._streams:
            self._streams[event.stream_id].left.set()
            self._windows.set()
        elif isinstance(event, ConnectionTerminated):
            self.writer.close()

    def _open(self, identity: int, first: dict[str, str], pairs: list[tuple[str, str]]) -> None:
        headers = [(name, value) for name, value in pairs if not name.startswith(":")]
        headers.append(("host", first[":authority"]))
        request = Request(first[":method"], first[":path"], "HTTP/2", headers, b"")
        self._requests[identity] = request

    def _start(self, identity: int) -> None:
        stream = Stream(self, identity, self._requests.pop(identity), self._number)
        self._streams[identity] = stream
        task = asyncio.ensure_future(self._answer(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream: Stream) -> None:
        try:
            await answer(stream)
        except (ProtocolError, ClientLeft):
            pass
