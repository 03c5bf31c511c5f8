"""Whether an access path already gives its rows in the order that a Sort wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coprocessor.expr import Column, Expr, transform
from sqlfront.plan.nodes import Aggregate, Distinct, Limit, Node, Project, Scan, Sort


def path_direction(sort: Sort, below: Sequence[Node], scan: Scan) -> str | None:
    """ "forward" or "reverse" when the scan's path gives the rows in the order of `sort`, else None.

    `below` are the nodes between the two, in any order.
    """
    access = scan.access
    assert access is not None
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
    wanted: list[int] = []
    for key in sort.keys:
        expr = key.expr
        while isinstance(expr, Column) and expr.id in names:
            expr = names[expr.id]
        place = offsets.get(expr.id) if isinstance(expr, Column) else virtual.get(_spelled_out(expr, names))
        if place is None:
            return None
        wanted.append(place)
    directions = {k.desc for k in sort.keys}
    if len(directions) != 1 or not access.order:
        return None
    pinned = set(access.order[: access.pinned])
    wanted = [o for o in wanted if o not in pinned]
    free = [o for o in access.order if o not in pinned]
    # Once a whole unique key is named, later keys decide nothing.
    if wanted != free[: len(wanted)]:
        return None
    return "reverse" if directions == {True} else "forward"


def _spelled_out(expr: Expr, names: Mapping[int, Expr]) -> Expr:
    """An expression over the columns of the scan, without the names that projections give."""

    def inner(part: Expr) -> Expr:
        named = names.get(part.id) if isinstance(part, Column) else None
        return part if named is None else _spelled_out(named, names)

    return transform(expr, inner)
