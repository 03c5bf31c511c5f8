"""Lookup joins: a large table that a join ties to a few rows of another is read by key, for those rows alone.

An equality between a column of a small relation (the driver) and the leading key column of a table that would be
scanned whole lets the executor read the driver first and then fetch only the matching keys. The residual stays as it
is: the rows that are left out would have found no partner. That holds for both sides of an inner join, for the
optional side of a left join, for both sides of IN and EXISTS, and for the rows of a subquery that must equal a column
of the rows around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from coprocessor.expr import Call, Column, Const, Expr, Subquery, walk
from coprocessor.types import FieldType, Tp
from sqlfront.catalog.model import Index
from sqlfront.plan.access import LOOKUP_COST, SCAN_ROW_COST, Access, Estimator
from sqlfront.plan.nodes import Filter, Join, Node, Project, Scan, node_children, node_exprs, plan_of
from sqlfront.plan.rules.push_filters import substitute

DRIVER_ROWS_MAX = 500.0  # estimated rows of a driver
LOOKUP_KEYS_MAX = 1000  # distinct keys that are looked up; more make the table be scanned after all


@dataclass(frozen=True, slots=True)
class Lookup:
    """`target` is read by the values of `driver`'s column `column`; `index` None is the clustered key."""

    target: Scan
    driver: Scan
    column: int
    index: Index | None
    unique: bool

    def access(self, values: Sequence[object]) -> Access:
        """The access path for the driver's distinct values."""
        offset = _leading(self.target, self.index)
        type_ = self.target.table.columns[offset].type
        consts: tuple[Expr | None, ...] = tuple(Const(v, type_) for v in values)
        return Access(
            "primary" if self.index is None else "index",
            self.index,
            (consts,),
            point=self.unique,
            rows=float(len(values)),
            table_rows=self.target.access.table_rows if self.target.access is not None else 0.0,
            key_types=(type_,),
        )


def find_lookups(root: Node, estimator: Estimator) -> tuple[Lookup, ...]:
    """Returns the lookups of a plan; a scan is the target of one at most, and no driver is a target itself."""
    out: dict[int, Lookup] = {}
    drivers: set[int] = set()
    for left, right in _edges(root, {}):
        for target, driver in ((right, left), (left, right)):
            lookup = _lookup(target, driver, estimator)
            if lookup is None or id(target[0]) in out or id(target[0]) in drivers or id(driver[0]) in out:
                continue
            out[id(target[0])] = lookup
            drivers.add(id(driver[0]))
            break
    return tuple(out.values())


_End = tuple[Scan, Column, bool]


def _edges(node: Node, outer: Mapping[int, Scan]) -> Iterator[tuple[_End, _End]]:
    """Yields the column equalities of joins and subqueries, each end with its scan and whether that may be narrowed.

    `outer` are the columns of the queries around this one.
    """
    if isinstance(node, Join):
        yield from _join_edges(node)
    for child in node_children(node):
        yield from _edges(child, outer)
    if isinstance(node, Filter):
        here = dict(_columns(node.child))
        for cond in node.conds:
            yield from _outer_edges(cond, here, outer)
            yield from _semi_join_edges(cond, here)
    subqueries = [part for expr in node_exprs(node) for part in walk(expr) if isinstance(part, Subquery)]
    if subqueries:
        around = dict(outer)
        for child in node_children(node):
            around |= _columns(child)
        for subquery in subqueries:
            yield from _edges(plan_of(subquery), around)


def _join_edges(node: Join) -> Iterator[tuple[_End, _End]]:
    left, right = dict(_columns(node.left)), dict(_columns(node.right))
    inner = node.kind == "inner"
    for cond in node.on:
        pair = _equal_columns(cond)
        if pair is None:
            continue
        a, b = pair
        if a.id in right and b.id in left:
            a, b = b, a
        if a.id in left and b.id in right:
            yield (left[a.id], a, inner), (right[b.id], b, True)


def _outer_edges(cond: Expr, here: Mapping[int, Scan], outer: Mapping[int, Scan]) -> Iterator[tuple[_End, _End]]:
    """A subquery's own rows count only where they equal a column of some outer row."""
    for a, b in _both_ways(cond):
        if a.id in here and b.id in outer:
            yield (outer[b.id], b, False), (here[a.id], a, True)


