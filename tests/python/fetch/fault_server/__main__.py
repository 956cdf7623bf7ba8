"""Start every listener, print their ports, and serve until the standard input closes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from . import pages_broken, pages_content, pages_files, pages_plain  # noqa: F401 - they register
from .certificates import Certificates
from .control import control
from .http2 import Session
from .proxy import serve_proxy
from .record import Log
from .serve import note, serve
from .wire import Exchange, read_request

#: Loopback addresses that listen for plain HTTP on one port, each a host of its own.
HOSTS = [f"127.0.0.{last}" for last in range(1, 61)]
LIMIT = 1 << 20
BACKLOG = 1024
#: The listeners that speak HTTP/2, and how many streams each allows on a connection.
STREAMS = {"h2": 100, "h2-one": 1}


def bind(host: str, port: int = 0, family: int = socket.AF_INET) -> socket.socket:
    """Return a socket that is bound to an address."""
    # The protocol is named, because asyncio switches off the delay of small pieces only then.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound


def bind_all() -> list[socket.socket]:
    """Return sockets of all hosts on one port that is free on each of them."""
    while True:
        bound = [bind(HOSTS[0])]
        port = bound[0].getsockname()[1]
        try:
            bound += [bind(host, port) for host in HOSTS[1:]]
            if has_ipv6():
                bound.append(bind("::1", port, socket.AF_INET6))
        except OSError:  # taken on one of the addresses: the next port may not be
            for one in bound:
                one.close()
        else:
            return bound


def has_ipv6() -> bool:
    """Return whether this machine's loopback knows IPv6."""
    try:
        bind("::1", 0, socket.AF_INET6).close()
    except OSError:
        return False
    return True


def full_listener() -> list[socket.socket]:
    """Return a listener whose queue is full, so that a connection to it never comes about."""
    listener = bind("127.0.0.1")
    listener.listen(0)
    fillers = []
    for _ in range(2):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    return [listener, *fillers]


async def serve_control(
    log: Log, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection of the control port, of one request."""
    request = await read_request(reader)
    if request is not None:
        await control(Exchange(log, request, note(request, "control", 0), reader, writer))
    writer.close()


async def serve_http2(
    log: Log, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, streams: int
) -> None:
    """Serve HTTP/2, or HTTP/1 if the client wants no better."""
    if writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
        await Session(log, reader, writer, streams).run()
    else:
        await serve(log, "h2", reader, writer)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read and never answer, not even a greeting of TLS."""
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    writer.close()


async def main(folder: Path) -> None:
    """Start, tell the ports, serve."""
    log, ports = Log(), {}
    contexts = Certificates(folder).contexts()
    kept: list[Any] = []

    async def listen(name: str, handler: Callable[..., Any], **more: Any) -> None:
        bound = bind("127.0.0.1")
        kept.append(
            await asyncio.start_server(handler, sock=bound, limit=LIMIT, backlog=BACKLOG, **more)
        )
        ports[name] = bound.getsockname()[1]

    for bound in bind_all():
        handler = partial(serve, log, "http")
        kept.append(await asyncio.start_server(handler, sock=bound, limit=LIMIT, backlog=BACKLOG))
        ports["http"] = bound.getsockname()[1]
        ports["ipv6"] = bound.family == socket.AF_INET6
    for name, context in contexts.items():
        serving: Callable[..., Any] = partial(serve, scheme=name)
        if name in STREAMS:
            serving = partial(serve_http2, streams=STREAMS[name])
        await listen(name, partial(_with_log, serving, log), ssl=context)
    await listen("control", partial(serve_control, log))
    await listen("proxy", partial(serve_proxy, log, ports))
    await listen("silent", silence)
    kept += full_listener()
    ports["full"] = kept[-3].getsockname()[1]
    refused = bind("127.0.0.1")  # bound, so that nobody takes the port, and not listening
    kept.append(refused)
    ports["refused"] = refused.getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # connections that still stand need no farewell


async def _with_log(
    serving: Callable[..., Any],
    log: Log,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    await serving(log, reader=reader, writer=writer)


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches this process too; the tests end it in their own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(main(Path(sys.argv[1])))
