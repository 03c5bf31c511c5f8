"""Executables of INSERT, REPLACE, UPDATE and DELETE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from coprocessor.evaluate import Closure, Env, compile_expr
from kvstore import errors as kv
from kvstore.client.api import Reader, Transaction
from sqlfront.bind.dml import (
    Assignment,
    ChangePlan,
    DefaultValue,
    InsertPlan,
    JoinedChangePlan,
    TargetPlan,
    bind_delete,
    bind_insert,
    bind_update,
)
from sqlfront.catalog.model import Column, Schema, Table
from sqlfront.errors import ER_DUP_ENTRY, DatabaseError
from sqlfront.exec.constraints import forgive
from sqlfront.exec.context import environment, read_variables_as, rows_of_limit
from sqlfront.exec.direct import order_by
from sqlfront.exec.filler import ColumnFiller, implicit_default
from sqlfront.exec.foreign_keys import ReferenceChanges, References
from sqlfront.exec.insert_alone import compile_alone, number_row
from sqlfront.exec.keyed_update import compile_keyed
from sqlfront.exec.partitioned import PartitionedWriter, row_writer
from sqlfront.exec.query import DirectQuery, PointQuery, ResidualQuery, compile_query
from sqlfront.exec.reading import ScanReader
from sqlfront.exec.rows import RowWriter
from sqlfront.exec.sources import TooManyRows, at_most
from sqlfront.exec.statement import bind_context
from sqlfront.parse import Delete, Insert, Parsed, Update
from sqlfront.plan.in_order import expected_count, ordered
from sqlfront.plan.nodes import Node, Ordered, QueryPlan, Scan, Sort
from sqlfront.plan.optimize import choose_path, optimize, part_scans
from sqlfront.plan.path_order import wanted_keys
from sqlfront.plan.rules.fold_constants import fold_constants
from sqlfront.plan.tell_late import tell_late
from sqlfront.result import Result

if TYPE_CHECKING:
    from coprocessor.types import FieldType
    from sqlfront.bind.scope import BindContext
    from sqlfront.session import Session

Row = tuple[Any, ...]
Compiled = list[tuple[int, Closure | None]]

CANCEL_CHECK_ROWS = 256
TARGET_BYTES = 240
"""What a row to be changed takes beside its key and its values: the tuples, and the places in dictionaries."""
VALUE_BYTES = 56
"""What a value of it takes beside its bytes."""
HELD_STEP = 1 << 18


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


def rows_of(
    session: Session, query: DirectQuery | ResidualQuery, reader: Reader, params: tuple[Any, ...], *, ignore: bool
) -> Iterator[Row]:
    """The rows, to be stored with or without IGNORE, of a compiled query; read by a transaction's own reader."""
    if isinstance(query, DirectQuery):
        env = environment(session, params, writing=True, ignore=ignore)
        pushing = session.pushing(env)
        warned = len(session.warnings)
        try:
            yield from query.direct.run(reader, env, pushing=pushing)
            return
        except TooManyRows:
            del session.warnings[warned:]  # its rows are read again
            query = query.residual
        finally:
            if pushing is not None:
                pushing.close()
    env = environment(session, params, writing=True, ignore=ignore)
    result = Result(query.columns, query.source_at(session, env, reader))
    try:
        for batch in result.fetch():
            yield from batch
    finally:
        result.close()


def compile_source(session: Session, node: Node) -> DirectQuery | ResidualQuery:
    """Compiles a query whose rows a change takes in."""
    remote = session.storage.push_down is not None
    root = optimize(node, session.database.statistics, remote=remote)
    if remote:
        from sqlfront.plan.push_down import kept_here

        root = kept_here(root)
    root = tell_late(root)
    plan = QueryPlan(root, tuple(c.name for c in root.cols))
    query = compile_query(plan, session.variables.zone)
    if isinstance(query, PointQuery):
        return ResidualQuery(plan, query.columns, session.variables.zone)
    return query


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
        self.on_duplicate = _compile_assignments(plan.on_duplicate, layout)
        self.changed = _with_computed(self.table, {a.offset for a in plan.on_duplicate})
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
        new = _assign(change.on_duplicate, seen, list(old), self.filler, self.env)
        new = _touch(change.table, list(old), new, {a.offset for a in change.plan.on_duplicate}, self.filler, self.env)
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


def _compile_assignments(assignments: Sequence[Assignment], layout: dict[int, int]) -> Compiled:
    return [
        (a.offset, None if isinstance(a.value, DefaultValue) else compile_expr(a.value, layout)) for a in assignments
    ]


