"""CAST, explicit and implied: the closures are convert.py's, the DuckDB forms are here."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from coprocessor.convert import converter
from coprocessor.expr import Call, Const, Expr
from coprocessor.functions.decimal_sql import DUCK_DIGITS, decimal_type_sql
from coprocessor.functions.inference import fsp, type_digits
from coprocessor.functions.registry import DuckPrinter, Function, Inferred, Kernel, add
from coprocessor.functions.telling import narrows
from coprocessor.types import FieldType, Tp

SUBJECT = "casts"
NUMBER_PREFIX = r"^\s*([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"

_PLAIN_NUMBER = r"[-+]?[0-9]{1,15}([.][0-9]{1,15})?"


def duck_type(ft: FieldType) -> str:
    """Returns DuckDB's type that holds values of a SQL type."""
    tp = ft.tp
    if tp in _DUCK_INTS:
        return ("U" if ft.unsigned else "") + _DUCK_INTS[tp]
    if tp == Tp.NEWDECIMAL:
        return decimal_type_sql(ft)
    if tp in _DUCK:
        return _DUCK[tp]
    return "BLOB" if ft.is_binary else "VARCHAR"


_DUCK_INTS = {Tp.TINY: "TINYINT", Tp.SHORT: "SMALLINT", Tp.INT24: "INTEGER", Tp.LONG: "INTEGER", Tp.LONGLONG: "BIGINT"}
_DUCK = {
    Tp.YEAR: "USMALLINT", Tp.BIT: "UBIGINT", Tp.FLOAT: "FLOAT", Tp.DOUBLE: "DOUBLE", Tp.DATE: "DATE",
    Tp.DATETIME: "TIMESTAMP", Tp.TIMESTAMP: "TIMESTAMP", Tp.DURATION: "BIGINT", Tp.NULL: '"NULL"',
}  # fmt: skip


def _infer(args: Sequence[Expr]) -> Inferred:
    return (None,), args[0].type


def _kernel(call: Call) -> Kernel:
    return converter(call.args[0].type, call.type)


def _duck(p: DuckPrinter, call: Call) -> str | None:
    arg, dst = call.args[0], call.type
    src = arg.type
    if src.tp == Tp.NULL or (isinstance(arg, Const) and arg.value is None):
        return f"CAST(NULL AS {duck_type(dst)})"
    text = p.value(arg)
    if src.is_text and dst.tp == Tp.LONGLONG:
        digits = f"regexp_full_match({text}, '[0-9]{{1,18}}')"
        return f"CASE WHEN {digits} THEN CAST({text} AS {duck_type(dst)}) ELSE {p.udf(call)} END"
    if src.tp == Tp.JSON or dst.tp in (Tp.JSON, Tp.YEAR, Tp.ENUM, Tp.SET):
        return None
    if dst.is_integer:
        return _to_int(text, src, dst)
    if dst.is_decimal:
        return _to_decimal(p, text, call)
    if dst.is_real:
        return _to_real(p, text, call)
    if dst.is_text:
        return _to_text(p, text, call)
    if dst.tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
        return _to_time(p, text, call)
    return None


def _to_int(text: str, src: FieldType, dst: FieldType) -> str | None:
    if src.is_integer:
        if src.tp == Tp.LONGLONG and src.unsigned != dst.unsigned:
            bound, step = ("< 0", "+") if dst.unsigned else ("> 9223372036854775807", "-")
            wide = f"CAST({text} AS HUGEINT)"
            wrapped = f"CASE WHEN {text} {bound} THEN {wide} {step} 18446744073709551616 ELSE {wide} END"
            return f"CAST({wrapped} AS {duck_type(dst)})"
        if dst.unsigned and not src.unsigned:
            wide = f"CAST({text} AS HUGEINT)"
            return f"CAST(CASE WHEN {text} < 0 THEN {wide} + 18446744073709551616 ELSE {wide} END AS UBIGINT)"
        return f"CAST({text} AS {duck_type(dst)})"
    if src.is_decimal and src.flen - max(src.decimal, 0) <= 18 and not dst.unsigned:
        return f"CAST({text} AS BIGINT)"
    if src.tp == Tp.DATE and not dst.unsigned:
        return f"(year({text}) * 10000 + month({text}) * 100 + day({text}))"
    return None


