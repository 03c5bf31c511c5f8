"""Takes what all alternatives of an OR have in common out of it: (a AND b) OR (a AND c) is a AND (b OR c).

What is common becomes a condition of its own that way, which can be pushed down, or joined by. RAND() and subqueries
stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from coprocessor.expr import Call, Expr
from sqlfront.plan.nodes import Filter, Join, Node, with_children
from sqlfront.plan.rules.push_filters import movable


def factor_alternatives(node: Node) -> Node:
    """Returns the tree with its conditions factored."""
    node = with_children(node, factor_alternatives)
    match node:
        case Filter():
            return replace(node, conds=_factored(node.conds))
        case Join():
            return replace(node, on=_factored(node.on))
        case _:
            return node


def _factored(conds: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return tuple(part for cond in conds for part in _parts(cond))


def _parts(cond: Expr) -> Iterator[Expr]:
    if not isinstance(cond, Call) or cond.func != "or":
        yield cond
        return
    alternatives = [list(_flat(arg, "and")) for arg in _flat(cond, "or")]
    common = [p for p in alternatives[0] if movable(p) and all(p in others for others in alternatives[1:])]
    if not common:
        yield cond
        return
    yield from common
    rest = [[part for part in parts if part not in common] for parts in alternatives]
    if all(rest):  # an alternative that has nothing more is true by what is common
        yield _chain("or", [_chain("and", parts, cond) for parts in rest], cond)


def _flat(expr: Expr, func: str) -> Iterator[Expr]:
    if isinstance(expr, Call) and expr.func == func:
        for arg in expr.args:
            yield from _flat(arg, func)
    else:
        yield expr


def _chain(func: str, parts: list[Expr], like: Call) -> Expr:
    out = parts[0]
    for part in parts[1:]:
        out = Call(func, (out, part), like.type)
    return out
