"""Orders of rows: what a Sort wants of the scan below it, and which access paths give that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from coprocessor.expr import Column, Expr, transform
from sqlfront.catalog.model import Table
from sqlfront.plan.access import Access
from sqlfront.plan.nodes import Aggregate, Distinct, Limit, Node, Project, Scan, Sort

Keys = tuple[tuple[int, bool], ...]
"""Columns of a table by offset, and whether they descend."""


def wanted_keys(sort: Sort, below: Sequence[Node], scan: Scan) -> Keys | None:
    """The order that a Sort wants, in columns of the scan's table; None where an expression is wanted.

    `below` are the nodes between the two, in any order.
    """
    offsets = {c.id: o for c, o in zip(scan.cols, scan.offsets, strict=True)}
    virtual = {expr: offset for offset, expr in scan.virtual}
    names: dict[int, Expr] = {}
    for node in below:
        if isinstance(node, Project):
            named = zip(node.cols, node.exprs, strict=True)
            # the projection over a table with virtual columns passes the others on as they are
            names.update({c.id: e for c, e in named if not (isinstance(e, Column) and e.id == c.id)})
        elif isinstance(node, (Aggregate, Distinct, Sort, Limit)):
            return None
    wanted: list[tuple[int, bool]] = []
    for key in sort.keys:
        expr = key.expr
        while isinstance(expr, Column) and expr.id in names:
            expr = names[expr.id]
        place = offsets.get(expr.id) if isinstance(expr, Column) else virtual.get(_spelled_out(expr, names))
        if place is None:
            return None
        wanted.append((place, key.desc))
    return tuple(wanted)


def direction(access: Access, table: Table, keys: Keys) -> str | None:
    """ "forward" or "reverse" when a path gives rows in an order, else None."""
    told = {*access.fixed, *access.order[: access.pinned]}
    free = iter([o for o in access.order if o not in told])
    ways: set[bool] = set()
    for offset, desc in keys:
        if offset in told:
            continue
        if any(key <= told for key in _unique_keys(table)):
            break  # there are no two rows for later columns to decide on
        if next(free, None) != offset:
            return None
        told.add(offset)
        ways.add(desc)
    if len(ways) > 1:
        return None
    return "reverse" if ways == {True} else "forward"


def path_direction(sort: Sort, below: Sequence[Node], scan: Scan) -> str | None:
    """ "forward" or "reverse" when the scan's path gives the rows in the order of `sort`, else None."""
    assert scan.access is not None
    keys = wanted_keys(sort, below, scan)
    return None if keys is None else direction(scan.access, scan.table, keys)


def _unique_keys(table: Table) -> Iterator[frozenset[int]]:
    """The columns of each key that tells every row from all others."""
    if table.handle_offset >= 0:
        yield frozenset((table.handle_offset,))
    elif table.common_handle and all(part.prefix < 0 for part in table.common_handle):
        yield frozenset(part.offset for part in table.common_handle)
    for index in table.indexes:
        if index.unique and all(c.prefix < 0 and table.columns[c.offset].not_null for c in index.columns):
            yield frozenset(c.offset for c in index.columns)


def _spelled_out(expr: Expr, names: Mapping[int, Expr]) -> Expr:
    """An expression over the columns of the scan, without the names that projections give."""

    def inner(part: Expr) -> Expr:
        named = names.get(part.id) if isinstance(part, Column) else None
        return part if named is None else _spelled_out(named, names)

    return transform(expr, inner)
