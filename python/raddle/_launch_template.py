"""The launcher over the template process (start of a worker): the default."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import errno
import os
import sys

from . import _imports, _native
from ._setup import describe_program, process_name, write_file
from ._template_process import Template, TemplateEnded, release, replace

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._budget import Budget


class WorkerProcess:
    """One worker, as `multiprocessing.Process` shows its processes."""

    def __init__(self, template: Template, pid: int, descriptor: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self._template = template
        self._descriptor = descriptor
        self._end: tuple[int, int | None, str | None] | None = None
        self._lock = _thread.allocate_lock()

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self._descriptor)

    def __repr__(self) -> str:
        end = "running" if self.is_alive() else f"ended with exit code {self.exitcode}"
        return f"<{type(self).__name__} {self.name!r} pid={self.pid} {end}>"

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._descriptor

    @property
    def exitcode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return None if self.is_alive() else self.reap()[0]

    def is_alive(self) -> bool:
        """Tell whether it has not ended."""
        return self._end is None and not self._wait(0)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""
        if self._end is None:
            self._wait(timeout)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._send(_signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self._send(_signal.SIGKILL)

    def _send(self, number: int) -> None:
        try:
            _native.signal_process(self._descriptor, number)
        except ProcessLookupError:
            pass  # It has ended.

    def _wait(self, timeout: float | None) -> bool:
        return _native.wait_readable((self._descriptor,), timeout)[0]

    def forget(self) -> None:
        """Note that nobody is going to ask the template for its end again."""
        self._template.tell("forget", self.pid)

    def reap(self) -> tuple[int, int | None, str | None]:
        """Wait for its end: exit code, peak memory in bytes, Python stack after a fault."""
        self.join()
        with self._lock:
            if self._end is None:
                self._end = self._ask_end()
            return self._end

    def _ask_end(self) -> tuple[int, int | None, str | None]:
        try:
            (code, memory, stack), _ = self._template.ask("reap", self.pid)
        except TemplateEnded:
            # Whose end has the system kill the workers, with nobody to wait for them.
            return -_signal.SIGKILL, None, None
        return code, memory, stack or None


class TemplateLauncher:
    """Starts workers by the template process."""

    starts_at_once = False
    by_value = True

    def __init__(
        self,
        template: Template,
        initializer: bytes | None,
        variables: list[tuple[str, str]],
        budget: Budget,
    ) -> None:
        # It is ours from here on: `close` gives it back.
        self._template: Template | None = template
        self._has_started = False
        self.processes: dict[int, WorkerProcess] = {}
        self._words = 0
        #: Descriptors of setup, folder, standard output and error output; then of mapping, bell,
        #: and the arena if there is one.
        self._handed: tuple[int, ...] = ()
        #: A forked child has this object, and not what it stands for.
        self._program = os.getpid()
        described = _native.memory_file()
        self._handed = (described, _folder(), _duplicate_stream(1), _duplicate_stream(2))
        write_file(described, describe_program(initializer, variables, budget))

    def __del__(self) -> None:
        # A pool that was never used, or could not be made. One that was used closes this itself,
        # perhaps after the collector has come by: its workers may have much to do yet.
        if not (self._has_started or sys.is_finalizing()):
            self.close()

    def open(self, mapping_fd: int, words: int, bell_fd: int, arena_fd: int = -1) -> None:
        """Take what the workers share."""
        self._words = words
        shared = [mapping_fd, bell_fd] + [arena_fd] * (arena_fd >= 0)
        self._handed += tuple(_native.duplicate(descriptor) for descriptor in shared)
        self._introduce(self._current())

    def _introduce(self, template: Template) -> None:
        template.tell("open", id(self), descriptors=self._handed)

    def _current(self) -> Template:
        if self._template is None:
            raise RuntimeError("a launcher that is closed starts nothing")
        return self._template

    def start(self, seat: int, number: int) -> tuple[int, int]:
        """Start a worker: its pid, and a descriptor that tells its end."""
        self._has_started = True
        details = (id(self), seat, number, self._words, _imports.authkey())
        template, reply, descriptors = self._ask("start", *details)
        pid, code, message = reply
        if pid is None:
            raise OSError(code, f"a worker process could not be forked: {message}")
        process = _adopt(template, pid, number, descriptors)
        try:
            watched = _native.duplicate(process.sentinel)
        except OSError:
            process.kill()
            process.reap()
            process.forget()
            raise
        self.processes[pid] = process
        return pid, watched

    def _ask(self, *request: Any) -> tuple[Template, tuple[Any, ...], list[int]]:
        """Ask the template, or another in the place of one that has ended; which one it was."""
        template = self._current()
        # In the place of one with libraries comes that without, which may have ended too.
        for _ in range(1 + bool(template.libraries)):
            try:
                return template, *template.ask(*request)
            except TemplateEnded:
                template = self._template = replace(template)
                self._introduce(template)
        return template, *template.ask(*request)

    def reap(self, pid: int) -> tuple[int, int | None, str | None]:
        """Wait for a worker: exit code, peak memory, and Python stack after a fault."""
        process = self.processes.pop(pid)
        end = process.reap()
        process.forget()
        code, _, stack = end
        if stack and "logging" in sys.modules:
            from ._notes import log_fault

            log_fault(process.name, pid, code, stack)
        return end

    def close(self) -> None:
        """Drop everything: the pool is over. A second time nothing is left to be dropped."""
        template, self._template = self._template, None
        if template is None:
            return
        handed, self._handed = self._handed, ()
        for descriptor in handed:
            os.close(descriptor)
        if self._program == os.getpid():
            template.tell("close", id(self))
            release(template)


def _adopt(template: Template, pid: int, number: int, descriptors: list[int]) -> WorkerProcess:
    """Make an object of a worker that the template has started, or see it off."""
    if descriptors:
        return WorkerProcess(template, pid, descriptors[0], process_name(number))
    # The system drops descriptors for which there is no room in this process.
    os.kill(pid, _signal.SIGKILL)
    template.ask("reap", pid)
    template.tell("forget", pid)
    raise OSError(errno.EMFILE, "this program has too many files open to start a worker")


def _folder() -> int:
    """Return a descriptor of the working directory, which may have been removed or renamed."""
    return os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _duplicate_stream(descriptor: int) -> int:
    """Return another descriptor of the same; of nothing if that is closed."""
    try:
        return _native.duplicate(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
