"""Conversions between the Python values of SQL types: MySQL's implicit and explicit casts, and storing into a column.

`converter(src, dst)` makes the function behind CAST and behind every cast that `functions.resolve` inserts; it
warns, or raises while writing in strict mode, as MySQL does. The assignment conversion of INSERT and UPDATE, which
checks ranges and lengths, is `values.compile_caster`. Parsers and formatters of temporal and numeric text live in
`convert_text.py` and are re-exported here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, TypeAlias

from coprocessor.codec.collation import member_key
from coprocessor.convert_text import (
    MAX_DURATION,
    datetime_prefix,
    exact_number,
    float_prefix,
    float_to_str,
    format_datetime,
    format_duration,
    int_to_datetime,
    int_to_duration,
    number_prefix,
    parse_datetime,
    parse_duration,
    round_datetime,
    round_duration,
)
from coprocessor.env import Env
from coprocessor.errors import OutOfRange, Truncated
from coprocessor.types import FieldType, Tp

__all__ = [
    "CTX",
    "INT_BITS",
    "MAX_DURATION",
    "clamp_int",
    "converter",
    "exact_number",
    "float_prefix",
    "float_to_str",
    "format_datetime",
    "format_duration",
    "int_bounds",
    "int_to_datetime",
    "int_to_duration",
    "number_prefix",
    "parse_datetime",
    "parse_duration",
    "quantize",
    "to_text",
]

CTX = Context(prec=100, rounding=ROUND_HALF_UP, Emax=999999, Emin=-999999)
WIDE = Context(prec=800, rounding=ROUND_HALF_UP, Emax=999999, Emin=-999999)
"""For what may have all the digits of a DOUBLE: 309 before the point, 324 behind it."""
_EXP = tuple(Decimal(1).scaleb(-i) for i in range(66))
Convert: TypeAlias = Callable[[Env, Any], Any]

INT_BITS = {Tp.TINY: 8, Tp.SHORT: 16, Tp.INT24: 24, Tp.LONG: 32, Tp.LONGLONG: 64}
YEAR_MIN, YEAR_MAX = 1901, 2155
_TYPE_NAMES = {Tp.DATE: "date", Tp.DATETIME: "datetime", Tp.TIMESTAMP: "datetime", Tp.DURATION: "time"}


def quantize(value: Decimal, scale: int) -> Decimal:
    """Rounds half away from zero to `scale` digits after the point."""
    d = value.quantize(_EXP[scale], context=WIDE)
    return d if d else d.copy_abs()  # there is no negative zero


def int_bounds(ft: FieldType) -> tuple[int, int]:
    """Returns the lowest and highest value of an integer type (YEAR: without its 0)."""
    if ft.tp == Tp.BIT:
        return 0, (1 << (ft.flen if ft.flen > 0 else 1)) - 1
    if ft.tp == Tp.YEAR:
        return YEAR_MIN, YEAR_MAX
    bits = INT_BITS[ft.tp]
    return (0, (1 << bits) - 1) if ft.unsigned else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def complain(env: Env, code: int, message: str) -> None:
    """Warns of a lossy conversion; while writing in strict mode it is an error."""
    if env.writing and env.strict:
        if code == 1264:
            raise OutOfRange(message)
        raise Truncated(message, code=code)
    env.warn(code, message)


def clamp_int(env: Env, value: int, ft: FieldType) -> int:
    """Brings an integer into the range of BIGINT [UNSIGNED], with a warning."""
    low, high = (0, 2**64 - 1) if ft.unsigned else (-(2**63), 2**63 - 1)
    if low <= value <= high:
        return value
    complain(env, 1264, f"Out of range value: {value}")
    return low if value < low else high


def bytes_of_bits(value: int, ft: FieldType) -> bytes:
    """The bytes of a BIT(n) value, as a string has them."""
    return value.to_bytes((max(ft.flen, 1) + 7) // 8, "big")


def to_text(value: Any, ft: FieldType) -> str:
    """Returns the text of a value as MySQL prints it."""
    tp = ft.tp
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if tp in (Tp.DATETIME, Tp.TIMESTAMP):
        return format_datetime(value, max(ft.decimal, 0))
    if tp == Tp.DURATION:
        return format_duration(value, max(ft.decimal, 0))
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return f"{value:.{ft.decimal}f}" if ft.decimal >= 0 else float_to_str(value, single=tp == Tp.FLOAT)
    if tp == Tp.YEAR:
        return f"{value:04d}"
    return str(value)


def number_of(ft: FieldType) -> Convert:
    """Returns the conversion to a number (int, Decimal or float) that a non-numeric type takes in numeric context."""
    match ft.tp:
        case Tp.DATE:
            return lambda env, v: v.year * 10000 + v.month * 100 + v.day
        case Tp.DATETIME | Tp.TIMESTAMP:
            return lambda env, v: _datetime_number(v)
        case Tp.DURATION:
            return lambda env, v: _duration_number(v)
        case Tp.ENUM:
            index = {e: i for i, e in enumerate(ft.elems, 1)}
            return lambda env, v: index.get(v, 0)
        case Tp.SET:
            bit = {e: 1 << i for i, e in enumerate(ft.elems)}
            return lambda env, v: sum(bit.get(m, 0) for m in v.split(",")) if v else 0
        case Tp.JSON:
            return _json_number
        case _:
            return lambda env, v: v


def _datetime_number(v: datetime) -> int | Decimal:
    n = ((((v.year * 100 + v.month) * 100 + v.day) * 100 + v.hour) * 100 + v.minute) * 100 + v.second
    return n if not v.microsecond else n + Decimal(v.microsecond).scaleb(-6)


def _duration_number(v: timedelta) -> int | Decimal:
    micros = v // timedelta(microseconds=1)
    sign, micros = (-1, -micros) if micros < 0 else (1, micros)
    seconds, frac = divmod(micros, 1_000_000)
    n = seconds // 3600 * 10000 + seconds // 60 % 60 * 100 + seconds % 60
    return sign * n if not frac else sign * (n + Decimal(frac).scaleb(-6))


def _json_number(env: Env, v: str) -> int | float:
    parsed = json.loads(v)
    if isinstance(parsed, bool | int | float):
        return parsed if not isinstance(parsed, bool) else int(parsed)
    if isinstance(parsed, str):
        return _text_to_float(env, parsed)
    complain(env, 3156, "Invalid JSON value for CAST to DOUBLE")
    return 0


def _text(v: str | bytes) -> str:
    return v if isinstance(v, str) else v.decode("utf-8", "replace")


def _text_to_float(env: Env, v: str | bytes) -> float:
    text = _text(v)
    try:
        if text.isascii() and "_" not in text and text[-1:].isdigit() and text[:1] in "0123456789-+.":
            return _finite(env, float(text))
    except ValueError:
        pass  # not a plain number: its longest numeric prefix counts, below
    number, complete = float_prefix(text)
    if not complete:
        complain(env, 1292, f"Truncated incorrect DOUBLE value: '{text}'")
    return _finite(env, number)


def _finite(env: Env, v: float) -> float:
    if math.isinf(v):
        complain(env, 1264, "Out of range value for DOUBLE")
        return math.copysign(1.7976931348623157e308, v)
    return v


def _text_to_decimal(env: Env, v: str | bytes) -> Decimal:
    number, complete = number_prefix(_text(v))
    if not complete:
        complain(env, 1292, f"Truncated incorrect DECIMAL value: '{_text(v)}'")
    return number


def _text_to_int(env: Env, v: str | bytes) -> int:
    text = _text(v)
    stripped = text.strip()
    if stripped.isascii() and (stripped.isdigit() or (stripped[:1] in "+-" and stripped[1:].isdigit())):
        return int(stripped)
    number, complete = number_prefix(text, integer=True)
    if not complete:
        complain(env, 1292, f"Truncated incorrect INTEGER value: '{text}'")
    return int(number)


def _to_int(src: FieldType, dst: FieldType) -> Convert:
    unsigned = dst.unsigned

    def from_int(env: Env, v: int) -> int:
        if unsigned:
            return v & 0xFFFFFFFFFFFFFFFF if v < 0 else v
        return v - (1 << 64) if v > 0x7FFFFFFFFFFFFFFF else v

    if src.is_integer:
        return from_int
    if src.tp == Tp.NEWDECIMAL:
        return lambda env, v: clamp_int(env, int(quantize(v, 0)), dst)
    if src.is_real:
        return lambda env, v: _wrap(env, round(v) if math.isfinite(v) else 0, dst)
    if src.is_string and src.tp not in (Tp.ENUM, Tp.SET):
        if unsigned:
            return lambda env, v: _wrap(env, _text_to_int(env, v), dst)
        return lambda env, v: _wrap(env, _signed(env, _text_to_int(env, v)), dst)
    number = number_of(src)

    def via_number(env: Env, v: Any) -> int:
        n = number(env, v)
        if isinstance(n, Decimal):
            n = int(quantize(n, 0))
        return _wrap(env, round(n), dst)

    return via_number


def _signed(env: Env, value: int) -> int:
    """Text of an unsigned number is that number's complement when it is read as signed; more is the largest."""
    if value < 1 << 63:
        return value
    if value >= 1 << 64:
        complain(env, 1292, f"Truncated incorrect INTEGER value: '{value}'")
        return -1
    env.warn(1105, "Cast to signed converted positive out-of-range integer to its negative complement")
    return value - (1 << 64)


