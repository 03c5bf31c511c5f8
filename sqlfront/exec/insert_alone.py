"""INSERT of one row of parameters and constants that is a transaction of its own: the shortest way to a durable row.

The conversion of the values is compiled for the plan, and what is to be written needs no transaction to be gathered
in: nothing is read but the keys that must not be there yet, and that the store checks when it commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coprocessor.codec.row import define
from sqlfront.bind.dml import DefaultValue, InsertPlan
from sqlfront.catalog.model import revisions
from sqlfront.exec.compiled_values import value_lines
from sqlfront.result import Result

if TYPE_CHECKING:
    from sqlfront.catalog.model import Table
    from sqlfront.exec.filler import ColumnFiller
    from sqlfront.session import Session


class AloneInsert:
    """The compiled form of one INSERT; see `compile_alone`."""

    def __init__(self, session: Session, table: Table, filler: ColumnFiller, lines: list[str], names: dict[str, Any]):
        self._table = table
        self._codec = table.write_codec
        self._clustered = table.clustered
        self._auto = table.auto_increment
        self._tz = filler.tz
        self._filler = filler
        self._complete = define("complete", lines, names)
        self._used = revisions([table])

    def row(self, session: Session, params: tuple[Any, ...]) -> tuple[list[Any], int, int]:
        """The whole row, the AUTO_INCREMENT value that it got, and the one that was given (or 0)."""
        row = self._complete(params)
        if self._auto is None:
            return row, 0, 0
        return row, *number_row(session, self._table, row, self._filler)

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        """Writes the row durably. Raises KeyExists and what waiting for locks raises."""
        codec, table = self._codec, self._table
        row, generated, given = self.row(session, params)
        values = codec.utc_row(row, self._tz)
        clustered = self._clustered
        handle = codec.handle_of(values) if clustered else session.database.autoids.allocate_row_ids(table)
        key = codec.record_key(handle)
        writes: dict[bytes, bytes | None] = {key: codec.encode_row(values)}
        inserts = [key] if clustered else []
        if codec.schema.indexes:
            for _, entry_key, entry_value, distinct in codec.index_entries(values, handle):
                writes[entry_key] = entry_value
                if distinct:
                    inserts.append(entry_key)
        session.write_alone(writes, inserts, table, 1, self._used)
        session.row_count = 1
        if generated:
            session.last_insert_id = generated
        return Result(None, None, 1, generated or given)


def number_row(session: Session, table: Table, row: list[Any], filler: ColumnFiller) -> tuple[int, int]:
    """Gives a row without an AUTO_INCREMENT value the next one; returns that, and the value that was given (or 0)."""
    auto = table.auto_increment
    assert auto is not None
    value = row[auto.offset]
    autoids = session.database.autoids
    if value is None or (value == 0 and not session.variables.no_auto_value_on_zero):
        value = row[auto.offset] = filler.casters[auto.offset](autoids.allocate(table), 1)
        return int(value), 0
    autoids.rebase(table, int(value))
    return 0, int(value)


def compile_alone(session: Session, plan: InsertPlan, filler: ColumnFiller) -> AloneInsert | None:
    """Compiles an INSERT of one row; None for any other statement, which goes the general way."""
    table = plan.table
    if plan.replace or plan.ignore or plan.on_duplicate or plan.query is not None or len(plan.rows) != 1:
        return None
    if not filler.strict or filler.completes or table.parts:
        return None
    auto = table.auto_increment
    names: dict[str, Any] = {}
    lines = ["def complete(params):"]
    given = dict(zip(plan.targets, plan.rows[0], strict=True))
    for column in table.columns:
        at = column.offset
        expr = given.get(at)
        optional = not filler.not_null[at] or (auto is not None and auto.offset == at)
        if expr is None:
            if column.default.kind != "const" and not column.auto_increment:
                return None
            names[f"default{at}"] = None if column.auto_increment else column.default.local(filler.tz)
            lines.append(f"    v{at} = default{at}")
            continue
        found = None if isinstance(expr, DefaultValue) else value_lines(filler, at, expr, names, optional=optional)
        if found is None:
            return None
        lines += found
    lines.append(f"    return [{', '.join(f'v{column.offset}' for column in table.columns)}]")
    return AloneInsert(session, table, filler, lines, names)
