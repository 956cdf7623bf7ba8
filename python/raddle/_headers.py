"""The headers of an answer, as a mapping that knows no upper or lower case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Headers(Mapping[str, str]):
    """The headers of an answer, in their order.

    As a mapping it has each name once: values of a header that repeats are joined by a comma, which
    HTTP takes for the same. `get_all` keeps them apart; only for ``Set-Cookie`` that matters, and
    there the mapping has the first. Bytes beyond ASCII are read as Latin-1.

    Parameters
    ----------
    pairs : list of (str, str)
        Names and values.

    Examples
    --------
    >>> headers = Headers([("server", "s"), ("set-cookie", "a=1"), ("set-cookie", "b=2")])
    >>> headers["Server"], headers.get("missing")
    ('s', None)
    >>> headers.get_all("Set-Cookie")
    ['a=1', 'b=2']
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        self._values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            if key not in self._values:
                self._values[key] = value
            elif key != "set-cookie":
                self._values[key] += f", {value}"

    def __getitem__(self, name: str) -> str:
        try:
            return self._values[name.lower()]
        except KeyError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def get_all(self, name: str) -> list[str]:
        """Return all values of a header, in their order; an empty list if it is missing."""
        key = name.lower()
        return [value for other, value in self._pairs if other.lower() == key]

    def multi_items(self) -> list[tuple[str, str]]:
        """Return all names and values, those that repeat too."""
        return list(self._pairs)

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"
