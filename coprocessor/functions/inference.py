"""MySQL's type rules: what kind a type evaluates as, what two types compare as, what many types unify to.

Pure functions over `FieldType`s and expressions; nothing here evaluates rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from coprocessor import convert
from coprocessor.coercible import connection_collation
from coprocessor.errors import ResolveError
from coprocessor.expr import Call, Column, Const, Context, Expr, Param
from coprocessor.types import (
    BIGINT,
    BYTES,
    DATE,
    DATETIME,
    DOUBLE,
    DURATION,
    FLOAT,
    INTEGER_TPS,
    JSON,
    NULL,
    TEXT,
    TEXT_COLLATE,
    UBIGINT,
    UNSPECIFIED,
    FieldType,
    Tp,
    decimal_type,
)

MAX_SCALE = 30

_INT_DIGITS = {Tp.TINY: 3, Tp.SHORT: 5, Tp.INT24: 8, Tp.LONG: 10, Tp.LONGLONG: 19, Tp.YEAR: 4, Tp.BIT: 20}
_INT_WIDTH = {Tp.YEAR: 1, Tp.TINY: 0, Tp.SHORT: 1, Tp.INT24: 2, Tp.LONG: 3, Tp.LONGLONG: 4, Tp.BIT: 4}


def kind(ft: FieldType) -> str:
    """Returns int, real, decimal, string, time, duration, json or null: how values of the type are evaluated."""
    tp = ft.tp
    if tp in INTEGER_TPS or tp in (Tp.YEAR, Tp.BIT):
        return "int"
    if tp == Tp.NEWDECIMAL:
        return "decimal"
    if tp in (Tp.DOUBLE, Tp.FLOAT):
        return "real"
    if tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
        return "time"
    if tp == Tp.DURATION:
        return "duration"
    if tp == Tp.JSON:
        return "json"
    if tp == Tp.NULL:
        return "null"
    return "string"


def fsp(ft: FieldType) -> int:
    """Returns the fractional second digits of a temporal type."""
    return max(ft.decimal, 0) if ft.tp in (Tp.DATETIME, Tp.TIMESTAMP, Tp.DURATION) else 0


def digits(expr: Expr) -> tuple[int, int]:
    """Returns the (precision, scale) that an expression has as an exact number."""
    if isinstance(expr, Const) and isinstance(expr.value, int) and expr.type.is_integer:
        return len(str(abs(expr.value))), 0
    return type_digits(expr.type)


def type_digits(ft: FieldType) -> tuple[int, int]:
    """Returns the (precision, scale) that values of a type have as exact numbers."""
    if ft.tp == Tp.NEWDECIMAL:
        scale = max(ft.decimal, 0)
        return (ft.flen if ft.flen > 0 else 65), scale
    if ft.tp in _INT_DIGITS:
        return _INT_DIGITS[ft.tp] + (1 if ft.unsigned and ft.tp == Tp.LONGLONG else 0), 0
    if ft.tp == Tp.DATE:
        return 8, 0
    if ft.tp in (Tp.DATETIME, Tp.TIMESTAMP):
        return 14 + fsp(ft), fsp(ft)
    if ft.tp == Tp.DURATION:
        return 7 + fsp(ft), fsp(ft)
    if ft.tp in (Tp.ENUM, Tp.SET, Tp.NULL):
        return (20 if ft.tp == Tp.SET else 5 if ft.tp == Tp.ENUM else 1), 0
    return 65, MAX_SCALE


def numeric_type(expr: Expr) -> FieldType:
    """Returns the type an operand of arithmetic is evaluated in: an integer, a decimal or DOUBLE."""
    ft = expr.type
    match kind(ft):
        case "int" | "decimal" | "real":
            return ft
        case "time" | "duration":
            precision, scale = type_digits(ft)
            return decimal_type(precision, scale) if scale else BIGINT
        case "null":
            return BIGINT
        case _:
            return UBIGINT if ft.tp == Tp.SET else BIGINT if ft.tp == Tp.ENUM else DOUBLE


def as_decimal(expr: Expr) -> FieldType:
    """Returns the DECIMAL type that holds the expression's numeric value exactly."""
    ft = numeric_type(expr)
    if ft.is_decimal:
        return ft
    precision, scale = digits(expr) if ft is expr.type else type_digits(ft)
    return decimal_type(precision, scale, unsigned=ft.unsigned)


