"""The segment cache: decoded columns of whole tables, so that repeated scans of unchanged data do not decode again.

A table's records are tiled by *segments*, key ranges of about `SEGMENT_ROWS` rows. A segment holds the rows that are
live for every read timestamp T with valid_from <= T < valid_until: valid_from is the newest commit that its rows show,
valid_until the first commit after that wrote into its range, told by the store through `on_commit`. A scan uses the
segments valid at its timestamp; one that a commit has ended is renewed, and only that one.

*Renewal.* A segment remembers the keys that commits after `known_from` wrote, each with its newest commit. When few of
them are newer than its rows, those keys alone are read and laid over the rows. When many are, the range is scanned
again. A reader older than the rows goes the other way: over a copy of the rows it lays, as of its own timestamp, all
keys written since; when that is not known any more, it reads the range directly.

A renewal is free of races without stopping writers: the table is marked as being built, then a *fresh* reader is
taken. What it shows of the commits is in what is read; every other one is reported while the mark stands, and is
applied to the new segments before they are published.

*Where the rows are* is the business of `Views`: in an embedded store, whose commits are reported at their timestamps,
or in a region of a cluster's store, where they are reported as they are written (`region_columns.py`).

*Memory.* A scan is decoded batch by batch; packed rows go at once, but for a share of the budget that keeps those of
small tables for columns that are asked for later. Without them a further column costs a scan of its segment. Beyond the
budget packed rows go first, then columns, then whole segments, each least recently used first.

Caveats
- A commit below a reader's timestamp may still be on its way to the disk when the reader comes. A read of the range
  waits for it, and the store reports a commit before it lets such readers go on; so a scan reads one row first.
- A bulk load is reported before its records are visible. Until a build has met them, nothing of the table is cached.
- The columns that one scan returns are alive until it ends, whatever the budget says.
"""

from __future__ import annotations

import datetime as dt
import os
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import pyarrow as pa

from coprocessor.codec.key_column import KeyColumn
from coprocessor.codec.keys import RECORD_PREFIX_LEN
from coprocessor.codec.vector import BatchDecoder, empty_columns
from coprocessor.scan import DirtyRow, KeyedBatch, merge_dirty
from coprocessor.segment_rows import ColumnKey, RowsBuilder, SegmentRows, caught_up, column_keys, decode_more, edited
from coprocessor.table import KeyRange, TableCodec
from kvstore.client.api import LocalStorage, PackedBatch, Parts, Reader
from kvstore.mvcc.packed import pack_pairs

SEGMENT_ROWS = 65_536
BUDGET_BYTES_MAX = 1 << 30
RAM_SHARE = 8
PACKED_SHARE = 8
"""Packed rows may take one part in so many of the budget."""
PATCH_SHARE = 10
"""A segment is patched while at most one key in so many has changed, and scanned again beyond."""
CHANGES_MIN = 64
"""So many changed keys are remembered however small the segment is."""
LOADS_MAX = 1024
LOSSES_MAX = 1024
FOREVER = 1 << 64


