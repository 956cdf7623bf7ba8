"""`Lock`, `RLock` and `Counter`: the engine's."""

from __future__ import annotations

# Binds the names that the native half needs.
from . import _futures as _futures
from ._native import Counter, Lock, RLock

__all__ = ["Counter", "Lock", "RLock"]
