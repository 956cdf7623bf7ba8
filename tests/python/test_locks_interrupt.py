"""Ctrl-C, signal handlers and the interpreter's end, while threads wait for locks."""

from __future__ import annotations

import signal

import pytest
from programs import Program, run

HOLD = """
    def held(lock):
        taken, gate = threading.Event(), threading.Event()
        def hold():
            with lock:
                taken.set()
                gate.wait()
        threading.Thread(target=hold, daemon=True).start()
        taken.wait()
        return gate
"""
WAITS = {
    "acquire": "lock.acquire()",
    "acquire with a timeout": "lock.acquire(timeout=3600)",
    "with": "lock.__enter__()",
    "join": "thread.join()",
    "result": "thread.result()",
    "result with a timeout": "thread.result(timeout=3600)",
}


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
@pytest.mark.parametrize("wait", WAITS)
def test_a_blocked_wait_raises_keyboard_interrupt_at_once(kind, wait):
    source = f"""{HOLD}
    lock = futures.{kind}()
    gate = held(lock)
    ended = threading.Event()
    thread = futures.Thread(target=ended.wait)
    thread.start()
    say("ready")
    try:
        {WAITS[wait]}
    except KeyboardInterrupt:
        say("interrupted", lock.locked(), thread.done())
    ended.set()
    gate.set()
    with lock:
        say("taken")
    thread.join()
    say(thread.result())
    """
    with Program("raddle", source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        program.expect("interrupted True False")
        program.expect("taken")
        program.expect("True")
        assert program.wait() == 0, program.errors
        assert program.errors == []


def test_waits_can_be_interrupted_again_and_again_and_leave_no_edge():
    source = f"""{HOLD}
    lock, own = futures.Lock(name="lock"), futures.Lock(name="own")
    gate = held(lock)
    with own:
        for _ in range(20):
            try:
                say("ready")
                lock.acquire()
            except KeyboardInterrupt:
                say("interrupted")
        # No wait of this thread is left over: who waits for its lock now is in no cycle.
        waiter = futures.Thread(target=own.acquire)
        waiter.start()
    say(waiter.result())
    gate.set()
    """
    with Program("raddle", source) as program:
        for _ in range(20):
            program.expect("ready")
            program.interrupt()
            program.expect("interrupted")
        program.expect("True")
        assert program.wait() == 0, program.errors


def test_a_handler_that_returns_lets_the_wait_go_on():
    source = f"""{HOLD}
    signal.signal(signal.SIGINT, lambda *_: say("handled"))
    lock = futures.Lock()
    gate = held(lock)
    threading.Thread(target=lambda: (sys.stdin.readline(), gate.set())).start()
    say("ready")
    say(lock.acquire())
    """
    with Program("raddle", source) as program:
        program.expect("ready")
        for _ in range(3):
            program.wait_blocked()
            program.interrupt()
            program.expect("handled")
        program.say("go on")
        program.expect("True")
        assert program.wait() == 0, program.errors


def test_a_handler_that_raises_ends_the_wait_with_its_error():
    source = f"""{HOLD}
    def stop(*_):
        raise LookupError("from the handler")
    signal.signal(signal.SIGINT, stop)
    lock = futures.RLock()
    gate = held(lock)
    say("ready")
    try:
        with lock:
            say("entered")
    except LookupError as error:
        say(error)
    gate.set()
    with lock:
        say("taken")
    """
    with Program("raddle", source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        program.expect("from the handler")
        program.expect("taken")
        assert program.wait() == 0, program.errors


def test_a_handler_that_takes_the_lock_it_interrupts_is_told():
    # With the standard library's lock the program hangs here.
    source = """
    lock = futures.Lock(name="shared")
    def handler(*_):
        try:
            lock.acquire()
        except futures.DeadlockError as error:
            say(type(error).__name__, len(error.cycle))
    signal.signal(signal.SIGUSR1, handler)
    with lock:
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(1000):
            pass
    say(lock.locked())
    """
    assert run("raddle", source) == (0, ["DeadlockError 1", "False"], [])


def test_a_handler_may_use_other_locks_while_the_main_thread_waits():
    source = f"""{HOLD}
    lock, other = futures.Lock(name="lock"), futures.Lock(name="other")
    def handler(*_):
        with other:
            say("handled")
    signal.signal(signal.SIGINT, handler)
    gate = held(lock)
    threading.Thread(target=lambda: (sys.stdin.readline(), gate.set())).start()
    say("ready")
    with lock:
        say("taken")
    """
    with Program("raddle", source) as program:
        program.expect("ready")
        for _ in range(3):
            program.wait_blocked()
            program.interrupt()
            program.expect("handled")
        program.say("go on")
        program.expect("taken")
        assert program.wait() == 0, program.errors


def test_a_signal_that_a_waiting_side_thread_gets_changes_nothing():
    source = f"""{HOLD}
    signal.signal(signal.SIGUSR1, lambda *_: None)
    lock = futures.Lock()
    gate = held(lock)
    waiter = futures.Thread(target=lock.acquire)
    waiter.start()
    for _ in range(50):
        signal.pthread_kill(waiter.ident, signal.SIGUSR1)
    gate.set()
    say(waiter.result())
    """
    assert run("raddle", source) == (0, ["True"], [])


# conditions

LOCKS = {"standard": "threading.RLock()", "raddle": "futures.RLock()"}


@pytest.mark.parametrize("notified", [True, False])
@pytest.mark.parametrize("lock", LOCKS)
def test_an_interrupted_wait_of_a_condition_takes_its_lock_back_first(lock, notified):
    """The interrupt comes while another thread has the lock: it is raised when that lets go."""
    source = f"""
    condition = threading.Condition({LOCKS[lock]})
    def hold():
        with condition:
            {"condition.notify()" if notified else "pass"}
            say("held")
            sys.stdin.readline()
            say("released")
    thread = threading.Thread(target=hold)
    try:
        with condition, condition:
            thread.start()
            try:
                condition.wait()
            finally:
                say("owned", condition._is_owned())
    except BaseException as error:
        say(type(error).__name__)
    thread.join()
    with condition:
        say("usable")
    """
    with Program("raddle", source) as program:
        program.expect("held")
        program.wait_blocked()
        program.interrupt()
        program.wait_blocked()
        program.say("release")
        program.expect("released")
        program.expect("owned True")
        program.expect("KeyboardInterrupt")
        program.expect("usable")
        assert program.wait() == 0, program.errors
        assert program.errors == []


# the interpreter's end


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
@pytest.mark.parametrize("wait", ["lock.acquire()", "lock.acquire(timeout=3600)", "thread.join()"])
def test_the_interpreter_leaves_daemon_threads_that_wait(kind, wait):
    source = f"""
    lock = futures.{kind}()
    lock.acquire()
    never, begun = threading.Event(), threading.Semaphore(0)
    thread = futures.Thread(target=never.wait, daemon=True)
    thread.start()
    def wait():
        begun.release()
        {wait}
    for _ in range(8):
        futures.Thread(target=wait, daemon=True).start()
    for _ in range(8):
        begun.acquire()
    say("leaving")
    """
    assert run("raddle", source) == (0, ["leaving"], [])


def test_the_interpreter_leaves_in_the_middle_of_hurried_locks():
    source = """
    sys.setswitchinterval(1e-6)
    locks = [futures.Lock(), futures.RLock()]
    begun = threading.Semaphore(0)
    def work():
        begun.release()
        while True:
            for lock in locks:
                with lock:
                    pass
    for _ in range(4):
        futures.Thread(target=work, daemon=True).start()
    for _ in range(4):
        begun.acquire()
    say("leaving")
    """
    for _ in range(10):
        assert run("raddle", source) == (0, ["leaving"], [])


def test_locks_work_in_exit_hooks_and_destructors():
    source = """
    import atexit
    lock = futures.Lock(name="late")
    class Late:
        def __del__(self):
            with lock:
                os.write(1, b"destroyed\\n")
    late = Late()
    atexit.register(lambda: say("exit", lock.acquire(), lock.release()))
    """
    code, output, errors = run("raddle", source)
    assert (code, output, errors) == (0, ["exit True None", "destroyed"], [])


def test_an_interrupted_program_ends_as_one_that_was_interrupted():
    source = f"""{HOLD}
    lock = futures.Lock()
    gate = held(lock)
    say("ready")
    lock.acquire()
    """
    with Program("raddle", source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        assert program.wait() in (-signal.SIGINT, 128 + signal.SIGINT)
        assert program.errors[-1] == "KeyboardInterrupt"
