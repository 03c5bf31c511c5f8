"""Runs the rules over a plan and over the plans of its subqueries, then gives every scan its access path.

For a storage that takes requests, what it can compute is pushed down to it last.
"""

from __future__ import annotations

from dataclasses import replace

from coprocessor.expr import Column, Expr, Subquery, transform
from sqlfront.plan.access import LOCAL, REMOTE, Estimator, choose_access
from sqlfront.plan.nodes import Limit, Node, Project, Scan, map_exprs, plan_of, with_children
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
            plan = plan_of(expr)
            if expr.kind == "exists":
                plan = _any_column(plan)
            return replace(expr, plan=optimize(plan, estimator, remote=remote))
        return expr

    node = with_children(node, lambda child: _finish(child, estimator, remote))
    node = map_exprs(node, lambda e: transform(e, inner))
    if not isinstance(node, Scan):
        return node
    return replace(node, access=choose_access(node, estimator, REMOTE if remote else LOCAL))


def _any_column(plan: Node) -> Node:
    """The plan of EXISTS with one column, since nobody looks at what it gives."""
    if isinstance(plan, Limit):
        return replace(plan, child=_any_column(plan.child))
    if not isinstance(plan, Project) or len(plan.cols) < 2:
        return plan
    pairs = zip(plan.cols, plan.exprs, strict=True)
    column, value = min(pairs, key=lambda pair: not (isinstance(pair[1], Column) and pair[0].type.is_numeric))
    return replace(plan, cols=(column,), exprs=(value,))
