"""os.fork(): the child has the pool's memory but none of its threads.

The standard library hangs there; raddle says so instead.  The parent must not notice.
"""

import sys

import pytest
from programs import run

if sys.platform != "linux":
    pytest.skip("the platform's fork differs", allow_module_level=True)

CHILD = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork with threads

    def in_child(check):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            check()
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"

    def refused(use):
        try:
            use()
        except RuntimeError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError("not refused")

    def new_pool_works():
        with futures.ThreadPoolExecutor(2) as executor:
            assert executor.submit(abs, -1).result() == 1
            assert list(executor.map(abs, [-1, -2])) == [1, 2]
"""


def run_forking(library, source):
    import textwrap

    text = textwrap.dedent(CHILD) + textwrap.dedent(source)
    code, output, errors = run(library, text)
    assert (code, errors) == (0, []), output
    return output


def test_the_parents_pool_is_refused_in_the_child():
    run_forking(
        "raddle",
        """
        executor = futures.ThreadPoolExecutor(2)
        assert executor.submit(abs, -1).result() == 1
        def check():
            refused(lambda: executor.submit(int))
            refused(lambda: executor.map(int, [1]))
            refused(lambda: executor.options(label="x").submit(int))
            refused(lambda: list(executor.map(int, range(3), buffersize=1)))
        in_child(check)
        assert executor.submit(abs, -2).result() == 2
        """,
    )


def test_waiting_in_the_child_for_what_the_parent_runs_is_refused():
    run_forking(
        "raddle",
        """
        executor = futures.ThreadPoolExecutor(1)
        started, gate = threading.Event(), threading.Event()
        running = executor.submit(lambda: (started.set(), gate.wait()))
        queued = executor.submit(int)
        results = executor.map(int, range(3))
        started.wait()
        def check():
            for future in (running, queued):
                refused(future.result)
                refused(future.exception)
                refused(lambda: futures.wait([future]))
                refused(lambda: list(futures.as_completed([future])))
                refused(lambda: future.result(timeout=3600))
            refused(lambda: next(results))
        in_child(check)
        gate.set()
        assert queued.result() == 0 and list(results) == [0, 1, 2]
        """,
    )


def test_what_was_done_before_the_fork_can_be_read_in_the_child():
    run_forking(
        "raddle",
        """
        executor = futures.ThreadPoolExecutor(1)
        done, failed = executor.submit(abs, -1), executor.submit(divmod, 1, 0)
        futures.wait([done, failed])
        def check():
            assert done.result() == 1 and done.done()
            assert isinstance(failed.exception(), ZeroDivisionError)
            assert futures.wait([done, failed]).done == {done, failed}
            assert set(futures.as_completed([done, failed])) == {done, failed}
        in_child(check)
        """,
    )


def test_a_new_pool_works_in_the_child(library):
    run_forking(
        library.__name__,
        """
        executor = futures.ThreadPoolExecutor(2)
        executor.submit(abs, -1).result()
        in_child(new_pool_works)
        assert executor.submit(abs, -2).result() == 2
        """,
    )


def test_futures_made_by_hand_work_in_the_child(library):
    run_forking(
        library.__name__,
        """
        future = futures.Future()
        def check():
            seen = []
            future.add_done_callback(seen.append)
            threading.Thread(target=future.set_result, args=(3,)).start()
            assert future.result() == 3
            assert futures.wait([future]).done == {future}
        in_child(check)
        assert not future.done()
        """,
    )


def test_forking_with_busy_workers_leaves_both_sides_whole():
    run_forking(
        "raddle",
        """
        executor = futures.ThreadPoolExecutor(3)
        stop = threading.Event()
        def feed():
            while not stop.is_set():
                assert list(executor.map(abs, range(-200, 0))) == list(range(200, 0, -1))
        feeders = [threading.Thread(target=feed) for _ in range(2)]
        for feeder in feeders:
            feeder.start()
        future = executor.submit(stop.wait)
        def check():
            refused(lambda: executor.submit(int))
            refused(future.result)
            refused(lambda: futures.wait([future]))
            new_pool_works()
        for _ in range(50):
            in_child(check)
        stop.set()
        for feeder in feeders:
            feeder.join()
        assert future.result() is True
        """,
    )


def test_the_child_leaves_without_the_parents_tasks():
    output = run_forking(
        "raddle",
        """
        executor = futures.ThreadPoolExecutor(1)
        started, gate = threading.Event(), threading.Event()
        executor.submit(lambda: (started.set(), gate.wait()))
        executor.submit(say, "ran", os.getpid())
        started.wait()
        in_child(lambda: None)
        in_child(lambda: executor.shutdown(wait=False))
        in_child(lambda: executor.shutdown(wait=False, cancel_futures=True))
        in_child(lambda: executor.shutdown(wait=True))
        gate.set()
        executor.shutdown()
        say(os.getpid())
        """,
    )
    ran, pid = output
    assert ran == f"ran {pid}", "in the parent, and once"


def test_the_child_may_drop_the_parents_pool_and_futures():
    run_forking(
        "raddle",
        """
        import gc
        executor = futures.ThreadPoolExecutor(1)
        started, gate = threading.Event(), threading.Event()
        pending = [executor.submit(lambda: (started.set(), gate.wait()))]
        pending += [executor.submit(int) for _ in range(20)]
        results = executor.map(int, range(10))
        started.wait()
        def check():
            global executor, results
            del executor, results
            pending.clear()
            gc.collect()
            new_pool_works()
        in_child(check)
        gate.set()
        assert list(results) == list(range(10))
        assert len(pending) == 21 and pending[-1].result() == 0
        """,
    )


def test_a_worker_may_fork():
    run_forking(
        "raddle",
        """
        executor = futures.ThreadPoolExecutor(2)
        def task():
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    refused(lambda: executor.submit(int))
                    new_pool_works()
                    code = 0
                finally:
                    os._exit(code)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert [executor.submit(task).result() for _ in range(20)] == [0] * 20
        """,
    )


def test_a_child_may_fork_again():
    run_forking(
        "raddle",
        """
        executor = futures.ThreadPoolExecutor(1)
        executor.submit(int).result()
        def child():
            new_pool_works()
            own = futures.ThreadPoolExecutor(1)
            own.submit(int).result()
            def grandchild():
                refused(lambda: executor.submit(int))
                refused(lambda: own.submit(int))
                new_pool_works()
            in_child(grandchild)
            assert own.submit(abs, -5).result() == 5
        in_child(child)
        """,
    )


def test_multiprocessing_by_fork_works_beside_a_pool(library):
    run_forking(
        library.__name__,
        """
        import multiprocessing
        executor = futures.ThreadPoolExecutor(2)
        executor.submit(int).result()
        context = multiprocessing.get_context("fork")
        for _ in range(5):
            process = context.Process(target=new_pool_works)
            process.start()
            process.join()
            assert process.exitcode == 0
        assert executor.submit(abs, -1).result() == 1
        """,
    )


def test_subprocesses_can_be_started_from_workers(library):
    run_forking(
        library.__name__,
        """
        import subprocess
        executor = futures.ThreadPoolExecutor(4)
        codes = executor.map(lambda _: subprocess.run(["true"]).returncode, range(40))
        assert list(codes) == [0] * 40
        """,
    )