def _wrap(env: Env, value: int, dst: FieldType) -> int:
    """Negative numbers that are cast to UNSIGNED wrap round, as MySQL's do; others are clamped."""
    if dst.unsigned and -(2**63) <= value < 0:
        return value + (1 << 64)
    return clamp_int(env, value, dst)


def _to_decimal(src: FieldType, dst: FieldType) -> Convert:
    scale = max(dst.decimal, 0)
    limit = Decimal(10) ** (dst.flen - scale) if dst.flen > 0 else None
    exp = _EXP[scale]

    def fit(env: Env, d: Decimal) -> Decimal:
        d = quantize(d, scale)
        if limit is not None and not -limit < d < limit:
            complain(env, 1264, "Out of range value for DECIMAL")
            top = limit - exp
            d = top.quantize(exp, context=CTX) if d > 0 else -top.quantize(exp, context=CTX)
        return d

    if src.is_integer:
        return lambda env, v: fit(env, Decimal(v))
    if src.tp == Tp.NEWDECIMAL:
        return fit
    if src.is_real:
        return lambda env, v: fit(env, Decimal(repr(v)))
    if src.is_string and src.tp not in (Tp.ENUM, Tp.SET):
        return lambda env, v: fit(env, _text_to_decimal(env, v))
    number = number_of(src)
    return lambda env, v: fit(env, _as_decimal(number(env, v)))


