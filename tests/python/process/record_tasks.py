"""What the tests of records submit: tasks that log, warn and print."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import warnings
from dataclasses import dataclass
from typing import Any

NAME = "raddle-test.task"


class OwnWarning(UserWarning):
    pass


@dataclass
class Point:
    x: int
    y: int


def _logger() -> Any:
    # Imported late: a test looks whether a worker has it.
    import logging

    return logging.getLogger(NAME)


def log(level: int, message: str, *args: Any) -> None:
    _logger().log(level, message, *args)


def log_arrays() -> None:
    import array

    import numpy

    number, several = numpy.float64(0.5), numpy.array([1, 2])
    extra = {"loss": number, "several": several, "raw": array.array("b", [1, 2])}
    _logger().warning("loss %.3f of %s in %s", number, several, bytearray(b"ab"), extra=extra)


def log_from_fork(messages: list[str]) -> None:
    """Log from the workers of a pool that a worker has made by a fork."""
    import logging
    import multiprocessing

    from raddle import ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for message in messages:
            pool.submit(log, logging.WARNING, message).result()


def info(message: str) -> None:
    _logger().info(message)


def warn_by_log(message: str) -> None:
    _logger().warning(message)


def log_by_module(message: str) -> None:
    import logging

    logging.info(message)


def configure_here(path: str) -> list[str]:
    """Configure as programs do at the top of a module; the handlers that there are then."""
    import logging

    logging.basicConfig(filename=path, level=logging.DEBUG)
    return [type(handler).__name__ for handler in logging.root.handlers]


def set_levels(root: int, disabled: int) -> None:
    import logging

    logging.root.setLevel(root)
    logging.disable(disabled)


def levels() -> tuple[int, int, int]:
    import logging

    return logging.root.level, logging.root.manager.disable, _logger().level


def filters() -> list[tuple[Any, ...]]:
    """The filters of warnings, in words."""

    def text(matcher: Any) -> Any:
        return getattr(matcher, "pattern", matcher)

    return [
        (action, text(message), category.__name__, text(module), line)
        for action, message, category, module, line in warnings.filters
    ]


def ignore(category: type[Warning]) -> None:
    warnings.simplefilter("ignore", category)


def is_enabled(level: int) -> bool:
    enabled: bool = _logger().isEnabledFor(level)
    return enabled


def log_extra() -> None:
    extra = {
        "user": "ada",
        "sizes": [1, 2.5, None],
        "point": Point(1, 2),
        "lock": _thread.allocate_lock(),
    }
    _logger().warning("at %r", Point(1, 2), extra=extra)


def log_exception() -> None:
    try:
        print(1 / 0)
    except ZeroDivisionError:
        _logger().exception("it failed")


def log_with(handlers: list[Any]) -> None:
    for handler in handlers:
        _logger().addHandler(handler)
    _logger().warning("with handlers")


def configure(path: str) -> None:
    import logging

    # The program has handlers: there it would do nothing without.
    logging.basicConfig(filename=path, format="%(message)s", force=True)


def log_to(name: str, path: str) -> None:
    import logging

    logger = logging.getLogger(name)
    logger.addHandler(logging.FileHandler(path))
    logging.getLogger(NAME).warning("by the library")


def log_many(count: int, end: str, level: int = 20) -> int:
    logger = _logger()
    for number in range(count):
        logger.log(level, "record %d", number)
    if end == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "leaves":
        os._exit(0)
    return os.getpid()


def log_and_count(path: str, count: int, size: int) -> None:
    """Log records of a size, and say in a file how many they are by now."""
    import mmap

    logger, text = _logger(), "x" * size
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 8) as counter:
        for number in range(count):
            counter[:8] = (number + 1).to_bytes(8, "little")
            logger.warning("record %d %s", number, text)


def log_long(count: int, size: int) -> int:
    text = "x" * size
    for number in range(count):
        _logger().warning("record %d %s", number, text)
    return count


def log_in_threads(threads: int, count: int) -> None:
    import threading

    def body() -> None:
        logger = _logger()
        for number in range(count):
            logger.info("record %d", number)

    started = [threading.Thread(target=body, name=f"logs-{n}") for n in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def log_and(gate: Any) -> None:
    _logger().warning("it runs")
    gate()


def log_in_child() -> int:
    pid = os.fork()
    if pid == 0:
        _logger().warning("of a child")
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    _logger().warning("of the parent")
    return os.waitstatus_to_exitcode(status)


def warn(message: str, category: type[Warning]) -> None:
    warnings.warn(message, category, stacklevel=1)


def evaluate(expression: str) -> Any:
    return eval(expression, {"sys": sys, "os": os})


def load(module: str) -> None:
    __import__(module)
