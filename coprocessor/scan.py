"""Table scans as Arrow: packed pairs decoded in bulk, and a transaction's own writes merged over a scan."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from coprocessor.arrow import rows_to_batch
from coprocessor.codec.gather import Bytes
from coprocessor.codec.vector import BatchDecoder
from coprocessor.table import KeyRange, TableCodec
from kvstore.client.api import PackedBatch, Reader

BATCH_ROWS = 65_536

DirtyRow = tuple[bytes, bytes | None]


def scan_table(
    reader: Reader,
    codec: TableCodec,
    offsets: Sequence[int],
    ranges: Sequence[KeyRange] | None = None,
    tz: dt.tzinfo | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[pa.RecordBatch]:
    """Yields the columns at `offsets` of all records in `ranges` (None: the table), in key order.

    Arrow types are those of `arrow_type(inside=True)`; TIMESTAMPs come in zone `tz`, None for UTC.
    """
    decoder = BatchDecoder(codec.schema, offsets, tz)
    for start, end in (codec.record_range,) if ranges is None else ranges:
        if start >= end:
            continue
        for packed in reader.scan_packed(start, end, batch_rows=batch_rows):
            if packed.count:
                yield decoder.decode(packed)


class KeyColumn:
    """The record keys of a batch, packed, in ascending order."""

    __slots__ = ("count", "data", "ends", "starts")

    def __init__(self, packed: PackedBatch) -> None:
        first = int(packed.key_starts[0]) if packed.count else 0
        last = int(packed.key_ends[-1]) if packed.count else 0
        self.count = packed.count
        self.data: Bytes = packed.keys[first:last].copy()
        self.starts = (packed.key_starts - first).astype(np.int32)
        self.ends = (packed.key_ends - first).astype(np.int32)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> bytes:
        return self.data[self.starts[i] : self.ends[i]].tobytes()

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes + self.starts.nbytes + self.ends.nbytes)


class KeyedBatch(NamedTuple):
    """A batch of decoded rows with their keys and the key range that it stands for."""

    batch: pa.RecordBatch
    keys: KeyColumn
    start: bytes
    end: bytes


def merge_dirty(
    batches: Sequence[KeyedBatch],
    codec: TableCodec,
    dirty: Sequence[DirtyRow],
    offsets: Sequence[int],
    tz: dt.tzinfo | None = None,
) -> list[pa.RecordBatch]:
    """Lays uncommitted writes (ascending keys, None deletes) over batches whose ranges tile the table, in key order."""
    dirty_keys = [key for key, _ in dirty]
    out = []
    for piece in batches:
        first, last = bisect_left(dirty_keys, piece.start), bisect_left(dirty_keys, piece.end)
        batch = _merged(piece, codec, dirty[first:last], offsets, tz) if first < last else piece.batch
        if batch.num_rows:
            out.append(batch)
    return out


def _merged(
    piece: KeyedBatch,
    codec: TableCodec,
    dirty: Sequence[DirtyRow],
    offsets: Sequence[int],
    tz: dt.tzinfo | None,
) -> pa.RecordBatch:
    count = piece.batch.num_rows
    keep = np.ones(count, np.bool_)
    places: list[int] = []
    rows: list[tuple[Any, ...]] = []
    decode = codec.key_decoder(offsets, tz)
    for key, value in dirty:
        at = bisect_left(piece.keys, key)
        if at < count and piece.keys[at] == key:
            keep[at] = False
        if value is not None:
            places.append(at)
            rows.append(decode(key, value))
    if not rows:
        return piece.batch.filter(pa.array(keep))
    columns = [codec.schema.columns[offset] for offset in offsets]
    added = rows_to_batch(rows, [c.name for c in columns], [c.type for c in columns], inside=True)
    order = np.insert(np.arange(count), places, count + np.arange(len(rows)))
    order = order[np.concatenate((keep, np.ones(len(rows), np.bool_)))[order]]
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(order), pa.struct([])))
    both = pa.Table.from_batches([piece.batch, added]).take(pa.array(order)).combine_chunks()
    batches = both.to_batches()
    return batches[0] if batches else piece.batch.slice(0, 0)
