"""Puts a common table expression that is read once where it is read, as if it were a derived table.

Conditions can go down into it then. What is read by a subquery of an expression stays, as it might be computed for each
row there; so does what is recursive, and what gives other values each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from coprocessor.expr import Context, Expr, Subquery, walk
from sqlfront.plan.nodes import (
    Cte,
    CteRef,
    Node,
    Project,
    With,
    node_children,
    node_exprs,
    plan_of,
    walk_nodes,
    with_children,
)
from sqlfront.plan.rules.push_filters import varies


def inline_ctes(node: Node) -> Node:
    """Returns the tree without the definitions that are read once."""
    node = with_children(node, inline_ctes)
    if not isinstance(node, With):
        return node
    reads = Counter(ref.cte_id for ref in _refs(node))
    in_tree = {ref.cte_id for ref in walk_nodes(node.child) if isinstance(ref, CteRef)}
    in_tree |= {r.cte_id for c in node.ctes if c.step is None for r in walk_nodes(c.plan) if isinstance(r, CteRef)}
    inlined = {c.id: c for c in node.ctes if reads[c.id] == 1 and c.id in in_tree and _may_move(c)}
    if not inlined:
        return node
    kept = tuple(replace(c, plan=_put(c.plan, inlined)) for c in node.ctes if c.id not in inlined)
    child = _put(node.child, inlined)
    return With(kept, child) if kept else child


def _put(node: Node, inlined: dict[int, Cte]) -> Node:
    if not isinstance(node, CteRef) or node.cte_id not in inlined:
        return with_children(node, lambda child: _put(child, inlined))
    cte = inlined[node.cte_id]
    return Project(_put(cte.plan, inlined), node.cols, tuple(column.ref() for column in cte.cols))


def _may_move(cte: Cte) -> bool:
    return cte.step is None and not any(_varies(e) for n in walk_nodes(cte.plan) for e in node_exprs(n))


def _varies(expr: Expr) -> bool:
    for part in walk(expr):
        if isinstance(part, Subquery):
            if any(_varies(e) for n in walk_nodes(plan_of(part)) for e in node_exprs(n)):
                return True
        elif varies(part) or (isinstance(part, Context) and part.key[0] == "rand"):
            return True
    return False


def _refs(node: Node) -> Iterator[CteRef]:
    """All reads of definitions, those in subqueries of expressions among them."""
    if isinstance(node, CteRef):
        yield node
    for expr in node_exprs(node):
        for part in walk(expr):
            if isinstance(part, Subquery):
                yield from _refs(plan_of(part))
    for child in node_children(node):
        yield from _refs(child)
