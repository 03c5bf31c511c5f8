"""The segment cache: decoded columns of whole tables, so that repeated scans of unchanged data do not decode again.

A table's records are tiled by *segments*, key ranges of about `SEGMENT_ROWS` rows. A segment holds the rows that are
live for every read timestamp T with valid_from <= T < valid_until: valid_from is the newest commit met while it was
built, valid_until the first commit after that wrote into its range, told by the store through `on_commit`. A scan uses
the segments valid at its timestamp; one that a commit has ended is built again, and only that one.

A build is free of races without stopping writers: the range is registered as being built, then a *fresh* snapshot is
taken and scanned. A commit at or below the snapshot is in the scan; a later one is reported while the range is
registered, and is applied to the new segments before they are published. A reader older than valid_from reads its range
directly.

Caveats
- A commit below a reader's timestamp may still be on its way to the disk when the reader comes. A read of the range
  waits for it, and the store reports a commit before it lets such readers go on; so a scan reads one row first.
- A bulk load is reported before its records are visible. Until a build has met them, nothing of the table is cached.
- Columns are decoded when first asked for. The packed rows are kept for that while the budget has room, and are the
  first to go; then a further column costs a scan of its segment.
"""

from __future__ import annotations

import datetime as dt
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from coprocessor.arrow import arrow_schema
from coprocessor.codec.keys import RECORD_PREFIX_LEN
from coprocessor.codec.vector import BatchDecoder
from coprocessor.scan import DirtyRow, KeyColumn, KeyedBatch, merge_dirty
from coprocessor.schema import ColumnSchema
from coprocessor.table import TableCodec
from coprocessor.types import FieldType, Tp
from kvstore.client.api import PackedBatch, Reader, Storage

SEGMENT_ROWS = 65_536
BUDGET_BYTES_DEFAULT = 1 << 30
LOADS_MAX = 1024
FOREVER = 1 << 64

ColumnKey = tuple[int, FieldType, dt.tzinfo | None]


@dataclass(slots=True, eq=False)
class _Segment:
    """One key range of a table; `keys` is None while nothing has been built for it."""

    start: bytes
    end: bytes
    valid_from: int = FOREVER
    valid_until: int = 0
    keys: KeyColumn | None = None
    packed: PackedBatch | None = None
    columns: dict[ColumnKey, Any] = field(default_factory=dict)
    last_used: int = 0

    def serves(self, ts: int) -> bool:
        return self.keys is not None and self.valid_from <= ts < self.valid_until


@dataclass(slots=True, eq=False)
class _Table:
    """The segments of one table in key order, and the commits reported while some are being built."""

    start: bytes
    end: bytes
    segments: list[_Segment]
    starts: list[bytes]
    builder: threading.Lock = field(default_factory=threading.Lock)
    during_build: list[tuple[int, bytes]] | None = None


@dataclass(slots=True, eq=False)
class _Load:
    """A bulk load that was reported; `visible_by` is a timestamp at which its records were seen, 0 before."""

    commit_ts: int
    start: bytes
    end: bytes
    visible_by: int = 0


