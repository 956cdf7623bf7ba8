"""raddle.Thread: a threading.Thread that gives back its function's value or error."""

from __future__ import annotations

import contextvars
import gc
import inspect
import threading
import traceback
import weakref

import pytest
from programs import run
from waiting import SECONDS, outcome, wait_asleep


def fail():
    raise LookupError("from the thread")  # raised


@pytest.fixture
def hooked(monkeypatch):
    """What threading.excepthook was told."""
    told = []
    hook = lambda args: told.append((args.exc_type, str(args.exc_value), args.thread))  # noqa: E731
    monkeypatch.setattr(threading, "excepthook", hook)
    return told


# the result


def test_the_result_is_what_the_function_returned(raddle):
    thread = raddle.Thread(target=divmod, args=(17, 5))
    thread.start()
    assert thread.result() == (3, 2)
    assert thread.result() is thread.result()
    assert thread.done() and not thread.is_alive()


def test_arguments_are_passed_as_to_a_standard_thread(raddle, start):
    def collect(*args, **kwargs):
        return args, kwargs

    thread = raddle.Thread(None, collect, "named", (1, 2), {"three": 3}, daemon=True)
    thread.start()
    assert thread.result() == ((1, 2), {"three": 3})
    assert thread.name == "named" and thread.daemon


def test_the_signature_is_that_of_the_standard_thread(raddle):
    ours = list(inspect.signature(raddle.Thread).parameters.values())
    names = ["group", "target", "name", "args", "kwargs", "daemon"]
    assert [parameter.name for parameter in ours][: len(names)] == names
    assert ours[5].kind is inspect.Parameter.KEYWORD_ONLY
    with pytest.raises(AssertionError):
        raddle.Thread(group=object())


def test_a_thread_without_a_function_gives_none(raddle):
    thread = raddle.Thread()
    thread.start()
    assert thread.result() is None


def test_it_is_a_standard_thread(raddle, start):
    gate = start.gate()
    thread = start(gate.wait, name="seen")
    assert isinstance(thread, threading.Thread)
    assert thread in threading.enumerate()
    assert thread.is_alive() and thread.ident and thread.native_id
    gate.set()
    thread.join()
    assert not thread.is_alive()
    assert thread not in threading.enumerate()


def test_names_are_made_as_by_the_standard_thread(raddle):
    def work():
        pass

    name = raddle.Thread(target=work).name
    assert name.startswith("Thread-") and name.endswith(" (work)")


def test_done_tells_whether_the_function_has_ended(raddle, start):
    gate = start.gate()
    thread = raddle.Thread(target=gate.wait, daemon=True)
    assert thread.done() is False
    thread.start()
    assert thread.done() is False
    gate.set()
    thread.join()
    assert thread.done() is True


def test_a_result_can_be_had_from_many_threads_at_once(raddle, start):
    gate, value = start.gate(), object()
    thread = start(lambda: (gate.wait(SECONDS), value)[1])
    askers = [start(thread.result) for _ in range(16)]
    for asker in askers:
        wait_asleep(asker)
    gate.set()
    assert [outcome(asker) for asker in askers] == [value] * 16


def test_a_thread_that_has_not_started_has_no_result(raddle):
    thread = raddle.Thread(target=int)
    for timeout in (None, 0, 1):
        with pytest.raises(RuntimeError):
            thread.result(timeout)
    assert not thread.done()
    thread.start()
    assert thread.result() == 0


def test_a_thread_has_no_result_inside_itself(raddle):
    thread = raddle.Thread(target=lambda: thread.result())
    thread.start()
    with pytest.raises(RuntimeError):
        thread.result()


# timeouts


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_result_that_is_late_raises_timeout_error_and_comes_later(raddle, start, timeout):
    gate = start.gate()
    thread = start(gate.wait, SECONDS)
    with pytest.raises(TimeoutError):
        thread.result(timeout=timeout)
    with pytest.raises(TimeoutError):
        thread.result(timeout)
    gate.set()
    assert thread.result() is True


def test_a_result_that_is_there_needs_no_time(start):
    thread = start(int)
    thread.join()
    assert thread.result(timeout=0) == 0
    assert thread.result(timeout=-1) == 0


