"""Threads, processes, or a plain loop: let the measurement decide."""

import hashlib
import time

import raddle


def wait(seconds: float) -> float:
    """Wait, as for a page or a database."""
    time.sleep(seconds)
    return seconds


def compute(count: int) -> int:
    """Compute in Python, which holds the GIL."""
    return sum(n * n for n in range(count))


def digest(size: int) -> str:
    """Compute in C, which gives the GIL up."""
    return hashlib.sha256(bytes(size)).hexdigest()


def main() -> None:
    """Map three functions, and tell what was decided for each."""
    for function, items in ((wait, [0.02] * 50), (compute, [100_000] * 50), (digest, [10**6] * 50)):
        results = raddle.map(function, items)
        for _ in results:
            pass
        print(f"{function.__name__}: {results.report()}")
    print(raddle.advise(wait, [0.02] * 50))


if __name__ == "__main__":
    main()