class SegmentCache:
    """Caches decoded tables within `budget_bytes`, for any number of threads. It observes `storage` from the start."""

    def __init__(self, storage: Storage, budget_bytes: int = BUDGET_BYTES_DEFAULT) -> None:
        self._storage = storage
        self.budget_bytes = budget_bytes
        self._mutex = threading.Lock()
        self._tables: dict[bytes, _Table] = {}
        self._loads: list[_Load] = []
        self._clock = 0
        self._bytes = 0
        self._builds = 0
        self._decodes = 0
        storage.observe(self)

    # What the store reports

    def on_commit(self, commit_ts: int, writes: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Ends the segments that the commit's keys fall in."""
        tables = self._tables
        if not tables:
            return
        with self._mutex:
            for key, _ in writes:
                table = tables.get(key[:RECORD_PREFIX_LEN])
                if table is None:
                    continue
                if table.during_build is not None:
                    table.during_build.append((commit_ts, key))
                _end_segment(table, key, commit_ts)

    def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
        """Forgets the tables whose records the range touches, and remembers the load."""
        with self._mutex:
            self._loads = [load for load in self._loads if (load.start, load.end) != (start, end)]
            self._loads = [*self._loads[-(LOADS_MAX - 1) :], _Load(commit_ts, start, end)]
            for prefix, table in list(self._tables.items()):
                if start < table.end and (not end or table.start < end):
                    for segment in table.segments:
                        segment.valid_until = min(segment.valid_until, commit_ts)
                    self._forget(prefix)

    def drop(self, codec: TableCodec) -> None:
        """Forgets a table: after DROP or TRUNCATE."""
        with self._mutex:
            self._forget(codec.record_prefix)

    def _forget(self, prefix: bytes) -> None:
        table = self._tables.pop(prefix, None)
        if table is not None:
            self._bytes -= sum(_size(segment) for segment in table.segments)

    def clear(self) -> None:
        with self._mutex:
            for prefix in list(self._tables):
                self._forget(prefix)

    def stats(self) -> dict[str, int]:
        """Bytes held, tables, segments, segments built and columns decoded so far."""
        with self._mutex:
            segments = sum(len(table.segments) for table in self._tables.values())
            return {
                "bytes": self._bytes,
                "tables": len(self._tables),
                "segments": segments,
                "builds": self._builds,
                "decodes": self._decodes,
            }

    # Scans

    def scan(
        self,
        reader_ts: int,
        reader: Reader,
        codec: TableCodec,
        offsets: Sequence[int],
        tz: dt.tzinfo | None = None,
        *,
        dirty: Sequence[DirtyRow] = (),
    ) -> list[pa.RecordBatch]:
        """Returns the columns at `offsets` of the whole table as of `reader_ts`, in handle order.

        `dirty` are the reader's own buffered writes to the table's records, ascending; they are laid over the committed
        rows. `reader` is only asked for its timestamp's rows where no segment can serve it, and then may or may not
        merge those writes itself.
        """
        pieces = list(self._pieces(reader_ts, reader, codec, tuple(offsets), tz))
        if dirty:
            return merge_dirty(pieces, codec, dirty, offsets, tz)
        return [piece.batch for piece in pieces if piece.batch.num_rows]

    def _pieces(
        self, ts: int, reader: Reader, codec: TableCodec, offsets: tuple[int, ...], tz: dt.tzinfo | None
    ) -> Iterator[KeyedBatch]:
        table = self._table(codec)
        # A read waits for the commits below its timestamp that are on their way, and then they have been reported.
        next(iter(reader.scan(table.start, table.end)), None)
        decoder = BatchDecoder(codec.schema, offsets, tz)
        with self._mutex:
            segments = list(table.segments)
        for segment in segments:
            if segment.serves(ts):
                yield self._read(segment, ts, codec, offsets, tz)
                continue
            for fresh in self._rebuilt(table, segment, ts, codec):
                if fresh.serves(ts):
                    yield self._read(fresh, ts, codec, offsets, tz)
                else:
                    yield from _direct(reader, decoder, fresh)

    def _table(self, codec: TableCodec) -> _Table:
        with self._mutex:
            table = self._tables.get(codec.record_prefix)
            if table is None:
                start, end = codec.record_range
                table = _Table(start, end, [_Segment(start, end)], [start])
                self._tables[codec.record_prefix] = table
            return table

    def _rebuilt(self, table: _Table, stale: _Segment, ts: int, codec: TableCodec) -> list[_Segment]:
        """Returns segments that tile the stale one's range, built anew unless that was just done or `ts` is old."""
        with table.builder:
            with self._mutex:
                current = _covering(table, stale.start, stale.end)
                if all(s.serves(ts) or s.valid_until == FOREVER for s in current):
                    return current
                start, end = current[0].start, current[-1].end
                table.during_build = []
            try:
                built, ts_built = self._build(start, end)
            except BaseException:
                with self._mutex:
                    table.during_build = None
                raise
            with self._mutex:
                self._publish(table, current, built, ts_built, codec)
            return built

    def _build(self, start: bytes, end: bytes) -> tuple[list[_Segment], int]:
        """Scans a range at a fresh snapshot into segments; returns them and the snapshot's timestamp."""
        snapshot = self._storage.snapshot()
        batches = list(snapshot.scan_packed(start, end, batch_rows=SEGMENT_ROWS))
        newest = max((batch.newest_ts for batch in batches), default=0)
        filled = [batch for batch in batches if batch.count]
        if not filled:
            return [_Segment(start, end, newest, FOREVER, KeyColumn(_no_rows()))], snapshot.ts
        columns = [KeyColumn(batch) for batch in filled]
        starts = [start, *(keys[0] for keys in columns[1:]), end]
        built = [
            # A deleted key between two batches may have been met in either, so all take the newest of all.
            _Segment(starts[i], starts[i + 1], newest, FOREVER, keys, batch)
            for i, (keys, batch) in enumerate(zip(columns, filled, strict=True))
        ]
        return built, snapshot.ts

    def _publish(
        self, table: _Table, old: list[_Segment], built: list[_Segment], ts_built: int, codec: TableCodec
    ) -> None:
        """Puts built segments into the table's tiling, ended by the commits that came while they were built."""
        commits, table.during_build = table.during_build or [], None
        self._builds += len(built)
        starts = [segment.start for segment in built]
        for commit_ts, key in commits:
            if commit_ts > ts_built and built[0].start <= key < built[-1].end:
                segment = built[bisect_right(starts, key) - 1]
                segment.valid_until = min(segment.valid_until, commit_ts)
        settled = self._settle_loads(table, built, ts_built)
        if self._tables.get(codec.record_prefix) is not table or not settled:
            # A load that is not visible yet, or a table forgotten meanwhile, which reports no longer reach: what was
            # built serves nobody.
            for segment in built:
                segment.valid_until = 0
            return
        at = table.segments.index(old[0])
        table.segments[at : at + len(old)] = built
        table.starts[at : at + len(old)] = starts
        self._bytes += sum(_size(s) for s in built) - sum(_size(s) for s in old)
        self._shrink(built)

    def _settle_loads(self, table: _Table, built: list[_Segment], ts_built: int) -> bool:
        """Whether the bulk loads reported for the table are in what was built; bounds the readers it may serve.

        A load's records carry a commit_ts from its beginning, and it is reported before they are visible. Readers
        between the two go on seeing the table without them: none below the build's own timestamp is served.
        """
        for load in self._loads:
            if load.start >= table.end or (load.end and load.end <= table.start):
                continue
            if built[0].valid_from < load.commit_ts and not load.visible_by:
                return False
            load.visible_by = load.visible_by or ts_built
            for segment in built:
                segment.valid_from = max(segment.valid_from, load.visible_by)
        return True

    def _read(
        self, segment: _Segment, ts: int, codec: TableCodec, offsets: tuple[int, ...], tz: dt.tzinfo | None
    ) -> KeyedBatch:
        """Returns the wanted columns of a segment, decoding those that are not there."""
        wanted = [codec.schema.columns[offset] for offset in offsets]
        names = [_column_key(column, tz) for column in wanted]
        with self._mutex:
            self._clock += 1
            segment.last_used = self._clock
            found = dict(segment.columns)
            packed, keys = segment.packed, segment.keys
        assert keys is not None
        missing = [(offset, name) for offset, name in zip(offsets, names, strict=True) if name not in found]
        if missing:
            decoded = self._decode(segment, packed, ts, codec, [offset for offset, _ in missing], tz)
            found |= dict(zip((name for _, name in missing), decoded.columns, strict=True))
            self._keep(segment, codec, {name: found[name] for _, name in missing})
        if not wanted:
            batch = pa.RecordBatch.from_struct_array(pa.array([{}] * len(keys), pa.struct([])))
        else:
            schema = arrow_schema([c.name for c in wanted], [c.type for c in wanted], inside=True)
            batch = pa.RecordBatch.from_arrays([found[name] for name in names], schema=schema)
        return KeyedBatch(batch, keys, segment.start, segment.end)

    def _decode(
        self,
        segment: _Segment,
        packed: PackedBatch | None,
        ts: int,
        codec: TableCodec,
        offsets: list[int],
        tz: dt.tzinfo | None,
    ) -> pa.RecordBatch:
        decoder = BatchDecoder(codec.schema, offsets, tz)
        if packed is not None:
            return decoder.decode(packed)
        # The rows at any timestamp that the segment serves are the segment's rows.
        again = self._storage.snapshot(ts).scan_packed(segment.start, segment.end, batch_rows=SEGMENT_ROWS)
        batches = [decoder.decode(batch) for batch in again if batch.count]
        if not batches:
            return decoder.decode(_no_rows())
        return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]

    def _keep(self, segment: _Segment, codec: TableCodec, columns: dict[ColumnKey, Any]) -> None:
        with self._mutex:
            self._decodes += len(columns)
            table = self._tables.get(codec.record_prefix)
            if table is None or segment not in table.segments:
                return
            new = {name: column for name, column in columns.items() if name not in segment.columns}
            segment.columns.update(new)
            self._bytes += sum(_array_bytes(column) for column in new.values())
            self._shrink([segment])

    def _shrink(self, spare: Sequence[_Segment]) -> None:
        """Brings the cache under its budget: packed rows go first, then columns, least recently used first."""
        if self._bytes <= self.budget_bytes:
            return
        used = [s for table in self._tables.values() for s in table.segments]
        used.sort(key=lambda s: s.last_used)
        for segment in used:
            if self._bytes <= self.budget_bytes:
                return
            if segment.packed is not None:
                self._bytes -= _packed_bytes(segment.packed)
                segment.packed = None
        for segment in used:
            if self._bytes <= self.budget_bytes:
                return
            if segment not in spare or self._bytes > 2 * self.budget_bytes:
                self._bytes -= sum(_array_bytes(column) for column in segment.columns.values())
                segment.columns = {}


