"""Executables of INSERT and REPLACE, and the door to those of UPDATE and DELETE (`changing`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from coprocessor.evaluate import Closure, compile_expr
from kvstore import errors as kv
from kvstore.client.api import Transaction
from sqlfront.bind.dml import (
    ChangePlan,
    DefaultValue,
    InsertPlan,
    bind_delete,
    bind_insert,
    bind_update,
)
from sqlfront.catalog.model import Column, Schema, Table
from sqlfront.errors import ER_DUP_ENTRY, DatabaseError
from sqlfront.exec.changing import (
    CANCEL_CHECK_ROWS,
    JoinedChange,
    Row,
    TableChange,
    assign,
    compile_assignments,
    compile_source,
    rows_of,
    touch,
    with_computed,
)
from sqlfront.exec.constraints import forgive
from sqlfront.exec.context import environment, read_variables_as
from sqlfront.exec.filler import ColumnFiller, implicit_default
from sqlfront.exec.foreign_keys import References
from sqlfront.exec.insert_alone import compile_alone, number_row
from sqlfront.exec.partitioned import PartitionedWriter, row_writer
from sqlfront.exec.rows import RowWriter
from sqlfront.exec.statement import bind_context
from sqlfront.parse import Delete, Insert, Parsed, Update
from sqlfront.result import Result

if TYPE_CHECKING:
    from coprocessor.types import FieldType
    from sqlfront.bind.scope import BindContext
    from sqlfront.session import Session


def make_change(
    session: Session, ctx: BindContext, statement: Insert | Update | Delete
) -> InsertChange | TableChange | JoinedChange:
    """Binds and plans a statement that changes rows."""
    match statement:
        case Insert():
            return InsertChange(session, bind_insert(ctx, statement), ctx.schema)
        case Update():
            plan = bind_update(ctx, statement)
        case Delete():
            plan = bind_delete(ctx, statement)
    if isinstance(plan, ChangePlan):
        return TableChange(session, plan, ctx.schema)
    return JoinedChange(session, plan, ctx.schema)


def insert_of(
    session: Session, table: Table, name: str, columns: Sequence[str], types: Sequence[FieldType], duplicates: str = ""
) -> InsertChange:
    """An INSERT of rows of parameters (`run_rows`), of these types, into columns of a table that is called `name`.

    `duplicates` (ignore, replace or empty) says what becomes of rows whose unique keys are taken.
    """
    keys = tuple(f"value_{i}" for i in range(len(columns)))
    target = exp.Table(this=exp.to_identifier(name, quoted=True), db=exp.to_identifier(table.db, quoted=True))
    tree = exp.Insert(
        this=exp.Schema(this=target, expressions=[exp.to_identifier(n, quoted=True) for n in columns]),
        expression=exp.Values(expressions=[exp.Tuple(expressions=[exp.Placeholder(this=key) for key in keys])]),
        ignore=duplicates == "ignore",
    )
    statement = Insert(tree, duplicates == "replace")
    ctx = bind_context(session, Parsed(statement, "", names=keys), [None] * len(keys))
    ctx.param_types = dict(zip(keys, types, strict=True))
    if not table.temporary:
        ctx.schema = ctx.schema.stored
    change = make_change(session, ctx, statement)
    assert isinstance(change, InsertChange)
    return change


class InsertChange:
    """INSERT and REPLACE."""

    any_integer = False

    def __init__(self, session: Session, plan: InsertPlan, schema: Schema) -> None:
        self.plan = plan
        self.table = plan.table
        self.references = References(session, schema, [plan.table])
        self.query = None if plan.query is None else compile_source(session, plan.query)
        self.items: list[Closure] = []
        """What is inserted, over the rows of the query; without any the rows themselves."""
        self.assigned: Mapping[str, FieldType] = {}
        """The user variables that are assigned on the way, and what those who read them are told."""
        own = {i: p for p, i in enumerate(plan.new)} if plan.reads_row else {}
        self.rows = [[None if isinstance(e, DefaultValue) else compile_expr(e, own) for e in row] for row in plan.rows]
        self.filler = ColumnFiller(
            self.table, session.variables.zone, strict=session.variables.strict and not plan.ignore
        )
        self.filler_warns = plan.ignore or not session.variables.strict
        computed = {c.offset for c in self.table.generated}
        self.given = tuple((place, offset) for place, offset in enumerate(plan.targets) if offset not in computed)
        """The places of values and the columns that they are for; what is given to generated ones is DEFAULT."""
        self.missing = tuple(
            c.offset for c in self.table.columns if c.offset not in plan.targets and c.offset not in computed
        )
        self.auto = self.table.auto_increment
        layout = {i: p for p, i in enumerate((*plan.existing, *plan.new, *plan.beside))}
        self.on_duplicate = compile_assignments(plan.on_duplicate, layout)
        self.changed = with_computed(self.table, {a.offset for a in plan.on_duplicate})
        unique = sum(index.unique for index in self.table.write_codec.schema.indexes)
        self.one_key = unique + self.table.clustered == 1
        self.alone = None if self.references.graph else compile_alone(session, plan, self.filler)

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        alone = self.alone
        if alone is not None and session.txn is None:
            return alone.run(session, params)
        if alone is not None:

            def write(txn: Transaction, pessimistic: bool) -> Result:
                row, generated, given = alone.row(session, params)
                RowWriter(session, txn, self.table, pessimistic).insert(row)
                session.changed(self.table, 1)
                if generated:
                    session.last_insert_id = generated
                return Result(None, None, 1, generated or given)

            result = session.run_write(write, (self.table,))
            session.row_count = 1
            return result
        filler = self.filler
        if self.filler_warns:
            filler = ColumnFiller(self.table, session.variables.zone, strict=filler.strict, warn=session.warn)

        variables = dict(session.user_variables) if self.assigned else None

        def work(txn: Transaction, pessimistic: bool) -> Result:
            if variables is not None:  # what was assigned before a race was lost
                session.user_variables.clear()
                session.user_variables.update(variables)
            return _InsertRun(self, session, txn, pessimistic, params, filler).run()

        result = session.run_write(work, self.references.tables)
        session.row_count = result.affected_rows
        return result

    def run_rows(self, session: Session, open_rows: Callable[[], Iterable[Row]]) -> Result:
        """Runs it for every row of parameters, as one statement; where one is `MISSING` the column takes its default.

        `open_rows` is called again when the statement has lost a race.
        """
        filler = self.filler
        if self.filler_warns:
            filler = ColumnFiller(self.table, session.variables.zone, strict=filler.strict, warn=session.warn)

        def work(txn: Transaction, pessimistic: bool) -> Result:
            run = _InsertRun(self, session, txn, pessimistic, (), filler)
            run.given_rows = open_rows()
            return run.run()

        result = session.run_write(work, self.references.tables)
        session.row_count = result.affected_rows
        return result


class _InsertRun:
    """One execution of an INSERT."""

    def __init__(
        self,
        change: InsertChange,
        session: Session,
        txn: Transaction,
        pessimistic: bool,
        params: tuple[Any, ...],
        filler: ColumnFiller,
    ) -> None:
        self.change = change
        self.session = session
        self.filler = filler
        self.params = params
        self.env = environment(session, params, writing=True, ignore=change.plan.ignore)
        if change.assigned:
            read_variables_as(self.env, change.assigned)
        self.changes = change.references.begin(session, txn, pessimistic)
        self.writer = row_writer(session, txn, change.table, pessimistic, changes=self.changes)
        if isinstance(self.writer, PartitionedWriter):
            self.writer.only = change.plan.partitions
        self.generated = 0
        self.given = 0
        self.affected = 0
        self.added = 0
        self.given_rows: Iterable[Row] | None = None
        """Rows of parameters, for the one row of the statement."""

    def run(self) -> Result:
        change, plan = self.change, self.change.plan
        simple = not (plan.replace or plan.ignore or plan.on_duplicate)
        width = len(plan.targets)
        count = 0
        refusing = self.changes is not None or self.filler.checks is not None or bool(change.table.parts)
        forgiving = plan.ignore and refusing
        for values in self._source():
            count += 1
            if count % CANCEL_CHECK_ROWS == 0:
                self.session.check_cancelled()
            if forgiving:
                self._forgiving(values, width, count)
                continue
            row = self._complete(values[:width] if plan.beside else values, count)
            if simple:
                self.writer.insert(row)
                self.affected += 1
                self.added += 1
            elif plan.replace:
                self._replace(row)
            else:
                self._insert_or(row, values[width:])
        if self.changes is not None:
            self.changes.finish()
        self.session.changed(change.table, self.added)
        if self.generated:
            self.session.last_insert_id = self.generated
        info = (
            f"Records: {count}  Duplicates: {count - self.added}  Warnings: {len(self.session.warnings)}"
            if count > 1
            else ""
        )
        return Result(None, None, self.affected, self.generated or self.given, info)

    def _forgiving(self, values: Sequence[Any], width: int, number: int) -> None:
        """A row of INSERT IGNORE, which is left out with a warning when a constraint refuses it."""
        mark, before = self.writer.txn.mark(), (self.affected, self.added)
        try:
            self._insert_or(self._complete(values[:width], number), values[width:])
            if self.changes is not None:
                self.changes.finish()
        except DatabaseError as exc:
            forgive(self.session, exc)
            self.writer.txn.undo_to(mark)
            self.affected, self.added = before
            if self.changes is not None:
                self.changes.forget()

    def _source(self) -> Iterable[Sequence[Any]]:
        change = self.change
        if change.query is not None:
            # Read to the end before the first row is written: the table may be its own source.
            reader, ignore = self.writer.reader, change.plan.ignore
            rows = rows_of(self.session, change.query, reader, self.params, ignore=ignore)
            if change.items:
                rows = (tuple([item(row, self.env) for item in change.items]) for row in rows)
            return list(self.env.quota.rows(rows))
        if self.given_rows is not None:
            return map(self._for_parameters, self.given_rows)
        if change.plan.reads_row:
            return map(self._reading_itself, change.rows)
        env = self.env
        return ([MISSING if c is None else c((), env) for c in row] for row in change.rows)

    def _for_parameters(self, params: Row) -> Sequence[Any]:
        self.env.params = params
        closures = self.change.rows[0]
        if self.change.plan.reads_row:
            return self._reading_itself(closures)
        env = self.env
        return [MISSING if c is None else c((), env) for c in closures]

    def _reading_itself(self, closures: Sequence[Closure | None]) -> list[Any]:
        """The values of a row of which some read those before them, or the defaults of those that are still to come."""
        change, filler = self.change, self.filler
        row = [self._before(column) for column in change.table.columns]
        values: list[Any] = []
        for offset, closure in zip(change.plan.targets, closures, strict=True):
            value = MISSING if closure is None else closure(row, self.env)
            values.append(value)
            if closure is not None:
                row[offset] = filler.casters[offset](value, 1)
        return values

    def _before(self, column: Column) -> Any:
        """What a column is to expressions before it has got its value."""
        if column.default.kind in ("const", "now"):
            return self.filler.default(column.offset, self.env)
        return None if column.type.is_temporal else implicit_default(column)

    def _complete(self, values: Sequence[Any], number: int) -> list[Any]:
        """A whole row of stored values: what was given, converted; defaults for the rest; the auto-increment value."""
        change, filler = self.change, self.filler
        row: list[Any] = [None] * len(change.table.columns)
        auto = change.auto
        casters, not_null = filler.casters, filler.not_null
        for place, offset in change.given:
            value = values[place]
            if value is MISSING:
                row[offset] = filler.default(offset, self.env)
                continue
            stored = casters[offset](value, number)
            if stored is None and not_null[offset] and (auto is None or auto.offset != offset):
                stored = filler.null(offset)
            row[offset] = stored
        for offset in change.missing:
            row[offset] = filler.default(offset, self.env)
        if auto is not None:
            self._number(row)
        if filler.late:
            filler.complete_late(row, self.env)
        if filler.completes:
            filler.complete(row, self.env, number)
        return row

    def _number(self, row: list[Any]) -> None:
        generated, given = number_row(self.session, self.change.table, row, self.filler)
        self.generated = self.generated or generated
        self.given = given or self.given

    def _replace(self, row: list[Any]) -> None:
        writer = self.writer
        handle = writer.codec.handle_of(writer.codec.utc_row(row, writer.tz)) if writer.clustered else None
        for key, value, _ in writer.conflicts(row, handle):
            old = writer.decode(key, value)
            if self.change.one_key and self.changes is None and list(old) == row:
                self.affected += 1  # it is replaced by itself: nothing is deleted, as in MySQL
                return
            writer.delete(key, old)
            self.affected += 1
            self.added -= 1
        writer.insert(row)
        self.affected += 1
        self.added += 1

    def _insert_or(self, row: list[Any], beside: Sequence[Any]) -> None:
        """INSERT IGNORE and ON DUPLICATE KEY UPDATE, which sees what the query gives beside the row too."""
        writer, change = self.writer, self.change
        handle = writer.codec.handle_of(writer.codec.utc_row(row, writer.tz)) if writer.clustered else None
        conflicts = writer.conflicts(row, handle)
        if not conflicts:
            writer.insert(row)
            self.affected += 1
            self.added += 1
            return
        key, value, index = conflicts[0]
        if not change.on_duplicate:
            from sqlfront.translate import taken

            self.session.warn(ER_DUP_ENTRY, taken(change.table, row, index).message)
            return
        old = writer.decode(key, value)
        seen: Row = (*old, *row, *beside)
        generated = self.filler.generated
        if generated is not None:
            seen = (*generated.shown(old, self.env), *generated.shown(row, self.env), *beside)
        new = assign(change.on_duplicate, seen, list(old), self.filler, self.env)
        new = touch(change.table, list(old), new, {a.offset for a in change.plan.on_duplicate}, self.filler, self.env)
        if new == list(old):
            return
        try:
            writer.update(key, old, new, change.changed, value)
        except kv.KeyExists as exc:
            if not change.plan.ignore:
                raise
            self._warn_duplicate(exc.key, exc.value)
            return
        self.affected += 2
        auto = change.auto
        if auto is not None and not self.generated:
            self.given = int(new[auto.offset] or 0)

    def _warn_duplicate(self, key: bytes, value: bytes) -> None:
        from sqlfront.translate import translate

        exc = translate(kv.KeyExists(key, value), self.session.database.find_table)
        self.session.warn(ER_DUP_ENTRY, exc.message)


MISSING: Any = object()
"""Where a value might be: the column takes its default."""
