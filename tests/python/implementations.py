"""The implementations that the contract is held against.

Stage: before any test.  The standard library is the reference: a contract test that does not
pass on it is wrong.  A third implementation, a view made by ``options``, has to keep the part
of the contract that any executor keeps.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest

REFERENCE = "concurrent.futures"
MODULES = {"standard": REFERENCE, "raddle": "raddle"}
EXECUTORS = ("standard", "raddle", "raddle-view")


def load(name: str) -> ModuleType:
    """Import the library called *name* in ``MODULES``; its absence fails the test."""
    return importlib.import_module(MODULES[name])


def make_pool(name: str, *args: Any, **kwargs: Any) -> Any:
    """Make an executor of the kind *name* in ``EXECUTORS``."""
    library, _, view = name.partition("-")
    executor = load(library).ThreadPoolExecutor(*args, **kwargs)
    return executor.options(label="contract") if view else executor


def need_release(library: ModuleType, release: tuple[int, int], feature: str) -> None:
    """Skip when *library* is the standard one and older than *release*, which brought *feature*."""
    if library.__name__ == REFERENCE and sys.version_info < release:
        version = ".".join(map(str, release))
        pytest.skip(f"the standard library has {feature} from Python {version}")
