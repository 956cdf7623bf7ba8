"""What happens to tasks when the interpreter leaves."""

import pytest
from programs import Program, run

TOO_LATE = "cannot schedule new futures after interpreter shutdown"

# A pool that has been used, and an event that is set when the interpreter begins to leave.
LEAVING = """
        executor = futures.ThreadPoolExecutor(1)
        executor.submit(int).result()
        leaving = threading.Event()
        threading._register_atexit(leaving.set)
"""


@pytest.fixture
def run_program(library):
    """Runs a program to its end; it must leave with 0 and write no errors."""

    def run_clean(source):
        code, output, errors = run(library.__name__, source)
        assert (code, errors) == (0, []), output
        return output

    return run_clean


def test_queued_tasks_run_before_the_interpreter_leaves(run_program):
    output = run_program(
        """
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        executor.submit(gate.wait)
        for number in range(50):
            executor.submit(say, number)
        gate.set()
        say("main is over")
        """
    )
    assert "main is over" in output
    assert [line for line in output if line.isdigit()] == [str(n) for n in range(50)]


def test_a_map_that_nobody_reads_runs_to_its_end(run_program):
    output = run_program(
        """
        executor = futures.ThreadPoolExecutor(2)
        gate = threading.Event()
        executor.map(lambda n: (gate.wait(), say(n)), range(50))
        gate.set()
        """
    )
    assert sorted(map(int, output)) == list(range(50))


def test_tasks_run_after_shutdown_without_wait(run_program):
    output = run_program(
        """
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        executor.submit(gate.wait)
        executor.submit(say, "ran")
        executor.shutdown(wait=False)
        gate.set()
        """
    )
    assert output == ["ran"]


def test_a_dropped_pool_finishes_its_work_at_exit(run_program):
    output = run_program(
        """
        gate = threading.Event()
        def start():
            executor = futures.ThreadPoolExecutor(1)
            executor.submit(gate.wait)
            for number in range(10):
                executor.submit(say, number)
        start()
        gate.set()
        """
    )
    assert output == [str(n) for n in range(10)]


def test_submit_at_exit_is_a_runtime_error(run_program):
    """Idle workers of the standard library mark their pool, whose message is then the shorter."""
    output = run_program(
        """
        import atexit
        executor = futures.ThreadPoolExecutor(1)
        executor.submit(int).result()
        @atexit.register
        def late():
            for use in (lambda: executor.submit(int), lambda: executor.map(int, [1])):
                try:
                    use()
                except RuntimeError as error:
                    say(str(error).replace("interpreter ", ""))
        """
    )
    assert output == ["cannot schedule new futures after shutdown"] * 2


@pytest.mark.parametrize("used", ["executor.submit(int).result()", "pass"])
def test_submit_at_exit_names_the_interpreter(used):
    source = f"""
        import atexit
        executor = futures.ThreadPoolExecutor(1)
        {used}
        @atexit.register
        def late():
            for use in (lambda: executor.submit(int), lambda: executor.map(int, [1])):
                try:
                    use()
                except RuntimeError as error:
                    say(error)
        """
    assert run("raddle", source) == (0, [TOO_LATE] * 2, [])


def test_a_new_pool_at_exit_refuses_tasks_too(run_program):
    output = run_program(
        """
        import atexit
        pool_class = futures.ThreadPoolExecutor
        @atexit.register
        def late():
            try:
                pool_class(1).submit(int)
            except RuntimeError as error:
                say(error)
        """
    )
    assert output == [TOO_LATE]


def test_results_can_be_read_at_exit(run_program):
    output = run_program(
        """
        import atexit
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        future = executor.submit(lambda: gate.wait() and 7)
        atexit.register(lambda: say(future.result(), future.done()))
        gate.set()
        """
    )
    assert output == ["7 True"]


def test_a_task_that_submits_while_the_interpreter_leaves_is_refused(run_program):
    output = run_program(
        LEAVING
        + """
        def again():
            leaving.wait()
            try:
                while True:
                    executor.submit(int)
            except RuntimeError as error:
                say(error)
        executor.submit(again)
        """
    )
    assert output == [TOO_LATE]


def test_a_task_that_fails_while_the_interpreter_leaves_says_nothing(run_program):
    output = run_program(
        LEAVING
        + """
        def fail(number):
            leaving.wait()
            raise (SystemExit, ValueError, KeyboardInterrupt)[number % 3](number)
        for number in range(12):
            executor.submit(fail, number)
        """
    )
    assert output == []


def test_the_exit_code_of_the_program_is_kept(library):
    source = """
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        executor.submit(gate.wait)
        executor.submit(say, "ran")
        gate.set()
        sys.exit(3)
        """
    assert run(library.__name__, source) == (3, ["ran"], [])


