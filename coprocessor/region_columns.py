"""Decoded columns of the regions of a cluster's store: scans of whole regions do not decode again what stands.

    request ── locks of its range ── what was written is told ── segments (`segments.py`) ── columns
    apply   ── keys of commits ──> the segments that they end, which are patched when they are read again

A store has no schema. What requests say of a table's columns is put together, by the columns' ids, into one (`_Form`),
so that requests for other columns of the same rows share their keys and are edited together.

A reader at T has leave to read: from then on nothing commits at or below T unseen. It first looks for locks of its
range, then waits until what it may have seen was told (`RegionStore.wait_told`). So every commit at or below T is one
that was met as a lock, or is known to the segments. Fresh readers go by no timestamp: they show what is there.

Scans of parts of a region, backwards, or with a limit, read the rows themselves.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coprocessor.codec.keys import all_records, record_prefix, table_id_of
from coprocessor.dag.plan import ScanColumn, TableScan
from coprocessor.dag.scan import CUT, datum_types
from coprocessor.errors import CodecError
from coprocessor.schema import ColumnSchema, IndexColumn, TableSchema
from coprocessor.segments import SegmentCache
from coprocessor.table import KeyRange, TableCodec
from coprocessor.types import FieldType
from coprocessor.written import written_keys
from kvstore.client.api import Reader
from kvstore.raftstore.api import RegionStore
from kvstore.server.access import first_user_key
from kvstore.server.region_reader import RegionReader

if TYPE_CHECKING:
    from coprocessor.scan import KeyedBatch

_LEAST_HANDLE = bytes(8)

FORMS_MAX = 4096
"""Tables whose columns are remembered."""


class RegionColumns:
    """The columns that one store keeps. Its loop tells it of writes (`kvstore.raftstore.api.WriteObserver`); scans come
    from any thread."""

    def __init__(self, budget_bytes: int) -> None:
        self._cache = SegmentCache(None, budget_bytes)
        self._store: RegionStore | None = None
        self._mutex = threading.Lock()
        self._forms: dict[bytes, _Form] = {}

    def begin(self, store: RegionStore) -> None:
        """Follows a store's writes from now on."""
        assert self._store is None, "columns are of one store"
        self._store = store
        store.observe_writes(self)

    def stats(self) -> dict[str, int]:
        """See `SegmentCache.stats`."""
        return self._cache.stats()

    @property
    def losses(self) -> int:
        """To be read on the store's loop when a request has leave to read, and given to `scan`."""
        return self._cache.losses

    # What the store's loop tells

    def on_written(self, records: Sequence[bytes]) -> None:
        if self._cache.is_empty:
            return
        written = list(written_keys(records, self._cache.is_followed))
        if written:
            self._cache.note(written)

    def on_range_changed(self, start: bytes, end: bytes) -> None:
        self._cache.lose(first_user_key(start), first_user_key(end))

    # Scans

    def scan(
        self, scan: TableScan, key_range: KeyRange, reader: Reader, tz: dt.tzinfo, since: int
    ) -> Iterator[KeyedBatch] | None:
        """The columns of a range of records as `reader` sees them, in parts that end where segments do; None where it
        has to read the rows itself.

        `since` is what `losses` was. Raises what the reader does, MetLock before anything is given.
        """
        if self._store is None or not isinstance(reader, RegionReader) or not reader.is_plain or scan.desc:
            return None
        if scan.repeats_columns:
            return None
        start, end = key_range
        prefix = record_prefix(table_id_of(start))
        first, high = all_records(table_id_of(start))
        low = max(reader.bounds[0], first)
        if start <= prefix + _LEAST_HANDLE:
            # TiDB begins with the least handle, others with the prefix: there is no record before any of them
            start = first
            key_range = (start, end)
        if reader.bounds[1]:
            high = min(high, reader.bounds[1])
        if end != high or not (start == low or self._cache.begins_at(prefix, start)):
            return None
        form = self._form(scan, prefix, reader, key_range)
        if form is None:
            return None
        offsets = [form.places[column.id] for column in scan.columns]
        return self._scan(form.codec, offsets, key_range, reader, tz, since)

    def _scan(
        self,
        codec: TableCodec,
        offsets: Sequence[int],
        key_range: KeyRange,
        reader: RegionReader,
        tz: dt.tzinfo,
        since: int,
    ) -> Iterator[KeyedBatch]:
        assert self._store is not None
        views = _Rows(reader, self._store)
        for piece in self._cache.pieces(reader.ts, reader, views, codec, offsets, tz, key_range=key_range, since=since):
            reader.check()
            reader.count(piece.batch.num_rows, piece.batch.nbytes)
            yield piece
        if not self._cache.is_at_rest(codec.record_prefix, *key_range, reader.ts):
            reader.is_stable = False

    def _form(self, scan: TableScan, prefix: bytes, reader: RegionReader, key_range: KeyRange) -> _Form | None:
        """What is known of the table, with the scan's columns; None where a damaged key tells nothing."""
        with self._mutex:
            known = self._forms.get(prefix)
        form = _extended(known, scan, table_id_of(prefix), ())
        if form is None:  # a column of the key that no request has named yet
            first = next(iter(reader.newest().scan(*key_range)), None)
            if first is None:
                return None
            try:
                form = _extended(known, scan, table_id_of(prefix), datum_types(first[0], len(scan.primary_columns)))
            except (CodecError, IndexError):
                return None
        if form is not None and form is not known:
            with self._mutex:
                if len(self._forms) >= FORMS_MAX:
                    self._forms.pop(next(iter(self._forms)))
                self._forms[prefix] = form
        return form


