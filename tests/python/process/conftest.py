"""Fixtures of the tests of processes: pools and gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gates import Gate
from process_holdings import arena_in_use
from process_pools import OURS, POOLS, UNBREAKABLE, MakePool, make_process_pool


@pytest.fixture
def gates() -> Iterator[list[Gate]]:
    """All gates of the test; opened at its end, so that no failure leaves a worker stuck."""
    made: list[Gate] = []
    yield made
    for gate in made:
        gate.close()


@pytest.fixture
def make_gate(gates: list[Gate], tmp_path: Path) -> Callable[[], Gate]:
    """Makes a task that runs until it is let go."""

    def make() -> Gate:
        gates.append(Gate(tmp_path, f"gate-{len(gates)}"))
        return gates[-1]

    return make


@pytest.fixture
def gate(make_gate: Callable[[], Gate]) -> Gate:
    """One task that runs until it is let go."""
    return make_gate()


@pytest.fixture
def pools(gates: list[Gate]) -> Iterator[list[Any]]:
    """All pools of the test, shut down at its end, after the gates are open."""
    made: list[Any] = []
    yield made
    for gate in gates:
        gate.open()
    for pool in made:
        pool.shutdown(wait=True)


def _maker(kind: str, pools: list[Any]) -> MakePool:
    def make(*args: Any, **kwargs: Any) -> Any:
        pools.append(make_process_pool(kind, *args, **kwargs))
        return pools[-1]

    return make


@pytest.fixture(params=POOLS)
def make_pool(request: pytest.FixtureRequest, pools: list[Any]) -> MakePool:
    """Makes pools of each kind, the standard library's included, for what all of them keep."""
    return _maker(request.param, pools)


@pytest.fixture(params=OURS)
def make_ours(request: pytest.FixtureRequest, pools: list[Any]) -> MakePool:
    """Makes pools of raddle of each kind, for what the standard library does not promise."""
    return _maker(request.param, pools)


@pytest.fixture(params=UNBREAKABLE)
def make_unbreakable(request: pytest.FixtureRequest, pools: list[Any]) -> MakePool:
    """Makes pools of raddle that a dead worker does not break."""
    return _maker(request.param, pools)


@pytest.fixture
def make_default(pools: list[Any]) -> MakePool:
    """Makes pools of raddle as most programs do."""
    return _maker("raddle", pools)


@pytest.fixture
def nothing_stays_in_the_arena() -> Iterator[None]:
    """Fail a test after which something still holds memory for large data."""
    before = arena_in_use()
    yield
    assert arena_in_use() == before
