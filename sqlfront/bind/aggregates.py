"""Aggregate functions: their arguments, and the query that computes them.

A call in a subquery may be an aggregate of a query around it, as MySQL has it (SQL:2003, 6.9): of the innermost query
whose columns its arguments read, if it stands there in the select list, HAVING or ORDER BY. That query computes it, and
the subquery reads it as one more of the outer columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from coprocessor import functions as fn
from coprocessor.expr import Agg, Expr, OrderKey, children, columns, walk
from sqlfront.bind.messages import position_of, refuse
from sqlfront.errors import ER_INVALID_GROUP_FUNC_USE, error, unsupported
from sqlfront.plan.rules.push_filters import substitute

if TYPE_CHECKING:
    from sqlfront.bind.expr import ExprBinder
    from sqlfront.bind.scope import Scope


def bind_aggregate(binder: ExprBinder, name: str, args: Sequence[exp.Expression], node: exp.Expression) -> Expr:
    """Binds a call; returns it, or the column that a query around has it in. Raises 1111 where no query can have it."""
    distinct = False
    if len(args) == 1 and isinstance(args[0], exp.Distinct) and not name.startswith("json_"):
        distinct, args = True, args[0].expressions
    if len(args) == 1 and isinstance(args[0], exp.Star):
        if name != "count" or distinct:
            raise refuse(node)
        args = []
    elif name == "count" and not args:
        raise error(1064, "You have an error in your SQL syntax: COUNT needs an argument", position=position_of(node))
    around = _outer_columns(binder.scope)
    agg = fn.resolve_agg(name, _arguments(binder, args), distinct=distinct)
    return _placed(binder, agg, node, around)


def bind_group_concat(binder: ExprBinder, node: exp.GroupConcat) -> Expr:
    """GROUP_CONCAT([DISTINCT] items ORDER BY keys SEPARATOR mark); a number as a key is an item's."""
    from sqlfront.bind.select import ordinal

    inner = node.this
    around = _outer_columns(binder.scope)
    separator = node.args.get("separator")
    ordered: Sequence[exp.Expression] = []
    if isinstance(inner, exp.Order):
        ordered = inner.expressions
        inner = inner.this
    distinct = isinstance(inner, exp.Distinct)
    items = inner.expressions if isinstance(inner, (exp.Distinct, exp.Tuple)) else [inner]
    if len(items) == 1 and isinstance(items[0], exp.Concat):
        items = items[0].expressions
    places = [ordinal(o.this, len(items), "order clause") for o in ordered]
    bound = _arguments(binder, [o.this if i is None else items[i] for o, i in zip(ordered, places, strict=True)])
    keys = [OrderKey(e, bool(o.args.get("desc"))) for e, o in zip(bound, ordered, strict=True)]
    mark = separator.this if isinstance(separator, exp.Literal) else ","
    args = _arguments(binder, items)
    agg = fn.resolve_agg("group_concat", args, distinct=distinct, order_by=keys, separator=mark)
    return _placed(binder, agg, node, around)


def _arguments(binder: ExprBinder, args: Sequence[exp.Expression]) -> list[Expr]:
    saved = binder.aliases, binder.inside_aggregate, binder.allow_windows
    binder.aliases = {n: e for n, e in binder.aliases.items() if not has_aggregate(e)}
    binder.inside_aggregate, binder.allow_windows = True, False
    try:
        return binder.bind_all(args)
    finally:
        binder.aliases, binder.inside_aggregate, binder.allow_windows = saved


def _outer_columns(scope: Scope) -> list[tuple[Scope, set[int]]]:
    """Every query from a scope outwards, with the columns that it reads of those around it."""
    out = []
    here: Scope | None = scope
    while here is not None:
        out.append((here, set(here.outer)))
        here = here.parent
    return out


def _placed(binder: ExprBinder, agg: Agg, node: exp.Expression, around: Sequence[tuple[Scope, set[int]]]) -> Expr:
    """Gives an aggregate to the query that it is of; `around` is what the queries read without its arguments."""
    own = binder.scope
    of = _query_of(binder, columns(agg))
    there = binder if of is own else of.binder
    # the arguments of an aggregate hold no other of the same query
    spelled = substitute(agg, {c.id: e for e, c in of.named.items()}) if of is not own else agg
    assert isinstance(spelled, Agg)
    nested = any(has_aggregate(e) or not of.aggregates.keys().isdisjoint(columns(e)) for e in children(spelled))
    nested = nested or (there is not None and there.inside_aggregate)
    if there is None or nested or not there.allow_aggregates or of.compares_row:
        raise error(ER_INVALID_GROUP_FUNC_USE, "Invalid use of group function", position=position_of(node))
    if not columns(spelled).isdisjoint({c.id for c in of.named.values()}):
        raise unsupported("an item of the select list, named by a subquery in an aggregate", position=position_of(node))
    if of is own:
        return agg
    for scope, outer in itertools.takewhile(lambda pair: pair[0] is not of, around):
        scope.outer = outer
    column = next((c for a, c in of.aggregates.values() if a == spelled), None)
    if column is None:
        column = binder.ctx.column("", agg.type)
        of.aggregates[column.id] = (spelled, column)
    own.read_outer(column.id, of)
    return column.ref()


def _query_of(binder: ExprBinder, read: set[int]) -> Scope:
    """The query that computes an aggregate of columns: the innermost that has one of them; where it can have no
    aggregate there, the next within it that can. One of no columns is its own query's, if that can have it.
    """
    own = binder.scope
    if read & own.ids():
        return own
    within: Scope | None = None
    scope = own.parent
    while scope is not None:
        allowed = scope.binder is not None and scope.binder.allow_aggregates
        if read & (scope.ids() | {c.id for c in scope.named.values()}):
            return scope if allowed else within or own
        if allowed and within is None:
            within = scope
        scope = scope.parent
    return own if binder.allow_aggregates and not own.compares_row else within or own


def aggregates(expr: Expr) -> Iterator[Agg]:
    """The aggregate calls in an expression."""
    return (n for n in walk(expr) if isinstance(n, Agg))


def computes(scope: Scope, expr: Expr) -> bool:
    """Whether a query's aggregates are in an expression, or in its subqueries."""
    return has_aggregate(expr) or not scope.aggregates.keys().isdisjoint(columns(expr))


def has_aggregate(expr: Expr) -> bool:
    return any(True for _ in aggregates(expr))
