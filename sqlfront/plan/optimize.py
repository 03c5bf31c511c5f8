"""Runs the rules over a plan and over the plans of its subqueries, then gives every scan its access path.

For a storage that takes requests, what it can compute is pushed down to it last.
"""

from __future__ import annotations

from dataclasses import replace

from coprocessor.expr import Column, Expr, Subquery, transform
from sqlfront.plan.access import LOCAL, REMOTE, Access, Costs, Estimator, choose_access, cost_of_all, costs_of
from sqlfront.plan.in_order import by_ends, limited_scan, sorted_scan
from sqlfront.plan.index_merge import index_merge
from sqlfront.plan.nodes import (
    Aggregate,
    Limit,
    Node,
    Parts,
    Project,
    Scan,
    Sort,
    Values,
    map_exprs,
    plan_of,
    with_children,
)
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

    costs = REMOTE if remote else LOCAL
    node = with_children(node, lambda child: _finish(child, estimator, remote))
    node = map_exprs(node, lambda e: transform(e, inner))
    match node:
        case Scan():
            return _with_paths(node, estimator, costs)
        case Sort():
            return sorted_scan(node, estimator, costs)
        case Limit():
            return limited_scan(node, estimator, costs)
        case Aggregate():
            return by_ends(node, estimator, costs)
        case _:
            return node


def _with_paths(node: Scan, estimator: Estimator, costs: Costs) -> Node:
    """The scan with its access path, or the scans of its partitions with theirs."""
    chosen = [replace(scan, access=choose_path(scan, estimator, costs_of(scan, costs))) for scan in part_scans(node)]
    if not chosen:
        return Values(node.cols, ())
    return chosen[0] if len(chosen) == 1 else Parts(tuple(chosen))


def choose_path(scan: Scan, estimator: Estimator, costs: Costs = LOCAL) -> Access:
    """Returns the cheapest access path for the scan's conditions: one, or a union of several."""
    one = choose_access(scan, estimator, costs)
    several = index_merge(scan, estimator, costs)
    return one if several is None or several.cost >= cost_of_all(one) else several


def part_scans(scan: Scan) -> list[Scan]:
    """The scans of the partitions that can have rows for a scan; the scan itself where there are none."""
    if scan.partitions is None or scan.number >= 0:
        return [scan]
    parts = scan.table.parts
    numbers = scan.partitions.prune(scan)
    if scan.named:
        numbers = [n for n in numbers if parts[n].partition.lower() in scan.named]
    return [replace(scan, table=parts[n], number=n) for n in numbers]


def _any_column(plan: Node) -> Node:
    """The plan of EXISTS with one column, since nobody looks at what it gives."""
    if isinstance(plan, Limit):
        return replace(plan, child=_any_column(plan.child))
    if not isinstance(plan, Project) or len(plan.cols) < 2:
        return plan
    pairs = zip(plan.cols, plan.exprs, strict=True)
    column, value = min(pairs, key=lambda pair: not (isinstance(pair[1], Column) and pair[0].type.is_numeric))
    return replace(plan, cols=(column,), exprs=(value,))
