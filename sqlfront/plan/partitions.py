"""Which partition a row belongs to, and which ones can have rows that satisfy the conditions of a scan."""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from coprocessor.convert import to_text
from coprocessor.env import Env
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Call, Column, Const, Expr, Param, walk
from coprocessor.functions.collation import sort_key
from coprocessor.types import FieldType, Tp
from sqlfront.catalog.model import Table
from sqlfront.errors import DatabaseError, error
from sqlfront.plan.access import Sarg, sarg
from sqlfront.plan.nodes import Scan

LOCATED_MAX = 256
"""So many combinations of values are located one by one."""
_RISING = frozenset({"year", "to_days", "to_seconds"})
"""Functions of a time that never fall while it rises."""
_KEPT_TYPES = {
    Tp.DATE: "date",
    Tp.DATETIME: "datetime",
    Tp.STRING: "str",
    Tp.VARCHAR: "str",
}

Row = Sequence[Any] | Mapping[int, Any]
"""Values by offset."""
Key = tuple[tuple[int, Any], ...]

NULL: tuple[int, Any] = (0, 0)
MAX: tuple[int, Any] = (2, 0)


class Partitioning:
    """The partitions of one table. `exprs` are over columns whose ids are offsets of the table.

    `bounds` (RANGE) and `lists` (LIST) hold what the expressions' values compare by: NULL, MAX, or (1, `fold_of` one).
    """

    def __init__(
        self,
        kind: str,
        exprs: Sequence[Expr],
        by_columns: bool,
        count: int,
        bounds: Sequence[Key] = (),
        lists: Mapping[Key, int] | None = None,
    ) -> None:
        self.kind = kind
        self.count = count
        self._exprs = tuple(exprs)
        self._by_columns = by_columns
        self._bounds = list(bounds)
        self._first_bounds = [bound[:1] for bound in bounds]
        self._lists = lists or {}
        offsets = sorted({part.id for e in exprs for part in _columns(e)})
        self.offsets = tuple(offsets)
        """The columns that decide."""
        self._compute: list[Callable[[Any, Env], Any]] = [compile_expr(e, {o: o for o in offsets}) for e in exprs]
        self._fold = [fold_of(e.type) for e in exprs]

    def locate(self, row: Row, env: Env) -> int:
        """The number of the partition of a row; error 1526 when there is none."""
        values = [compute(row, env) for compute in self._compute]
        found = self._place(values)
        if found is None:
            shown = "from column_list" if self._by_columns else "NULL" if values[0] is None else str(values[0])
            raise error(1526, f"Table has no partition for value {shown}")
        return found

    def _place(self, values: Sequence[Any]) -> int | None:
        if self.kind == "hash":
            return 0 if values[0] is None else abs(int(values[0])) % self.count
        if self.kind == "key":
            hashed = b"".join(map(_hashed, self._exprs, values))
            return zlib.crc32(hashed) % self.count
        key = tuple(NULL if v is None else (1, fold(v)) for v, fold in zip(values, self._fold, strict=True))
        if self.kind == "list":
            return self._lists.get(key)
        place = bisect_right(self._bounds, key)
        return place if place < self.count else None

    def prune(self, scan: Scan) -> Sequence[int]:
        """The numbers of the partitions that can have rows which satisfy the scan's conditions, whatever its parameters
        are."""
        return self._touched(self._sargs(scan), scan.table, ())

    def pruned_by(self, scan: Scan) -> Callable[[Sequence[Any]], Sequence[int]] | None:
        """The function from an execution's parameters to the numbers of partitions; None where they tell no more."""
        sargs = self._sargs(scan)
        if not any(isinstance(part, Param) for found in sargs for part in walk(found.cond)):
            return None
        return lambda params: self._touched(sargs, scan.table, params)

    def _sargs(self, scan: Scan) -> list[Sarg]:
        by_id = {c.id: o for c, o in zip(scan.cols, scan.offsets, strict=True) if o in self.offsets}
        return [found for cond in scan.where if (found := sarg(cond, by_id, scan.table)) is not None]

    def _touched(self, sargs: Sequence[Sarg], table: Table, params: Sequence[Any]) -> Sequence[int]:
        equal = {o: values for o in self.offsets if (values := _values(sargs, o, table, params)) is not None}
        if len(equal) == len(self.offsets) and prod(map(len, equal.values())) <= LOCATED_MAX:
            rows = (dict(zip(equal, row, strict=True)) for row in product(*equal.values()))
            return sorted(set(self._located(rows)))
        span = self._span(sargs, table, params)
        return range(self.count) if span is None else range(span[0], span[1] + 1)

    def _located(self, rows: Iterable[dict[int, Any]]) -> Iterable[int]:
        env = Env()
        for row in rows:
            try:
                yield self.locate(row, env)
            except DatabaseError as exc:
                if exc.code != 1526:
                    raise

    def _span(self, sargs: Sequence[Sarg], table: Table, params: Sequence[Any]) -> tuple[int, int] | None:
        """The first and last partition that a range of the first column touches; None when nothing is known of it."""
        rising = self._rises()
        if rising is None:
            return None
        low, high = 0, self.count - 1
        for found in sargs:
            if found.offset != rising or found.kind not in ("range", "eq"):
                continue
            bounds = [found.low, found.high]
            if found.kind == "eq":
                values = _values([found], rising, table, params)
                ends = [None, None] if not values else [min(values), max(values)]
                bounds = [None, None]
            else:
                ends = [None if b is None else _constant(b.expr, table, rising, params) for b in bounds]
            opened = [b is not None and b.open for b in bounds]
            low = low if ends[0] is None else max(low, self._at(rising, ends[0], opened[0], first=True))
            high = high if ends[1] is None else min(high, self._at(rising, ends[1], opened[1], first=False))
        return low, high

    def _rises(self) -> int | None:
        """The column along whose values the partitions lie."""
        if self.kind != "range":
            return None
        first = self._exprs[0]
        if isinstance(first, Call) and first.func in _RISING and isinstance(first.args[0], Column):
            return first.args[0].id
        return first.id if isinstance(first, Column) else None

    def _at(self, offset: int, value: Any, opened: bool, *, first: bool) -> int:
        """The first or the last partition with values from `value` of the first column on, or up to it; without
        itself when `opened`. `count` for none."""
        computed = self._compute[0]({offset: value}, Env())
        if computed is None:
            return 0
        opened &= isinstance(self._exprs[0], Column)  # a function has its value from others too
        # over several columns, rows with the value of a bound lie on both sides of it
        before = len(self._exprs) > 1 and not opened if first else opened
        bisect = bisect_left if before else bisect_right
        return bisect(self._first_bounds, ((1, self._fold[0](computed)),))