def _assign(
    assignments: Compiled,
    row: Row,
    new: list[Any],
    filler: ColumnFiller,
    env: Env,
) -> list[Any]:
    """Applies assignments from left to right; each sees what those before it did."""
    seen = list(row)
    for offset, closure in assignments:
        value = filler.default(offset, env, seen) if closure is None else filler.cast(offset, closure(seen, env), 1)
        new[offset] = value
        seen[offset] = value
    return new


def _touch(
    table: Table, old: list[Any], new: list[Any], assigned: set[int], filler: ColumnFiller, env: Env
) -> list[Any]:
    """What else becomes of a row that changes: ON UPDATE CURRENT_TIMESTAMP, generated columns."""
    if new == old:
        return new
    for column in table.columns:
        if column.on_update_now and column.offset not in assigned:
            fsp = max(column.type.decimal, 0)
            new[column.offset] = filler.casters[column.offset](env.context[("now", fsp)], 1)
    if filler.completes:
        filler.complete(new, env)
    return new


def _with_computed(table: Table, assigned: set[int]) -> frozenset[int]:
    """The columns that may differ when those assigned do."""
    return frozenset(assigned | {c.offset for c in table.columns if c.on_update_now or c.generated is not None})


class TableChange:
    """UPDATE or DELETE of one table whose rows one access path finds."""

    any_integer = False

    def __init__(self, session: Session, plan: ChangePlan, schema: Schema) -> None:
        self.plan = plan
        self.table = plan.scan.table
        self.references = References(session, schema, [self.table])
        self.scans = _planned_scans(session, plan.scan)
        """One for each partition that can have such rows; one alone of other tables."""
        self.tz = session.variables.zone
        self.readings = [ScanReader(scan, self.tz) for scan in self.scans]
        layout = {c.id: i for i, c in enumerate(plan.scan.cols)}
        self.sort = order_by(plan.order, layout) if plan.order else None
        self.ordered = _in_order(session, plan, self.scans)
        """The path of which the first rows are the ones that LIMIT wants, where one costs less."""
        self.first = [] if self.ordered is None else [ScanReader(self.ordered.scan, self.tz)]
        self.filler = ColumnFiller(self.table, self.tz, strict=session.variables.strict and not plan.ignore)
        self.assignments: Compiled | None = None
        self.changed: frozenset[int] = frozenset()
        self.assigned: set[int] = set()
        self.touches = self.filler.completes or any(c.on_update_now for c in self.table.columns)
        if plan.assignments is not None:
            self.assignments = _compile_assignments(plan.assignments, layout)
            self.assigned = {a.offset for a in plan.assignments}
            self.changed = _with_computed(self.table, self.assigned)
        self.keyed = None if self.references.graph else compile_keyed(plan, self.scans, self.filler)
        """The short way to a row that is known by its key."""

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        filler, keyed = self.filler, self.keyed
        if not filler.strict:
            filler = ColumnFiller(self.table, self.tz, strict=False, warn=session.warn)

        def work(txn: Transaction, pessimistic: bool) -> Result:
            if keyed is not None:
                return keyed.run(session, txn, pessimistic, params)
            return self._work(session, txn, pessimistic, params, filler)

        result = session.run_write(work, self.references.tables)
        session.row_count = result.affected_rows
        return result

    def _work(
        self, session: Session, txn: Transaction, pessimistic: bool, params: tuple[Any, ...], filler: ColumnFiller
    ) -> Result:
        env = environment(session, params, writing=True, ignore=self.plan.ignore)
        changes = self.references.begin(session, txn, pessimistic)
        writer = row_writer(session, txn, self.table, pessimistic, check_now=self.plan.ignore, changes=changes)
        targets = self._targets(writer, env) if self.ordered is None else self._first_targets(writer, env)
        if self.assignments is None:
            deleted = 0
            delete = _deleter(session, writer, changes, self.plan.ignore)
            for i, (key, row, _) in enumerate(targets):
                if i % CANCEL_CHECK_ROWS == CANCEL_CHECK_ROWS - 1:
                    session.check_cancelled()
                deleted += delete(key, row)
            if changes is not None:
                changes.finish()
            session.changed(self.table, -deleted)
            return Result(None, None, deleted)
        changed = 0
        width = len(self.table.columns)
        update = _updater(session, writer, changes, self.plan.ignore)
        for i, (key, row, stored) in enumerate(targets):
            if i % CANCEL_CHECK_ROWS == CANCEL_CHECK_ROWS - 1:
                session.check_cancelled()
            old = list(row[:width])
            try:
                new = _assign(self.assignments, row, list(old), filler, env)
                if self.touches:
                    new = _touch(self.table, old, new, self.assigned, filler, env)
            except DatabaseError as exc:
                forgive(session, exc, self.plan.ignore)
                continue
            if new == old:
                continue
            changed += update(key, old, new, self.changed, stored)
        if changes is not None:
            changes.finish()
        info = f"Rows matched: {len(targets)}  Changed: {changed}  Warnings: {len(session.warnings)}"
        return Result(None, None, changed, 0, info)

    def _first_targets(self, writer: RowWriter, env: Env) -> list[tuple[bytes, Row, bytes]]:
        """The same as `_targets`, by the path that has them in order, as long as that costs less."""
        assert self.ordered is not None
        warnings = writer.session.warnings
        warned = len(warnings)
        try:
            return self._targets(writer, env, self.ordered)
        except TooManyRows:
            del warnings[warned:]
            return self._targets(writer, env)

    def _targets(self, writer: RowWriter, env: Env, ordered: Ordered | None = None) -> list[tuple[bytes, Row, bytes]]:
        """The rows to change between their record keys and their bytes, locked, in order, as many as LIMIT allows.
        Raises TooManyRows where the path in order has too many."""
        out: list[tuple[bytes, Row, bytes]] = []
        sort = self.sort if ordered is None else None
        limit = self._limit(env) if sort is None else None
        to_lock: list[bytes] = []
        held, row_bytes = 0, TARGET_BYTES + VALUE_BYTES * len(self.table.columns)
        for reading in self.readings if ordered is None else self.first:
            decode, predicates = reading._decode, reading.predicates
            # Keys that are known are locked and read at once, whether or not the rows satisfy all conditions.
            keys = reading.points(env) if writer.pessimistic and self.plan.limit is None else None
            pairs: Iterable[tuple[bytes, bytes]]
            if ordered is not None:
                pairs = at_most(reading.pairs(writer.reader, env, reverse=ordered.reverse), ordered.rows_max)
            else:
                pairs = reading.pairs(writer.reader, env) if keys is None else writer.locked(keys).items()
            for key, value in pairs:
                if limit is not None and len(out) >= limit:
                    break
                row = decode(key, value)
                if not predicates or all(p(row, env) for p in predicates):
                    out.append((key, row, value))
                    held += row_bytes + len(key) + 2 * len(value)  # as it lies, and decoded
                    if held > HELD_STEP:
                        env.quota.hold(held)
                        held = 0
                    if keys is None:
                        to_lock.append(key)
        env.quota.hold(held)
        if sort is not None:
            rows = sort([(*row, key, value) for key, row, value in out], env)
            limit = self._limit(env)
            out = [(row[-2], row[:-2], row[-1]) for row in (rows if limit is None else rows[:limit])]
            to_lock = [key for key, _, _ in out]
        writer.lock(to_lock)
        return out

    def _limit(self, env: Env) -> int | None:
        limit = self.plan.limit
        if limit is None or limit.count is None:
            return None
        return rows_of_limit(limit.count, env)


