"""What a program tells its workers to begin with and when it changes (submit -> queue -> WORKER).

Levels of loggers, whether the program handles records, and filters of warnings. What a worker has
set itself stays: only what has changed between two announcements is applied. The program's end is
`_announce.py`.
"""

from __future__ import annotations

import marshal
import sys

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    #: Level of the root, what is disabled altogether, and levels of loggers that have one.
    Levels = tuple[int, int, dict[str, tuple[int, bool]]]
    #: Action, message, category by its module and name, module, and line number.
    Filter = tuple[str, Any, tuple[str, str], Any, int]

#: What a program is as if it has set nothing.
USUAL_LEVELS: Levels = (30, 0, {})

#: Whether the program's root logger has handlers: then ``basicConfig`` does nothing there.
program_handles = False

#: The levels that the program has told, and those in force here.
_told_levels: Levels | None = None
_levels: Levels = USUAL_LEVELS

#: The filters that the program has told, and those in force here that came from it.
_told_filters: list[Filter] | None = None
_filters: list[Any] | None = None
#: Modules of categories that are not loaded yet.
_awaited: set[str] = set()


def take(announcement: bytes) -> None:
    """Take what the program says, for now and for when `logging` is loaded."""
    global program_handles, _told_levels, _told_filters
    _told_levels, program_handles, filters = marshal.loads(announcement)
    logging = sys.modules.get("logging")
    if hasattr(logging, "Logger"):
        set_levels(logging)  # type: ignore[arg-type]
    if filters is not None and filters != _told_filters:
        _told_filters = filters
        for _, _, (module, _), _, _ in filters:
            if module not in sys.modules:
                _await(module)
        _set_filters()


def begin_with_levels(levels: Levels) -> None:
    """Note the levels that a fork of the program has inherited."""
    global _levels
    _levels = levels


def set_levels(logging: ModuleType) -> None:
    """Set the levels that have changed in the program."""
    global _levels
    if _told_levels is None:
        return
    root, disabled, loggers = _told_levels
    root_before, disabled_before, loggers_before = _levels
    _levels = _told_levels
    for name in {**loggers_before, **loggers}:
        level, is_disabled = loggers.get(name, (0, False))
        if loggers_before.get(name, (0, False)) != (level, is_disabled):
            logger = logging.getLogger(name)
            logger.disabled = is_disabled
            logger.setLevel(level)
    if root != root_before:
        logging.root.setLevel(root)
    if disabled != disabled_before:
        logging.disable(disabled)


def begin_with_filters(warnings: Any) -> None:
    """Note the filters that are not the worker's own, of the start or of a fork.

    The module may be loaded after the program has told of its own.
    """
    global _filters
    _filters = list(warnings.filters)
    _set_filters()


def _set_filters() -> None:
    """Put the program's filters in the place of those that it had before."""
    global _filters
    warnings: Any = sys.modules.get("warnings")
    if _told_filters is None or _filters is None or not hasattr(warnings, "filters"):
        return
    told = [each for each in map(_unpacked, _told_filters) if each is not None]
    own = [each for each in warnings.filters if each not in _filters]
    _filters = told
    warnings.filters[:] = own + told
    # What was shown once is looked at again.
    warnings._filters_mutated()


def _unpacked(packed: Filter) -> tuple[Any, ...] | None:
    """Make a filter again; None if its category is not here yet."""
    action, message, (module, name), of_module, line = packed
    category: Any = sys.modules.get(module)
    for part in name.split("."):
        category = getattr(category, part, None)
    if not isinstance(category, type):
        return None
    return action, _matcher(message), category, _matcher(of_module), line


def _await(module: str) -> None:
    if module in _awaited:
        return
    _awaited.add(module)
    from ._imports import after_import

    after_import(module, lambda _: _set_filters())


def _matcher(packed: Any) -> Any:
    return Pattern(*packed) if isinstance(packed, tuple) else packed


class Pattern:
    """A regular expression that is compiled when a warning is compared with it."""

    __slots__ = ("_compiled", "_key")

    def __init__(self, pattern: str, flags: int) -> None:
        self._key = (pattern, flags)
        self._compiled: Any = None

    def __eq__(self, other: object) -> bool:
        of_other = (getattr(other, "pattern", None), getattr(other, "flags", None))
        return self._key == of_other

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<pattern {self.pattern!r}>"

    @property
    def pattern(self) -> str:
        """The regular expression."""
        return self._key[0]

    @property
    def flags(self) -> int:
        """Its flags, as of a compiled one."""
        return self._key[1]

    def match(self, text: str) -> Any:
        """Match it with the beginning of a text."""
        if self._compiled is None:
            from re import compile

            self._compiled = compile(*self._key)
        return self._compiled.match(text)
