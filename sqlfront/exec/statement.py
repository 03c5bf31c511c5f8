"""From a parsed statement to its executable: binding, planning, and the choice of who runs it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlfront import parse
from sqlfront.bind.literals import type_of
from sqlfront.bind.scope import BindContext
from sqlfront.errors import error
from sqlfront.result import Result

if TYPE_CHECKING:
    from coprocessor.types import FieldType
    from sqlfront.catalog.model import Table
    from sqlfront.plan.nodes import QueryPlan
    from sqlfront.session import Session

# A plan is made anew when a table has grown or shrunk this much since: its access paths were chosen for another size.
REPLAN_FACTOR = 4.0
REPLAN_ROWS_MIN = 1000.0


# Statements that say all they mean: their actions are kept as plans are.
_KEPT = (parse.Begin, parse.Commit, parse.Rollback, parse.Savepoint, parse.ReleaseSavepoint)


class Executable(Protocol):
    """A statement ready to run, any number of times, with parameter rows of the types it was bound for."""

    any_integer: bool
    """Whether it takes integer parameters of any size as they are."""

    def run(self, session: Session, params: tuple[Any, ...]) -> Result: ...


class Action:
    """An executable that is one call."""

    any_integer = False

    def __init__(self, call: Callable[[Session], Result], *, keeps_warnings: bool = False) -> None:
        self._call = call
        self.keeps_warnings = keeps_warnings

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        return self._call(session)


class _VariableView(Mapping[str, object]):
    """System variables as binding asks for them: `name`, or `global.name`."""

    def __init__(self, session: Session) -> None:
        self._variables = session.variables

    def __getitem__(self, key: str) -> object:
        scope, dot, name = key.rpartition(".")
        return self._variables.get(name if dot else key, scope)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._variables.all())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def bind_context(session: Session, parsed: parse.Parsed, params: Sequence[object]) -> BindContext:
    """What a statement's names and parameters are bound against."""
    keys: Sequence[object] = parsed.names or range(parsed.positional)
    types: dict[object, FieldType] = {k: type_of(v) for k, v in zip(keys, params, strict=True)}
    registered = {}
    if session.registered:
        from coprocessor.arrow import field_type

        registered = {
            name: [(f.name, field_type(f.type)) for f in table.schema] for name, table in session.registered.items()
        }
    return BindContext(
        schema=session.seen(session.schema),
        current_db=session.current_db,
        param_types=types,
        registered=registered,
        full_group_by=session.variables.only_full_group_by,
        variables=_VariableView(session),
        user_variables=session.user_variables,
        params={k: i for i, k in enumerate(keys)},
        read_engines=session.variables.read_engines,
    )


def make_executable(session: Session, parsed: parse.Parsed, params: Sequence[object]) -> tuple[Executable, bool]:
    """Returns the statement's executable and whether it may be kept for other executions."""
    statement = parsed.statement
    match statement:
        case parse.Query():
            return make_query(session, parsed, statement, params)
        case parse.SelectInto():
            from sqlfront.exec.select_into import select_into

            executable, cacheable = make_query(session, parsed, statement.query, params)
            return select_into(session, statement, executable), cacheable
        case parse.Do():
            executable, cacheable = make_query(session, parsed, statement.query, params)
            return Discarding(executable), cacheable
        case parse.Insert() | parse.Update() | parse.Delete():
            from sqlfront.exec.dml import make_change

            if isinstance(statement, parse.Insert) and statement.assigns:
                from sqlfront.exec.assigning import inserting

                found = inserting(session, parsed, statement, params)
                if found is not None:
                    return found, False
            ctx = bind_context(session, parsed, params)
            change = make_change(session, ctx, statement)
            return _telling(change, ctx), ctx.cacheable
        case parse.Explain():
            from sqlfront.exec.explain import explain

            return Action(lambda s: explain(s, parsed, statement, params)), False
        case _:
            from sqlfront.exec.control import control_action

            keeps = isinstance(statement, parse.Show) and statement.what.rsplit(" ", 1)[-1] in ("WARNINGS", "ERRORS")
            kept = isinstance(statement, _KEPT) and getattr(statement, "as_of", None) is None
            return Action(control_action(parsed, statement, params), keeps_warnings=keeps), kept


def make_query(
    session: Session, parsed: parse.Parsed, statement: parse.Query, params: Sequence[object]
) -> tuple[Executable, bool]:
    from sqlfront.exec.query import compile_query

    ctx = bind_context(session, parsed, params)
    ts = 0
    if statement.as_of is not None:
        ts = as_of_timestamp(session, ctx, statement.as_of, tuple(params))
        ctx.schema = ctx.schema.at(ts)
    if statement.assigns:
        from sqlfront.exec.assigning import assigning

        found = assigning(session, parsed, statement, params)
        if found is not None:
            return found, False
    if statement.counts_all:
        from sqlfront.exec.found_rows import FoundRows

        return _telling(FoundRows(session, ctx, statement), ctx), False
    plan = plan_query(session, ctx, statement)
    executable: Executable
    limit_ms = session.variables.max_execution_ms if ctx.max_execution_ms is None else ctx.max_execution_ms
    if ts:
        return _telling(_limited(AtTimestamp(plan, session.variables.zone, ts), limit_ms), ctx), False
    if plan.lock is not None:
        from sqlfront.exec.locking import LockingQuery

        executable = LockingQuery(plan, session.variables.zone)
    else:
        executable = cast(Executable, compile_query(plan, session.variables.zone))
    limit = session.variables.select_limit
    if _depends_on_size(executable):
        executable = Sized(executable, plan.tables, session)
    return _telling(_limited(executable, limit_ms), ctx), ctx.cacheable and limit is None


