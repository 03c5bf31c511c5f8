"""Storing a Python value into a column: MySQL's assignment conversion, compiled per column.

`compile_caster` gives a function from whatever Python value a client hands over to the Python value of the column's
type. A value that is right already costs one check. In strict mode what does not fit raises with MySQL's code and
message; else it is clipped, and a warning goes to the callback. None passes through: NOT NULL is the caller's to check.
A TIMESTAMP stays in the session's zone (`TableCodec.utc_row` takes it to UTC); its range is checked in UTC.
"""

from __future__ import annotations

import datetime as dt
import math
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, Protocol

from coprocessor.codec import json_binary
from coprocessor.codec.collation import member_key
from coprocessor.codec.datum import decimal_shape
from coprocessor.codec.decimals import CONTEXT
from coprocessor.codec.temporal import to_utc
from coprocessor.convert import INT_BITS, YEAR_MAX, YEAR_MIN, int_bounds, is_short_year
from coprocessor.convert_text import (
    MAX_DURATION,
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
from coprocessor.errors import DataTooLong, InvalidArgument, OutOfRange, Truncated, Unsupported
from coprocessor.schema import ColumnSchema
from coprocessor.types import BLOB_TPS, STRING_TPS, UNSPECIFIED, Tp

Warn = Callable[[int, str], None]

BLOB_BYTES_MAX = {
    Tp.TINY_BLOB: (1 << 8) - 1,
    Tp.BLOB: (1 << 16) - 1,
    Tp.MEDIUM_BLOB: (1 << 24) - 1,
    Tp.LONG_BLOB: (1 << 32) - 1,
}
FLOAT_MAX = 3.4028234663852886e38
TIMESTAMP_MIN = dt.datetime(1970, 1, 1, 0, 0, 1)
TIMESTAMP_MAX = dt.datetime(2038, 1, 19, 3, 14, 7, 999999)

_FLOAT32 = struct.Struct("<f")


class Caster(Protocol):
    """From any Python value to the column's; `row` is the row number that messages name."""

    def __call__(self, value: Any, row: int = 1, /) -> Any: ...


class _Target:
    """The column that a caster serves: its name for messages, and what happens to a value that does not fit."""

    __slots__ = ("name", "strict", "type", "tz", "warn")

    def __init__(self, column: ColumnSchema, strict: bool, warn: Warn | None, tz: dt.tzinfo | None) -> None:
        self.name = column.name
        self.type = column.type
        self.strict = strict
        self.warn = warn
        self.tz = tz

    def out_of_range(self, row: int) -> None:
        message = f"Out of range value for column '{self.name}' at row {row}"
        if self.strict:
            raise OutOfRange(message)
        self._warn(1264, message)

    def too_long(self, row: int) -> None:
        message = f"Data too long for column '{self.name}' at row {row}"
        if self.strict:
            raise DataTooLong(message)
        self._warn(1265, f"Data truncated for column '{self.name}' at row {row}")

    def truncated(self, row: int) -> None:
        message = f"Data truncated for column '{self.name}' at row {row}"
        if self.strict:
            raise Truncated(message)
        self._warn(1265, message)

    def incorrect(self, kind: str, shown: Any, row: int) -> None:
        code = 1292 if kind in ("date", "datetime", "time") else 1366
        message = f"Incorrect {kind} value: '{_shown(shown)}' for column '{self.name}' at row {row}"
        if self.strict:
            raise Truncated(message, code=code)
        self._warn(code, message)

    def refuse(self, value: Any) -> NoReturn:
        raise InvalidArgument(f"cannot store a Python {type(value).__name__} into column '{self.name}'")

    def _warn(self, code: int, message: str) -> None:
        if self.warn is not None:
            self.warn(code, message)


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "".join(f"\\x{byte:02X}" if byte >= 0x80 else chr(byte) for byte in value[:64])
    return text_of(value)


def text_of(value: Any) -> str:
    """Returns a scalar as MySQL prints it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return float_to_str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.datetime):
        return format_datetime(value, 6 if value.microsecond else 0)
    if isinstance(value, dt.timedelta):
        return format_duration(value, 6 if value.microseconds else 0)
    if isinstance(value, dt.time):
        return text_of(_time_of_day(value))
    return str(value)


def _time_of_day(value: dt.time | dt.datetime) -> dt.timedelta:
    return dt.timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)


def _plain(value: Any) -> Any:
    """Takes the wrapping off a value: numpy scalars, bool, bytearray, memoryview and str, int and other subclasses."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if type(value).__module__ == "numpy":
        item = value.item()
        return int(item) if isinstance(item, bool) else item
    return value


def compile_caster(
    column: ColumnSchema, *, strict: bool = True, warn: Warn | None = None, tz: dt.tzinfo | None = None
) -> Caster:
    """Returns the assignment conversion of a column: (value, row number) -> stored value.

    Takes int, float, Decimal, str, bytes, bool, date, datetime (aware ones are brought to zone `tz`), timedelta, time
    and None. Raises OutOfRange (1264), DataTooLong (1406), Truncated (1265, 1292, 1366) or InvalidArgument in strict
    mode.
    """
    target = _Target(column, strict, warn, tz)
    tp = column.type.tp
    if tp == Tp.YEAR:
        return _year_caster(target)
    if tp == Tp.BIT:
        return _bit_caster(target)
    if tp in INT_BITS:
        return _int_caster(target)
    if tp == Tp.NEWDECIMAL:
        return _decimal_caster(target)
    if tp in (Tp.FLOAT, Tp.DOUBLE):
        return _float_caster(target)
    if tp in STRING_TPS:
        return _bytes_caster(target) if column.type.is_binary else _text_caster(target)
    if tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP):
        return _date_caster(target) if tp == Tp.DATE else _datetime_caster(target)
    if tp == Tp.DURATION:
        return _duration_caster(target)
    if tp in (Tp.ENUM, Tp.SET):
        return _member_caster(target)
    if tp == Tp.JSON:
        return _json_caster(target)
    raise Unsupported(f"columns of type {tp.name} cannot be stored")


