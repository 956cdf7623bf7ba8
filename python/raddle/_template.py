"""The template process (start of a worker): it forks a program's workers, and does nothing else.

A process of its own, so that a program with threads never forks; loaded once, so that a worker
costs a fork of a small process. It has one thread, runs no code of the user's, and takes its
requests from a socket. For a worker that has a pool of its own it forks another, and for pools that
need libraries one that loads them (`_preload.py`). It ends when the program does: at the end of the
socket, or of the program, of which a forked child may hold the socket too. When it ends the system
kills its workers.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import marshal
import os

from . import _native, _worker

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

#: Of a stack that a worker left; so much fits into a message.
_STACK_BYTES = 1 << 16


class Template:
    """The process that forks, with what it has been given."""

    def __init__(self, control: int, program: int) -> None:
        self._control = control
        self._program = program
        #: For each pool what it handed over.
        self._pools: dict[int, list[int]] = {}
        #: For each worker that has not been waited for, where it writes its stack after a fault.
        self._stacks: dict[int, int] = {}
        #: For each that has, how it ended, until the program has seen it.
        self._ends: dict[int, tuple[int, int, str]] = {}
        #: By which socket each worker may ask for a template of its own.
        self._askers: dict[int, int] = {}
        #: Templates that were forked of this one, and not waited for.
        self._templates: set[int] = set()

    def serve(self) -> None:
        """Do what the program asks for until it is gone."""
        while True:
            askers = list(self._askers)
            waited = (self._control, self._program, *askers)
            is_asked, is_over, *ask = _native.wait_readable(waited)
            if is_over:
                return
            for asker, has_asked in zip(askers, ask):
                if has_asked:
                    self._hear_worker(asker)
            if not is_asked:
                continue
            try:
                request, descriptors = _native.receive_message(self._control)
                if not request:
                    return
                self._answer(marshal.loads(request), descriptors)
            except ConnectionError:
                return  # The program has ended without having heard the last reply.

    def _reply(self, *reply: Any, handed: Sequence[int] = ()) -> None:
        _native.send_message(self._control, marshal.dumps(reply), handed)

    def _answer(self, request: tuple[Any, ...], descriptors: list[int]) -> None:
        number, what, *details = request
        if what == "start":
            self._start(number, *details)
        elif what == "reap":
            self._reply(number, *self._reap(*details))
        elif what == "forget":
            self._ends.pop(details[0], None)
        elif what == "open":
            self._pools[details[0]] = descriptors
        elif what == "preload":
            self._fork_preloaded(descriptors)
        else:
            for descriptor in self._pools.pop(details[0], ()):
                os.close(descriptor)

    def _start(self, request: int, pool: int, *details: Any) -> None:
        """Fork a worker; tell its pid, and hand over a descriptor of it."""
        template = os.getpid()
        opened: list[int] = []
        try:
            opened.append(_native.memory_file())
            opened += _native.channel()
            stack, asker, socket = opened
            pid = os.fork()
            if pid == 0:
                os.close(asker)
                self._become_worker(pool, template, socket, stack, details)
            process = _open_child(pid)
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            self._reply(request, None, error.errno, error.strerror)
            return
        os.close(socket)
        self._askers[asker] = pid
        self._stacks[pid] = stack
        self._ends.pop(pid, None)
        self._reply(request, pid, None, None, handed=(process,))
        os.close(process)

    def _become_worker(
        self, pool: int, template: int, socket: int, stack: int, details: tuple[Any, ...]
    ) -> NoReturn:
        """Leave everything that is the template's, and serve."""
        code = 1
        try:
            given = self._pools.pop(pool)
            self._leave_all()
            code = _worker.run_forked(given, template, socket, stack, *details)
        finally:
            os._exit(code)

    def _leave_all(self) -> None:
        """Close what is the template's, in a process that it has forked."""
        pools = [each for descriptors in self._pools.values() for each in descriptors]
        others = [*self._stacks.values(), *self._askers, self._program, self._control]
        for descriptor in (*pools, *others):
            os.close(descriptor)

    def _hear_worker(self, asker: int) -> None:
        """Fork another template for a worker, which it serves as this one serves the program."""
        try:
            request, descriptors = _native.receive_message(asker)
        except ConnectionError:
            request, descriptors = b"", []
        worker = self._askers[asker]
        if not request:
            # It has ended, or does not want one any more.
            del self._askers[asker]
            os.close(asker)
            return
        self._fork_template(descriptors, lambda: self._become_template(worker, *descriptors))

    def _fork_preloaded(self, descriptors: list[int]) -> None:
        """Fork another template for the program, which is going to load libraries."""
        self._fork_template(descriptors, lambda: self._become_preloaded(*descriptors))

    def _fork_template(self, descriptors: list[int], become: Callable[[], NoReturn]) -> None:
        self._templates = {pid for pid in self._templates if os.waitpid(pid, os.WNOHANG)[0] == 0}
        try:
            pid = os.fork()
            if pid == 0:
                become()
            self._templates.add(pid)
        except OSError:
            pass  # Whoever asked for it is told by the end of his socket.
        for descriptor in descriptors:
            os.close(descriptor)

    def _become_template(self, worker: int, control: int) -> NoReturn:
        try:
            program = _native.open_process(worker)
            self._leave_all()
            Template(control, program).serve()
        finally:
            os._exit(0)

    def _become_preloaded(self, control: int, described: int) -> NoReturn:
        try:
            program = _native.duplicate(self._program)
            self._leave_all()
            this = _native.open_process(os.getpid())
            _native.send_message(control, marshal.dumps(("",)), (this,))
            os.close(this)
            from . import _preload

            failure = _preload.load(_worker.read_file(described))
            os.close(described)
            _native.send_message(control, marshal.dumps((failure or "",)))
            if failure is None:
                gc.freeze()
                Template(control, program).serve()
        finally:
            os._exit(0)

    def _reap(self, pid: int) -> tuple[int, int, str]:
        """Wait for a worker that has ended: its exit code, peak memory, and stack."""
        if pid not in self._ends:
            _, status, usage = os.wait4(pid, 0)
            stack = self._stacks.pop(pid)
            text = os.pread(stack, _STACK_BYTES, 0).decode("utf-8", "replace")
            os.close(stack)
            self._ends[pid] = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, text
        return self._ends[pid]


def _open_child(pid: int) -> int:
    """Return a descriptor of a child; one that cannot be had is ended."""
    try:
        return _native.open_process(pid)
    except OSError:
        os.kill(pid, _signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _own_program(program: int) -> int | None:
    """Return a descriptor of the program of this number, if it is there and this is its child."""
    try:
        opened = _native.open_process(program)
    except ProcessLookupError:
        return None
    # Apart from the standard streams, which may be closed, and are going to be others.
    descriptor = _native.duplicate(opened)
    os.close(opened)
    return descriptor if os.getppid() == program else None


def _let_go_of_streams() -> None:
    """Leave the standard streams to the program and its workers: who reads them waits for the end.

    What goes wrong here before is told there; afterwards the program tells it.
    """
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    if nothing > 2:
        os.close(nothing)


def main(program: int) -> None:
    """Serve the program of this number, whose socket is the standard input."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])
    control = _native.duplicate(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    watched = _own_program(program)
    if watched is not None:
        _worker.prepare()
        _let_go_of_streams()
        # What is here stays in every worker: without the collector's marks its pages stay shared.
        gc.freeze()
        Template(control, watched).serve()
    os._exit(0)
