"""What a worker tells its program besides results: log records and warnings (start of a worker).

Loaded in a worker when `logging` is, or when a warning is to be shown; `_notes.py` hears it. What a
handler of the worker's own takes is not told again.
"""

from __future__ import annotations

import marshal
import sys

from . import _announced, _native

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger, LogRecord
    from types import ModuleType
    from typing import Any

#: What every record has; the rest is of whoever logs.
STANDARD = frozenset(
    "name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno "
    "funcName created msecs relativeCreated thread threadName processName process taskName".split()
)

#: What `marshal` writes as it is. Of other types it writes those with a buffer as bare bytes.
_PLAIN = frozenset({str, int, float, bool, type(None), bytes, complex})
_GROUPS = frozenset({tuple, list, set, frozenset})
#: What is nested deeper, in itself perhaps, goes as text or pickle.
_DEEPEST = 20

#: The attributes of a record that nobody has added to.
_usual_names: tuple[str, ...] = ()
#: Handlers that the worker was forked with: the program has them too.
_inherited: set[int] = set()
_inherited_handlers: list[object] = []


def follow_logging(logging: ModuleType, *, is_forked: bool = False) -> None:
    """Have records go to the program that no handler of this process takes.

    Parameters
    ----------
    logging : module
        The module, loaded just now.
    is_forked : bool
        Whether it was loaded in the program, and this process is a fork of that.
    """
    if is_forked:
        manager = logging.Logger.manager
        loggers = [manager.root, *manager.loggerDict.values()]
        handlers = [each for logger in loggers for each in getattr(logger, "handlers", ())]
        _inherited.update(map(id, handlers))
        # They must not come to be others'.
        _inherited_handlers.extend(handlers)
        from ._announce import levels_of

        _announced.begin_with_levels(levels_of(logging))
    global _usual_names
    _usual_names = tuple(logging.LogRecord("", 0, "", 0, "", None, None).__dict__)
    _configure_on_wish_alone(logging)
    logging.Logger.callHandlers = _call_handlers
    _announced.set_levels(logging)


def _configure_on_wish_alone(logging: ModuleType) -> None:
    """Have ``basicConfig`` make no handlers where the program's take the records.

    ``logging.info()`` and the like make one where there is none; and at the top of a module it
    would configure each worker, though it does nothing in a program that has been configured.
    """
    configure = logging.basicConfig

    def basicConfig(**kwargs: Any) -> None:
        if kwargs and (kwargs.get("force") or not _announced.program_handles):
            configure(**kwargs)

    basicConfig.__doc__ = configure.__doc__
    logging.basicConfig = basicConfig  # type: ignore[attr-defined,unused-ignore]


def _call_handlers(self: Logger, record: LogRecord) -> None:
    """Do what `logging.Logger.callHandlers` does, and tell the program what is left to do."""
    start: Logger | None = self
    current: Logger | None = self
    while current is not None:
        if current.handlers and _is_handled(current, record):
            start = current.parent if current.propagate else None
        if not current.propagate:
            break
        current = current.parent
    if start is not None:
        _tell_record(record, start.name)


def _is_handled(logger: Logger, record: LogRecord) -> bool:
    """Give the record to the handlers of one logger; tell whether there are any that count."""
    has_taken = False
    for handler in logger.handlers:
        if id(handler) in _inherited:
            continue
        if type(handler).__name__ != "NullHandler":
            has_taken = True
        if record.levelno >= handler.level:
            handler.handle(record)
    return has_taken


def _tell_record(record: LogRecord, start: str) -> None:
    fields: Any = record.__dict__
    exception = None
    if record.exc_info:
        fields = fields.copy()
        exception = _pack_exception(fields)
    try:
        # Most have what each has, in the same order: then the values alone say it.
        is_usual = tuple(fields) == _usual_names
        packed = tuple(fields.values()) if is_usual else fields
        if not (_is_plain(record.msg) and _is_plain(record.args)):
            raise ValueError
        if not is_usual and not all(map(_is_plain, fields.values())):
            raise ValueError
        note = marshal.dumps((0, start, packed, exception, None))
    except (ValueError, RuntimeError):
        # Or another thread changes it just now.
        fields, more = _plain_fields(record, fields)
        note = marshal.dumps((0, str(start), fields, exception, more))
    if not _native.tell(note):
        _show(record)


def _is_plain(value: object, depth: int = 0) -> bool:
    """Tell whether `marshal` gives this value back as it is."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth > _DEEPEST:
        return False
    if kind in _GROUPS:
        return all(_is_plain(each, depth + 1) for each in value)  # type: ignore[attr-defined]
    if kind is dict:
        items: Any = value
        return all(
            _is_plain(each, depth + 1) and _is_plain(items[each], depth + 1) for each in items
        )
    return False


def _show(record: LogRecord) -> None:
    """Show what cannot be told, in a child that a task has forked, as an unconfigured program."""
    last_resort = sys.modules["logging"].lastResort
    if last_resort is not None and record.levelno >= last_resort.level:
        last_resort.handle(record)


def _pack_exception(fields: dict[str, Any]) -> bytes | None:
    """Put the traceback into words, and pickle the exception, which has no traceback then."""
    kind, value, traceback = fields["exc_info"]
    if not fields["exc_text"] and kind is not None:
        formatter = sys.modules["logging"].Formatter()
        fields["exc_text"] = formatter.formatException((kind, value, traceback))
    fields["exc_info"] = None
    return _pickled(value)


def _pickled(value: object) -> bytes | None:
    from ._native import pickle

    try:
        return pickle(value)
    except Exception:
        return None


def _plain_fields(
    record: LogRecord, fields: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Put into words, or pickle, what is not made of plain values."""
    plain: dict[str, Any] = {}
    more: dict[str, bytes] = {}
    for name, value in fields.items():
        if name in ("msg", "args"):
            continue
        if name in STANDARD:
            plain[name] = _standard(value)
            continue
        # Whole, so that nobody changes it meanwhile, if it can be; plain values are the same then.
        pickle = _pickled(value)
        if pickle is None:
            plain[str(name)] = _text_of(value)
        else:
            more[str(name)] = pickle
    plain["msg"], plain["args"] = _message_of(record)
    return plain, more


def _standard(value: object) -> object:
    """Make the value of a standard attribute plain: of a level that is an enumeration, say."""
    if _is_plain(value):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    return _text_of(value)


def _message_of(record: LogRecord) -> tuple[str, tuple[object, ...] | None]:
    """Format now what could be formatted only here."""
    try:
        return str(record.getMessage()), None
    except Exception:
        # The program's handlers say what is wrong with it.
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        return _text_of(record.msg, str), tuple(map(_text_of, args))


def _text_of(value: object, how: Any = repr) -> str:
    try:
        return str(how(value))
    except Exception:
        return object.__repr__(value)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Have the program warn, with its own filters; in the place of `warnings.showwarning`."""
    if file is None:
        text = str(message)
        exception = _pickled((message, category))
        place = (str(filename), int(lineno), line if line is None else str(line))
        note = (1, exception, category.__name__, text, *place, _module_of(filename))
        if _native.tell(marshal.dumps(note)):
            return
    import warnings

    original = warnings._showwarning_orig  # type: ignore[attr-defined]
    original(message, category, filename, lineno, file, line)


def _module_of(filename: str) -> str | None:
    """Return the name of the module of a file, by which filters know it."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == filename:
            return name
    return None
