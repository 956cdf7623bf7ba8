"""In a worker: whether the function of a map does there what it does in the program.

Two things may differ that its code does not tell: what it reads may have been changed in the
program since its module was imported, and it may change something that only the program has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ._effects import effects_of
from ._fingerprint import change, plain_values, surroundings


class Watcher:
    """Looks at what a function reaches, when its map begins and after its chunks.

    Parameters
    ----------
    function : callable
        What the map calls.
    expected : mapping of str to str
        What the function reaches in the program, by `plain_values`.
    """

    def __init__(self, function: Callable[..., Any], expected: Mapping[str, str]) -> None:
        self._reached = effects_of(function).reached
        here = plain_values(self._reached)
        #: Why the function is not to be called here, if there is a reason.
        self.difference: str | None = None
        for label, value in here.items():
            if expected.get(label, value) != value:
                self.difference = f"its {label} is not the same in a process"
        self._before = surroundings(self._reached)

    def look(self) -> str | None:
        """Return what has changed; None if nothing has.

        After a change nothing is to be called here: chunks of earlier items may come after it.
        """
        changed = change(self._before, surroundings(self._reached))
        if changed is not None:
            self.difference = f"it was seen to change its {changed} in a process"
        return self.difference
