"""What is left of a program that ends: by itself, by Ctrl-C, by a signal, or half-way by a fork."""

import os
import signal
import textwrap
import threading

import pytest
from process_programs import MarkedProgram

INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)

# A pool with two workers, each in a task that never ends and has said so.
HANGING = """
    pool = futures.ProcessPoolExecutor(2)
    hanging = [pool.submit(hang, n) for n in range(2)]
"""
TASKS = """
    def hang(number):
        os.write(1, f"task {number}\\n".encode())
        while True:
            signal.pause()

    def square(number):
        return number * number
"""


def start(*sources, **more):
    return MarkedProgram("".join(map(textwrap.dedent, (TASKS, *sources))), **more)


def read_tasks(program, count=2):
    assert sorted(program.read() for _ in range(count)) == [f"task {n}" for n in range(count)]


# the program is killed

KILLED = {
    "by default": "",
    "forked": ", mp_context=__import__('multiprocessing').get_context('fork')",
    "forkserver": ", mp_context=__import__('multiprocessing').get_context('forkserver')",
    "spawned": ", mp_context=__import__('multiprocessing').get_context('spawn')",
}


@pytest.mark.parametrize("way", KILLED)
def test_no_process_outlives_a_program_that_is_killed(way, tmp_path):
    source = f"""
        if __name__ == "__main__":
            pool = futures.ProcessPoolExecutor(2{KILLED[way]})
            busy = [pool.submit(tasks.announce_and_hang, n) for n in range(2)]
            busy[0].result()
    """
    with MarkedProgram(source, folder=tmp_path) as program:
        read_tasks(program)
        assert len(program.others()) >= 2, "there was something to outlive it"
        program.kill()
        program.wait_nothing_left()
    # A forkserver of multiprocessing has its socket in a folder that only an orderly end removes.
    assert os.listdir(tmp_path) == [] or way == "forkserver"


def test_no_process_outlives_a_program_that_is_killed_while_its_workers_are_idle(tmp_path):
    source = """
        pool = futures.ProcessPoolExecutor(2)
        list(pool.map(square, range(100)))
        say("idle")
        signal.pause()
    """
    with start(source, folder=tmp_path) as program:
        program.expect("idle")
        assert program.others()
        program.kill()
        program.wait_nothing_left()
    assert os.listdir(tmp_path) == []


def test_no_process_outlives_a_program_that_is_killed_while_it_is_busy(tmp_path):
    source = """
        pool = futures.ProcessPoolExecutor(3)
        for number in range(10**9):
            pool.submit(square, number)
            if number == 1000:
                say("busy")
    """
    with start(source, folder=tmp_path) as program:
        program.expect("busy")
        program.kill()
        program.wait_nothing_left()
    assert os.listdir(tmp_path) == []


