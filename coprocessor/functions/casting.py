"""`cast_to`: how a typed expression is brought to the type that a function, a comparison or a set operation wants."""

from __future__ import annotations

from decimal import Decimal

from coprocessor.convert import int_bounds, quantize
from coprocessor.expr import Call, Const, Expr
from coprocessor.functions.inference import kind, type_digits
from coprocessor.types import FieldType, Tp


def cast_to(expr: Expr, target: FieldType) -> Expr:
    """Returns `expr` as a value of `target`; the expression itself where its values already are that."""
    source = expr.type
    if source == target:
        return expr
    if isinstance(expr, Const):
        const = _retype(expr, target)
        if const is not None:
            return const
    if _same_values(source, target):
        return expr
    return Call("cast", (expr,), target)


def _retype(const: Const, target: FieldType) -> Const | None:
    """Writes numeric literals and NULL in the target type directly; no conversion that could warn is done here."""
    value = const.value
    if value is None:
        return Const(None, target)
    if isinstance(value, int | Decimal) and const.type.is_numeric:
        if target.tp == Tp.DOUBLE:
            return Const(float(value), target)
        if isinstance(value, int) and target.is_integer and target.tp not in (Tp.YEAR, Tp.BIT):
            low, high = int_bounds(target)
            return Const(value, target) if low <= value <= high else None
        if target.tp == Tp.NEWDECIMAL and _fits(Decimal(value), target):
            return Const(quantize(Decimal(value), max(target.decimal, 0)), target)
    return None


def _fits(value: Decimal, target: FieldType) -> bool:
    scale = max(target.decimal, 0)
    exponent = value.as_tuple().exponent
    return (
        isinstance(exponent, int) and -exponent <= scale and abs(value) < Decimal(10) ** (max(target.flen, 1) - scale)
    )


def _same_values(source: FieldType, target: FieldType) -> bool:
    """True when every value of `source` is, unchanged, a value of `target`."""
    if source.tp == Tp.NULL:
        return False
    if source.is_integer and target.is_integer:
        if source.tp in (Tp.YEAR, Tp.BIT):
            return target.tp == source.tp or target.tp == Tp.LONGLONG
        return source.unsigned == target.unsigned and type_digits(source)[0] <= type_digits(target)[0]
    if source.is_decimal and target.is_decimal:
        return source.decimal == target.decimal and 0 < source.flen <= target.flen
    if source.is_real and target.is_real:
        return target.tp == Tp.DOUBLE
    if source.is_text and target.is_text:
        return target.flen < 0 or (0 <= source.flen <= target.flen)
    if source.is_binary and target.is_binary:
        padded = target.tp == Tp.STRING and target.flen > 0
        return (target.flen < 0 or (0 <= source.flen <= target.flen)) and not padded
    if kind(source) == "time" and kind(target) == "time":
        return (source.tp == Tp.DATE) == (target.tp == Tp.DATE) and max(source.decimal, 0) <= max(target.decimal, 0)
    if source.tp == target.tp == Tp.DURATION:
        return max(source.decimal, 0) <= max(target.decimal, 0)
    if source.tp in (Tp.ENUM, Tp.SET):
        return target.is_text and target.flen < 0
    return source.tp == target.tp == Tp.JSON
