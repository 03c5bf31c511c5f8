"""Moves each conjunct as far down as its columns allow, into scans where an access path can use it.

What a condition says of one column of a join holds for the columns that are equal to it: `a.id = b.id AND a.id = 5`
reads both tables by key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from coprocessor.expr import Call, Column, Const, Context, Expr, Subquery, columns, transform, walk
from coprocessor.functions import lookup
from coprocessor.types import FieldType, Tp
from sqlfront.plan.nodes import (
    Aggregate,
    Distinct,
    Filter,
    Join,
    Node,
    Project,
    Scan,
    SetOp,
    Sort,
    Values,
    With,
    map_ctes,
    with_children,
)


def push_filters(node: Node) -> Node:
    """Returns the tree with its conditions pushed down."""
    return _push(node, ())


def _push(node: Node, conds: tuple[Expr, ...]) -> Node:
    match node:
        case Filter():
            return _push(node.child, node.conds + conds)
        case Scan():
            return _scan(node, conds)
        case Join():
            return _join(node, conds)
        case Project():
            return _project(node, conds)
        case Sort() | Distinct():
            return replace(node, child=_push(node.child, conds))
        case With():
            return replace(node, ctes=map_ctes(node, push_filters), child=_push(node.child, conds))
        case SetOp():
            return _set_operation(node, conds)
        case Aggregate() if node.groups and not node.rollup:
            return _aggregate(node, conds)
        case _:
            return _stay(with_children(node, push_filters), conds)


def _stay(node: Node, conds: tuple[Expr, ...]) -> Node:
    return Filter(node, conds) if conds else node


def _scan(node: Scan, conds: tuple[Expr, ...]) -> Node:
    own = {c.id for c in node.cols}
    if any(isinstance(c, Const) and not c.value for c in conds):
        return Values(node.cols, ())
    here = tuple(c for c in conds if columns(c) <= own and not _has_subquery(c))
    rest = tuple(c for c in conds if c not in here)
    return _stay(replace(node, where=node.where + here), rest)


def _join(node: Join, conds: tuple[Expr, ...]) -> Node:
    left_ids = {c.id for c in node.left.cols}
    right_ids = {c.id for c in node.right.cols}
    if node.kind == "inner":
        known = node.on + conds
        left, right, both = _split((*known, *_implied(known)), left_ids, right_ids)
        # What holds a subquery or outer columns stays in a filter above, where DuckDB can unnest it.
        on = tuple(c for c in both if columns(c) <= left_ids | right_ids and not _has_subquery(c))
        rest = tuple(c for c in both if c not in on)
        return _stay(replace(node, left=_push(node.left, left), right=_push(node.right, right), on=on), rest)
    left, _, above = _split(conds, left_ids, set())
    _, right, on = _split(node.on, set(), right_ids)
    right += tuple(c for c in _implied(node.on + left) if columns(c) <= right_ids)
    return _stay(replace(node, left=_push(node.left, left), right=_push(node.right, right), on=on), above)


_COMPARISONS = ("eq", "lt", "le", "gt", "ge", "in", "between")


def _implied(conds: Sequence[Expr]) -> Iterator[Expr]:
    """Yields what comparisons of a column with constants say of the columns that other conditions make equal to it."""
    equal: dict[Column, set[Column]] = {}
    for cond in conds:
        match cond:
            case Call("eq", (Column() as a, Column() as b)) if _alike(a.type, b.type):
                together = equal.get(a, {a}) | equal.get(b, {b})
                equal.update(dict.fromkeys(together, together))
    known = set(conds)
    for cond in conds if equal else ():
        column = _compared(cond)
        if column is None:
            continue
        for other in equal.get(column, ()):
            implied = substitute(cond, {column.id: other})
            if implied not in known:
                known.add(implied)
                yield implied


def _compared(cond: Expr) -> Column | None:
    """The column that a condition compares with what no row changes, in the column's own terms."""
    if not isinstance(cond, Call) or cond.func not in _COMPARISONS:
        return None
    found = [arg for arg in cond.args if isinstance(arg, Column)]
    others = [arg for arg in cond.args if not isinstance(arg, Column)]
    if len(found) != 1 or any(columns(o) or not movable(o) for o in others):
        return None
    (column,) = found
    return column if not column.type.is_text or all(_alike(column.type, o.type) for o in others) else None


