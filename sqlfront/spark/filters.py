"""Spark's filters as conditions that stores evaluate, where that loses no row.

Spark compares strings byte by byte, and MySQL by a collation; a zero date is a value to MySQL and comes as NULL. So a
condition is *exact* when a store keeps the same rows as Spark would, and else only *wide*: the store keeps these rows
and perhaps others, and Spark looks at them again. What could lose a row stays with Spark alone:

| column | exact | wide | Spark alone |
|---|---|---|---|
| integers, DECIMAL, FLOAT, DOUBLE, BINARY, utf8mb4_0900_bin | all | | |
| other text under _bin (trailing spaces do not count) | IS NULL | `=`, `<=>`, IN, LIKE | order, negations |
| DATE, DATETIME, TIMESTAMP | | comparisons, IS NOT NULL | IS NULL |
| ENUM, SET, JSON, BIT, TIME, _ci text | | | all |
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias, assert_never

from coprocessor.codec.collation import is_bin_collation, pads_space
from coprocessor.dag.expressions import can_push
from coprocessor.errors import CoprocessorError
from coprocessor.expr import Column, Const, Expr
from coprocessor.functions import resolve
from coprocessor.types import BIGINT, BYTES, DATE, DATETIME6, DOUBLE, UBIGINT, FieldType, Tp
from sqlfront.bind.literals import type_of

_I64 = 1 << 63
HANDLE_MIN, HANDLE_MAX = -_I64, _I64 - 1
_ESCAPED = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})
_ORDERS = frozenset({"lt", "le", "gt", "ge"})
_TEMPORAL = frozenset({Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP})


@dataclass(frozen=True, slots=True)
class Comparison:
    """`op` is eq, nulleq, lt, le, gt or ge."""

    op: str
    column: str
    value: object


@dataclass(frozen=True, slots=True)
class Membership:
    column: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class NullTest:
    column: str
    is_null: bool


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text that begins with, ends with or contains `text`; any of it may stand where `before` or `after` is set."""

    column: str
    text: str
    before: bool
    after: bool


@dataclass(frozen=True, slots=True)
class Negation:
    of: Condition


Condition: TypeAlias = Comparison | Membership | NullTest | Pattern | Negation


@dataclass(frozen=True, slots=True)
class Pushed:
    """What stores evaluate; not `is_exact` where Spark has to look at the rows again."""

    expr: Expr
    is_exact: bool


def push(condition: Condition, columns: Mapping[str, Column]) -> Pushed | None:
    """Returns what stores evaluate for a condition over `columns` (by case-folded name), None for nothing."""
    column = columns.get(_column_of(condition).casefold())
    if column is None:
        return None
    try:
        made = _pushed(condition, column)
    except CoprocessorError:
        return None
    return made if made is not None and can_push(made.expr) else None


def _column_of(condition: Condition) -> str:
    return _column_of(condition.of) if isinstance(condition, Negation) else condition.column


def _pushed(condition: Condition, column: Column) -> Pushed | None:
    ft = column.type
    if _is_exact(ft):
        expr = _expr(condition, column)
        return None if expr is None else Pushed(expr, True)
    if ft.tp in _TEMPORAL:
        if _tests_for_null(condition):
            return None
        expr = _expr(condition, column)
        return None if expr is None else Pushed(expr, False)
    if ft.is_text and is_bin_collation(ft.collate):
        if isinstance(condition, Negation) or (isinstance(condition, Comparison) and condition.op in _ORDERS):
            return None
        expr = _expr(condition, column)
        return None if expr is None else Pushed(expr, isinstance(condition, NullTest))
    return None


def _is_exact(ft: FieldType) -> bool:
    if ft.is_text:
        return not pads_space(ft.collate)
    return ft.is_binary or ft.is_decimal or ft.is_real or (ft.is_integer and ft.tp != Tp.BIT)


def _tests_for_null(condition: Condition) -> bool:
    """Whether a NULL may satisfy the condition."""
    match condition:
        case NullTest():
            return condition.is_null
        case Comparison():
            return condition.op == "nulleq" and condition.value is None
        case Negation():
            inner = condition.of
            return isinstance(inner, NullTest) or (isinstance(inner, Comparison) and inner.op == "nulleq")
        case _:
            return False


