"""What a bulk load looks at row by row, though its rows come in columns: generated columns, CHECK, partitions, and the
rows of other tables that foreign keys refer to.

The parents of all rows of a load are locked by a transaction beside it, which ends when the rows are there. Its commit
leaves a trace of the locks, as that of an INSERT does (`sqlfront/exec/foreign_keys.py`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kvstore.errors import WriteConflict
from sqlfront.bind.defaults import late_defaults
from sqlfront.errors import unsupported

if TYPE_CHECKING:
    import pyarrow as pa

    from kvstore.client.api import Transaction
    from sqlfront.catalog.model import Column, Table
    from sqlfront.plan.references import Reference, ReferenceGraph, Values
    from sqlfront.session import Session

LOCK_TRIES = 64
"""How often the parents of a chunk are looked for, when others change them meanwhile."""


class LoadedRows:
    """The rows of one load of a table, as Arrow arrays of all its columns."""

    def __init__(
        self, session: Session, table: Table, zone: dt.tzinfo, parents: Parents | None, given: Sequence[Column]
    ) -> None:
        self._session = session
        self._table = table
        self._zone = zone
        self._parents = parents
        self.late = late_defaults(table) - {column.offset for column in given}
        """The columns without values whose DEFAULT reads others."""

    def examine(self, arrays: list[pa.Array], first_row: int) -> None:
        """Puts the values of generated columns, and defaults that read the row, in their places. Raises 3819 and 1452
        for rows that cannot be."""
        if self._table.generated or self._table.checks or self.late:
            self._complete(arrays, first_row)
        if self._parents is not None:
            for reference in self._parents.references:
                columns = self._values(arrays, reference.child_place.offsets, first_row)
                self._parents.need(reference, zip(*columns, strict=True), self._zone)

    def spread(self, arrays: Sequence[pa.Array], first_row: int) -> dict[int, list[int]]:
        """The places of the rows of each partition."""
        from sqlfront.bind.partitions import partitioning_of
        from sqlfront.exec.context import environment

        partitioning = partitioning_of(self._table)
        assert partitioning is not None
        env = environment(self._session, (), writing=True)
        out: dict[int, list[int]] = {}
        columns = self._values(arrays, partitioning.offsets, first_row)
        for place, row in enumerate(zip(*columns, strict=True)):
            number = partitioning.locate(dict(zip(partitioning.offsets, row, strict=True)), env)
            out.setdefault(number, []).append(place)
        return out

    def _values(self, arrays: Sequence[pa.Array], offsets: Iterable[int], first_row: int) -> list[list[Any]]:
        """Columns as Python values of their types."""
        from coprocessor.arrow import column_values
        from coprocessor.codec.columns import cast_column

        schemas = self._table.schema.columns
        # without a zone TIMESTAMPs stay as they are: in the session's, as expressions have them
        return [
            column_values(cast_column(arrays[o], schemas[o], None, first_row=first_row), schemas[o].type)
            for o in offsets
        ]

    def _complete(self, arrays: list[pa.Array], first_row: int) -> None:
        from coprocessor.arrow import column_array
        from sqlfront.exec.context import environment
        from sqlfront.exec.filler import LATE, ColumnFiller

        session, table = self._session, self._table
        filler = ColumnFiller(table, self._zone, strict=True)
        if not filler.completes and not self.late:
            return
        env = environment(session, (), writing=True)
        columns = self._values(arrays, range(len(arrays)), first_row)
        rows = [list(row) for row in zip(*columns, strict=True)]
        for number, row in enumerate(rows, first_row):
            for offset in self.late:
                row[offset] = LATE
            filler.complete_late(row, env)
            filler.complete(row, env, number)
        for offset in (*self.late, *(filler.generated.stored if filler.generated is not None else ())):
            arrays[offset] = column_array([row[offset] for row in rows], table.columns[offset].type, inside=True)


class Parents:
    """The rows that a load's rows refer to; see `parents_held`."""

    def __init__(self, session: Session, txn: Transaction, graph: ReferenceGraph, table: Table) -> None:
        self._session = session
        self._txn = txn
        self._graph = graph
        self.references = graph.of(table).outgoing
        self._known: dict[Reference, set[Values]] = {reference: set() for reference in self.references}

    def need(self, reference: Reference, rows: Iterable[tuple[Any, ...]], zone: dt.tzinfo) -> None:
        """Locks the parents of rows, of which it is given the key's values; raises 1452 when there is none."""
        from sqlfront.exec.foreign_keys import ReferenceChanges

        codec, offsets = reference.child.codec, reference.child_place.offsets
        known = self._known[reference]
        wanted = {values for values in rows if None not in values} - known
        if not wanted:
            return
        blank: list[Any] = [None] * len(reference.child.columns)
        for attempt in range(LOCK_TRIES):
            changes = ReferenceChanges(self._graph, self._session, self._txn, True)
            for values in wanted:
                row = list(blank)
                for offset, value in zip(offsets, values, strict=True):
                    row[offset] = value
                changes.want(reference, codec.utc_row(row, zone))
            try:
                changes.finish()
                break
            except WriteConflict:
                if attempt == LOCK_TRIES - 1:
                    raise
        known |= wanted


@contextmanager
def parents_held(session: Session, table: Table) -> Iterator[Parents | None]:
    """Keeps what the rows of a load refer to as it is until the block ends, when they are there; None for a table
    without foreign keys, or without `foreign_key_checks`."""
    from sqlfront.plan.references import references_of

    graph = references_of(session.database.catalog.schema, [table], session.variables.foreign_key_checks)
    if graph is None or not graph.of(table).outgoing:
        yield None
        return
    for reference in graph.of(table).outgoing:
        if reference.parent is not None and reference.parent.id == table.id:
            message = f"a bulk load of table '{table.name}', which refers to itself; SET foreign_key_checks = 0"
            raise unsupported(f"{message} loads it without checks")
    txn = session.storage.begin(pessimistic=True)
    txn.cancel, txn.lock_wait_ms = session.cancel, session.variables.lock_wait_ms
    try:
        yield Parents(session, txn, graph, table)
        txn.commit()
    finally:
        txn.rollback()
