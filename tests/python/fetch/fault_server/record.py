"""What the server received, told by token, and the gates that hold answers back."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field


@dataclass
class Record:
    """One request: what it said, when it came, and how it went on."""

    token: str
    page: str
    method: str
    target: str
    version: str
    scheme: str
    host: str
    headers: list[tuple[str, str]]
    body: str
    connection: int
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    left: bool = False  # the client closed before it had the answer
    sent: int = 0  # bytes of the body that were written


class Log:
    """Everything received, and who waits to hear of more."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.attempts: Counter[str] = Counter()
        self.robots: dict[str, tuple[int, str]] = {}
        self._connections = itertools.count(1)
        self._flying: Counter[tuple[str, str]] = Counter()
        self._peaks: Counter[tuple[str, str]] = Counter()
        self._gates: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)
        self._changed = asyncio.Condition()

    def new_connection(self) -> int:
        """Number a connection."""
        return next(self._connections)

    async def begin(self, record: Record) -> None:
        """Note a request that came."""
        self.records.append(record)
        for key in ((record.token, record.host), (record.token, "")):
            self._flying[key] += 1
            self._peaks[key] = max(self._peaks[key], self._flying[key])
        await self._tell()

    async def end(self, record: Record) -> None:
        """Note that a request is over."""
        record.ended = time.monotonic()
        for key in ((record.token, record.host), (record.token, "")):
            self._flying[key] -= 1
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something holds of the records."""
        async with self._changed:
            await self._changed.wait_for(true)

    def of(self, token: str) -> list[Record]:
        """Return the requests of one token, in the order in which they came."""
        return [record for record in self.records if record.token == token]

    def told(self, token: str) -> dict[str, object]:
        """Return what is known of a token, ready for JSON."""
        peaks = {host: peak for (who, host), peak in self._peaks.items() if who == token}
        return {"requests": [asdict(record) for record in self.of(token)], "peaks": peaks}

    def gate(self, token: str, name: str) -> asyncio.Event:
        """Return a gate, which is shut until it is released."""
        return self._gates[token, name]

    def attempt(self, key: str) -> int:
        """Count the requests of one kind: 1 for the first."""
        self.attempts[key] += 1
        return self.attempts[key]
