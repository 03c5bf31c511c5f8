"""Runs the rules over a plan and over the plans of its subqueries, then gives every scan its access path."""

from __future__ import annotations

from dataclasses import replace

from coprocessor.expr import Expr, Subquery, transform
from sqlfront.plan.access import Estimator, choose_access
from sqlfront.plan.nodes import Node, Scan, map_exprs, with_children
from sqlfront.plan.rules import RULES


def optimize(root: Node, estimator: Estimator) -> Node:
    """Returns the plan that the executors run."""
    for rule in RULES:
        root = rule(root)
    return _finish(root, estimator)


def _finish(node: Node, estimator: Estimator) -> Node:
    def inner(expr: Expr) -> Expr:
        if isinstance(expr, Subquery):
            return replace(expr, plan=optimize(_plan_of(expr), estimator))
        return expr

    node = with_children(node, lambda child: _finish(child, estimator))
    node = map_exprs(node, lambda e: transform(e, inner))
    return replace(node, access=choose_access(node, estimator)) if isinstance(node, Scan) else node


def _plan_of(expr: Subquery) -> Node:
    return expr.plan  # type: ignore[return-value]
