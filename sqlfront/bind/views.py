"""Views: a name in FROM that stands for a query.

The stored text of a view is bound like a derived table, in a scope of its own: it sees no alias, no common table
expression, and no registered or temporary table of the statement that reads it. All of its names are spelled out
(`view_text.py`), so it means the same whoever reads it and whatever database that one is in. What the planner does
with derived tables it does with views; a plan that has read one is as good as the schema it was bound to.

Errors of the text have no place in the statement, and are 1356 with the reason.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from coprocessor.coercible import comparing_literals
from sqlfront import parse
from sqlfront.bind.collations import settled
from sqlfront.bind.messages import position_of
from sqlfront.bind.scope import Relation, Scope
from sqlfront.catalog.charsets import compared_as
from sqlfront.catalog.describe import quote_name
from sqlfront.errors import ER_NOT_SUPPORTED_YET, DatabaseError, error, unsupported
from sqlfront.plan.nodes import Node, PlanColumn, Project, Scan, walk_nodes

if TYPE_CHECKING:
    from sqlfront.bind.query import QueryBinder
    from sqlfront.catalog.model import Table

ER_VIEW_RECURSIVE = 1462
VIEWS_NESTED_MAX = 32
"""Views over views over views: what their plan, a tree, may cost in depth."""
_VARIABLES = (exp.Parameter, exp.SessionParameter, exp.Placeholder)
_AS_THEY_ARE = frozenset({1055, 1140, 1356, 1412, 1436, ER_VIEW_RECURSIVE, ER_NOT_SUPPORTED_YET, 8200})
"""Errors in a view's query that say more than that the view is wrong."""


def bind_view(queries: QueryBinder, view: Table, alias: str, node: exp.Table, scope: Scope) -> Node:
    """Binds a view as an item of FROM, and puts it into scope."""
    from sqlfront.bind.query import index_hints, partition_names

    position = position_of(node)
    partition_names(view, node.args.get("partition"), position)
    index_hints(node, view.name, set())
    plan = bind_query(queries, view, position)
    columns = columns_of(view, plan, position)
    cols = tuple(replace(c, id=queries.ctx.new_id(), name=name, table=alias, db=view.db) for name, c in columns)
    scope.add(Relation(alias, view.db, cols, view=view.name), position)
    queries.ctx.beneath[alias] = tuple(n.alias for n in walk_nodes(plan) if isinstance(n, Scan))
    if isinstance(plan, Project) and [c.id for c in plan.cols] == [c.id for _, c in columns]:
        return replace(plan, cols=cols)  # nobody else reads its columns: they only get other names
    return Project(plan, cols, tuple(c.ref() for _, c in columns))


def bind_query(queries: QueryBinder, view: Table, position: int = -1) -> Node:
    """Binds the query of a view."""
    ctx = queries.ctx
    key = (view.db.lower(), view.name.lower())
    if key in ctx.views:
        raise error(ER_VIEW_RECURSIVE, f"{_named(view)} contains view recursion", position=position)
    if len(ctx.views) >= VIEWS_NESTED_MAX:
        raise error(1436, f"views are nested too deeply: {VIEWS_NESTED_MAX} within each other are the limit")
    outside = (ctx.current_db, ctx.registered, ctx.written, ctx.max_execution_ms, ctx.views, ctx.beneath, ctx.schema)
    ctx.current_db, ctx.registered, ctx.written = view.db, {}, None
    ctx.views, ctx.beneath, ctx.schema = (*ctx.views, key), {}, ctx.schema.stored
    try:
        with comparing_literals(compared_as(view.info.collate)):  # of who created it
            return settled(ctx, queries.query(_parsed(view), Scope()))
    except DatabaseError as exc:
        raise _invalid(view, exc, position) from exc
    finally:
        ctx.current_db, ctx.registered, ctx.written, ctx.max_execution_ms, ctx.views, ctx.beneath, ctx.schema = outside


def _named(view: Table) -> str:
    return f"{quote_name(view.db)}.{quote_name(view.name)}"


def _parsed(view: Table) -> exp.Expression:
    assert view.view is not None
    statement = parse.parse(view.view.select).statement
    if not isinstance(statement, parse.Query):
        raise error(1064, "it is not a query")
    check_query(statement)
    return statement.ast


def _invalid(view: Table, exc: DatabaseError, position: int) -> DatabaseError:
    if exc.code in _AS_THEY_ARE:
        return error(exc.code, exc.message, position=position, sqlstate=exc.sqlstate)
    message = f"View '{view.db}.{view.name}' references invalid table(s) or column(s) or function(s)"
    return error(1356, f"{message}: {exc.message}", position=position)


def columns_of(view: Table, plan: Node, position: int = -1) -> list[tuple[str, PlanColumn]]:
    """The names of a view's columns, with what its query gives for them."""
    assert view.view is not None
    names = [c.name for c in view.info.columns]
    cols = list(plan.cols)
    if len(cols) != len(names):
        reason = f"its query gives {len(cols)} columns, not {len(names)}"
        raise _invalid(view, error(1222, reason), position)
    if view.view.columns is None:
        return list(zip(names, cols, strict=True))
    by_name = {c.name.casefold(): c for c in cols}
    out: list[tuple[str, PlanColumn]] = []
    for name, stored in zip(names, view.view.columns, strict=False):
        found = by_name.get(name.casefold()) or by_name.get(stored["L"].casefold())
        if found is None:
            raise _invalid(view, error(1054, f"its query gives no column '{name}'"), position)
        out.append((name, found))
    return out


# Definitions


def check_query(statement: parse.Query) -> None:
    """Refuses what the query of a view must not have."""
    tree = statement.ast
    variable = tree.find(*_VARIABLES)
    if variable is not None:
        message = "View's SELECT contains a variable or parameter"
        while position_of(variable) < 0 and variable.parent is not None:  # it has no place itself: what it is part of
            variable = variable.parent
        raise error(1351, message, position=position_of(variable))
    if tree.find(exp.Lock) is not None:
        raise unsupported("FOR UPDATE and FOR SHARE in a view")
    if statement.as_of is not None:
        raise unsupported("AS OF TIMESTAMP in a view")
