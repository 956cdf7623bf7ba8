"""`share`: one copy of an object for all tasks."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from . import _native

T = TypeVar("T")

__all__ = ["Shared", "share"]


class Shared(Generic[T]):
    """An object of which all tasks in processes have one copy: what `raddle.share` returns.

    Passed to a task, by itself or within something else, it arrives as the object.

    Examples
    --------
    >>> import raddle
    >>> table = raddle.share({"one": 1, "two": 2})
    >>> with raddle.ProcessPoolExecutor(2) as executor:
    ...     list(executor.map(dict.get, [table, table], ["one", "two"]))
    [1, 2]
    """

    def __init__(self, value: T) -> None:
        self._parts = _native.SharedParts.make(value)
        is_opened = self._parts is not None and self._parts.is_plain
        self._value: T = self._parts.open() if self._parts and is_opened else value

    @property
    def value(self) -> T:
        """The object, as tasks see it; or itself, if it is of a class of the program's own."""
        return self._value

    def __repr__(self) -> str:
        return f"<raddle.share of {type(self._value).__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        reference = None if self._parts is None else self._parts.reference()
        if reference is None:
            # To somewhere else than a task of raddle's, it goes as any object does.
            return _the_object, (self._value,)
        return _native.open_shared, (reference,)


def _the_object(value: Any) -> Any:
    return value


def share(value: T) -> Shared[T]:
    """Put one copy of an object where all tasks in processes see it.

    Large arrays in it lie in shared memory from now on: a task that is passed what this returns is
    sent a reference, and finds the object with read-only arrays.

    Parameters
    ----------
    value : object
        What can be pickled: an array, a frame, or something with such in it. What is changed in it
        after the call is not seen by tasks.

    Returns
    -------
    Shared
        To be passed to tasks in the place of the object, to pools that are made later too. Its
        memory is free when this, and the tasks that were passed it, are gone.

    Notes
    -----
    Only the buffers of arrays are the same memory for all; other objects, such as strings and
    dicts, are made anew for each task, and so is all that is in an object of a class that only the
    program itself has. What is small, or does not fit into the arena, is sent with each task. What
    is shared when the program forks keeps its memory until those children have ended.

    Examples
    --------
    >>> import numpy, raddle
    >>> weights = raddle.share(numpy.ones(100_000))
    >>> with raddle.ProcessPoolExecutor(2) as executor:
    ...     sum(executor.map(lambda w, factor: w.sum() * factor, [weights] * 3, [1, 2, 3]))
    np.float64(600000.0)
    """
    return Shared(value)