def _as_decimal(n: int | float | Decimal) -> Decimal:
    return Decimal(repr(n)) if isinstance(n, float) else Decimal(n)


def _to_real(src: FieldType, dst: FieldType) -> Convert:
    single = dst.tp == Tp.FLOAT
    if src.is_string and src.tp not in (Tp.ENUM, Tp.SET):
        inner: Convert = _text_to_float
    elif src.is_numeric:
        inner = _float
    else:
        number = number_of(src)

        def inner(env: Env, v: Any) -> float:
            return float(number(env, v))

    if not single or src.tp == Tp.FLOAT:
        return inner
    return lambda env, v: to_single(inner(env, v))


def _float(env: Env, v: Any) -> float:
    return float(v)


def to_single(v: float) -> float:
    """Rounds to float32. Raises OutOfRange 1690."""
    import numpy as np

    with np.errstate(over="ignore"):
        single = float(np.float32(v))
    if math.isinf(single):
        raise OutOfRange(f"FLOAT value is out of range in 'cast({v} as float)'", code=1690)
    return single


def _to_str(src: FieldType, dst: FieldType) -> Convert:
    flen = dst.flen

    def cut(env: Env, text: str) -> str:
        if flen >= 0 and len(text) > flen:
            complain(env, 1292, f"Truncated incorrect CHAR({flen}) value: '{text}'")
            return text[:flen]
        return text

    if flen < 0:
        if src.is_text or src.tp in (Tp.ENUM, Tp.SET, Tp.JSON):
            return lambda env, v: v
        if src.tp == Tp.BIT:
            return lambda env, v: _text(bytes_of_bits(v, src))
        return lambda env, v: to_text(v, src)
    if src.tp == Tp.BIT:
        return lambda env, v: cut(env, _text(bytes_of_bits(v, src)))
    return lambda env, v: cut(env, to_text(v, src))


