"""Filling a new index from the rows that are there, and looking rows through for NULLs.

A batch reads rows of a snapshot, encodes their entries in bulk, closes the index's range to writers for as long as it
takes to write one sorted file, and adds the entries that no writer has touched since the snapshot. No row is locked and
nothing is checked row by row. That is right because of what writers do in the states of an index that is being built:

- who changes, moves or removes a row *deletes the entry of the old values* by its key, and puts the new one;
- so an entry that was right at the snapshot and that nobody touched since is still right, and one that somebody
  touched is as that writer left it, which is right too: the batch leaves it alone (`IndexWatch` has their keys);
- between the closing of the range and its opening no writer commits an entry, and all before were reported.

Two rows with one key of a unique index are found in three ways: side by side in a sorted batch; by a writer, who finds
the other row's entry; and, when they are in different batches or one of them is a writer's, because one entry then
stands for two rows: in one snapshot there are fewer entries than rows. (Entries are only ever of rows: whoever takes
the values from a row deletes the entry. So equal counts mean that every row has its own.)
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from kvstore.errors import Cancelled, StoreError, TxnError
from sqlfront.catalog.pushed_columns import pushed_columns
from sqlfront.errors import DatabaseError, error

if TYPE_CHECKING:
    from coprocessor.codec.vector_encode import IndexRun
    from coprocessor.schema import IndexSchema
    from kvstore.client.api import CancelToken, LocalStorage, PackedBatch, Parts, Reader, Storage
    from sqlfront.catalog.model import Index, Table

BATCH_ROWS = 262_144
"""Rows of one batch: writers of the table wait while so many entries are written (about 0.3 s)."""
SCAN_ROWS = 65_536
STALLED_S_MAX = 50.0
"""How long one batch may be tried over and over before the change is given up (error 1205)."""
BACKOFF_S_MAX = 0.1


class IndexWatch:
    """Notes which index entries transactions write while indexes are built; observes one storage's commits."""

    def __init__(self) -> None:
        self._followed: tuple[Touched, ...] = ()

    @contextmanager
    def follow(self, table_ids: Sequence[int], index_ids: Sequence[int]) -> Iterator[Touched]:
        """Notes the written entries of some indexes of a table, or of its partitions, until the block ends."""
        touched = Touched(table_ids, index_ids)
        self._followed = (*self._followed, touched)
        try:
            yield touched
        finally:
            self._followed = tuple(t for t in self._followed if t is not touched)

    def on_commit(
        self, commit_ts: int, writes: Sequence[tuple[bytes, bytes | None]], patches: Mapping[bytes, Parts]
    ) -> None:
        for touched in self._followed:
            touched.note(writes)

    def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
        """Bulk loads of rows and schema changes exclude each other, so these are the builds' own."""


class Touched:
    """The entry keys that writers wrote since the batch began, and whether they wrote any at all."""

    def __init__(self, table_ids: Sequence[int], index_ids: Sequence[int]) -> None:
        from coprocessor.codec.keys import index_prefix

        self._prefixes = tuple(index_prefix(table_id, i) for table_id in table_ids for i in index_ids)
        self.keys: set[bytes] = set()
        self.ever = False

    def note(self, writes: Sequence[tuple[bytes, bytes | None]]) -> None:
        prefixes = self._prefixes
        found = [key for key, _ in writes if key.startswith(prefixes)]
        if found:
            self.ever = True
            self.keys.update(found)

    def restart(self) -> None:
        """Forgets the keys: a snapshot taken after this sees every commit that was reported before."""
        self.keys = set()


class IndexBuild(Protocol):
    """The build of some indexes that are announced while it goes on."""

    @property
    def untouched(self) -> bool:
        """Whether nobody has written an entry while it was going on, so that what it counted is what there is."""

    def fill(self, table: Table, index: Index, cancel: CancelToken | None) -> int:
        """Adds the entries of all rows of a table, or of one partition, to an index that writers maintain; returns how
        many rows were gone through.

        Raises 1062 when a unique index finds two rows with the same key.
        """


class LocalBuild:
    """A build beside writers of this process."""

    def __init__(self, storage: LocalStorage, touched: Touched) -> None:
        self._storage = storage
        self._touched = touched

    @property
    def untouched(self) -> bool:
        return not self._touched.ever

    def fill(self, table: Table, index: Index, cancel: CancelToken | None) -> int:
        return fill_index(self._storage, self._touched, table, index, cancel)


