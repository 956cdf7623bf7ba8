"""Ctrl-C: every wait ends at once, and two presses leave a program whatever runs.

The programs run in sessions of their own, say when they are ready, and are interrupted by a
signal.  "At once" needs no clock: the running task ends only after the interrupt was seen.
"""

import re
import signal

import pytest
from programs import Program

INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)

WAITS = {
    "result": "running.result()",
    "result with a timeout": "running.result(timeout=3600)",
    "exception": "running.exception()",
    "wait": "futures.wait([running])",
    "wait with a timeout": "futures.wait([running, queued], timeout=3600)",
    "wait for the first": "futures.wait([running, queued], return_when='FIRST_COMPLETED')",
    "as_completed": "list(futures.as_completed([running, queued]))",
    "as_completed with a timeout": "list(futures.as_completed([running], timeout=3600))",
    "map": "list(executor.map(int, range(3)))",
    "map with a timeout": "list(executor.map(int, range(3), timeout=3600))",
    "a future made by hand": "futures.Future().result()",
    "shutdown": "executor.shutdown(wait=True)",
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_blocked_wait_raises_keyboard_interrupt_at_once(library, wait):
    source = f"""
        executor = futures.ThreadPoolExecutor(1)
        started, gate = threading.Event(), threading.Event()
        running = executor.submit(lambda: (started.set(), gate.wait()))
        queued = executor.submit(int)
        started.wait()
        say("ready")
        try:
            {WAITS[wait]}
        except KeyboardInterrupt:
            say("interrupted, running:", running.running())
        gate.set()
        say(queued.result())
        """
    with Program(library.__name__, source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        program.expect("interrupted, running: True")
        program.expect("0")
        assert program.wait() == 0, program.errors


def test_waits_can_be_interrupted_again_and_again():
    # The standard library's own wait may lose its lock to an interrupt, and hang.
    source = """
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        running = executor.submit(gate.wait)
        for number in range(20):
            try:
                say("ready")
                running.result()
            except KeyboardInterrupt:
                say("interrupted")
        gate.set()
        """
    with Program("raddle", source) as program:
        for _ in range(20):
            program.expect("ready")
            program.interrupt()
            program.expect("interrupted")
        assert program.wait() == 0, program.errors


def test_an_interrupt_of_a_callback_in_the_main_thread_is_raised_there(library):
    source = """
        future = futures.Future()
        def stop(_):
            say("ready")
            threading.Event().wait()
        future.add_done_callback(stop)
        try:
            future.set_result(1)
        except KeyboardInterrupt:
            say("interrupted", future.result())
        """
    with Program(library.__name__, source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        program.expect("interrupted 1")
        assert program.wait() == 0, program.errors


def test_another_handler_runs_and_the_wait_goes_on(library):
    source = """
        signal.signal(signal.SIGINT, lambda *_: say("handled"))
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        running = executor.submit(gate.wait)
        threading.Thread(target=lambda: (sys.stdin.readline(), gate.set())).start()
        say("ready")
        say(running.result())
        """
    with Program(library.__name__, source) as program:
        program.expect("ready")
        for _ in range(3):
            program.wait_blocked()
            program.interrupt()
            program.expect("handled")
        program.say("go on")
        program.expect("True")
        assert program.wait() == 0, program.errors


def test_a_handler_that_raises_something_else_ends_the_wait_with_it(library):
    source = """
        def stop(*_):
            raise LookupError("from the handler")
        signal.signal(signal.SIGTERM, stop)
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        running = executor.submit(gate.wait)
        threading.Thread(target=lambda: (sys.stdin.readline(), os.kill(os.getpid(), 15))).start()
        try:
            say("ready")
            futures.wait([running])
        except LookupError as error:
            say(error)
        gate.set()
        """
    with Program(library.__name__, source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.say("now")
        program.expect("from the handler")
        assert program.wait() == 0, program.errors


# leaving the with block

BLOCK = """
    started = threading.Semaphore(0)
    gate = threading.Event()
    def task():
        started.release()
        gate.wait()
        return "ran to its end"
    threading.Thread(target=lambda: (sys.stdin.readline(), gate.set()), daemon=True).start()
    try:
        with futures.ThreadPoolExecutor(2){options} as executor:
            running = [executor.submit(task) for _ in range(2)]
            queued = [executor.submit(say, "a queued task ran") for _ in range(7)]
            started.acquire(), started.acquire()
            say("ready")
            {leave}
    except BaseException as error:
        say("left with", type(error).__name__)
    say([f.cancelled() for f in queued].count(True), "cancelled")
    say([f.result(timeout=0) for f in running])
    """
ENDINGS = {
    "an interrupt": ("running[0].result()", "KeyboardInterrupt"),
    "a raised interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "sys.exit": ("sys.exit(4)", "SystemExit"),
}


@pytest.mark.parametrize("options", ["", ".options(label='view')"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_block_left_early_cancels_the_queue_and_waits_for_what_runs(ending, options):
    leave, error = ENDINGS[ending]
    with Program("raddle", BLOCK.format(leave=leave, options=options)) as program:
        program.expect("ready")
        if ending == "an interrupt":
            program.wait_blocked()
            program.interrupt()
        said = program.read_error()
        assert set(re.findall(r"\d+", said)) >= {"2"}, said
        assert program.output == ["ready"], "it waits"
        program.say("let them end")
        program.expect(f"left with {error}")
        program.expect("7 cancelled")
        program.expect("['ran to its end', 'ran to its end']")
        assert program.wait() == 0, program.errors


@pytest.mark.parametrize("leave", ["raise ValueError", "raise GeneratorExit", "pass"])
def test_any_other_way_out_of_the_block_runs_every_task(library, leave):
    source = BLOCK.format(leave=leave, options="")
    with Program(library.__name__, source) as program:
        program.expect("ready")
        program.say("let them end")
        for _ in range(7):
            program.expect("a queued task ran")
        if leave != "pass":
            program.expect(f"left with {leave.removeprefix('raise ')}")
        program.expect("0 cancelled")
        program.expect("['ran to its end', 'ran to its end']")
        assert program.wait() == 0
        assert program.errors == []


def test_a_block_left_early_with_nothing_to_wait_for_says_nothing():
    source = """
        try:
            with futures.ThreadPoolExecutor(2) as executor:
                executor.submit(int).result()
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            say("left")
        """
    with Program("raddle", source) as program:
        program.expect("left")
        assert program.wait() == 0
        assert program.errors == []


FOREVER = """
    started = threading.Semaphore(0)
    def task():
        started.release()
        while True:
            {forever}
    """
KINDS_OF_FOREVER = {"asleep": "time.sleep(3600)", "computing": "pass"}


def press_until_it_leaves(program, presses):
    """Press Ctrl-C *presses* times, each when the program has said something about the last."""
    for press in range(presses):
        program.wait_blocked()
        program.interrupt()
        if press < presses - 1:
            program.read_error()
    return program.wait()


@pytest.mark.parametrize("kind", KINDS_OF_FOREVER)
def test_a_second_interrupt_leaves_a_block_without_the_running_tasks(kind):
    source = (
        FOREVER.format(forever=KINDS_OF_FOREVER[kind])
        + """
    with futures.ThreadPoolExecutor(2) as executor:
        running = [executor.submit(task) for _ in range(2)]
        queued = [executor.submit(say, "a queued task ran") for _ in range(7)]
        started.acquire(), started.acquire()
        say("ready")
        running[0].result()
    """
    )
    with Program("raddle", source) as program:
        program.expect("ready")
        assert press_until_it_leaves(program, 2) in INTERRUPTED
        assert program.output == ["ready"]
        assert not any("Fatal" in line for line in program.errors), program.errors


def test_after_a_second_interrupt_the_program_may_go_on():
    source = (
        FOREVER.format(forever="time.sleep(3600)")
        + """
    try:
        with futures.ThreadPoolExecutor(1) as executor:
            running = executor.submit(task)
            started.acquire()
            say("ready")
            running.result()
    except KeyboardInterrupt:
        say("left, running:", running.running())
    with futures.ThreadPoolExecutor(1) as executor:
        say(executor.submit(abs, -3).result())
    """
    )
    with Program("raddle", source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        program.read_error()
        program.wait_blocked()
        program.interrupt()
        program.expect("left, running: True")
        program.expect("3")
        assert program.wait() == 0, program.errors


@pytest.mark.parametrize("kind", KINDS_OF_FOREVER)
def test_two_interrupts_leave_the_interpreters_exit(kind):
    source = (
        FOREVER.format(forever=KINDS_OF_FOREVER[kind])
        + """
    executor = futures.ThreadPoolExecutor(2)
    running = [executor.submit(task) for _ in range(2)]
    queued = [executor.submit(say, "a queued task ran") for _ in range(7)]
    started.acquire(), started.acquire()
    say("ready")
    """
    )
    with Program("raddle", source) as program:
        program.expect("ready")
        press_until_it_leaves(program, 2)
        assert program.output == ["ready"], "the queue was cancelled"
        assert not any("Fatal" in line for line in program.errors), program.errors


def test_an_interrupt_at_exit_waits_for_what_runs():
    source = """
        started, gate = threading.Event(), threading.Event()
        threading.Thread(target=lambda: (sys.stdin.readline(), gate.set()), daemon=True).start()
        def task():
            started.set()
            gate.wait()
            say("ran to its end")
        executor = futures.ThreadPoolExecutor(1)
        running = executor.submit(task)
        queued = [executor.submit(say, "a queued task ran") for _ in range(7)]
        started.wait()
        say("ready")
        """
    with Program("raddle", source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        said = program.read_error()
        assert set(re.findall(r"\d+", said)) >= {"1"}, said
        program.say("let it end")
        program.expect("ran to its end")
        program.wait()
        assert program.output == ["ready", "ran to its end"]


def test_an_uncaught_interrupt_with_an_open_pool_ends_after_a_second_one():
    source = (
        FOREVER.format(forever="time.sleep(3600)")
        + """
    executor = futures.ThreadPoolExecutor(1)
    running = executor.submit(task)
    started.acquire()
    say("ready")
    running.result()
    """
    )
    with Program("raddle", source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        while program.read_error() != "KeyboardInterrupt":
            pass
        program.wait_blocked()
        program.interrupt()
        if not program.ended():
            program.read_error()
            program.interrupt()
        assert program.wait() != 0


def test_an_interrupt_never_reaches_a_task(library):
    source = """
        executor = futures.ThreadPoolExecutor(2)
        gate = threading.Event()
        running = [executor.submit(gate.wait) for _ in range(2)]
        say("ready")
        try:
            futures.wait(running)
        except KeyboardInterrupt:
            gate.set()
        say([f.result() for f in running])
        """
    with Program(library.__name__, source) as program:
        program.expect("ready")
        program.wait_blocked()
        program.interrupt()
        program.expect("[True, True]")
        assert program.wait() == 0, program.errors


def test_interrupts_at_any_moment_leave_the_pool_whole():
    """A handler raises at hundreds of moments inside submit, map, result, cancel and wait."""
    source = """
        import random
        class Hit(Exception):
            pass
        def hit(*_):
            global armed
            armed = False
            raise Hit
        signal.signal(signal.SIGALRM, hit)
        executor = futures.ThreadPoolExecutor(2)
        moments, hits = random.Random(7), 0
        ran, lock = [0], threading.Lock()
        def task(number):
            with lock:
                ran[0] += 1
            return number
        def use():
            submitted = [executor.submit(task, n) for n in range(50)]
            submitted[-1].cancel()
            list(executor.map(task, range(50)))
            futures.wait(submitted)
            assert [f.result() for f in submitted[:-1]] == list(range(49))
            assert len(list(futures.as_completed(submitted))) == 50
        def use_until_hit():
            global armed
            armed = True
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-5, 3e-3))
            while armed:  # a hit inside a finalizer is reported there and not raised
                use()
        while hits < 500:
            try:
                use_until_hit()
            except Hit:
                hits += 1
        assert executor.submit(abs, -1).result() == 1
        use()
        executor.shutdown(wait=True)
        figures = executor.statistics()
        assert (figures.running, figures.waiting) == (0, 0), figures
        assert figures.submitted == figures.done + figures.failed + figures.cancelled, figures
        assert figures.done == ran[0] + 1, (figures, ran)
        say("whole after", hits)
        """
    with Program("raddle", source) as program:
        program.expect("whole after 500")
        assert program.wait() == 0, program.errors
