"""The program's side of the template process (start of a worker), and the launcher over it.

The template, which `_template.py` is, lives as long as a pool of the program is open. A forked
child of the program has none, and makes its own.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import _thread
import fcntl
import marshal
import os
import select
import sys

from . import _imports, _native
from ._template import receive, send
from ._worker import Setup, process_name

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What the template runs: the package from where it is in the program, whatever else has its name.
_CODE = """\
import sys
import _frozen_importlib as loading, _frozen_importlib_external as files
sys.path[:] = filter(None, sys.path)
spec = files.PathFinder.find_spec("raddle", [sys.argv[1]])
sys.modules["raddle"] = module = loading.module_from_spec(spec)
spec.loader.exec_module(module)
from raddle._template import main
main(int(sys.argv[2]))
"""
_FIRST_FREE = 3


class TemplateEnded(OSError):
    """The template process is gone; another can be made."""


class _Template:
    """The program's side of the template process."""

    def __init__(self) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._control = ours
        #: Held from a request to its reply.
        self._lock = _thread.allocate_lock()
        try:
            self._pid = _spawn(theirs.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process = _native.open_process(self._pid)

    def tell(self, message: tuple[Any, ...], descriptors: tuple[int, ...] = ()) -> None:
        """Send what has no reply; if the template is gone the next question finds it out."""
        with self._lock:
            try:
                send(self._control, message, descriptors)
            except OSError:
                pass

    def ask(self, message: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int]]:
        """Send a request and wait for the reply."""
        with self._lock:
            try:
                send(self._control, message)
                reply, descriptors = receive(self._control)
            except (BrokenPipeError, ConnectionResetError):
                reply = b""
        if not reply:
            raise TemplateEnded(
                f"the process that starts workers (pid {self._pid}) has ended; if it said why, "
                "it did so on the standard error output"
            )
        return marshal.loads(reply), descriptors

    def end(self) -> None:
        """End the process, and with it every worker that is left."""
        self._control.close()
        try:
            _native.signal_process(self._process, _signal.SIGKILL)
            os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # Somebody else has waited for it.
        os.close(self._process)

    def forget(self) -> None:
        """Leave the template to the parent, in a forked child."""
        self._control.close()
        os.close(self._process)


def _spawn(control: int) -> int:
    """Start the template with this socket as its standard input, without a fork of the program."""
    if not sys.executable:
        raise RuntimeError(
            "worker processes cannot be started: sys.executable does not name the interpreter; "
            "set it, or pass mp_context=multiprocessing.get_context('fork')"
        )
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    words = [sys.executable, *interpreter_flags(), "-c", _CODE, home, str(os.getpid())]
    # Apart from the standard ones, which may be closed in the program.
    apart = fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    try:
        return os.posix_spawn(
            sys.executable,
            words,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, apart, 0)],
            # A Ctrl-C before the template ignores it waits until it does.
            setsigmask=[_signal.SIGINT],
            # Ignored in the program perhaps, and then in what it starts: the template waits for
            # its children, and `terminate_workers` sends the other.
            setsigdef=[_signal.SIGCHLD, _signal.SIGTERM],
        )
    finally:
        os.close(apart)


def interpreter_flags() -> list[str]:
    """Return the command line options that make another interpreter behave as this one does."""
    flags = sys.flags
    letters = {
        "B": flags.dont_write_bytecode,
        "O": flags.optimize,
        "S": flags.no_site,
        "b": flags.bytes_warning,
        "d": flags.debug,
        "q": flags.quiet,
        "v": flags.verbose,
    }
    if flags.isolated:
        letters["I"] = 1
    else:
        letters["E"] = flags.ignore_environment
        letters["s"] = flags.no_user_site
        letters["P"] = int(getattr(flags, "safe_path", False))
    words = [f"-{letter * count}" for letter, count in letters.items() if count]
    words += [f"-W{option}" for option in sys.warnoptions]
    for name, value in sys._xoptions.items():
        words += ["-X", name if value is True else f"{name}={value}"]
    return words


