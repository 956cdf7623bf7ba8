"""What happened when: a recording of every task of every executor, and who held the interpreter."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._native import Recording, __version__

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Timeline", "timeline"]

#: How many tasks a recording keeps.
_MOST_TASKS = 1_000_000
_SUFFIXES = (".html", ".json")


def timeline(path: str | os.PathLike[str] | None = None) -> Timeline:
    """Record what every executor of this program does while a ``with`` block runs.

    Each task is recorded with when it was submitted, began and ended, who ran it, how it ended, its
    attempts and the bytes that went to and from a worker process; worker processes with how they
    ended; and, about every half millisecond, which thread held the GIL and which waited for it.

    Parameters
    ----------
    path : str or os.PathLike, optional
        Where the recording is saved when the block ends, also by an exception: ``.html`` is a page
        to look at in a browser, ``.json`` are trace events, for Perfetto or ``chrome://tracing``.

    Returns
    -------
    Timeline
        The recording, to be used in a ``with`` statement, once.

    Raises
    ------
    ValueError
        The path ends in neither ``.html`` nor ``.json``.
    FileNotFoundError
        There is no folder to save it in.

    Notes
    -----
    A task costs well under a microsecond more while it is recorded, and nothing that can be
    measured otherwise. A recording keeps a million tasks and counts the rest. Several may be made
    at the same time, each of the whole program. ``map`` in threads shows each item, in processes
    each chunk that is sent.

    Who waits for the GIL is an estimate: a thread that runs a task, and was seen asleep on the
    GIL, is taken to have waited since the look before. The GIL is looked at on Python 3.10, 3.11
    and 3.13; elsewhere that part of a recording is empty, and says so.

    Examples
    --------
    >>> import raddle
    >>> with raddle.timeline() as recording, raddle.ThreadPoolExecutor(2) as executor:
    ...     lengths = list(executor.map(len, ["a", "bb", "ccc"]))
    >>> recording.summary().split()[:2]
    ['3', 'tasks']
    """
    return Timeline(path)


class Timeline:
    """A recording of what the executors do; made by :func:`raddle.timeline`.

    Examples
    --------
    >>> import raddle
    >>> with raddle.timeline() as recording, raddle.ThreadPoolExecutor(1) as executor:
    ...     _ = executor.submit(pow, 2, 3).result()
    >>> recording
    <raddle.Timeline: 1 task>
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else _checked(path)
        self._recording: Recording | None = None
        self._names: dict[int, str] = {}
        self._recorded: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        if self._recording is not None or self._recorded is not None:
            raise RuntimeError(
                "this timeline has been used: a recording is made once; "
                "call raddle.timeline() again"
            )
        self._names.update(_thread_names())
        self._recording = Recording(_MOST_TASKS)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        recording, self._recording = self._recording, None
        if recording is None:
            return
        self._names.update(_thread_names())
        self._recorded = self._completed(recording.finish())
        if self._path is None:
            return
        try:
            self.save(self._path)
        except OSError as error:
            if exc_value is None:
                raise
            # What the block raised is what matters; that nothing was saved is said beside it.
            sys.stderr.write(f"raddle.timeline: {self._path} was not written: {error}\n")

    def _completed(self, record: dict[str, Any]) -> dict[str, Any]:
        for lane in record["lanes"]:
            name = self._names.get(lane["tid"])
            if name is not None and lane["kind"] != "process" and lane["executor"] < 0:
                lane["name"] = name
        return {"version": 1, "machine": _machine(), **record}

    def _record(self) -> dict[str, Any]:
        """Return the recording in plain values: what pages and exports are made of."""
        if self._recorded is None:
            raise RuntimeError(
                "the recording has not ended: save it, or look at it, after the 'with' block"
            )
        return self._recorded

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording to a file: ``.html`` or ``.json``, by its name.

        Parameters
        ----------
        path : str or os.PathLike
            The file; one that is there is replaced as a whole.

        Raises
        ------
        ValueError
            The path ends in neither ``.html`` nor ``.json``.
        OSError
            The file cannot be written.
        RuntimeError
            The ``with`` block has not ended.

        Examples
        --------
        >>> import raddle, tempfile
        >>> with raddle.timeline() as recording, raddle.ThreadPoolExecutor(1) as executor:
        ...     _ = executor.submit(pow, 2, 3).result()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recording.save(f"{folder}/run.json")
        """
        target = _checked(path)
        _write(target, self._html(target.stem) if target.suffix == ".html" else self._json())

    def _html(self, title: str) -> str:
        # Here: what draws is loaded when it is wanted, and only then.
        from ._timeline_page import page

        return page(self._record(), title)

    def _json(self) -> str:
        from ._trace_events import trace

        return json.dumps(trace(self._record()), separators=(",", ":"))

    def summary(self) -> str:
        """Return what happened in a few plain sentences.

        How many tasks, how long, how busy the workers were, how much faster than one after the
        other, and what held it back.

        Returns
        -------
        str
            One paragraph.

        Examples
        --------
        >>> import raddle
        >>> with raddle.timeline() as recording:
        ...     pass
        >>> recording.summary().startswith("No tasks in")
        True
        """
        return str(self._record()["summary"])

    def _repr_html_(self) -> str | None:
        """Show the page in a notebook, in a frame of its own."""
        if self._recorded is None:
            return None
        from ._timeline_page import embedded

        return embedded(self._recorded, "timeline")

    def __repr__(self) -> str:
        if self._recording is not None:
            return "<raddle.Timeline: recording>"
        if self._recorded is None:
            return "<raddle.Timeline: not begun>"
        tasks = len(set(self._recorded["tasks"]["task"]))
        return f"<raddle.Timeline: {tasks} task{'' if tasks == 1 else 's'}>"


def _checked(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if target.suffix not in _SUFFIXES:
        raise ValueError(
            "a timeline is saved as a page (.html) or as trace events (.json), "
            f"not as {str(path)!r}"
        )
    # Found out before the work is done rather than after it.
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(target.parent)!r} for {target.name}")
    return target


def _write(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _thread_names() -> dict[int, str]:
    """Return the names of the threads that are there, by their numbers in the system."""
    threads = threading.enumerate()
    return {thread.native_id: thread.name for thread in threads if thread.native_id is not None}


def _machine() -> dict[str, Any]:
    from ._cores import cpu_count

    is_gil_enabled = getattr(sys, "_is_gil_enabled", lambda: True)
    main = sys.modules.get("__main__")
    program = getattr(main, "__file__", None) or sys.argv[0] or "python"
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": bool(is_gil_enabled()),
        "cores": cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "raddle": __version__,
        "program": os.path.basename(program),
    }