def _expr(condition: Condition, column: Column) -> Expr | None:
    match condition:
        case Comparison():
            value = _constant(condition.value, column.type)
            return None if value is None else resolve(condition.op, (column, value))
        case Membership():
            values = [_constant(value, column.type) for value in condition.values]
            known = [value for value in values if value is not None]
            return resolve("in", (column, *known)) if values and len(known) == len(values) else None
        case NullTest():
            test = resolve("isnull", (column,))
            return test if condition.is_null else resolve("not", (test,))
        case Pattern():
            if not column.type.is_text:
                return None
            text = f"{'%' if condition.before else ''}{condition.text.translate(_ESCAPED)}"
            pattern = _constant(text + ("%" if condition.after else ""), column.type)
            return None if pattern is None else resolve("like", (column, pattern))
        case Negation():
            inner = _expr(condition.of, column)
            return None if inner is None else resolve("not", (inner,))
    assert_never(condition)


def handle_bounds(condition: Condition, name: str) -> tuple[int, int]:
    """The least and the greatest integer that satisfies a condition over a signed BIGINT, which is never NULL."""
    if _column_of(condition).casefold() != name.casefold():
        return HANDLE_MIN, HANDLE_MAX
    match condition:
        case Comparison(op=op, value=int(value)) if not isinstance(value, bool):
            low = value + (op == "gt") if op in ("eq", "nulleq", "gt", "ge") else HANDLE_MIN
            high = value - (op == "lt") if op in ("eq", "nulleq", "lt", "le") else HANDLE_MAX
            return low, high
        case Membership(values=values) if values:
            numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
            if len(numbers) == len(values):
                return min(numbers), max(numbers)
        case _:
            pass
    return HANDLE_MIN, HANDLE_MAX


# Values


def _constant(value: object, ft: FieldType) -> Const | None:
    """Returns a value of Spark's as a literal beside a column of `ft`; None where it has none."""
    make = next((make for is_of, make in _MAKERS if is_of(ft)), None)
    return None if value is None or isinstance(value, bool) or make is None else make(value, ft)


def _integer(value: object, ft: FieldType) -> Const | None:
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else None
    if not isinstance(value, int):
        return None
    least, most, of = (0, 2 * _I64 - 1, UBIGINT) if ft.unsigned else (-_I64, _I64 - 1, BIGINT)
    return Const(value, of) if least <= value <= most else None


def _decimal(value: object, ft: FieldType) -> Const | None:
    if isinstance(value, int):
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    of = type_of(value)
    return Const(value.quantize(Decimal(1).scaleb(-of.decimal)), of)


def _real(value: object, ft: FieldType) -> Const | None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return Const(float(value), DOUBLE)


def _text(value: object, ft: FieldType) -> Const | None:
    return Const(value, ft.with_(tp=Tp.VAR_STRING, flen=-1)) if isinstance(value, str) else None


def _bytes(value: object, ft: FieldType) -> Const | None:
    return Const(bytes(value), BYTES) if isinstance(value, bytes | bytearray) else None


def _date(value: object, ft: FieldType) -> Const | None:
    return Const(value, DATE) if isinstance(value, dt.date) and not isinstance(value, dt.datetime) else None


def _local_time(value: object, ft: FieldType) -> Const | None:
    return Const(value, DATETIME6) if isinstance(value, dt.datetime) and value.tzinfo is None else None


def _instant(value: object, ft: FieldType) -> Const | None:
    """Requests see instants in UTC."""
    if not isinstance(value, dt.datetime) or value.tzinfo is None:
        return None
    return Const(value.astimezone(dt.UTC).replace(tzinfo=None), DATETIME6.with_(tp=Tp.TIMESTAMP))


_Maker: TypeAlias = Callable[[object, FieldType], Const | None]
_MAKERS: tuple[tuple[Callable[[FieldType], bool], _Maker], ...] = (
    (lambda ft: ft.is_integer, _integer),
    (lambda ft: ft.is_decimal, _decimal),
    (lambda ft: ft.is_real, _real),
    (lambda ft: ft.is_binary, _bytes),
    (lambda ft: ft.is_text, _text),
    (lambda ft: ft.tp == Tp.DATE, _date),
    (lambda ft: ft.tp == Tp.DATETIME, _local_time),
    (lambda ft: ft.tp == Tp.TIMESTAMP, _instant),
)
