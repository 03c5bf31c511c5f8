"""Filling a new index from the rows that are there, and looking rows through for NULLs.

A batch is one optimistic transaction: it reads some rows of its snapshot, marks their record keys, and puts their
entries. A row or an entry that someone changed since makes its commit fail, and the batch is done again on a newer
snapshot.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvstore.errors import Cancelled, CommitRejected, KeyExists, StoreError, TxnError
from sqlfront.errors import DatabaseError, error

if TYPE_CHECKING:
    from coprocessor.schema import IndexSchema
    from kvstore.client.api import CancelToken, PackedBatch, Storage, Transaction
    from sqlfront.catalog.model import Index, Table

BATCH_ROWS = 16384
STALLED_S_MAX = 50.0
"""How long one batch may be tried over and over before the change is given up (error 1205)."""
BACKOFF_S_MAX = 0.1


def fill_index(storage: Storage, table: Table, index: Index, cancel: CancelToken | None = None) -> int:
    """Adds the entries of all rows to an index that writers maintain already; returns the number of rows.

    Raises 1062 when a unique index finds two rows with the same key.
    """
    start, end = _written_before(storage, table)
    encode = EntryEncoder(table, index.schema)
    total = 0
    batch_rows = BATCH_ROWS
    stalled_since = 0.0
    attempt = 0
    while start < end:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        try:
            count, start_next = _fill_batch(storage, encode, (start, end), batch_rows)
        except (KeyExists, CommitRejected):
            raise
        except TxnError as exc:
            now = time.monotonic()
            stalled_since = stalled_since or now
            if now - stalled_since > STALLED_S_MAX:
                raise error(1205, f"adding index '{index.name}' gave up behind other transactions: {exc}") from exc
            attempt += 1
            batch_rows = max(batch_rows // 4, 1)
            time.sleep(min(0.001 * attempt, BACKOFF_S_MAX))
            continue
        stalled_since, attempt = 0.0, 0
        batch_rows = min(batch_rows * 2, BATCH_ROWS)
        total += count
        if count == 0 or start_next is None:
            break
        start = start_next
    return total


def _written_before(storage: Storage, table: Table) -> tuple[bytes, bytes]:
    """The range of the records that are there now: who writes later, behind the last of them too, indexes the row."""
    start, end = table.codec.record_range
    last = next(iter(storage.snapshot().scan(start, end, reverse=True)), None)
    return (start, start) if last is None else (start, last[0] + b"\0")


def _fill_batch(
    storage: Storage, encode: EntryEncoder, key_range: tuple[bytes, bytes], rows: int
) -> tuple[int, bytes | None]:
    """Indexes about `rows` rows; returns how many, and where to go on (None at the end)."""
    txn = storage.begin(pessimistic=False)
    try:
        records: list[bytes] = []
        entries: list[bytes] = []
        values: list[bytes] = []
        for packed in txn.scan_packed(*key_range, batch_rows=rows):
            for whole, part in zip((records, entries, values), encode(packed), strict=True):
                whole.extend(part)
            if len(records) >= rows:
                break
        if encode.index.unique:
            _check_unique(txn, encode, records, entries, values)
        put = txn.put
        for entry, value in zip(entries, values, strict=True):
            put(entry, value)
        txn.lock_keys(records, for_update_ts=txn.start_ts, wait_ms=0)
        txn.commit()
    except BaseException:
        txn.rollback()
        raise
    return len(records), records[-1] + b"\0" if records else None


class EntryEncoder:
    """Makes the entries of one index from packed records, a batch at a time."""

    def __init__(self, table: Table, index: IndexSchema) -> None:
        from coprocessor.codec.vector import BatchDecoder
        from coprocessor.codec.vector_encode import BatchEncoder
        from coprocessor.table import TableCodec

        self.table = table
        self.index = index
        self.codec = TableCodec(replace(table.schema, indexes=(index,)))
        self._decoder = BatchDecoder(self.codec.schema)
        self._encoder = BatchEncoder(self.codec)

    def __call__(self, packed: PackedBatch) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Returns the record keys, entry keys and entry values, in row order."""
        from coprocessor.codec.vector import decode_handles

        if not packed.count:
            return [], [], []
        batch = self._decoder.decode(packed)
        handles = decode_handles(packed) if self.codec.is_hidden_handle else None
        encoded = self._encoder.encode_columns(batch.columns, packed.count, handles)
        run = encoded.indexes[0]
        return encoded.keys, run.keys, run.values


def _check_unique(
    txn: Transaction,
    encode: EntryEncoder,
    records: Sequence[bytes],
    entries: Sequence[bytes],
    values: Sequence[bytes],
) -> None:
    """Raises 1062 when two rows of the batch, or one of them and a row indexed before, have the same entry."""
    wanted = dict(zip(entries, values, strict=True))
    taken: bytes | None = None
    if len(wanted) < len(entries):
        taken = next(e for e, n in Counter(entries).items() if n > 1)
    else:
        taken = next((e for e, value in txn.batch_get(entries).items() if wanted[e] != value), None)
    if taken is None:
        return
    record = records[list(entries).index(taken)]
    row = txn.get(record)
    if row is None:
        raise StoreError(f"record {record.hex()} is gone from its own snapshot")
    raise duplicate(encode.table, encode.index, encode.codec.key_decoder()(record, row))


def duplicate(table: Table, index: IndexSchema, values: Sequence[Any]) -> DatabaseError:
    """Error 1062 for the row's key."""
    from coprocessor.convert import to_text

    shown = []
    for part in index.columns:
        value = values[part.offset]
        if part.prefix >= 0 and value is not None:
            value = value[: part.prefix]
        shown.append("NULL" if value is None else to_text(value, table.columns[part.offset].type))
    return error(1062, f"Duplicate entry '{'-'.join(shown)}' for key '{table.name}.{index.name}'")


def check_not_null(
    storage: Storage, table: Table, column_ids: Sequence[int], cancel: CancelToken | None = None
) -> None:
    """Raises 1138 when a row has NULL in one of the columns."""
    offsets = [c.offset for c in table.columns if c.id in column_ids]
    decode = table.codec.key_decoder(offsets)
    for number, (key, value) in enumerate(storage.snapshot().scan(*table.codec.record_range)):
        if cancel is not None and number % BATCH_ROWS == 0 and cancel.is_set():
            raise Cancelled
        if None in decode(key, value):
            raise error(1138, "Invalid use of NULL value")
