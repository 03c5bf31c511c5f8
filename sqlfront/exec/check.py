"""ADMIN CHECK TABLE and ADMIN CHECK INDEX: whether the rows and every index of a table say the same, at one snapshot.

First in bulk: the entries that the rows ask for are encoded batch by batch, and their number and the sum of their
hashes compared with those of the entries that are there. Only an index that differs is gone through row by row, in both
directions: every row must have its entry, with the right value, and every entry must be of a row that is there. The
first disagreement is error 8223 with the handle and the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from kvstore.errors import Cancelled
from sqlfront.catalog.backfill import EntryEncoder, slices
from sqlfront.catalog.model import Index, Table
from sqlfront.errors import DatabaseError, InternalError, error, near_match
from sqlfront.parse import AdminCheckIndex, AdminCheckTable
from sqlfront.result import Result

if TYPE_CHECKING:
    from coprocessor.codec.keys import Handle
    from kvstore.client.api import CancelToken, Reader
    from sqlfront.session import Session

BATCH_ROWS = 4096
ER_DATA_INCONSISTENT = 8223

Pair = tuple[bytes, bytes]


def execute_admin_check(session: Session, statement: AdminCheckTable | AdminCheckIndex) -> Result:
    """Checks tables, or one index of a table; an empty result when all is well."""
    stored = session.database.catalog.schema
    schema = session.seen(stored)
    names = statement.tables if isinstance(statement, AdminCheckTable) else [statement.table]
    work: list[tuple[Table, tuple[Index, ...]]] = []
    for name in names:
        db = name.db or session.current_db
        if not db:
            raise error(1046, "No database selected")
        table = schema.need_table(db, name.name, position=name.this.meta.get("start", -1))
        indexes = table.indexes
        if isinstance(statement, AdminCheckIndex):
            index = table.index(statement.index)
            if index is None:
                hint = near_match(statement.index, [i.name for i in table.indexes])
                message = f"Key '{statement.index}' doesn't exist in table '{table.name}'{hint}"
                raise error(1176, message)
            indexes = (index,)
        work.append((table, indexes))
    for table, indexes in work:
        reader = session.layered(session.database.catalog.snapshot(stored))
        for part in table.physical:
            check_table(reader, part, indexes, session.cancel)
    return Result()


def check_table(
    reader: Reader, table: Table, indexes: tuple[Index, ...] | None = None, cancel: CancelToken | None = None
) -> int:
    """Raises 8223 at the first disagreement between rows and indexes (None: all); returns the number of rows."""
    chosen = table.indexes if indexes is None else indexes
    rows, suspects = _compare(reader, table, chosen, cancel)
    if suspects:
        _rows_have_entries(reader, table, suspects, cancel)
        for index in suspects:
            _entries_have_rows(reader, table, index, cancel)
    return rows


class _Sum:
    """How many entries, and the sum of their hashes (64 bits, keyed anew in each process)."""

    def __init__(self) -> None:
        self.entries = 0
        self.hashes = 0

    def add(self, keys: list[bytes], values: list[bytes]) -> None:
        self.entries += len(keys)
        self.hashes += sum(map(hash, zip(keys, values, strict=True)))


def _compare(
    reader: Reader, table: Table, indexes: tuple[Index, ...], cancel: CancelToken | None
) -> tuple[int, tuple[Index, ...]]:
    """Counts the rows, and finds the indexes that have not as many entries, with the same sum, as the rows ask for."""
    wanted = [_Sum() for _ in indexes]
    rows = 0
    encode = EntryEncoder(table, tuple(index.schema for index in indexes)) if indexes else None
    for packed in reader.scan_packed(*table.codec.record_range):
        _stop_if(cancel)
        rows += packed.count
        if encode is not None and packed.count:
            for expected, run in zip(wanted, encode(packed), strict=True):
                expected.add(run.keys, run.values)
    suspects = []
    for index, expected in zip(indexes, wanted, strict=True):
        found = _Sum()
        for packed in reader.scan_packed(*table.codec.index_range(index.schema)):
            _stop_if(cancel)
            found.add(
                slices(packed.keys, packed.key_starts, packed.key_ends),
                slices(packed.values, packed.value_starts, packed.value_ends),
            )
        if (found.entries, found.hashes) != (expected.entries, expected.hashes):
            suspects.append(index)
    return rows, tuple(suspects)


def _stop_if(cancel: CancelToken | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled


def _batches(pairs: Iterable[Pair], cancel: CancelToken | None) -> Iterator[list[Pair]]:
    iterator = iter(pairs)
    while batch := list(islice(iterator, BATCH_ROWS)):
        _stop_if(cancel)
        yield batch


def _rows_have_entries(reader: Reader, table: Table, indexes: tuple[Index, ...], cancel: CancelToken | None) -> None:
    codec = table.codec
    decode = codec.key_decoder()
    for batch in _batches(reader.scan(*codec.record_range), cancel):
        expected: dict[bytes, tuple[bytes, Index, Handle]] = {}
        for key, value in batch:
            values = decode(key, value)
            handle = codec.handle_of_key(key)
            for index in indexes:
                entry, entry_value, distinct = codec.index_key_value(index.schema, values, handle)
                if distinct and entry in expected:
                    raise _inconsistent(table, index, handle, "another row has the same unique key")
                expected[entry] = (entry_value, index, handle)
        found = reader.batch_get(expected)
        for entry, (entry_value, index, handle) in expected.items():
            present = found.get(entry)
            if present is None:
                raise _inconsistent(table, index, handle, "the row has no index entry")
            if present != entry_value and codec.handle_from_index(index.schema, entry, present) != handle:
                raise _inconsistent(table, index, handle, "the index entry is of another row")


def _entries_have_rows(reader: Reader, table: Table, index: Index, cancel: CancelToken | None) -> None:
    codec = table.codec
    decode = codec.key_decoder()
    for batch in _batches(reader.scan(*codec.index_range(index.schema)), cancel):
        handles = [codec.handle_from_index(index.schema, key, value) for key, value in batch]
        records = [codec.record_key(handle) for handle in handles]
        found = reader.batch_get(set(records))
        for (entry, _), handle, record in zip(batch, handles, records, strict=True):
            row = found.get(record)
            if row is None:
                raise _inconsistent(table, index, handle, "the index entry has no row")
            if codec.index_key_value(index.schema, decode(record, row), handle)[0] != entry:
                raise _inconsistent(table, index, handle, "the index entry is not of the row's values")


def _inconsistent(table: Table, index: Index, handle: Handle, what: str) -> DatabaseError:
    shown = handle.hex() if isinstance(handle, bytes) else str(handle)
    message = f"data inconsistency in table: {table.name}, index: {index.name}, handle: {shown}: {what}"
    return InternalError(message, ER_DATA_INCONSISTENT, "HY000")