def _updater(
    session: Session, writer: RowWriter, changes: ReferenceChanges | None, ignore: bool
) -> Callable[[bytes, list[Any], list[Any], frozenset[int], bytes], bool]:
    """What writes a changed row, and tells whether it did: with IGNORE a row stays as it is, with a warning, when its
    unique key is taken or a foreign key refuses it."""
    if not ignore:

        def update(key: bytes, old: list[Any], new: list[Any], changed: frozenset[int], stored: bytes) -> bool:
            writer.update(key, old, new, changed, stored)
            return True

        return update

    def forgiving(key: bytes, old: list[Any], new: list[Any], changed: frozenset[int], stored: bytes) -> bool:
        mark = writer.txn.mark()
        try:
            writer.update(key, old, new, changed, stored)
            if changes is not None:
                changes.finish()
            return True
        except kv.KeyExists as exc:
            from sqlfront.translate import translate

            session.warn(ER_DUP_ENTRY, translate(exc, session.database.find_table).message)
        except DatabaseError as exc:
            forgive(session, exc)
        writer.txn.undo_to(mark)
        if changes is not None:
            changes.forget()
        return False

    return forgiving


def _deleter(
    session: Session, writer: RowWriter, changes: ReferenceChanges | None, ignore: bool
) -> Callable[[bytes, Row], bool]:
    """What deletes a row, and tells whether it did: with IGNORE a row that others refer to stays, with a warning."""

    def delete(key: bytes, row: Row) -> bool:
        writer.delete(key, row)
        return True

    if not ignore or changes is None:
        return delete

    def forgiving(key: bytes, row: Row) -> bool:
        mark = writer.txn.mark()
        try:
            writer.delete(key, row)
            changes.finish()
            return True
        except DatabaseError as exc:
            forgive(session, exc)
        writer.txn.undo_to(mark)
        changes.forget()
        return False

    return forgiving


def _planned_scans(session: Session, scan: Scan) -> list[Scan]:
    """The scan, or those of its partitions, with access paths; they read whole rows, so no index covers them."""
    folded = fold_constants(scan)
    assert isinstance(folded, Scan)
    statistics = session.database.statistics
    parts = part_scans(folded)
    return [replace(part, access=replace(choose_path(part, statistics), cover=False)) for part in parts]


