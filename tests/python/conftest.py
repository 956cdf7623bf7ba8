"""Fixtures that every suite shares, and the watchdog of the run's own end."""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from blocking import Blocker
from implementations import EXECUTORS, MODULES, load, make_pool

# More than a test's own timeout, of pytest.ini: this is the watchdog for what that one cannot end,
# a thread that holds the interpreter's lock and waits, or a pool that does not shut down.
SECONDS_OF_A_PHASE = 90
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real stderr: the stacks must not go where pytest captures."""
    config.stash[STDERR] = os.dup(2)


def pytest_collection_finish() -> None:
    """Take what the test modules have imported out of the collector's sight.

    A full collection then takes what the test has made, not 0.1 s for all of pandas.
    """
    gc.collect()
    gc.freeze()


def watch(config: pytest.Config) -> None:
    """Show all stacks and end the run, without the interpreter's help, if time runs out."""
    faulthandler.dump_traceback_later(SECONDS_OF_A_PHASE, exit=True, file=config.stash[STDERR])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Watch the test."""
    watch(item.config)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Watch its end, when the pools are shut down."""
    watch(item.config)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Watch the interpreter leave, which waits for every worker."""
    watch(config)


@pytest.fixture(params=list(MODULES))
def library(request: pytest.FixtureRequest) -> ModuleType:
    """Each library in turn, as a module: ``library.ThreadPoolExecutor``, ``library.wait``."""
    return load(request.param)


@pytest.fixture
def raddle() -> ModuleType:
    """The library under test, for what only it has."""
    return load("raddle")


@pytest.fixture
def blockers() -> Iterator[list[Blocker]]:
    """All blockers of the test; released at its end, so that no failure leaves a worker stuck."""
    made: list[Blocker] = []
    yield made
    for blocker in made:
        blocker.release()


@pytest.fixture
def make_blocker(blockers: list[Blocker]) -> Callable[[], Blocker]:
    """Makes a task that runs until it is released."""

    def make() -> Blocker:
        blockers.append(Blocker())
        return blockers[-1]

    return make


@pytest.fixture
def blocker(make_blocker: Callable[[], Blocker]) -> Blocker:
    """One task that runs until it is released."""
    return make_blocker()


@pytest.fixture
def executors(blockers: list[Blocker]) -> Iterator[list[Any]]:
    """All executors of the test, shut down at its end, after the blockers are released."""
    made: list[Any] = []
    yield made
    for blocker in blockers:
        blocker.release()
    for executor in made:
        executor.shutdown(wait=True)


@pytest.fixture
def make_executor(library: ModuleType, executors: list[Any]) -> Callable[..., Any]:
    """Makes thread pools of the library in turn."""

    def make(*args: Any, **kwargs: Any) -> Any:
        executors.append(library.ThreadPoolExecutor(*args, **kwargs))
        return executors[-1]

    return make


@pytest.fixture
def make_raddle(raddle: ModuleType, executors: list[Any]) -> Callable[..., Any]:
    """Makes thread pools of raddle."""

    def make(*args: Any, **kwargs: Any) -> Any:
        executors.append(raddle.ThreadPoolExecutor(*args, **kwargs))
        return executors[-1]

    return make


@pytest.fixture(params=list(EXECUTORS))
def make_any(request: pytest.FixtureRequest, executors: list[Any]) -> Callable[..., Any]:
    """Makes executors of each kind, views included, for the contract that all of them keep."""

    def make(*args: Any, **kwargs: Any) -> Any:
        executors.append(make_pool(request.param, *args, **kwargs))
        return executors[-1]

    return make


class Starter:
    """Starts threads of raddle, or of another kind, and makes events that let them go on."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self.threads: list[Any] = []
        self.gates: list[threading.Event] = []

    def __call__(
        self, target: Callable[..., Any], *args: Any, kind: Any = None, **kwargs: Any
    ) -> Any:
        thread = (kind or self._kind)(target=target, args=args, daemon=True, **kwargs)
        self.threads.append(thread)
        thread.start()
        return thread

    def gate(self) -> threading.Event:
        """Make an event that is set at the test's end at the latest."""
        self.gates.append(threading.Event())
        return self.gates[-1]


@pytest.fixture
def start(raddle: ModuleType) -> Iterator[Starter]:
    """Starts threads, and sees to their end."""
    starter = Starter(raddle.Thread)
    yield starter
    for gate in starter.gates:
        gate.set()
    for thread in starter.threads:
        thread.join(timeout=SECONDS_OF_A_PHASE / 3)
        assert not thread.is_alive(), f"{thread} does not end"


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the cyclic collector: what is freed meanwhile is freed by its reference count."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads switch as often as the interpreter can make them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
