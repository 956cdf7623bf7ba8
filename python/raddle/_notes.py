"""What workers tell besides results, heard in the program (worker -> transport -> result).

Log records go to the program's loggers as if it had logged itself, warnings are issued again under
its filters. `_worker_notes.py` tells them, in the order in which they were made; all of this runs
on the thread that supervises the pool.
"""

from __future__ import annotations

import marshal
import sys

from ._setup import process_name

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger, LogRecord
    from typing import Any

    #: Number of the worker, its pid, the label of the task, and what is told.
    Told = tuple[int, int | None, str | None, bytes]

#: What was shown already, by files, as in a module's ``__warningregistry__``.
_registries: dict[str, dict[Any, Any]] = {}


def hear(notes: list[Told]) -> None:
    """Pass on what workers have told."""
    for worker, _, label, note in notes:
        try:
            kind, *details = marshal.loads(note)
            if kind == 0:
                _handle(worker, label, *details)
            else:
                _warn(*details)
        except BaseException:
            # Of a handler of the user's; the others go on.
            _say_what_failed()


def _say_what_failed() -> None:
    """Show the error of a handler: there is nobody to raise it to, not even a wish to exit."""
    try:
        sys.excepthook(*sys.exc_info())
    except BaseException:
        pass  # A hook of the user's, which has failed too.


def _handle(
    worker: int,
    label: str | None,
    start: str,
    packed: dict[str, Any] | tuple[Any, ...],
    exception: bytes | None,
    more: dict[str, bytes] | None,
) -> None:
    """Have a record handled by the loggers from `start` on."""
    import logging

    fields = packed if isinstance(packed, dict) else dict(zip(_usual_names(), packed))
    if fields["processName"] == "MainProcess":
        fields["processName"] = process_name(worker)
    fields.setdefault("worker", worker)
    fields.setdefault("task", label)
    if exception is not None:
        value = _loaded(exception)
        if isinstance(value, BaseException):
            fields["exc_info"] = (type(value), value, None)
    for name, pickle in (more or {}).items():
        fields[name] = _loaded(pickle)
    if fields["levelname"].startswith("Level "):
        # Of a name that only the program has given.
        fields["levelname"] = logging.getLevelName(fields["levelno"])
    record = _make_record(fields)
    name = fields["name"]
    logger = logging.root if name == "root" else logging.getLogger(name)
    if start == name:
        logger.handle(record)
    elif not logger.disabled and logger.filter(record):
        _logger(start).callHandlers(record)


_names: tuple[str, ...] = ()


def _usual_names() -> tuple[str, ...]:
    """Return the names of a record's attributes, in their order."""
    global _names
    if not _names:
        from logging import LogRecord

        _names = tuple(LogRecord("", 0, "", 0, "", None, None).__dict__)
    return _names


def _logger(name: str) -> Logger:
    from logging import getLogger, root

    return root if name == "root" else getLogger(name)


def _make_record(fields: dict[str, Any]) -> LogRecord:
    import logging

    if logging.getLogRecordFactory() is not logging.LogRecord:
        return logging.makeLogRecord(fields)
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__.update(fields)
    return record


def _loaded(pickle: bytes) -> Any:
    from pickle import loads

    try:
        return loads(pickle)
    except Exception as error:
        return f"<not rebuilt in the program: {type(error).__name__}: {error}>"


def _warn(
    pickle: bytes | None,
    category_name: str,
    text: str,
    filename: str,
    lineno: int,
    line: str | None,
    module: str | None,
) -> None:
    """Issue a warning again, under the filters of the program."""
    import warnings

    told = None if pickle is None else _loaded(pickle)
    if isinstance(told, tuple):
        message, category = told
    else:
        message, category = f"{category_name}: {text}", UserWarning
    registry = _registries.setdefault(filename, {})
    try:
        warnings.warn_explicit(
            message, category, filename, lineno, module or _module_of(filename), registry
        )
    except Warning:
        # An error by the program's filters, which were not the worker's: there is nobody to raise
        # it to.
        warnings.showwarning(message, category, filename, lineno, line=line)


def _module_of(filename: str) -> str:
    """Return by what module filters know a file that the worker has not imported."""
    main = sys.modules.get("__main__")
    if filename == getattr(main, "__file__", None):
        return "__main__"
    return filename[:-3] if filename.endswith(".py") else filename


def log_fault(name: str, pid: int, code: int, stack: str) -> None:
    """Log where a worker was when the system ended it for a fault."""
    import logging

    logger = logging.getLogger("raddle")
    # The error of the task says it anyway: a program that has configured nothing is spared it.
    if not (logger.hasHandlers() and logger.isEnabledFor(logging.ERROR)):
        return
    end = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    message = "worker %s (pid %d) %s; where it was:\n%s"
    args = (name, pid, end, stack.rstrip())
    record = logger.makeRecord("raddle", logging.ERROR, __file__, 0, message, args, None)
    record.processName, record.process = name, pid
    logger.handle(record)
