"""A contender in an interpreter of its own, kept for all rounds, which gives a figure when asked.

Pools of processes disturb each other in one interpreter: one forks what another has allocated and
the threads that it has started. Apart they cannot, and their rounds are interleaved all the same.

Invariant: when `kept_apart` ends, no process of the contender is left.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from benchmarks.measure import ROOT, timed
from benchmarks.model import Sample, Scale
from benchmarks.process_contenders import Chunk, ProcessPool, openers
from benchmarks.process_tasks import Work, no_ops, sums

#: How long a contender may take for one figure, or to get ready, before it is given up.
FIGURE_SECONDS = 120.0
END_SECONDS = 20.0
READY = "ready"
FAILED = "failed: "
BEST_CHUNK = "best chunk"
SUMS = "sums"


@dataclass(frozen=True)
class Order:
    """What a contender shall do for a figure.

    Parameters
    ----------
    contender : str
        Its name among `openers`.
    subject : str
        The module under measurement.
    method : str
        A method of `ProcessPool`, or `BEST_CHUNK` for ``map`` with the chunks that suit it best.
    kind : str
        What the items are, or `SUMS`.
    count : int
        How many tasks, or up to what to sum.
    workers : int
        How many processes.
    figure_seconds : float
        How long a figure repeats the call.
    """

    contender: str
    subject: str
    method: str
    kind: str
    count: int
    workers: int
    figure_seconds: float

    def work(self) -> Work:
        """Return what the workers shall do."""
        return sums(self.count) if self.kind == SUMS else no_ops(self.kind, self.count)


@contextmanager
def kept_apart(order: Order) -> Iterator[Sample]:
    """Start a contender and give its sampler; the contender ends with the block."""
    command = [sys.executable, "-m", "benchmarks.apart", json.dumps(asdict(order))]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    try:
        answer = _line(process, order)
        if answer != READY:
            raise RuntimeError(f"{order.contender} said {answer!r} where it had to be ready")
        yield partial(_ask, process, order)
        _end(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:
            pass


def _ask(process: subprocess.Popen[bytes], order: Order) -> float:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(b"figure\n")
    return float(_line(process, order))


def _line(process: subprocess.Popen[bytes], order: Order) -> str:
    """Read one line, byte by byte, so that nothing is left behind in a buffer."""
    assert process.stdout is not None
    line, deadline = b"", time.monotonic() + FIGURE_SECONDS
    while not line.endswith(b"\n"):
        left = max(0.0, deadline - time.monotonic())
        if not select.select([process.stdout], [], [], left)[0]:
            raise RuntimeError(f"{order.contender} gave no figure in {FIGURE_SECONDS:g} seconds")
        read = process.stdout.read(1)
        if not read:
            # Looked at and not taken: its number stays its own until its group has been killed.
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            status = "an unknown status" if ended is None else f"status {ended.si_status}"
            raise RuntimeError(f"{order.contender} ended with {status}, without a figure")
        line += read
    told = line.decode().strip()
    if told.startswith(FAILED):
        raise RuntimeError(f"{order.contender} {told}")
    return told


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a contender close its pool: then nobody has its output open any more, or time is up."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    if select.select([process.stdout], [], [], END_SECONDS)[0]:
        process.stdout.read(1)


def chosen_call(pool: ProcessPool, order: Order, work: Work) -> Callable[[], Any]:
    """Return what is timed; the best chunks are found here, before the first figure."""
    if order.method != BEST_CHUNK:
        return partial(getattr(pool, order.method), work.function, work.items)
    costs = {chunk: _fastest_of_two(pool, work, chunk) for chunk in pool.chunks}
    best = min(costs, key=lambda chunk: costs[chunk])
    size = f"{best:,} items" if isinstance(best, int) else "its own choice"
    print(f"{order.contender}: the best chunks are of {size}", file=sys.stderr, flush=True)
    return partial(pool.map, work.function, work.items, best)


def _fastest_of_two(pool: ProcessPool, work: Work, chunk: Chunk) -> float:
    sample = timed(
        partial(pool.map, work.function, work.items, chunk),
        work.expected.__eq__,
        1,
        Scale(figure_seconds=0.0),
    )
    return min(sample(), sample())


def compete(order: Order) -> None:
    """Be a contender: open the pool, and print a figure for every line that comes."""
    pool = openers(importlib.import_module(order.subject))[order.contender](order.workers)
    work = order.work()
    call = chosen_call(pool, order, work)
    tasks = 1 if order.kind == SUMS else len(work.items)
    scale = Scale(figure_seconds=order.figure_seconds)
    sample = timed(call, work.expected.__eq__, tasks, scale)
    print(READY, flush=True)
    for _ in sys.stdin:
        gc.collect()
        print(sample(), flush=True)
    pool.close()


def main(words: list[str]) -> None:
    """Compete, and tell in a line what went wrong."""
    try:
        compete(Order(**json.loads(words[0])))
    except BaseException as error:
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"{FAILED}{told}", flush=True)
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
