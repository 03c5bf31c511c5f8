"""Drops columns that nothing above reads, down to the columns that a scan decodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from coprocessor.expr import Expr, columns
from sqlfront.plan.nodes import (
    Aggregate,
    Distinct,
    Join,
    Limit,
    Node,
    PlanColumn,
    Project,
    Scan,
    SetOp,
    Sort,
    TextRows,
    Virtual,
    WindowNode,
    With,
    columns_read,
    map_ctes,
    node_exprs,
    with_children,
)


def prune_columns(node: Node) -> Node:
    """Returns the tree with only the columns that are needed; the root's own all are."""
    return _prune(node, {c.id for c in node.cols})


def _read(exprs: Iterable[Expr]) -> set[int]:
    out: set[int] = set()
    for expr in exprs:
        out |= columns(expr)
    return out


def _prune(node: Node, needed: set[int]) -> Node:
    match node:
        case Scan():
            return _scan(node, needed)
        case Virtual() | TextRows():
            return node
        case Project():
            kept_exprs = [(c, e) for c, e in zip(node.cols, node.exprs, strict=True) if c.id in needed]
            if not kept_exprs and node.cols:
                kept_exprs = [(node.cols[0], node.exprs[0])]
            exprs = tuple(e for _, e in kept_exprs)
            return replace(
                node, child=_prune(node.child, _read(exprs)), cols=tuple(c for c, _ in kept_exprs), exprs=exprs
            )
        case Aggregate():
            return _aggregate(node, needed)
        case WindowNode():
            called = [(c, w) for c, w in zip(node.added, node.windows, strict=True) if c.id in needed]
            below = needed | _read(w for _, w in called)
            return replace(
                node,
                child=_prune(node.child, below),
                added=tuple(c for c, _ in called),
                windows=tuple(w for _, w in called),
            )
        case Join():
            below = needed | _read(node.on)
            if node.lateral:
                below |= columns_read(node.right)
            return replace(node, left=_prune(node.left, below), right=_prune(node.right, below))
        case Distinct():
            return replace(node, child=_prune(node.child, {c.id for c in node.cols}))
        case SetOp():
            return replace(
                node,
                left=_prune(node.left, {c.id for c in node.left.cols}),
                right=_prune(node.right, {c.id for c in node.right.cols}),
            )
        case With():
            return replace(node, ctes=map_ctes(node, prune_columns), child=_prune(node.child, needed))
        case Sort() | Limit():
            return replace(node, child=_prune(node.child, needed | _read(node_exprs(node))))
        case _:
            below = needed | _read(node_exprs(node))
            return with_children(node, lambda child: _prune(child, below))


def _scan(node: Scan, needed: set[int]) -> Node:
    # The columns of `where` are read too; an entirely unused table still gives its rows.
    wanted = needed | _read(node.where)
    kept = [(c, o) for c, o in zip(node.cols, node.offsets, strict=True) if c.id in wanted]
    if not kept:
        kept = [_cheapest(node)]
    return replace(node, cols=tuple(c for c, _ in kept), offsets=tuple(o for _, o in kept))


def _aggregate(node: Aggregate, needed: set[int]) -> Node:
    groups = len(node.groups)
    kept = [(c, a) for c, a in zip(node.cols[groups:], node.aggs, strict=True) if c.id in needed]
    aggs = tuple(a for _, a in kept)
    below = _read(node.groups) | _read(aggs)
    return replace(
        node,
        child=_prune(node.child, below),
        cols=node.cols[:groups] + tuple(c for c, _ in kept),
        aggs=aggs,
    )


def _cheapest(node: Scan) -> tuple[PlanColumn, int]:
    """The column to read when only the number of rows matters: of the key, or else of a fixed width."""
    pairs = list(zip(node.cols, node.offsets, strict=True))
    key = {node.table.handle_offset, *(c.offset for c in node.table.common_handle)}
    return min(pairs, key=lambda p: (p[1] < 0, p[1] not in key, not p[0].type.is_numeric, p[1]))