def _to_bytes(src: FieldType, dst: FieldType) -> Convert:
    flen = dst.flen
    fixed = dst.tp == Tp.STRING
    is_bits = src.tp == Tp.BIT

    def bits(v: int) -> bytes:
        return bytes_of_bits(v, src)

    def convert(env: Env, v: Any) -> bytes:
        raw = v if isinstance(v, bytes) else bits(v) if is_bits else to_text(v, src).encode()
        if flen >= 0:
            if len(raw) > flen:
                complain(env, 1292, f"Truncated incorrect BINARY({flen}) value")
                return raw[:flen]
            if fixed:
                return raw.ljust(flen, b"\0")
        return raw

    return convert


def _to_time(src: FieldType, dst: FieldType) -> Convert:
    """Conversions to DATE, DATETIME and TIMESTAMP; what is no date gives NULL and warning 1292."""
    as_date = dst.tp == Tp.DATE
    frac = max(dst.decimal, 0)

    def finish(env: Env, dt: datetime | None, v: Any) -> date | datetime | None:
        if dt is None:
            shown = v.decode("utf-8", "replace") if isinstance(v, bytes) else v
            complain(env, 1292, f"Incorrect {_TYPE_NAMES[dst.tp]} value: '{shown}'")
            return None
        return dt.date() if as_date else round_datetime(dt, frac)

    match src.tp:
        case Tp.DATE:
            return (lambda env, v: v) if as_date else (lambda env, v: datetime(v.year, v.month, v.day))
        case Tp.DATETIME | Tp.TIMESTAMP:
            if as_date:
                return lambda env, v: v.date()
            if frac >= max(src.decimal, 0):
                return lambda env, v: v
            return lambda env, v: round_datetime(v, frac)
        case Tp.DURATION:
            return lambda env, v: finish(env, _duration_to_datetime(env, v), v)
        case _ if src.is_integer:
            return lambda env, v: finish(env, int_to_datetime(v), v)
        case Tp.NEWDECIMAL | Tp.DOUBLE | Tp.FLOAT:
            return lambda env, v: finish(env, _number_to_datetime(v), v)
        case Tp.JSON:
            return lambda env, v: finish(env, parse_datetime(str(json.loads(v))), v)
        case _:
            return lambda env, v: finish(env, read_datetime(env, _text(v), _TYPE_NAMES[dst.tp]), v)


def read_datetime(env: Env, text: str, what: str = "datetime") -> datetime | None:
    """Reads a date, or date with time; what comes behind one is left out with warning 1292. None if there is none."""
    dt = parse_datetime(text)
    if dt is None:
        dt = datetime_prefix(text)
        if dt is not None:
            complain(env, 1292, f"Truncated incorrect {what} value: '{text}'")
    return dt


def _duration_to_datetime(env: Env, v: timedelta) -> datetime:
    try:
        base = env.context[("curdate",)]
    except KeyError:
        base = datetime.now(env.tz).date()
    assert isinstance(base, date)
    return datetime(base.year, base.month, base.day) + v


def _number_to_datetime(v: Decimal | float) -> datetime | None:
    d = _as_decimal(v)
    whole = int(d)
    dt = int_to_datetime(whole)
    return None if dt is None else dt + timedelta(microseconds=int(quantize((d - whole) * 1_000_000, 0)))


def _to_duration(src: FieldType, dst: FieldType) -> Convert:
    frac = max(dst.decimal, 0)

    def finish(env: Env, td: timedelta | None, v: Any) -> timedelta | None:
        if td is None:
            complain(env, 1292, f"Truncated incorrect time value: '{v}'")
            return None
        if abs(td) > MAX_DURATION:
            complain(env, 1292, f"Truncated incorrect time value: '{v}'")
            return MAX_DURATION if td > timedelta() else -MAX_DURATION
        return round_duration(td, frac)

    match src.tp:
        case Tp.DURATION:
            if frac >= max(src.decimal, 0):
                return lambda env, v: v
            return lambda env, v: round_duration(v, frac)
        case Tp.DATE:
            return lambda env, v: timedelta()
        case Tp.DATETIME | Tp.TIMESTAMP:
            return lambda env, v: round_duration(
                timedelta(hours=v.hour, minutes=v.minute, seconds=v.second, microseconds=v.microsecond), frac
            )
        case _ if src.is_numeric:
            return lambda env, v: finish(env, int_to_duration(_as_decimal(v)), v)
        case _:
            return lambda env, v: finish(env, parse_duration(_text(v)), v)