def _semi_join_edges(cond: Expr, here: Mapping[int, Scan]) -> Iterator[tuple[_End, _End]]:
    """Of IN and EXISTS as conditions either side is narrowed by the other, if the subquery only selects its rows."""
    if not isinstance(cond, Subquery) or cond.kind not in ("in", "exists") or cond.negated:
        return
    plan = plan_of(cond)
    given: Sequence[Expr] = [c.ref() for c in plan.cols]
    while isinstance(plan, Project):
        given = [substitute(e, dict(zip((c.id for c in plan.cols), plan.exprs, strict=True))) for e in given]
        plan = plan.child
    if isinstance(plan, Filter) and cond.kind == "exists":
        pairs = [pair for c in plan.conds for pair in _both_ways(c)]
    else:
        plain = ((_column(a), _column(g)) for a, g in zip(cond.args, given, strict=False))
        pairs = [(b, a) for a, b in plain if a is not None and b is not None]
    inside = dict(_columns(plan))
    for a, b in pairs:
        if a.id in inside and b.id in here:
            yield (here[b.id], b, True), (inside[a.id], a, True)


def _equal_columns(cond: Expr) -> tuple[Column, Column] | None:
    if not isinstance(cond, Call) or cond.func != "eq":
        return None
    a, b = map(_column, cond.args)
    return None if a is None or b is None else (a, b)


def _both_ways(cond: Expr) -> list[tuple[Column, Column]]:
    pair = _equal_columns(cond)
    return [] if pair is None else [pair, pair[::-1]]


def _column(expr: Expr) -> Column | None:
    """The column, also where an integer is only widened."""
    if isinstance(expr, Call) and expr.func == "cast" and isinstance(expr.args[0], Column):
        narrow = expr.args[0]
        same = narrow.type.is_integer and expr.type.is_integer and narrow.type.unsigned == expr.type.unsigned
        return narrow if same else None
    return expr if isinstance(expr, Column) else None


def _columns(node: Node) -> Iterator[tuple[int, Scan]]:
    """Yields the columns that reach a join from scans whose rows all take part in it."""
    match node:
        case Scan():
            for col in node.cols:
                yield col.id, node
        case Filter():
            yield from _columns(node.child)
        case Join():
            yield from _columns(node.left)
            if node.kind == "inner":
                yield from _columns(node.right)


def _lookup(target: _End, driver: _End, estimator: Estimator) -> Lookup | None:
    scan, column, narrowable = target
    source, source_column, _ = driver
    if not _same_values(column.type, source_column.type):
        return None
    if not narrowable or scan.access is None or source.access is None or scan.access.kind != "scan":
        return None
    if source.access.kind == "scan" and source.access.table_rows > DRIVER_ROWS_MAX and source.pushed is None:
        return None  # of a pushed scan only what it selects comes here
    if source.access.rows > DRIVER_ROWS_MAX or scan.use_index or scan.ignore_index:
        return None
    offset = dict(zip((c.id for c in scan.cols), scan.offsets, strict=True))[column.id]
    total = scan.access.table_rows
    for index, unique in _keys(scan, offset):
        each = 1.0 if unique else max(1.0, total * estimator.equal(scan.table, offset, None, False))
        if source.access.rows * each * LOOKUP_COST < total * SCAN_ROW_COST:
            return Lookup(scan, source, source_column.id, index, unique)
    return None


def _same_values(a: FieldType, b: FieldType) -> bool:
    """Whether equal values of the two types have one key, so that one side's can be looked up in the other."""
    if a.is_integer and b.is_integer:
        return a.tp != Tp.BIT and b.tp != Tp.BIT
    if a.is_text and b.is_text:
        return a.collate == b.collate
    return a.tp == b.tp and a.tp in (Tp.DATE, Tp.DATETIME)


def _keys(scan: Scan, offset: int) -> Iterator[tuple[Index | None, bool]]:
    """Yields the keys that a column leads: the clustered one first, then indexes."""
    table = scan.table
    if table.handle_offset >= 0:
        if table.handle_offset == offset:
            yield None, True
    elif table.common_handle and table.common_handle[0].offset == offset and table.common_handle[0].prefix < 0:
        yield None, len(table.common_handle) == 1
    for index in table.indexes:
        if index.columns[0].offset == offset and index.columns[0].prefix < 0:
            yield index, index.unique and len(index.columns) == 1


def _leading(scan: Scan, index: Index | None) -> int:
    if index is not None:
        return index.columns[0].offset
    return scan.table.handle_offset if scan.table.handle_offset >= 0 else scan.table.common_handle[0].offset


def narrowed(lookup: Lookup, values: Sequence[object]) -> Scan:
    """The target with the access path for these values."""
    return replace(lookup.target, access=lookup.access(values))
