"""The pool under asyncio: wrap_future, run_in_executor, default executor, ``await``."""

import asyncio
import concurrent.futures
import threading

import pytest


def run(coroutine):
    return asyncio.run(coroutine)


def test_wrap_future_brings_the_result_to_the_loop(make_any):
    executor = make_any(2)

    async def main():
        return await asyncio.wrap_future(executor.submit(pow, 2, 8))

    assert run(main()) == 256


def test_wrap_future_brings_the_exception_to_the_loop(make_any):
    executor = make_any(2)

    async def main():
        await asyncio.wrap_future(executor.submit(divmod, 1, 0))

    with pytest.raises(ZeroDivisionError):
        run(main())


def test_run_in_executor_takes_the_pool(make_any):
    executor = make_any(4)

    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, abs, -n) for n in range(500)]
        return await asyncio.gather(*calls)

    assert run(main()) == list(range(500))


def test_the_pool_can_be_the_loops_default(make_executor):
    executor = make_executor(2, thread_name_prefix="default")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        return name, await asyncio.to_thread(pow, 3, 3)

    name, value = run(main())
    assert name.startswith("default") and value == 27


def test_cancelling_in_the_loop_cancels_a_task_that_has_not_started(make_any, blocker):
    executor, seen = make_any(1), []
    blocker.hold(executor)

    async def main():
        future = executor.submit(seen.append, 1)
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        return future

    future = run(main())
    assert future.cancelled()
    blocker.release()
    executor.shutdown(wait=True)
    assert seen == []


def test_cancelling_a_task_cancels_what_it_awaits(make_any, blocker):
    executor = make_any(1)
    blocker.hold(executor)
    future = executor.submit(int)

    async def main():
        async def use():
            await asyncio.wrap_future(future)

        task = asyncio.ensure_future(use())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert future.cancelled()


def test_cancelling_the_future_cancels_the_loops_side(make_any, blocker):
    executor = make_any(1)
    blocker.hold(executor)
    future = executor.submit(int)

    async def main():
        wrapped = asyncio.wrap_future(future)
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    run(main())


def test_a_timeout_of_the_loop_leaves_the_pool_usable(make_any, blocker):
    executor = make_any(1)
    (held,) = blocker.hold(executor)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(held), timeout=0.01)
        blocker.release()
        return await asyncio.wrap_future(executor.submit(abs, -1))

    assert run(main()) == 1


def test_two_loops_in_two_threads_share_a_pool(make_any):
    executor, totals = make_any(3), []

    async def main():
        loop = asyncio.get_running_loop()
        values = await asyncio.gather(
            *(loop.run_in_executor(executor, abs, -n) for n in range(300))
        )
        totals.append(sum(values))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [sum(range(300))] * 2


def test_one_future_may_be_awaited_by_two_loops(make_any, blocker):
    executor, values = make_any(1), []
    future = executor.submit(blocker, 8)

    async def main():
        values.append(await asyncio.wrap_future(future))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
    for thread in threads:
        thread.start()
    blocker.release()
    for thread in threads:
        thread.join()
    assert values == [8, 8]


def test_a_loop_that_closes_before_the_task_ends_is_no_error(make_any, blocker, caplog):
    executor = make_any(1)

    async def main():
        future = executor.submit(blocker)
        asyncio.wrap_future(future)
        return future

    future = run(main())
    blocker.release()
    executor.shutdown(wait=True)
    assert future.done()
    assert not [r for r in caplog.records if r.name == "concurrent.futures"]


# await, which the standard library does not have


@pytest.fixture(params=["pool", "view"])
def awaiting(request, make_raddle):
    executor = make_raddle(2)
    return executor if request.param == "pool" else executor.options(label="awaited")


def test_a_future_can_be_awaited(awaiting):
    async def main():
        return await awaiting.submit(pow, 2, 10)

    assert run(main()) == 1024


def test_a_finished_future_can_be_awaited_again(awaiting):
    future = awaiting.submit(abs, -4)
    future.result()

    async def main():
        return await future, await future

    assert run(main()) == (4, 4)


def test_awaiting_raises_what_the_task_raised(awaiting):
    async def main():
        await awaiting.submit(divmod, 1, 0)

    with pytest.raises(ZeroDivisionError):
        run(main())


def test_gather_takes_futures_as_they_are(awaiting):
    async def main():
        return await asyncio.gather(*(awaiting.submit(abs, -n) for n in range(200)))

    assert run(main()) == list(range(200))


def test_awaiting_leaves_the_loop_free(awaiting, blocker):
    async def main():
        future = awaiting.submit(blocker, 5)

        async def let_go():
            blocker.release()

        value, _ = await asyncio.gather(future, let_go())
        return value

    assert run(main()) == 5


def test_cancelling_a_task_cancels_the_future_that_it_awaits(make_raddle, blocker):
    executor = make_raddle(1)
    blocker.hold(executor)
    future = executor.submit(int)

    async def main():
        async def use():
            await future

        task = asyncio.ensure_future(use())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert future.cancelled()


def test_a_future_made_by_hand_can_be_awaited(raddle):
    future = raddle.Future()

    async def main():
        threading.Thread(target=future.set_result, args=("by hand",)).start()
        return await future

    assert run(main()) == "by hand"
    assert isinstance(future, concurrent.futures.Future)


def test_awaiting_a_cancelled_future_raises_cancelled_error(raddle):
    future = raddle.Future()
    future.cancel()

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await future

    run(main())


def test_awaiting_outside_a_loop_is_a_runtime_error(raddle):
    future = raddle.Future()

    async def use():
        await future

    coroutine = use()
    with pytest.raises(RuntimeError, match="loop"):
        coroutine.send(None)
    coroutine.close()
