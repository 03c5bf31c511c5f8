"""A transaction's own writes beside a request: the store cannot see them, so their keys are left out of its ranges.

What is left of the ranges is the store's to answer; the written rows are answered here, by the same plan over a reader
of the writes alone. The two share no key, so that partial aggregates, orders and limits of both merge as those of two
regions do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from coprocessor.table import KeyRange
from kvstore.client.api import Chunk, PackedBatch
from kvstore.mvcc.packed import pack_pairs

Writes = Sequence[tuple[bytes, bytes | None]]
CHUNK_ROWS = 256


class OwnWrites:
    """Implements `api.Reader` over written pairs alone; what was deleted is not there."""

    def __init__(self, writes: Writes, ts: int) -> None:
        self.ts = ts
        self._pairs = [(key, value) for key, value in writes if value is not None]
        self._keys = [key for key, _ in self._pairs]
        self._values = dict(self._pairs)

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return {key: self._values[key] for key in keys if key in self._values}

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        last = bisect_left(self._keys, end) if end else len(self._keys)
        pairs = self._pairs[bisect_left(self._keys, start) : last]
        return reversed(pairs) if reverse else iter(pairs)

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        return chunks_of(self.scan(start, end, reverse=reverse))

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        return batches_of(self.scan(start, end), batch_rows)


def chunks_of(pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[Chunk]:
    """Ready pairs as `Reader.scan_chunks` gives them."""
    while part := list(islice(pairs, CHUNK_ROWS)):
        yield Chunk.of(part)


def batches_of(pairs: Iterator[tuple[bytes, bytes]], batch_rows: int) -> Iterator[PackedBatch]:
    """Ready pairs as `Reader.scan_packed` gives them."""
    while part := list(islice(pairs, batch_rows)):
        yield pack_pairs(part, 0)


def without_keys(ranges: Sequence[KeyRange], writes: Writes) -> list[KeyRange]:
    """Returns what is left of ascending, disjoint ranges without the written keys (ascending, all inside them)."""
    out: list[KeyRange] = []
    keys = [key for key, _ in writes]
    for start, end in ranges:
        for key in keys[bisect_left(keys, start) : bisect_left(keys, end) if end else None]:
            if start < key:
                out.append((start, key))
            start = key + b"\0"
        if start < end or not end:
            out.append((start, end))
    return out
