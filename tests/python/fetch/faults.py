"""The tests' side of the fault server: starting it, addresses of it, what it received."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

HERE = Path(__file__).resolve().parent


def encode(query: dict[str, Any]) -> str:
    """Return a query string; a str may hold bytes as surrogates."""
    pairs = {
        name: value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        for name, value in query.items()
    }
    return "&".join(f"{name}={quote_from_bytes(value, safe='')}" for name, value in pairs.items())


class FaultServer:
    """The running server, a process of its own that ends when its standard input closes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fault_server", str(folder)],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the fault server ended with {self._process.wait()}"
        self.ports: dict[str, int] = json.loads(line)

    def stop(self) -> None:
        """End it."""
        with self._process:  # closes its standard input and waits
            pass

    def ask(self, what: str, **query: Any) -> Any:
        """Ask the control port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["control"], timeout=50)
        connection.request("GET", f"/{what}?{urlencode(query)}")
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@dataclass
class Faults:
    """A test's own part of the server: requests of other tests are not in its log."""

    server: FaultServer
    token: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")

    def url(self, page: str, host: str = "127.0.0.1", scheme: str = "http", **query: Any) -> str:
        """Return the address of a page; *scheme* may be any listener's name."""
        real = "http" if scheme in ("http", "silent", "full", "refused") else "https"
        tail = f"?{encode(query)}" if query else ""
        return f"{real}://{host}:{self.server.ports[scheme]}/{self.token}/{page}{tail}"

    @property
    def proxy(self) -> str:
        """The address of the proxy."""
        return f"http://127.0.0.1:{self.server.ports['proxy']}"

    def file(self, name: str) -> str:
        """Return the path of a certificate or key, such as ``ca.pem``."""
        return str(self.server.folder / name)

    def log(self) -> dict[str, Any]:
        """Return all that is known of this test's requests."""
        told: dict[str, Any] = self.server.ask("log", token=self.token)
        return told

    def requests(self, page: str | None = None) -> list[dict[str, Any]]:
        """Return the requests that came, to one page or to all, in order."""
        received = self.log()["requests"]
        return [one for one in received if page is None or one["page"] == page]

    def peak(self, host: str = "") -> int:
        """Return how many requests were in flight at once, to one host or to all."""
        peak: int = self.log()["peaks"].get(host, 0)
        return peak

    def wait_requests(self, count: int) -> None:
        """Wait until so many requests have come."""
        self.server.ask("wait", token=self.token, requests=count)

    def wait_left(self, count: int) -> None:
        """Wait until the client has given up so many requests."""
        self.server.ask("wait", token=self.token, left=count)

    def release(self, gate: str = "gate") -> None:
        """Let the answers go that wait for a gate."""
        self.server.ask("release", token=self.token, gate=gate)

    def robots(self, host: str, text: str, status: int = 200) -> None:
        """Give a host its robots.txt."""
        self.server.ask("robots", host=host, text=text, status=status)


def header(request: dict[str, Any], name: str) -> str | None:
    """Return the first header of a name that a request had."""
    return next((value for key, value in request["headers"] if key.lower() == name), None)
