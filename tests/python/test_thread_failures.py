"""raddle.Thread when something fails: no thread to be had, time that is up, exceptions from others.

The last come by PyThreadState_SetAsyncExc, as debuggers and runners of tests send them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import sys
import threading
import time

import pytest
from waiting import SECONDS, outcome, wait_asleep

#: What the standard library starts a thread with.
START = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"


class Sent(BaseException):
    """What another thread sends."""


def fail():
    raise LookupError("from the thread")


def send(ident):
    """Raise `Sent` in a thread, as soon as it runs Python code."""
    kind = ctypes.py_object(Sent)
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), kind) == 1


@pytest.fixture
def hooked(monkeypatch):
    """What threading.excepthook was told."""
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    return told


@pytest.fixture
def no_thread(monkeypatch):
    """Has the system start no thread; called, it does again."""

    def refuse(*_args, **_kwargs):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading, START, refuse)
        yield patch.undo


# a thread that does not start


def make_with_target(raddle):
    return raddle.Thread(target=divmod, args=(17, 5))


def make_with_run(raddle):
    class Divide(raddle.Thread):
        def run(self):
            return divmod(17, 5)

    return Divide()


def make_with_run_on_the_object(raddle):
    thread = raddle.Thread()
    thread.run = lambda: divmod(17, 5)
    return thread


@pytest.mark.parametrize(
    "make",
    [
        make_with_target,
        make_with_run,
        make_with_run_on_the_object,
    ],
    ids=lambda make: make.__name__,
)
def test_a_thread_that_the_system_did_not_start_can_be_started_later(raddle, no_thread, make):
    thread = make(raddle)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            thread.start()
        assert not thread.is_alive() and not thread.done() and thread.ident is None
        with pytest.raises(RuntimeError, match="not been started"):
            thread.result()
    no_thread()
    thread.start()
    assert thread.result(timeout=SECONDS) == (3, 2)
    thread.join()
    with pytest.raises(RuntimeError, match="started once"):
        thread.start()


def test_the_error_of_a_thread_that_was_started_later_is_its_own(raddle, no_thread, hooked):
    thread = raddle.Thread(target=fail)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        thread.start()
    no_thread()
    thread.start()
    with pytest.raises(LookupError, match="from the thread"):
        thread.result(timeout=SECONDS)
    assert hooked == []


def test_a_thread_that_is_started_again_while_it_runs_goes_on(raddle, start):
    gate = start.gate()
    thread = start(gate.wait, SECONDS)
    with pytest.raises(RuntimeError, match="started once"):
        thread.start()
    gate.set()
    assert thread.result(timeout=SECONDS) is True


@pytest.mark.parametrize("kind", ["standard", "raddle"])
def test_a_subclass_that_does_not_call_the_constructor_is_told(raddle, kind):
    class Bare(raddle.Thread if kind == "raddle" else threading.Thread):
        def __init__(self):
            pass

    thread = Bare()
    with pytest.raises(RuntimeError, match=r"__init__\(\) not called"):
        thread.start()
    del thread
    gc.collect()


# time that is up


def test_an_error_that_comes_just_as_the_time_is_up_is_not_lost(raddle, hooked):
    """Between the end of the wait and the look at what the thread is doing, the thread fails."""
    gate = threading.Event()

    def late():
        gate.wait(SECONDS)
        fail()

    class Failing:
        """The thread's future, whose wait ends before the thread's failure and returns after it."""

        def __getattr__(self, name):
            return getattr(future, name)

        def result(self, timeout):
            try:
                return future.result(timeout)
            finally:
                gate.set()
                threading.Thread.join(threads[0], SECONDS)

    threads = [raddle.Thread(target=late)]
    future, threads[0]._outcome = threads[0]._outcome, Failing()
    threads[0].start()
    with pytest.raises(TimeoutError):
        threads[0].result(timeout=0.01)
    threads[0]._outcome = future
    assert threads[0].done()
    # The error, and with its frames the thread, is kept by nobody.
    threads.clear()
    future = None
    gc.collect()
    assert hooked == [LookupError]


# exceptions that others send


def test_a_sent_exception_is_the_threads_error_for_all_who_wait(start):
    begun, stop = threading.Event(), start.gate()

    def loop():
        begun.set()
        # No lock is taken here: the exception may come between any two steps.
        while not stop.is_set():
            time.sleep(0.001)

    thread = start(loop)
    assert begun.wait(SECONDS)
    waiters = [start(thread.result), start(thread.result, SECONDS), start(thread.join)]
    for waiter in waiters:
        wait_asleep(waiter)
    send(thread.ident)
    for waiter in waiters[:2]:
        with pytest.raises(Sent):
            waiter.result(timeout=SECONDS)
    assert outcome(waiters[2]) is None
    assert thread.done()


class SentAt:
    """Has `Sent` raised at one of the lines of a thread's function, and of raddle's own around it.

    It is a trace function for ``threading.settrace``.
    """

    def __init__(self, function, own_file, line):
        self._files = (function.__code__.co_filename, own_file)
        self._function = function.__code__
        self._left = line
        #: Where it was raised, and whether the function had begun by then.
        self.place = None
        self.has_begun = False

    def __call__(self, frame, event, _argument):
        if frame.f_code.co_filename not in self._files:
            return None
        if event == "line":
            self.has_begun |= frame.f_code is self._function and self.place is None
            self._left -= 1
            if self._left == 0:
                self.place = f"{frame.f_code.co_name}:{frame.f_lineno}"
                send(threading.get_ident())
        return self


def run_with_sent(raddle, function, line):
    """Run a thread in which `Sent` is raised at a line; both when it has ended."""
    sent = SentAt(function, raddle.Thread.start.__code__.co_filename, line)
    threading.settrace(sent)
    try:
        thread = raddle.Thread(target=function)
        thread.start()
    finally:
        threading.settrace(None)
    threading.Thread.join(thread, SECONDS)
    assert not thread.is_alive()
    return thread, sent


def succeed():
    value = 1
    return value


NEVER_TOLD = pytest.mark.xfail(
    reason="an exception sent in the very first lines of a thread ends it unseen by those who wait"
)


@pytest.mark.parametrize("has_begun", [pytest.param(False, marks=NEVER_TOLD), True])
@pytest.mark.parametrize("function", [succeed, fail])
def test_a_thread_that_ends_by_a_sent_exception_is_done(raddle, hooked, function, has_begun):
    """Otherwise whoever waits for it, in `result` or `join`, waits for ever."""
    places, waits_for_ever = [], []
    for line in itertools.count(1):
        thread, sent = run_with_sent(raddle, function, line)
        is_done = thread.done()
        if is_done:
            with contextlib.suppress(Sent, RuntimeError, LookupError):
                assert thread.result(timeout=SECONDS) == 1
            thread.join()
        if sent.place is None:
            break
        if sent.has_begun is has_begun:
            places.append(sent.place)
            waits_for_ever.extend([] if is_done else [sent.place])
    assert places, "no line was found to send an exception at"
    assert waits_for_ever == []
