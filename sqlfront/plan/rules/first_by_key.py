"""MAX and MIN of a whole table are its last and first row in the order of a key.

The direct executor reads that one row from the end of the table, or of the index, instead of all rows. DuckDB, which
computes subqueries, is given all rows and takes the one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from coprocessor.expr import Agg, Column, Const, OrderKey
from coprocessor.types import BIGINT, FieldType, Tp
from sqlfront.plan.access import ordered_offsets, scan_order
from sqlfront.plan.nodes import Aggregate, Limit, Node, Project, Scan, Sort, with_children


def first_by_key(node: Node) -> Node:
    """Returns the tree in which such aggregates are given the one row they need."""
    node = with_children(node, first_by_key)
    if not isinstance(node, Aggregate) or node.groups or len(node.aggs) != 1:
        return node
    agg = node.aggs[0]
    if not _reads_end(agg, node.child):
        return node
    ordered = Sort(node.child, (OrderKey(agg.args[0], agg.func == "max"),))
    return replace(node, child=Limit(ordered, Const(1, BIGINT), None))


def _reads_end(agg: Agg, node: Node) -> bool:
    if agg.func not in ("min", "max"):
        return False
    column = agg.args[0]
    while isinstance(node, Project) and isinstance(column, Column):
        column = dict(zip((c.id for c in node.cols), node.exprs, strict=True)).get(column.id, column)
        node = node.child
    if not isinstance(node, Scan) or not isinstance(column, Column):
        return False
    if node.where or node.engine == "tiflash" or node.use_index:
        return False
    found = next((pair for pair in zip(node.cols, node.offsets, strict=True) if pair[0].id == column.id), None)
    if found is None or not _sorted_alike(found[0].type) or (agg.func == "min" and found[0].nullable):
        return False  # NULLs come first
    return found[1] in _leading(node)


def _leading(scan: Scan) -> Iterator[int]:
    """The columns by which one of the table's paths is ordered first."""
    yield from scan_order(scan.table)[:1]
    for index in scan.table.indexes:
        if index.name.casefold() not in scan.ignore_index:
            yield from ordered_offsets(scan.table, [(c.offset, c.prefix) for c in index.columns])[:1]


def _sorted_alike(type_: FieldType) -> bool:
    """Whether the aggregate and the key agree on the order: ENUM's keys are numbers, its MAX is a string's."""
    return type_.tp not in (Tp.ENUM, Tp.SET, Tp.JSON, Tp.BIT)
