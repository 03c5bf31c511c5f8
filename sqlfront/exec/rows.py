"""Writing rows: records and their index entries into a transaction's buffer, with the checks that uniqueness asks for.

In a pessimistic statement the keys that decide are locked and their newest values come with the locks, so a duplicate
is known at once. In an optimistic one they are buffered as inserts, which the commit checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coprocessor.codec.keys import Handle
from coprocessor.schema import IndexSchema
from coprocessor.table import Values
from kvstore import errors as kv
from kvstore.client.api import Reader, Transaction

if TYPE_CHECKING:
    from sqlfront.catalog.model import Table
    from sqlfront.session import Session

Row = Sequence[Any]


class RowWriter:
    """Writes rows of one table within one statement."""

    def __init__(
        self, session: Session, txn: Transaction, table: Table, pessimistic: bool, *, check_now: bool = False
    ) -> None:
        self.session = session
        self.txn = txn
        self.table = table
        self.codec = table.write_codec
        self.pessimistic = pessimistic
        self.check_now = pessimistic or check_now
        self.tz = session.variables.zone
        self.wait_ms = session.variables.lock_wait_ms
        self._ts = 0
        self._reader: Reader | None = None if pessimistic else txn
        self.clustered = table.clustered

    @property
    def reader(self) -> Reader:
        """What the statement reads by; of a pessimistic one at a timestamp drawn when this is first asked for."""
        if self._reader is None:
            self._ts = self.session.storage.now_ts()
            self._reader = self.txn.at(self._ts)
        return self._reader

    def reads_as(self, other: RowWriter) -> None:
        """Reads and locks as of the same timestamp as another writer of the statement."""
        self._reader, self._ts = other.reader, other._ts

    def reads_at(self, reader: Reader, ts: int) -> None:
        """Reads by `reader`, whose timestamp is `ts`, from now on, and locks as of it."""
        self._reader, self._ts = reader, ts

    def lock(self, keys: Sequence[bytes]) -> None:
        """Locks keys that were read by `reader` (pessimistic statements only)."""
        if self.pessimistic and keys:
            self.txn.lock_keys(keys, for_update_ts=self._ts, wait_ms=self.wait_ms)

    def locked(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Locks keys and returns the newest values of those that have one; an optimistic statement only reads."""
        if not keys:
            return {}
        if self.pessimistic:
            return self.txn.lock_and_get(keys, for_update_ts=self._ts, wait_ms=self.wait_ms)
        return self.reader.batch_get(keys)

    def handle(self, values: Row) -> Handle:
        """The handle of a new row: its primary key, or the next hidden row id."""
        if self.clustered:
            return self.codec.handle_of(values)
        return self.session.database.autoids.allocate_row_ids(self.table)

    def record_key(self, values: Row, handle: Handle) -> bytes:
        """The record key of a row with this handle; of its values only those that decide on a partition are read."""
        return self.codec.record_key(handle)

    def insert(self, values: Row, handle: Handle | None = None) -> None:
        """Adds a row. A duplicate raises KeyExists, here or at commit."""
        txn, codec = self.txn, self.codec
        values = codec.utc_row(values, self.tz)
        if handle is None:
            handle = self.handle(values)
        key = codec.record_key(handle)
        value = codec.encode_row(values)
        entries = codec.index_entries(values, handle) if codec.schema.indexes else ()
        if self.check_now:
            unique = {entry_key: entry_value for _, entry_key, entry_value, distinct in entries if distinct}
            if self.clustered:
                unique[key] = value
            self._refuse_existing(unique)
        if self.pessimistic:
            txn.put(key, value)
            for _, entry_key, entry_value, _ in entries:
                txn.put(entry_key, entry_value)
            return
        if self.clustered:
            txn.insert(key, value)
        else:
            txn.put(key, value)
        for _, entry_key, entry_value, distinct in entries:
            if distinct:
                txn.insert(entry_key, entry_value)
            else:
                txn.put(entry_key, entry_value)

    def _refuse_existing(self, new: Mapping[bytes, bytes]) -> None:
        """Locks keys that must not be there. Raises KeyExists, with its new value, for the first that is."""
        for key in self.locked(list(new)):
            raise kv.KeyExists(key, new[key])

    def conflicts(self, values: Row, handle: Handle | None) -> list[tuple[bytes, bytes, IndexSchema | None]]:
        """Returns (record key, row value, index) of the rows that a new row would collide with, the primary's first.

        The index is the first in which they do, None for a clustered primary key. `handle` is None for a table of
        hidden row ids.
        """
        codec = self.codec
        values = codec.utc_row(values, self.tz)
        keys: list[tuple[Any, bytes]] = []
        if handle is not None:
            keys.append((None, codec.record_key(handle)))
        for index, key, _, distinct in codec.index_entries(values, handle if handle is not None else 0):
            if distinct:
                keys.append((index, key))
        there = self.locked([k for _, k in keys])
        out: dict[bytes, tuple[bytes, IndexSchema | None]] = {}
        for index, key in keys:
            found = there.get(key)
            if found is None:
                continue
            record = key if index is None else codec.record_key(codec.handle_from_index(index, key, found))
            if record in out:
                continue
            if index is None:
                out[record] = found, None
            else:
                out |= {k: (row, index) for k, row in self.locked([record]).items()}
        return [(record, row, index) for record, (row, index) in out.items()]

    def decode(self, key: bytes, value: bytes) -> tuple[Any, ...]:
        """A record's whole row, TIMESTAMPs in the session's zone."""
        return self.codec.key_decoder(None, self.tz)(key, value)

    def update(
        self, key: bytes, old: Row, new: Row, changed: frozenset[int] | None = None, stored: bytes | None = None
    ) -> None:
        """Replaces a row; `changed` are the offsets that may differ (None: any), `stored` is the old one as it lies."""
        codec, txn = self.codec, self.txn
        old_utc, new_utc = codec.utc_row(old, self.tz), codec.utc_row(new, self.tz)
        handle = codec.handle_of_key(key)
        fixed = codec.handle_offsets
        if fixed and (changed is None or not changed.isdisjoint(fixed)):
            new_handle = codec.handle_of(new_utc)
            if codec.record_key(new_handle) != key:
                self.delete(key, old)
                self.insert(new, new_handle)
                return
        if changed is None or stored is None:
            txn.put(key, codec.encode_row(new_utc))
        else:
            patch, ids = codec.patcher(changed)
            txn.patch(key, patch(stored, new_utc), ids)
        indexes = codec.schema.indexes
        if changed is not None:
            indexes = tuple(i for i in indexes if not changed.isdisjoint(codec.entry_offsets(i)))
        self.move_entries(indexes, old_utc, new_utc, handle)
        self._forget_entries(old_utc, handle)

    def move_entries(self, indexes: Sequence[IndexSchema], old: Values, new: Values, handle: Handle) -> None:
        """Replaces a changed row's entries in some indexes by its values in UTC, of their columns at least."""
        codec, txn = self.codec, self.txn
        for index in indexes:
            old_key, old_value, _ = codec.index_key_value(index, old, handle)
            new_key, new_value, distinct = codec.index_key_value(index, new, handle)
            if old_key == new_key:
                if old_value != new_value:  # spaces at the end of a text
                    txn.put(new_key, new_value)
                continue
            if distinct:
                if self.check_now:
                    self._refuse_existing({new_key: new_value})
                if self.pessimistic:
                    txn.put(new_key, new_value)
                else:
                    txn.insert(new_key, new_value)
            else:
                txn.put(new_key, new_value)
            txn.delete(old_key)

    def _forget_entries(self, values: Row, handle: Handle) -> None:
        """Removes entries of indexes that are on their way in or out and must not keep what a row no longer has."""
        for index in self.table.delete_only:
            self.txn.delete(self.codec.index_key_value(index.schema, values, handle)[0])

    def delete(self, key: bytes, old: Row) -> None:
        """Removes a row and its index entries."""
        codec, txn = self.codec, self.txn
        txn.delete(key)
        if codec.schema.indexes or self.table.delete_only:
            values = codec.utc_row(old, self.tz)
            handle = codec.handle_of_key(key)
            for _, entry_key, _, _ in codec.index_entries(values, handle):
                txn.delete(entry_key)
            self._forget_entries(values, handle)
