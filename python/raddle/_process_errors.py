"""The exceptions that only a pool of processes raises."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from ._raddle_error import RaddleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BrokenProcessPool", "MemoryLimit", "TaskKilled", "UnpicklingFailed", "WorkerDied"]


class UnpicklingFailed(RaddleError, BrokenProcessPool):
    """A task, a result or an exception could not be rebuilt in the other process.

    The pool goes on: only the task that it belongs to fails.

    Attributes
    ----------
    type_name : str
        The class of the original exception: of the one that the task raised if it is that which
        cannot be rebuilt, else of the one that the rebuilding raised.
    message : str
        Its message.
    remote_traceback : str or None
        Its traceback in the worker, if it was raised there.

    Examples
    --------
    >>> from raddle import UnpicklingFailed
    >>> error = UnpicklingFailed.of_task("ModuleNotFoundError", "No module named 'plugin'", "")
    >>> error.type_name
    'ModuleNotFoundError'
    """

    type_name: str
    message: str
    remote_traceback: str | None

    def __init__(
        self,
        text: str,
        type_name: str = "",
        message: str = "",
        remote_traceback: str | None = None,
    ) -> None:
        super().__init__(text)
        self.type_name = type_name
        self.message = message
        self.remote_traceback = remote_traceback

    def __reduce__(self) -> tuple[object, ...]:
        args = (str(self), self.type_name, self.message, self.remote_traceback)
        return type(self), args, self.__dict__

    @classmethod
    def of_task(cls, type_name: str, message: str, traceback: str) -> Self:
        """Return the exception for a call that the worker could not rebuild."""
        text = (
            f"the call could not be rebuilt in the worker: {type_name}: {message}; "
            "see that the worker can import what the call needs"
        )
        return cls(text, type_name, message, traceback)

    @classmethod
    def of_exception(cls, why: BaseException, type_name: str, message: str, traceback: str) -> Self:
        """Return the exception for one that the program cannot rebuild."""
        text = (
            f"the task raised {type_name}: {message}; that exception could not be rebuilt in the "
            f"program: {type(why).__qualname__}: {_text_of(why)}; see that its class can be made "
            "again from its args, or give it a __reduce__"
        )
        return cls(text, type_name, message, traceback)

    @classmethod
    def of_value(cls, why: BaseException) -> Self:
        """Return the exception for a result that the program cannot rebuild."""
        name, message = type(why).__qualname__, _text_of(why)
        error = cls(
            f"the task has run, but its result could not be rebuilt in the program: {name}: "
            f"{message}",
            name,
            message,
        )
        error.__cause__ = why
        return error

    @classmethod
    def of_damage(cls, what: str) -> Self:
        """Return the exception for bytes that no worker sends."""
        return cls(
            f"the reply of a worker is damaged ({what}): something has written into the memory "
            "that it shares with the program",
            "",
            what,
        )


class WorkerDied(RaddleError, BrokenProcessPool):
    """A worker process ended while it ran a task: killed, crashed, or by ``os._exit``.

    Only that task fails. Those that the worker had not begun are run by others, and a new worker
    takes its place.

    Attributes
    ----------
    task : str or None
        The call that it ran, shortened; None if it ran none.
    worker : int
        The number of the worker in its pool.
    pid : int
        What the system called it.
    exit_code : int or None
        With what it ended, if it ended by itself.
    signal : str or None
        The name of the signal that ended it, such as ``"SIGKILL"``.
    peak_memory : int or None
        How many bytes of memory it had at most, if the system tells.
    stack : str or None
        The stack of Python at a fault such as ``"SIGSEGV"``.

    Examples
    --------
    >>> from raddle import WorkerDied
    >>> print(WorkerDied("load('a.csv')", 3, 41, signal="SIGKILL"))
    worker 3 (pid 41) was killed by SIGKILL while it ran load('a.csv'); the other tasks go on
    """

    task: str | None
    worker: int
    pid: int
    exit_code: int | None
    signal: str | None
    peak_memory: int | None
    stack: str | None

    def __init__(
        self,
        task: str | None,
        worker: int,
        pid: int,
        exit_code: int | None = None,
        signal: str | None = None,
        peak_memory: int | None = None,
        stack: str | None = None,
        rest: str = "the other tasks go on",
    ) -> None:
        self.task = task
        self.worker = worker
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.peak_memory = peak_memory
        self.stack = stack
        self._rest = rest
        super().__init__(self._told())

    def __reduce__(self) -> tuple[object, ...]:
        end = (self.exit_code, self.signal, self.peak_memory, self.stack, self._rest)
        return type(self), (self.task, self.worker, self.pid, *end), self.__dict__

    def _told(self) -> str:
        doing = "while no task ran on it" if self.task is None else f"while it ran {self.task}"
        return f"worker {self.worker} (pid {self.pid}) {self._end()} {doing}{self._more()}"

    def _end(self) -> str:
        if self.signal is not None:
            return f"was killed by {self.signal}"
        if self.exit_code is not None:
            return f"ended with exit code {self.exit_code}"
        return "ended"

    def _more(self) -> str:
        text = f"; {self._rest}" if self._rest else ""
        if self.signal == "SIGKILL" and self.peak_memory is not None:
            text += f" (it had {_size(self.peak_memory)} of memory at most)"
        if self.stack:
            text += f"\n\nWhere it was:\n{self.stack.rstrip()}"
        return text


class TaskKilled(WorkerDied):
    """The task was ended by `Future.kill`, and with it the worker that ran it.

    Examples
    --------
    >>> from raddle import TaskKilled
    >>> print(TaskKilled("solve(9)", 0, 41, signal="SIGKILL"))
    solve(9) was ended by future.kill(), and with it worker 0 (pid 41); the other tasks go on
    """

    def _told(self) -> str:
        rest = f"; {self._rest}" if self._rest else ""
        task = "the task" if self.task is None else self.task
        ended = f"and with it worker {self.worker} (pid {self.pid})"
        return f"{task} was ended by future.kill(), {ended}{rest}"


class MemoryLimit(WorkerDied, MemoryError):
    """The task had its worker hold more memory than `memory_limit`, and the worker was ended.

    Attributes
    ----------
    limit : int
        How many bytes it was allowed to hold.
    peak_memory : int or None
        How many it was seen to hold at most.

    Examples
    --------
    >>> from raddle import MemoryLimit
    >>> print(MemoryLimit("load('a.csv')", 0, 41, 2 << 30, 2255 << 20))
    load('a.csv') went beyond the memory limit of 2.0 GB: worker 0 (pid 41) held 2.2 GB and \
was ended; the other tasks go on
    """

    limit: int

    def __init__(
        self,
        task: str | None,
        worker: int,
        pid: int,
        limit: int,
        peak_memory: int | None = None,
    ) -> None:
        self.limit = limit
        super().__init__(task, worker, pid, signal="SIGKILL", peak_memory=peak_memory)

    def __reduce__(self) -> tuple[object, ...]:
        args = (self.task, self.worker, self.pid, self.limit, self.peak_memory)
        return type(self), args, self.__dict__

    def _told(self) -> str:
        task = "the task" if self.task is None else self.task
        held = "more" if self.peak_memory is None else _size(self.peak_memory)
        return (
            f"{task} went beyond the memory limit of {_size(self.limit)}: worker {self.worker} "
            f"(pid {self.pid}) held {held} and was ended; {self._rest}"
        )


def _size(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "<its message cannot be made: str() fails>"
