"""A chunk of a map: items that workers have been given."""

from __future__ import annotations

import concurrent.futures as cf
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ._map_pool import Runner


class Chunk(NamedTuple):
    """Items that workers have been given."""

    start: int
    items: list[Any]
    #: None for items that are to be worked on in the calling thread after all.
    future: cf.Future[Any] | None
    runner: Runner | None
    #: How often it has been tried again.
    tries: int = 0
