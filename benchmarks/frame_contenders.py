"""The contenders of the frames suite: each opens a pool and runs a function over arguments."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

from benchmarks.model import FUTURES, RADDLE
from benchmarks.process_contenders import JOBLIB, PeersMissing

PANDARALLEL = "pandarallel"
SWIFTER = "swifter"
PEERS = (JOBLIB, PANDARALLEL, SWIFTER, "pandas", "numpy")
WORKERS = 2

Run = Callable[[Callable[[Any], Any], list[Any]], list[Any]]


def check() -> None:
    """Raise `PeersMissing` unless every peer is installed."""
    missing = []
    for name in PEERS:
        try:
            found = importlib.util.find_spec(name)
        except ImportError:
            found = None
        if found is None:
            missing.append(name)
    if missing:
        raise PeersMissing(
            f"not installed: {', '.join(missing)}; `python dev.py bench -- frames` installs them"
        )


@contextmanager
def raddle(subject: str) -> Iterator[Run]:
    """Open a pool of the module under measurement."""
    with importlib.import_module(subject).ProcessPoolExecutor(WORKERS) as executor:
        yield lambda fn, items: list(executor.map(fn, items))


@contextmanager
def standard(_subject: str) -> Iterator[Run]:
    """Open the standard library's pool."""
    with futures.ProcessPoolExecutor(WORKERS) as executor:
        yield lambda fn, items: list(executor.map(fn, items))


@contextmanager
def joblib(_subject: str) -> Iterator[Run]:
    """Open joblib's processes, which map large arrays from files."""
    library = importlib.import_module("joblib")
    with library.Parallel(n_jobs=WORKERS) as parallel:
        yield lambda fn, items: list(parallel(library.delayed(fn)(item) for item in items))


OPENERS: dict[str, Callable[[str], Any]] = {RADDLE: raddle, FUTURES: standard, JOBLIB: joblib}
