"""Runs the rules over a plan and over the plans of its subqueries, then gives every scan its access path.

For a storage that takes requests, what it can compute is pushed down to it last.
"""

from __future__ import annotations

from dataclasses import replace

from coprocessor.expr import Expr, Subquery, transform
from sqlfront.plan.access import LOCAL, REMOTE, Estimator, choose_access
from sqlfront.plan.nodes import Node, Scan, map_exprs, with_children
from sqlfront.plan.rules import RULES


def optimize(root: Node, estimator: Estimator, *, remote: bool = False) -> Node:
    """Returns the plan that the executors run; `remote` is for a storage that takes push-down requests."""
    for rule in RULES:
        root = rule(root)
    root = _finish(root, estimator, remote)
    if not remote:
        return root
    from sqlfront.plan.push_down import push_down

    return push_down(root)


def _finish(node: Node, estimator: Estimator, remote: bool) -> Node:
    def inner(expr: Expr) -> Expr:
        if isinstance(expr, Subquery):
            return replace(expr, plan=optimize(_plan_of(expr), estimator, remote=remote))
        return expr

    node = with_children(node, lambda child: _finish(child, estimator, remote))
    node = map_exprs(node, lambda e: transform(e, inner))
    if not isinstance(node, Scan):
        return node
    return replace(node, access=choose_access(node, estimator, REMOTE if remote else LOCAL))


def _plan_of(expr: Subquery) -> Node:
    return expr.plan  # type: ignore[return-value]
