"""Whether a function may leave the calling thread, and what its items cost to send.

Its code is read when the map begins, and the first item is called between two fingerprints of what
the function reaches. Pickling is tried only when a move is about to pay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pickle import dumps, loads
from typing import TYPE_CHECKING, Any

from ._effects import Effects, effects_of
from ._fingerprint import change, digest, plain_values, surroundings
from ._machine import machine
from ._travel import Obstacle, obstacle, refusal

if TYPE_CHECKING:
    from typing_extensions import Self

    from . import _native

#: Seconds of an item from which one is enough to see what sending costs.
_LONG = 5e-3
#: Items that are looked at where one is not enough.
_LOOKED_AT = 3


class Measured(AbstractContextManager["Measured"]):
    """One call between two fingerprints, and what it took."""

    def __init__(self, examiner: Examiner, item: Any) -> None:
        self._examiner = examiner
        self._item = item
        self.wall = self.busy = 0.0

    def __enter__(self) -> Self:
        self._examiner.look_at(self._item)
        self._before = self._examiner.fingerprint(self._item)
        return self

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        """Call the function and measure that."""
        wall, busy = time.perf_counter(), time.thread_time()
        try:
            return function(item)
        finally:
            self.wall, self.busy = time.perf_counter() - wall, time.thread_time() - busy

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            changed = change(self._before, self._examiner.fingerprint(self._item))
            if changed is not None:
                self._examiner.find(f"it was seen to change its {changed}")


class Examiner:
    """Looks at a function and its first items, and tells `Choice` what is not possible."""

    def __init__(
        self, function: Callable[..., Any], takes_tuples: bool, choice: _native.Choice
    ) -> None:
        self.function = function
        self._takes_tuples = takes_tuples
        self._choice = choice
        self._effects = Effects()
        #: Why the function has to stay in the calling thread, or at least in the program.
        self.reason: str | None = None
        self._left = 0
        self._has_looked = False
        self._samples: list[tuple[Any, Any]] = []
        self._is_wanted = False

    def begin(self) -> None:
        """Read the code; the first item is to be looked at."""
        self._left = 1
        self._read(effects_of(self.function))

    def look_at(self, item: Any) -> None:
        """Read the code once more, with an item: of its methods and operators more is known."""
        if not self._has_looked:
            self._has_looked = True
            self._read(effects_of(self.function, item if self._takes_tuples else (item,)))

    def _read(self, effects: Effects) -> None:
        self._effects = effects
        for way, reason in effects.ties.items():
            self._choice.forbid(way, reason)
        if effects.reason is not None:
            self.find(effects.reason)

    @property
    def wants_item(self) -> bool:
        """Whether the next item is to be looked at."""
        return self._left > 0

    def find(self, reason: str) -> None:
        """Note that the function changes something outside of itself."""
        self.reason = reason
        self._left = 0
        self._choice.forbid("processes", f"{reason} (a process would change a copy)")
        if not self._effects.has_locks:
            self._choice.forbid("threads", f"{reason} (threads would do that in another order)")
        self._choice.set_examined()

    def plain_values(self) -> dict[str, str]:
        """Return what the function reaches that a process must have too."""
        return plain_values(self._effects.reached)

    def fingerprint(self, item: Any) -> dict[str, object]:
        """Return digests of what the function reaches and of its arguments."""
        found = surroundings(self._effects.reached)
        for place, argument in enumerate(item if self._takes_tuples else (item,)):
            found[f"argument {place}"] = digest(argument)
        return found

    def item(self, item: Any) -> Measured:
        """Return what measures a call of the function."""
        return Measured(self, item)

    def judge(self, item: Any, value: Any) -> None:
        """Take note of an item that has been called."""
        self._left -= 1
        if self.reason is None:
            self._samples = [*self._samples[-_LOOKED_AT:], (item, value)]
            if self._is_wanted and self._left <= 0:
                self._weigh()

    def want(self) -> None:
        """Find out whether the function and its items can go to a process, and what that costs."""
        self._is_wanted = True
        if self._refuse_function():
            return
        costs = self._choice.costs()
        is_long = costs is not None and sum(costs[:3]) > _LONG
        if self._samples and (is_long or len(self._samples) >= _LOOKED_AT):
            self._weigh()
        else:
            self._left = _LOOKED_AT

    def judge_code(self) -> None:
        """Decide without an item: by the code, and by whether the function can travel."""
        if self.reason is None:
            self._is_wanted = True
            self._refuse_function()
            self._choice.set_examined()

    def _refuse_function(self) -> bool:
        found = obstacle(self.function, "the function") or self._global_obstacle()
        if found is not None:
            self._choice.forbid("processes", str(found))
            self._choice.set_examined()
        return found is not None

    def _global_obstacle(self) -> Obstacle | None:
        """Find a global that would be missing in a process."""
        for label, (space, key) in self._effects.reached.items():
            if label.startswith("global") and key in space and refusal(space[key]) is not None:
                return obstacle(space[key], f"the {label}")
        return None

    def _weigh(self) -> None:
        """Measure what sending the samples takes, if they can be sent."""
        samples, self._samples = self._samples, []
        sending = receiving = 0.0
        for item, value in samples:
            path = "args" if self._takes_tuples else "args[0]"
            if value is item and digest(value) is not None:
                self._choice.forbid(
                    "processes", "it returns its argument, of which it would be a copy"
                )
                break
            found = obstacle_or_costs(item, path), obstacle_or_costs(value, "the result")
            obstacles = [one for one in found if isinstance(one, Obstacle)]
            if obstacles:
                self._choice.forbid("processes", str(obstacles[0]))
                break
            there, back = found
            sending += there[0] + back[1]  # type: ignore[index]
            receiving += there[1] + back[0]  # type: ignore[index]
        if samples:
            self._choice.observe_sending(sending / len(samples), receiving / len(samples))
        self._choice.set_examined()


def obstacle_or_costs(value: object, path: str) -> Obstacle | tuple[float, float]:
    """Return what in a value cannot travel, or the seconds to make its pickle and to read it."""
    if isinstance(value, (int, float, bool, type(None))):
        return 0.0, 0.0
    byte = machine().byte
    start = time.perf_counter()
    try:
        pickle = dumps(value, 5)
    except Exception:
        # By value it may be possible.
        return obstacle(value, path) or (2 * (time.perf_counter() - start),) * 2
    made = time.perf_counter()
    try:
        loads(pickle)
    except Exception as error:
        return Obstacle(path, value, error)
    read = time.perf_counter()
    sent = byte * len(pickle)
    return made - start + sent, read - made + sent