def test_nothing_lies_in_a_folder_that_a_kill_could_leave_behind(tmp_path):
    with start(HANGING + "\n    signal.pause()\n", folder=tmp_path) as program:
        read_tasks(program)
        looked = 0
        for pid in [program.pid, *program.others()]:
            with open(f"/proc/{pid}/maps") as file:
                paths = [line.split(maxsplit=5)[-1].strip() for line in file]
            paths += [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
            looked += len(paths)
            for path in paths:
                named = path.startswith(("/dev/shm/", str(tmp_path)))
                assert not named or path.endswith("(deleted)"), path
        assert looked
        assert os.listdir(tmp_path) == []


# Ctrl-C

WAITS = {
    "result": "hanging[0].result()",
    "result with a timeout": "hanging[0].result(timeout=3600)",
    "map": "list(pool.map(square, range(100)))",
    "wait": "futures.wait(hanging)",
    "as_completed": "list(futures.as_completed(hanging))",
    "shutdown": "pool.shutdown(wait=True)",
    "with": "\n        with pool: pass",
    "something in a with block": "\n        with pool: threading.Event().wait()",
    "an open with block": "\n        with pool: hanging[1].result()",
    "nothing, at the end of the program": "pass",
}


@pytest.mark.parametrize("wait", WAITS)
def test_one_ctrl_c_ends_the_program_and_its_running_tasks(wait):
    source = HANGING + (
        "\n    say('ready')\n    try:\n        pass\n"
        f"        {WAITS[wait]}\n"
        "    finally:\n        say('leaving')\n"
    )
    with start(source) as program:
        said = ["ready", "task 0", "task 1"]
        if wait == "nothing, at the end of the program":
            said.insert(0, "leaving")
        assert sorted(program.read() for _ in said) == said
        program.wait_blocked()
        program.press_ctrl_c()
        code = program.wait()
        program.wait_nothing_left()
    text = "\n".join(program.errors)
    if wait != "nothing, at the end of the program":
        assert code in INTERRUPTED, text
    assert text.count("Traceback (most recent call last)") <= 1, text
    assert "SpawnProcess" not in text and "ForkProcess" not in text
    assert "WorkerDied" not in text, text


def test_ctrl_c_of_an_idle_pool_says_nothing_of_workers():
    source = """
        with futures.ProcessPoolExecutor(2) as pool:
            list(pool.map(square, range(10)))
            say("ready")
            signal.pause()
    """
    with start(source) as program:
        program.expect("ready")
        program.press_ctrl_c()
        assert program.wait() in INTERRUPTED
        program.wait_nothing_left()
    assert "\n".join(program.errors).count("Traceback") == 1, program.errors


def test_ctrl_c_while_workers_are_forked_is_not_lost():
    source = """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        class Pressed(context.Process):
            def start(self):
                super().start()
                signal.raise_signal(signal.SIGINT)
        context.Process = Pressed
        pool = futures.ProcessPoolExecutor(3, mp_context=context)
        try:
            pool.submit(square, 3).result()
        except KeyboardInterrupt:
            say("interrupted")
        pool.shutdown()
        say(multiprocessing.active_children())
    """
    with start(source) as program:
        assert program.wait() == 0, program.errors
        program.wait_nothing_left()
    assert (program.output, program.errors) == (["interrupted", "[]"], [])


def test_a_program_that_survives_ctrl_c_goes_on_with_its_pool():
    source = (
        HANGING
        + """
    say("ready")
    try:
        hanging[0].result()
    except KeyboardInterrupt:
        say("interrupted")
    for future in hanging:
        future.kill()
    say(list(pool.map(square, range(4))))
    pool.shutdown()
    """
    )
    with start(source) as program:
        assert sorted(program.read() for _ in range(3)) == ["ready", "task 0", "task 1"]
        program.wait_blocked()
        program.press_ctrl_c()
        program.expect("interrupted")
        program.expect("[0, 1, 4, 9]")
        assert program.wait() == 0, program.errors
        program.wait_nothing_left()
        assert program.errors == []


def test_a_task_does_not_see_the_ctrl_c_of_a_terminal():
    source = """
        def announce(path):
            say("task")
            return tasks.read_all(path)
        signal.signal(signal.SIGINT, lambda *_: say("pressed"))
        reader, writer = os.pipe()
        pool = futures.ProcessPoolExecutor(1)
        future = pool.submit(announce, f"/proc/{os.getpid()}/fd/{reader}")
        for line in sys.stdin:
            break
        os.close(writer)
        say(repr(future.result()))
    """
    with start(source) as program:
        program.expect("task")
        program.press_ctrl_c()
        program.expect("pressed")
        program.say("go on")
        program.expect("''")
        assert program.wait() == 0, program.errors


# the end of the program


def run_clean(*sources, **more):
    with start(*sources, **more) as program:
        code = program.wait()
        program.wait_nothing_left()
    assert (code, program.errors) == (0, []), program.output + program.errors
    return program.output


def test_queued_tasks_run_before_the_program_ends():
    output = run_clean("""
        pool = futures.ProcessPoolExecutor(2)
        for number in range(50):
            pool.submit(say, number)
        say("main is over")
    """)
    assert "main is over" in output
    assert sorted(int(line) for line in output if line.isdigit()) == list(range(50))


def test_a_map_that_nobody_reads_runs_to_its_end():
    output = run_clean("""
        futures.ProcessPoolExecutor(2).map(say, range(50))
    """)
    assert sorted(map(int, output)) == list(range(50))


def test_an_idle_pool_does_not_hold_the_program():
    assert run_clean("""
        pool = futures.ProcessPoolExecutor(2)
        say(pool.submit(square, 3).result())
    """) == ["9"]


def test_an_unused_pool_does_not_hold_the_program():
    assert run_clean("pool = futures.ProcessPoolExecutor(2)") == []


def test_tasks_run_after_a_shutdown_that_does_not_wait():
    output = run_clean("""
        pool = futures.ProcessPoolExecutor(1)
        for number in range(10):
            pool.submit(say, number)
        pool.shutdown(wait=False)
    """)
    assert output == [str(n) for n in range(10)]


def test_submit_at_exit_is_a_runtime_error():
    output = run_clean("""
        import atexit
        @atexit.register
        def late():
            try:
                pool.submit(square, 1)
            except RuntimeError as error:
                say(error)
        pool = futures.ProcessPoolExecutor(1)
        pool.submit(square, 1).result()
    """)
    assert len(output) == 1 and output[0].startswith("cannot schedule new futures after")


def test_results_can_be_read_at_exit():
    output = run_clean("""
        import atexit
        pool = futures.ProcessPoolExecutor(1)
        future = pool.submit(square, 3)
        results = pool.map(square, range(3))
        @atexit.register
        def late():
            say(future.result(), list(results))
    """)
    assert output == ["9 [0, 1, 4]"]


def test_a_program_that_leaves_by_os_exit_leaves_nothing():
    source = HANGING + "\n    say('ready')\n    sys.stdin.readline()\n    os._exit(4)\n"
    with start(source) as program:
        assert sorted(program.read() for _ in range(3)) == ["ready", "task 0", "task 1"]
        program.say("go")
        assert program.wait() == 4
        program.wait_nothing_left()


def test_a_program_that_ends_in_an_error_shows_it_and_leaves_nothing():
    source = """
        with futures.ProcessPoolExecutor(2) as pool:
            list(pool.map(square, range(10)))
            raise KeyError("lost")
    """
    with start(source) as program:
        assert program.wait() == 1
        program.wait_nothing_left()
        assert program.errors[-1] == "KeyError: 'lost'"


def test_atexit_functions_of_a_task_run_when_its_worker_ends():
    output = run_clean("""
        def register():
            import atexit
            atexit.register(say, "worker leaves")
        with futures.ProcessPoolExecutor(1) as pool:
            pool.submit(register).result()
        say("after shutdown")
    """)
    assert output == ["worker leaves", "after shutdown"]


def test_a_worker_shut_down_by_sys_exit_in_a_task_goes_on():
    output = run_clean("""
        pool = futures.ProcessPoolExecutor(1)
        pid = pool.submit(os.getpid).result()
        say(repr(pool.submit(sys.exit, 3).exception()))
        say(pool.submit(os.getpid).result() == pid)
    """)
    assert output == ["SystemExit(3)", "True"]


def test_many_pools_at_the_end_all_finish():
    output = run_clean("""
        pools = [futures.ProcessPoolExecutor(1) for _ in range(6)]
        for number, pool in enumerate(pools):
            pool.submit(say, number)
    """)
    assert sorted(output) == [str(n) for n in range(6)]


def test_the_program_ends_cleanly_time_and_again():
    for _ in range(10):
        assert (
            run_clean("""
            pool = futures.ProcessPoolExecutor(2)
            future = pool.submit(square, 3)
            results = pool.map(square, range(10))
        """)
            == []
        )


# an executor that is dropped


def test_a_dropped_pool_finishes_its_work_and_ends_its_workers():
    output = run_clean("""
        import gc
        def begin():
            pool = futures.ProcessPoolExecutor(2)
            return [pool.submit(square, n) for n in range(50)], pool.submit(os.getpid)
        results, pid = begin()
        gc.collect()
        say([future.result() for future in results] == [n * n for n in range(50)])
        pid = pid.result()
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.001)
        say("gone")
    """)
    assert output == ["True", "gone"]


def test_a_pool_dropped_in_a_cycle_with_work_in_it_is_no_trouble():
    output = run_clean("""
        import gc
        class Holder: pass
        for _ in range(5):
            holder = Holder()
            holder.pool = futures.ProcessPoolExecutor(2)
            holder.futures = [holder.pool.submit(square, n) for n in range(20)]
            holder.futures[0].holder = holder
            del holder
            gc.collect()
        say("done")
    """)
    assert output == ["done"]


def test_a_pool_dropped_while_its_worker_ends_by_its_limit_is_no_trouble():
    # cpython#152967: the executor is collected while a worker exits.
    output = run_clean("""
        import gc
        for _ in range(5):
            pool = futures.ProcessPoolExecutor(1, max_tasks_per_child=1)
            future = pool.submit(square, 3)
            later = pool.submit(square, 4)
            future.result()
            del pool
            gc.collect()
            say(later.result())
    """)
    assert output == ["16"] * 5


def test_shutdown_from_a_callback_does_not_hang():
    output = run_clean("""
        for wait in (False, True):
            pool, told = futures.ProcessPoolExecutor(1), threading.Event()
            def callback(future):
                try:
                    pool.shutdown(wait=wait)
                except RuntimeError as error:
                    say(error)
                told.set()
            pool.submit(square, 3).add_done_callback(callback)
            told.wait()
            say("shut down")
    """)
    refused = [line for line in output if line.startswith("cannot join current thread")]
    assert [line for line in output if line not in refused] == ["shut down"] * 2
    assert len(refused) <= 1, "as the standard library says it of wait=True"


def test_dropping_the_last_reference_in_a_callback_does_not_hang():
    output = run_clean("""
        box, told = [futures.ProcessPoolExecutor(1)], threading.Event()
        def callback(future):
            box.clear()
            told.set()
        box[0].submit(square, 3).add_done_callback(callback)
        told.wait()
        say("dropped")
    """)
    assert output == ["dropped"]


# fork in the program

# From Python 3.12 on the interpreter warns of a fork beside threads, which these programs mean.
FORKING = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
"""


def test_a_child_of_the_program_refuses_the_pool_and_leaves_it_whole():
    output = run_clean(
        FORKING,
        """
        pool = futures.ProcessPoolExecutor(2)
        pool.submit(square, 3).result()
        child = os.fork()
        if not child:
            try:
                pool.submit(square, 3)
            except RuntimeError as error:
                say("refused")
            pool.shutdown(wait=True)
            os._exit(0)
        os.waitpid(child, 0)
        say(list(pool.map(square, range(5))))
    """,
    )
    assert output == ["refused", "[0, 1, 4, 9, 16]"]


def test_a_child_of_the_program_may_leave_by_the_usual_way():
    output = run_clean(
        FORKING,
        """
        pool = futures.ProcessPoolExecutor(2)
        running = pool.submit(time.sleep, 0.2)
        child = os.fork()
        if not child:
            sys.exit(0)
        say(os.waitpid(child, 0)[1])
        say(running.result(), list(pool.map(square, range(5))))
    """,
    )
    assert output == ["0", "None [0, 1, 4, 9, 16]"]


def test_a_child_of_the_program_may_have_a_pool_of_its_own():
    output = run_clean(
        FORKING,
        """
        pool = futures.ProcessPoolExecutor(2)
        pool.submit(square, 3).result()
        child = os.fork()
        if not child:
            with futures.ProcessPoolExecutor(2) as mine:
                say(list(mine.map(square, range(3))))
            sys.exit(0)
        say(os.waitpid(child, 0)[1])
        say(pool.submit(square, 5).result())
    """,
    )
    assert output == ["[0, 1, 4]", "0", "25"]


def test_workers_end_with_the_program_though_a_child_of_it_lives():
    source = (
        HANGING
        + """
    child = os.fork()
    if not child:
        os.environ.clear()
        time.sleep(3600)
    say(child)
    signal.pause()
    """
    )
    with start(source) as program:
        lines = [program.read() for _ in range(3)]
        (child,) = [int(line) for line in lines if line.isdigit()]
        workers = [pid for pid in program.others() if pid != child]
        assert len(workers) >= 2
        program.kill()
        pause = threading.Event()
        while [pid for pid in program.others() if pid != child]:
            pause.wait(0.01)
        os.kill(child, signal.SIGKILL)


# pools in tasks


def test_a_task_may_have_a_pool_of_its_own():
    output = run_clean("""
        def inner(number):
            with futures.ProcessPoolExecutor() as pool:
                return list(pool.map(square, range(number)))
        with futures.ProcessPoolExecutor(2) as pool:
            say(list(pool.map(inner, [2, 3])))
    """)
    assert output == ["[[0, 1], [0, 1, 4]]"]


def test_the_pool_of_a_task_ends_with_its_killed_worker():
    source = """
        def outer():
            pool = futures.ProcessPoolExecutor(1)
            pool.submit(hang, 0).result()
        pool = futures.ProcessPoolExecutor(1)
        future = pool.submit(outer)
        sys.stdin.readline()
        say(future.kill())
        pool.shutdown()
    """
    with start(source) as program:
        read_tasks(program, 1)
        program.say("go")
        program.expect("True")
        assert program.wait() == 0, program.errors
        program.wait_nothing_left()