def fold_of(type_: FieldType) -> Callable[[Any], Any]:
    """What values of a type are compared by."""
    return sort_key(type_) or _same


def _hashed(expr: Expr, value: Any) -> bytes:
    """What KEY hashes of a value, as TiDB does: the sort key of its text, where numbers have no exponent."""
    if value is None:
        return b"\0"
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        import numpy as np  # only for such a table

        number = np.float32(value) if expr.type.tp == Tp.FLOAT else np.float64(value)
        return np.format_float_positional(number, trim="-").encode()
    if isinstance(value, int):
        return b"%d" % value
    text = to_text(value, expr.type)
    return (str(fold_of(expr.type)(text)) if expr.type.is_string else text.rstrip(" ")).encode()


def _same(value: Any) -> Any:
    return value


def _columns(expr: Expr) -> Iterable[Column]:
    return (part for part in walk(expr) if isinstance(part, Column))


def _values(sargs: Sequence[Sarg], offset: int, table: Table, params: Sequence[Any]) -> list[Any] | None:
    """The values that a column can have, None when they are not known."""
    for found in sargs:
        if found.offset != offset:
            continue
        if found.kind == "null":
            return [None]
        if found.kind == "eq":
            values = [_constant(e, table, offset, params) for e in found.values]
            if None not in values:
                return values
    return None


def _constant(expr: Expr, table: Table, offset: int, params: Sequence[Any]) -> Any:
    """A constant or a known parameter as the column has it; None for anything else."""
    if isinstance(expr, Param) and expr.index < len(params):
        value = params[expr.index]
    elif isinstance(expr, Const):
        value = expr.value
    else:
        return None
    type_ = table.columns[offset].type
    if type_.is_integer:
        return value if type(value) is int else None
    return value if type(value).__name__ == _KEPT_TYPES.get(type_.tp) else None