def _to_json(src: FieldType, dst: FieldType) -> Convert:
    from coprocessor.functions.json_value import dump_json, parse_json

    if src.tp == Tp.JSON:
        return lambda env, v: v
    if src.is_text:
        return lambda env, v: dump_json(parse_json(v))
    if src.tp == Tp.LONGLONG and src.flen == 1:
        return lambda env, v: "true" if v else "false"
    if src.tp == Tp.NEWDECIMAL:
        return lambda env, v: format(v, "f")
    if src.is_numeric:
        return lambda env, v: dump_json(v)
    shown = src if src.tp == Tp.DATE or not src.is_temporal else src.with_(decimal=6)  # all digits of a fraction
    return lambda env, v: dump_json(to_text(v, shown))


def _to_year(src: FieldType, dst: FieldType) -> Convert:
    inner = _to_int(src, dst)

    def convert(env: Env, v: Any) -> int | None:
        if isinstance(v, date):
            return v.year
        return year_of(env, inner(env, v), v)

    return convert


def is_short_year(text: str) -> bool:
    """Whether a zero in a text is the year 2000, as '0' is and '0000' is not; what is no number is the year 0."""
    text = text.strip()
    return len(text) < 4 and text.lstrip("+-")[:1].isdecimal()


def year_of(env: Env, n: int, shown: object) -> int | None:
    """Two-digit years are 1970-2069; 0 as a number is the year 0."""
    if 0 < n < 100:
        return n + (2000 if n < 70 else 1900)
    if n == 0 or YEAR_MIN <= n <= YEAR_MAX:
        return 2000 if n == 0 and isinstance(shown, str) and is_short_year(shown) else n
    complain(env, 1264, f"Out of range value: '{shown}'")
    return None


def converter(src: FieldType, dst: FieldType) -> Convert:
    """Returns the function (env, non-NULL value) → value of `dst`: CAST and implicit casts."""
    if dst.tp == Tp.YEAR:
        return _to_year(src, dst)
    if dst.is_integer:
        return _to_int(src, dst)
    if dst.tp == Tp.NEWDECIMAL:
        return _to_decimal(src, dst)
    if dst.is_real:
        return _to_real(src, dst)
    if dst.is_binary:
        return _to_bytes(src, dst)
    if dst.is_text:
        return _to_str(src, dst)
    if dst.tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
        return _to_time(src, dst)
    if dst.tp == Tp.DURATION:
        return _to_duration(src, dst)
    if dst.tp == Tp.JSON:
        return _to_json(src, dst)
    if dst.tp in (Tp.ENUM, Tp.SET):
        return _member(dst)
    return lambda env, v: None


def _member(dst: FieldType) -> Convert:
    """Conversion to ENUM or SET: by name, as the collation compares them, or by number."""
    key = member_key(dst.collate)
    by_name = {key(e): e for e in reversed(dst.elems)}
    enum = dst.tp == Tp.ENUM
    order = {e: i for i, e in enumerate(dst.elems)}

    def find(part: str) -> str | None:
        return by_name.get(key(part))

    def convert(env: Env, v: Any) -> str:
        if isinstance(v, int | float | Decimal):
            text = _by_number(dst, int(v))
        elif enum:
            text = find(_text(v))
        else:
            parts = [find(p) for p in _text(v).split(",")] if v else []
            text = (
                None if None in parts else ",".join(sorted({p for p in parts if p is not None}, key=order.__getitem__))
            )
        if text is None:
            complain(env, 1265, f"Data truncated: '{v}'")
            return ""
        return text

    return convert


def _by_number(dst: FieldType, n: int) -> str | None:
    if dst.tp == Tp.ENUM:
        return dst.elems[n - 1] if 0 < n <= len(dst.elems) else None
    if not 0 <= n < 1 << len(dst.elems):
        return None
    return ",".join(e for i, e in enumerate(dst.elems) if n >> i & 1)
