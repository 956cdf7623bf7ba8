"""The base of raddle's own exceptions, apart from those that load `concurrent.futures`."""

from __future__ import annotations


class RaddleError(Exception):
    """The base of what only raddle raises; each such class has the fitting standard parent too.

    Examples
    --------
    >>> from raddle import TaskTimeout
    >>> issubclass(TaskTimeout, RaddleError) and issubclass(TaskTimeout, OSError)
    True
    """
