"""Compute on all cores, lose nothing to a task that dies or hangs: python examples/processes.py.

The first part is a program for ``concurrent.futures`` with one import changed, and without the
guard that such a program needs. The rest is what raddle adds.
"""

import os
import signal
import time

from raddle import ProcessPoolExecutor, TaskTimeout, WorkerDied


def is_prime(number: int) -> bool:
    """Try every divisor."""
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def primes_between(low: int, high: int) -> int:
    """Count the primes of a range."""
    return sum(map(is_prime, range(low, high)))


def work_or_die(number: int) -> int:
    """Return a square; one number takes its worker process with it, as a bug in C code does."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number * number


with ProcessPoolExecutor(max_workers=4) as executor:
    # In order of the input; each range is counted in a process of its own.
    lows = range(0, 200_000, 20_000)
    counts = list(executor.map(primes_between, lows, [low + 20_000 for low in lows]))
    print(f"{sum(counts):,} primes below 200,000")

    # What no other program can import travels too: lambdas, closures, functions of a notebook.
    offset = 1_000
    print("closures:", list(executor.map(lambda number: number + offset, range(3))))

    # A worker that dies fails its own task, and another takes its place.
    futures = [executor.submit(work_or_die, number) for number in range(10, 16)]
    for number, future in enumerate(futures, start=10):
        try:
            print(f"{number}: {future.result()}")
        except WorkerDied as error:
            print(f"{number}: WorkerDied: {str(error).splitlines()[0]}")

    # A task that takes too long is killed, not waited for.
    try:
        executor.options(task_timeout=0.2, label="nap").submit(time.sleep, 600).result()
    except TaskTimeout as error:
        print(f"TaskTimeout: {error}")

    # So is one that nobody wants any more.
    nap = executor.submit(time.sleep, 600)
    while not nap.running():
        time.sleep(0.01)
    nap.kill()
    print("killed:", type(nap.exception()).__name__)
