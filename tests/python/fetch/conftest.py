"""Fixtures of the fetch tests: one fault server for the run, a part of it for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults import Faults, FaultServer

PROXIES = "http_proxy https_proxy all_proxy no_proxy".split()


@pytest.fixture(scope="session")
def fault_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    """The server, started for the first test that asks for it."""
    server = FaultServer(tmp_path_factory.mktemp("faults"))
    yield server
    server.stop()


@pytest.fixture
def faults(fault_server: FaultServer) -> Faults:
    """This test's own part of the server."""
    return Faults(fault_server)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without the proxies of whoever runs the tests."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