def default_budget() -> int:
    """An eighth of the memory, at most 1 GiB."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return BUDGET_BYTES_MAX // 4  # a system that does not tell
    return min(BUDGET_BYTES_MAX, memory // RAM_SHARE)


@dataclass(slots=True, eq=False)
class _Segment:
    """One key range of a table; `rows` is None while nothing has been built for it.

    `changes` has every key of the range that commits after `known_from` wrote, with the newest such commit; FOREVER
    when there were too many to remember.
    """

    start: bytes
    end: bytes
    valid_from: int = FOREVER
    valid_until: int = 0
    rows: SegmentRows | None = None
    known_from: int = FOREVER
    changes: dict[bytes, int] = field(default_factory=dict)
    last_used: int = 0
    nbytes: int = 0
    packed_bytes: int = 0

    def serves(self, ts: int) -> bool:
        return self.rows is not None and self.valid_from <= ts < self.valid_until

    def note(self, commit_ts: int, key: bytes) -> None:
        """Takes in that a commit later than the rows wrote `key`."""
        self.valid_until = min(self.valid_until, commit_ts)
        if self.known_from == FOREVER:
            return
        self.changes[key] = max(commit_ts, self.changes.get(key, 0))
        if len(self.changes) > self._changes_max():
            self._forget_old_changes()

    def _changes_max(self) -> int:
        rows = 0 if self.rows is None else len(self.rows.keys)
        return max(CHANGES_MIN, 2 * rows // PATCH_SHARE)

    def _forget_old_changes(self) -> None:
        """Gives up what only older readers need, or everything when newer readers need too much.

        Regions apply commits in another order than that of their timestamps: from `valid_until` on the rows lack some.
        """
        bound = min(self.valid_from, self.valid_until - 1)
        self.changes = {key: newest for key, newest in self.changes.items() if newest > bound}
        self.known_from = self.valid_from
        if len(self.changes) > self._changes_max() // 2:
            self.changes, self.known_from = {}, FOREVER

    def changed_since(self, ts: int) -> list[bytes]:
        """The keys in which the rows may differ from what a reader at `ts` sees, ascending; known_from <= ts."""
        bound = min(ts, self.valid_until - 1)
        return sorted([key for key, newest in self.changes.items() if newest > bound])


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


class Views(Protocol):
    """The rows that lie under a cache, as one scan may read them."""

    @property
    def shows_reported(self) -> bool:
        """Whether a fresh reader shows every commit that was reported before it reads, whatever its timestamp."""

    def settle(self, start: bytes, end: bytes) -> None:
        """Returns when every commit to the range that the scan's reader sees was reported."""

    def fresh(self, start: bytes, end: bytes) -> Reader:
        """A reader at a timestamp not below the scan's; what it sees of the range was reported by now."""

    def told(self) -> None:
        """Returns when all commits that a fresh reader has shown were reported."""

    def at(self, ts: int) -> Reader:
        """A reader at the scan's timestamp or another that was settled."""


class _Snapshots:
    """The rows of an embedded store."""

    shows_reported = False

    def __init__(self, storage: LocalStorage, reader: Reader) -> None:
        self._storage = storage
        self._reader = reader

    def settle(self, start: bytes, end: bytes) -> None:
        _wait_reported(self._reader, start, end)

    def fresh(self, start: bytes, end: bytes) -> Reader:
        snapshot = self._storage.snapshot()
        _wait_reported(snapshot, start, end)
        return snapshot

    def told(self) -> None:
        """They were when it was made."""

    def at(self, ts: int) -> Reader:
        return self._storage.snapshot(ts)


def _wait_reported(reader: Reader, start: bytes, end: bytes) -> None:
    """A read waits for the commits below its timestamp that are on their way, and then they have been reported."""
    next(iter(reader.scan(start, end)), None)


@dataclass(slots=True, frozen=True)
class _Scan:
    """What one scan wants."""

    ts: int
    reader: Reader
    views: Views
    start: bytes
    end: bytes
    since: int
    codec: TableCodec
    offsets: tuple[int, ...]
    tz: dt.tzinfo | None
    names: tuple[ColumnKey, ...]
    decoder: BatchDecoder


