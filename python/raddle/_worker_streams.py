"""The standard streams of a worker: what several workers print comes out in whole lines.

The system writes a few KB to a pipe in one go; longer text could be torn apart by what others
write. So a worker locks what it writes to, unless that is a file, of which a write is whole. The
lock is known to the system by the pipe or terminal itself: all workers have it in common, and it
goes with a worker that dies. The program writes without it.
"""

from __future__ import annotations

import io
import os
import sys
from _thread import RLock

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: So much of a line without an end is kept at most.
_LONGEST = 1 << 16
#: Of the mode of a file: its kind, and that of an ordinary one.
_KIND, _ORDINARY = 0o170000, 0o100000
#: The program's streams in a fork of it: were they dropped, they would write what is left in them.
_inherited: list[object] = []


class Lines(io.BufferedIOBase):
    """Writes whole lines, each time in one go; the rest of a line when it is asked to flush."""

    def __init__(self, raw: io.RawIOBase, name: object) -> None:
        self.raw = raw  # type: ignore[misc,unused-ignore]
        self.name = name
        self.mode = "wb"
        self._rest = b""
        # A signal handler may print while the thread prints.
        self._lock = RLock()
        self._has_others: bool | None = None

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def fileno(self) -> int:
        """Return its descriptor."""
        return self.raw.fileno()

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self.raw.isatty()

    def write(self, data: Any) -> int:
        """Write what is whole by now."""
        data = bytes(data)
        with self._lock:
            end = data.rfind(b"\n") + 1
            text, self._rest = self._rest + data[:end], data[end:]
            if not end:
                # No line has ended: all of it is one's beginning.
                self._rest, text = text + self._rest, b""
            if len(self._rest) > _LONGEST:
                text, self._rest = text + self._rest, b""
            self._put(text)
        return len(data)

    def flush(self) -> None:
        """Write the beginning of a line too."""
        with self._lock:
            text, self._rest = self._rest, b""
            self._put(text)

    def _put(self, text: bytes) -> None:
        if not text:
            return
        is_locked = self._may_be_torn() and self._lock_file(True)
        try:
            self._write_all(text)
        finally:
            if is_locked:
                self._lock_file(False)

    def _may_be_torn(self) -> bool:
        if self._has_others is None:
            try:
                mode = os.fstat(self.raw.fileno()).st_mode
            except OSError:
                return False  # It is closed, as the write is going to say.
            self._has_others = mode & _KIND != _ORDINARY
        return self._has_others

    def _lock_file(self, is_wanted: bool) -> bool:
        """Take the lock, or let go of it; tell whether that is done."""
        from fcntl import LOCK_EX, LOCK_UN, lockf

        try:
            lockf(self.raw.fileno(), LOCK_EX if is_wanted else LOCK_UN)
        except OSError:
            # The system has no locks for this: then nothing helps.
            self._has_others = False
            return False
        return True

    def _write_all(self, text: bytes) -> None:
        while text:
            count = self.raw.write(text)
            if count is None:
                self._wait_writable()
            else:
                text = text[count:]

    def _wait_writable(self) -> None:
        from select import select

        select([], [self.raw.fileno()], [])


def _raw_of(stream: io.TextIOWrapper, is_forked: bool) -> Any:
    """Return what is below a stream."""
    if is_forked:
        # It is left as it is: its lock may be held by a thread that is not here.
        _inherited.append(stream)
        return io.FileIO(stream.fileno(), "wb", closefd=False)
    buffer: Any = stream.detach()
    # An interpreter that was told not to buffer has no more than this.
    return buffer if isinstance(buffer, io.RawIOBase) else buffer.detach()


def write_whole_lines(*, is_forked: bool = False) -> None:
    """Have the standard streams do so, if they are the interpreter's own.

    Parameters
    ----------
    is_forked : bool
        Whether this process is a fork of the program, whose streams another thread may have used.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or stream is not getattr(sys, f"__{name}__"):
            continue
        encoding, errors, kind = stream.encoding, stream.errors, stream.name
        try:
            raw = _raw_of(stream, is_forked)
        except (OSError, ValueError):
            continue  # It is closed.
        lines = io.TextIOWrapper(
            Lines(raw, kind),  # type: ignore[attr-defined,arg-type,unused-ignore]
            encoding,
            errors,
            newline="\n",
            write_through=True,
        )
        lines.mode = "w"  # type: ignore[misc,attr-defined,unused-ignore]
        setattr(sys, name, lines)
        setattr(sys, f"__{name}__", lines)