def cast_for_column(
    value: Any,
    column: ColumnSchema,
    *,
    strict: bool = True,
    warn: Warn | None = None,
    tz: dt.tzinfo | None = None,
    row: int = 1,
) -> Any:
    """Converts one value; `compile_caster` is the form for many."""
    return compile_caster(column, strict=strict, warn=warn, tz=tz)(value, row)


# Numbers


def _number(target: _Target, value: Any, kind: str, row: int) -> int | float | Decimal:
    """Reads any value as a number; text must be one to its end, or it is truncated."""
    value = _plain(value)
    if isinstance(value, int | float | Decimal):
        return value
    if isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        number, whole = number_prefix(text)
        if not whole:
            starts_with_digit = text.strip()[:1].isdigit() or number != 0
            if starts_with_digit:
                target.truncated(row)
            else:
                target.incorrect(kind, value, row)
        return number
    if isinstance(value, dt.datetime):
        number = Decimal(format_datetime(value).translate(_NO_PUNCTUATION))
        return number + Decimal(value.microsecond).scaleb(-6)
    if isinstance(value, dt.date):
        return value.year * 10000 + value.month * 100 + value.day
    if isinstance(value, dt.time):
        value = _time_of_day(value)
    if isinstance(value, dt.timedelta):
        return Decimal(format_duration(value, 6).translate(_NO_PUNCTUATION))
    return target.refuse(value)


_NO_PUNCTUATION = str.maketrans("", "", "-: ")


def _to_integer(target: _Target, value: Any, row: int) -> int:
    number = _number(target, value, "integer", row)
    if isinstance(number, int):
        return number
    if isinstance(number, float):
        if not math.isfinite(number):
            target.out_of_range(row)
            return 0 if math.isnan(number) else (1 << 64) * (1 if number > 0 else -1)
        # A double rounds half to even when it is stored into an integer, a decimal half away from zero.
        return round(number)
    if not number.is_finite():
        target.out_of_range(row)
        return 0
    return int(number.to_integral_value(context=CONTEXT, rounding="ROUND_HALF_UP"))


def _int_caster(target: _Target) -> Caster:
    low, high = int_bounds(target.type)

    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is int and low <= value <= high:
            return value
        if value is None:
            return None
        number = _to_integer(target, value, row)
        if low <= number <= high:
            return number
        target.out_of_range(row)
        return low if number < low else high

    return cast


def _year_caster(target: _Target) -> Caster:
    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is int and YEAR_MIN <= value <= YEAR_MAX:
            return value
        if value is None:
            return None
        if isinstance(value, dt.date):
            number = value.year
        else:
            number = _to_integer(target, value, row)
            if 0 < number < 100 or (number == 0 and isinstance(value, str) and is_short_year(value)):
                number += 2000 if number < 70 else 1900
        if number == 0 or YEAR_MIN <= number <= YEAR_MAX:
            return number
        target.out_of_range(row)
        return 0

    return cast


def _bit_caster(target: _Target) -> Caster:
    _, high = int_bounds(target.type)

    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is int and 0 <= value <= high:
            return value
        if value is None:
            return None
        value = _plain(value)
        if isinstance(value, str | bytes):
            number = int.from_bytes(value.encode() if isinstance(value, str) else value, "big")
        else:
            number = _to_integer(target, value, row)
        if 0 <= number <= high:
            return number
        target.too_long(row)
        return high

    return cast


