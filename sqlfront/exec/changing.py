"""Executables of UPDATE and DELETE: of one table along an access path, and of the tables of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from coprocessor.evaluate import Closure, Env, compile_expr
from kvstore import errors as kv
from kvstore.client.api import Reader, Transaction
from sqlfront.bind.dml import Assignment, ChangePlan, DefaultValue, JoinedChangePlan, TargetPlan
from sqlfront.catalog.model import Schema, Table
from sqlfront.errors import ER_DUP_ENTRY, DatabaseError
from sqlfront.exec.constraints import forgive
from sqlfront.exec.context import environment, rows_of_limit
from sqlfront.exec.direct import order_by
from sqlfront.exec.filler import ColumnFiller
from sqlfront.exec.foreign_keys import ReferenceChanges, References
from sqlfront.exec.keyed_update import compile_keyed
from sqlfront.exec.partitioned import row_writer
from sqlfront.exec.query import DirectQuery, PointQuery, ResidualQuery, compile_query
from sqlfront.exec.reading import ScanReader
from sqlfront.exec.rows import RowWriter
from sqlfront.exec.sources import TooManyRows, at_most
from sqlfront.plan.in_order import expected_count, ordered
from sqlfront.plan.nodes import Node, Ordered, QueryPlan, Scan, Sort
from sqlfront.plan.optimize import choose_path, optimize, part_scans
from sqlfront.plan.path_order import wanted_keys
from sqlfront.plan.rules.fold_constants import fold_constants
from sqlfront.plan.tell_late import tell_late
from sqlfront.result import Result

if TYPE_CHECKING:
    from sqlfront.session import Session

Row = tuple[Any, ...]
Compiled = list[tuple[int, Closure | None]]

CANCEL_CHECK_ROWS = 256
TARGET_BYTES = 240
"""What a row to be changed takes beside its key and its values: the tuples, and the places in dictionaries."""
VALUE_BYTES = 56
"""What a value of it takes beside its bytes."""
HELD_STEP = 1 << 18


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


def compile_assignments(assignments: Sequence[Assignment], layout: dict[int, int]) -> Compiled:
    return [
        (a.offset, None if isinstance(a.value, DefaultValue) else compile_expr(a.value, layout)) for a in assignments
    ]


def assign(
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


def touch(
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


def with_computed(table: Table, assigned: set[int]) -> frozenset[int]:
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
            self.assignments = compile_assignments(plan.assignments, layout)
            self.assigned = {a.offset for a in plan.assignments}
            self.changed = with_computed(self.table, self.assigned)
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
                new = assign(self.assignments, row, list(old), filler, env)
                if self.touches:
                    new = touch(self.table, old, new, self.assigned, filler, env)
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
        changed = with_computed(target.table, assigned)
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
                new = touch(target.table, list(old), new, assigned, filler, env)
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
