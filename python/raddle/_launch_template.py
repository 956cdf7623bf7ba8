"""The program's side of the template process (start of a worker), and the launcher over it.

The template, which `_template.py` is, lives as long as a pool of the program is open. A forked
child of the program has none, and makes its own.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import marshal
import os
import sys

from . import _imports, _native
from ._worker import Setup, process_name

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: What the template runs: the package from where it is in the program, whatever else has its name.
#: It keeps no directory busy, and needs none that may be gone.
_CODE = """\
import posix, sys
posix.chdir("/")
import _frozen_importlib as loading, _frozen_importlib_external as files
sys.path[:] = filter(None, sys.path)
spec = files.PathFinder.find_spec("raddle", [sys.argv[1]])
sys.modules["raddle"] = module = loading.module_from_spec(spec)
spec.loader.exec_module(module)
from raddle._template import main
main(int(sys.argv[2]))
"""


class TemplateEnded(OSError):
    """The template process is gone; another can be made."""


class _Template:
    """The program's side of the template process."""

    def __init__(self) -> None:
        self._control, theirs = _native.channel()
        #: Held from a request to its reply; the collector may run `close` of a launcher within.
        self._lock = _thread.RLock()
        self._requests = 0
        try:
            self._pid = _spawn(theirs)
        except BaseException:
            os.close(self._control)
            raise
        finally:
            os.close(theirs)
        self._process = _native.open_process(self._pid)

    def tell(self, *message: Any, descriptors: tuple[int, ...] = ()) -> None:
        """Send what has no reply; if the template is gone the next question finds it out."""
        with self._lock:
            if self._control >= 0:
                try:
                    _native.send_message(self._control, marshal.dumps((0, *message)), descriptors)
                except OSError:
                    pass

    def ask(self, *message: Any) -> tuple[tuple[Any, ...], list[int]]:
        """Send a request and wait for the reply, and what comes with it."""
        with self._lock:
            if self._control < 0:
                raise self._ended()
            self._requests += 1
            number = self._requests
            try:
                _native.send_message(self._control, marshal.dumps((number, *message)))
                return self._reply(number)
            except (BrokenPipeError, ConnectionResetError):
                raise self._ended() from None

    def _reply(self, number: int) -> tuple[tuple[Any, ...], list[int]]:
        while True:
            data, descriptors = _native.receive_message(self._control)
            if not data:
                raise self._ended()
            of, *reply = marshal.loads(data)
            if of == number:
                return tuple(reply), descriptors
            # Of a question whose asker was interrupted before he heard it.
            for descriptor in descriptors:
                os.close(descriptor)

    def _ended(self) -> TemplateEnded:
        return TemplateEnded(
            f"the process that starts workers (pid {self._pid}) has ended; if it said why, "
            "it did so on the standard error output"
        )

    def end(self) -> None:
        """End the process, and with it every worker that is left."""
        try:
            _native.signal_process(self._process, _signal.SIGKILL)
            os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # Somebody else has waited for it.
        with self._lock:
            self._close()

    def forget(self) -> None:
        """Leave the template to the parent, in a forked child."""
        # Whoever held it is not here.
        self._lock = _thread.RLock()
        self._close()

    def _close(self) -> None:
        control, self._control = self._control, -1
        if control >= 0:
            os.close(control)
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
    apart = _native.duplicate(control)
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

    def __init__(self, setup: Setup) -> None:
        self.processes: dict[int, WorkerProcess] = {}
        self._words = 0
        #: Descriptors of setup, folder, standard output and error output; then of mapping and bell.
        self._handed: tuple[int, ...] = ()
        #: A forked child has this object, and not what it stands for.
        self._program = os.getpid()
        self._template: _Template | None = _acquire()
        described = _native.memory_file()
        self._handed = (described, _folder(), _duplicate(1), _duplicate(2))
        _write(described, setup.dump())

    def __del__(self) -> None:
        # A pool that was never used, or could not be made.
        if not sys.is_finalizing():
            self.close()

    def open(self, mapping_fd: int, words: int, bell_fd: int) -> None:
        """Take what the workers share."""
        self._words = words
        self._handed += (_duplicate(mapping_fd), _duplicate(bell_fd))
        self._introduce(self._current())

    def _introduce(self, template: _Template) -> None:
        template.tell("open", id(self), descriptors=self._handed)

    def _current(self) -> _Template:
        if self._template is None:
            raise RuntimeError("a launcher that is closed starts nothing")
        return self._template

    def start(self, seat: int, number: int) -> tuple[int, int]:
        """Start a worker: its pid, and a descriptor that tells its end."""
        details = (id(self), seat, number, self._words, _imports.authkey())
        template = self._current()
        try:
            reply, descriptors = template.ask("start", *details)
        except TemplateEnded:
            template = self._template = _replace(template)
            self._introduce(template)
            reply, descriptors = template.ask("start", *details)
        pid, code, message = reply
        if pid is None:
            raise OSError(code, f"a worker process could not be forked: {message}")
        (descriptor,) = descriptors
        name = process_name(number)
        self.processes[pid] = WorkerProcess(template, pid, descriptor, name)
        return pid, _duplicate(descriptor)

    def reap(self, pid: int) -> tuple[int, int | None, str | None]:
        """Wait for a worker: exit code, peak memory, and Python stack after a fault."""
        process = self.processes.pop(pid)
        end = process.reap()
        process.forget()
        return end

    def close(self) -> None:
        """Drop everything: the pool is over. A second time nothing is left to be dropped."""
        template, self._template = getattr(self, "_template", None), None
        if template is None:
            return
        handed, self._handed = self._handed, ()
        for descriptor in handed:
            os.close(descriptor)
        if self._program == os.getpid():
            template.tell("close", id(self))
            _release()


def _folder() -> int:
    """Return a descriptor of the working directory, which may have been removed or renamed."""
    return os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _duplicate(descriptor: int) -> int:
    """Return another descriptor of the same; of nothing if that is closed."""
    try:
        return _native.duplicate(descriptor)
    except OSError:
        return os.open(os.devnull, os.O_RDWR)


_template: _Template | None = None
#: How many pools use it.
_users = 0
_templates_lock = _thread.RLock()


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
    _templates_lock = _thread.RLock()
    _users = 0
    if _template is not None:
        _template.forget()
        _template = None


os.register_at_fork(after_in_child=_forget_template)
