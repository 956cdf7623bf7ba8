"""What waits for `multiprocessing` (start of a worker), which loads when somebody needs it.

Until then it costs nothing. Program and workers must agree on its key, whoever loads it first; and
in a worker it has to know that it is in one.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import PathFinder

from . import _native

# Not from typing, which takes longer to load than all the rest: checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_PROCESS = "multiprocessing.process"
#: What this program is going to have, should it load `multiprocessing`.
_key: bytes | None = None


class _Awaited:
    """A finder that finds one module, once, and does things after it has been loaded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.then: list[Callable[[ModuleType], None]] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name:
            return None
        try:
            sys.meta_path.remove(self)
        except ValueError:
            return None  # Another thread has been here.
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            self._follow(spec)
        return spec

    def _follow(self, spec: ModuleSpec) -> None:
        loader = spec.loader

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # type: ignore[union-attr]
            loader.exec_module(module)  # type: ignore[union-attr]
            for then in self.then:
                then(module)

        # On this module's own loader, which is as before when it has done its work.
        loader.exec_module = exec_module  # type: ignore[method-assign,union-attr]


def after_import(name: str, then: Callable[[ModuleType], None]) -> None:
    """Call `then` with a module once it has been loaded: now, or when somebody imports it."""
    module = sys.modules.get(name)
    if module is not None:
        then(module)
        return
    awaited = [finder for finder in sys.meta_path if type(finder) is _Awaited]
    same = next((finder for finder in awaited if finder.name == name), None)
    if same is None:
        same = _Awaited(name)
        sys.meta_path.insert(0, same)
    same.then.append(then)


def authkey() -> bytes:
    """Return the key by which the processes of this program know each other."""
    global _key
    module = sys.modules.get(_PROCESS)
    if module is not None:
        return bytes(module.current_process().authkey)
    if _key is None:
        _key = os.urandom(32)
        after_import(_PROCESS, _set_key)
    return _key


def _set_key(module: ModuleType) -> None:
    module.current_process().authkey = _key


def become_worker(key: bytes, name: str, program: int) -> None:
    """Have `multiprocessing`, once it is loaded, know that this is a worker, and whose."""

    def become(module: ModuleType) -> None:
        process = module.current_process()
        process.authkey = key
        process.name = name
        # What is readable once the program has ended.
        sentinel = _native.open_process(program)
        parent = module._ParentProcess("MainProcess", program, sentinel)
        module._parent_process = parent  # type: ignore[attr-defined]

    after_import(_PROCESS, become)
