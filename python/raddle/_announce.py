"""What a program tells its workers beside their tasks (SUBMIT -> queue -> worker).

Levels of loggers, whether the program handles records, and filters of warnings: described when a
pool is used first, and again before the next task when something of it has changed. A program that
has set nothing announces nothing. The worker's end is `_announced.py`.
"""

from __future__ import annotations

import sys

from . import _native

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from ._announced import Filter, Levels

#: What an interpreter without options begins with; the first two were made for `__main__` alone.
_USUAL_FILTERS = [
    ("default", None, DeprecationWarning, "__main__", 0),
    ("ignore", None, DeprecationWarning, None, 0),
    ("ignore", None, PendingDeprecationWarning, None, 0),
    ("ignore", None, ImportWarning, None, 0),
    ("ignore", None, ResourceWarning, None, 0),
]

_has_announced = False
_awaits_logging = False


def describe() -> bytes | None:
    """Describe this program for its workers; None: it is as they take it to be.

    From the first call on, changes are noted.
    """
    global _has_announced
    levels, has_handlers = _describe_logging()
    filters = _describe_filters()
    is_usual = levels in (None, (30, 0, {})) and not has_handlers and filters is None
    if is_usual and not _has_announced:
        return None
    _has_announced = True
    from marshal import dumps

    return dumps((levels, has_handlers, filters))


def _describe_logging() -> tuple[Levels | None, bool]:
    global _awaits_logging
    logging: Any = sys.modules.get("logging")
    if not hasattr(logging, "Logger"):
        if not _awaits_logging:
            from ._imports import after_import

            _awaits_logging = True
            after_import("logging", lambda _: _native.note_levels())
        return None, False
    _watch(logging.Logger.manager, "_clear_cache")
    # In a worker they are those of its own program.
    announced = sys.modules.get("raddle._announced")
    is_handled = getattr(announced, "program_handles", False) or logging.root.handlers
    return levels_of(logging), bool(is_handled)


def levels_of(logging: ModuleType) -> Levels:
    """Return the levels that are set in this process."""
    manager = logging.Logger.manager
    loggers = {
        name: (logger.level, bool(logger.disabled))
        for name, logger in list(manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and (logger.level or logger.disabled)
    }
    return logging.root.level, int(manager.disable), loggers


def _describe_filters() -> list[Filter] | None:
    """Describe the filters of warnings; None: they are those of an interpreter without options."""
    warnings: Any = sys.modules.get("warnings")
    if not hasattr(warnings, "filters") or not hasattr(warnings, "_filters_mutated"):
        return None
    _watch(warnings, "_filters_mutated")
    filters = list(warnings.filters)
    if filters == _USUAL_FILTERS and not _has_announced:
        return None
    return [packed for packed in map(_packed, filters) if packed is not None]


def _packed(filter: tuple[Any, ...]) -> Filter | None:
    """Make a filter plain; None if it is of a kind that nobody knows."""
    try:
        action, message, category, module, line = filter
        name = (category.__module__, category.__qualname__)
        return action, _plain(message), name, _plain(module), int(line)
    except (AttributeError, TypeError, ValueError):
        return None


def _plain(matcher: Any) -> Any:
    if matcher is None or type(matcher) is str:
        return matcher
    return str(matcher.pattern), int(matcher.flags)


def _watch(owner: Any, name: str) -> None:
    """Have changes noted: each calls this function of the module's or manager's own."""
    before = getattr(owner, name)
    if getattr(before, "notes", False):
        return

    def change_and_note() -> None:
        before()
        _native.note_levels()

    change_and_note.notes = True  # type: ignore[attr-defined]
    setattr(owner, name, change_and_note)
