"""The program's side of a template that has loaded libraries (start of a worker).

The program's template forks it, for the first pool whose workers are going to need them; it is kept
for the next, as that one is. `_preload.py` is what it does. One that fails, hangs or dies is not
missed: the template without libraries takes its place.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import marshal
import os
import sys

from . import _native
from ._preload import describe_libraries
from ._setup import write_file
from ._template_process import Template, TemplateEnded

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: In the order in which they are loaded. One that starts threads when it is loaded, as polars does,
#: cannot be forked.
LIBRARIES = ("numpy", "pyarrow", "pandas")

#: Seconds after which the process ends that is still loading.
LOADING_SECONDS = 30.0

#: The one that the next pool uses.
_kept: PreloadedTemplate | None = None
#: What has been tried, and does not load as it has to.
_hopeless: set[tuple[str, ...]] = set()


class PreloadedTemplate(Template):
    """The program's side of such a template."""

    def __init__(self, parent: Template, libraries: tuple[str, ...]) -> None:
        self._parent: Template | None = parent
        self.libraries = libraries
        #: Whether it has begun to load, and whether it has done so as it has to.
        self._has_begun = self._is_ready = False
        #: Why it is of no use.
        self.failure = ""
        super().__init__()
        self._parent = None

    def _begin(self, control: int) -> None:
        assert self._parent is not None
        files = [getattr(sys.modules[name], "__file__", None) for name in self.libraries]
        wanted = list(zip(self.libraries, files, strict=True))
        described = _native.memory_file()
        try:
            write_file(described, describe_libraries(wanted, LOADING_SECONDS))
            # If it is gone, that is found out when this one is asked: nobody has its socket then.
            self._parent.tell("preload", descriptors=(control, described))
        finally:
            os.close(described)

    def ask(self, *message: object) -> tuple[tuple[object, ...], list[int]]:
        """Send a request and wait for the reply, once the libraries are loaded."""
        with self._lock:
            if not self._is_ready:
                self._await()
            return super().ask(*message)

    def _await(self) -> None:
        """Wait until it has said that it can be forked."""
        if self._control < 0:
            raise self._ended()
        try:
            if not self._has_begun:
                _, (self._process,) = self._said()
                self._has_begun = True
            (self.failure,), _ = self._said()
        except (OSError, EOFError, ValueError):
            self.failure = "it has ended, or took too long"
        if self.failure:
            if self._has_begun:
                _hopeless.add(self.libraries)
            raise self._ended()
        self._is_ready = True

    def _said(self) -> tuple[tuple[str, ...], list[int]]:
        try:
            data, descriptors = _native.receive_message(self._control)
        except ConnectionResetError:
            # It has ended, and not read all that it was told. What it said before comes after that.
            data, descriptors = _native.receive_message(self._control)
        return marshal.loads(data), descriptors

    def _ended(self) -> TemplateEnded:
        why = self.failure or "it has ended"
        names = ", ".join(self.libraries)
        return TemplateEnded(f"the process that starts workers with {names}: {why}")

    def end(self) -> None:
        """End the process, and with it every worker that is left; its parent waits for it."""
        try:
            if self._process >= 0:
                _native.signal_process(self._process, _signal.SIGKILL)
        except ProcessLookupError:
            pass
        with self._lock:
            self._close()

    def retire(self) -> None:
        """Note that it is for no further pool."""
        global _kept
        super().retire()
        if _kept is self:
            _kept = None


def preloaded(parent: Template, libraries: Iterable[str]) -> Template | None:
    """Return the template with these libraries, made now by `parent` if there is none that fits.

    They are loaded in the program. None if it is of no use.
    """
    global _kept
    before = _kept
    wanted = set(libraries)
    if before is not None:
        is_fit = before.is_fit()
        if is_fit and wanted <= set(before.libraries):
            return before
        wanted.update(before.libraries if is_fit else ())
    names = tuple(name for name in LIBRARIES if name in wanted)
    if names in _hopeless:
        return None
    if before is not None:
        before.retire()
        if before.users == 0:
            before.end()
    _kept = PreloadedTemplate(parent, names)
    return _kept


def _forget() -> None:
    """Leave the template to the parent, in a forked child."""
    global _kept
    if _kept is not None:
        _kept.forget()
        _kept = None


os.register_at_fork(after_in_child=_forget)
