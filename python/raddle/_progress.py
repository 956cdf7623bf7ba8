"""How far a batch is: a bar on a terminal or in a notebook, a function, or nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Self

#: A bar on a terminal or in a notebook (None), always (True), never (False), or a function that is
#: called with the number of items that are done and of all, which is None if nobody knows.
Progress: TypeAlias = "bool | Callable[[int, Any], object] | None"

#: Seconds before a bar is shown: a batch that is over by then needs none.
_DELAY = 0.1


def report(progress: Progress, total: int | None, unit: str) -> Report | None:
    """Return what is told of the progress, or None if nobody wants to know."""
    if progress is None:
        progress = _is_watched()
    if progress is False:
        return None
    if progress is True:
        return Bar(total, unit)
    if not callable(progress):
        raise TypeError(f"progress= must be None, True, False or a function, not {progress!r}")
    return Report(progress, total)


def _is_watched() -> bool:
    """Tell whether a person looks on: at a terminal, or at a notebook."""
    if "ipykernel" in sys.modules:
        return True
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


def _size() -> tuple[int | None, int | None]:
    """Return columns and rows for the bar where the terminal does not know its own."""
    try:
        known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError, AttributeError):
        return (None, None)
    return (None, None) if known else (80, 24)


class Report(AbstractContextManager["Report"]):
    """Tells a function how far a batch is."""

    def __init__(self, function: Callable[[int, Any], object], total: int | None) -> None:
        self._function = function
        self._total = total

    def __call__(self, done: int) -> None:
        """Tell that so many items are done."""
        self._function(done, self._total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Tell nothing more."""


class Bar(Report):
    """Shows how far a batch is, with its rate and the time that is left."""

    def __init__(self, total: int | None, unit: str) -> None:
        from tqdm.auto import tqdm  # here, because it takes longer than all the rest

        columns, rows = _size()
        self._bar = tqdm(total=total, unit=unit, delay=_DELAY, ncols=columns, nrows=rows)
        super().__init__(self._show, total)

    def _show(self, done: int, total: int | None) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