class WorkerProcess:
    """One worker, as `multiprocessing.Process` shows its processes."""

    def __init__(self, template: _Template, pid: int, descriptor: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self._template = template
        self._descriptor = descriptor
        self._end: tuple[int, int | None, str | None] | None = None
        self._lock = _thread.allocate_lock()

    def __del__(self) -> None:
        os.close(self._descriptor)

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
        watched = select.poll()
        watched.register(self._descriptor, select.POLLIN)
        return bool(watched.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def reap(self) -> tuple[int, int | None, str | None]:
        """Wait for its end: exit code, peak memory in bytes, Python stack after a fault."""
        self.join()
        with self._lock:
            if self._end is None:
                self._end = self._ask_end()
            return self._end

    def _ask_end(self) -> tuple[int, int | None, str | None]:
        try:
            (code, memory, stack), _ = self._template.ask(("reap", self.pid))
        except TemplateEnded:
            # Whose end has the system kill the workers, with nobody to wait for them.
            return -_signal.SIGKILL, None, None
        return code, memory, stack or None


class TemplateLauncher:
    """Starts workers by the template process."""

    starts_at_once = False
    by_value = True

    def __init__(self, setup: Setup) -> None:
        self.processes: dict[int, WorkerProcess] = {}
        self._words = 0
        #: Descriptors of setup, mapping, bell, folder, standard output and error output.
        self._handed: tuple[int, ...] = ()
        self._template = _acquire()
        described = _native.memory_file()
        _write(described, setup.dump())
        folder = os.open(".", os.O_PATH | os.O_DIRECTORY)
        self._own = (described, folder, _duplicate(1), _duplicate(2))

    def open(self, mapping_fd: int, words: int, bell_fd: int) -> None:
        """Take what the workers share."""
        described, *place = self._own
        self._words = words
        self._handed = (described, _duplicate(mapping_fd), _duplicate(bell_fd), *place)
        self._introduce()

    def _introduce(self) -> None:
        self._template.tell(("open", id(self)), self._handed)

    def start(self, seat: int, number: int) -> tuple[int, int]:
        """Start a worker: its pid, and a descriptor that tells its end."""
        request = ("start", id(self), seat, number, self._words, _imports.authkey())
        try:
            reply, descriptors = self._template.ask(request)
        except TemplateEnded:
            self._template = _replace(self._template)
            self._introduce()
            reply, descriptors = self._template.ask(request)
        pid, code, message = reply
        if pid is None:
            raise OSError(code, f"a worker process could not be forked: {message}")
        (descriptor,) = descriptors
        name = process_name(number)
        self.processes[pid] = WorkerProcess(self._template, pid, descriptor, name)
        return pid, _duplicate(descriptor)

    def reap(self, pid: int) -> tuple[int, int | None, str | None]:
        """Wait for a worker: exit code, peak memory, and Python stack after a fault."""
        return self.processes.pop(pid).reap()

    def close(self) -> None:
        """Drop everything: the pool is over."""
        self._template.tell(("close", id(self)))
        for descriptor in self._handed or self._own:
            os.close(descriptor)
        self._handed = self._own = ()
        _release()


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _duplicate(descriptor: int) -> int:
    """Return another descriptor of the same; of nothing if that is closed."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    except OSError:
        return os.open(os.devnull, os.O_RDWR)


_template: _Template | None = None
#: How many pools use it.
_users = 0
_templates_lock = _thread.allocate_lock()


def _acquire() -> _Template:
    """Return the program's template, made now if there is none."""
    global _template, _users
    with _templates_lock:
        if _template is None:
            _template = _Template()
        _users += 1
        return _template


def _replace(ended: _Template) -> _Template:
    """Return another template than one that has ended."""
    global _template
    with _templates_lock:
        if _template is ended or _template is None:
            if _template is not None:
                _template.end()
            _template = _Template()
        return _template


def _release() -> None:
    """Note that a pool is over; with the last one the template ends."""
    global _template, _users
    with _templates_lock:
        _users -= 1
        if _users == 0 and _template is not None:
            _template.end()
            _template = None


def _forget_template() -> None:
    """Leave the template to the parent, in a forked child."""
    global _template, _users, _templates_lock
    _templates_lock = _thread.allocate_lock()
    _users = 0
    if _template is not None:
        _template.forget()
        _template = None


os.register_at_fork(after_in_child=_forget_template)
