"""Writing rows of a partitioned table: each into the partition that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coprocessor.codec.keys import Handle, table_id_of
from coprocessor.schema import IndexSchema
from kvstore.client.api import Transaction
from sqlfront.bind.partitions import partitioning_of
from sqlfront.errors import error
from sqlfront.exec.context import environment
from sqlfront.exec.rows import Row, RowWriter

if TYPE_CHECKING:
    from sqlfront.catalog.model import Table
    from sqlfront.exec.foreign_keys import ReferenceChanges
    from sqlfront.session import Session


class PartitionedWriter(RowWriter):
    """A writer over the writers of partitions, which are made when they are needed and read and lock as it does."""

    def __init__(
        self, session: Session, txn: Transaction, table: Table, pessimistic: bool, *, check_now: bool = False
    ) -> None:
        super().__init__(session, txn, table, pessimistic, check_now=check_now)
        partitioning = partitioning_of(table)
        assert partitioning is not None
        self._partitioning = partitioning
        self._env = environment(session, (), writing=True)
        self._parts: dict[int, RowWriter] = {}
        self.only: frozenset[int] = frozenset()
        """The partitions that rows have to go to; none for all."""

    def _part(self, number: int) -> RowWriter:
        found = self._parts.get(number)
        if found is None:
            part = self.table.parts[number]
            found = RowWriter(self.session, self.txn, part, self.pessimistic, check_now=self.check_now)
            found.reads_as(self)
            self._parts[number] = found
        return found

    def _of_row(self, values: Row) -> RowWriter:
        number = self._partitioning.locate(values, self._env)
        if self.only and number not in self.only:
            raise error(1748, "Found a row not matching the given partition set")
        return self._part(number)

    def _of_key(self, key: bytes) -> RowWriter:
        return self._part(self.table.part_numbers[table_id_of(key)])

    def record_key(self, values: Row, handle: Handle) -> bytes:
        return self._of_row(values).record_key(values, handle)

    def insert(self, values: Row, handle: Handle | None = None) -> None:
        if handle is None:
            handle = self.handle(self.codec.utc_row(values, self.tz))  # row ids are the table's
        part = self._of_row(values)
        part.insert(values, handle)
        self.session.changed(part.table, 1)

    def conflicts(self, values: Row, handle: Handle | None) -> list[tuple[bytes, bytes, IndexSchema | None]]:
        return self._of_row(values).conflicts(values, handle)

    def update(
        self, key: bytes, old: Row, new: Row, changed: frozenset[int] | None = None, stored: bytes | None = None
    ) -> None:
        there = self._of_key(key)
        if changed is None or not changed.isdisjoint(self._partitioning.offsets):
            if self._of_row(new) is not there:
                handle = there.codec.handle_of_key(key)
                self.delete(key, old)
                self.insert(new, None if self.clustered else handle)
                return
        there.update(key, old, new, changed, stored)

    def delete(self, key: bytes, old: Row) -> None:
        part = self._of_key(key)
        part.delete(key, old)
        self.session.changed(part.table, -1)


def row_writer(
    session: Session,
    txn: Transaction,
    table: Table,
    pessimistic: bool,
    *,
    check_now: bool = False,
    changes: ReferenceChanges | None = None,
) -> RowWriter:
    """The writer of a table's rows within one statement; `changes` are told what it does to references."""
    noting = None if changes is None else changes.writer(table, check_now=check_now)
    if noting is not None:
        return noting
    kind: Any = PartitionedWriter if table.parts else RowWriter
    writer: RowWriter = kind(session, txn, table, pessimistic, check_now=check_now)
    return writer