class SegmentCache:
    """Caches decoded tables within `budget_bytes`, for any number of threads. It observes `storage` from the start;
    without one (None) its owner reports, and scans bring their views."""

    def __init__(self, storage: LocalStorage | None, budget_bytes: int | None = None) -> None:
        self._storage = storage
        self.budget_bytes = default_budget() if budget_bytes is None else budget_bytes
        self._mutex = threading.Lock()
        self._tables: dict[bytes, _Table] = {}
        self._loads: list[_Load] = []
        self._losses: list[KeyRange] = []
        self._lost = 0
        self._clock = 0
        self._bytes = 0
        self._packed_bytes = 0
        self._builds = 0
        self._patches = 0
        self._decodes = 0
        self._born = 0
        """Older readers are served directly: what was reported before is not known."""
        if storage is not None:
            storage.observe(self)
            self._born = storage.now_ts()

    # What the store reports

    def on_commit(
        self, commit_ts: int, writes: Sequence[tuple[bytes, bytes | None]], patches: Mapping[bytes, Parts]
    ) -> None:
        """Ends the segments that the commit's keys fall in."""
        if self._tables:
            self.note([(commit_ts, key) for key, _ in writes])

    @property
    def is_empty(self) -> bool:
        """Whether there is no table."""
        return not self._tables

    def is_followed(self, key: bytes) -> bool:
        """Whether the record key is of a table that is here."""
        return key[:RECORD_PREFIX_LEN] in self._tables

    def note(self, written: Iterable[tuple[int, bytes]]) -> None:
        """Ends the segments that keys fall in, which commits at these timestamps wrote."""
        tables = self._tables
        with self._mutex:
            for commit_ts, key in written:
                table = tables.get(key[:RECORD_PREFIX_LEN])
                if table is None:
                    continue
                if table.during_build is not None:
                    table.during_build.append((commit_ts, key))
                table.segments[bisect_right(table.starts, key) - 1].note(commit_ts, key)

    def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
        """Forgets the tables whose records the range touches, and remembers the load."""
        with self._mutex:
            self._loads = [load for load in self._loads if (load.start, load.end) != (start, end)]
            self._loads = [*self._loads[-(LOADS_MAX - 1) :], _Load(commit_ts, start, end)]
            self._give_up(start, end, commit_ts)

    def drop(self, codec: TableCodec) -> None:
        """Forgets a table: after DROP or TRUNCATE."""
        with self._mutex:
            self._forget(codec.record_prefix)

    def lose(self, start: bytes, end: bytes) -> None:
        """Forgets the tables that have records in a range (an empty end: no bound), and what is being built of them."""
        with self._mutex:
            self._losses = [*self._losses[-(LOSSES_MAX - 1) :], (start, end)]
            self._lost += 1
            self._give_up(start, end, 0)

    def _give_up(self, start: bytes, end: bytes, ts: int) -> None:
        """Forgets the tables in a range; for scans that are on their way their segments end at `ts`."""
        for prefix, table in list(self._tables.items()):
            if _overlap((start, end), (table.start, table.end)):
                for segment in table.segments:
                    segment.valid_until = min(segment.valid_until, ts)
                    segment.changes, segment.known_from = {}, FOREVER
                self._forget(prefix)

    @property
    def losses(self) -> int:
        """How often something was lost. A scan that began when it was less may not know of it."""
        return self._lost

    def _was_lost(self, table: _Table, since: int) -> bool:
        """Whether some of a table was lost after `since` losses."""
        new = self._lost - since
        return new > len(self._losses) or any(
            _overlap(one, (table.start, table.end)) for one in self._losses[len(self._losses) - new :]
        )

    def begins_at(self, prefix: bytes, key: bytes) -> bool:
        """Whether a segment of the table with this prefix of records begins at a key."""
        with self._mutex:
            table = self._tables.get(prefix)
            return table is not None and table.start <= key and _begins_at(table, key)

    def is_at_rest(self, prefix: bytes, start: bytes, end: bytes, ts: int) -> bool:
        """Whether the segments of a range are here, and no commit above `ts` is known in it."""
        with self._mutex:
            table = self._tables.get(prefix)
            segments = [] if table is None else [s for s in table.segments if s.start < end and start < s.end]
            return bool(segments) and all(s.serves(ts) and s.valid_until == FOREVER for s in segments)

    def _forget(self, prefix: bytes) -> None:
        table = self._tables.pop(prefix, None)
        if table is not None:
            for segment in table.segments:
                self._count_bytes(segment, None)

    def clear(self) -> None:
        with self._mutex:
            for prefix in list(self._tables):
                self._forget(prefix)

    def stats(self) -> dict[str, int]:
        """Bytes held (packed ones also apart), tables, segments; segments built, patched, columns decoded so far."""
        with self._mutex:
            segments = sum(len(table.segments) for table in self._tables.values())
            return {
                "bytes": self._bytes,
                "packed_bytes": self._packed_bytes,
                "tables": len(self._tables),
                "segments": segments,
                "builds": self._builds,
                "patches": self._patches,
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
        assert self._storage is not None
        views = _Snapshots(self._storage, reader)
        pieces = list(self.pieces(reader_ts, reader, views, codec, offsets, tz))
        if dirty:
            return merge_dirty(pieces, codec, dirty, offsets, tz)
        return [piece.batch for piece in pieces if piece.batch.num_rows]

    def pieces(
        self,
        reader_ts: int,
        reader: Reader,
        views: Views,
        codec: TableCodec,
        offsets: Sequence[int],
        tz: dt.tzinfo | None = None,
        *,
        key_range: KeyRange | None = None,
        since: int | None = None,
    ) -> Iterator[KeyedBatch]:
        """Yields what `scan` gives, of a range of the table (None: all of it), with the keys; some may be empty.

        What is lost after `since` losses (None: from now on) is not kept.
        """
        wanted = tuple(offsets)
        names = tuple(column_keys(codec.schema, wanted, tz))
        start, end = codec.record_range if key_range is None else key_range
        decoder = BatchDecoder(codec.schema, wanted, tz)
        try:
            known = self._lost if since is None else since
            scan = _Scan(reader_ts, reader, views, start, end, known, codec, wanted, tz, names, decoder)
            yield from self._pieces(scan)
        finally:
            # Only now: what this scan has just decoded is not to be decoded again for itself.
            with self._mutex:
                self._shrink()

    def _pieces(self, scan: _Scan) -> Iterator[KeyedBatch]:
        table = self._table(scan.codec)
        for bound in (scan.start, scan.end):
            self._cut(table, bound)
        scan.views.settle(scan.start, scan.end)
        with self._mutex:
            segments = [s for s in table.segments if scan.start <= s.start and s.end <= scan.end]
        for segment in segments:
            if segment.serves(scan.ts):
                yield self._read(segment, scan)
                continue
            for fresh in self._renewed(table, segment, scan):
                if fresh.serves(scan.ts):
                    yield self._read(fresh, scan)
                else:
                    yield from self._apart(fresh, scan)

    def _cut(self, table: _Table, at: bytes) -> None:
        """Has a segment of a table end at a key. What it held is given up: bounds of regions move seldom."""
        with self._mutex:
            if at in (table.start, table.end) or _begins_at(table, at):
                return
        with table.builder, self._mutex:
            if _begins_at(table, at):
                return
            place = bisect_right(table.starts, at) - 1
            whole = table.segments[place]
            self._count_bytes(whole, None)
            table.segments[place : place + 1] = [_Segment(whole.start, at), _Segment(at, whole.end)]
            table.starts[place : place + 1] = [whole.start, at]

    def _table(self, codec: TableCodec) -> _Table:
        with self._mutex:
            table = self._tables.get(codec.record_prefix)
            if table is None:
                start, end = codec.record_range
                table = _Table(start, end, [_Segment(start, end)], [start])
                self._tables[codec.record_prefix] = table
            return table

    def _read(self, segment: _Segment, scan: _Scan) -> KeyedBatch:
        """Returns the wanted columns of a segment that serves the scan, decoding those that are not there."""
        with self._mutex:
            self._clock += 1
            segment.last_used = self._clock
            rows = segment.rows
        assert rows is not None
        self._catch_up(segment, rows, scan)
        with self._mutex:
            found, values = dict(rows.columns), rows.values
        missing = [i for i, name in enumerate(scan.names) if name not in found]
        if missing:
            # The rows at any timestamp that the segment serves are the segment's rows.
            decoder = BatchDecoder(scan.codec.schema, [scan.offsets[i] for i in missing], scan.tz)
            reader = scan.views.at(scan.ts)
            decoded = decode_more(
                rows, values, decoder, lambda: reader.scan_packed(segment.start, segment.end, batch_rows=SEGMENT_ROWS)
            )
            for i, column in zip(missing, decoded, strict=True):
                found[scan.names[i]] = column
            self._keep(segment, rows, scan, [scan.names[i] for i in missing], found)
        return _keyed(segment, rows.keys, found, scan)

    def _catch_up(self, segment: _Segment, rows: SegmentRows, scan: _Scan) -> None:
        """Brings columns that edits passed by up to date when the scan wants one of them."""
        lag = rows.lag
        if lag is None or not any(name in lag.columns for name in scan.names):
            return
        columns = caught_up(lag, scan.codec.schema)
        with self._mutex:
            if rows.lag is lag:
                rows.columns |= columns
                rows.lag = None
                if segment.nbytes:
                    self._count_bytes(segment, rows)

    def _keep(
        self,
        segment: _Segment,
        rows: SegmentRows,
        scan: _Scan,
        names: Sequence[ColumnKey],
        found: dict[ColumnKey, pa.Array],
    ) -> None:
        with self._mutex:
            self._decodes += len(names)
            table = self._tables.get(scan.codec.record_prefix)
            if table is None or segment not in table.segments or segment.rows is not rows:
                return
            for name in names:
                rows.columns.setdefault(name, found[name])
            if len(rows.columns) >= len(scan.codec.schema.columns):
                rows.values = None
            self._count_bytes(segment, rows)

    def _apart(self, segment: _Segment, scan: _Scan) -> Iterator[KeyedBatch]:
        """Gives a segment's range as of a timestamp that it does not serve, for this scan alone."""
        if segment.rows is not None:
            self._catch_up(segment, segment.rows, scan)
        with self._mutex:
            rows = segment.rows
            known = rows is not None and segment.known_from <= scan.ts and all(n in rows.columns for n in scan.names)
            changed = segment.changed_since(scan.ts) if known else []
            base = SegmentRows(rows.keys, {n: rows.columns[n] for n in scan.names}) if rows and known else None
        if base is None or len(changed) > max(CHANGES_MIN, len(base.keys) // PATCH_SHARE):
            yield from _direct(scan, segment)
            return
        values = scan.reader.batch_get(changed)
        seen = edited(base, scan.codec.schema, [(key, values.get(key)) for key in changed], scan.names)
        yield _keyed(segment, seen.keys, seen.columns, scan)

    # Renewal

    def _renewed(self, table: _Table, stale: _Segment, scan: _Scan) -> list[_Segment]:
        """Returns segments that tile the stale one's range, renewed unless that was just done or the scan is old."""
        out: list[_Segment] = []
        with table.builder:
            with self._mutex:
                current = [s for s in table.segments if stale.start <= s.start and s.end <= stale.end]
            for segment in current:
                if segment.serves(scan.ts) or segment.valid_until == FOREVER:
                    out.append(segment)
                else:
                    out += self._renew(table, segment, scan)
        return out

    def _renew(self, table: _Table, stale: _Segment, scan: _Scan) -> list[_Segment]:
        with self._mutex:
            table.during_build = []
            patch = _is_patchable(stale)
            known = replace(stale, changes=dict(stale.changes))
        try:
            if patch:
                built, ts_built = self._patched(table, known, scan)
            else:
                built, ts_built = self._build(table, stale, scan)
        except BaseException:
            with self._mutex:
                table.during_build = None
            raise
        with self._mutex:
            self._publish(table, stale, built, ts_built, scan, patch)
        return built

    def _patched(self, table: _Table, known: _Segment, scan: _Scan) -> tuple[list[_Segment], int]:
        """Lays the keys changed since over a segment's rows, as of a fresh snapshot."""
        snapshot = scan.views.fresh(known.start, known.end)
        # Whatever is at or below the snapshot has been reported by now, before the mark or since.
        with self._mutex:
            for commit_ts, key in table.during_build or ():
                if commit_ts <= snapshot.ts and known.start <= key < known.end:
                    known.note(commit_ts, key)
            settled = _settled(table, scan, snapshot)
            assert known.rows is not None
            base = known.rows.copy()
        if known.known_from == FOREVER:
            # Too much came meanwhile; what is known of it serves nobody, and the next scan builds.
            return [_Segment(known.start, known.end)], settled
        changed = known.changed_since(snapshot.ts)
        values = snapshot.batch_get(changed)
        rows = edited(base, scan.codec.schema, [(key, values.get(key)) for key in changed], scan.names)
        newest = max((known.valid_from, *(known.changes[key] for key in changed)))
        if scan.views.shows_reported:
            # a value may be that of a later commit than the one that was known
            scan.views.told()
            read = frozenset(changed)
            with self._mutex:
                newest = max((newest, *(commit_ts for commit_ts, key in table.during_build or () if key in read)))
        fresh = _Segment(known.start, known.end, newest, FOREVER, rows, known.known_from, known.changes)
        fresh.last_used = known.last_used
        return [fresh], settled

    def _build(self, table: _Table, stale: _Segment, scan: _Scan) -> tuple[list[_Segment], int]:
        """Scans a range by a fresh reader into segments; returns them and what `_settled` gives."""
        snapshot = scan.views.fresh(stale.start, stale.end)
        with self._mutex:
            settled = _settled(table, scan, snapshot)
        newest = 0

        def batches() -> Iterator[PackedBatch]:
            nonlocal newest
            for batch in snapshot.scan_packed(stale.start, stale.end, batch_rows=SEGMENT_ROWS):
                newest = max(newest, batch.newest_ts)
                yield batch

        room = min(self.budget_bytes // PACKED_SHARE - self._packed_bytes, self.budget_bytes - self._bytes)
        builder = RowsBuilder(scan.codec, scan.decoder, SEGMENT_ROWS // 2, max(0, room))
        runs = list(builder.build(batches()))
        if not runs:
            runs = [SegmentRows(KeyColumn.joined(scan.codec.record_prefix, []), {})]
        bounds = [stale.start, *(rows.keys[0] for rows in runs[1:]), stale.end]
        # A deleted key between two runs may have been met in either, so all take the newest of all.
        return [
            _Segment(start, end, newest, FOREVER, rows, newest)
            for rows, (start, end) in zip(runs, pairwise(bounds), strict=True)
        ], settled

    def _publish(
        self, table: _Table, old: _Segment, built: list[_Segment], ts_built: int, scan: _Scan, patch: bool
    ) -> None:
        """Puts built segments into the table's tiling, ended by the commits that came while they were built."""
        commits, table.during_build = table.during_build or [], None
        starts = [segment.start for segment in built]
        for commit_ts, key in commits:
            if commit_ts > ts_built and built[0].start <= key < built[-1].end:
                built[bisect_right(starts, key) - 1].note(commit_ts, key)
        settled = patch or self._settle_loads(table, built, ts_built)
        lost = self._was_lost(table, scan.since)
        if self._tables.get(scan.codec.record_prefix) is not table or not settled or lost:
            # A load that is not visible yet, or a table forgotten meanwhile, which reports no longer reach: what was
            # built serves nobody.
            for segment in built:
                segment.valid_until, segment.known_from = 0, FOREVER
            return
        if patch:
            self._patches += 1
        else:
            self._builds += len(built)
            self._decodes += len(built) * len(scan.names)
        # what the budget had no room for meanwhile has an empty segment in its place
        at = bisect_right(table.starts, old.start) - 1
        self._count_bytes(table.segments[at], None)
        table.segments[at : at + 1] = built
        table.starts[at : at + 1] = starts
        for segment in built:
            self._count_bytes(segment, segment.rows)

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
                segment.known_from = max(segment.known_from, segment.valid_from)
        for segment in built:  # of loads before the cache was made nothing is known
            segment.valid_from = max(segment.valid_from, self._born)
            segment.known_from = max(segment.known_from, self._born)
        return True

    # Memory

    def _count_bytes(self, segment: _Segment, rows: SegmentRows | None) -> None:
        """Counts what a segment holds now; None for one that leaves the cache."""
        total, packed = (0, 0) if rows is None else (rows.nbytes, rows.value_bytes)
        self._bytes += total - segment.nbytes
        self._packed_bytes += packed - segment.packed_bytes
        segment.nbytes, segment.packed_bytes = total, packed

    def _shrink(self) -> None:
        """Brings the cache under its budget."""
        if self._bytes <= self.budget_bytes:
            return
        used = [(table, s) for table in self._tables.values() for s in table.segments if s.rows is not None]
        used.sort(key=lambda pair: pair[1].last_used)
        for drop in (self._drop_values, self._drop_columns, self._drop_rows):
            for table, segment in used:
                if self._bytes <= self.budget_bytes:
                    return
                drop(table, segment)

    def _drop_values(self, table: _Table, segment: _Segment) -> None:
        if segment.rows is not None:
            segment.rows.values = None
            self._count_bytes(segment, segment.rows)

    def _drop_columns(self, table: _Table, segment: _Segment) -> None:
        if segment.rows is not None:
            segment.rows.columns, segment.rows.lag = {}, None
            self._count_bytes(segment, segment.rows)

    def _drop_rows(self, table: _Table, segment: _Segment) -> None:
        """Puts an empty segment in the place of this one, which scans on their way may still be reading."""
        self._count_bytes(segment, None)
        table.segments[table.segments.index(segment)] = _Segment(segment.start, segment.end)


def _overlap(one: KeyRange, other: KeyRange) -> bool:
    return (not other[1] or one[0] < other[1]) and (not one[1] or other[0] < one[1])


def _settled(table: _Table, scan: _Scan, fresh: Reader) -> int:
    """The timestamp up to which the fresh reader shows the commits that are reported while it reads.

    Those that were reported before are noted already, or read anew: a reader that shows them all forgets them.
    """
    if not scan.views.shows_reported:
        return fresh.ts
    if table.during_build is not None:
        table.during_build.clear()
    return 0


def _begins_at(table: _Table, key: bytes) -> bool:
    """Whether a segment of the table begins at a key."""
    return table.starts[bisect_right(table.starts, key) - 1] == key


def _is_patchable(segment: _Segment) -> bool:
    """Whether few enough keys have changed, all of them known, and the segment has not grown too large."""
    if segment.rows is None or segment.known_from == FOREVER:
        return False
    count = len(segment.rows.keys)
    changed = len(segment.changed_since(FOREVER))
    return count <= 2 * SEGMENT_ROWS and changed <= max(CHANGES_MIN, count // PATCH_SHARE)


def _keyed(segment: _Segment, keys: KeyColumn, columns: dict[ColumnKey, pa.Array], scan: _Scan) -> KeyedBatch:
    if not scan.names:
        return KeyedBatch(empty_columns(len(keys)), keys, segment.start, segment.end)
    arrays = [columns[name] for name in scan.names]
    batch = pa.RecordBatch.from_arrays(arrays, schema=scan.decoder.arrow_schema)
    return KeyedBatch(batch, keys, segment.start, segment.end)


def _direct(scan: _Scan, segment: _Segment) -> Iterator[KeyedBatch]:
    """Reads a segment's range at the reader's own timestamp."""
    builder = RowsBuilder(scan.codec, scan.decoder, SEGMENT_ROWS // 2, 0)
    runs = list(builder.build(scan.reader.scan_packed(segment.start, segment.end, batch_rows=SEGMENT_ROWS)))
    if not runs:
        empty = scan.decoder.decode(pack_pairs([], 0))
        yield KeyedBatch(empty, KeyColumn.joined(scan.codec.record_prefix, []), segment.start, segment.end)
        return
    bounds = [segment.start, *(rows.keys[0] for rows in runs[1:]), segment.end]
    for rows, (start, end) in zip(runs, pairwise(bounds), strict=True):
        yield _keyed(_Segment(start, end), rows.keys, rows.columns, scan)
