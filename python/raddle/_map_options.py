"""What a call of `raddle.map` asks for, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ._options import Policy


class MapOptions(NamedTuple):
    """The options of a map; times in seconds, `deadline` by the monotonic clock."""

    how: Any
    workers: int | None
    ordered: bool
    chunksize: int | None
    buffersize: int | None
    deadline: float | None
    policy: Policy
    on_error: str

    @property
    def is_plain(self) -> bool:
        """Whether the function can be called as it is."""
        return self.on_error == "raise" and self.policy.retries == 0

    @property
    def most_workers(self) -> int | None:
        """How many workers can be of use: no more than there may be items under way."""
        given = [one for one in (self.workers, self.buffersize) if one is not None]
        return min(given, default=None)
