"""`Thread`: a `threading.Thread` that gives the result of its function."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from ._errors import TimeoutError, WaitTimeout
from ._futures import Future

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Thread"]

#: Threads that ended with an error for which nobody has asked yet.
_unasked: weakref.WeakSet[Thread] = weakref.WeakSet()


class Thread(threading.Thread):
    """A thread whose function's value or error `result` gives.

    Everything else is as in :class:`threading.Thread`, its parent. An error that nobody asks for
    goes to ``threading.excepthook``: when the thread object is collected, or when the program ends.

    Parameters
    ----------
    group : None
        As in the standard library: nothing else is allowed.
    target : callable, optional
        The function to call. A subclass may override `run` instead; its value is the result then.
    name : str, optional
        The thread's name, for reports.
    args : iterable
        Arguments of the call.
    kwargs : mapping, optional
        Keyword arguments of the call.
    daemon : bool, optional
        Whether the program ends without waiting for the thread.

    Examples
    --------
    >>> from raddle import Thread
    >>> thread = Thread(target=pow, args=(2, 10))
    >>> thread.start()
    >>> thread.result()
    1024
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        self._outcome: Future[Any] = Future()
        self._is_asked = False

    def start(self) -> None:
        """Start the thread.

        Raises
        ------
        RuntimeError
            It has been started before, or the system starts no thread.
        """
        is_new = self._initialized and self.ident is None  # type: ignore[attr-defined]
        if is_new:
            # What runs is wrapped on the instance, so that a `run` that a subclass overrides, or
            # that a tool has replaced, gives its value too.
            own = vars(self).get("run")
            vars(self)["run"] = _Body(self, self.run)
        try:
            super().start()
        except BaseException:
            if is_new and self.ident is None:
                vars(self).pop("run", None)
                if own is not None:
                    vars(self)["run"] = own
            raise

    def run(self) -> Any:
        """Call the target, and return its value."""
        try:
            if self._target is not None:  # type: ignore[attr-defined]
                return self._target(*self._args, **self._kwargs)  # type: ignore[attr-defined]
            return None
        finally:
            # As the standard library does: an argument may refer to the thread.
            del self._target, self._args, self._kwargs  # type: ignore[attr-defined]

    def result(self, timeout: float | None = None) -> Any:
        """Wait until the thread has ended, and return its function's value or raise its error.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        TimeoutError
            The function has not returned in time.
        DeadlockError
            This and other threads would wait for each other in a circle; never with `timeout`.
        RuntimeError
            The thread has not been started, or is the calling one, or stayed behind in the parent
            of a fork.
        BaseException
            Whatever the function raised, with its traceback.
        """
        self._check_awaitable("the result of ")
        try:
            value = self._outcome.result(timeout)
            # What comes after the function is short, and depends on nobody.
            super().join()
            return value
        except BaseException as error:
            if self._outcome.done() and error is self._outcome.exception(0):
                self._is_asked = True
                super().join()
            elif isinstance(error, TimeoutError):
                raise WaitTimeout(f"the thread still runs after {timeout} s") from None
            raise
        finally:
            # The error that is raised here keeps this frame, and must not keep the thread with it.
            del self

    def done(self) -> bool:
        """Return whether the function has returned or raised."""
        return self._outcome.done()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread ends.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        DeadlockError
            This and other threads would wait for each other in a circle; never with `timeout`.
        RuntimeError
            The thread has not been started, or is the calling one.
        """
        # What comes after the function is short, and depends on nobody.
        if timeout is None and self.is_alive() and self is not threading.current_thread():
            self._outcome.exception()
        super().join(timeout)

    def _check_awaitable(self, what: str) -> None:
        if self._outcome.done():
            return
        if self is threading.current_thread():
            raise RuntimeError(f"a thread cannot wait for {what}itself")
        if self.ident is None:
            raise RuntimeError(f"cannot wait for {what}a thread that has not been started")
        if not self.is_alive() and not self._outcome.done():
            raise RuntimeError(
                f"thread {self.name!r} stayed behind in the parent process when this one was forked"
            )

    def _report(self) -> None:
        error = self._outcome.exception(0)
        if error is not None:
            arguments = (type(error), error, error.__traceback__, self)
            threading.excepthook(threading.ExceptHookArgs(arguments))

    def __del__(self) -> None:
        # Half made, it has nothing to report.
        if vars(self).get("_outcome") is not None and self._is_unasked():
            self._is_asked = True
            self._report()

    def _is_unasked(self) -> bool:
        return not self._is_asked and self._outcome.done()


class _Body:
    """What a thread runs: its function, the end of which completes the future."""

    def __init__(self, thread: Thread, run: Callable[[], object]) -> None:
        self.thread: Thread | None = thread
        self.run: Callable[[], object] | None = run

    def __call__(self) -> None:
        thread, run = self.thread, self.run
        assert thread is not None and run is not None, "a thread begins once"
        outcome = thread._outcome
        try:
            # What the thread runs stays on it only until it begins.
            self.thread = self.run = None
            vars(thread).pop("run", None)
            outcome._begin_on_this_thread(f"thread {thread.name!r}")
            try:
                value = run()
            except BaseException as error:
                # Without this frame, and that of `Thread.run`: they say nothing.
                outcome.set_exception(error.with_traceback(_of_function(error.__traceback__)))
                _unasked.add(thread)
            else:
                outcome.set_result(value)
        finally:
            # An exception that another thread sent may come between any two lines.
            if not outcome.done():
                outcome.set_exception(RuntimeError("the thread was interrupted as it ended"))


def _of_function(traceback: TracebackType | None) -> TracebackType | None:
    traceback = traceback and traceback.tb_next
    if traceback is not None and traceback.tb_frame.f_code is Thread.run.__code__:
        traceback = traceback.tb_next
    return traceback


@atexit.register
def _report_unasked() -> None:
    # By now all threads for which the program waits have ended.
    for thread in list(_unasked):
        if thread._is_unasked():
            thread._is_asked = True
            thread._report()