def _alike(a: FieldType, b: FieldType) -> bool:
    """Whether values of the two types are compared with each other just as with a third."""
    if a.is_integer and b.is_integer:
        return a.unsigned == b.unsigned
    if a.is_text and b.is_text:
        return a.collate == b.collate
    return a == b


def _split(
    conds: Sequence[Expr], left_ids: set[int], right_ids: set[int]
) -> tuple[tuple[Expr, ...], tuple[Expr, ...], tuple[Expr, ...]]:
    left, right, both = [], [], []
    for cond in conds:
        used = columns(cond)
        if used and used <= left_ids and not _has_subquery(cond):
            left.append(cond)
        elif used and used <= right_ids and not _has_subquery(cond):
            right.append(cond)
        else:
            both.append(cond)
    return tuple(left), tuple(right), tuple(both)


def _project(node: Project, conds: tuple[Expr, ...]) -> Node:
    sources = {c.id: e for c, e in zip(node.cols, node.exprs, strict=True)}
    down: list[Expr] = []
    stay: list[Expr] = []
    for cond in conds:
        used = columns(cond) & sources.keys()
        if not _has_subquery(cond) and all(movable(sources[i]) for i in used):
            down.append(substitute(cond, sources))
        else:
            stay.append(cond)
    return _stay(replace(node, child=_push(node.child, tuple(down))), tuple(stay))


def _set_operation(node: SetOp, conds: tuple[Expr, ...]) -> Node:
    """Into both sides: a row is in the result or not by its values alone, wherever it comes from.

    What EXCEPT and INTERSECT find on the right need only be equal: a condition that tells equal values apart stays out.
    """
    sides = (node.left, node.right)
    sources = [{out.id: c.ref() for out, c in zip(node.cols, side.cols, strict=True)} for side in sides]
    same = {
        out.id
        for i, out in enumerate(node.cols)
        if not out.type.is_text or all(_alike(out.type, side.cols[i].type) for side in sides)
    }
    own = {c.id for c in node.cols}
    down = tuple(c for c in conds if columns(c) & own <= same and movable(c) and not _has_subquery(c))
    plain = {c.id for c in node.cols if not (c.type.is_text or c.type.tp == Tp.JSON)}
    found = tuple(c for c in down if node.kind == "union" or columns(c) & own <= plain or _compared(c) is not None)
    left, right = (
        _push(side, tuple(substitute(c, source) for c in conds))
        for side, source, conds in zip(sides, sources, (down, found), strict=True)
    )
    return _stay(replace(node, left=left, right=right), tuple(c for c in conds if c not in down))


def _aggregate(node: Aggregate, conds: tuple[Expr, ...]) -> Node:
    plain = {e.id for e in node.groups if isinstance(e, Column)}
    down = tuple(c for c in conds if columns(c) and columns(c) <= plain and not _has_subquery(c))
    rest = tuple(c for c in conds if c not in down)
    return _stay(replace(node, child=_push(node.child, down)), rest)


def movable(expr: Expr) -> bool:
    """Whether evaluating the expression below instead of above changes nothing."""
    return not any(isinstance(part, Subquery) or varies(part) for part in walk(expr))


def varies(part: Expr) -> bool:
    """Whether a call may give another value each time."""
    entry = lookup(part.func) if isinstance(part, Call) else None
    return entry is not None and not entry.deterministic


def _has_subquery(expr: Expr) -> bool:
    return any(isinstance(p, Subquery) or (isinstance(p, Context) and p.key[0] == "rand") for p in walk(expr))


def substitute(expr: Expr, sources: Mapping[int, Expr]) -> Expr:
    """Replaces columns by the expressions that make them."""
    return transform(expr, lambda e: sources.get(e.id, e) if isinstance(e, Column) else e)
