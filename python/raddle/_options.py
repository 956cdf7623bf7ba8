"""Checks of arguments, at the call where they are given."""

from __future__ import annotations

import math
import operator
from collections import namedtuple

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

#: The default of an option that stays as it is.
UNSET: Any = type("Unset", (), {"__repr__": lambda self: "unchanged"})()


if TYPE_CHECKING:

    class Policy(NamedTuple):
        """How tasks are run; the order is the one in which the native half takes it."""

        task_timeout: float | None = None
        retries: int = 0
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception
        label: str | None = None

else:
    Policy = namedtuple(
        "Policy", "task_timeout retries retry_on label", defaults=(None, 0, Exception, None)
    )


def make_policy(base: Policy, task_timeout: Any, retries: Any, retry_on: Any, label: Any) -> Policy:
    """Change `base` by the given options, checked."""
    given: dict[str, Any] = {
        "task_timeout": task_timeout if task_timeout is UNSET else _check_timeout(task_timeout),
        "retries": retries if retries is UNSET else _check_retries(retries),
        "retry_on": retry_on if retry_on is UNSET else _check_retry_on(retry_on),
        "label": label if label is UNSET else _check_label(label),
    }
    return base._replace(**{name: value for name, value in given.items() if value is not UNSET})


def _check_timeout(value: Any) -> float | None:
    return None if value is None else check_seconds("task_timeout", value)


def check_seconds(name: str, value: Any) -> float:
    """Return a time in seconds that was given under this name.

    >>> check_seconds("idle_timeout", 30)
    30.0
    """
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    seconds = float(value)
    if math.isnan(seconds) or seconds <= 0:
        raise ValueError(f"{name} must be greater than 0 seconds, not {value!r}")
    return seconds


def _check_retries(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"retries must be an int, not {value!r}")
    retries = operator.index(value)
    if retries < 0:
        raise ValueError(f"retries must be 0 or greater, not {value!r}")
    # The engine counts attempts in 32 bits and needs one value for itself.
    return min(retries, 2**32 - 2)


def _check_retry_on(value: Any) -> type[BaseException] | tuple[type[BaseException], ...]:
    classes = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
        raise TypeError(f"retry_on must be an exception class or a tuple of them, not {value!r}")
    checked: type[BaseException] | tuple[type[BaseException], ...] = value
    return checked


def _check_label(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"label must be a str or None, not {value!r}")
    return value


def check_max_workers(value: Any) -> int:
    """Check the number of workers."""
    if not hasattr(type(value), "__index__"):
        raise TypeError(f"max_workers must be an int or None, not {value!r}")
    workers = operator.index(value)
    if workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    return workers


def check_inherit_context(value: Any) -> bool:
    """Tell whether tasks run in the context of their submitter; False is as None."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"inherit_context must be True, False or None, not {value!r}")
    return value is True


def check_initializer(value: object) -> None:
    """Check that an initializer, if there is one, can be called."""
    if value is not None and not callable(value):
        raise TypeError("initializer must be a callable")


def check_map(fn: Any, buffersize: Any) -> None:
    """Check the arguments of `map` that nothing else checks before it is too late."""
    if not callable(fn):
        raise TypeError(f"map() needs a callable, not {type(fn).__name__}: {fn!r}")
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