def gives_way(expr: Expr) -> bool:
    """True for what is computed of literals, parameters, numbers and times alone: its collation is nobody's choice.

    A text with another collation than a literal's was computed from one that COLLATE gave it to.
    """
    if isinstance(expr, Call):
        return not explicit_collation(expr) and all(map(gives_way, expr.args))
    if isinstance(expr, Const) and expr.type.is_text:
        return expr.type.collate in ("", TEXT_COLLATE)
    if isinstance(expr, Column):
        return expr.type.is_numeric or expr.type.is_temporal
    return isinstance(expr, Const | Param | Context)


def explicit_collation(expr: Expr) -> bool:
    """Whether COLLATE says how the text compares: a cast that changes nothing else, which no other is."""
    if not isinstance(expr, Call) or expr.func != "cast" or not expr.type.is_text:
        return False
    return expr.args[0].type.with_(collate=expr.type.collate) == expr.type


_OF_TWO = frozenset({"like", "regexp", "regexp_like", "regexp_instr", "regexp_substr"})
"""What compares its first two arguments, whatever else there is."""


def with_one_collation(name: str, args: Sequence[Expr], *, comparing: bool) -> Sequence[Expr]:
    """Gives the collation that COLLATE names in one argument to the others.

    Raises ResolveError 1267 (1270 of three, 1271 of more) where two are named, and where values are compared and it is
    not clear how: columns differ, or a text was made of columns that do.
    """
    texts = [a for a in args if a.type.is_string and not a.type.is_binary]
    if all(a.type.collate in ("", TEXT_COLLATE) and not isinstance(a, Call) for a in texts):
        return args
    named = {a.type.collate for a in texts if explicit_collation(a)}
    if len(named) > 1:
        raise _mixed([a for a in texts if explicit_collation(a)], name)
    among = [] if _are_numbers_compared(name, args) else texts
    if not named and comparing and len(among) > 1 and (any(map(undecided, texts)) or _do_not_mix(args, texts)):
        raise _mixed(texts[:2] if name in _OF_TWO else texts, name)
    if len(named) != 1:
        return args
    (collate,) = named
    return [a if a not in texts or a.type.collate == collate else _given(a, collate) for a in args]


def _do_not_mix(args: Sequence[Expr], texts: Sequence[Expr]) -> bool:
    """Whether the collations of texts differ, and no argument is of bytes, as which all are compared then."""
    return _differ(texts) and not any(map(gives_bytes, args))


def _are_numbers_compared(name: str, args: Sequence[Expr]) -> bool:
    """Whether a number among what is compared makes numbers of the texts."""
    if name == " IN ":
        return args[0].type.is_numeric
    return name in ("between", "field") and any(a.type.is_numeric for a in args)


def undecided(expr: Expr) -> bool:
    """Whether text was made of texts whose collations differ: it has `_bin`, and compares with nothing."""
    if not isinstance(expr, Call) or not expr.type.is_text or explicit_collation(expr):
        return False
    texts = [a for a in expr.args if a.type.is_text]
    return any(map(undecided, texts)) or (not any(map(explicit_collation, texts)) and _differ(texts))


def _differ(texts: Sequence[Expr]) -> bool:
    """Whether columns among texts have different collations before one has `_bin`, which prevails over one other."""
    first = ""
    for text in texts:
        collate = text.type.collate or TEXT_COLLATE
        if gives_way(text) or first in (collate, TEXT_COLLATE):
            continue
        if first and collate != TEXT_COLLATE:
            return True
        first = collate
    return False


def _mixed(texts: Sequence[Expr], name: str) -> ResolveError:
    told = [f"({TEXT_COLLATE if undecided(a) else collation_of(a)},{_derivation(a)})" for a in texts]
    if len(told) > 3:
        return ResolveError(f"Illegal mix of collations for operation '{name}'", code=1271, sqlstate="HY000")
    listed, code = (" and ".join(told), 1267) if len(told) == 2 else (", ".join(told), 1270)
    return ResolveError(f"Illegal mix of collations {listed} for operation '{name}'", code=code, sqlstate="HY000")


def _derivation(text: Expr) -> str:
    """Whose choice a text's collation is, as messages call it."""
    if explicit_collation(text):
        return "EXPLICIT"
    return "NONE" if undecided(text) else "COERCIBLE" if gives_way(text) else "IMPLICIT"


