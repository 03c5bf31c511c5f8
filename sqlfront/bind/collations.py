"""The types, and the collations, in which the columns of set operations and of subqueries are compared."""

from __future__ import annotations

from dataclasses import replace

from coprocessor.errors import ResolveError
from coprocessor.expr import Call, Column, Expr
from coprocessor.functions import cast_to, comparable, unify
from coprocessor.functions.inference import (
    by_connection,
    collate_type,
    collated,
    collation_of,
    explicit_collation,
    gives_way,
    with_one_collation,
)
from coprocessor.types import FieldType
from sqlfront.bind.scope import BindContext
from sqlfront.errors import error
from sqlfront.plan.nodes import Distinct, Filter, Limit, Node, PlanColumn, Project, SetOp, Sort, Values, With


def type_of_both(left: Node, a: PlanColumn, right: Node, b: PlanColumn) -> FieldType:
    """The type of a set operation's column; its collation is chosen as that of the arguments of a function."""
    unified = unify([a.type, b.type])
    if not unified.is_text:
        return unified
    sides = (origin(left, a), origin(right, b))
    try:
        collate = collate_type(by_connection(with_one_collation("UNION", sides, comparing=True))).collate
    except ResolveError as e:
        raise error(1271, "Illegal mix of collations for operation 'UNION'") from e
    return unified.with_(collate=collate)


def with_same_types(ctx: BindContext, lefts: list[Expr], plan: Node) -> tuple[list[Expr], Node]:
    """Casts what is compared with a subquery's columns, and them, to the types in which MySQL compares them.

    Raises ResolveError 1267 where it is not clear by which collation.
    """
    origins = [origin(plan, c) for c in plan.cols]
    pairs = [by_connection(with_one_collation("=", pair, comparing=True)) for pair in zip(lefts, origins, strict=True)]
    wanted = [comparable(a.type, b.type) for (a, _), b in zip(pairs, plan.cols, strict=True)]
    lefts = [cast_to(a, w) for (a, _), w in zip(pairs, wanted, strict=True)]
    exprs = [cast_to(c.ref(), w) for c, w in zip(plan.cols, wanted, strict=True)]
    for i, pair in enumerate(pairs):
        collate = collate_type(pair).collate
        if exprs[i].type.is_text and exprs[i].type.collate != collate and gives_way(origins[i]):
            exprs[i] = collated(exprs[i], collate)
    if any(not isinstance(e, Column) for e in exprs):
        cols = tuple(PlanColumn(ctx.new_id(), c.name, e.type) for c, e in zip(plan.cols, exprs, strict=True))
        plan = Project(plan, cols, tuple(exprs))
    return lefts, plan


def settled(ctx: BindContext, plan: Node) -> Node:
    """A derived table's query, whose columns of literals have the connection's collation for those who read them."""
    exprs = [_settled(plan, column) for column in plan.cols]
    if all(isinstance(e, Column) for e in exprs):
        return plan
    cols = tuple(replace(c, id=ctx.new_id(), type=e.type) for c, e in zip(plan.cols, exprs, strict=True))
    return Project(plan, cols, tuple(exprs))


def _settled(plan: Node, column: PlanColumn) -> Expr:
    collate = collation_of(origin(plan, column))
    if column.type.is_text and collate and collate != column.type.collate and gives_way(origin(plan, column)):
        return collated(column.ref(), collate)
    return column.ref()


def origin(node: Node, column: PlanColumn) -> Expr:
    """What a column is computed by, as far as it tells whose choice its collation is."""
    match node:
        case Filter() | Distinct() | Sort() | Limit() | With():
            return origin(node.child, column)
        case Project():
            expr = node.exprs[node.cols.index(column)]
            cast = isinstance(expr, Call) and expr.func == "cast" and not explicit_collation(expr)
            inner = expr.args[0] if isinstance(expr, Call) and cast else expr
            source = next((c for c in node.child.cols if c.ref() == inner), None)
            below = expr if source is None else origin(node.child, source)
            return below if gives_way(below) else expr
        case Values():
            at = node.cols.index(column)
            values = [row[at] for row in node.rows]
            return values[0] if values and all(map(gives_way, values)) else column.ref()
        case SetOp():
            at = node.cols.index(column)
            sides = [origin(side, side.cols[at]) for side in (node.left, node.right)]
            return sides[0] if all(map(gives_way, sides)) else column.ref()
        case _:
            return column.ref()
