"""The standard streams of a worker: what several workers print comes out in whole lines."""

from __future__ import annotations

import io
import sys
from _thread import RLock

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: So much of a line without an end is kept at most.
_LONGEST = 1 << 16


class Lines(io.BufferedIOBase):
    """Writes whole lines, each time in one go; the rest of a line when it is asked to flush."""

    def __init__(self, raw: io.RawIOBase, name: object) -> None:
        self.raw = raw  # type: ignore[misc,unused-ignore]
        self.name = name
        self.mode = "wb"
        self._rest = b""
        # A signal handler may print while the thread prints.
        self._lock = RLock()

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
        while text:
            count = self.raw.write(text)
            if count is None:
                self._wait_writable()
            else:
                text = text[count:]

    def _wait_writable(self) -> None:
        from select import select

        select([], [self.raw.fileno()], [])


def write_whole_lines() -> None:
    """Have the standard streams do so, if they are the interpreter's own."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or stream is not getattr(sys, f"__{name}__"):
            continue
        encoding, errors, kind = stream.encoding, stream.errors, stream.name
        buffer: Any = stream.detach()
        # An interpreter that was told not to buffer has no more than this.
        raw = buffer if isinstance(buffer, io.RawIOBase) else buffer.detach()
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
