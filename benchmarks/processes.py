"""The cases of the process pool, each with the target that it must reach."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from benchmarks.apart import BEST_CHUNK, SUMS, Order, kept_apart
from benchmarks.load import busy_processes
from benchmarks.measure import compile_package, timed
from benchmarks.model import FUTURES, PLAIN, RADDLE, Case, Sample, Scale, Setup, Target
from benchmarks.process_contenders import JOBLIB, LOKY, MPIRE, NO_SPIN, POOL
from benchmarks.process_programs import CASES as PROGRAM_CASES
from benchmarks.process_programs import FORK, FORKSERVER, SILENT
from benchmarks.process_tasks import right_sum

WORKERS = 2
THREADS = "threads"
#: The least for a program whose workers are forked by a process that has nothing of its state.
FLOOR = "two interpreters"
PEERS = (FUTURES, POOL, LOKY, JOBLIB, MPIRE)
MAPPING = (RADDLE, *PEERS)
SUBMITTING = (RADDLE, FUTURES, POOL, LOKY, MPIRE)
COLUMNS = (*MAPPING, FORKSERVER, FORK, NO_SPIN, SILENT, THREADS, FLOOR, PLAIN)

#: The tasks of one call, so that a call takes tenths of a second in each contender.
COUNTS = {RADDLE: 100_000, FUTURES: 2_000, POOL: 8_000, LOKY: 2_000, JOBLIB: 2_000, MPIRE: 4_000}
TURNS = {RADDLE: 10_000, FUTURES: 1_000, POOL: 1_000, LOKY: 1_000, MPIRE: 1_000, NO_SPIN: 10_000}
CHUNKED = 200_000
LARGE = 100
LARGEST_SUM = 10_000_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def calls(
    method: str, contenders: Sequence[str], counts: Mapping[str, int], kind: str, busy: int = 0
) -> Setup:
    """Give samplers of `method` on items of a kind, beside `busy` processes that compute."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        with ExitStack() as stack:
            samplers = {}
            for name in contenders:
                count, seconds = scale.tasks(counts[name]), scale.figure_seconds
                order = Order(name, subject.__name__, method, kind, count, WORKERS, seconds)
                samplers[name] = stack.enter_context(kept_apart(order))
            stack.enter_context(busy_processes(busy))
            yield samplers

    return setup


def mapped(kind: str) -> Setup:
    """Give samplers of a ``map`` in which each item is a task."""
    return calls("map", MAPPING, COUNTS, kind)


def the_same(count: int) -> dict[str, int]:
    """Return the same count for every contender."""
    return dict.fromkeys(MAPPING, count)