def need_collation(name: str, text: Expr) -> None:
    """Raises ResolveError 1267 for a text whose values are to be compared with each other, and compare with nothing."""
    if undecided(text):
        raise _mixed((text, text), name)


def by_connection(args: Sequence[Expr]) -> Sequence[Expr]:
    """Gives texts that are compared, and whose collation is nobody's choice, that of the connection."""
    chosen = connection_collation()
    if chosen == TEXT_COLLATE or any(a.type.is_string and (a.type.is_binary or not gives_way(a)) for a in args):
        return args
    texts = [a for a in args if a.type.is_text]
    return [_given(a, chosen) if a.type.is_text else a for a in args] if len(texts) > 1 else args


def collation_of(expr: Expr) -> str:
    """By which collation a text compares, where nothing else says so; nothing for what is no text."""
    if not expr.type.is_text:
        return ""
    return connection_collation() if gives_way(expr) else expr.type.collate


def collated(expr: Expr, collate: str) -> Expr:
    """What COLLATE makes of a text, or of the text of an ENUM or SET."""
    if not expr.type.is_text:
        expr = Call("cast", (expr,), TEXT.with_(collate=expr.type.collate))
    return Call("cast", (expr,), expr.type.with_(collate=collate))


def _given(expr: Expr, collate: str) -> Expr:
    return Const(expr.value, expr.type.with_(collate=collate)) if isinstance(expr, Const) else collated(expr, collate)


def collate_type(args: Sequence[Expr]) -> FieldType:
    """Returns the string type (charset and collation) that string arguments have together."""
    if any(map(gives_bytes, args)):
        return BYTES
    strings = [a for a in args if a.type.is_string]
    among = {a.type.collate or TEXT_COLLATE for a in strings if not gives_way(a)} or {
        a.type.collate or TEXT_COLLATE for a in strings
    }
    return TEXT.with_(collate=among.pop()) if len(among) == 1 else TEXT


def gives_bytes(arg: Expr) -> bool:
    """Whether an argument where a string is wanted is one of bytes: a binary string, or bits."""
    return (arg.type.is_string and arg.type.is_binary) or arg.type.tp == Tp.BIT


def comparable(a: FieldType, b: FieldType) -> FieldType:
    """Returns the type in which MySQL compares values of the two types (neither taken as a constant)."""
    ka, kb = kind(a), kind(b)
    if ka == "null" or kb == "null":
        return b if ka == "null" else a
    pair = {ka, kb}
    if "json" in pair:
        return JSON
    if pair == {"string"}:
        return BYTES if a.is_binary or b.is_binary else TEXT.with_(collate=_bin_first(a.collate, b.collate))
    if pair == {"int"}:
        if a.unsigned == b.unsigned:
            return a if a.tp == b.tp else (UBIGINT if a.unsigned else BIGINT)
        return decimal_type(20, 0)
    if pair <= {"int", "decimal"}:
        return _wider_decimal(type_digits(a), type_digits(b))
    if pair <= {"time", "duration", "string"}:
        return _comparable_temporal(a, b)
    if {a.tp, b.tp} & {Tp.ENUM, Tp.SET} and pair <= {"string", "int"}:
        return UBIGINT if Tp.SET in (a.tp, b.tp) else BIGINT
    return DOUBLE


def _bin_first(a: str, b: str) -> str:
    return TEXT_COLLATE if TEXT_COLLATE in (a, b) or not a else a


def _comparable_temporal(a: FieldType, b: FieldType) -> FieldType:
    if kind(a) == kind(b) == "duration" or {kind(a), kind(b)} == {"duration", "string"}:
        return DURATION.with_(decimal=6 if "string" in (kind(a), kind(b)) else max(fsp(a), fsp(b)))
    if a.tp == b.tp == Tp.DATE:
        return DATE
    if {kind(a), kind(b)} == {"time", "string"}:
        return DATETIME.with_(decimal=6, flen=26)
    frac = max(fsp(a), fsp(b))
    return DATETIME.with_(decimal=frac, flen=19 + (frac + 1 if frac else 0))


def _wider_decimal(a: tuple[int, int], b: tuple[int, int]) -> FieldType:
    scale = max(a[1], b[1])
    return decimal_type(max(a[0] - a[1], b[0] - b[1]) + scale, scale)


