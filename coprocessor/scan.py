"""Table scans as Arrow: packed pairs decoded in bulk, and a transaction's own writes merged over a scan."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coprocessor.codec.gather import Ints
from coprocessor.codec.key_column import KeyColumn, suffixes
from coprocessor.codec.vector import BatchDecoder, empty_columns
from coprocessor.table import KeyRange, TableCodec
from kvstore.client.api import Reader
from kvstore.mvcc.packed import pack_pairs

BATCH_ROWS = 65_536
SLICED_EDITS_MAX = 256
"""Up to so many edits columns are put together from slices, beyond it by one take."""

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


class KeyedBatch(NamedTuple):
    """A batch of decoded rows with their keys and the key range that it stands for."""

    batch: pa.RecordBatch
    keys: KeyColumn
    start: bytes
    end: bytes


class Edits:
    """Changes (ascending keys, a value None deletes) laid over a run of rows: which old rows go, where new ones come.

    `added` are the changes that have a value; every column of theirs is spliced into the old column by `splice`.
    """

    def __init__(self, keys: KeyColumn, changes: Sequence[DirtyRow]) -> None:
        self.added = [(key, value) for key, value in changes if value is not None]
        self.count = len(keys)
        at, found = keys.positions([key for key, _ in changes])
        alive = np.fromiter((value is not None for _, value in changes), np.bool_, len(changes))
        self._runs = self._order = None
        if len(changes) <= SLICED_EDITS_MAX:
            self._runs = _runs(at.tolist(), found.tolist(), alive.tolist(), self.count)
        else:
            self._order = _order(at, found, alive, self.count)

    @property
    def rows(self) -> int:
        """How many rows there are after the edits."""
        if self._order is not None:
            return len(self._order)
        return sum(b - a + d - c for a, b, c, d in self._runs or ())

    def splice(self, old: Any, added: Any) -> Any:
        """Returns the column `old` after the edits, `added` being the column of the added rows."""
        if self._order is not None:
            return pa.concat_arrays([old, added]).take(self._order)
        pieces = []
        for a, b, c, d in self._runs or ():
            if a < b:
                pieces.append(old.slice(a, b - a))
            if c < d:
                pieces.append(added.slice(c, d - c))
        return pa.concat_arrays(pieces) if pieces else old.slice(0, 0)

    def keys(self, old: KeyColumn) -> KeyColumn:
        """Returns the keys after the edits."""
        added = suffixes([key for key, _ in self.added], old.array)
        array = old.array if added.type == old.array.type else old.array.cast(pa.binary())
        return KeyColumn(old.prefix, self.splice(array, added.cast(array.type)))


def _runs(at: list[int], found: list[bool], alive: list[bool], count: int) -> list[tuple[int, int, int, int]]:
    """Spans (of the old rows, then of the added ones) that make up the rows after the edits."""
    runs = []
    old = new = 0
    for place, hit, comes in zip(at, found, alive, strict=True):
        runs.append((old, place, new, new + comes))
        old, new = place + hit, new + comes
    runs.append((old, count, new, new))
    return runs


def _order(at: Ints, found: npt.NDArray[np.bool_], alive: npt.NDArray[np.bool_], count: int) -> Any:
    """Row numbers after the edits, the added rows counted on from the old ones."""
    added = int(alive.sum())
    keep = np.ones(count + added, np.bool_)
    keep[at[found]] = False
    order = np.insert(np.arange(count), at[alive], count + np.arange(added))
    return pa.array(order[keep[order]])


def merge_dirty(
    batches: Sequence[KeyedBatch],
    codec: TableCodec,
    dirty: Sequence[DirtyRow],
    offsets: Sequence[int],
    tz: dt.tzinfo | None = None,
) -> list[pa.RecordBatch]:
    """Lays uncommitted writes (ascending keys, None deletes) over batches whose ranges tile the table, in key order."""
    dirty_keys = [key for key, _ in dirty]
    decoder = BatchDecoder(codec.schema, offsets, tz)
    out = []
    for piece in batches:
        first, last = bisect_left(dirty_keys, piece.start), bisect_left(dirty_keys, piece.end)
        batch = _merged(piece, decoder, dirty[first:last]) if first < last else piece.batch
        if batch.num_rows:
            out.append(batch)
    return out


def _merged(piece: KeyedBatch, decoder: BatchDecoder, dirty: Sequence[DirtyRow]) -> pa.RecordBatch:
    edits = Edits(piece.keys, dirty)
    if not piece.batch.num_columns:
        return empty_columns(edits.rows)
    added = decoder.decode(pack_pairs(edits.added, 0))
    columns = [edits.splice(old, new) for old, new in zip(piece.batch.columns, added.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=piece.batch.schema)