@contextmanager
def sizes(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of raddle's ``map`` from a thousand items to a million."""
    with ExitStack() as stack:
        samplers = {}
        for size in SIZES:
            count, seconds = scale.tasks(size), scale.figure_seconds
            order = Order(RADDLE, subject.__name__, "map", "int", count, WORKERS, seconds)
            samplers[f"{size:,} items"] = stack.enter_context(kept_apart(order))
        yield samplers


# --- Whole programs --------------------------------------------------------------------------

EXECUTOR = """\
    with ProcessPoolExecutor({workers}{options}) as executor:
        return list(executor.map({function}, {items}))
"""
OPENINGS = {
    RADDLE: "from {subject} import ProcessPoolExecutor",
    FUTURES: "from concurrent.futures import ProcessPoolExecutor\n"
    "from multiprocessing import get_context",
    FORKSERVER: "from concurrent.futures import ProcessPoolExecutor\n"
    "from multiprocessing import get_context",
    THREADS: "from concurrent.futures import ThreadPoolExecutor",
    POOL: "from multiprocessing import get_context",
    LOKY: "from loky import ProcessPoolExecutor",
    JOBLIB: "from joblib import Parallel, delayed",
    MPIRE: "from mpire import WorkerPool",
    FLOOR: "import concurrent.futures\nimport os\nimport sys",
    PLAIN: "",
}
BODIES = {
    RADDLE: EXECUTOR.replace("{options}", ""),
    FUTURES: EXECUTOR.replace("{options}", ", mp_context=get_context('fork')"),
    FORKSERVER: EXECUTOR.replace("{options}", ", mp_context=get_context('forkserver')"),
    THREADS: EXECUTOR.replace("Process", "Thread").replace("{options}", ""),
    POOL: """\
    with get_context("fork").Pool({workers}) as pool:
        return pool.map({function}, {items}, chunksize=1)
""",
    LOKY: EXECUTOR.replace("{options}", ""),
    JOBLIB: """\
    return Parallel(n_jobs={workers})(delayed({function})(item) for item in {items})
""",
    MPIRE: """\
    with WorkerPool({workers}, start_method="fork") as pool:
        return pool.map({function}, {items}, chunk_size=1)
""",
    FLOOR: """\
    command = [sys.executable, "-c", ""]
    os.waitpid(os.posix_spawn(command[0], command, os.environ), 0)
    return [{function}(item) for item in {items}]
""",
    PLAIN: "    return [{function}(item) for item in {items}]\n",
}
PROGRAM = """\
{opening}

def square(number):
    return number * number

def sum_of_squares(n):
    return sum(i * i for i in range(n))

def main():
{body}
if __name__ == "__main__":
    assert main() == {expected}
"""


def program(name: str, subject: str, function: str, items: str, expected: str) -> str:
    """Return the text of a program that maps a function over items with a contender.

    Examples
    --------
    >>> namespace = {"__name__": "example"}
    >>> exec(program(PLAIN, "raddle", "square", "range(3)", "[0, 1, 4]"), namespace)
    >>> namespace["main"]()
    [0, 1, 4]
    """
    opening = OPENINGS[name].format(subject=subject)
    body = BODIES[name].format(workers=WORKERS, function=function, items=items)
    return PROGRAM.format(opening=opening, body=body, expected=expected)


def programs(contenders: Sequence[str], function: str, items: str, expected: str) -> Setup:
    """Give samplers of whole programs, each in a file of its own as a user's is."""

    @contextmanager
    def setup(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
        compile_package(subject)
        with TemporaryDirectory(prefix="raddle-benchmark-") as folder:
            samplers = {}
            for number, name in enumerate(contenders):
                file = Path(folder) / f"program_{number}.py"
                file.write_text(program(name, subject.__name__, function, items, expected))
                samplers[name] = timed(partial(run, file), lambda status: status == 0, 1, scale)
            yield samplers

    return setup


def run(file: Path) -> int:
    """Run a program to its end and return its status."""
    return subprocess.run([sys.executable, str(file)]).returncode


@contextmanager
def whole_sums(subject: ModuleType, scale: Scale) -> Iterator[Mapping[str, Sample]]:
    """Give samplers of the lecture's program: four sums of squares, everything included."""
    n = scale.tasks(LARGEST_SUM)
    contenders = (*MAPPING, THREADS, PLAIN)
    setup = programs(contenders, "sum_of_squares", f"[{n}] * 4", f"[{right_sum(n)}] * 4")
    with setup(subject, scale) as samplers:
        yield samplers


# --- The cases -------------------------------------------------------------------------------

MAPS = (
    f"{WORKERS} workers, chunks of one. Tasks in a call: "
    + ", ".join(f"{name} {count:,}" for name, count in COUNTS.items())
    + ". joblib's batch_size=1, mpire's chunk_size=1."
)
CHUNKS_FOUND = (
    f"{CHUNKED:,} items. Each contender has the chunks that suit it best, found before the first "
    "round among 100, 1,000, 10,000 and its own choice where it has one."
)
NO_SUBMIT = "joblib has no submit."
SPINNING = (
    "raddle without spinning: the same, opened while all its processes shared one core, so that "
    "nobody in it spins before going to sleep; then they have all cores."
)
STARTING = (
    "The function is the built-in abs. Interpreter, import, pool, tasks and end are in it. Plain "
    "Python: the same without a pool. Two interpreters: concurrent.futures is loaded, for its "
    "classes, and then a second interpreter is started that does nothing; a program whose workers "
    "are started by such a process cannot take less."
)
OWN_FUNCTION = "The same program with a function of its own, which raddle and loky send by value."
WHOLE_SUMS = (
    "Interpreter, import, pool and end are in it, in every contender's own way; threads are those "
    "of concurrent.futures."
)
ONLY_SUMS = "The pools are open and warm: what is left is the computing."

AT_LEAST_POOL = Target(5, peers=[POOL])
COLD_START = Target(1.6, 2.5, [FUTURES], further=[Target(3, peers=[FORKSERVER])])
STARTERS = (RADDLE, FUTURES, FORKSERVER, POOL, LOKY, JOBLIB, MPIRE, FLOOR, PLAIN)
WITHOUT_LOSS = Target(1, peers=[FUTURES], further=[Target(1 / 1.1, peers=[NO_SPIN])])
KINDS = {"dict": "dicts of 3 entries", "dataclass": "dataclasses", "text": "strings of 1 KB"}


def one_by_one(busy: int) -> Case:
    """Return the case of one task after another, beside so many busy processes."""
    beside = {0: "", 1: ", beside 1 busy process", 2: ", beside 2 busy processes"}[busy]
    return Case(
        "processes-result" + (f"-busy-{busy}" if busy else ""),
        f"submit().result() one by one{beside}",
        calls("one_by_one", (*SUBMITTING, NO_SPIN), TURNS, "int", busy),
        target=WITHOUT_LOSS if busy else Target(30, 150),
        note=f"{NO_SUBMIT} {SPINNING}",
    )


CASES = [
    Case(
        "processes-map-int",
        "map of no-ops over integers, each a task",
        mapped("int"),
        target=Target(100, 500, further=[Target(20, 100, [POOL])]),
        note=MAPS,
    ),
    *(
        Case(
            f"processes-map-{kind}",
            f"map of no-ops over {words}, each a task",
            mapped(kind),
            target=AT_LEAST_POOL,
        )
        for kind, words in KINDS.items()
    ),
    Case(
        "processes-map-large",
        "map of no-ops over bytes of 1 MB, each a task",
        calls("map", MAPPING, the_same(LARGE), "large"),
        note=f"{LARGE} tasks in a call; each goes to the worker and comes back.",
    ),
    Case(
        "processes-chunks",
        "map of no-ops over integers, in the best chunks",
        calls(BEST_CHUNK, MAPPING, the_same(CHUNKED), "int"),
        target=Target(2, peers=[POOL]),
        note=CHUNKS_FOUND,
    ),
    Case(
        "processes-wait",
        "submit no-ops and wait for all",
        calls("submit_and_wait", SUBMITTING, COUNTS, "int"),
        target=Target(50),
        note=NO_SUBMIT,
    ),
    *(one_by_one(busy) for busy in (0, 1, 2)),
    Case("processes-sizes", "map of no-ops by number of items, raddle", sizes),
    Case(
        "processes-start",
        "a whole program with a pool of 2 and 4 tasks",
        programs(STARTERS, "abs", "range(4)", "[0, 1, 2, 3]"),
        "ms a program",
        COLD_START,
        STARTING,
    ),
    Case(
        "processes-start-own",
        "the same with a function of the program",
        programs(STARTERS, "square", "range(4)", "[0, 1, 4, 9]"),
        "ms a program",
        note=OWN_FUNCTION,
    ),
    Case(
        "processes-sums",
        f"the lecture's program: sums of squares up to {LARGEST_SUM:,}, four times",
        whole_sums,
        "ms a program",
        Target(1, peers=PEERS),
        WHOLE_SUMS,
    ),
    Case(
        "processes-sums-warm",
        "the same four sums, in pools that are open",
        calls("map", MAPPING, the_same(LARGEST_SUM), SUMS),
        "ms a call",
        note=ONLY_SUMS,
    ),
    *PROGRAM_CASES,
]


def ready() -> None:
    """Raise where a peer is missing, before anything is measured."""
    from benchmarks.process_contenders import check

    check()