def refine(const: Const, other: FieldType) -> Const | None:
    """Returns a constant in the type of the column it is compared with, where that changes no outcome; else None."""
    value = const.value
    if value is None or kind(const.type) == kind(other) or const.type.is_binary:
        return None
    okind = kind(other)
    if isinstance(value, str) and const.type.is_text:
        if okind in ("int", "decimal"):
            number = convert.exact_number(value)
            if number is None:
                return None
            if number == int(number):
                return Const(int(number), BIGINT if abs(number) < 2**63 else decimal_type(65, 0))
            return Const(number, decimal_type(len(number.as_tuple().digits) + 1, -int(number.as_tuple().exponent)))
        if okind == "time":
            before = datetime.min if _BEFORE_DATES.match(value) else None
            return _refine_temporal(convert.parse_datetime(value) or before, other)
        if okind == "duration":
            td = convert.parse_duration(value)
            return None if td is None else Const(td, DURATION.with_(decimal=6 if td.microseconds else 0))
    if isinstance(value, int) and okind == "time":
        return _refine_temporal(convert.int_to_datetime(value), other)
    return None


_BEFORE_DATES = re.compile(r"\s*0000-\d\d?-\d\d?(?:[ T:]|\s*$)")
"""Dates of the year 0, as '0000-00-00', which no value can be: they are compared as the earliest one."""


def _refine_temporal(dt: object, other: FieldType) -> Const | None:
    if not isinstance(dt, datetime):
        return None
    if other.tp == Tp.DATE and dt.time() == datetime.min.time():
        return Const(dt.date(), DATE)
    frac = 6 if dt.microsecond else 0
    return Const(dt, DATETIME.with_(decimal=frac, flen=26 if frac else 19))


def unify(types: Iterable[FieldType]) -> FieldType:
    """Returns the type that holds all of the types' values: UNION, CASE, COALESCE, IF."""
    result: FieldType | None = None
    for ft in types:
        if ft.tp == Tp.NULL:
            continue
        result = ft if result is None else _unify2(result, ft)
    return NULL if result is None else result


def _unify2(a: FieldType, b: FieldType) -> FieldType:
    if a == b:
        return a
    ka, kb = kind(a), kind(b)
    pair = {ka, kb}
    if pair == {"int"}:
        return _unify_ints(a, b)
    if pair <= {"int", "decimal"}:
        return _wider_decimal(type_digits(a), type_digits(b))
    if pair <= {"int", "decimal", "real"}:
        return FLOAT if a.tp == b.tp == Tp.FLOAT else DOUBLE
    if pair == {"time"}:
        if a.tp == b.tp == Tp.DATE:
            return a
        frac = max(fsp(a), fsp(b))
        tp = a.tp if a.tp == b.tp else Tp.DATETIME
        return FieldType(tp, 19 + (frac + 1 if frac else 0), frac)
    if pair == {"duration"}:
        frac = max(fsp(a), fsp(b))
        return FieldType(Tp.DURATION, 10 + (frac + 1 if frac else 0), frac)
    if pair == {"time", "duration"}:
        frac = max(fsp(a), fsp(b))
        return DATETIME.with_(decimal=frac, flen=19 + (frac + 1 if frac else 0))
    if pair == {"json"}:
        return JSON
    return _unify_strings(a, b)


def _unify_ints(a: FieldType, b: FieldType) -> FieldType:
    wide = a if _INT_WIDTH[a.tp] >= _INT_WIDTH[b.tp] else b
    narrow = b if wide is a else a
    if wide.tp in (Tp.YEAR, Tp.BIT) and a.tp != b.tp:
        wide = BIGINT.with_(unsigned=wide.unsigned or wide.tp == Tp.BIT)
    if a.unsigned == b.unsigned:
        return wide.with_(flen=max(a.flen, b.flen))
    unsigned = a if a.unsigned else b
    if unsigned.tp == Tp.LONGLONG:
        return decimal_type(20, 0)
    if narrow.unsigned and _INT_WIDTH[narrow.tp] < _INT_WIDTH[wide.tp]:
        return wide
    return BIGINT


def _unify_strings(a: FieldType, b: FieldType) -> FieldType:
    if a.is_binary or b.is_binary or Tp.BIT in (a.tp, b.tp):
        return BYTES
    flen = UNSPECIFIED if UNSPECIFIED in (a.flen, b.flen) or not (a.is_text and b.is_text) else max(a.flen, b.flen)
    base = a if a.is_string else b
    return TEXT.with_(flen=flen, collate=base.collate or TEXT_COLLATE)