def _limited(executable: Executable, limit_ms: int) -> Executable:
    if not limit_ms:
        return executable
    from sqlfront.exec.time_limit import Limited

    return Limited(executable, limit_ms)


def _telling(executable: Executable, ctx: BindContext) -> Executable:
    return Telling(executable, ctx.warnings) if ctx.warnings else executable


def tell(session: Session, warnings: Sequence[tuple[int, str]]) -> None:
    """Notes what binding found to warn of."""
    for code, message in warnings:
        session.warn(code, message)


def plan_query(session: Session, ctx: BindContext, statement: parse.Query) -> QueryPlan:
    """Binds and optimizes a query."""
    from dataclasses import replace

    from coprocessor import types as t
    from coprocessor.expr import Const
    from sqlfront.bind.query import QueryBinder
    from sqlfront.plan.nodes import Limit
    from sqlfront.plan.optimize import optimize
    from sqlfront.plan.tell_late import tell_late

    plan = QueryBinder(ctx).bind(statement.ast, statement.item_texts)
    root = plan.root
    if session.variables.select_limit is not None and not isinstance(root, Limit):
        root = Limit(root, Const(session.variables.select_limit, t.UBIGINT), None)
    # What a query locks it reads by keys.
    remote = session.storage.push_down is not None and plan.lock is None
    root = optimize(root, session.database.statistics, remote=remote)
    if session.storing:
        if remote:
            from sqlfront.plan.push_down import kept_here

            root = kept_here(root)
        root = tell_late(root)
    return replace(plan, root=root)


def _depends_on_size(executable: Executable) -> bool:
    from sqlfront.exec.query import PointQuery

    return not isinstance(executable, PointQuery)


class Sized:
    """Keeps a plan as long as its tables have about the size that it was made for."""

    any_integer = False

    def __init__(self, executable: Executable, tables: Sequence[Table], session: Session) -> None:
        self._executable = executable
        self._run = executable.run
        rows = session.database.statistics.rows
        self._sizes = [(t, rows(t)) for t in tables]

    @property
    def executable(self) -> Executable:
        return self._executable

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        rows = session.database.statistics.rows
        for table, planned in self._sizes:
            now = rows(table)
            if now > REPLAN_ROWS_MIN and not planned / REPLAN_FACTOR <= now <= planned * REPLAN_FACTOR:
                session._plans.pop(session.statement, None)
                break
        return self._run(session, params)


class Telling:
    """An executable whose binding found something to warn of, at each execution."""

    def __init__(self, executable: Executable, warnings: Sequence[tuple[int, str]]) -> None:
        self.any_integer = executable.any_integer
        self._executable = executable
        self._warnings = tuple(warnings)

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        tell(session, self._warnings)
        return self._executable.run(session, params)


class Discarding:
    """A query whose rows are made and thrown away: DO."""

    def __init__(self, executable: Executable) -> None:
        self.any_integer = executable.any_integer
        self._executable = executable

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        result = self._executable.run(session, params)
        try:
            for _ in result.fetch():
                pass
        finally:
            result.close()
        return Result()


class AtTimestamp:
    """A query of the past."""

    any_integer = False

    def __init__(self, plan: QueryPlan, zone: dt.tzinfo, ts: int) -> None:
        self._plan = plan
        self._zone = zone
        self._ts = ts

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        from sqlfront.exec.query import ResidualQuery, result_columns

        if session.txn is not None:
            raise error(8135, "invalid as of timestamp: can't set read timestamp inside a transaction")
        query = ResidualQuery(self._plan, result_columns(self._plan), self._zone)
        return query.run_at(session, params, session.snapshot_at(self._ts))


def as_of_timestamp(session: Session, ctx: BindContext, node: Any, params: tuple[Any, ...]) -> int:
    """The timestamp that AS OF TIMESTAMP names: a datetime in the session's zone, or a TSO."""
    from coprocessor.evaluate import compile_expr
    from sqlfront.bind.expr import ExprBinder
    from sqlfront.bind.query import QueryBinder
    from sqlfront.bind.scope import Scope
    from sqlfront.exec.context import environment

    expr = ExprBinder(ctx, Scope(), QueryBinder(ctx)).bind(node)
    value = compile_expr(expr, {})((), environment(session, params))
    return timestamp_of(session, value)


def timestamp_of(session: Session, value: object) -> int:
    """A user's point in time as a timestamp of the store; refused when it is in the future."""
    from coprocessor.convert_text import parse_datetime

    if isinstance(value, int) and value > 1 << 50:
        ts = value
    else:
        moment = value if isinstance(value, dt.datetime) else parse_datetime(str(value))
        if moment is None:
            raise error(8135, f"invalid as of timestamp: {value!r} is not a time")
        millis = moment.replace(tzinfo=session.variables.zone).timestamp() * 1000
        # All commits of that millisecond are in.
        ts = ((int(millis) + 1) << 18) - 1
    now = session.storage.now_ts()
    if ts > now:
        if ts >> 18 > (now >> 18) + 1:
            raise error(9006, "cannot set read timestamp to a future time")
        ts = now
    return ts
