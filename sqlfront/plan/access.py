"""The choice of one access path for every scan: which keys are read, from which index, and how many they may be.

Conditions over one column that compare it with something computed before the scan (`Sarg`s) are matched against the
leading columns of the primary key and of each index: equalities and IN lists as far as they go, then one range.
Candidates are costed from statistics; a scan of the whole table is always one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from math import prod
from typing import Protocol

from coprocessor.codec.collation import sort_key
from coprocessor.expr import Call, Column, Const, Context, Expr, Param, transform, walk
from coprocessor.functions import lookup
from coprocessor.functions.collation import is_ci, sorts_by_alike
from coprocessor.functions.inference import collate_type
from coprocessor.types import STRING_TPS, FieldType, Tp
from coprocessor.weights import weights_of
from sqlfront.catalog.model import Index, Table
from sqlfront.plan.nodes import HANDLE_OFFSET, Scan

# Costs are in units of one row stepped over in a key range.
LOOKUP_COST = 4.0  # an index entry, then a get of its row
ROW_COST = 1.0
SCAN_ROW_COST = 0.3  # a whole table is decoded in batches
SORT_ROW_COST = 0.1
LONG_ROW_COST = 15.0  # a value over 255 bytes stands apart from its record and is fetched by itself
LONG_ROW_COLUMNS = 63  # of a byte, an identifier and an offset each, that make such a value
COLUMNAR_START_COST = 3000.0  # DuckDB takes a few milliseconds to begin
COLUMNAR_ROW_COST = 0.005
IN_COMBINATIONS_MAX = 10_000  # key ranges that IN lists over several columns may multiply to

PSEUDO_ROWS = 10_000.0
PSEUDO_EQUAL = 0.001
PSEUDO_RANGE = 1 / 3
PSEUDO_BETWEEN = 1 / 40
UNKNOWN_SHARE = 0.8  # of the rows that a condition leaves of which nothing is known


@dataclass(frozen=True, slots=True)
class Costs:
    """What beginning an access costs, by where the data is: of gets by key, of a range, of a whole table, and of the
    second step of a lookup. `by_requests`: a columnar replica is read by requests over ranges of records, as rows are,
    and not beside the path to them."""

    point: float
    path: float
    scan: float
    lookup: float
    by_requests: bool


LOCAL = Costs(point=3.0, path=3.0, scan=40.0, lookup=0.0, by_requests=False)
REMOTE = Costs(point=60.0, path=100.0, scan=140.0, lookup=100.0, by_requests=True)
"""A round trip takes about as long as stepping over a hundred rows does."""


def costs_of(scan: Scan, costs: Costs) -> Costs:
    """What a scan's paths cost: a temporary table lies in the session, wherever others do."""
    return LOCAL if scan.table.temporary else costs


class Estimator(Protocol):
    """Answers from statistics; a fraction is of the table's rows."""

    def rows(self, table: Table) -> float: ...

    def equal(self, table: Table, offset: int, value: object, known: bool) -> float:
        """The fraction with column = value; `known` False when the value is not known before execution."""

    def between(self, table: Table, offset: int, low: object, high: object, known: bool) -> float: ...

    def null(self, table: Table, offset: int) -> float: ...


@dataclass(frozen=True, slots=True)
class Bound:
    expr: Expr
    open: bool


@dataclass(frozen=True, slots=True)
class Sarg:
    """A condition on one column: `kind` is eq (any of `values`), null, or range, without bounds for IS NOT NULL."""

    offset: int
    kind: str
    cond: Expr
    values: tuple[Expr, ...] = ()
    low: Bound | None = None
    high: Bound | None = None
    exact: bool = True
    by_itself: bool = False
    """Whether the column is compared as it is, not as a cast makes it."""

    @property
    def is_not_null(self) -> bool:
        return self.kind == "range" and self.low is None and self.high is None


