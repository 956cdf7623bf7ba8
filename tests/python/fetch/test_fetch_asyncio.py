"""asyncio: await a batch, iterate over it, cancel it, from one loop or several."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import threading

import pytest
from faults import Faults


def test_a_batch_can_be_awaited(raddle, faults: Faults):
    async def main():
        return await raddle.fetch_async([faults.url("ok", size=n) for n in range(20)])

    assert [len(response.content) for response in asyncio.run(main())] == list(range(20))


def test_a_batch_can_be_iterated_as_it_completes(raddle, faults: Faults):
    urls = [faults.url("hold", gate="a"), faults.url("ok")]

    async def main():
        seen = []
        async for response in raddle.fetch_async(urls, timeout=50):
            seen.append(response.request.url)
            faults.release("a")
        return seen

    assert asyncio.run(main()) == urls[::-1]


def test_the_loop_runs_meanwhile(raddle, faults: Faults):
    async def main():
        batch = asyncio.ensure_future(asyncio.wait_for(fetch_held(), 50))
        await asyncio.to_thread(faults.wait_requests, 1)
        assert not batch.done()
        faults.release()
        return (await batch)[0].text

    async def fetch_held():
        return await raddle.fetch_async([faults.url("hold")], timeout=50)

    assert asyncio.run(main()) == "released"


def test_a_cancelled_task_gives_its_batch_up(raddle, faults: Faults):
    async def work():
        await raddle.fetch_async([faults.url("silent")] * 5, timeout=None)

    async def main():
        task = asyncio.ensure_future(work())
        await asyncio.to_thread(faults.wait_requests, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(faults.wait_left, 5)

    asyncio.run(main())


def test_wait_for_gives_its_batch_up(raddle, faults: Faults):
    async def work():
        await raddle.fetch_async([faults.url("silent")], timeout=None)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(work(), 0.2)
        await asyncio.to_thread(faults.wait_left, 1)

    asyncio.run(main())


def test_leaving_the_loop_over_a_batch_gives_it_up(raddle, faults: Faults):
    async def main():
        urls = [faults.url("ok"), faults.url("silent")]
        responses = raddle.fetch_async(urls, timeout=None).__aiter__()
        assert (await responses.__anext__()).ok
        await asyncio.to_thread(faults.wait_requests, 2)
        await responses.aclose()
        await asyncio.to_thread(faults.wait_left, 1)

    asyncio.run(main())


def test_an_endless_input_is_held_back(raddle, faults: Faults):
    taken = []

    def urls():
        for n in itertools.count():
            taken.append(n)
            yield faults.url("ok")

    async def main():
        count = 0
        async for response in raddle.fetch_async(urls(), concurrency=4):
            assert response.ok
            count += 1
            assert len(taken) - count <= 4 * 4
            if count == 100:
                break

    asyncio.run(main())


def test_many_batches_run_at_once(raddle, faults: Faults):
    async def main():
        batches = [raddle.fetch_async([faults.url("ok", n=n)] * 10) for n in range(10)]

        async def awaited(batch):
            return await batch

        return await asyncio.gather(*map(awaited, batches))

    results = asyncio.run(main())
    assert [len(responses) for responses in results] == [10] * 10
    assert all(response.ok for responses in results for response in responses)


def test_several_loops_fetch_beside_each_other(raddle, faults: Faults):
    results = []

    async def main():
        return await raddle.fetch_async([faults.url("hold")] * 2, timeout=50)

    def work():
        results.append(asyncio.run(main()))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    faults.wait_requests(6)
    faults.release()
    for thread in threads:
        thread.join()
    assert [response.text for responses in results for response in responses] == ["released"] * 6


def test_a_second_loop_of_the_same_thread_works(raddle, faults: Faults):
    async def main():
        return (await raddle.fetch_async([faults.url("ok")]))[0].ok

    assert [asyncio.run(main()) for _ in range(3)] == [True] * 3


def test_errors_are_raised_where_the_batch_is_awaited(raddle, faults: Faults):
    async def main():
        with pytest.raises(raddle.InvalidURL):
            await raddle.fetch_async(["no url"], on_error="raise")
        [response] = await raddle.fetch_async(["no url"])
        assert isinstance(response.error, raddle.InvalidURL)

    asyncio.run(main())


def test_bad_arguments_raise_at_the_call(raddle):
    with pytest.raises(ValueError, match="concurrency"):
        raddle.fetch_async([], concurrency=0)
    with pytest.raises(TypeError, match="list"):
        raddle.fetch_async("http://127.0.0.1/")


def test_an_input_that_raises_is_raised(raddle, faults: Faults):
    def urls():
        yield faults.url("ok")
        raise LookupError("no more")

    async def main():
        with pytest.raises(LookupError, match="no more"):
            await raddle.fetch_async(urls())

    asyncio.run(main())


def test_a_batch_of_asyncio_needs_no_loop_until_it_is_awaited(raddle, faults: Faults):
    batch = raddle.fetch_async([faults.url("ok")])

    async def main():
        return await batch

    assert asyncio.run(main())[0].ok


def test_a_batch_that_is_dropped_is_given_up(raddle, faults: Faults):
    async def main():
        async for response in raddle.fetch_async(
            [faults.url("ok"), faults.url("silent")], timeout=None
        ):
            assert response.ok
            await asyncio.to_thread(faults.wait_requests, 2)
            break
        gc.collect()
        await asyncio.to_thread(faults.wait_left, 1)

    asyncio.run(main())


def test_the_calls_that_block_work_inside_a_loop_too(raddle, faults: Faults):
    async def main():
        return raddle.get(faults.url("ok")), raddle.fetch([faults.url("ok")] * 3)

    one, several = asyncio.run(main())
    assert one.ok and all(response.ok for response in several)


def test_a_step_that_is_given_up_loses_nothing(raddle, faults: Faults):
    urls = [faults.url("hold", name=n) for n in range(3)]

    async def main():
        batch = raddle.fetch_async(urls, timeout=50)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(batch.__anext__(), 0.2)
        faults.release()
        return [response.request.url async for response in batch]

    assert sorted(asyncio.run(main())) == urls


def test_a_step_may_be_given_up_at_any_moment(raddle, faults: Faults):
    urls = [faults.url("ok", name=n) for n in range(100)]

    async def main():
        batch, seen = raddle.fetch_async(urls), []
        for turns in itertools.count():
            step = asyncio.ensure_future(batch.__anext__())
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            step.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                try:
                    seen.append((await step).request.url)
                except StopAsyncIteration:
                    return seen

    assert sorted(asyncio.run(main())) == sorted(urls)


def test_two_readers_share_a_batch(raddle, faults: Faults):
    urls = [faults.url("ok", name=n) for n in range(100)]

    async def main():
        batch = raddle.fetch_async(urls)

        async def read():
            return [response.request.url async for response in batch]

        first, second = await asyncio.gather(read(), read())
        return first + second

    assert sorted(asyncio.run(main())) == sorted(urls)


def test_closing_a_batch_in_a_with_block_gives_it_up(raddle, faults: Faults):
    async def main():
        async with contextlib.aclosing(
            raddle.fetch_async([faults.url("silent")], timeout=None)
        ) as batch:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(batch.__anext__(), 0.2)
        await asyncio.to_thread(faults.wait_left, 1)

    asyncio.run(main())
