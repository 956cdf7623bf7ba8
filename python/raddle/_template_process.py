"""The program's side of the template process (start of a worker).

The template, which `_template.py` is, lives as long as the program, so that a pool made after
another starts warm; it ends at the end of its socket. A program that has changed what its children
inherit gets another. A forked child of the program has none, and makes its own. This is loaded
before everything else that a pool needs, so that the template starts meanwhile.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import marshal
import os
import sys

from . import _native

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
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


class Template:
    """The program's side of the template process."""

    #: What its workers have loaded from the start.
    libraries: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._executable = _find_interpreter()
        self._control, theirs = _native.channel()
        #: Of one that was forked for a worker the number is not known: it ends with its socket.
        self._pid, self._process = 0, -1
        #: Held from a request to its reply; the collector may run `close` of a launcher within.
        self._lock = _thread.RLock()
        self._requests = 0
        try:
            self._begin(theirs)
        except BaseException:
            os.close(self._control)
            raise
        finally:
            os.close(theirs)
        #: How many pools use it, and whether the next pool may.
        self.users, self.is_kept = 0, True
        #: What it has inherited.
        self.inherited = _inheritance(0)

    def _begin(self, control: int) -> None:
        """Start the process, which has this end of the socket."""
        if not _fork_of_own(self._executable, control):
            self._pid = _spawn(self._executable, control)
            self._process = _native.open_process(self._pid)

    def is_fit(self) -> bool:
        """Tell whether a template that was made now would be as this one."""
        is_same_program = self._executable == _find_interpreter()
        return is_same_program and _is_same(self.inherited, _inheritance(0))

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
            except OSError as error:
                raise self._ended() from error

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
            f"the process that starts workers ({self._executable}, pid {self._pid}) has ended; "
            "if it could not begin, it said why on the standard error output"
        )

    def end(self) -> None:
        """End the process, and with it every worker that is left."""
        try:
            if self._pid and self._process >= 0:
                _native.signal_process(self._process, _signal.SIGKILL)
                os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # Somebody else has waited for it.
        with self._lock:
            self._close()

    def retire(self) -> None:
        """Note that it has ended, and is for no further pool."""
        self.is_kept = False

    def forget(self) -> None:
        """Leave the template to the parent, in a forked child."""
        # Whoever held it is not here.
        self._lock = _thread.RLock()
        self._close()

    def _close(self) -> None:
        control, self._control = self._control, -1
        if control >= 0:
            os.close(control)
        if self._process >= 0:
            os.close(self._process)
            self._process = -1


def _fork_of_own(executable: str, control: int) -> bool:
    """In a worker, have its own template fork another; tell whether that is done.

    A fork takes a hundredth of the time of a new interpreter, and is the same unless the worker has
    changed what it has inherited.
    """
    worker = sys.modules.get("raddle._worker")
    asked = getattr(worker, "template_socket", -1)
    if asked < 0 or worker.worker_pid != os.getpid():  # type: ignore[union-attr]
        return False
    try:
        is_same = _is_same(_inheritance(os.getppid()), _inheritance(0))
        if executable != sys.executable or not is_same:
            return False
        _native.send_message(asked, b"template", (control,))
    except OSError:
        return False
    return True


def _find_interpreter() -> str:
    """Return the interpreter that is to run the template: this one, or what was set for workers."""
    spawn = sys.modules.get("multiprocessing.spawn")
    chosen = spawn.get_executable() if spawn is not None else sys.executable
    executable = os.fsdecode(chosen or "")
    is_program = bool(getattr(sys, "frozen", False)) and executable == sys.executable
    if not executable or is_program:
        what = "is the program itself" if is_program else "does not name the interpreter"
        raise RuntimeError(
            f"worker processes cannot be started: sys.executable {what}; name a Python by "
            "multiprocessing.set_executable(), or pass "
            "mp_context=multiprocessing.get_context('fork')"
        )
    return executable


def _spawn(executable: str, control: int) -> int:
    """Start the template with this socket as its standard input, without a fork of the program."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    words = [executable, *interpreter_flags(), "-c", _CODE, home, str(os.getpid())]
    # Apart from the standard ones, which may be closed in the program.
    apart = _native.duplicate(control)
    try:
        return os.posix_spawn(
            executable,
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


def _inheritance(process: int) -> tuple[object, ...]:
    """Return what the children of a process, 0 is this one, inherit for good and are not told."""
    folder = f"/proc/{process or 'self'}"
    return (
        os.getsid(process),
        os.getpgid(process),
        os.getpriority(os.PRIO_PROCESS, process),
        _read(f"{folder}/limits"),
        _read(f"{folder}/status"),
    )


def _is_same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    *plain, status = before
    *plain_now, status_now = now
    return plain == plain_now and _lasting(status) == _lasting(status_now)


def _lasting(status: object) -> list[str]:
    """Return the lines of a process's status that tell of what its children inherit."""
    names = ("Umask:", "Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:")
    return [line for line in str(status).splitlines() if line.startswith(names)]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


#: The one that the next pool uses.
_template: Template | None = None
_templates_lock = _thread.RLock()


def acquire(libraries: tuple[str, ...] = ()) -> Template:
    """Return the program's template, made now if there is none that fits.

    Parameters
    ----------
    libraries : tuple of str
        What the workers are going to need, of `_preloaded_template.LIBRARIES`, and the program has
        loaded.
    """
    with _templates_lock:
        template = _fitting()
        if libraries:
            from ._preloaded_template import preloaded

            template = preloaded(template, libraries) or template
        template.users += 1
        return template


def _fitting() -> Template:
    """Return the template without libraries."""
    global _template
    before = _template
    if before is not None and not before.is_fit():
        _template, before.is_kept = None, False
        if before.users == 0:
            before.end()
    if _template is None:
        _template = Template()
    return _template


def replace(ended: Template) -> Template:
    """Return another template than one that has ended: one without libraries."""
    global _template
    with _templates_lock:
        if ended.libraries:
            ended.retire()
            _leave(ended)
            ended.end()
            return acquire()
        _leave(ended)
        if _template is ended or _template is None:
            ended.retire()
            ended.end()
            _template = Template()
        _template.users += 1
        return _template


def release(template: Template) -> None:
    """Note that a pool is over. The template stays for the next, if it is the one that fits."""
    with _templates_lock:
        _leave(template)


def _leave(template: Template) -> None:
    template.users -= 1
    if template.users == 0 and not template.is_kept:
        template.end()


def _forget_template() -> None:
    """Leave the template to the parent, in a forked child."""
    global _template, _templates_lock
    _templates_lock = _thread.RLock()
    if _template is not None:
        _template.forget()
        _template = None


os.register_at_fork(after_in_child=_forget_template)
