"""Literals and parameter types: SQL text and Python values to typed constants."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

from coprocessor import types as t
from coprocessor.convert import CTX, quantize
from coprocessor.expr import Const
from coprocessor.types import FieldType, decimal_type, varchar
from sqlfront.errors import InterfaceError, error

_I64_MAX = (1 << 63) - 1
_U64_MAX = (1 << 64) - 1


def interval_amount(amount: str, unit: str) -> Const:
    """The amount of an INTERVAL: sqlglot hands every literal over as a string; a whole number was one in the text."""
    stripped = amount.strip()
    body = stripped[1:] if stripped[:1] in "+-" else stripped
    if body.isdigit() and "_" not in unit:
        return integer(int(stripped))
    if unit == "SECOND" and body.replace(".", "", 1).isdigit():
        return number(body) if body == stripped else negate(number(body)) or text(amount)
    return text(amount)


def number(text: str) -> Const:
    """An unsigned numeric literal: integer, decimal (with a point) or double (with an exponent)."""
    lowered = text.lower()
    if "e" in lowered:
        if math.isinf(float(text)):
            raise error(1367, f"Illegal double '{text}' value found during parsing", sqlstate="22007")
        return Const(float(text), t.DOUBLE)
    if "." in text:
        value = Decimal(text)
        type_ = decimal_of(value)
        if -int(value.as_tuple().exponent) > type_.decimal:  # more digits after the point than a DECIMAL has
            value = quantize(value, type_.decimal)
        return Const(value, type_)
    return integer(int(text), len(text))


def integer(value: int, digits: int | None = None) -> Const:
    """An integer constant of the narrowest fitting kind: BIGINT, BIGINT UNSIGNED, DECIMAL.

    The width has room for a sign, as MySQL's: a width of 1 is a truth value's alone.
    """
    flen = (digits if digits is not None else len(str(abs(value)))) + 1
    if -(1 << 63) <= value <= _I64_MAX:
        return Const(value, FieldType(t.Tp.LONGLONG, flen, 0))
    if 0 <= value <= _U64_MAX:
        return Const(value, FieldType(t.Tp.LONGLONG, flen, 0, unsigned=True))
    wide = Decimal(value)
    if len(str(abs(value))) > 65:
        raise error(1690, f"DECIMAL value is out of range in '{value}'")
    return Const(wide, decimal_of(wide))


def decimal_of(value: Decimal) -> FieldType:
    """The type of a decimal value as it is written."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise error(1367, f"Illegal DECIMAL '{value}' value found during parsing")
    scale = max(0, -exponent)
    precision = max(len(digits) + max(0, exponent), scale, 1)
    return decimal_type(precision, scale)


def negate(const: Const) -> Const | None:
    """-literal as a literal, None where it must be computed."""
    value = const.value
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    if isinstance(value, int):
        return integer(-value, len(str(value)))
    if isinstance(value, Decimal) and value == value.to_integral_value() and value == Decimal(1 << 63):
        return integer(-int(value))
    if isinstance(value, Decimal):
        return Const(value.copy_negate() if value else value, const.type)  # there is no negative zero
    return Const(-value, const.type)


def text(value: str) -> Const:
    return Const(value, varchar(len(value)).with_(tp=t.Tp.VAR_STRING))


def type_of(value: object) -> FieldType:
    """The type that a parameter's Python value binds as.

    Widths are bucketed, so that plans are not made anew for every length of a number.
    """
    match value:
        case None:
            return t.NULL
        case bool():
            return t.BIGINT
        case int():
            if -(1 << 63) <= value <= _I64_MAX:
                return t.BIGINT
            if 0 <= value <= _U64_MAX:
                return t.UBIGINT
            return decimal_type(65, 0)
        case float():
            return t.DOUBLE
        case str():
            return t.TEXT
        case bytes() | bytearray() | memoryview():
            return t.BYTES
        case Decimal():
            found = decimal_of(value)
            whole = found.flen - found.decimal
            scale = found.decimal
            precision = next((p for p in (18, 38) if whole + scale <= p), 65)
            return decimal_type(precision, scale)
        case dt.datetime():
            return t.DATETIME6
        case dt.date():
            return t.DATE
        case dt.timedelta() | dt.time():
            return t.DURATION.with_(decimal=6, flen=17)
        case _:
            raise InterfaceError(f"a parameter of type {type(value).__name__} cannot be bound", 1210)


def parameter(value: object, type: FieldType) -> object:
    """Brings a parameter's value to the Python form of the type it was bound as."""
    match value:
        case bool():
            return int(value)
        case Decimal():
            return value.quantize(Decimal(1).scaleb(-type.decimal), context=CTX) if type.is_decimal else value
        case bytearray() | memoryview():
            return bytes(value)
        case dt.time():
            return dt.timedelta(
                hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
            )
        case int() if type.is_decimal:
            return Decimal(value)
        case _:
            return value
