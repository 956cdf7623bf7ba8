"""Measurements of raddle beside the tools that it replaces, in the same run.

``python -m benchmarks`` measures the thread pool against ``concurrent.futures`` and
``multiprocessing.pool.ThreadPool``; ``python -m benchmarks processes`` measures the process pool
against ``concurrent.futures``, ``multiprocessing.Pool``, loky, joblib and mpire; ``python -m
benchmarks fetch`` measures the fetching of pages against aiohttp, httpx, primp and requests, from
nginx on loopback; ``python -m benchmarks rust`` runs the engine's own benchmark.

How a figure comes about:

- Each case runs in a fresh interpreter, so that no case inherits another's heap or threads.
- Inside it every contender has its own pool, opened and warmed up before the first figure, and
  kept for all rounds: the cost of a task is measured, not the cost of starting (cases with
  ``start`` in their name measure that). Pools of processes also have an interpreter each, so that
  none forks what another has allocated or the threads that it has started.
- A round takes one figure from each contender in turn, and the next round starts with the next
  one (A B C, B C A, ...): each takes each place. A ratio is the median of the ratios within a
  round, because the speed of a machine drifts from one minute to the next.
- ``--subject concurrent.futures`` measures the standard library against itself: how far its
  ratios are from 1 is how far a ratio can be trusted. Beside busy processes that is far.
- A figure is the mean over as many calls as fill a fifth of a second. The clock stops when the
  call has its results; each call's results are then checked against what they must be.
- The garbage collector stays on, as users have it; it runs once before each figure, so that
  nobody pays for what another left behind.
"""