class _Rows:
    """See `segments.Views`: the rows of a region, as one request may read them."""

    shows_reported = True

    def __init__(self, reader: RegionReader, store: RegionStore) -> None:
        self._reader = reader
        self._store = store

    def settle(self, start: bytes, end: bytes) -> None:
        self._reader.check_locks(start, end)
        self._store.wait_told()

    def fresh(self, start: bytes, end: bytes) -> Reader:
        return self._reader.newest()

    def told(self) -> None:
        self._store.wait_told()

    def at(self, ts: int) -> Reader:
        return self._reader.newest(ts)


@dataclass(frozen=True, slots=True)
class _Form:
    """The columns of a table that requests have named, as one schema; of columns of its key that none has named the
    kind of their datums is known."""

    codec: TableCodec
    places: dict[int, int]


def _extended(known: _Form | None, scan: TableScan, table_id: int, key_types: Sequence[FieldType]) -> _Form | None:
    """The form with a scan's columns; None when a column of the key is not known and no `key_types` are given."""
    columns = [] if known is None else list(known.codec.schema.columns)
    places = {} if known is None else dict(known.places)
    handle = -1 if known is None else known.codec.schema.handle_offset
    changed = known is None
    for named in scan.columns:
        column = _column(named)
        place = places.get(column.id)
        if place is None:
            places[column.id] = len(columns)
            columns.append(column)
            changed = True
        elif columns[place] != column:
            columns[place] = column
            changed = True
        if named.is_handle and handle != places[column.id]:
            handle, changed = places[column.id], True
    for at, column_id in enumerate(scan.primary_columns):
        if column_id not in places:
            if not key_types:
                return None
            places[column_id] = len(columns)
            columns.append(ColumnSchema(column_id, "", key_types[at], True))
            changed = True
    parts = tuple(IndexColumn(places[i], CUT if i in scan.primary_prefixes else -1) for i in scan.primary_columns)
    if handle >= 0 and not columns[handle].type.is_integer:
        return None
    if not changed and known is not None and (handle >= 0 or known.codec.schema.common_handle == parts):
        return known
    schema = TableSchema(table_id, "", tuple(columns), handle, parts if handle < 0 else ())
    return _Form(TableCodec(schema), places)


def _column(named: ScanColumn) -> ColumnSchema:
    return ColumnSchema(named.id, "", named.type, named.not_null, named.default)