def test_tasks_run_when_the_program_ends_in_an_error(library):
    source = """
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        executor.submit(gate.wait)
        executor.submit(say, "ran")
        gate.set()
        raise ZeroDivisionError
        """
    code, output, errors = run(library.__name__, source)
    assert (code, output) == (1, ["ran"])
    assert errors[-1] == "ZeroDivisionError"


def test_many_pools_at_exit_all_finish(run_program):
    output = run_program(
        """
        pools = [futures.ThreadPoolExecutor(2) for _ in range(20)]
        gate = threading.Event()
        for pool in pools:
            pool.submit(gate.wait)
            pool.submit(gate.wait)
            pool.submit(say, "ran")
        gate.set()
        """
    )
    assert output == ["ran"] * 20


def test_another_thread_may_use_the_pool_while_the_interpreter_leaves(run_program):
    output = run_program(
        """
        executor = futures.ThreadPoolExecutor(2)
        def use():
            try:
                while True:
                    executor.submit(int).result()
            except RuntimeError as error:
                say(str(error).replace("interpreter ", ""))
        threading.Thread(target=use).start()
        """
    )
    assert output == ["cannot schedule new futures after shutdown"]


def test_callbacks_run_while_the_interpreter_leaves(run_program):
    output = run_program(
        """
        executor = futures.ThreadPoolExecutor(1)
        gate = threading.Event()
        future = executor.submit(gate.wait)
        future.add_done_callback(lambda f: say("called", f.result()))
        gate.set()
        """
    )
    assert output == ["called True"]


def test_an_idle_pool_does_not_hold_the_interpreter(run_program):
    assert (
        run_program(
            """
            executor = futures.ThreadPoolExecutor(8)
            barrier = threading.Barrier(8)
            list(executor.map(lambda _: barrier.wait(), range(8)))
            """
        )
        == []
    )


def test_futures_that_outlive_the_interpreter_are_no_error(run_program):
    assert (
        run_program(
            """
            import builtins
            executor = futures.ThreadPoolExecutor(2)
            builtins.kept = [executor.submit(divmod, 1, n % 2) for n in range(100)]
            builtins.kept.append(futures.Future())
            builtins.kept[-1].add_done_callback(say)
            builtins.executor = executor
            builtins.results = executor.map(abs, range(100))
            """
        )
        == []
    )


def test_the_interpreter_leaves_cleanly_time_and_again(library):
    source = """
        executor = futures.ThreadPoolExecutor(4)
        pending = [executor.submit(time.sleep, 0.001) for _ in range(20)]
        executor.map(abs, range(100))
        """
    for _ in range(20):
        assert run(library.__name__, source) == (0, [], [])


# threads that were given up

SLEEPERS = {
    "asleep": "time.sleep(3600)",
    "waking often": "time.sleep(0.0001)",
    "computing": "pass",
    "waiting for a lock": "threading.Event().wait()",
    "waiting for a future": "futures.Future().result()",
    "calling itself": "executor.options(task_timeout=3600)",
}


@pytest.mark.parametrize("doing", SLEEPERS)
def test_a_thread_given_up_does_not_hold_the_interpreter(doing):
    source = f"""
        executor = futures.ThreadPoolExecutor(2)
        def late():
            while True:
                {SLEEPERS[doing]}
        futures_ = [executor.options(task_timeout=0.02).submit(late) for _ in range(2)]
        for future in futures_:
            assert isinstance(future.exception(), futures.TaskTimeout)
        assert executor.submit(abs, -1).result() == 1
        say("main is over")
        """
    for _ in range(20):
        assert run("raddle", source) == (0, ["main is over"], [])


def test_a_thread_given_up_by_a_pool_that_was_shut_down_does_not_hold_the_interpreter():
    source = """
        with futures.ThreadPoolExecutor(1) as executor:
            future = executor.options(task_timeout=0.02).submit(time.sleep, 3600)
        assert isinstance(future.exception(), futures.TaskTimeout)
        """
    assert run("raddle", source) == (0, [], [])


def test_a_task_that_runs_out_of_time_while_the_interpreter_leaves_is_given_up():
    source = """
        executor = futures.ThreadPoolExecutor(1)
        future = executor.options(task_timeout=0.2).submit(time.sleep, 3600)
        future.add_done_callback(lambda f: say(type(f.exception()).__name__))
        """
    for _ in range(20):
        assert run("raddle", source) == (0, ["TaskTimeout"], [])


def test_a_task_that_begins_while_the_interpreter_leaves_keeps_its_limit():
    """Python 3.12 starts no thread any more by then."""
    source = (
        LEAVING
        + """
        executor.submit(leaving.wait)
        future = executor.options(task_timeout=0.2).submit(threading.Event().wait)
        future.add_done_callback(lambda f: say(type(f.exception()).__name__))
        """
    )
    assert run("raddle", source) == (0, ["TaskTimeout"], [])