def test_join_gives_none_and_keeps_its_timeout(start):
    gate = start.gate()
    thread = start(gate.wait, SECONDS)
    assert thread.join(timeout=0.01) is None
    assert thread.is_alive()
    gate.set()
    assert thread.join() is None
    assert thread.join() is None


def test_join_has_the_standard_errors(raddle):
    thread = raddle.Thread(target=int)
    with pytest.raises(RuntimeError, match="before it is started"):
        thread.join()
    own = raddle.Thread(target=lambda: own.join())
    own.start()
    with pytest.raises(RuntimeError, match="current thread"):
        own.result()


def test_a_thread_starts_once(start):
    thread = start(int)
    thread.join()
    with pytest.raises(RuntimeError, match="started once"):
        thread.start()
    assert thread.result() == 0


# errors


def test_the_error_is_raised_where_it_is_asked_for(start, hooked):
    thread = start(fail)
    for _ in range(2):
        with pytest.raises(LookupError, match="from the thread"):
            thread.result()
    assert thread.done()
    assert hooked == []


def test_the_traceback_leads_to_the_line_that_raised(start):
    def outer():
        fail()

    thread = start(outer)
    with pytest.raises(LookupError) as raised:
        thread.result()
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert [frame.name for frame in frames][-2:] == ["outer", "fail"]
    assert frames[-1].line.endswith("# raised")


def test_all_who_ask_get_the_error(start):
    gate = start.gate()

    def late():
        gate.wait(SECONDS)
        fail()

    thread = start(late)
    askers = [start(thread.result) for _ in range(8)]
    for asker in askers:
        wait_asleep(asker)
    gate.set()
    assert {type(outcome(asker)) for asker in askers} == {LookupError}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_error_that_is_no_exception_is_handed_on_too(raddle, error, hooked):
    def leave():
        raise error

    thread = raddle.Thread(target=leave)
    thread.start()
    with pytest.raises(type(error)) as raised:
        thread.result()
    assert raised.value is error
    assert hooked == []


# errors that nobody asked for


def test_an_error_that_nobody_asks_for_is_told_once_when_the_thread_is_collected(
    raddle, hooked, no_collector
):
    thread = raddle.Thread(target=fail, name="failing")
    thread.start()
    thread.join()
    assert hooked == [], "somebody may still ask"
    del thread
    gc.collect()
    [(kind, text, told)] = hooked
    assert (kind, text) == (LookupError, "from the thread")
    assert told is None or told.name == "failing"
    del told
    hooked.clear()
    gc.collect()
    assert hooked == []


def test_an_error_that_was_asked_for_is_not_told(raddle, hooked, no_collector):
    thread = raddle.Thread(target=fail)
    thread.start()
    with pytest.raises(LookupError):
        thread.result()
    gone = weakref.ref(thread)
    del thread
    gc.collect()
    assert gone() is None
    assert hooked == []


def test_an_error_that_was_asked_for_too_early_is_told(raddle, hooked, no_collector):
    gate = threading.Event()

    def late():
        gate.wait(SECONDS)
        fail()

    thread = raddle.Thread(target=late)
    thread.start()
    with pytest.raises(TimeoutError):
        thread.result(timeout=0.01)
    gate.set()
    thread.join()
    del thread
    gc.collect()
    assert len(hooked) == 1


def test_system_exit_that_nobody_asks_for_is_silent():
    source = """
        thread = futures.Thread(target=sys.exit, args=(3,))
        thread.start()
        thread.join()
        """
    assert run("raddle", source) == (0, [], [])


def test_join_alone_does_not_count_as_asking(raddle, hooked, no_collector):
    thread = raddle.Thread(target=fail)
    thread.start()
    thread.join()
    assert thread.done()
    del thread
    gc.collect()
    assert len(hooked) == 1


