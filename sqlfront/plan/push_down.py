"""What a store computes beside the data: conditions, aggregates, orders and limits that go down into the scans.

Runs after the access paths are chosen, and only where the storage takes requests. What goes down is what `can_push`
allows (docs/coprocessor.md); a grouping or a limit follows only where every condition of the scan did. A LIMIT and its
ORDER BY stay above as well, since every region cuts only its own rows; an aggregate is marked, and the executor merges
the regions' parts. Scans of whole unique keys, and by several keys at once, are left to plain gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from coprocessor.codec.collation import needs_restored_data
from coprocessor.dag.expressions import can_group_by, can_push, can_push_agg
from coprocessor.expr import Agg, Column, Const, Context, Expr, OrderKey, Subquery, columns, transform, walk
from coprocessor.functions.telling import tells
from coprocessor.types import BIGINT
from sqlfront.plan.nodes import (
    HANDLE_OFFSET,
    Aggregate,
    Distinct,
    Filter,
    Limit,
    Node,
    Ordered,
    Project,
    Pushed,
    Scan,
    Sort,
    map_exprs,
    node_exprs,
    plan_of,
    with_children,
)
from sqlfront.plan.path_order import path_direction
from sqlfront.plan.rules.push_filters import movable, substitute


def push_down(node: Node) -> Node:
    """Returns the plan with everything pushed that can be; subqueries inside expressions are plans of their own."""
    match node:
        case Scan():
            return _scan(node)
        case Aggregate():
            ends = tuple(_in_order(end, Const(1, BIGINT), None) for end in node.ends)
            node = replace(node, ends=ends) if ends else node
            return _aggregate(node) or with_children(node, push_down)
        case Distinct():
            return _distinct(node) or with_children(node, push_down)
        case Limit():
            node = _limited_in_order(node)
            return _limited(node) or with_children(node, push_down)
        case _:
            return with_children(node, push_down)


def without_parts(node: Node) -> Node:
    """Returns the plan with its aggregates taken back from the store: rows come over the wire, and are grouped here."""
    if isinstance(node, Aggregate) and node.pushed:
        node = replace(node, pushed="")
    return with_children(node, without_parts)


def unpushed(node: Node) -> Node:
    """Returns the plan with nothing pushed, in its subqueries either: for who computes all of it at once."""
    if isinstance(node, Scan):
        return replace(node, pushed=None)
    if isinstance(node, Aggregate):
        node = replace(node, pushed="")

    def inner(expr: Expr) -> Expr:
        if isinstance(expr, Subquery):
            return replace(expr, plan=unpushed(expr.plan))  # type: ignore[arg-type]
        return expr

    return map_exprs(with_children(node, unpushed), lambda e: transform(e, inner))


def kept_here(node: Node) -> Node:
    """Returns the plan with what may tell something of its values taken back from the store, which would not: for a
    statement that stores its rows."""
    match node:
        case Scan(pushed=Pushed()) if any(map(tells, node.where)):
            return replace(node, pushed=None, in_order=None)
        case Scan(pushed=Pushed() as pushed) if any(tells(key.expr) for key in pushed.keys):
            return replace(node, pushed=replace(pushed, keys=(), count=None, offset=None))
        case Aggregate() if node.pushed and any(map(tells, (*node_exprs(node), *node_exprs(node.child)))):
            return with_children(replace(node, pushed=""), kept_here)
    if isinstance(node, Aggregate) and any(map(tells, (*node_exprs(node), *node_exprs(node.child)))):
        node = replace(node, ends=())

    def inner(expr: Expr) -> Expr:
        return replace(expr, plan=kept_here(plan_of(expr))) if isinstance(expr, Subquery) else expr

    return map_exprs(with_children(node, kept_here), lambda e: transform(e, inner))


# Conditions


def _scan(scan: Scan) -> Scan:
    access = scan.access
    if access is None or access.point or access.kind == "merge" or scan.table.temporary:
        return scan
    left = [c for c in scan.where if c not in access.used and _pushable(c)]
    index_conds: tuple[Expr, ...] = ()
    if is_lookup(scan):
        there = _told_by_entries(scan)
        index_conds = tuple(c for c in left if columns(c) <= there)
    return replace(scan, pushed=Pushed(tuple(c for c in left if c not in index_conds), index_conds))


def is_lookup(scan: Scan) -> bool:
    """Whether the scan reads an index first and then the rows that its entries point to."""
    return scan.access is not None and scan.access.kind == "index" and not scan.access.cover


def _told_by_entries(scan: Scan) -> set[int]:
    """The ids of the scan's columns whose values stand in the entries of its index."""
    assert scan.access is not None
    assert scan.access.index is not None
    table = scan.table
    told = {c.offset for c in scan.access.index.columns if c.prefix < 0}
    told = {o for o in told if not needs_restored_data(table.columns[o].type)}
    told.add(table.handle_offset if table.handle_offset >= 0 else HANDLE_OFFSET)
    return {c.id for c, o in zip(scan.cols, scan.offsets, strict=True) if o in told}


def _pushable(expr: Expr) -> bool:
    random = any(isinstance(p, Context) and p.key[0] == "rand" for p in walk(expr))
    return not random and movable(expr) and can_push(expr)