def prefix_double(text: str) -> str:
    """Returns the DuckDB text of a string's numeric prefix as DOUBLE, 0 where there is none, never infinite."""
    number = f"coalesce(TRY_CAST(regexp_extract({text}, '{NUMBER_PREFIX}', 1) AS DOUBLE), 0)"
    return f"CASE WHEN {text} IS NULL THEN NULL ELSE greatest(least({number}, {_DOUBLE_MAX}), -{_DOUBLE_MAX}) END"


_DOUBLE_MAX = "1.7976931348623157e308"


def _to_real(p: DuckPrinter, text: str, call: Call) -> str | None:
    src, dst = call.args[0].type, call.type
    name = duck_type(dst)
    if src.is_numeric:
        return f"CAST({text} AS {name})"
    if src.is_text and dst.tp == Tp.DOUBLE:
        if p.telling:
            return p.told(call, f"NOT regexp_full_match({text}, '{_PLAIN_NUMBER}')", f"TRY_CAST({text} AS DOUBLE)")
        return prefix_double(text)
    if src.tp == Tp.DATE:
        return f"CAST(year({text}) * 10000 + month({text}) * 100 + day({text}) AS {name})"
    return None


def _to_decimal(p: DuckPrinter, text: str, call: Call) -> str | None:
    """A value too large for the type becomes the type's largest, which only narrowing casts have to look at."""
    src, dst = call.args[0].type, call.type
    if not (src.is_integer or src.is_decimal):
        return None
    plain = f"CAST({text} AS {decimal_type_sql(dst)})"
    digits, scale = type_digits(dst)
    if digits >= DUCK_DIGITS or not narrows(src, dst):
        return plain
    top = (Decimal(10) ** digits - 1).scaleb(-scale)
    if p.telling:
        return p.told(call, f"{text} NOT BETWEEN -{top:f} AND {top:f}", plain)
    return f"CASE WHEN {text} > {top:f} THEN {top:f} WHEN {text} < -{top:f} THEN -{top:f} ELSE {plain} END"


def _to_text(p: DuckPrinter, text: str, call: Call) -> str | None:
    src, dst = call.args[0].type, call.type
    if src.is_text or src.tp in (Tp.ENUM, Tp.SET):
        if dst.flen < 0:
            return text
        return p.told(call, f"length({text}) > {dst.flen}", f"left({text}, {dst.flen})")
    if dst.flen >= 0 or src.is_real or src.is_binary or src.tp in (Tp.YEAR, Tp.BIT):
        return None
    if src.is_numeric or src.tp == Tp.DATE:
        return f"CAST({text} AS VARCHAR)"
    if src.tp in (Tp.DATETIME, Tp.TIMESTAMP):
        if fsp(src) == 0:
            return f"strftime({text}, '%Y-%m-%d %H:%M:%S')"
        return f"left(strftime({text}, '%Y-%m-%d %H:%M:%S.%f'), {20 + fsp(src)})"
    return None


_YEAR = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_ISO = _YEAR + r"-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?)?"


def _to_time(p: DuckPrinter, text: str, call: Call) -> str | None:
    src, dst = call.args[0].type, call.type
    name = duck_type(dst)
    if src.tp == Tp.DATE:
        return text if dst.tp == Tp.DATE else f"CAST({text} AS TIMESTAMP)"
    if src.tp in (Tp.DATETIME, Tp.TIMESTAMP):
        if dst.tp == Tp.DATE:
            return f"CAST({text} AS DATE)"
        if fsp(dst) >= fsp(src):
            return text
        return None
    if src.is_text and (dst.tp == Tp.DATE or fsp(dst) == 6):
        plain = f"TRY_CAST(CASE WHEN regexp_full_match({text}, '{_ISO}') THEN {text} END AS TIMESTAMP)"
        plain = f"CAST({plain} AS DATE)" if dst.tp == Tp.DATE else plain
        return f"coalesce({plain}, CAST({p.udf(call)} AS {name}))"
    return None


add(Function("cast", 1, 1, _infer, SUBJECT, kernel=_kernel, env=True, duck=_duck, syntax="CAST(x AS type)"))


__all__ = ["duck_type", "prefix_double"]
