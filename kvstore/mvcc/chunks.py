"""Rows of a range read, many at once.

A chunk keeps the rows as cheaply as they were found: the values may still stand inside their records (behind `skip`
bytes), and keys are decoded only for those who ask for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from kvstore.mvcc.keys import user_key
from kvstore.mvcc.plain import user_keys


class Chunk:
    """Some rows of a range, in its order."""

    __slots__ = ("_encoded", "_keys", "skip", "values")

    def __init__(
        self, keys: list[bytes] | None, values: list[bytes], *, encoded: list[bytes] | None = None, skip: int = 0
    ) -> None:
        self._keys = keys
        self._encoded = encoded
        """Data keys with their timestamps, when there are no keys yet."""
        self.values = values
        """The value of a row begins at byte `skip` of its entry."""
        self.skip = skip

    @classmethod
    def of(cls, pairs: Sequence[tuple[bytes, bytes]]) -> Chunk:
        return cls([key for key, _ in pairs], [value for _, value in pairs])

    def __len__(self) -> int:
        return len(self.values)

    def keys(self) -> list[bytes]:
        keys = self._keys
        if keys is None:
            assert self._encoded is not None
            keys = user_keys(self._encoded) or [user_key(key[:-8]) for key in self._encoded]
            self._keys = keys
        return keys

    def last_key(self) -> bytes:
        if self._keys is None and self._encoded is not None:
            return user_key(self._encoded[-1][:-8])
        return self.keys()[-1]

    def reversed(self) -> Chunk:
        return Chunk(self.keys()[::-1], self.values[::-1], skip=self.skip)

    def part(self, start: int, end: int) -> Chunk:
        """The rows at these places."""
        keys, encoded = self._keys, self._encoded
        return Chunk(
            None if keys is None else keys[start:end],
            self.values[start:end],
            encoded=None if encoded is None else encoded[start:end],
            skip=self.skip,
        )

    def pairs(self) -> list[tuple[bytes, bytes]]:
        skip = self.skip
        values = [value[skip:] for value in self.values] if skip else self.values
        return list(zip(self.keys(), values, strict=True))


def pairs_of(chunks: Iterable[Chunk]) -> Iterator[tuple[bytes, bytes]]:
    """The (key, value) of every row, one by one."""
    return chain.from_iterable(map(Chunk.pairs, chunks))
