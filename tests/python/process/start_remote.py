"""Workers without a pool: launchers are driven by hand, and what they start does what it is told.

A worker's initializer runs when all of its set-up is done. Here it connects to the test and
evaluates what that sends, until it is told to leave; so a test looks at a worker from within.
"""

from __future__ import annotations

import ast
import fcntl
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

from raddle import _launch

WORDS = 1 << 22
SECONDS = 45.0
KINDS = ("template", "fork", "spawn", "forkserver")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def obey(address: str, setup: str = "") -> None:
    """Evaluate what comes, in a worker, until "leave"; then be a failing initializer."""
    names: dict[str, Any] = {}
    exec(setup, names)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        with line.makefile("rw") as texts:
            print(os.getpid(), file=texts, flush=True)
            for text in texts:
                if text == "leave\n":
                    break
                print(repr(eval(text, names)), file=texts, flush=True)
    raise SystemExit("told to leave")


class Remote:
    """One worker, seen from the test."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._texts = line.makefile("rw")
        self.pid = int(self._texts.readline())

    def __call__(self, text: str) -> Any:
        """Evaluate an expression in the worker."""
        print(text, file=self._texts, flush=True)
        return ast.literal_eval(self._texts.readline())

    def begin(self, text: str) -> None:
        """Have it evaluate an expression that it may not survive."""
        print(text, file=self._texts, flush=True)

    def leave(self) -> None:
        """Have it end in order."""
        print("leave", file=self._texts, flush=True)

    def is_gone(self) -> bool:
        """Wait until its end of the line is closed, as it is when the process is over."""
        return self._texts.readline() == ""

    def close(self) -> None:
        """Close the line."""
        self._texts.close()
        self._line.close()


class Crew:
    """A launcher, and the workers that it has started."""

    def __init__(self, folder: Path, kind: str = "template", setup: str = "", **more: Any) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(SECONDS)
        address = str(folder / f"line-{id(self)}")
        self._listener.bind(address)
        self._listener.listen()
        context = None if kind == "template" else get_context(kind)
        self.initargs = (address, setup)
        self.launcher: Any = _launch.make_launcher(
            context, more.pop("initializer", obey), (*self.initargs, *more.pop("more", ())),
            more.pop("max_tasks_per_child", None), more.pop("inherit_context", None),
        )  # fmt: skip
        mapping, bell = sealed_memory(), os.eventfd(0) if hasattr(os, "eventfd") else os.dup(0)
        self.launcher.open(mapping, WORDS, bell)
        os.close(mapping)
        os.close(bell)
        self.remotes: list[Remote] = []
        self.watched: dict[int, int] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for process in list(self.launcher.processes.values()):
            process.kill()
        for pid in list(self.launcher.processes):
            self.reap(pid)
        for remote in self.remotes:
            remote.close()
        self._listener.close()
        self.launcher.close()

    def start(self) -> Remote:
        """Start a worker, and hear from it."""
        pid, watched = self.launcher.start(len(self.watched), len(self.watched))
        self.watched[pid] = watched
        remote = self.hear()
        assert remote.pid == pid
        return remote

    def hear(self) -> Remote:
        """Wait for a worker to say who it is."""
        line, _ = self._listener.accept()
        line.settimeout(SECONDS)
        self.remotes.append(Remote(line))
        return self.remotes[-1]

    def reap(self, pid: int) -> tuple[int, int | None, str | None]:
        """Wait for the end of a worker; how it ended."""
        wait_readable(self.watched[pid])
        os.close(self.watched.pop(pid))
        end: tuple[int, int | None, str | None] = self.launcher.reap(pid)
        return end


def wait_readable(descriptor: int) -> None:
    """Wait for what a descriptor tells."""
    watched = select.poll()
    watched.register(descriptor, select.POLLIN)
    assert watched.poll(SECONDS * 1000), "the process does not end"


def sealed_memory() -> int:
    """Memory as a pool shares it with its workers: empty rings."""
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(descriptor, WORDS * 8)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


@contextmanager
def changed(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while."""
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