def test_an_error_is_told_on_stderr_at_the_interpreters_end_once():
    source = """
        def fail():
            raise LookupError("nobody asks")
        thread = futures.Thread(target=fail, name="failing")
        thread.start()
        thread.join()
        say("leaving")
        """
    code, output, errors = run("raddle", source)
    assert (code, output) == (0, ["leaving"])
    assert errors.count("LookupError: nobody asks") == 1, errors
    assert any("failing" in line for line in errors)
    assert any("in fail" in line for line in errors)


def test_an_error_of_a_thread_that_nobody_keeps_is_told_once():
    source = """
        def fail():
            raise LookupError("nobody asks")
        futures.Thread(target=fail, name="failing").start()
        """
    code, output, errors = run("raddle", source)
    assert (code, output) == (0, [])
    assert errors.count("LookupError: nobody asks") == 1, errors


def test_an_error_that_was_asked_for_is_not_told_at_the_end():
    source = """
        def fail():
            raise LookupError("asked for")
        thread = futures.Thread(target=fail)
        thread.start()
        try:
            thread.result()
        except LookupError as error:
            say(error)
        """
    assert run("raddle", source) == (0, ["asked for"], [])


def test_an_error_of_a_daemon_is_told_at_the_end():
    source = """
        def fail():
            raise LookupError("nobody asks")
        thread = futures.Thread(target=fail, daemon=True)
        thread.start()
        thread.join()
        """
    code, _, errors = run("raddle", source)
    assert code == 0
    assert errors.count("LookupError: nobody asks") == 1, errors


def test_whoever_waits_for_the_result_keeps_the_error_from_the_hook(start, hooked):
    gate = start.gate()

    def late():
        gate.wait(SECONDS)
        fail()

    failing = start(late)
    asker = start(failing.result, SECONDS)
    wait_asleep(asker)
    gate.set()
    assert isinstance(outcome(asker), LookupError)
    start.threads.clear()
    failing.join()
    del failing, asker
    gc.collect()
    assert hooked == []


def test_a_hook_that_fails_harms_nobody():
    source = """
        def hook(args):
            raise RuntimeError("the hook itself")
        threading.excepthook = hook
        def fail():
            raise LookupError
        thread = futures.Thread(target=fail)
        thread.start()
        thread.join()
        del thread
        say("goes on")
        """
    code, output, _ = run("raddle", source)
    assert (code, output) == (0, ["goes on"])


# subclasses


def test_a_subclass_that_overrides_run_gives_what_run_returns(raddle, hooked):
    class Square(raddle.Thread):
        def __init__(self, number):
            super().__init__(name=f"square of {number}")
            self.number = number

        def run(self):
            if self.number < 0:
                raise ValueError("negative")
            return self.number**2

    threads = [Square(number) for number in (3, -1)]
    for thread in threads:
        thread.start()
    assert threads[0].result() == 9
    with pytest.raises(ValueError, match="negative"):
        threads[1].result()
    assert threads[0].name == "square of 3"
    assert hooked == []


def test_a_subclass_of_a_subclass_may_call_the_run_above(raddle):
    class Base(raddle.Thread):
        def run(self):
            return 20

    class Derived(Base):
        def run(self):
            return super().run() + 1

    class Plain(raddle.Thread):
        def run(self):
            return super().run()

    derived, plain = Derived(), Plain(target=abs, args=(-5,))
    for thread in (derived, plain):
        thread.start()
    assert derived.result() == 21
    assert plain.result() == 5


def test_run_may_be_called_as_that_of_a_standard_thread(raddle):
    calls = []
    thread = raddle.Thread(target=calls.append, args=(1,))
    thread.run()
    assert calls == [1]
    assert not thread.is_alive()


def test_run_replaced_on_the_object_is_what_runs(raddle):
    thread = raddle.Thread()
    thread.run = lambda: "replaced"
    thread.start()
    assert thread.result() == "replaced"


# what a thread keeps


def test_the_function_and_its_arguments_go_when_it_has_ended(raddle, no_collector):
    class Argument:
        def method(self, other):
            return None

    one, other = Argument(), Argument()
    gone = [weakref.ref(one), weakref.ref(other)]
    thread = raddle.Thread(target=one.method, args=(other,), kwargs=None)
    thread.start()
    thread.result()
    del one, other
    assert [ref() for ref in gone] == [None, None]


