"""The launcher over `multiprocessing` (start of a worker): each a `Process` of a context of its.

For those who pass `mp_context`, and for arguments of an initializer that can only be inherited. How
a worker starts, what it knows, and what its main module is, are as in the standard library.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
from multiprocessing import reduction
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from . import _native, _worker
from ._budget import Budget


class _Handle(Protocol):
    def detach(self) -> int: ...


class Handed:
    """A descriptor on its way to another process: inherited by a fork, duplicated for others."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (reduction.DupFd(self._descriptor),)

    def take(self) -> int:
        """Return the descriptor, which is the caller's from now on."""
        return self._descriptor


def _receive(handle: _Handle) -> Handed:
    return Handed(handle.detach())


def _worker_fault(name: str, pid: int, code: int, stack: str) -> None:
    from ._notes import log_fault

    log_fault(name, pid, code, stack)


class ProcessLauncher:
    """Starts workers as processes of a context of `multiprocessing`."""

    def __init__(
        self,
        context: BaseContext,
        initializer: tuple[Any, ...] | None,
        variables: list[tuple[str, str]],
        budget: Budget,
        *,
        by_value: bool,
    ) -> None:
        #: Descriptors of the mapping, with its length, of the bell, and of the arena or -1.
        self._shared: tuple[int, int, int, int] = (-1, 0, -1, -1)
        #: For each worker where it writes its stack after a fault.
        self._stacks: dict[int, int] = {}
        self._has_started = False
        self._context = context
        self._initializer = initializer
        self._variables = variables
        self._budget = budget
        self.by_value = by_value
        self._method = context.get_start_method(allow_none=False)
        #: What is forked is forked before the program has one more thread.
        self.starts_at_once = self._method == "fork"
        self.processes: dict[int, BaseProcess] = {}

    def __del__(self) -> None:
        # A pool that was never used, or could not be made; one that was used closes this itself.
        if not self._has_started:
            self.close()

    def open(self, mapping_fd: int, words: int, bell_fd: int, arena_fd: int = -1) -> None:
        """Take what the workers share."""
        arena = os.dup(arena_fd) if arena_fd >= 0 else -1
        self._shared = (os.dup(mapping_fd), words, os.dup(bell_fd), arena)

    def start(self, seat: int, number: int) -> tuple[int, int]:
        """Start a worker: its pid, and a descriptor that tells its end."""
        self._has_started = True
        mapping, words, bell, arena = self._shared
        stack = _native.memory_file()
        program = os.getpid()
        handed_arena = Handed(arena) if arena >= 0 else None
        descriptors = (Handed(mapping), Handed(bell), handed_arena, Handed(stack))
        details = (program, seat, number, words, self._initializer, self._variables)
        ways = (self.by_value, self._budget, self._method == "fork")
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_worker.run_process, args=(*descriptors, *details, *ways)
        )
        try:
            self._start_uninterrupted(process)
        except BaseException:
            os.close(stack)
            if process.pid is not None:
                # A Ctrl-C has come when it had started, and nobody else will know of it.
                process.kill()
                process.join()
            raise
        self._stacks[process.pid] = stack
        self.processes[process.pid] = process
        return process.pid, self._watch(process)

    def _start_uninterrupted(self, process: BaseProcess) -> None:
        # A server that forks is started perhaps, and would keep the mask for all its processes.
        if self._method == "forkserver":
            process.start()
            return
        # A Ctrl-C before the worker ignores it waits until it does.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
        try:
            process.start()
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def _watch(self, process: BaseProcess) -> int:
        # Of a process that another one started, its exit code is there when the sentinel says so.
        # The sentinel of a child is held open by what the child forks: the child itself is watched.
        if self._method != "forkserver":
            try:
                return _native.open_process(process.pid)  # type: ignore[arg-type]
            except OSError:
                pass  # Ended, and waited for by another thread.
        return os.dup(process.sentinel)

    def reap(self, pid: int) -> tuple[int, int | None, str | None]:
        """Wait for a worker: exit code, peak memory, and Python stack after a fault."""
        process = self.processes.pop(pid)
        memory = self._wait(process)
        process.join()
        stack = self._stacks.pop(pid)
        text = _worker.read_file(stack).decode("utf-8", "replace")
        os.close(stack)
        code = process.exitcode
        if text:
            _worker_fault(process.name, pid, code or 0, text)
        # None: whoever waited for it first kept what he was told.
        return 255 if code is None else code, memory, text or None

    def _wait(self, process: BaseProcess) -> int | None:
        """Wait for a child, if it is one; its peak memory, which only who waits is told."""
        popen: Any = getattr(process, "_popen", None)
        if self._method == "forkserver" or popen is None or popen.returncode is not None:
            return None
        try:
            _, status, usage = os.wait4(process.pid, 0)  # type: ignore[arg-type]
        except ChildProcessError:
            return None
        popen.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss * 1024

    def close(self) -> None:
        """Drop everything: the pool is over."""
        mapping, _, bell, arena = self._shared
        self._shared = (-1, 0, -1, -1)
        stacks, self._stacks = self._stacks, {}
        for descriptor in (mapping, bell, arena, *stacks.values()):
            if descriptor >= 0:
                os.close(descriptor)