def _decimal_caster(target: _Target) -> Caster:
    prec, frac = decimal_shape(target.type)
    unit = Decimal((0, (1,), -frac))
    limit = Decimal(10) ** (prec - frac)
    biggest = CONTEXT.subtract(limit, unit)  # the ambient context rounds to 28 digits
    least = Decimal(0).quantize(unit) if target.type.unsigned else CONTEXT.minus(biggest)
    quantize = CONTEXT.quantize

    def clip(number: Decimal, row: int) -> Decimal:
        target.out_of_range(row)
        return least if number.is_nan() or number < 0 else biggest

    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is not Decimal:
            if value is None:
                return None
            number = _number(target, value, "decimal", row)
            value = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
        try:
            fixed = quantize(value, unit)
            if least <= fixed <= biggest:
                return fixed if fixed else abs(fixed)
        except InvalidOperation:  # NaN too, which is in no order
            return clip(value, row)
        return clip(fixed, row)

    return cast


def _rounded(value: float, scale: int) -> float:
    """Rounds what is behind the point, as MySQL does for FLOAT(M,D): halves of the binary number to even."""
    if not math.isfinite(value):
        return value
    whole = math.floor(value)
    return float(whole + round((value - whole) * 10.0**scale) / 10.0**scale)


def _float_caster(target: _Target) -> Caster:
    single = target.type.tp == Tp.FLOAT
    unsigned = target.type.unsigned
    most = FLOAT_MAX if single else 1.7976931348623157e308
    scale = target.type.decimal
    if scale >= 0:
        most = min(most, 10.0 ** (target.type.flen - scale) - 10.0**-scale)

    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is not float:
            if value is None:
                return None
            number = _number(target, value, "double", row)
            try:
                value = float(number)
            except OverflowError:
                value = math.inf if number > 0 else -math.inf
        if scale >= 0:
            value = _rounded(value, scale)
        if not -most <= value <= most or (unsigned and value < 0):
            target.out_of_range(row)
            value = 0.0 if value != value or (unsigned and value < 0) else math.copysign(most, value)
        return _FLOAT32.unpack(_FLOAT32.pack(value))[0] if single else value

    return cast


# Strings


def _text_caster(target: _Target) -> Caster:
    type_ = target.type
    char = type_.tp == Tp.STRING
    if type_.tp in BLOB_TPS:
        return _long_text_caster(target)
    limit = type_.flen if type_.flen != UNSPECIFIED else (1 if char else 65535)

    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is not str:
            if value is None:
                return None
            value = _to_text(target, value, row)
        if char:
            value = value.rstrip(" ")
        if len(value) <= limit:
            return value
        if value[limit:].strip(" "):
            target.too_long(row)
        return value[:limit]

    return cast


def _long_text_caster(target: _Target) -> Caster:
    limit = BLOB_BYTES_MAX[target.type.tp]

    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is not str:
            if value is None:
                return None
            value = _to_text(target, value, row)
        # Four bytes a character at most: only a long text has to be counted.
        if len(value) * 4 <= limit or len(value.encode()) <= limit:
            return value
        target.too_long(row)
        return value.encode()[:limit].decode("utf-8", "ignore")

    return cast


