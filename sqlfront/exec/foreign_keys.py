"""Foreign keys while a statement runs: what its changes ask of other tables, and what becomes of rows there.

A writer of a table with references notes what it does; when the statement has made its changes, `finish` looks at them
in rounds. In each round the rows that children now refer to must be there (1452), the rows that nobody may refer to any
more are not referred to by RESTRICT and NO ACTION (1451), and the children of CASCADE and SET NULL are changed, which
is what the next round looks at. So all of a statement's rows are checked together, by one request where there can be
one, and a row may refer to one that the same statement adds.

Two transactions cannot break a reference together, since they meet at the parent's row:

- Who adds a child *locks the parent's record* and reads its newest state; it stays locked to the end. An optimistic
  transaction marks what it has read, and its commit fails when the record was changed since. Both leave a trace of
  that when they commit (`Transaction.witness`), since an optimistic one that removes the parent takes no lock before.
- Who removes a parent, or changes its key, has locked the parent's record, and looks for children *at a timestamp drawn
  after that*: whoever held the lock has committed its children by then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from coprocessor.codec.temporal import from_utc
from coprocessor.types import Tp
from kvstore.client.api import Reader, Transaction
from sqlfront.catalog.constraints import CHANGING
from sqlfront.catalog.info import ReferAction
from sqlfront.errors import DatabaseError, error
from sqlfront.exec.constraints import ER_NO_REFERENCED_ROW, ER_ROW_IS_REFERENCED
from sqlfront.exec.context import environment
from sqlfront.exec.rows import Row, RowWriter
from sqlfront.plan.references import Reference, ReferenceGraph, TableReferences, Values, references_of

if TYPE_CHECKING:
    from coprocessor.codec.keys import Handle
    from sqlfront.catalog.model import Schema, Table
    from sqlfront.exec.filler import ColumnFiller
    from sqlfront.session import Session

CASCADE_DEPTH_MAX = 15
CANCEL_CHECK_ROWS = 256
LOOKUP_COST_ROWS = 20.0
"""So many entries of an index are read in the time of one more lookup."""

Lost = dict[Values, Values | None]
"""What no row has any more: what it became, None where it went."""


class References:
    """The references that a planned statement has to keep, by the tables whose rows it changes itself."""

    def __init__(self, session: Session, schema: Schema, changed: Sequence[Table]) -> None:
        now = session.catalog.schema
        self.graph = references_of(now, changed, session.variables.foreign_key_checks)
        self.tables = list(changed) if self.graph is None else self.graph.tables(changed)
        """All tables on which the statement's outcome depends by them."""
        self._earlier = None if schema.stored is now else schema.stored

    def begin(self, session: Session, txn: Transaction, pessimistic: bool) -> ReferenceChanges | None:
        """For one execution; None for a statement that has no references to keep.

        What a pessimistic statement looks at is there now. An optimistic transaction reads its snapshot: raises 1412
        when that is from before one of the tables was written anew.
        """
        graph, earlier = self.graph, self._earlier
        if graph is None:
            return None
        if earlier is not None and not pessimistic and session.txn is not None:
            if any((table.db.lower(), table.name.lower()) in earlier.late for table in self.tables):
                raise error(1412, "Table definition has changed, please retry transaction", sqlstate="HY000")
            graph = ReferenceGraph(earlier)
        return ReferenceChanges(graph, session, txn, pessimistic)


class ReferenceWriter(RowWriter):
    """A writer of a table that notes what its changes mean to references."""

    def __init__(
        self, changes: ReferenceChanges, table: Table, references: TableReferences, *, check_now: bool = False
    ) -> None:
        super().__init__(changes.session, changes.txn, table, changes.pessimistic, check_now=check_now)
        self._changes = changes
        self._references = references
        self._moving = False

    def insert(self, values: Row, handle: Handle | None = None) -> None:
        super().insert(values, handle)
        if not self._moving:
            self._changes.added(self._references, self.codec.utc_row(values, self.tz))

    def update(
        self, key: bytes, old: Row, new: Row, changed: frozenset[int] | None = None, stored: bytes | None = None
    ) -> None:
        self._moving = True  # a row whose key changes is deleted and inserted
        try:
            super().update(key, old, new, changed, stored)
        finally:
            self._moving = False
        utc_row = self.codec.utc_row
        self._changes.updated(self._references, utc_row(old, self.tz), utc_row(new, self.tz))

    def delete(self, key: bytes, old: Row) -> None:
        super().delete(key, old)
        if not self._moving:
            self._changes.removed(self._references, self.codec.utc_row(old, self.tz))


