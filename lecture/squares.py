"""The sum of squares of the lecture, in a module that a worker process loads quickly."""

from lecture.measure import measure

#: The lecture sums ten million squares; a slow machine sums fewer, to stay near ten seconds.
LARGEST = 10_000_000
BUDGET = 10.0


def sum_of_squares(n: int) -> int:
    """Add the squares of the numbers below n."""
    return sum(i * i for i in range(n))


def size_for(budget: float, sums: int) -> int:
    """Choose the size that this machine sums so many times within the budget of seconds."""
    sample = LARGEST // 20
    fitting = sample * budget / (measure(sum_of_squares, sample).seconds * sums)
    return next(
        n for n in (LARGEST, LARGEST // 2, LARGEST // 5, sample) if n <= fitting or n == sample
    )