def _is_whole(scan: Scan) -> bool:
    """Whether the store applies every condition of the scan, so that what stands above may go down too."""
    assert scan.access is not None
    return scan.pushed is not None and all(c in scan.access.used for c in scan.left)


# Aggregates


def _below(node: Node) -> tuple[Scan, dict[int, Expr]] | None:
    """The scan under projections, and what these call its expressions."""
    names: dict[int, Expr] = {}
    while isinstance(node, Project):
        here = {c.id: e for c, e in zip(node.cols, node.exprs, strict=True)}
        names = here | {i: substitute(e, here) for i, e in names.items()}
        node = node.child
    if not isinstance(node, Scan):
        return None
    scan = _scan(node)
    return (scan, names) if scan.pushed is not None and _is_whole(scan) else None


def _aggregate(node: Aggregate) -> Aggregate | None:
    found = _below(node.child)
    if found is None or node.rollup or not (node.groups or node.aggs):
        return None
    scan, names = found
    own = {c.id for c in scan.cols}
    groups = tuple(substitute(e, names) for e in node.groups)
    aggs = tuple(a for a in (substitute(a, names) for a in node.aggs) if isinstance(a, Agg))
    if not all(columns(e) <= own and movable(e) for e in (*groups, *aggs)):
        return None
    if not (all(map(can_group_by, groups)) and all(map(can_push_agg, aggs))):
        return None
    pushed = "stream" if _is_streamed(scan, groups) else "hash"
    return replace(node, child=scan, groups=groups, aggs=aggs, pushed=pushed)


def _is_streamed(scan: Scan, groups: Sequence[Expr]) -> bool:
    """Whether the groups are the leading columns of the order that the path reads in."""
    assert scan.access is not None
    offsets = {c.id: o for c, o in zip(scan.cols, scan.offsets, strict=True)}
    wanted = [offsets[e.id] for e in groups if isinstance(e, Column)]
    whole = len(wanted) == len(groups) > 0 and not is_lookup(scan)
    return whole and tuple(wanted) == scan.access.order[: len(wanted)]


def _distinct(node: Distinct) -> Distinct | None:
    """DISTINCT over one table is a grouping without aggregates; what the regions have in common is dropped above."""
    grouped = Aggregate(node.child, node.cols, tuple(c.ref() for c in node.cols), ())
    found = _aggregate(grouped)
    return None if found is None else Distinct(found)


# Limits


def _limited(node: Limit) -> Node | None:
    if node.count is None:
        return None
    between: list[Node] = []
    below = node.child
    sort: Sort | None = None
    while isinstance(below, Project) or (isinstance(below, Sort) and sort is None):
        sort = below if isinstance(below, Sort) else sort
        between.append(below)
        below = below.child
    found = _below(below) if isinstance(below, Scan) else None
    if found is None:
        return None
    scan = found[0]
    assert scan.pushed is not None
    cut = replace(scan.pushed, count=node.count, offset=node.offset)
    if sort is not None:
        under = between[between.index(sort) + 1 :]
        order = path_direction(sort, under, scan)
        if order is not None and not is_lookup(scan):
            cut = replace(cut, order=order)
        elif order is None:
            keys = _keys(sort, scan)
            if keys is None:
                return None
            cut = replace(cut, keys=keys)
        else:
            return None  # entries have the order, and rows are fetched until there are enough
    return _with_scan(node, replace(scan, pushed=cut))


def _limited_in_order(node: Limit) -> Limit:
    """The LIMIT over its scan, with what the store does of the path that is in the wanted order."""
    below: Node = node
    is_cut_there = True
    while isinstance(below, (Limit, Project, Filter, Sort)) and (below is node or not isinstance(below, Limit)):
        is_cut_there &= not isinstance(below, Filter)
        below = below.child
    if not isinstance(below, Scan) or below.in_order is None:
        return node
    found = _in_order(below.in_order, node.count if is_cut_there else None, node.offset)
    changed = _with_scan(node, replace(below, in_order=found))
    assert isinstance(changed, Limit)
    return changed


def _in_order(ordered: Ordered, count: Expr | None, offset: Expr | None) -> Ordered:
    """The scan in its order with conditions and limit pushed; by way of an index rows are fetched until there are
    enough."""
    scan = _scan(ordered.scan)
    if scan.pushed is None or is_lookup(scan):
        return ordered
    pushed = replace(scan.pushed, order="reverse" if ordered.reverse else "forward")
    if _is_whole(scan) and count is not None:
        pushed = replace(pushed, count=count, offset=offset)
    return replace(ordered, scan=replace(scan, pushed=pushed))


def _keys(sort: Sort, scan: Scan) -> tuple[OrderKey, ...] | None:
    """The keys over the scan's own columns; None where the store does not order by them as we do."""
    found = _below(sort.child)
    names = {} if found is None else found[1]
    keys = tuple(OrderKey(substitute(k.expr, names), k.desc) for k in sort.keys)
    own = {c.id for c in scan.cols}
    if not all(columns(k.expr) <= own and movable(k.expr) and can_group_by(k.expr) for k in keys):
        return None
    return keys


def _with_scan(node: Node, scan: Scan) -> Node:
    return scan if isinstance(node, Scan) else with_children(node, lambda child: _with_scan(child, scan))
