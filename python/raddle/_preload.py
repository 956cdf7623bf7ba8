"""A template that has loaded libraries (start of a worker): its workers have them from the start.

Only libraries that nobody edits, from where the program has them. They are loaded without threads,
or no fork of this process would be whole: a worker gives them its share. If anything is not as it
has to be, this process is of no use, and the template without libraries serves.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import marshal
import os
import sys

from ._budget import THREAD_VARIABLES

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    #: Libraries in the order in which they are loaded, each with its file in the program.
    Wanted = list[tuple[str, str | None]]

#: With these no library that is loaded starts a thread.
_ALONE = {
    **dict.fromkeys(THREAD_VARIABLES, "1"),
    # The allocator in pyarrow; of a fork it has no such thread either.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

#: What the OpenBLAS of numpy reads, in this order, when it is loaded.
_OPENBLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
#: What its builds call the function that sets the number of threads.
_OPENBLAS_SETTERS = tuple(
    f"{before}openblas_set_num_threads{after}"
    for before in ("", "scipy_")
    for after in ("", "64_", "_64")
)
#: Libraries whose number of threads is settled when they are loaded.
_SETTLED = ("libgomp", "libomp", "libiomp", "mkl_", "libblis", "tbb")

#: A little less than the largest block after whose end glibc keeps as much memory for the next.
_KEPT_BYTES = 31 << 20

#: How each OpenBLAS that is loaded is told how many threads to use.
_setters: list[Callable[[int], object]] = []


def describe_libraries(wanted: Wanted, seconds: float) -> bytes:
    """Describe, in the program, what is to be loaded, how, and how long it may take."""
    return marshal.dumps((wanted, dict(os.environ), seconds))


def load(description: bytes) -> str | None:
    """Load libraries; None, or why this process is not to be forked."""
    wanted, environ, seconds = marshal.loads(description)
    os.environ.clear()
    os.environ.update({**environ, **_ALONE})
    # Nobody is left who would end this process, should it hang and the program be gone.
    before = _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    _signal.setitimer(_signal.ITIMER_REAL, seconds)
    try:
        return _load(wanted)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, before)


def _load(wanted: Wanted) -> str | None:
    before = set(sys.modules)
    for name, file in wanted:
        found = getattr(__import__(name), "__file__", None)
        if found is None or found != file:
            return f"{name} is loaded from {file} in the program, and here from {found}"
    _keep_freed_memory()
    folders = [os.path.dirname(os.path.dirname(file)) for _, file in wanted if file]
    return _find_stranger(before, folders) or _find_thread() or _take_setters()


def _keep_freed_memory() -> None:
    """Have workers take memory for arrays from what they have freed, as the program does by now.

    A process that has never freed a large block gives each back to the system, and pays for the
    pages of the next again: of short work on columns of some 100 KB that was two thirds.
    """
    # Never touched, so that it takes no memory.
    bytes(_KEPT_BYTES)


def _find_stranger(before: set[str], folders: list[str]) -> str | None:
    """Find a module that came along and may be the user's, from none of these folders."""
    folders = [*folders, os.path.dirname(os.__file__), os.path.dirname(__file__)]
    site: Any = sys.modules.get("site")
    if site is not None:
        folders += [*site.getsitepackages(), site.getusersitepackages()]
    places = tuple(os.path.join(folder, "") for folder in folders)
    for name in sys.modules.keys() - before:
        file = getattr(sys.modules[name], "__file__", None)
        if isinstance(file, str) and not file.startswith(places):
            return f"{name} has been loaded too, from {file}"
    return None


def _find_thread() -> str | None:
    count = len(os.listdir("/proc/self/task"))
    return None if count == 1 else f"there are {count} threads after that"


def _mapped_libraries() -> Iterator[str]:
    """Give the files of shared libraries in this process."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = {line.rstrip("\n").split(maxsplit=5)[5] for line in file if "/" in line}
    return (path for path in sorted(paths) if ".so" in os.path.basename(path))


def _take_setters() -> str | None:
    """Find out how workers set their numbers of threads; why they cannot."""
    for path in _mapped_libraries():
        name = os.path.basename(path)
        if any(each in name for each in _SETTLED):
            return f"{name} settles its number of threads when it is loaded"
        if "openblas" not in name:
            continue
        from ctypes import CDLL

        library = CDLL(path)
        found = [each for each in _OPENBLAS_SETTERS if hasattr(library, each)]
        if not found:
            return f"{name} has no function that sets its number of threads"
        _setters.append(getattr(library, found[0]))
    return None


def become_worker() -> None:
    """Have the libraries be, in a worker, as if it had loaded them itself."""
    from ._worker import _differ

    _differ()
    cores = len(os.sched_getaffinity(0))
    threads = min(_first_number(_OPENBLAS_VARIABLES) or cores, cores)
    if threads > 1:
        for set_threads in _setters:
            set_threads(threads)
    numexpr: Any = sys.modules.get("numexpr")
    if numexpr is not None:
        # Which pandas loads if it is there.
        try:
            numexpr.set_num_threads(_first_number(("NUMEXPR_NUM_THREADS",)) or 1)
        except ValueError:
            pass  # More than it is allowed: it keeps to one.


def _first_number(names: Iterable[str]) -> int | None:
    """Return the first positive number that a variable begins with, as C reads it."""
    for name in names:
        text = os.environ.get(name, "").strip()
        digits = text[: len(text) - len(text.lstrip("0123456789"))]
        if digits and int(digits) > 0:
            return int(digits)
    return None
