"""A session: one connection's state, and the way of a statement through parse, bind, plan and execute.

`execute` reads like that list. Plans are cached by statement text and the Python types of its parameters, and are good
for one schema and the settings they were bound under.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coprocessor.coercible import comparing_literals
from coprocessor.division import DIV_PRECISION_INCREMENT, dividing
from coprocessor.types import TEXT_COLLATE
from kvstore import errors as kv
from kvstore.client.api import LOGICAL_BITS, CancelToken, Reader, ReadFrom, Transaction, Transactional
from sqlfront import parse
from sqlfront.catalog.model import revisions
from sqlfront.errors import (
    ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION,
    ER_QUERY_INTERRUPTED,
    ER_UNKNOWN_ERROR,
    Error,
    InterfaceError,
    ProgrammingError,
    error,
)
from sqlfront.plan_cache import CachedPlan, converter, named, no_plan, normalised
from sqlfront.result import Result
from sqlfront.user_locks import Holder, SessionLocks
from sqlfront.variables import Value, Variables

if TYPE_CHECKING:
    import pyarrow as pa

    from coprocessor.columnar.view import View
    from coprocessor.duck import DuckQuery
    from coprocessor.env import Env
    from coprocessor.expr import Call
    from coprocessor.types import FieldType
    from sqlfront.catalog.model import Column, Schema, Table
    from sqlfront.catalog.temporary import TemporaryTables
    from sqlfront.database import Database
    from sqlfront.exec.pushing import Pushing
    from sqlfront.exec.statement import Executable
    from sqlfront.exec.temporary_rows import TemporaryRows
    from sqlfront.plan.nodes import Scan, Virtual

PLAN_CACHE_SIZE = 1024
BUILD_WAIT_S = 600.0  # for a replica that a hint asks for
OPTIMISTIC_TRIES = 3  # of an autocommit statement, before it takes locks like a pessimistic one
RERUNS_MAX = 8  # of a statement whose tables changed under it
STATEMENT_RETRIES_MAX = 256  # of a statement whose rows were changed between its read and its locks
READ_ONLY = "Cannot execute statement in a READ ONLY transaction."

_BOUND_INTO_PLANS = (
    "time_zone", "sql_mode", "sql_select_limit", "max_execution_time", "tidb_isolation_read_engines",
    "foreign_key_checks", "div_precision_increment", "collation_connection",
)  # fmt: skip

_NONE: tuple[Any, ...] = ()


class Session:
    """One connection. One thread uses it at a time; `interrupt` may come from any."""

    def __init__(self, database: Database, session_id: int) -> None:
        self.database = database
        self.id = session_id
        self.storage: Transactional = database.storage
        self.temporary: TemporaryTables | None = None
        self.temporary_rows: TemporaryRows | None = None
        self.get_latest: Callable[[bytes], bytes | None] = database.storage.get_latest
        self.catalog = database.catalog
        self.current_db = ""
        self.variables = Variables(database.globals)
        self.user_variables: dict[str, tuple[object, FieldType]] = {}
        self.prepared: dict[str, str] = {}
        self.warnings: list[tuple[str, int, str]] = []
        self.registered: dict[str, pa.Table] = {}
        self.txn: Transaction | None = None
        self.explicit = False
        self.read_only = False
        self.savepoints: list[tuple[str, int]] = []
        self.next_isolation: str | None = None
        self.next_read_only: bool | None = None
        self.last_insert_id = 0
        self.row_count = -1
        self.found_rows = 0
        self.storing = ""
        """Whether rows of the query that is planned or begun are stored, and how: "strict", or with "ignore"."""
        self.killed = False
        self.plans_stale = False
        self.many = False
        """Whether execute_many runs: an interrupt between two of its rows counts."""
        self.interrupted = False
        self.closed = False
        self.cancel = CancelToken()
        self.user_locks = SessionLocks(database.user_locks, Holder(session_id, self.cancel))
        self.statement = ""
        self._isolation = ""
        self._newest: Schema | None = None
        self._readable = self.catalog.schema
        self._plan = self._before = no_plan(self._readable)
        """What runs, or ran last, and what ran before that."""
        self._used: dict[int, int] = {}
        self._deltas: dict[int, int] = {}
        self._plans: dict[str, CachedPlan] = {}
        self._typed: dict[tuple[str, tuple[FieldType, ...]], CachedPlan] = {}
        self._running: set[DuckQuery] = set()
        self._running_mutex = threading.Lock()
        self._at_replicas = ReadFrom.LEADER
        """Which copies the running statement reads."""
        if self.variables.replica_read is not ReadFrom.LEADER or self.variables.staleness_s:
            self._read_otherwise()
        for name in ("tidb_replica_read", "tidb_read_staleness"):
            self.variables.on_change(name, self._read_otherwise)
        for name in _BOUND_INTO_PLANS:
            self.variables.on_change(name, self._forget_plans)
        self.variables.on_change("last_insert_id", self._set_last_insert_id)
        tell = self.variables.tell
        tell("last_insert_id", lambda: self.last_insert_id)
        tell("warning_count", lambda: len(self.warnings))
        tell("error_count", lambda: sum(level == "Error" for level, _, _ in self.warnings))
        tell("tidb_current_ts", lambda: 0 if self.txn is None else self.txn.start_ts)

    # Statements

    def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] | None = None) -> Result:
        """Runs one statement. Raises sqlfront's errors, and those of the layers below for the caller to translate."""
        plan = self._plans.get(sql)
        if plan is not None and plan.schema is (self.catalog.schema if self.txn is None else self.schema):
            row: tuple[Any, ...] | None = None
            if params is None:
                row = _NONE if not plan.types else None
            elif plan.names:
                row = named(params, plan.names)
            elif params.__class__ is tuple or params.__class__ is list:
                row = tuple(params)
            if row is not None and tuple(map(type, row)) == plan.types:
                if plan.convert is not None:
                    row = plan.convert(row)
                    if row is None:
                        return self._first(sql, params)
                return self._run(plan, row, sql)
        return self._first(sql, params)

    def _run(self, plan: CachedPlan, row: tuple[Any, ...], sql: str, reruns: int = 0) -> Result:
        if self.warnings:
            self.warnings = []
        if self.killed or self.plans_stale or self.cancel.is_set():
            self._check_alive()
        if self.txn is None and not self.variables.autocommit:
            self.begin(explicit=False)
        self.statement = sql
        self._at_replicas = self.variables.replica_read
        self._plan = plan
        alone = self.txn is None
        try:
            return plan.run(self, row)
        except kv.Deadlock:
            self.rollback()
            raise
        except kv.CommitRejected:
            if not alone or reruns >= RERUNS_MAX:
                raise
            # The schema moved under a statement that is a transaction of its own: once more, on the new schema.
            self._forget_plans()
            params = dict(zip(plan.names, row, strict=True)) if plan.names else row
            return self._first(sql, params, reruns + 1)
        except BaseException:
            self.row_count = -1
            raise
        finally:
            self.statement = ""

    def _first(self, sql: str, params: Sequence[object] | Mapping[str, object] | None, reruns: int = 0) -> Result:
        """The whole way of a statement: parse, bind, plan, run. Its plan is kept for the types of its parameters."""
        increment, collate = self.variables.div_precision_increment, self.variables.literal_collation
        if increment == DIV_PRECISION_INCREMENT and collate == TEXT_COLLATE:
            return self._whole_way(sql, params, reruns)
        with dividing(increment), comparing_literals(collate):
            return self._whole_way(sql, params, reruns)

    def _whole_way(self, sql: str, params: Sequence[object] | Mapping[str, object] | None, reruns: int) -> Result:
        typed = self._typed_plan(sql, params)
        if typed is not None:
            return typed
        self._check_alive()
        if not self.statement:  # not within EXECUTE
            self._before, self._plan = self._plan, no_plan(self._plan.schema)
        self.statement = sql
        try:
            executable, plan, row = self._prepare(sql, params)
            self.check_cancelled()
        except BaseException:
            self.warnings = []  # those of the statement before
            raise
        finally:
            self.statement = ""
        if getattr(executable, "keeps_warnings", False):
            return executable.run(self, row)
        result = self._run(plan, normalised(row), sql, reruns)
        self.row_count = result.affected_rows if result.columns is None else -1
        return result

    def _set_last_insert_id(self, value: Value) -> None:
        assert isinstance(value, int)
        self.last_insert_id = value

    def rows_of_last(self, what: str) -> int:
        """What ROW_COUNT() (`row_count`) or FOUND_ROWS() (`found_rows`) gives: of the statement before this one.

        Who asks is a statement whose plan is not kept.
        """
        before = self._before
        if what == "row_count":
            return self.row_count if before.row_count is None else before.row_count
        return self.found_rows if before.found_rows is None else before.found_rows

    def found_nothing(self) -> None:
        """Notes that a point query has found no row."""
        self._plan = no_plan(self._plan.schema, found_rows=0)

    def rebound(self) -> None:
        """Notes that the rest of the running statement is bound to the schema as it is now: it has changed that."""
        self._plan = no_plan(self.catalog.schema, row_count=None)

    def _prepare(
        self, sql: str, params: Sequence[object] | Mapping[str, object] | None
    ) -> tuple[Executable, CachedPlan, tuple[Any, ...]]:
        """Makes a statement's plan, and keeps it for others of its kind; returns it with the parameters."""
        from sqlfront.bind.literals import type_of
        from sqlfront.exec.statement import make_executable

        parsed = parse.parse(self.as_read(sql))
        row = self._parameters(parsed, params)
        types = tuple(map(type, row))
        schema = self.schema
        executable, cacheable = make_executable(self, parsed, normalised(row))
        convert = None if executable.any_integer else converter(types)
        row_count = found_rows = None
        if isinstance(parsed.statement, parse.Query):
            row_count = -1
            found_rows = 1 if executable.any_integer else None  # of a point query, if it finds something
        elif not isinstance(parsed.statement, (parse.Insert, parse.Update, parse.Delete, parse.SelectInto)):
            row_count = 0 if cacheable else None
        plan = CachedPlan(executable, schema, types, parsed.names, convert, row_count, found_rows)
        if cacheable:
            if len(self._plans) + len(self._typed) >= PLAN_CACHE_SIZE:
                self._forget_plans()
            if convert is None or convert(row) is not None:
                self._plans[sql] = plan
            else:
                self._typed[sql, tuple(map(type_of, row))] = plan
        return executable, plan, row

    def as_read(self, sql: str) -> str:
        """The text of a statement as it means without the SQL mode ANSI_QUOTES, which the session may have."""
        return parse.with_names_in_backticks(sql) if self.variables.ansi_quotes else sql

    def _typed_plan(self, sql: str, params: Sequence[object] | Mapping[str, object] | None) -> Result | None:
        """Runs a plan that was made for parameters of these very SQL types, if there is one."""
        if not self._typed or not isinstance(params, (tuple, list)):
            return None
        from sqlfront.bind.literals import type_of

        plan = self._typed.get((sql, tuple(map(type_of, params))))
        if plan is None or plan.schema is not self.schema:
            return None
        return self._run(plan, normalised(params), sql)

    def _parameters(
        self, parsed: parse.Parsed, params: Sequence[object] | Mapping[str, object] | None
    ) -> tuple[Any, ...]:
        if parsed.names:
            found = named(params, parsed.names)
            if found is None:
                raise ProgrammingError(f"parameters {', '.join(parsed.names)} need a mapping", 1210)
            return found
        given = () if params is None else params
        if isinstance(given, Mapping):
            if parsed.positional:
                raise ProgrammingError("the statement takes ? parameters: give a sequence", 1210)
            return ()
        if len(given) != parsed.positional:
            raise ProgrammingError(
                f"the statement takes {parsed.positional} parameters, {len(given)} were given", 1210, "HY000"
            )
        return tuple(given)

    def execute_many(self, sql: str, rows: Iterable[Sequence[object] | Mapping[str, object]]) -> Result:
        """Runs one statement for every parameter row; outside a transaction, all are one transaction."""
        own = self.txn is None and self.variables.autocommit
        self.many = True
        if own:
            self.begin(explicit=False)
        total = Result()
        count = 0
        try:
            for row in rows:
                if self.interrupted:
                    self.check_cancelled()
                result = self.execute(sql, row)
                if result.columns is not None:
                    return result
                count += max(result.affected_rows, 0)
                total.last_insert_id = result.last_insert_id or total.last_insert_id
        except BaseException:
            if own:
                self.rollback()
            raise
        finally:
            self.many = self.interrupted = False
        if own:
            self.commit()
        total.affected_rows = count
        return total

    def warn(self, code: int, message: str) -> None:
        """Notes a warning of the running statement."""
        if len(self.warnings) < 64:
            self.warnings.append(("Warning", code, message))

    def failed(self, error: Error) -> None:
        """Notes the error that a statement has ended with; SHOW WARNINGS has it behind the statement's warnings."""
        self.warnings.append(("Error", error.code, error.message))

    def note(self, code: int, message: str) -> None:
        """Notes what is less than a warning, unless sql_notes is off."""
        if self.variables.notes:
            self.warnings.append(("Note", code, message))

    def _check_alive(self) -> None:
        if self.killed:
            raise error(ER_QUERY_INTERRUPTED, "Connection was killed")
        if self.plans_stale:
            # This execution still runs its old plan, which is right, if not the best any more.
            self.plans_stale = False
            self._forget_plans()
        self.cancel.clear()

    def check_cancelled(self) -> None:
        """Raises 1317 when the statement was interrupted; loops over many rows call it now and then."""
        if self.cancel.is_set() or self.interrupted:
            self.cancel.clear()
            raise error(ER_QUERY_INTERRUPTED, "Query execution was interrupted")

    def _forget_plans(self, _value: object = None) -> None:
        self._plans.clear()
        self._typed.clear()

    # Reading

    @property
    def schema(self) -> Schema:
        """What statements are bound against: the newest schema, less what the open transaction's snapshot cannot read.

        An index that was completed after the snapshot has no entries of its time.
        """
        current = self.catalog.schema
        txn = self.txn
        if txn is None:
            return current.at(self._stale_ts()) if self.variables.staleness_s else current
        if current is not self._newest:
            self._newest, self._readable = current, current.at(txn.start_ts)
        return self._readable

    def seen(self, schema: Schema) -> Schema:
        """A schema as this session sees it: with its temporary tables in front."""
        return schema if self.temporary is None else self.temporary.over(schema)

    def layered(self, reader: Reader) -> Reader:
        """A reader of the store, with the rows of the session's temporary tables beside it."""
        if self.temporary_rows is None:
            return reader
        from sqlfront.exec.temporary_rows import LayeredReader

        return LayeredReader(reader, self.temporary_rows)

    def reader(self) -> Reader:
        """What a plain SELECT reads: the transaction's snapshot, or a fresh one."""
        txn = self.txn
        if txn is None:
            if self.variables.staleness_s:
                return self.snapshot_at(self._stale_ts())
            return self.layered(self.catalog.snapshot(self._plan.schema, self.variables.replica_read))
        if self._isolation == "READ-COMMITTED" and not self.read_only:
            ts = self.storage.now_ts()
            self.check_read(ts)
            return txn.at(ts)
        return txn

    def snapshot_at(self, ts: int) -> Reader:
        """A reader of the past, which any copy may answer."""
        self._at_replicas = ReadFrom.STALE
        return self.storage.snapshot(ts, read=ReadFrom.STALE)

    def _stale_ts(self) -> int:
        return self.storage.now_ts() - (self.variables.staleness_s * 1000 << LOGICAL_BITS)

    def _read_otherwise(self, _value: object = None) -> None:
        """Point reads go the short way only where they read what is newest from the leader."""
        self.get_latest = self._get_by_variables

    def _get_by_variables(self, key: bytes) -> bytes | None:
        variables = self.variables
        if variables.staleness_s:
            return self.reader().get(key)
        return self.storage.get_latest(key, read=variables.replica_read)

    def check_read(self, ts: int) -> None:
        """Raises CommitRejected unless the running statement is bound to the schema of `ts`, at which it reads."""
        self.catalog.check_read(self._plan.schema if self.txn is None or self._newest is None else self._newest, ts)

    def reader_if(self, needed: bool) -> Reader | None:
        return self.reader() if needed else None

    def dirty_writes(self, start: bytes, end: bytes) -> Sequence[tuple[bytes, bytes | None]]:
        """What the open transaction has written in the range."""
        txn = self.txn
        return txn.dirty(start, end) if txn is not None and txn.has_dirty(start, end) else ()

    def pushing(self, env: Env, *, measuring: bool = False) -> Pushing | None:
        """What a statement asks the store with; None when the data is in this process."""
        push_down = self.storage.push_down
        if push_down is None:
            return None
        from sqlfront.exec.pushing import Pushing

        return Pushing(
            push_down,
            self.database.duck,
            self.variables,
            env,
            txn=self.txn,
            cancel=self.cancel,
            read=self._at_replicas if self.txn is None else ReadFrom.LEADER,
            measuring=measuring,
        )

    def virtual_relation(self, relation: Virtual) -> pa.Table:
        """The rows of information_schema, or of a registered Arrow table, with the plan's column names."""
        import pyarrow as pa

        names = [f"c{c.id}" for c in relation.cols]
        kind, name = relation.source
        if kind == "registered":
            table = self.registered[name].select(list(relation.names))
            from coprocessor.arrow import arrow_schema

            return table.rename_columns(names).cast(arrow_schema(names, [c.type for c in relation.cols], inside=True))
        from coprocessor.arrow import rows_to_batch
        from sqlfront.catalog import infoschema

        virtual = infoschema.table(name)
        assert virtual is not None
        rows = [tuple(r) for r in virtual.rows(self)]
        batch = rows_to_batch(rows, names, [c.type for c in relation.cols], inside=True)
        return pa.Table.from_batches([batch])

    def columns_of(self, relation: Table) -> tuple[Column, ...]:
        """The columns of a table or a view; raises 1356 for a view that cannot be bound."""
        if relation.view is None:
            return relation.visible
        from sqlfront.exec.views import view_columns

        return view_columns(self, relation)

    def columnar_view(self, scans: Collection[Scan], ts: int | None) -> View | None:
        """A view of the replica for these scans at `ts` (None: now), with the open transaction's writes laid over it.

        None when the rows have to be read instead; a hint for the replica waits until it is built.
        """
        columnar = self.database.columnar
        tables = {scan.table.id: scan.table for scan in scans}
        for scan in scans:
            if scan.engine == "tiflash" and not columnar.ensure(scan.table, BUILD_WAIT_S, self.check_cancelled):
                self.warn(ER_UNKNOWN_ERROR, columnar.refusal(scan.table))
        view = columnar.view(list(tables.values()), ts)
        if view is None:
            if columnar.problem is not None:
                self.warn(ER_UNKNOWN_ERROR, f"the columnar replica is not available: {columnar.problem}")
            return None
        if ts is None:
            try:
                self.check_read(view.ts)
            except BaseException:
                view.close()
                raise
        for table in tables.values():
            writes = self.dirty_writes(*table.codec.record_range)
            if writes and view.has(table.codec):
                view.lay(table.codec, writes)
        return view

    def start_duck(
        self,
        sql: str,
        params: Mapping[str, Any],
        relations: Mapping[str, pa.Table],
        udfs: Mapping[str, Call],
        env: Env,
        view: View | None = None,
    ) -> DuckQuery:
        """Starts a residual query that `interrupt` can stop; it ends the view."""
        self.database.holdings.settle()
        query = self.database.duck.query(sql, params, relations, udfs, env, view, env.quota.rest)
        with self._running_mutex:
            self._running.add(query)
        try:
            self.check_cancelled()  # by an interrupt that came before there was a query to stop
            query.start()
        except BaseException:
            self.end_duck(query)
            raise
        return query

    def end_duck(self, query: DuckQuery) -> None:
        with self._running_mutex:
            self._running.discard(query)

    # Transactions

    @property
    def in_transaction(self) -> bool:
        return self.txn is not None

    @property
    def autocommit(self) -> bool:
        return self.variables.autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.variables.set("autocommit", int(value))
        if value and self.txn is not None and not self.explicit:
            self.commit()

    def begin(self, *, explicit: bool = True, mode: str = "", read_only: bool = False, ts: int | None = None) -> None:
        """Starts a transaction; one that is open is committed first."""
        if self.txn is not None:
            self.commit()
        pessimistic = {"optimistic": False, "pessimistic": True}.get(mode, self.variables.pessimistic)
        if self.next_read_only is not None:
            read_only = read_only or self.next_read_only
        elif self.variables.read_only:
            read_only = True
        txn = self.storage.begin(pessimistic=pessimistic, start_ts=ts)
        try:
            self.catalog.cover(txn.start_ts)
        except BaseException:
            txn.rollback()
            raise
        self.txn = txn
        self._newest = None
        self.txn.cancel = self.cancel
        self.txn.lock_wait_ms = self.variables.lock_wait_ms
        self.explicit = explicit
        self.read_only = read_only or ts is not None
        self._isolation = self.next_isolation or self.variables.isolation
        self.next_isolation = self.next_read_only = None
        self.savepoints = []
        self._used, self._deltas = {}, {}

    def commit(self) -> None:
        """Commits the open transaction; without one it does nothing."""
        txn = self.txn
        if txn is None:
            return
        used, deltas = self._used, self._deltas
        self._end()
        if not txn.is_dirty:
            txn.rollback()
            return
        if used:
            self.catalog.commit_with(used, txn.commit)
        else:
            txn.commit()
        for table_id, delta in deltas.items():
            self.database.statistics.note_changes(table_id, delta)

    def rollback(self) -> None:
        """Undoes the open transaction; without one it does nothing."""
        txn = self.txn
        if txn is not None:
            self._end()
            txn.rollback()

    def chain(self, end: Callable[[], None]) -> None:
        """Ends the open transaction and begins another that is as it was: AND CHAIN."""
        txn, read_only, isolation = self.txn, self.read_only, self._isolation
        end()
        if txn is None:
            self.begin()
            return
        self.begin(mode="pessimistic" if txn.pessimistic else "optimistic", read_only=read_only)
        self._isolation = isolation

    def _end(self) -> None:
        self.txn = None
        self.explicit = self.read_only = False
        self.savepoints = []
        self._used, self._deltas = {}, {}

    def run_write(self, work: Callable[[Transaction, bool], Result], tables: Iterable[Table]) -> Result:
        """Runs a statement that writes: `work(transaction, pessimistic)` buffers its writes.

        A failed statement leaves nothing in the transaction. What a statement has read only for itself is read anew
        when it lost a race: the user has seen none of it.
        """
        used = revisions(tables)
        if self.txn is not None:
            return self._write_in(self.txn, work, used)
        if self.variables.read_only and used:
            raise error(ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, READ_ONLY)
        for attempt in range(STATEMENT_RETRIES_MAX):
            pessimistic = attempt >= OPTIMISTIC_TRIES
            txn = self.storage.begin(pessimistic=pessimistic)
            txn.cancel = self.cancel
            txn.lock_wait_ms = self.variables.lock_wait_ms
            self._deltas = {}
            try:
                result = work(txn, pessimistic)
                if txn.is_dirty:
                    self.catalog.commit_with(used, txn.commit)
                else:
                    self.catalog.check_revisions(used)
            except kv.WriteConflict:
                if attempt == STATEMENT_RETRIES_MAX - 1:
                    raise
                self.warnings = []
                continue
            finally:
                txn.rollback()
            for table_id, delta in self._deltas.items():
                self.database.statistics.note_changes(table_id, delta)
            return result
        raise AssertionError("unreachable")

    def write_alone(
        self,
        writes: dict[bytes, bytes | None],
        inserts: Sequence[bytes],
        table: Table,
        delta: int,
        used: Mapping[int, int],
    ) -> None:
        """Commits what an autocommit statement writes when it depends on no read; `used` is the table's revision (as
        `revisions` has it), `delta` the rows that are added."""
        variables = self.variables
        if variables.read_only and used:
            raise error(ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, READ_ONLY)
        write, wait_ms, cancel = self.storage.write, variables.lock_wait_ms, self.cancel
        self.catalog.commit_with(
            used, lambda check: write(writes, inserts, wait_ms=wait_ms, cancel=cancel, check=check)
        )
        self.database.statistics.note_changes(table.id, delta)

    def _write_in(self, txn: Transaction, work: Callable[[Transaction, bool], Result], used: dict[int, int]) -> Result:
        if self.read_only and used:
            raise error(ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, READ_ONLY)
        mark = txn.mark()
        deltas = dict(self._deltas)
        for attempt in range(STATEMENT_RETRIES_MAX):
            try:
                result = work(txn, txn.pessimistic)
            except kv.WriteConflict:
                txn.undo_to(mark)
                self._deltas = dict(deltas)
                if not txn.pessimistic or attempt == STATEMENT_RETRIES_MAX - 1:
                    raise
                continue
            except BaseException:
                txn.undo_to(mark)
                self._deltas = deltas
                raise
            if not result.affected_rows:
                self.catalog.check_revisions(used)
            for table_id, revision in used.items():
                self._used.setdefault(table_id, revision)
            return result
        raise AssertionError("unreachable")

    def changed(self, table: Table, delta: int) -> None:
        """Notes how many rows the statement added or removed, for the statistics."""
        if delta:
            self._deltas[table.id] = self._deltas.get(table.id, 0) + delta

    # The connection

    def register(self, name: str, table: pa.Table) -> None:
        """Makes an Arrow table readable by queries of this session under `name`."""
        from coprocessor.arrow import field_type

        for field in table.schema:
            field_type(field.type)
        self.registered[name.casefold()] = table
        self._forget_plans()

    def unregister(self, name: str) -> None:
        if self.registered.pop(name.casefold(), None) is None:
            raise InterfaceError(f"no table is registered as {name!r}")
        self._forget_plans()

    def interrupt(self) -> None:
        """Stops the running statement; any thread may call this. Without one it does nothing."""
        if not self.statement and not self._running and not self.many:
            return
        self.interrupted = self.many
        self.cancel.set()
        with self._running_mutex:
            running = list(self._running)
        for query in running:
            query.interrupt()

    def use(self, name: str) -> None:
        """Makes a database the current one."""
        found = self.catalog.schema.need_database(name)
        if found.name != self.current_db:
            self.current_db = found.name
            self._forget_plans()

    def close(self) -> None:
        """Rolls back what is open and leaves the database; harmless when it is closed."""
        if self.closed:
            return
        self.closed = True
        with self._running_mutex:
            running = list(self._running)
        for query in running:
            query.close()
        try:
            self.rollback()
            if self.temporary is not None:
                from sqlfront.exec.temporary import forget

                for table in list(self.temporary):
                    forget(self, table)
        finally:
            self.user_locks.close()
            self.database.forget(self)
