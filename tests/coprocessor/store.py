"""A reader over pairs in memory, and the generated table's records in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from coprocessor.schema import ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.table import TableCodec
from kvstore.client.api import Chunk, PackedBatch
from kvstore.errors import KeyIsLocked
from kvstore.mvcc.packed import pack_pairs
from tests.coprocessor import plans

CHUNK_ROWS = 3


class MemoryReader:
    """Pairs as of `ts`; a key of `locked` is met as a lock. `reads` counts the pairs that were given out."""

    def __init__(self, pairs: dict[bytes, bytes], ts: int = 1, locked: Iterable[bytes] = ()) -> None:
        self._keys = sorted(pairs)
        self._pairs = pairs
        self.ts = ts
        self._locked = frozenset(locked)
        self.reads = 0

    def _check(self, key: bytes) -> None:
        if key in self._locked:
            raise KeyIsLocked(key, 7, b"primary")

    def get(self, key: bytes) -> bytes | None:
        self._check(key)
        return self._pairs.get(key)

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        found = {key: self.get(key) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        keys = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end) if end else None]
        for key in reversed(keys) if reverse else keys:
            self._check(key)
            self.reads += 1
            yield key, self._pairs[key]

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        for pairs in _batched(self.scan(start, end, reverse=reverse), CHUNK_ROWS):
            yield Chunk.of(pairs)

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        for pairs in _batched(self.scan(start, end), min(batch_rows, CHUNK_ROWS)):
            yield pack_pairs(pairs, 0)


def _batched(pairs: Iterator[tuple[bytes, bytes]], count: int) -> Iterator[list[tuple[bytes, bytes]]]:
    part: list[tuple[bytes, bytes]] = []
    for pair in pairs:
        part.append(pair)
        if len(part) == count:
            yield part
            part = []
    if part:
        yield part


BY_N = IndexSchema(1, "by_n", (IndexColumn(1), IndexColumn(9)), unique=False)
BY_U = IndexSchema(2, "by_u", (IndexColumn(2),), unique=True)
SCHEMA = TableSchema(
    plans.TABLE_ID,
    "t",
    tuple(ColumnSchema(i + 1, name, type_, i == 0) for i, (name, type_) in enumerate(plans.COLUMNS)),
    handle_offset=0,
    indexes=(BY_N, BY_U),
)
CODEC = TableCodec(SCHEMA)
Row = tuple[Any, ...]

ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.tuples(st.integers(-50, 50), *(st.none() | plans.value_of(type_) for type_ in plans.TYPES[1:])),
    max_size=14,
    unique_by=lambda row: row[0],
).map(lambda rows: sorted(rows, key=lambda row: row[0]))
"""Rows of the table in the order of their handles; TIMESTAMPs in UTC."""


def records(rows: Sequence[Row]) -> dict[bytes, bytes]:
    return dict(CODEC.encode_record(row) for row in rows)


def entries(rows: Sequence[Row], index: IndexSchema) -> dict[bytes, bytes]:
    out = {}
    for row in rows:
        key, value, _ = CODEC.index_key_value(index, row, row[0])
        out[key] = value
    return out
