"""`empty` and `asarray`: arrays that lie where they are sent from."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from . import (
    _native,
    _pickling,  # noqa: F401 (from then on, a fork is told to the arena)
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, SupportsIndex

__all__ = ["asarray", "empty"]


def empty(shape: SupportsIndex | Iterable[SupportsIndex], dtype: Any = float) -> Any:
    """Return a new NumPy array in shared memory, without setting its items.

    To pass it, or a part of it in one piece, to a task of a process pool copies nothing. As any
    argument it arrives as it was at `submit`: what is written to the array later, no task sees.

    Parameters
    ----------
    shape : int or tuple of int
        How many items, in each dimension.
    dtype : data-type, default float
        The type of an item. Not Python objects: they are of one process.

    Returns
    -------
    numpy.ndarray
        In C order. It is an ordinary array without shared memory if it has less than 64 KB, or if
        there is no room for it: tasks get the same then, by a copy.

    Raises
    ------
    TypeError
        The items are, or have in them, Python objects; or a size is no integer.
    ValueError
        A size is negative.
    MemoryError
        There is no memory for it, of either kind; it tells how much there would have to be.
    ImportError
        NumPy is not installed.

    See Also
    --------
    asarray : The same of values that are there already.
    share : One copy of any object, read-only in tasks.

    Notes
    -----
    The memory is taken at once, and is free again when the array, all views of it, and the tasks
    that were passed it, are gone. After the first task that was passed a part, the array is
    copy-on-write: to write to it costs a copy of each page (4 KB) that is touched, and what was
    touched is copied when it is sent again. So fill it, send it as often as needed, and make a new
    one for new values. A fork of the program has the same effect as a task.

    Examples
    --------
    >>> import numpy, raddle
    >>> values = raddle.empty(1_000_000)
    >>> values[:] = 2.0
    >>> with raddle.ProcessPoolExecutor(2) as executor:
    ...     sums = executor.map(numpy.sum, [values[:400_000], values[400_000:]])
    ...     values[:] = 0.0
    ...     [float(part) for part in sums]
    [800000.0, 1200000.0]
    """
    return _empty("empty", shape, dtype, "C")


def asarray(a: Any, dtype: Any = None) -> Any:
    """Return a NumPy array in shared memory with the values of `a`.

    It copies them, unless `a` is an array that lies there already. To pass the result to tasks of
    a process pool copies nothing, as of `empty`.

    Parameters
    ----------
    a : array_like
        An array, or what `numpy.asarray` makes one of.
    dtype : data-type, optional
        The type of an item; without it, that of `a`.

    Returns
    -------
    numpy.ndarray
        `a` itself, if it lies in shared memory and has that type; else a new array, in Fortran
        order if `a` is, else in C order.

    Raises
    ------
    TypeError
        The items are, or have in them, Python objects.
    MemoryError
        There is no memory for the copy, as in `empty`.
    ImportError
        NumPy is not installed.

    See Also
    --------
    empty : A new array, whose notes hold for this one.

    Examples
    --------
    >>> import numpy, raddle
    >>> values = raddle.asarray(numpy.arange(100_000))
    >>> raddle.asarray(values) is values
    True
    >>> with raddle.ProcessPoolExecutor(2) as executor:
    ...     [int(total) for total in executor.map(numpy.sum, [values, values[:10]])]
    [4999950000, 45]
    """
    import numpy

    values = numpy.asarray(a, dtype)
    if values.nbytes and not values.dtype.hasobject and _native.lies_in_arena(values):
        return values
    is_fortran = values.flags.f_contiguous and not values.flags.c_contiguous
    copy = _empty("asarray", values.shape, values.dtype, "F" if is_fortran else "C")
    copy[...] = values
    return copy


def _empty(asked: str, shape: Any, dtype: Any, order: Literal["C", "F"]) -> Any:
    import numpy

    sizes = _sizes(shape)
    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(
            f"raddle.{asked}() makes arrays in shared memory, where no Python objects can be: "
            f"the type is {kind}; pass a plain array to tasks, or give another dtype"
        )
    if kind.subdtype is not None:
        kind, inner = kind.subdtype
        sizes += inner
    count = kind.itemsize
    for size in sizes:
        count *= size
    buffer = _native.DraftBuffer.make(count) if count > 0 and min(sizes, default=0) >= 0 else None
    if buffer is None:
        try:
            return numpy.empty(sizes, kind, order)
        except MemoryError as error:
            what = f"the array of shape {sizes} that raddle.{asked}() is asked for"
            raise MemoryError(_native.no_memory_text(count, what)) from error
    return numpy.ndarray(sizes, kind, buffer, order=order)


def _sizes(shape: Any) -> tuple[int, ...]:
    try:
        return (operator.index(shape),)
    except TypeError:
        return tuple(operator.index(size) for size in shape)
