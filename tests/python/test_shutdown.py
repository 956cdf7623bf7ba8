"""shutdown and leaving the ``with`` block, inside one process."""

import gc
import threading
import weakref

import pytest

SUBMIT_TOO_LATE = "cannot schedule new futures after shutdown"


def test_submit_after_shutdown_is_a_runtime_error(make_any):
    executor = make_any(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match=SUBMIT_TOO_LATE):
        executor.submit(int)
    with pytest.raises(RuntimeError, match=SUBMIT_TOO_LATE):
        executor.map(int, ["1"])


def test_map_of_nothing_after_shutdown_is_empty(make_any):
    executor = make_any(1)
    executor.shutdown()
    assert list(executor.map(int, [])) == []


def test_shutdown_waits_for_queued_tasks(make_any, blocker):
    executor, seen = make_any(1), []
    blocker.hold(executor)
    futures = [executor.submit(seen.append, n) for n in range(100)]
    threading.Thread(target=blocker.release).start()
    executor.shutdown(wait=True)
    assert seen == list(range(100))
    assert all(f.done() for f in futures)


def test_shutdown_without_wait_lets_queued_tasks_run(make_any, blocker):
    executor = make_any(1)
    held = blocker.hold(executor)
    futures = [executor.submit(abs, -n) for n in range(20)]
    executor.shutdown(wait=False)
    assert not held[0].done()
    with pytest.raises(RuntimeError, match=SUBMIT_TOO_LATE):
        executor.submit(int)
    blocker.release()
    assert [f.result() for f in futures] == list(range(20))


