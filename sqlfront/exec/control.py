"""Statements about the session, transactions and the database rather than about rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, assert_never

from sqlfront import parse
from sqlfront.bind.literals import type_of
from sqlfront.errors import error, near_match, unsupported
from sqlfront.result import Result, Row
from sqlfront.variables import DEFAULT

if TYPE_CHECKING:
    import pyarrow as pa

    from coprocessor.types import FieldType
    from kvstore.client.api import Reader
    from sqlfront.catalog.model import Table
    from sqlfront.session import Session

Call = Callable[["Session"], Result]


def control_action(parsed: parse.Parsed, statement: parse.Statement, params: Sequence[object]) -> Call:
    """Returns what runs the statement."""
    match statement:
        case parse.Begin():
            return lambda s: _begin(s, parsed, statement, params)
        case parse.Commit():
            return lambda s: _commit(s, statement)
        case parse.Rollback():
            return lambda s: _rollback(s, statement)
        case parse.Savepoint():
            return lambda s: _savepoint(s, statement.name)
        case parse.ReleaseSavepoint():
            return lambda s: _release(s, statement.name)
        case parse.SetVariables():
            return lambda s: _set(s, parsed, statement, params)
        case parse.Use():
            return lambda s: _use(s, statement.database)
        case parse.Prepare():
            return lambda s: _prepare(s, statement)
        case parse.Execute():
            return lambda s: _execute(s, statement)
        case parse.Deallocate():
            return lambda s: _deallocate(s, statement)
        case parse.Kill():
            return lambda s: _kill(s, statement)
        case parse.Backup():
            return lambda s: _backup(s, statement)
        case parse.ImportInto():
            return lambda s: _import(s, statement)
        case parse.RunGc():
            return _gc
        case parse.Ddl() | parse.RenameTable():
            return lambda s: _ddl(s, statement, params)
        case parse.Show():
            return lambda s: _show(s, statement)
        case parse.Describe():
            return lambda s: _describe(s, statement)
        case parse.AnalyzeTable():
            return lambda s: _analyze(s, statement)
        case parse.AdminCheckTable() | parse.AdminCheckIndex():
            return lambda s: _check(s, statement)
        case parse.AdminShowDdl() | parse.AdminShowDdlJobs() | parse.AdminCancelDdlJobs():
            return lambda s: _ddl_jobs(s, statement)
        case parse.Nothing():
            return lambda s: Result()
        case parse.DropMissing():
            return lambda s: _drop_missing(s, statement)
        case parse.LockTables() | parse.UnlockTables() | parse.Flush() | parse.MaintainTables():
            return lambda s: _maintain(s, statement)
        case parse.LoadData():
            return lambda s: _load_data(s, parsed, statement, params)
        case (
            parse.Query() | parse.SelectInto() | parse.Insert() | parse.Update() | parse.Delete() | parse.Explain()
            | parse.Do()
        ):  # fmt: skip
            raise AssertionError(statement)
        case _:
            assert_never(statement)


# Transactions


def _begin(session: Session, parsed: parse.Parsed, statement: parse.Begin, params: Sequence[object]) -> Result:
    ts = None
    if statement.as_of is not None:
        from sqlfront.exec.statement import as_of_timestamp, bind_context

        ctx = bind_context(session, parsed, params)
        ts = as_of_timestamp(session, ctx, statement.as_of, tuple(params))
    session.begin(mode=statement.mode, read_only=statement.read_only, ts=ts)
    return Result()


def _commit(session: Session, statement: parse.Commit) -> Result:
    if statement.chain:
        session.chain(session.commit)
    else:
        session.commit()
    return Result()


def _use(session: Session, name: str) -> Result:
    session.use(name)
    return Result()


def _rollback(session: Session, statement: parse.Rollback) -> Result:
    if statement.chain:
        session.chain(session.rollback)
        return Result()
    if statement.savepoint is None:
        session.rollback()
        return Result()
    index = _find_savepoint(session, statement.savepoint)
    assert session.txn is not None
    session.txn.undo_to(session.savepoints[index][1])
    del session.savepoints[index + 1 :]
    return Result()


def _savepoint(session: Session, name: str) -> Result:
    if session.txn is None:
        # Without a transaction a savepoint ends with its own statement, as in MySQL.
        return Result()
    key = name.casefold()
    session.savepoints = [s for s in session.savepoints if s[0] != key]
    session.savepoints.append((key, session.txn.mark()))
    return Result()


def _release(session: Session, name: str) -> Result:
    del session.savepoints[_find_savepoint(session, name) :]
    return Result()


def _find_savepoint(session: Session, name: str) -> int:
    for i, (known, _) in enumerate(session.savepoints):
        if known == name.casefold():
            return i
    raise error(1305, f"SAVEPOINT {name} does not exist")


# Variables


def _set(session: Session, parsed: parse.Parsed, statement: parse.SetVariables, params: Sequence[object]) -> Result:
    for item in statement.items:
        value = None if item.value is None else evaluate(session, parsed, item.value, params)
        match item.scope:
            case "user":
                session.user_variables[item.name] = (value, type_of(value))
            case "transaction":
                _set_transaction(session, item.name, value)
            case _ if item.name == "names":
                session.variables.set_names(value, item.collate or None)
            case _:
                _set_system(session, item, value)
    return Result()


def evaluate(session: Session, parsed: parse.Parsed, node: Any, params: Sequence[object]) -> object:
    """A value that SET assigns: an expression over nothing, or a scalar subquery."""
    from coprocessor.evaluate import compile_expr
    from coprocessor.expr import Subquery, walk
    from sqlfront.bind.expr import ExprBinder
    from sqlfront.bind.query import QueryBinder
    from sqlfront.bind.scope import Scope
    from sqlfront.exec.context import environment
    from sqlfront.exec.statement import bind_context

    ctx = bind_context(session, parsed, params)
    expr = ExprBinder(ctx, Scope(), QueryBinder(ctx)).bind(node)
    if any(isinstance(p, Subquery) for p in walk(expr)):
        from sqlfront.exec.subquery import evaluate_scalar

        return evaluate_scalar(session, ctx, expr, tuple(params))
    return compile_expr(expr, {})((), environment(session, tuple(params)))


def _set_system(session: Session, item: parse.Assignment, value: object) -> None:
    chosen = DEFAULT if item.value is None else value
    if item.name == "autocommit" and item.scope == "session":
        before = session.variables.autocommit
        _notes(session, session.variables.set(item.name, chosen))
        if not before and session.variables.autocommit:
            session.commit()
        return
    if item.name == "tidb_snapshot":
        raise error(
            1235, "This version of sqlfront doesn't yet support 'tidb_snapshot'; use START TRANSACTION READ ONLY AS OF"
        )
    _notes(session, session.variables.set(item.name, chosen, item.scope))


def _notes(session: Session, notes: Sequence[tuple[str, int, str]]) -> None:
    session.warnings.extend(notes)


def _set_transaction(session: Session, name: str, value: object) -> None:
    if session.txn is not None:
        raise error(
            1568, "Transaction characteristics can't be changed while a transaction is in progress", sqlstate="25001"
        )
    if name == "transaction_isolation":
        session.next_isolation = str(session.variables.check(name, value))
    else:
        session.next_read_only = bool(value)


# Prepared statements


def _prepare(session: Session, statement: parse.Prepare) -> Result:
    source = statement.source
    if source is None:
        value = session.user_variables.get(statement.variable or "", (None, None))[0]
        source = "" if value is None else str(value)
    source = session.as_read(source)
    parsed = parse.parse(source)
    if isinstance(parsed.statement, (parse.Prepare, parse.Execute, parse.Deallocate)):
        raise error(1295, "This command is not supported in the prepared statement protocol yet")
    assigns = isinstance(parsed.statement, parse.Query) and parsed.statement.assigns
    if isinstance(parsed.statement, (parse.Query, parse.Insert, parse.Update, parse.Delete)) and not assigns:
        from sqlfront.exec.statement import make_executable

        # Unknown names are refused now; the values decide the types when it is executed.
        make_executable(session, parsed, [None] * parsed.positional)
    session.prepared[statement.name] = source
    return Result()


def _execute(session: Session, statement: parse.Execute) -> Result:
    source = session.prepared.get(statement.name)
    if source is None:
        raise _unknown_statement(session, statement.name, "EXECUTE")
    values = [session.user_variables.get(n, (None, None))[0] for n in statement.using]
    parsed = parse.parse(source)
    if parsed.positional != len(values):
        raise error(1210, "Incorrect arguments to EXECUTE")
    return session.execute(source, values)


def _deallocate(session: Session, statement: parse.Deallocate) -> Result:
    if session.prepared.pop(statement.name, None) is None:
        raise _unknown_statement(session, statement.name, "DEALLOCATE PREPARE")
    return Result()


def _unknown_statement(session: Session, name: str, verb: str) -> Exception:
    hint = near_match(name, session.prepared)
    return error(1243, f"Unknown prepared statement handler ({name}) given to {verb}{hint}")


# Administration


def _kill(session: Session, statement: parse.Kill) -> Result:
    if not session.database.kill(statement.connection_id, connection=not statement.query_only):
        raise error(1094, f"Unknown thread id: {statement.connection_id}")
    return Result()


def _backup(session: Session, statement: parse.Backup) -> Result:
    local = session.database.local
    if local is None:
        raise unsupported("BACKUP of a cluster")
    session.database.statistics.flush()
    local.backup(statement.path)
    return Result()


def _load_data(session: Session, parsed: parse.Parsed, statement: parse.LoadData, params: Sequence[object]) -> Result:
    from sqlfront.exec.load_data import execute_load_data

    return execute_load_data(session, parsed, statement, params)


def _import(session: Session, statement: parse.ImportInto) -> Result:
    from sqlfront.exec.import_into import execute_import

    return execute_import(session, statement)


def _gc(session: Session) -> Result:
    from coprocessor import types as t
    from sqlfront.result import ResultColumn, rows_result

    counters = session.database.collect_garbage()
    columns = (ResultColumn("counter", t.TEXT), ResultColumn("value", t.BIGINT))
    return rows_result(columns, list(counters.items()))


def _ddl(session: Session, statement: parse.Ddl | parse.RenameTable, params: Sequence[object]) -> Result:
    from sqlfront.exec.ddl import execute_ddl

    text = statement.text if isinstance(statement, parse.Ddl) else None
    return execute_ddl(session, statement, text or None, params)


def _show(session: Session, statement: parse.Show) -> Result:
    from sqlfront.exec.show import execute_show

    return execute_show(session, statement, _filtered)


def _filtered(session: Session, columns: Sequence[tuple[str, FieldType]], rows: Sequence[Row], where: Any) -> list[Row]:
    """SHOW ... WHERE: the rows that satisfy a condition over the columns that SHOW gives."""
    from coprocessor.evaluate import compile_predicate
    from sqlfront.bind.expr import ExprBinder
    from sqlfront.bind.query import QueryBinder
    from sqlfront.bind.scope import Relation, Scope
    from sqlfront.exec.context import environment
    from sqlfront.exec.statement import bind_context

    ctx = bind_context(session, parse.Parsed(parse.Commit(), ""), ())
    cols = tuple(ctx.column(name, type_) for name, type_ in columns)
    scope = Scope()
    scope.add(Relation("", "", cols))
    condition = ExprBinder(ctx, scope, QueryBinder(ctx)).bind(where)
    keep = compile_predicate(condition, {c.id: i for i, c in enumerate(cols)})
    env = environment(session, ())
    return [row for row in rows if keep(row, env)]


def _describe(session: Session, statement: parse.Describe) -> Result:
    from sqlfront.exec.show import execute_describe

    return execute_describe(session, statement)


def _analyze(session: Session, statement: parse.AnalyzeTable) -> Result:
    from sqlfront.catalog.stats import execute_analyze
    from sqlfront.exec.context import environment

    def ask(table: Table, reader: Reader) -> Iterator[pa.RecordBatch] | None:
        pushing = session.pushing(environment(session, ()))
        if pushing is None:
            return None
        from sqlfront.exec.push_reader import whole_table

        return whole_table(pushing, table.codec, range(len(table.columns)), reader)

    result = execute_analyze(session, statement, ask)
    session.database.forget_plans()
    return result


def _maintain(
    session: Session, statement: parse.LockTables | parse.UnlockTables | parse.Flush | parse.MaintainTables
) -> Result:
    from sqlfront.exec.maintenance import execute_maintenance

    return execute_maintenance(session, statement, _analyze)


def _drop_missing(session: Session, statement: parse.DropMissing) -> Result:
    from sqlfront.exec.maintenance import drop_missing

    return drop_missing(session, statement)


def _check(session: Session, statement: parse.AdminCheckTable | parse.AdminCheckIndex) -> Result:
    from sqlfront.exec.check import execute_admin_check

    return execute_admin_check(session, statement)


def _ddl_jobs(
    session: Session, statement: parse.AdminShowDdl | parse.AdminShowDdlJobs | parse.AdminCancelDdlJobs
) -> Result:
    from sqlfront.exec.ddl_jobs import execute_ddl_jobs

    return execute_ddl_jobs(session, statement)