def test_tasks_behind_one_given_up_while_the_interpreter_leaves_run_or_end():
    """Python 3.12 starts no new worker there: the queue may be cancelled, but not forgotten."""
    source = (
        LEAVING
        + """
        late = executor.options(task_timeout=0.2).submit(threading.Event().wait)
        queued = executor.submit(abs, -1)
        queued.add_done_callback(lambda f: say("ended"))
        """
    )
    code, output, _ = run("raddle", source)
    assert (code, output) == (0, ["ended"])


def test_retries_go_on_while_the_interpreter_leaves():
    source = (
        LEAVING
        + """
        calls = []
        def flaky():
            leaving.wait()
            calls.append(1)
            if len(calls) < 3:
                raise OSError
            say("at last")
        executor.options(retries=2).submit(flaky)
        """
    )
    assert run("raddle", source) == (0, ["at last"], [])


def test_a_program_may_be_ended_from_a_task(library):
    source = """
        futures.ThreadPoolExecutor(1).submit(os._exit, 5).result()
        """
    assert run(library.__name__, source) == (5, [], [])


def test_the_library_can_be_imported_by_a_thread_and_late(library):
    source = f"""
        def use():
            import {library.__name__} as late
            say(late.ThreadPoolExecutor(1).submit(abs, -2).result())
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        """
    with Program(library.__name__, source) as program:
        program.expect("2")
        assert program.wait() == 0


# pools that never end, for a task wants a lock that the main thread keeps

STUCK = """
        import atexit, pathlib
        def make_stuck():
            lock, wanting = futures.Lock(name="kept"), threading.Event()
            lock.acquire()
            executor = futures.ThreadPoolExecutor(1)
            def want():
                wanting.set()
                lock.acquire()
            executor.submit(want)
            wanting.wait()
            (thread,) = executor._threads
            state, looks = pathlib.Path(f"/proc/self/task/{thread.native_id}/stat"), 0
            while looks < 10:  # else it is the task that is told, and not the main thread
                looks = looks + 1 if state.read_text().rpartition(")")[2].split()[0] == "S" else 0
                threading.Event().wait(0.002)
            return executor
"""
ORDERS = {
    "first": "stuck, other = make_stuck(), futures.ThreadPoolExecutor(1)",
    "last": "other, stuck = futures.ThreadPoolExecutor(1), make_stuck()",
}
FORSAKEN = "raddle: left without waiting for tasks that could never end"


def count_forsaken(errors):
    """How often the program said so; it must have said nothing worse."""
    assert not any("Traceback" in line for line in errors), errors
    return sum(line.startswith(FORSAKEN) for line in errors)


@pytest.mark.parametrize("stuck", ORDERS)
def test_a_stuck_pool_does_not_cost_another_its_running_and_queued_work(stuck):
    source = (
        STUCK
        + f"""
        {ORDERS[stuck]}
        too_late, told = threading.Event(), threading.Event()
        def work():
            # Long enough for a program that does not wait to get to its end.
            say("too late" if too_late.wait(0.3) else "saved")
            told.set()
        other.submit(work)
        other.submit(say, "and the rest")
        atexit.register(lambda: (too_late.set(), told.wait(5)))
        """
    )
    code, output, errors = run("raddle", source)
    assert (code, output) == (0, ["saved", "and the rest"])
    assert count_forsaken(errors) == 1


@pytest.mark.parametrize("stuck", ORDERS)
def test_ctrl_c_at_exit_waits_for_what_runs_beside_a_stuck_pool(stuck):
    source = (
        STUCK
        + f"""
        {ORDERS[stuck]}
        other.submit(lambda: (sys.stdin.readline(), say("saved")))
        other.submit(say, "a queued task ran")
        say("leaving")
        """
    )
    with Program("raddle", source) as program:
        program.expect("leaving")
        program.wait_blocked()
        program.interrupt()
        while "cancelled 1 task" not in program.read_error():
            pass
        program.say("go on")
        assert program.wait() == 0, program.errors
        assert program.output == ["leaving", "saved"]
        assert count_forsaken(program.errors) >= 1


@pytest.mark.parametrize("stuck", ORDERS)
def test_a_second_ctrl_c_at_exit_leaves_everything_beside_a_stuck_pool(stuck):
    source = (
        STUCK
        + f"""
        {ORDERS[stuck]}
        other.submit(threading.Event().wait)
        other.submit(int)
        say("leaving")
        """
    )
    with Program("raddle", source) as program:
        program.expect("leaving")
        program.wait_blocked()
        program.interrupt()
        while "cancelled 1 task" not in program.read_error():
            pass
        program.wait_blocked()
        program.interrupt()
        assert program.wait() == 0, program.errors
        count_forsaken(program.errors)
        assert program.errors[-1].startswith("raddle: interrupted again")