def _in_order(session: Session, plan: ChangePlan, scans: Sequence[Scan]) -> Ordered | None:
    """The path to the first rows of ORDER BY ... LIMIT, where it costs less than to read and sort all of them."""
    if len(scans) != 1 or plan.limit is None or not plan.order:
        return None
    (scan,) = scans
    keys = wanted_keys(Sort(scan, plan.order), (), scan)
    found = None if keys is None else ordered(scan, keys, expected_count(plan.limit.count), session.database.statistics)
    if found is None or found.scan.access is None:
        return None
    return replace(found, scan=replace(found.scan, access=replace(found.scan.access, cover=False)))


class JoinedChange:
    """UPDATE or DELETE whose rows a query finds."""

    any_integer = False

    def __init__(self, session: Session, plan: JoinedChangePlan, schema: Schema) -> None:
        self.plan = plan
        self.references = References(session, schema, [t.table for t in plan.targets])
        self.query = compile_source(session, plan.query)
        self.tz = session.variables.zone
        self.strict = session.variables.strict and not plan.ignore

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        def work(txn: Transaction, pessimistic: bool) -> Result:
            return self._work(session, txn, pessimistic, params)

        result = session.run_write(work, self.references.tables)
        session.row_count = result.affected_rows
        return result

    def _work(self, session: Session, txn: Transaction, pessimistic: bool, params: tuple[Any, ...]) -> Result:
        env = environment(session, params, writing=True, ignore=self.plan.ignore)
        changes = self.references.begin(session, txn, pessimistic)
        writers = [
            row_writer(session, txn, t.table, pessimistic, check_now=self.plan.ignore, changes=changes)
            for t in self.plan.targets
        ]
        reader = writers[0].reader
        rows = rows_of(session, self.query, reader, params, ignore=self.plan.ignore)
        found = list(env.quota.rows(rows))
        affected = 0
        for target, writer in zip(self.plan.targets, writers, strict=True):
            # Every target reads its rows as the query did: at the first writer's timestamp.
            writer.reads_as(writers[0])
            filler = ColumnFiller(target.table, self.tz, strict=self.strict, warn=session.warn)
            affected += self._change(session, target, writer, filler, found, env, changes)
        if changes is not None:
            changes.finish()
        return Result(None, None, affected)

    def _change(
        self,
        session: Session,
        target: TargetPlan,
        writer: RowWriter,
        filler: ColumnFiller,
        found: Sequence[Row],
        env: Env,
        changes: ReferenceChanges | None,
    ) -> int:
        rows: dict[bytes, Row] = {}
        for row in found:
            key = _record_key(target, writer, row)
            if key is not None:
                # A record that several joined rows match is changed once, by the first.
                rows.setdefault(key, row)
        values = writer.locked(list(rows))
        env.quota.hold(sum(map(getsizeof, values.values())))
        count = 0
        assigned = {offset for offset, _ in target.assigned or ()}
        changed = _with_computed(target.table, assigned)
        update = _updater(session, writer, changes, self.plan.ignore)
        delete = _deleter(session, writer, changes, self.plan.ignore)
        for i, (key, row) in enumerate(rows.items()):
            if i % CANCEL_CHECK_ROWS == CANCEL_CHECK_ROWS - 1:
                session.check_cancelled()
            value = values.get(key)
            if value is None:
                continue
            old = writer.decode(key, value)
            if target.assigned is None:
                count += delete(key, old)
                continue
            new = list(old)
            try:
                for offset, position in target.assigned:
                    given = position >= 0
                    new[offset] = filler.cast(offset, row[position], 1) if given else filler.default(offset, env, new)
                new = _touch(target.table, list(old), new, assigned, filler, env)
            except DatabaseError as exc:
                forgive(session, exc, self.plan.ignore)
                continue
            if new != list(old):
                count += update(key, list(old), new, changed, value)
        if target.assigned is None:
            session.changed(target.table, -count)
        return count


def _record_key(target: TargetPlan, writer: RowWriter, found: Row) -> bytes | None:
    """The key of the record that the key values in a query's row name; None for the NULLs of an outer join."""
    values = [found[i] for i in target.key]
    if any(v is None for v in values):
        return None
    codec = writer.codec
    row: list[Any] = [None] * len(target.table.columns)
    for offset, position in target.partition:
        row[offset] = found[position]
    if target.table.common_handle:
        for part, value in zip(target.table.common_handle, values, strict=True):
            row[part.offset] = value
        utc = codec.utc_row(row, writer.tz)
        return writer.record_key(row, codec.common_handle([utc[p.offset] for p in target.table.common_handle]))
    return writer.record_key(row, int(values[0]))
