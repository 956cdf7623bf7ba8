"""One connection for many requests: what waits for a stream, and a connection that goes dead."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from faults import Faults

#: Seconds for which a stream is held: longer than the time limit of those that wait for it.
HELD = 1.3
LIMIT = 1.0


def test_the_clock_does_not_run_while_a_stream_is_waited_for(raddle, faults: Faults):
    def release() -> None:
        faults.wait_requests(1)
        time.sleep(HELD)  # the limit of the others must have passed by then
        faults.release()

    first = raddle.Request(faults.url("hold", scheme="h2-one"), timeout=60)
    others = [faults.url("ok", scheme="h2-one", number=number) for number in range(5)]
    releaser = threading.Thread(target=release)
    releaser.start()
    responses = raddle.fetch(
        [first, *others],
        timeout=raddle.Timeout(total=LIMIT),
        retries=0,
        verify=faults.file("ca.pem"),
    )
    releaser.join()
    assert [str(response.error) for response in responses if response.error] == []
    received = faults.requests()
    assert len(received) == 6
    assert len({request["connection"] for request in received}) == 1, "nothing was queued"


class Relay:
    """Passes bytes on to a port, until it is told to let a connection lie."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._silent: set[int] = set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """Pass nothing more on of the connections that there are."""
        self._silent.update(range(1, self.connections + 1))

    def close(self) -> None:
        """End everything."""
        self._listener.close()
        for end in self._open:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._to))
            self._open += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pass, args=(self.connections, *ends), daemon=True
                ).start()

    def _pass(self, number: int, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if number not in self._silent:
                    target.sendall(data)
        except OSError:  # one of the two has left
            pass


@pytest.fixture
def relay(faults: Faults) -> Iterator[Relay]:
    """A relay before the listener of HTTP/2."""
    relay = Relay(faults.server.ports["h2"])
    yield relay
    relay.close()


@pytest.mark.parametrize("retries", [0, 1])
def test_a_connection_that_went_silent_is_not_used_again(
    raddle, faults: Faults, relay: Relay, retries
):
    url = faults.url("ok", scheme="h2").replace(
        f":{faults.server.ports['h2']}/", f":{relay.port}/", 1
    )
    verify = faults.file("ca.pem")
    assert raddle.get(url, verify=verify).http_version == "HTTP/2.0"
    relay.silence()
    # The limit is one that a new connection keeps on a busy machine too.
    [response] = raddle.fetch([url], timeout=1.5, retries=retries, verify=verify)
    if retries:
        assert response.ok and response.attempts == 2, repr(response)
    else:
        assert isinstance(response.error, raddle.FetchTimeout)
        assert raddle.get(url, verify=verify).ok
    assert relay.connections == 2
