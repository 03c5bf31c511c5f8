"""Groups by the primary key alone where other columns of the same table are grouped by beside it.

They have one value in each group then, so that any of its values stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from coprocessor.expr import Agg, Column
from sqlfront.plan.nodes import Aggregate, Filter, Join, Node, Project, Scan, Sort, with_children


def group_by_key(node: Node) -> Node:
    """Returns the tree with its grouping keys reduced."""
    node = with_children(node, group_by_key)
    return _reduced(node) if isinstance(node, Aggregate) and len(node.groups) > 1 and not node.rollup else node


def _reduced(node: Aggregate) -> Node:
    grouped = {expr.id for expr in node.groups if isinstance(expr, Column)}
    implied: set[int] = set()
    for scan in _scans(node.child):
        key = _key_columns(scan)
        if key and key <= grouped:
            implied |= {c.id for c in scan.cols if c.id in grouped} - key
    if not implied:
        return node
    pairs = list(zip(node.cols, node.groups, strict=False))
    kept = [(col, expr) for col, expr in pairs if not (isinstance(expr, Column) and expr.id in implied)]
    moved = [(col, expr) for col, expr in pairs if isinstance(expr, Column) and expr.id in implied]
    columns = (*(col for col, _ in kept), *node.cols[len(node.groups) :], *(col for col, _ in moved))
    values = tuple(Agg("any_value", (expr,), col.type) for col, expr in moved)
    reduced = replace(node, cols=columns, groups=tuple(expr for _, expr in kept), aggs=node.aggs + values)
    return Project(reduced, node.cols, tuple(col.ref() for col in node.cols))


def _scans(node: Node) -> Iterator[Scan]:
    """The scans whose columns come up with their rows as they are, or as all NULL beside an outer row."""
    match node:
        case Scan():
            yield node
        case Join():
            yield from _scans(node.left)
            yield from _scans(node.right)
        case Filter() | Sort():
            yield from _scans(node.child)
        case _:
            return


def _key_columns(scan: Scan) -> set[int]:
    """The ids of the primary key's columns; empty when there is none, or a part is compared by a prefix."""
    table = scan.table
    ids = {offset: c.id for c, offset in zip(scan.cols, scan.offsets, strict=True)}
    if table.handle_offset >= 0:
        offsets = [table.handle_offset]
    elif all(part.prefix < 0 for part in table.common_handle):
        offsets = [part.offset for part in table.common_handle]
    else:
        return set()
    return {ids[o] for o in offsets} if all(o in ids for o in offsets) else set()
