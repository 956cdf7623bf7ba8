"""Retry what fails, give up what takes too long, count what happened: python examples/options.py.

``executor.options`` gives a view of the same executor, with the same methods, whose tasks are
treated as it says.
"""

import itertools
import threading

from raddle import TaskTimeout, ThreadPoolExecutor

attempts = itertools.count(1)
never = threading.Event()


def fetch() -> str:
    """Fail twice, then succeed, as a server that is being restarted does."""
    attempt = next(attempts)
    if attempt < 3:
        raise ConnectionError(f"attempt {attempt}: connection refused")
    return f"fetched on attempt {attempt}"


def hang() -> None:
    """Wait for what does not come, as for a server that does not answer."""
    never.wait()


def main() -> None:
    """Run both with options and print the executor's statistics."""
    with ThreadPoolExecutor(max_workers=2) as executor:
        patient = executor.options(retries=2, retry_on=ConnectionError, label="fetch")
        print(patient.submit(fetch).result())

        # Nobody can kill a thread: it is abandoned, and another takes its place.
        strict = executor.options(task_timeout=0.2, label="hang")
        try:
            strict.submit(hang).result()
        except TaskTimeout as error:
            print(f"TaskTimeout: {error}")

        statistics = executor.statistics()
        print(f"{statistics.done} done, {statistics.failed} failed", end=", ")
        print(f"{statistics.retried} retried, {statistics.abandoned} abandoned")
    never.set()


if __name__ == "__main__":
    main()