def fill_index(
    storage: LocalStorage, touched: Touched, table: Table, index: Index, cancel: CancelToken | None = None
) -> int:
    """Adds the entries of all rows to an index that writers maintain already; returns the number of rows.

    Raises 1062 when a unique index finds two rows with the same key.
    """
    start, end = written_before(storage, table)
    encode = EntryEncoder(table, (index.schema,))
    total = batches = 0
    stalled_since = 0.0
    attempt = 0
    while start < end:
        stop_if(cancel)
        try:
            count, start_next = _fill_batch(storage, touched, encode, (start, end), cancel)
        except TxnError as exc:
            if isinstance(exc, Cancelled):
                raise
            now = time.monotonic()
            stalled_since = stalled_since or now
            if now - stalled_since > STALLED_S_MAX:
                raise error(1205, f"adding index '{index.name}' gave up behind other transactions: {exc}") from exc
            attempt += 1
            time.sleep(min(0.001 * attempt, BACKOFF_S_MAX))
            continue
        stalled_since, attempt = 0.0, 0
        total += count
        batches += 1
        if start_next is None:
            break
        start = start_next
    if index.unique and (batches > 1 or touched.ever):
        check_unique(storage, table, index, cancel)
    return total


def stop_if(cancel: CancelToken | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled


def written_before(storage: Storage, table: Table) -> tuple[bytes, bytes]:
    """The range of the records that are there now: who writes later, behind the last of them too, indexes the row."""
    start, end = table.codec.record_range
    last = next(iter(storage.snapshot().scan(start, end, reverse=True)), None)
    return (start, start) if last is None else (start, last[0] + b"\0")


def _fill_batch(
    storage: LocalStorage,
    touched: Touched,
    encode: EntryEncoder,
    key_range: tuple[bytes, bytes],
    cancel: CancelToken | None,
) -> tuple[int, bytes | None]:
    """Indexes at most about `BATCH_ROWS` rows; returns how many, and where to go on (None at the end)."""

    touched.restart()
    run = read_entries(storage, encode, key_range, cancel)
    if run is None:
        return 0, None
    keys, values = run.keys, run.values
    index = encode.indexes[0]
    ingest = storage.ingest(*encode.codec.index_range(index), cancel=cancel)
    try:
        # Nobody writes the range any more, and whoever did has been reported.
        if touched.keys:
            pairs = [(k, v) for k, v in zip(keys, values, strict=True) if k not in touched.keys]
            keys, values = [k for k, _ in pairs], [v for _, v in pairs]
        ingest.add_run(keys, values)
        ingest.finish(check_duplicates=False)
    except BaseException:
        ingest.abort()
        raise
    return run.rows, run.next


@dataclass(frozen=True, slots=True)
class EntryRun:
    """Sorted entries of one index, of `rows` rows; `next` is where to go on, None at the end."""

    keys: list[bytes]
    values: list[bytes]
    rows: int
    next: bytes | None


def read_entries(
    storage: Storage,
    encode: EntryEncoder,
    key_range: tuple[bytes, bytes],
    cancel: CancelToken | None,
    rows_max: int | None = None,
) -> EntryRun | None:
    """The entries of at most about `rows_max` (BATCH_ROWS) rows of a fresh snapshot; None when there are none.

    Raises 1062 when two of them have one key of a unique index.
    """
    from coprocessor.codec.vector_encode import sort_run

    keys: list[bytes] = []
    values: list[bytes] = []
    last = b""
    more = False
    wanted = BATCH_ROWS if rows_max is None else rows_max
    snapshot = storage.snapshot()
    with closing(encode.runs(storage, snapshot, key_range, wanted, cancel)) as runs:
        for run, key in runs:
            stop_if(cancel)
            last = key
            keys += run.keys
            values += run.values
            more = len(keys) >= wanted
            if more:
                break
    if not keys:
        return None
    count = len(keys)
    keys, values = sort_run(keys, values)
    if encode.indexes[0].unique:
        taken = next((i for i, (a, b) in enumerate(pairwise(keys)) if a == b), None)
        if taken is not None:
            raise _duplicate(snapshot, encode, keys[taken], values[taken])
    return EntryRun(keys, values, count, last + b"\0" if more else None)


class EntryEncoder:
    """Makes index entries of records, a batch at a time; decodes only the indexes' columns."""

    def __init__(self, table: Table, indexes: tuple[IndexSchema, ...]) -> None:
        from coprocessor.codec.vector import BatchDecoder
        from coprocessor.codec.vector_encode import BatchEncoder
        from coprocessor.table import TableCodec

        self.table = table
        self.indexes = indexes
        self.codec = TableCodec(replace(table.schema, indexes=indexes))
        self._offsets = sorted(frozenset().union(*map(self.codec.entry_offsets, indexes)))
        self._decoder = BatchDecoder(self.codec.schema, self._offsets)
        self._encoder = BatchEncoder(self.codec)

    def __call__(self, packed: PackedBatch) -> list[IndexRun]:
        """Returns the entries of a batch that is not empty, one run for each index, in row order."""
        columns = dict(zip(self._offsets, self._decoder.decode(packed).columns, strict=True))
        return self._encoder.encode_indexes(columns, slices(packed.keys, packed.key_starts, packed.key_ends))

    def runs(
        self,
        storage: Storage,
        snapshot: Reader,
        key_range: tuple[bytes, bytes],
        rows: int,
        cancel: CancelToken | None,
    ) -> Generator[tuple[IndexRun, bytes], None, None]:
        """Yields the first index's entries of a range's rows in the order of their keys, `rows` of which are wanted at
        a time, and the last record's key; close it to stop. A store that computes gives the columns alone."""
        pushed = pushed_columns(storage, self.codec, self._offsets, key_range, snapshot, rows, cancel)
        if pushed is None:
            for packed in snapshot.scan_packed(*key_range, batch_rows=min(SCAN_ROWS, rows)):
                if packed.count:
                    last = packed.keys[packed.key_starts[-1] : packed.key_ends[-1]].tobytes()
                    yield self(packed)[0], last
            return
        with closing(pushed):
            for columns, handles, count in pushed:
                keys = self._encoder.record_keys(columns, count, handles)
                yield self._encoder.encode_indexes(columns, keys)[0], keys[-1]


def slices(data: Any, starts: Any, ends: Any) -> list[bytes]:
    """The pieces of a packed buffer."""
    whole = data.tobytes()
    return [whole[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def count_range(reader: Reader, key_range: tuple[bytes, bytes], cancel: CancelToken | None = None) -> int:
    """The number of live keys in a range."""
    total = 0
    for packed in reader.scan_packed(*key_range):
        stop_if(cancel)
        total += packed.count
    return total


def check_unique(storage: Storage, table: Table, index: Index, cancel: CancelToken | None) -> None:
    """Raises 1062 when the index has fewer entries than the table rows."""
    reader = storage.snapshot()
    encode = EntryEncoder(table, (index.schema,))
    entries = count_range(reader, encode.codec.index_range(index.schema), cancel)
    if entries == count_range(reader, table.codec.record_range, cancel):
        return
    for packed in reader.scan_packed(*table.codec.record_range):
        stop_if(cancel)
        if not packed.count:
            continue
        run = encode(packed)[0]
        found = reader.batch_get(run.keys)
        for key, value in zip(run.keys, run.values, strict=True):
            if found.get(key) != value:
                raise _duplicate(reader, encode, key, value)
    raise StoreError(f"index '{index.name}' has {entries} entries, another number than the rows of '{table.name}'")


def _duplicate(reader: Reader, encode: EntryEncoder, key: bytes, value: bytes) -> DatabaseError:
    """Error 1062 for the row that has an entry."""
    from coprocessor.convert import to_text

    codec, index, table = encode.codec, encode.indexes[0], encode.table
    record = codec.record_key(codec.handle_from_index(index, key, value))
    stored = reader.get(record)
    if stored is None:
        raise StoreError(f"record {record.hex()} is gone from its own snapshot")
    row = codec.key_decoder()(record, stored)
    if codec.computed is not None:
        row = tuple(codec.computed.row(row, codec.computed.of_index(index)))
    shown = []
    for part in index.columns:
        found = row[part.offset]
        if part.prefix >= 0 and found is not None:
            found = found[: part.prefix]
        shown.append("NULL" if found is None else to_text(found, table.columns[part.offset].type))
    return error(1062, f"Duplicate entry '{'-'.join(shown)}' for key '{table.name}.{index.name}'")


def check_not_null(
    storage: Storage, table: Table, column_ids: Sequence[int], cancel: CancelToken | None = None
) -> None:
    """Raises 1138 when a row has NULL in one of the columns."""
    from coprocessor.scan import scan_table

    offsets = [c.offset for c in table.columns if c.id in column_ids]
    reader = storage.snapshot()
    for part in table.physical:
        for batch in scan_table(reader, part.codec, offsets):
            stop_if(cancel)
            if any(column.null_count for column in batch.columns):
                raise error(1138, "Invalid use of NULL value")