def test_shutdown_can_cancel_what_has_not_started(make_any, blocker):
    executor = make_any(2)
    held = blocker.hold(executor, workers=2)
    queued = [executor.submit(abs, -n) for n in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(f.cancelled() for f in queued)
    assert all(f.running() for f in held)
    blocker.release()
    assert [f.result() for f in held] == [None, None]


def test_cancelling_at_shutdown_runs_the_callbacks(make_any, blocker):
    executor, seen = make_any(1), []
    blocker.hold(executor)
    queued = [executor.submit(int) for _ in range(5)]
    for future in queued:
        future.add_done_callback(seen.append)
    executor.shutdown(wait=False, cancel_futures=True)
    assert seen == queued


def test_shutdown_may_be_called_again(make_any, blocker):
    executor = make_any(1)
    blocker.hold(executor)
    queued = executor.submit(int)
    executor.shutdown(wait=False)
    executor.shutdown(wait=False, cancel_futures=True)
    assert queued.cancelled()
    blocker.release()
    executor.shutdown()
    executor.shutdown(wait=True)


def test_shutdown_of_an_unused_pool_returns(make_any):
    make_any(4).shutdown(wait=True)
    make_any(4).shutdown(wait=False)
    make_any(4).shutdown(cancel_futures=True)


def test_cancel_futures_is_keyword_only(make_any):
    with pytest.raises(TypeError):
        make_any(1).shutdown(True, True)


def test_shutdown_ends_every_worker(make_executor):
    executor = make_executor(8, thread_name_prefix="ending")
    barrier = threading.Barrier(8)
    for _ in executor.map(lambda _: barrier.wait(), range(8)):
        pass
    workers = [t for t in threading.enumerate() if t.name.startswith("ending")]
    assert len(workers) == 8
    executor.shutdown(wait=True)
    assert not any(t.is_alive() for t in workers)


def test_idle_workers_end_after_shutdown_without_wait(make_executor):
    executor = make_executor(4, thread_name_prefix="idle")
    barrier = threading.Barrier(4)
    list(executor.map(lambda _: barrier.wait(), range(4)))
    workers = [t for t in threading.enumerate() if t.name.startswith("idle")]
    assert len(workers) == 4
    executor.shutdown(wait=False)
    for worker in workers:
        worker.join()


def test_with_returns_the_executor_and_waits(make_any):
    executor = make_any(2)
    with executor as entered:
        assert entered is executor
        future = entered.submit(abs, -3)
    assert future.done()
    with pytest.raises(RuntimeError, match=SUBMIT_TOO_LATE):
        executor.submit(int)


def test_an_error_in_the_with_block_leaves_it_after_all_tasks(make_any, blocker):
    executor, seen = make_any(1), []
    with pytest.raises(ZeroDivisionError):
        with executor:
            blocker.hold(executor)
            for number in range(20):
                executor.submit(seen.append, number)
            threading.Thread(target=blocker.release).start()
            raise ZeroDivisionError
    assert seen == list(range(20))


def test_a_task_may_shut_its_pool_down_without_wait(make_any):
    executor = make_any(1)
    assert executor.submit(executor.shutdown, wait=False).result() is None
    with pytest.raises(RuntimeError, match=SUBMIT_TOO_LATE):
        executor.submit(int)


def test_a_task_that_waits_for_its_own_pool_does_not_hang(make_any):
    executor = make_any(1)
    error = executor.submit(executor.shutdown, wait=True).exception()
    assert error is None or isinstance(error, RuntimeError)


def test_a_callback_may_shut_the_pool_down(make_any, blocker):
    executor, told = make_any(2), threading.Event()
    (held,) = blocker.hold(executor)

    def stop(_):
        executor.shutdown(wait=False, cancel_futures=True)
        told.set()

    held.add_done_callback(stop)
    blocker.release()
    told.wait()
    with pytest.raises(RuntimeError, match=SUBMIT_TOO_LATE):
        executor.submit(int)


def test_a_callback_of_a_task_cancelled_at_shutdown_may_use_the_pool(make_raddle, blocker):
    """The standard library calls it while it holds the pool's lock, and hangs."""
    executor, errors = make_raddle(1), []
    blocker.hold(executor)
    queued = executor.submit(int)

    def use(_):
        try:
            executor.submit(int)
        except RuntimeError as error:
            errors.append(str(error))

    queued.add_done_callback(use)
    executor.shutdown(wait=False, cancel_futures=True)
    assert errors == [SUBMIT_TOO_LATE]


def test_submit_racing_with_shutdown_either_runs_or_raises(make_any):
    for _ in range(20):
        executor, futures = make_any(2), []
        start = threading.Barrier(3)

        def submit_until_refused():
            start.wait()
            while True:
                try:
                    futures.append(executor.submit(abs, -1))
                except RuntimeError as error:
                    assert str(error) == SUBMIT_TOO_LATE
                    return

        threads = [threading.Thread(target=submit_until_refused) for _ in range(2)]
        for thread in threads:
            thread.start()
        start.wait()
        executor.submit(int).result()
        executor.shutdown(wait=True)
        for thread in threads:
            thread.join()
        assert all(f.result() == 1 for f in futures)


def test_several_threads_may_shut_down_at_once(make_any, blocker):
    executor = make_any(2)
    blocker.hold(executor, workers=2)
    threads = [threading.Thread(target=executor.shutdown) for _ in range(6)]
    for thread in threads:
        thread.start()
    blocker.release()
    for thread in threads:
        thread.join()


def test_a_dropped_pool_finishes_its_work_and_ends_its_workers(library, blocker):
    executor = library.ThreadPoolExecutor(2, thread_name_prefix="dropped")
    blocker.hold(executor, workers=2)
    futures = [executor.submit(abs, -n) for n in range(10)]
    workers = [t for t in threading.enumerate() if t.name.startswith("dropped")]
    assert len(workers) == 2
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None, "nothing keeps a pool alive but its user"
    blocker.release()
    assert [f.result() for f in futures] == list(range(10))
    for worker in workers:
        worker.join()


def test_a_dropped_idle_pool_ends_its_workers(library):
    executor = library.ThreadPoolExecutor(2, thread_name_prefix="dropped")
    worker = executor.submit(threading.current_thread).result()
    del executor
    gc.collect()
    worker.join()


def test_a_pool_dropped_by_its_own_task_does_not_hang(library, blocker):
    box = [library.ThreadPoolExecutor(1)]
    blocked = blocker.hold(box[0])
    last = box[0].submit(box.clear)
    thread = box[0].submit(threading.current_thread)
    blocker.release()
    assert blocked[0].result() is None
    assert last.result() is None
    thread.result().join()


def test_map_results_outlive_the_pool(library):
    results = library.ThreadPoolExecutor(2).map(abs, range(-50, 0))
    gc.collect()
    assert list(results) == list(range(50, 0, -1))
