"""One budget of cores: how many of the program's each worker of a pool may use (start of a worker).

A worker's share is the program's cores divided by its workers. Libraries that compute with threads
of their own (BLAS, OpenMP) are held to it by the variables that they read when they are loaded, and
by `threadpoolctl` if they are loaded already. In a worker `RADDLE_CORES` is its share, which
`raddle.cpu_count` heeds: so a pool that is made in a worker divides that.
"""

from __future__ import annotations

import os
import sys

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["OversubscriptionWarning"]

#: The share of a worker, in the environment of the worker and of what it starts.
SHARE = "RADDLE_CORES"

#: What libraries with threads of their own read when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)

#: Libraries that bring such threads.
_LIBRARIES = ("numpy", "scipy", "sklearn", "torch", "faiss", "numexpr")


class OversubscriptionWarning(RuntimeWarning):
    """More threads may want to compute at a time than there are cores.

    Warned of when a pool is made in a worker of another with more workers than that has cores, and
    when variables such as ``OMP_NUM_THREADS`` give each worker more threads than its share.

    Examples
    --------
    >>> import warnings
    >>> from raddle import OversubscriptionWarning
    >>> warnings.simplefilter("ignore", OversubscriptionWarning)
    """


class Budget:
    """The cores of the workers of one pool."""

    __slots__ = ("cores", "is_pinned", "share", "workers")

    def __init__(self, workers: int, cores: int, *, is_pinned: bool) -> None:
        self.workers = workers
        self.cores = cores
        self.share = max(1, cores // workers)
        self.is_pinned = is_pinned

    def limit(self, environ: dict[str, str]) -> None:
        """Write the share into the environment of a worker; what the user has set stays."""
        share, before = str(self.share), environ.get(SHARE)
        for name in THREAD_VARIABLES:
            if environ.get(name, before) == before:
                environ[name] = share
        environ[SHARE] = share

    def is_told(self, environ: dict[str, str]) -> bool:
        """Tell whether the user has said how many threads there are to be."""
        before = environ.get(SHARE)
        return any(environ.get(name, before) != before for name in THREAD_VARIABLES)

    def cores_of(self, seat: int, cores: list[int]) -> list[int]:
        """Return the cores, of these, on which the worker of a seat may run."""
        if not self.is_pinned:
            return cores
        first = seat * self.share
        return sorted({cores[(first + k) % len(cores)] for k in range(min(self.share, len(cores)))})

    def threads(self) -> tuple[int, str]:
        """Return how many threads a worker's libraries may start, and the variable that says so."""
        before = os.environ.get(SHARE)
        for name in THREAD_VARIABLES:
            told = os.environ.get(name)
            if told is not None and told != before and told.isdecimal() and int(told) > self.share:
                return int(told), name
        return self.share, ""

    def demand(self) -> float:
        """Return for how many threads each core has to do."""
        return self.workers * self.threads()[0] / self.cores

    def warn_of_excess(self) -> None:
        """Warn if a nested pool, or variables of the user's, ask for more than there is."""
        threads, name = self.threads()
        is_nested = SHARE in os.environ and self.workers > self.cores
        if not is_nested and (not name or self.workers * threads <= self.cores):
            return
        from warnings import warn

        have = "1 core" if self.cores == 1 else f"{self.cores} cores"
        if is_nested:
            text = (
                f"a pool of {self.workers} workers is made in a worker process whose share is "
                f"{have}: leave max_workers out, and the pool has as many as that"
            )
        else:
            text = (
                f"{name}={threads} lets each of {self.workers} workers compute with {threads} "
                f"threads on {have}: unset it, and each gets its share of {self.share}"
            )
        warn(text, OversubscriptionWarning, stacklevel=3)


def limit_loaded(share: int) -> None:
    """Hold libraries to a share that were loaded before their variables were set."""
    if not any(name in sys.modules for name in _LIBRARIES):
        return
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        pass  # It comes with scikit-learn; without it they stay as they are.
    else:
        threadpool_limits(limits=share)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(share)