def test_the_value_goes_with_the_thread(raddle, no_collector):
    class Value:
        pass

    thread = raddle.Thread(target=Value)
    thread.start()
    value, gone = weakref.ref(thread.result()), weakref.ref(thread)
    assert value() is not None
    del thread
    assert (value(), gone()) == (None, None)


@pytest.mark.parametrize("asked", [True, False])
def test_a_failed_thread_and_its_frames_go_with_the_next_collection(
    raddle, hooked, no_collector, asked
):
    # Not before: the frame of the function refers to its callers, and these to the thread.
    class Local:
        pass

    refs = []

    def fail_with_local():
        local = Local()
        refs.append(weakref.ref(local))
        raise LookupError("with a local")

    thread = raddle.Thread(target=fail_with_local)
    thread.start()
    if asked:
        with pytest.raises(LookupError):
            thread.result()
    else:
        thread.join()
    refs.append(weakref.ref(thread))
    del thread
    gc.collect()
    assert len(hooked) == (0 if asked else 1)
    # What the hook was told of keeps the thread, and here the test has kept that.
    hooked.clear()
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_the_traceback_that_the_hook_gets_begins_in_the_function(raddle, monkeypatch, no_collector):
    names = []

    def hook(args):
        names.extend(frame.name for frame in traceback.extract_tb(args.exc_traceback))

    monkeypatch.setattr(threading, "excepthook", hook)
    thread = raddle.Thread(target=fail)
    thread.start()
    thread.join()
    del thread
    gc.collect()
    assert names == ["fail"]


def test_a_non_daemon_thread_is_waited_for_at_the_interpreters_end():
    source = """
        gate = threading.Event()
        def work():
            gate.wait()
            say("ended")
        futures.Thread(target=work).start()
        say("leaving")
        threading.Timer(0.05, gate.set).start()
        """
    assert run("raddle", source) == (0, ["leaving", "ended"], [])


def test_a_daemon_thread_is_not_waited_for():
    source = """
        futures.Thread(target=threading.Event().wait, daemon=True).start()
        say("leaving")
        """
    assert run("raddle", source) == (0, ["leaving"], [])


def test_trace_and_profile_functions_are_those_of_new_threads(raddle):
    seen = []
    threading.setprofile(lambda frame, event, arg: seen.append(frame.f_code.co_name))
    try:
        thread = raddle.Thread(target=sorted, args=([2, 1],))
        thread.start()
        thread.result()
    finally:
        threading.setprofile(None)
    assert seen


def test_context_and_locals_of_threads_are_those_of_standard_threads(raddle):
    variable = contextvars.ContextVar("variable", default="default")
    local = threading.local()
    local.value = "here"
    variable.set("set")
    standard, seen = [], lambda: (variable.get(), hasattr(local, "value"))
    theirs = threading.Thread(target=lambda: standard.append(seen()))
    theirs.start()
    theirs.join()
    ours = raddle.Thread(target=seen)
    ours.start()
    assert ours.result() == standard[0]


@pytest.mark.stress
def test_a_thousand_threads_each_give_their_own_value(raddle):
    threads = [raddle.Thread(target=pow, args=(n, 2)) for n in range(1000)]
    for thread in threads:
        thread.start()
    assert [thread.result() for thread in threads] == [n * n for n in range(1000)]


def test_a_thread_that_was_running_at_a_fork_is_over_in_the_child():
    source = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads
        gate = threading.Event()
        thread = futures.Thread(target=gate.wait)
        thread.start()
        pid = os.fork()
        if pid == 0:
            try:
                assert not thread.is_alive()
                thread.join()
                try:
                    thread.result()
                except RuntimeError as error:
                    say("RuntimeError", "fork" in str(error))
                again = futures.Thread(target=abs, args=(-1,))
                again.start()
                say(again.result())
            except BaseException as error:
                say(repr(error))
            os._exit(0)
        os.waitpid(pid, 0)
        gate.set()
        say(thread.result())
        """
    assert run("raddle", source) == (0, ["RuntimeError True", "1", "True"], [])
