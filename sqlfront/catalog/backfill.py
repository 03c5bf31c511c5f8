"""Filling a new index from the rows that are there, and looking rows through for NULLs.

A batch is one optimistic transaction: it reads some rows of its snapshot, marks their record keys, and puts their
entries. A row or an entry that someone changed since makes its commit fail, and the batch is done again on a newer
snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from kvstore.errors import Cancelled, CommitRejected, KeyExists, StoreError, TxnError
from sqlfront.errors import DatabaseError, error

if TYPE_CHECKING:
    from coprocessor.schema import IndexSchema
    from coprocessor.table import TableCodec
    from kvstore.client.api import CancelToken, Storage, Transaction
    from sqlfront.catalog.model import Index, Table

BATCH_ROWS = 8192
STALLED_S_MAX = 50.0
"""How long one batch may be tried over and over before the change is given up (error 1205)."""
BACKOFF_S_MAX = 0.1


def fill_index(storage: Storage, table: Table, index: Index, cancel: CancelToken | None = None) -> int:
    """Adds the entries of all rows to an index that writers maintain already; returns the number of rows.

    Raises 1062 when a unique index finds two rows with the same key.
    """
    start, end = table.codec.record_range
    total = 0
    batch_rows = BATCH_ROWS
    stalled_since = 0.0
    attempt = 0
    while start < end:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        try:
            count, start_next = _fill_batch(storage, table, index.schema, (start, end), batch_rows)
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


def _fill_batch(
    storage: Storage, table: Table, index: IndexSchema, key_range: tuple[bytes, bytes], rows: int
) -> tuple[int, bytes | None]:
    """Indexes up to `rows` rows; returns how many, and where to go on (None at the end)."""
    codec = table.write_codec
    txn = storage.begin(pessimistic=False)
    try:
        pairs = list(islice(txn.scan(*key_range), rows))
        if pairs:
            _put_entries(txn, table, codec, index, pairs)
            txn.lock_keys([key for key, _ in pairs], for_update_ts=txn.start_ts, wait_ms=0)
        txn.commit()
    except BaseException:
        txn.rollback()
        raise
    return len(pairs), pairs[-1][0] + b"\0" if len(pairs) == rows else None


def _put_entries(
    txn: Transaction,
    table: Table,
    codec: TableCodec,
    index: IndexSchema,
    pairs: Sequence[tuple[bytes, bytes]],
) -> None:
    decode = codec.key_decoder()
    key_value = codec.index_key_value
    handle_of = codec.handle_of_key
    entries: dict[bytes, bytes] = {}
    distinct_keys: list[bytes] = []
    for key, value in pairs:
        values = decode(key, value)
        entry, handle_value, distinct = key_value(index, values, handle_of(key))
        if distinct:
            distinct_keys.append(entry)
            if entry in entries:
                raise duplicate(table, index, values)
        entries[entry] = handle_value
    if distinct_keys:
        for entry, handle_value in txn.batch_get(distinct_keys).items():
            if handle_value != entries[entry]:
                raise _found_duplicate(table, codec, index, entry, pairs)
    for entry, handle_value in entries.items():
        txn.put(entry, handle_value)


def _found_duplicate(
    table: Table,
    codec: TableCodec,
    index: IndexSchema,
    entry: bytes,
    pairs: Sequence[tuple[bytes, bytes]],
) -> DatabaseError:
    decode = codec.key_decoder()
    for key, value in pairs:
        values = decode(key, value)
        if codec.index_key_value(index, values, codec.handle_of_key(key))[0] == entry:
            return duplicate(table, index, values)
    raise StoreError(f"entry {entry.hex()} is of no row of its batch")


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