def _end_segment(table: _Table, key: bytes, commit_ts: int) -> None:
    segment = table.segments[bisect_right(table.starts, key) - 1]
    if commit_ts < segment.valid_until:
        segment.valid_until = commit_ts


def _covering(table: _Table, start: bytes, end: bytes) -> list[_Segment]:
    """The table's present segments over [start, end): a tiling is only ever refined, so they fit."""
    return [segment for segment in table.segments if start <= segment.start and segment.end <= end]


def _direct(reader: Reader, decoder: BatchDecoder, segment: _Segment) -> Iterator[KeyedBatch]:
    """Reads a segment's range at the reader's own timestamp."""
    batches = [b for b in reader.scan_packed(segment.start, segment.end, batch_rows=SEGMENT_ROWS) if b.count]
    keys = [KeyColumn(batch) for batch in batches]
    starts = [segment.start, *(column[0] for column in keys[1:]), segment.end]
    for i, batch in enumerate(batches):
        yield KeyedBatch(decoder.decode(batch), keys[i], starts[i], starts[i + 1])
    if not batches:
        yield KeyedBatch(decoder.decode(_no_rows()), KeyColumn(_no_rows()), segment.start, segment.end)


def _column_key(column: ColumnSchema, tz: dt.tzinfo | None) -> ColumnKey:
    return column.id, column.type, tz if column.type.tp == Tp.TIMESTAMP else None


def _no_rows() -> PackedBatch:
    none, data = np.empty(0, np.int64), np.empty(0, np.uint8)
    return PackedBatch(0, data, none, none, data, none, none, 0)


def _packed_bytes(packed: PackedBatch) -> int:
    return int(packed.values.nbytes + packed.keys.nbytes + 4 * packed.key_starts.nbytes)


def _array_bytes(array: Any) -> int:
    return int(array.get_total_buffer_size())


def _size(segment: _Segment) -> int:
    total = sum(_array_bytes(column) for column in segment.columns.values())
    if segment.keys is not None:
        total += segment.keys.nbytes
    return total + (_packed_bytes(segment.packed) if segment.packed is not None else 0)