def _to_text(target: _Target, value: Any, row: int) -> str:
    value = _plain(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            target.incorrect("string", value[error.start :], row)
            return value[: error.start].decode()
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = _naive(value, target.tz)
    if isinstance(value, str | int | float | Decimal | dt.date | dt.time | dt.timedelta):
        return text_of(value)
    return target.refuse(value)


def _bytes_caster(target: _Target) -> Caster:
    type_ = target.type
    limit = BLOB_BYTES_MAX.get(type_.tp, type_.flen if type_.flen != UNSPECIFIED else 65535)
    fixed = type_.tp == Tp.STRING
    if fixed and type_.flen == UNSPECIFIED:
        limit = 1

    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is not bytes:
            if value is None:
                return None
            value = _plain(value)
            if not isinstance(value, bytes):
                value = _to_text(target, value, row).encode()
        if len(value) > limit:
            target.too_long(row)
            return value[:limit]
        return value.ljust(limit, b"\x00") if fixed else value

    return cast


# Dates and times


def _naive(value: dt.datetime, tz: dt.tzinfo | None) -> dt.datetime:
    return value.astimezone(tz or dt.UTC).replace(tzinfo=None)


def _to_datetime(target: _Target, value: Any) -> dt.datetime | None:
    """Reads any value as a naive datetime; None when it is none (zero dates among them)."""
    value = _plain(value)
    if isinstance(value, dt.datetime):
        return _naive(value, target.tz) if value.tzinfo is not None else value
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return parse_datetime(value)
    if isinstance(value, int | float | Decimal):
        return _number_to_datetime(value)
    if isinstance(value, dt.time | dt.timedelta):
        return None
    return target.refuse(value)


def _number_to_datetime(value: float | Decimal) -> dt.datetime | None:
    exact = value if isinstance(value, Decimal) else Decimal(repr(value)) if isinstance(value, float) else None
    if exact is None:
        return int_to_datetime(int(value))
    if not exact.is_finite():
        return None
    whole = int_to_datetime(int(exact))
    micros = int((exact % 1).scaleb(6).to_integral_value())
    return None if whole is None else whole + dt.timedelta(microseconds=micros)


def _date_caster(target: _Target) -> Caster:
    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is dt.date or value is None:
            return value
        moment = _to_datetime(target, value)
        if moment is None:
            target.incorrect("date", value, row)
            return None
        return moment.date()

    return cast


def _datetime_caster(target: _Target) -> Caster:
    fsp = max(target.type.decimal, 0)
    stamp = target.type.tp == Tp.TIMESTAMP

    def cast(value: Any, row: int = 1, /) -> Any:
        if value.__class__ is dt.datetime and value.tzinfo is None:
            moment: dt.datetime | None = value
        elif value is None:
            return None
        else:
            moment = _to_datetime(target, value)
        if moment is not None:
            moment = round_datetime(moment, fsp)
            if not stamp or _is_timestamp(moment, target.tz):
                return moment
        target.incorrect("datetime", value, row)
        return None

    return cast


def _is_timestamp(moment: dt.datetime, tz: dt.tzinfo | None) -> bool:
    try:
        return TIMESTAMP_MIN <= to_utc(moment, tz) <= TIMESTAMP_MAX
    except OverflowError:
        return False


def _duration_caster(target: _Target) -> Caster:
    fsp = max(target.type.decimal, 0)

    def cast(value: Any, row: int = 1, /) -> Any:
        if value is None:
            return None
        span = value if value.__class__ is dt.timedelta else _to_duration(target, value)
        if span is None:
            target.incorrect("time", value, row)
            return None
        span = round_duration(span, fsp)
        if -MAX_DURATION <= span <= MAX_DURATION:
            return span
        target.incorrect("time", value, row)
        return MAX_DURATION if span > MAX_DURATION else -MAX_DURATION

    return cast


def _to_duration(target: _Target, value: Any) -> dt.timedelta | None:
    value = _plain(value)
    if isinstance(value, dt.timedelta):
        return value
    if isinstance(value, dt.datetime | dt.time):
        return _time_of_day(value)
    if isinstance(value, dt.date):
        return dt.timedelta()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float | Decimal):
        exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        return int_to_duration(exact) if exact.is_finite() else None
    return target.refuse(value)


# ENUM, SET and JSON


def _member_caster(target: _Target) -> Caster:
    elems = target.type.elems
    key = member_key(target.type.collate)
    by_name = {key(elem): elem for elem in reversed(elems)}
    exact = frozenset(elems)
    is_enum = target.type.tp == Tp.ENUM

    def from_text(text: str) -> str | None:
        if is_enum:
            found = by_name.get(key(text))
            return _by_number(int(text)) if found is None and text.strip().isdecimal() else found
        members = [by_name.get(key(part)) for part in text.split(",")] if text else []
        chosen = frozenset(members)
        return None if None in chosen else ",".join(elem for elem in elems if elem in chosen)

    def _by_number(number: int) -> str | None:
        if is_enum:
            return elems[number - 1] if 0 < number <= len(elems) else None
        if not 0 <= number < 1 << len(elems):
            return None
        return ",".join(elem for i, elem in enumerate(elems) if number >> i & 1)

    def cast(value: Any, row: int = 1, /) -> Any:
        if value is None or (value in exact if value.__class__ is str else False):
            return value
        plain = _plain(value)
        if isinstance(plain, int | float | Decimal):
            found = _by_number(_to_integer(target, plain, row))
        else:
            found = from_text(_to_text(target, plain, row))
        if found is None:
            target.truncated(row)
            return ""
        return found

    return cast


def _json_caster(target: _Target) -> Caster:
    def cast(value: Any, row: int = 1, /) -> Any:
        if value is None:
            return None
        value = _plain(value)
        if isinstance(value, bytes):
            value = _to_text(target, value, row)
        if isinstance(value, str):
            try:
                return json_binary.normalise(value)
            except InvalidArgument as error:
                raise InvalidArgument(
                    f"{error} in value for column '{target.name}'", code=error.code, sqlstate=error.sqlstate
                ) from None
        if isinstance(value, dict | list | int):
            return json_binary.dump(value)
        if isinstance(value, float | Decimal) and math.isfinite(value):
            return json_binary.normalise(text_of(value)) if isinstance(value, Decimal) else json_binary.dump(value)
        if isinstance(value, dt.date | dt.time | dt.timedelta):
            return json_binary.dump(text_of(value))
        return target.refuse(value)

    return cast
