"""Await blocking calls from asyncio: python examples/asyncio_pool.py.

A future of raddle can be awaited, and an executor can be the event loop's own.
"""

import asyncio
import time

from raddle import ThreadPoolExecutor


def blocking_query(number: int) -> int:
    """Wait as a database driver does that knows nothing of asyncio."""
    time.sleep(0.1)
    return number * number


async def main() -> None:
    """Run ten blocking calls at once while the event loop stays free."""
    with ThreadPoolExecutor(max_workers=10) as executor:
        print("awaited:", await executor.submit(blocking_query, 7))

        start = time.perf_counter()
        futures = [executor.submit(blocking_query, number) for number in range(10)]
        results = await asyncio.gather(*map(asyncio.wrap_future, futures))
        print(f"gathered: {results} in {time.perf_counter() - start:.1f} s")

        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        print("to_thread:", await asyncio.to_thread(blocking_query, 9))


if __name__ == "__main__":
    asyncio.run(main())
