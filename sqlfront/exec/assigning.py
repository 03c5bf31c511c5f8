"""`@name := value` in the select list of a query, or of an INSERT: assignments are made row by row, in the order of the
rows and of the items.

The query is cut in two. What finds, joins, groups, orders and limits the rows runs as any query; the items that assign
variables, or read those that are assigned, are computed here from its rows. Where that cannot be done nobody could tell
in which order they happen, and the query is refused with 1235.

`(SELECT @n := 0) AS x` in FROM, without a FROM of its own, assigns before the query begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from sqlglot import exp

from coprocessor import types as t
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Agg, Call, Column, Const, Context, Expr, Subquery, Window, columns, transform, walk
from coprocessor.types import BIGINT, FieldType
from sqlfront import parse
from sqlfront.bind.dml import bind_insert
from sqlfront.bind.literals import type_of
from sqlfront.bind.messages import text_of
from sqlfront.bind.query import QueryBinder
from sqlfront.errors import DatabaseError, unsupported
from sqlfront.exec.context import environment, read_variables_as
from sqlfront.exec.control import evaluate
from sqlfront.exec.dml import InsertChange
from sqlfront.exec.query import compile_query, result_columns
from sqlfront.exec.statement import bind_context
from sqlfront.plan.nodes import Limit, Node, PlanColumn, Project, QueryPlan, Sort, node_exprs, plan_of, walk_nodes
from sqlfront.plan.optimize import optimize
from sqlfront.result import ListSource, Result, Row

if TYPE_CHECKING:
    from sqlfront.bind.scope import BindContext
    from sqlfront.session import Session

ASSIGN = "assign_user_variable"


def assigning(
    session: Session, parsed: parse.Parsed, statement: parse.Query, params: Sequence[object]
) -> Assigning | None:
    """The executable of a query that assigns variables; None for one that does not. Those of FROM are assigned now."""
    tree = statement.ast
    if tree.find(exp.PropertyEQ) is None:
        return None
    if statement.as_of is not None or statement.counts_all or tree.args.get("with_") is not None:
        raise _refused()
    tree = tree.copy()
    _assign_in_from(session, parsed, tree, params)
    plan, ctx = _bind(session, parsed, params, lambda ctx: QueryBinder(ctx).bind(tree, statement.item_texts))
    return Assigning(session, plan, ctx)


def inserting(
    session: Session, parsed: parse.Parsed, statement: parse.Insert, params: Sequence[object]
) -> InsertChange | None:
    """The executable of an INSERT that assigns variables in its VALUES or SELECT; None for one that does not. Those of
    FROM are assigned now.
    """
    source = statement.ast.expression
    if source is None or source.find(exp.PropertyEQ) is None:
        return None
    tree = statement.ast.copy()
    _assign_in_from(session, parsed, tree.expression, params)
    statement = replace(statement, ast=tree)
    plan, ctx = _bind(session, parsed, params, lambda ctx: bind_insert(ctx, statement))
    items: list[Expr] = []
    layout: dict[int, int] = {}
    if plan.query is not None:
        inner, items, _ = _split(plan.query, ctx)
        layout = {c.id: place for place, c in enumerate(inner.cols)}
        plan = replace(plan, query=inner)
    change = InsertChange(session, plan, ctx.schema)
    change.items = [compile_expr(item, layout) for item in items]
    change.assigned, change.alone = _types(ctx), None
    return change


def _refused() -> DatabaseError:
    return unsupported("assignments to variables where the order of evaluation is not certain")


_Plan = TypeVar("_Plan")


def _bind(
    session: Session, parsed: parse.Parsed, params: Sequence[object], bind: Callable[[BindContext], _Plan]
) -> tuple[_Plan, BindContext]:
    """Binds twice: first to see what the variables become, which is what those who read them are told."""
    ctx = bind_context(session, parsed, params)
    ctx.assigned = {}
    bind(ctx)
    read = {name: (value, _as_read(type_, value)) for name, type_ in ctx.assigned.items()
            for value in (session.user_variables.get(name, (None, None))[0],)}  # fmt: skip
    ctx = bind_context(session, parsed, params)
    ctx.user_variables = {**session.user_variables, **read}
    ctx.assigned = {}
    return bind(ctx), ctx


def _types(ctx: BindContext) -> dict[str, FieldType]:
    """What those who read the variables that are assigned are told."""
    return {name: ctx.user_variables[name][1] for name in ctx.assigned or () if name in ctx.user_variables}


def _as_read(assigned: FieldType, value: object) -> FieldType:
    """What a variable is to those who read it: wide enough for what it is and what it becomes."""
    from coprocessor import functions as fn

    now = type_of(value)
    if now.tp != t.Tp.NULL and assigned.tp != t.Tp.NULL:
        assigned = fn.unify([now, assigned])
    elif assigned.tp == t.Tp.NULL:
        assigned = now
    if assigned.is_integer:
        return t.UBIGINT if assigned.unsigned else BIGINT
    return t.TEXT if assigned.is_text else assigned


def _assign_in_from(session: Session, parsed: parse.Parsed, tree: exp.Expression, params: Sequence[object]) -> None:
    """Assigns what derived tables without tables of their own assign, and leaves the values in their place."""
    source = tree.args.get("from_")
    joins = tree.args.get("joins") or []
    for item in [source, *joins]:
        derived = None if item is None else item.this
        if not isinstance(derived, exp.Subquery) or not isinstance(derived.this, exp.Select):
            continue
        select = derived.this
        if {k for k, v in select.args.items() if v} - {"expressions", "kind"}:
            continue
        for node in list(select.expressions):
            inner = node.this if isinstance(node, exp.Alias) else node
            inner = inner.unnest()
            if not isinstance(inner, exp.PropertyEQ) or not isinstance(inner.this, exp.Parameter):
                continue
            value = evaluate(session, parsed, inner.expression, params)
            session.user_variables[inner.this.name.casefold()] = (value, type_of(value))
            alias = node.alias if isinstance(node, exp.Alias) else text_of(node)
            node.replace(exp.alias_(_literal(value), alias, quoted=True))


def _literal(value: Any) -> exp.Expression:
    if value is None:
        return exp.Null()
    if isinstance(value, str):
        return exp.Literal.string(value)
    if isinstance(value, bytes):
        return exp.HexString(this=value.hex())
    if isinstance(value, (int, float)) or type_of(value).is_decimal:
        text = repr(value) if isinstance(value, float) else str(value)
        number = exp.Literal.number(text.lstrip("-"))
        return exp.Neg(this=number) if text.startswith("-") else number
    raise _refused()


class Assigning:
    """A query whose live items, those that assign or read what is assigned, are computed from its rows in order."""

    any_integer = False

    def __init__(self, session: Session, plan: QueryPlan, ctx: BindContext) -> None:
        self.columns = result_columns(plan)
        root, items, width = _split(plan.root, ctx)
        inner = replace(plan, root=root, names=tuple(c.name for c in root.cols))
        remote = session.storage.push_down is not None and plan.lock is None
        inner = replace(inner, root=optimize(root, session.database.statistics, remote=remote))
        if plan.lock is not None:
            from sqlfront.exec.locking import LockingQuery

            self._query: Any = LockingQuery(inner, session.variables.zone)
        else:
            self._query = compile_query(inner, session.variables.zone)
        layout = {c.id: place for place, c in enumerate(root.cols)}
        self._items = [compile_expr(item, layout) for item in items[:width]]
        self._types = _types(ctx)

    def run(self, session: Session, params: tuple[Any, ...]) -> Result:
        env = environment(session, params)
        read_variables_as(env, self._types)
        result: Result = self._query.run(session, params)
        rows: list[Row] = []
        try:
            for batch in result.fetch():
                session.check_cancelled()
                rows += env.quota.rows([tuple([item(row, env) for item in self._items]) for row in batch])
        finally:
            result.close()
        session.found_rows = len(rows)
        return Result(self.columns, ListSource(self.columns, rows))


def _split(root: Node, ctx: BindContext) -> tuple[Node, list[Expr], int]:
    """The query that gives what the items need; the items over its columns; how many of them are shown."""
    names = frozenset(ctx.assigned or ())
    width = len(root.cols)
    above: list[Limit | Sort] = []
    node = root
    if isinstance(node, Project) and isinstance(node.child, (Limit, Sort)) and _drops(node):
        node = node.child
    while isinstance(node, (Limit, Sort)):
        above.append(node)
        node = node.child
    if not isinstance(node, Project):
        raise _refused()
    live = [_is_live(e, names) for e in node.exprs]
    dead = [(c, e) for c, e, is_live in zip(node.cols, node.exprs, live, strict=True) if not is_live]
    asked: list[tuple[PlanColumn, Expr]] = []

    def ask(part: Expr) -> Expr:
        """Leaves a subquery that reads nothing assigned to the query."""
        if not isinstance(part, Subquery) or _is_live(part, names):
            return part
        asked.append((ctx.column("", part.type), part))
        return asked[-1][0].ref()

    node = replace(node, exprs=tuple(transform(e, ask) if v else e for e, v in zip(node.exprs, live, strict=True)))
    dead += asked
    needed = {i for e, is_live in zip(node.exprs, live, strict=True) if is_live for i in columns(e)}
    needed -= {c.id for c, _ in asked}
    below = [c for c in node.child.cols if c.id in needed]
    if needed - {c.id for c in below} or any(
        map(_cannot_move, (e for e, v in zip(node.exprs, live, strict=True) if v))
    ):
        raise _refused()
    cols = tuple(c for c, _ in dead)
    exprs = tuple(e for _, e in dead)
    through = [replace(c, id=ctx.new_id()) for c in below]
    if not cols and not through:
        cols, exprs = (ctx.column("", BIGINT, nullable=False),), (Const(1, BIGINT),)
    inner: Node = Project(node.child, (*cols, *through), (*exprs, *(c.ref() for c in below)))
    known = {c.id for c in inner.cols}
    for one in reversed(above):
        if isinstance(one, Sort) and any(columns(k.expr) - known for k in one.keys):
            raise _refused()
        inner = replace(one, child=inner)
    if any(_is_live(e, names) for n in walk_nodes(inner) for e in node_exprs(n)):
        raise _refused()
    moved = {c.id: p.ref() for c, p in zip(below, through, strict=True)}
    items = [_moved(e, moved) if is_live else c.ref()
             for c, e, is_live in zip(node.cols, node.exprs, live, strict=True)]  # fmt: skip
    return inner, items, width


def _is_live(expr: Expr, names: frozenset[str]) -> bool:
    return any(
        (
            isinstance(part, Subquery)
            and any(_is_live(e, names) for n in walk_nodes(plan_of(part)) for e in node_exprs(n))
        )
        or (isinstance(part, Call) and part.func == ASSIGN)
        or (isinstance(part, Context) and part.key[0] == "uservar" and part.key[1] in names)
        for part in walk(expr)
    )


def _drops(node: Project) -> bool:
    """Whether a projection only drops the columns that are ordered by."""
    return all(isinstance(e, Column) and e.id == c.id for e, c in zip(node.exprs, node.child.cols, strict=False))


def _cannot_move(expr: Expr) -> bool:
    return any(isinstance(part, (Subquery, Agg, Window)) for part in walk(expr))


def _moved(expr: Expr, places: Mapping[int, Column]) -> Expr:
    from sqlfront.plan.rules.push_filters import substitute

    return substitute(expr, places)