@dataclass(frozen=True, slots=True)
class RowSarg:
    """A condition that columns have the values of one of some rows: (a, b) IN ((1, 2), ...), or an OR that says or
    implies it. `rows` have the same columns, by offset; `exact` unless the condition says more."""

    cond: Expr
    rows: tuple[Mapping[int, Expr], ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class Access:
    """How a scan reads its table.

    `kind`: "scan" (every row), "primary" (ranges of the clustered key), "index", "merge" (the rows that any of `parts`
    finds, by their keys). `prefix[i]` are the alternatives for
    key column i, None among them standing for IS NULL; all combinations of them are meant, or, where they go
    `together`, the first of each, the second of each, and so on. `low` and `high` bound the next column, `not_null`
    leaves its NULLs out. `point`: the key is whole and unique, so every alternative is one get. `used` are the
    conjuncts the path enforces exactly; `order` the column offsets by which rows come ordered, of which the first
    `pinned` have one value, as have the columns `fixed` in all rows that pass. `rows` is the estimate of what the path
    reads (of a scan: what passes). `columnar`: the replica is to be read instead, when it is there.
    """

    kind: str
    index: Index | None = None
    prefix: tuple[tuple[Expr | None, ...], ...] = ()
    together: bool = False
    low: Bound | None = None
    high: Bound | None = None
    not_null: bool = False
    point: bool = False
    cover: bool = False
    rows: float = 0.0
    table_rows: float = 0.0
    cost: float = 0.0
    used: tuple[Expr, ...] = ()
    order: tuple[int, ...] = ()
    key_types: tuple[FieldType, ...] = ()
    pinned: int = 0
    fixed: frozenset[int] = frozenset()
    columnar: bool = False
    parts: tuple[Access, ...] = ()

    @property
    def name(self) -> str:
        """What EXPLAIN calls it."""
        if self.kind == "scan":
            return "TableFullScan"
        if self.kind == "merge":
            return "IndexMerge"
        if self.point:
            many = any(len(p) > 1 for p in self.prefix)
            return "Batch_Point_Get" if many else "Point_Get"
        if self.kind == "primary":
            return "TableRangeScan" if self.is_bounded else "TableFullScan"
        return "IndexScan" if self.cover else "IndexLookUp"

    @property
    def is_bounded(self) -> bool:
        """Whether conditions leave less than the whole key to it."""
        return bool(self.prefix or self.low or self.high or self.not_null)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the conditions of a scan say of its table's columns, and the rows that are expected of the table, and of
    those the ones that satisfy them all."""

    sargs: tuple[Sarg, ...]
    rows: tuple[RowSarg, ...]
    total: float
    passing: float

    @property
    def fixed(self) -> frozenset[int]:
        """The columns that have one value in all rows that pass."""
        return frozenset(s.offset for s in self.sargs if len(s.values) <= 1 and s.kind != "range" and s.by_itself)


def conditions_of(scan: Scan, estimator: Estimator) -> Conditions:
    """Reads the conditions of a scan."""
    table = scan.table
    offsets = {c.id: o for c, o in zip(scan.cols, scan.offsets, strict=True)}
    sargs: list[Sarg] = []
    rows: list[RowSarg] = []
    for cond in scan.where:
        if (one := sarg(cond, offsets, table)) is not None:
            sargs.append(one)
        elif (several := row_sarg(cond, offsets, table)) is not None:
            rows.append(several)
        else:
            one = implied_range(cond, offsets, table) or (_virtual_sarg(cond, scan) if scan.virtual else None)
            sargs += () if one is None else (one,)
    total = max(1.0, estimator.rows(table))
    read = {id(s.cond) for s in sargs}
    others = [_other_selectivity(c, offsets, table, estimator) for c in scan.where if id(c) not in read]
    selectivity = _all_selectivity(table, sargs, estimator) * prod(others)
    passing = max(1.0, total * selectivity) if scan.where else total
    return Conditions(tuple(sargs), tuple(rows), total, passing)


def choose_access(
    scan: Scan, estimator: Estimator, costs: Costs = LOCAL, is_sorted: Callable[[Access], bool] | None = None
) -> Access:
    """Returns the cheapest access path for the scan's conditions; `is_sorted` tells of which the rows need no sort."""
    found = conditions_of(scan, estimator)
    total = found.total
    best = whole_table(scan, found, costs)
    if scan.use_index:
        best = replace(best, cost=float("inf"))
    candidates = paths(scan, found, estimator, costs)
    records = best

    def cost(path: Access) -> float:
        return path.cost if is_sorted is None or is_sorted(path) else path.cost + found.passing * SORT_ROW_COST

    for candidate in candidates:
        if cost(candidate) < cost(best):
            best = candidate
    if not _prefers_replica(scan, best, total):
        return best
    if costs.by_requests:
        ranges = [c for c in candidates if c.kind == "primary" and not c.point]
        best = replace(min([*ranges, records], key=lambda c: c.rows), order=())
    return replace(best, columnar=True)


def whole_table(scan: Scan, found: Conditions, costs: Costs) -> Access:
    """The path to every row."""
    return Access(
        "scan",
        rows=found.passing,
        table_rows=found.total,
        cost=costs.scan + found.total * SCAN_ROW_COST,
        order=scan_order(scan.table),
        fixed=found.fixed,
    )


def cost_of_all(access: Access) -> float:
    """What it costs to read all rows of a scan by the path that was chosen for it."""
    if access.columnar:
        return min(access.cost, COLUMNAR_START_COST + access.table_rows * COLUMNAR_ROW_COST)
    return access.cost


def _prefers_replica(scan: Scan, best: Access, total: float) -> bool:
    """Whether a scan of the columnar replica costs less than the best path to the rows."""
    if scan.engine or scan.use_index or not scan.table.columnar:
        return scan.engine == "tiflash"
    fetched = 0.0 if best.cover or not _are_rows_long(scan.table) else best.rows * LONG_ROW_COST
    return best.cost + fetched > COLUMNAR_START_COST + total * COLUMNAR_ROW_COST


def _are_rows_long(table: Table) -> bool:
    """Whether the columns that no row is without make every row a long value."""
    return sum(column.not_null for column in table.columns) > LONG_ROW_COLUMNS


def scan_order(table: Table) -> tuple[int, ...]:
    """The columns in whose order a scan of the whole table gives its rows."""
    if table.handle_offset >= 0:
        # Unsigned handles above 2**63 lie before the smaller ones.
        return () if table.columns[table.handle_offset].type.unsigned else (table.handle_offset,)
    return ordered_offsets(table, [(c.offset, c.prefix) for c in table.common_handle])


def ordered_offsets(table: Table, parts: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The leading key columns whose key order is the order of their values."""
    out: list[int] = []
    for offset, prefix in parts:
        if prefix >= 0 or table.columns[offset].type.tp in (Tp.JSON, Tp.SET):
            break
        out.append(offset)
    return tuple(out)


def paths(
    scan: Scan, found: Conditions, estimator: Estimator, costs: Costs, *, whole_indexes: bool = False
) -> list[Access]:
    """The paths by a key that conditions fit, and those that hints name; `whole_indexes` adds all other indexes."""
    table = scan.table
    out: list[Access] = []
    if not scan.use_index or "primary" in scan.use_index:
        primary = (
            [(table.handle_offset, -1)]
            if table.handle_offset >= 0
            else [(c.offset, c.prefix) for c in table.common_handle]
        )
        if primary and "primary" not in scan.ignore_index:
            match = _best_match(table, primary, found, True, estimator)
            if match is not None:
                order = scan_order(table) if match.order else ()
                out.append(_costed(replace(match, kind="primary", order=order, fixed=found.fixed), match.rows, costs))
    for index in table.indexes:
        name = index.name.casefold()
        if (scan.use_index and name not in scan.use_index) or name in scan.ignore_index:
            continue
        parts = [(c.offset, c.prefix) for c in index.columns]
        match = _best_match(table, parts, found, index.unique, estimator)
        if match is None:
            if not scan.use_index and not whole_indexes:
                continue
            match = Access("index", rows=found.total, table_rows=found.total, order=(index.columns[0].offset,))
        order = index_order(table, index) if match.order else ()
        cover = not match.point and _covers(scan, index)
        match = replace(match, kind="index", index=index, cover=cover, order=order, fixed=found.fixed)
        out.append(_costed(match, match.rows, costs))
    return out


def index_order(table: Table, index: Index) -> tuple[int, ...]:
    """The columns in whose order an index gives its rows: its own, and then those of the handle, which entries of one
    value lie by; those of a unique index have NULLs among their values."""
    parts = [(c.offset, c.prefix) for c in index.columns]
    own = ordered_offsets(table, parts)
    return tuple(dict.fromkeys(own + scan_order(table))) if len(own) == len(parts) else own


def _covers(scan: Scan, index: Index) -> bool:
    """Whether an index's entries hold all that the scan reads."""
    codec = scan.table.codec
    held = codec.index_covers(index.schema) | ({HANDLE_OFFSET} if codec.is_hidden_handle else set())
    return held.issuperset(scan.offsets)


def _costed(access: Access, rows: float, costs: Costs) -> Access:
    """The path with what it costs to read so many rows by it."""
    return replace(access, cost=cost_of(access, rows, costs))


def cost_of(access: Access, rows: float, costs: Costs) -> float:
    """What it costs to read so many rows of a path."""
    start = costs.point if access.point else costs.path
    if access.kind != "index":
        # A long range of records is decoded in batches, as the whole table is.
        return start + min(rows * ROW_COST, costs.scan / 2 + rows * SCAN_ROW_COST)
    return start + 1 + rows * ROW_COST if access.cover else start + 1 + costs.lookup + rows * LOOKUP_COST


def _best_match(
    table: Table,
    parts: Sequence[tuple[int, int]],
    found: Conditions,
    unique: bool,
    estimator: Estimator,
) -> Access | None:
    """The match of conditions on single columns, or of one on several at once where that leaves fewer rows; its `order`
    is there when the rows come in the order of the key."""
    useful = list(takewhile(lambda part: part[1] < 0 or _tells_by_prefix(table.columns[part[0]].type), parts))
    unique = unique and len(useful) == len(parts)
    matches = [_match(table, useful, found.sargs, unique, found.total, estimator)]
    matches += [_match_rows(table, useful, row, unique, found.total, estimator) for row in found.rows]
    return min((m for m in matches if m is not None), key=lambda m: m.rows, default=None)


def _tells_by_prefix(type_: FieldType) -> bool:
    """Whether equal texts begin with equal characters, as 'ss' and 'ß' do not under the Unicode collations."""
    return not type_.is_text or not is_ci(type_.collate) or sorts_by_alike(type_.collate)


def _match_rows(
    table: Table, parts: Sequence[tuple[int, int]], sarg: RowSarg, unique: bool, total: float, estimator: Estimator
) -> Access | None:
    """Matches the rows of a condition against the leading key columns; None when they lack the first."""
    first = sarg.rows[0]
    matched = list(takewhile(lambda part: part[0] in first, parts))
    if not matched or len(sarg.rows) > IN_COMBINATIONS_MAX:
        return None
    prefix = tuple(tuple(row[offset] for row in sarg.rows) for offset, _ in matched)
    whole = all(length < 0 for _, length in matched)
    point = unique and whole and len(matched) == len(parts)
    selectivity = sum(
        prod(estimator.equal(table, offset, *_value(row[offset])) for offset, _ in matched) for row in sarg.rows
    )
    exact = sarg.exact and whole and len(matched) == len(first)
    return Access(
        "", None, prefix, True, point=point, rows=float(len(sarg.rows)) if point else max(1.0, total * selectivity),
        table_rows=total, used=(sarg.cond,) if exact else (), order=(matched[0][0],),
        key_types=tuple(table.columns[o].type for o, _ in parts),
    )  # fmt: skip


def _match(
    table: Table,
    parts: Sequence[tuple[int, int]],
    sargs: Sequence[Sarg],
    unique: bool,
    total: float,
    estimator: Estimator,
) -> Access | None:
    """Matches conditions against key columns; None when not even the first has one."""
    prefix: list[tuple[Expr | None, ...]] = []
    used: list[Expr] = []
    low = high = None
    not_null = False
    combinations, selectivity, pinned = 1, 1.0, 0
    exact_key = True
    for offset, length in parts:
        here = [s for s in sargs if s.offset == offset]
        equal = min((s for s in here if s.kind != "range"), key=lambda s: len(s.values), default=None)
        if equal is not None:
            values: tuple[Expr | None, ...] = (None,) if equal.kind == "null" else equal.values
            if combinations * len(values) > IN_COMBINATIONS_MAX:
                break
            combinations *= len(values)
            prefix.append(values)
            pinned += combinations == 1
            selectivity *= _selectivity(table, equal, estimator)
            exact_key &= length < 0 and equal.kind == "eq"
            if length < 0 and equal.exact:
                used.append(equal.cond)
            continue
        ranges = [s for s in here if s.kind == "range"]
        if ranges:
            low = _tightest(s.low for s in ranges)
            high = _tightest(s.high for s in ranges)
            merged = Sarg(offset, "range", ranges[0].cond, low=low, high=high)
            selectivity *= _selectivity(table, merged, estimator)
            whole = [s for s in ranges if (s.low is None or s.low == low) and (s.high is None or s.high == high)]
            used.extend(s.cond for s in whole if (length < 0 and s.exact) or s.is_not_null)
            not_null = True
        break
    if not prefix and not not_null:
        return None
    point = unique and exact_key and len(prefix) == len(parts)
    rows = float(combinations) if point else max(1.0, total * selectivity)
    types = tuple(table.columns[o].type for o, _ in parts)
    return Access(
        "", None, tuple(prefix), False, low, high, not_null, point, rows=rows, table_rows=total, used=tuple(used),
        order=(parts[0][0],), key_types=types, pinned=pinned,
    )  # fmt: skip


def _tightest(bounds: object) -> Bound | None:
    """Of several bounds on one side, the first: their values are not known yet, and the others filter the rows."""
    return next((b for b in bounds if b is not None), None)  # type: ignore[attr-defined]


# Estimates


def _other_selectivity(cond: Expr, offsets: Mapping[int, int], table: Table, estimator: Estimator) -> float:
    """The fraction of rows that satisfy a condition over several columns, or one of which nothing is known."""
    if not isinstance(cond, Call) or cond.func != "or":
        return UNKNOWN_SHARE
    out = 0.0
    for alternative in flat(cond, "or"):
        parts = [sarg(part, offsets, table) for part in flat(alternative, "and")]
        out += prod(UNKNOWN_SHARE if part is None else _selectivity(table, part, estimator) for part in parts)
    return min(out, UNKNOWN_SHARE)


def _all_selectivity(table: Table, sargs: Sequence[Sarg], estimator: Estimator) -> float:
    out = 1.0
    seen: set[int] = set()
    for s in sargs:
        if s.kind == "range" and s.offset in seen:
            continue
        if s.kind == "range":
            ranges = [r for r in sargs if r.kind == "range" and r.offset == s.offset]
            s = replace(s, low=_tightest(r.low for r in ranges), high=_tightest(r.high for r in ranges))
            seen.add(s.offset)
        out *= _selectivity(table, s, estimator)
    return out


def _selectivity(table: Table, s: Sarg, estimator: Estimator) -> float:
    if s.kind == "null":
        return estimator.null(table, s.offset)
    if s.kind == "eq":
        each = [estimator.equal(table, s.offset, *_value(v)) for v in s.values]
        return min(1.0, sum(each))
    low, low_known = _value(s.low.expr) if s.low is not None else (None, True)
    high, high_known = _value(s.high.expr) if s.high is not None else (None, True)
    if low_known and high_known:
        return estimator.between(table, s.offset, low, high, True)
    both = s.low is not None and s.high is not None
    return PSEUDO_BETWEEN if both else PSEUDO_RANGE


def _value(expr: Expr) -> tuple[object, bool]:
    return (expr.value, True) if isinstance(expr, Const) else (None, False)


# Sargs


def sarg(cond: Expr, offsets: Mapping[int, int], table: Table) -> Sarg | None:
    """Reads a conjunct as a condition on one column, None when it is not of that kind."""
    if not isinstance(cond, Call):
        return None
    match cond.func:
        case "eq" | "nulleq" | "lt" | "le" | "gt" | "ge":
            return _comparison(cond, offsets, table)
        case "in":
            found = _key_column(cond.args[0], offsets, table)
            if found is None or not all(is_free(a) for a in cond.args[1:]):
                return None
            return Sarg(found[0], "eq", cond, cond.args[1:], exact=found[1])
        case "between":
            found = _key_column(cond.args[0], offsets, table)
            if found is None or not all(is_free(a) for a in cond.args[1:]) or _unordered(table, found[0]):
                return None
            low, high = (Bound(a, False) for a in cond.args[1:])
            return Sarg(found[0], "range", cond, low=low, high=high, exact=found[1])
        case "isnull":
            found = _key_column(cond.args[0], offsets, table)
            return None if found is None else Sarg(found[0], "null", cond, by_itself=True)
        case "not":
            return _not_null(cond.args[0], cond, offsets, table)
        case "like":
            return _like(cond, offsets, table)
        case "or":
            return _alternatives(cond, offsets, table)
    return None


def _virtual_sarg(cond: Expr, scan: Scan) -> Sarg | None:
    """Reads a conjunct as a condition on a virtual column, whose expression it names."""
    columns = {-2 - offset: (offset, expr) for offset, expr in scan.virtual}
    stand_ins = {expr: Column(id_, scan.table.columns[offset].type) for id_, (offset, expr) in columns.items()}
    named = transform(cond, lambda e: stand_ins.get(e, e))
    if named == cond:
        return None
    found = sarg(named, {id_: offset for id_, (offset, _) in columns.items()}, scan.table)
    return None if found is None else replace(found, cond=cond, exact=False)


def row_sarg(cond: Expr, offsets: Mapping[int, int], table: Table) -> RowSarg | None:
    """Reads a conjunct as alternatives that have columns in common, None when it is not of that kind."""
    if not isinstance(cond, Call) or cond.func != "or":
        return None
    rows: list[dict[int, Expr]] = []
    exact = True
    for alternative in flat(cond, "or"):
        row: dict[int, Expr] = {}
        for part in flat(alternative, "and"):
            found = sarg(part, offsets, table)
            if found is None or found.kind != "eq" or len(found.values) != 1 or found.offset in row:
                exact = False
                continue
            row[found.offset] = found.values[0]
            exact &= found.exact
        rows.append(row)
    common = set.intersection(*(set(row) for row in rows))
    if not common:
        return None
    exact &= all(len(row) == len(common) for row in rows)
    return RowSarg(cond, tuple({offset: row[offset] for offset in common} for row in rows), exact)


def flat(cond: Expr, op: str) -> Iterator[Expr]:
    """The operands of nested calls of one operator, in order."""
    pending = [cond]
    while pending:
        expr = pending.pop()
        if isinstance(expr, Call) and expr.func == op:
            pending.extend(reversed(expr.args))
        else:
            yield expr


def is_free(expr: Expr) -> bool:
    """Whether the expression can be computed before the scan: no columns, no subqueries, nothing random."""
    for part in walk(expr):
        if isinstance(part, (Const, Param, Context)):
            continue
        if not isinstance(part, Call):
            return False
        entry = lookup(part.func)
        if entry is None or not entry.deterministic:
            return False
    return True


def _not_null(inner: Expr, cond: Expr, offsets: Mapping[int, int], table: Table) -> Sarg | None:
    if not isinstance(inner, Call) or inner.func != "isnull":
        return None
    found = _key_column(inner.args[0], offsets, table)
    return None if found is None or table.columns[found[0]].not_null else Sarg(found[0], "range", cond)


def implied_range(cond: Expr, offsets: Mapping[int, int], table: Table) -> Sarg | None:
    """The bound of the first column in (a, b) > (x, y), which is written as a > x OR (a = x AND b > y): a >= x."""
    if not isinstance(cond, Call) or cond.func != "or":
        return None
    bounds: list[Sarg] = []
    for alternative in flat(cond, "or"):
        found = next((s for p in flat(alternative, "and") if (s := sarg(p, offsets, table)) is not None), None)
        if found is None or found.kind == "null" or found.is_not_null:
            return None
        bounds.append(found)
    offset = bounds[0].offset
    range_ = next((s for s in bounds if s.kind == "range"), None)
    if range_ is None or (range_.low is None) == (range_.high is None) or _unordered(table, offset):
        return None
    bound = range_.low or range_.high
    assert bound is not None
    for s in bounds:
        own = s.values if s.kind == "eq" else tuple(b.expr for b in (s.low, s.high) if b is not None)
        same_side = s.kind == "eq" or (s.low is None) == (range_.low is None)
        if s.offset != offset or own != (bound.expr,) or not same_side:
            return None
    closed = Bound(bound.expr, False)
    low, high = (closed, None) if range_.low is not None else (None, closed)
    return Sarg(offset, "range", cond, low=low, high=high, exact=False)


_MIRROR = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "nulleq": "nulleq"}


def _comparison(cond: Call, offsets: Mapping[int, int], table: Table) -> Sarg | None:
    left, right = cond.args
    op = cond.func
    found = _key_column(left, offsets, table)
    if found is None:
        found, right, op = _key_column(right, offsets, table), left, _MIRROR[op]
    if found is None or not is_free(right):
        return None
    offset, exact = found
    if op == "nulleq":
        if isinstance(right, Const) and right.value is not None:
            op = "eq"
        else:
            return None
    if op == "eq":
        by_itself = any(isinstance(side, Column) for side in cond.args)
        return Sarg(offset, "eq", cond, (right,), exact=exact, by_itself=by_itself)
    if _unordered(table, offset):
        return None
    bound = Bound(right, op in ("lt", "gt"))
    if op in ("lt", "le"):
        return Sarg(offset, "range", cond, high=bound, exact=exact)
    return Sarg(offset, "range", cond, low=bound, exact=exact)


def _unordered(table: Table, offset: int) -> bool:
    """ENUM and SET compare as strings but lie in their keys by number."""
    return table.columns[offset].type.tp in (Tp.ENUM, Tp.SET, Tp.JSON, Tp.BIT)


def _key_column(expr: Expr, offsets: Mapping[int, int], table: Table) -> tuple[int, bool] | None:
    """The column of a comparison's side, if its key order serves the comparison; False when the rows need a second
    look.
    """
    cast = isinstance(expr, Call) and expr.func == "cast"
    inner = expr.args[0] if cast and isinstance(expr, Call) else expr
    if not isinstance(inner, Column) or inner.id not in offsets or offsets[inner.id] == HANDLE_OFFSET:
        return None
    type_ = inner.type
    if type_.tp in (Tp.JSON, Tp.SET, Tp.BIT):
        return None
    if cast and not _order_kept(type_, expr.type):
        return None
    text = type_.tp in STRING_TPS and not type_.is_binary
    return offsets[inner.id], not cast and not text and type_.tp != Tp.ENUM


def _order_kept(source: FieldType, target: FieldType) -> bool:
    """Whether a cast keeps order and loses nothing, so that the target's values can be brought back to the column's."""
    if source.is_integer:
        return target.is_numeric
    if source.is_decimal:
        return target.is_decimal
    if source.tp == Tp.FLOAT:
        return target.tp == Tp.DOUBLE
    if source.tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
        return target.tp in (Tp.DATETIME, Tp.TIMESTAMP)
    if source.tp == Tp.DURATION:
        return target.tp == Tp.DURATION
    return source.is_text and target.is_text and source.collate == target.collate


def _like(cond: Call, offsets: Mapping[int, int], table: Table) -> Sarg | None:
    """LIKE 'abc%' is a range over the strings that begin with abc."""
    found = _key_column(cond.args[0], offsets, table)
    pattern, escape = cond.args[1], cond.args[2] if len(cond.args) > 2 else None
    if found is None or not isinstance(pattern, Const) or not isinstance(pattern.value, str):
        return None
    column_type = table.columns[found[0]].type
    if not column_type.is_text or collate_type(cond.args[:2]).collate != column_type.collate:
        return None
    mark = escape.value if isinstance(escape, Const) and isinstance(escape.value, str) else "\\"
    fixed = ""
    i = 0
    while i < len(pattern.value) and pattern.value[i] not in "%_":
        if pattern.value[i] == mark and i + 1 < len(pattern.value):
            i += 1
        fixed += pattern.value[i]
        i += 1
    # Trailing spaces are not part of a key: the strings 'ab' and 'ab ' share one.
    key, following = sort_key(column_type.collate), _following(column_type.collate)
    while fixed and (key(f"{fixed[-1]}x") == key(" x") or following(fixed[-1]) is None):
        fixed = fixed[:-1]
    if not fixed:
        return None
    after = fixed[:-1] + str(following(fixed[-1]))
    low, high = Bound(Const(fixed, pattern.type), False), Bound(Const(after, pattern.type), True)
    return Sarg(found[0], "range", cond, low=low, high=high, exact=False)


def _following(collate: str) -> Callable[[str], str | None]:
    """The function from a character to one that sorts behind all strings that begin with it, if there is one."""
    weights = weights_of(collate)
    return _next_code if weights is None else weights.following


def _next_code(character: str) -> str | None:
    code = ord(character)
    return None if code >= 0x10FFFF or 0xD7FF <= code < 0xE000 else chr(code + 1)


def _alternatives(cond: Call, offsets: Mapping[int, int], table: Table) -> Sarg | None:
    """a = 1 OR a = 2 is an IN list."""
    parts = [sarg(a, offsets, table) for a in cond.args]
    values: list[Expr] = []
    for part in parts:
        if part is None or part.kind != "eq" or parts[0] is None or part.offset != parts[0].offset:
            return None
        values.extend(part.values)
    first = parts[0]
    assert first is not None
    return Sarg(first.offset, "eq", cond, tuple(values), exact=all(p.exact for p in parts if p is not None))
