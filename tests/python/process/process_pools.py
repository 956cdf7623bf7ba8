"""The pools of processes that the contract is held against.

Stage: before any test.  The standard library's pool, forked, is the reference: a contract test
that does not pass on it is wrong, unless it says that the reference is known to hang or to break
there.  Of raddle's there is the default, one whose workers are forked as the standard library
forks them, and one that breaks as the standard library's does.
"""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable
from typing import Any

REFERENCE = "standard"
OURS = ("raddle", "raddle-fork", "raddle-break")
POOLS = (REFERENCE, "raddle", "raddle-fork")
#: Those in which the death of a worker costs no more than the task that it ran.
UNBREAKABLE = ("raddle", "raddle-fork")


def make_process_pool(kind: str, *args: Any, **kwargs: Any) -> Any:
    """Make a pool of the kind *kind* in ``POOLS``."""
    library, _, variant = kind.partition("-")
    module = importlib.import_module("concurrent.futures" if library == REFERENCE else library)
    if variant == "break":
        kwargs.setdefault("on_crash", "break")
    if kind in (REFERENCE, "raddle-fork"):
        kwargs.setdefault("mp_context", multiprocessing.get_context("fork"))
    return module.ProcessPoolExecutor(*args, **kwargs)


MakePool = Callable[..., Any]
