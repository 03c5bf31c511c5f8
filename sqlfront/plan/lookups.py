"""Lookup joins: a large table that a join ties to a few rows of another is read by key, for those rows alone.

An equality between a column of a small relation (the driver) and the leading key column of a table that would be
scanned whole lets the executor read the driver first and then fetch only the matching keys. The residual stays as it
is: the rows that are left out would have found no partner. That holds for both sides of an inner join, and for the
optional side of a left join.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from coprocessor.expr import Call, Column, Const, Expr
from coprocessor.types import FieldType, Tp
from sqlfront.catalog.model import Index
from sqlfront.plan.access import LOOKUP_COST, SCAN_ROW_COST, Access, Estimator
from sqlfront.plan.nodes import Filter, Join, Node, Scan, node_children

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
    for left, right in _edges(root):
        for target, driver in ((right, left), (left, right)):
            lookup = _lookup(target, driver, estimator)
            if lookup is None or id(target[0]) in out or id(target[0]) in drivers or id(driver[0]) in out:
                continue
            out[id(target[0])] = lookup
            drivers.add(id(driver[0]))
            break
    return tuple(out.values())


_End = tuple[Scan, Column, bool]


def _edges(node: Node) -> Iterator[tuple[_End, _End]]:
    """Yields the column equalities of the joins, each end with its scan and whether that scan may be narrowed by it."""
    if isinstance(node, Filter):
        yield from _edges(node.child)
        return
    if not isinstance(node, Join):
        for child in node_children(node):
            yield from _edges(child)
        return
    left, right = dict(_columns(node.left)), dict(_columns(node.right))
    inner = node.kind == "inner"
    for cond in node.on:
        if not isinstance(cond, Call) or cond.func != "eq":
            continue
        a, b = cond.args
        if not isinstance(a, Column) or not isinstance(b, Column):
            continue
        if a.id in right and b.id in left:
            a, b = b, a
        if a.id in left and b.id in right:
            yield (left[a.id], a, inner), (right[b.id], b, True)
    yield from _edges(node.left)
    yield from _edges(node.right)


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
    """Whether equal values of the two types have one Python form, so that one side's can be looked up in the other."""
    if a.is_integer and b.is_integer:
        return a.tp != Tp.BIT and b.tp != Tp.BIT
    if a.is_text and b.is_text:
        return a.collate == b.collate and a.collate.endswith("_bin")
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
