"""Checks of the limits of a pool of processes; loaded when one is given."""

from __future__ import annotations

import re

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNITS = {"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)


def check_memory_limit(value: Any) -> int:
    """Return a limit of memory in bytes.

    >>> check_memory_limit("2 GB") == 2 * 1024**3, check_memory_limit(5)
    (True, 5)
    """
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ValueError(f'memory_limit must be bytes, or a text such as "2 GB", not {value!r}')
        limit = int(float(match[1]) * (1 << _UNITS[match[2].upper()]))
    elif isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f'memory_limit must be bytes, or a text such as "2 GB", not {value!r}')
    else:
        limit = value.__index__()
    if not 0 < limit < 1 << 63:
        raise ValueError(f"memory_limit must be greater than 0 bytes, not {value!r}")
    return limit
