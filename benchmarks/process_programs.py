"""Programs whose workers log, or have pools of their own: cases of the process pool."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from benchmarks.measure import compile_package, timed
from benchmarks.model import FUTURES, RADDLE, Case, Sample, Scale, Setup, Target

SILENT = "raddle, no logging"
FORK = "raddle, fork"
FORKSERVER = "concurrent.futures, forkserver"
RECORDS = 100_000
TASKS = 200_000
NESTED_SUM = 1_000_000


def _opening(library: str, method: str) -> str:
    return (
        f"from {library} import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        f"options = {{{{'mp_context': get_context('{method}')}}}}\n"
    )


OPENINGS = {
    RADDLE: "from {subject} import ProcessPoolExecutor\noptions = {{}}\n",
    SILENT: "from {subject} import ProcessPoolExecutor\noptions = {{}}\n",
    FORK: _opening("{subject}", "fork"),
    FUTURES: _opening("concurrent.futures", "fork"),
    FORKSERVER: _opening("concurrent.futures", "forkserver"),
}

SEEN = """
import logging, logging.handlers

seen = []

class Handler(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())

def task(count):
    logger = logging.getLogger("program.task")
    for number in range(count):
        logger.info("record %d of %s", number, "the task")

def check():
    assert seen == [f"record {{number}} of the task" for number in range({count})]
"""
RECORD_PROGRAMS = {
    RADDLE: SEEN
    + """
logging.getLogger("program").addHandler(Handler())
logging.getLogger("program").setLevel(logging.INFO)
with ProcessPoolExecutor(1, **options) as executor:
    executor.submit(task, {count}).result()
check()
""",
    # As the logging cookbook of Python's documentation has it.
    FUTURES: SEEN
    + """
import multiprocessing

def configure(queue):
    logging.getLogger("program").addHandler(logging.handlers.QueueHandler(queue))
    logging.getLogger("program").setLevel(logging.INFO)

queue = multiprocessing.Queue()
listener = logging.handlers.QueueListener(queue, Handler())
listener.start()
with ProcessPoolExecutor(1, initializer=configure, initargs=(queue,), **options) as executor:
    executor.submit(task, {count}).result()
listener.stop()
check()
""",
}
CONFIGURED = """
import logging
logging.basicConfig(level=logging.INFO)
"""
MAPPED = """
with ProcessPoolExecutor(2, **options) as executor:
    assert sum(executor.map(abs, range({count}))) == {count} * ({count} - 1) // 2
"""
NESTED = """
def sum_of_squares(n):
    return sum(i * i for i in range(n))

def outer(n):
    with ProcessPoolExecutor(2, **options) as executor:
        return sum(executor.map(sum_of_squares, [n] * 4))

if __name__ == "__main__":
    import warnings
    warnings.simplefilter("ignore")
    with ProcessPoolExecutor(2, **options) as executor:
        one, other = executor.map(outer, [{count}] * 2)
        assert one == other > 0
"""


def programs(texts: Mapping[str, str], count: int) -> Setup:
    """Give samplers of whole programs, one for each contender."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        compile_package(subject)
        with TemporaryDirectory(prefix="raddle-benchmark-") as folder:
            samplers = {}
            for number, (name, text) in enumerate(texts.items()):
                file = Path(folder) / f"program_{number}.py"
                whole = OPENINGS[name] + text
                file.write_text(whole.format(subject=subject.__name__, count=scale.tasks(count)))
                samplers[name] = timed(partial(run, file), lambda status: status == 0, 1, scale)
            yield samplers

    return setup


def run(file: Path) -> int:
    """Run a program to its end and return its status."""
    return subprocess.run([sys.executable, str(file)]).returncode


CASES = [
    Case(
        "processes-records",
        f"a program whose worker logs {RECORDS:,} records, handled in the program",
        programs(RECORD_PROGRAMS, RECORDS),
        "ms a program",
        Target(2),
        "concurrent.futures: QueueHandler and QueueListener, as the logging cookbook has it. Each "
        "program checks that all records arrive, in order; start and end are in it.",
    ),
    Case(
        "processes-records-none",
        f"a program with logging configured whose workers log nothing in {TASKS:,} tasks",
        programs({RADDLE: CONFIGURED + MAPPED, SILENT: MAPPED}, TASKS),
        "ms a program",
        Target(1 / 1.1, peers=[SILENT]),
        "raddle, no logging: the same program without the configuration.",
    ),
    Case(
        "processes-nested",
        "two nested pools of 2: sums of squares, 4 in each inner pool",
        programs(dict.fromkeys((RADDLE, FUTURES, FORK, FORKSERVER), NESTED), NESTED_SUM),
        "ms a program",
        Target(1, further=[Target(1, peers=[FORKSERVER])]),
        "All four inner workers compute on two cores; interpreter, pools and their ends are in it. "
        "concurrent.futures forks the program here, as raddle, fork does; a forkserver is its "
        "default from Python 3.14. What raddle loses against a fork of the whole program is the "
        "interpreter of its template, and the imports of the pool in each worker.",
    ),
]