class ReferenceChanges:
    """What one execution of a statement has done to the ends of references."""

    def __init__(self, graph: ReferenceGraph, session: Session, txn: Transaction, pessimistic: bool) -> None:
        self.session = session
        self.txn = txn
        self.pessimistic = pessimistic
        self._graph = graph
        self._wanted: dict[Reference, dict[Values, None]] = {}
        self._lost: dict[Reference, Lost] = {}
        self._became: dict[Reference, dict[Values, Values]] = {}
        self._writers: dict[int, tuple[ReferenceWriter, ColumnFiller]] = {}

    def writer(self, table: Table, *, check_now: bool = False) -> RowWriter | None:
        """A writer of the table that tells this of its changes; None when nothing hangs on it."""
        references = self._graph.of(table)
        return ReferenceWriter(self, table, references, check_now=check_now) if references else None

    # What writers tell

    def want(self, reference: Reference, row: Row) -> None:
        values = reference.child_place.values_of(row)
        if values is not None:
            self._wanted.setdefault(reference, {})[values] = None

    def added(self, references: TableReferences, row: Row) -> None:
        for reference in references.outgoing:
            self.want(reference, row)

    def removed(self, references: TableReferences, row: Row) -> None:
        for reference, place in references.by_parent:
            self._lose(reference, place.values_of(row), None)

    def updated(self, references: TableReferences, old: Row, new: Row) -> None:
        for reference in references.outgoing:
            values = reference.child_place.values_of(new)
            if values is not None and values != reference.child_place.values_of(old):
                self._wanted.setdefault(reference, {})[values] = None
        for reference, place in references.by_parent:
            before = place.values_of(old)
            after = tuple([new[offset] for offset in place.offsets])
            if before != after:
                self._lose(reference, before, after)

    def _lose(self, reference: Reference, before: Values | None, after: Values | None) -> None:
        if before is None:
            return
        became = self._became.setdefault(reference, {})
        first = became.pop(before, before)  # changed again: its children still have what it was first
        self._lost.setdefault(reference, {})[first] = after
        if after is not None:
            became[after] = first

    def forget(self) -> None:
        """Drops what was told of changes that were undone."""
        self._wanted, self._lost, self._became = {}, {}, {}

    # The end of the statement, or with IGNORE of a row

    def finish(self) -> None:
        """Checks all references, and changes the children that actions say; raises 1451, 1452 and 3008."""
        deltas: dict[int, tuple[Table, int]] = {}
        depth = 0
        while self._wanted or self._lost:
            wanted, lost = self._wanted, self._lost
            self.forget()
            ts = self.session.storage.now_ts() if self.pessimistic else self.txn.start_ts
            reader = self.txn.at(ts) if self.pessimistic else self.txn
            for reference, values in wanted.items():
                self._need_parents(reference, values, reader, ts)
            children = [
                (reference, found, gone)
                for reference, gone in lost.items()
                if (found := self._children(reference, gone, reader))
            ]
            for reference, found, gone in children:
                self._refuse_children(reference, found, gone)
            if children and depth == CASCADE_DEPTH_MAX:
                raise error(3008, f"Foreign key cascade delete/update exceeds max depth of {CASCADE_DEPTH_MAX}.")
            for place, (reference, found, gone) in enumerate(children):
                if place:  # what came before may have changed the rows, and their keys
                    found = self._children(reference, gone, reader)
                removed = self._change_children(reference, found, gone, reader, ts)
                table, before = deltas.get(reference.child.id, (reference.child, 0))
                deltas[table.id] = table, before - removed
            depth += 1
        for table, delta in deltas.values():
            self.session.changed(table, delta)

    def _need_parents(self, reference: Reference, wanted: Collection[Values], reader: Reader, ts: int) -> None:
        """Locks the parents of new children; raises 1452 when there is none."""
        place = reference.parent_place
        if place is None:
            raise no_parent(reference)
        if place.record_key is not None:
            keys = {values: place.record_key(values) for values in wanted}
        else:
            found = place.records(reader, wanted, most=1)
            if len(found) < len(wanted):
                raise no_parent(reference)
            keys = {values: records[0] for values, records in found.items()}
        locked = sorted(set(keys.values()))
        if self.pessimistic:
            wait_ms = self.session.variables.lock_wait_ms
            there = self.txn.lock_and_get(locked, for_update_ts=ts, wait_ms=wait_ms)
        else:
            there = reader.batch_get(locked)
        if len(there) < len(locked):
            raise no_parent(reference)
        self.txn.witness(locked)
        if place.record_key is None:
            decode = place.table.codec.key_decoder(place.offsets)
            for values, key in keys.items():
                if place.identity(decode(key, there[key])) != place.identity(values):
                    raise no_parent(reference)

    def _children(self, reference: Reference, lost: Lost, reader: Reader) -> Mapping[Values, list[bytes]]:
        """The keys of the records that refer to what is lost; one for each value when that is enough."""
        most = None if CHANGING & {reference.key.on_delete, reference.key.on_update} else 1
        rows = self.session.database.statistics.rows(reference.child)
        return reference.child_place.records(reader, lost, most, at_once=rows < LOOKUP_COST_ROWS * len(lost))

    def _refuse_children(self, reference: Reference, found: Collection[Values], lost: Lost) -> None:
        for values in found:
            if _action(reference, lost[values]) not in CHANGING:
                message = f"Cannot delete or update a parent row: a foreign key constraint fails ({reference.told})"
                raise error(ER_ROW_IS_REFERENCED, message)

    def _change_children(
        self, reference: Reference, found: Mapping[Values, list[bytes]], lost: Lost, reader: Reader, ts: int
    ) -> int:
        """Deletes or changes the children; returns how many were deleted."""
        writer, filler = self._writer(reference.child)
        writer.reads_at(reader, ts)
        stored = writer.locked(sorted({key for keys in found.values() for key in keys}))
        removed = count = 0
        for values, after in lost.items():  # in the order of the parents, whose keys make way for each other
            if _action(reference, after) is ReferAction.SET_NULL:
                after = (None,) * len(values)
            for key in found.get(values, ()):
                count += 1
                if count % CANCEL_CHECK_ROWS == 0:
                    self.session.check_cancelled()
                old = writer.decode(key, stored[key])
                if after is None:
                    writer.delete(key, old)
                    removed += 1
                else:
                    self._reassign(reference, writer, filler, key, old, after)
        return removed

    def _reassign(
        self, reference: Reference, writer: RowWriter, filler: ColumnFiller, key: bytes, old: Row, values: Values
    ) -> None:
        new = list(old)
        for offset, value in zip(reference.child_place.offsets, values, strict=True):
            if value is not None and reference.child.columns[offset].type.tp == Tp.TIMESTAMP:
                value = from_utc(value, writer.tz)
            new[offset] = filler.cast(offset, value, 1)
        if filler.completes:
            filler.complete(new, environment(self.session, (), writing=True))
        if new != list(old):
            writer.update(key, old, new)

    def _writer(self, table: Table) -> tuple[ReferenceWriter, ColumnFiller]:
        from sqlfront.exec.filler import ColumnFiller

        known = self._writers.get(table.id)
        if known is None:
            self.session.catalog.schema.check_writable(table)
            writer = ReferenceWriter(self, table, self._graph.of(table))
            known = self._writers[table.id] = writer, ColumnFiller(table, writer.tz, strict=True)
        return known


def _action(reference: Reference, after: Values | None) -> ReferAction:
    return reference.key.on_delete if after is None else reference.key.on_update


def no_parent(reference: Reference) -> DatabaseError:
    message = f"Cannot add or update a child row: a foreign key constraint fails ({reference.told})"
    return error(ER_NO_REFERENCED_ROW, message)
