"""Values as text: one converter per column, MySQL's spelling for people and flat files, JSON's for JSON.

| Python value | text | JSON |
|---|---|---|
| int, Decimal | all digits | number with all digits |
| float | shortest digits that read back the same | number; NaN and infinities as strings |
| bytes | 0x and hexadecimal digits | the same, as a string |
| date, datetime | 2013-01-31, 2013-01-31 17:05:00 | the same, with a T between date and time |
| timedelta (TIME) | -838:59:59.5 | the same |
| str | itself | string; a JSON column is put in as it is |
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

Row = Sequence[object]
Converter = Callable[[object], str]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result as the shell sees it; `fraction` is the digits of a second that its type has, or those
    behind the point that a FLOAT(M,D) or DOUBLE(M,D) shows, if known.
    """

    name: str
    numeric: bool = False
    fraction: int | None = None
    single: bool = False  # FLOAT: four bytes, about seven digits
    json: bool = False


def time_text(value: timedelta, fraction: int | None = None) -> str:
    """Returns a TIME as hours, which may pass 24 and be negative, minutes and seconds."""
    micros = (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, micros = divmod(micros, 1_000_000)
    hours, seconds = divmod(seconds, 3600)
    text = f"{sign}{hours:02d}:{seconds // 60:02d}:{seconds % 60:02d}"
    return text + _fraction_text(micros, fraction)


def datetime_text(value: datetime, fraction: int | None = None, separator: str = " ") -> str:
    """Returns a date and time, with as many digits of a second as the type has, or as the value needs."""
    text = value.replace(microsecond=0).isoformat(separator)
    cut = text.find("+", 10)
    zone = text[cut:] if cut > 0 else ""
    return text[: len(text) - len(zone)] + _fraction_text(value.microsecond, fraction) + zone


def _fraction_text(micros: int, fraction: int | None) -> str:
    digits = 6 if fraction is None and micros else (fraction or 0)
    return f".{micros:06d}"[: digits + 1] if digits else ""


def _float_text(value: float) -> str:
    text = repr(value)
    return text[:-2] if text.endswith(".0") else text.replace("e+", "e")


def _single(value: float) -> str:
    """Returns the shortest digits that give the same four-byte float."""
    import struct

    if not math.isfinite(value):
        return repr(value)
    for digits in range(6, 10):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            break
    return repr(float(text))


def _decimal_text(value: Decimal) -> str:
    return format(value, "f")


def _bytes_text(value: bytes) -> str:
    return "0x" + value.hex().upper()


_TEXT: dict[type, Callable[..., str]] = {
    str: str,
    int: str,
    bool: lambda value: str(int(value)),
    float: _float_text,
    Decimal: _decimal_text,
    bytes: _bytes_text,
    bytearray: _bytes_text,
    memoryview: lambda value: _bytes_text(bytes(value)),
    date: date.isoformat,
    datetime: datetime_text,
    timedelta: time_text,
    time: time.isoformat,
}


_encode_string = json.JSONEncoder(ensure_ascii=False).encode


def text_converter(column: Column, null: str) -> Converter:
    """Returns the function that makes a column's values text, `null` for NULL."""
    fraction, single = column.fraction, column.single

    def convert(value: object) -> str:
        if value is None:
            return null
        kind = type(value)
        if kind is float and fraction is not None:
            return f"{value:.{fraction}f}"
        if kind is float and single:
            text = _single(value)  # type: ignore[arg-type]
            return text[:-2] if text.endswith(".0") else text.replace("e+", "e")
        if fraction is not None:
            if kind is datetime:
                return datetime_text(value, fraction)  # type: ignore[arg-type]
            if kind is timedelta:
                return time_text(value, fraction)  # type: ignore[arg-type]
        return _TEXT.get(kind, str)(value)

    return convert


def text_columns(
    columns: Sequence[Column], batch: Sequence[Row], null: str, escape: Callable[[str], str]
) -> list[Sequence[str]]:
    """Returns a batch as one sequence of texts per column; `escape` is applied to what may need it, not to `null`.

    A column whose values are of one type, as nearly all are, is converted by one call that runs in C.
    """
    return [
        _text_column(column, values, null, escape)
        for column, values in zip(columns, zip(*batch, strict=True), strict=True)
    ]


def _text_column(column: Column, values: Sequence[object], null: str, escape: Callable[[str], str]) -> Sequence[str]:
    kinds = set(map(type, values))
    nullable = type(None) in kinds
    kinds.discard(type(None))
    kind = kinds.pop() if len(kinds) == 1 else None
    plain: Callable[[Any], str] | None = None
    if kind is str:
        plain = escape
    elif kind is int or kind is date or (kind is datetime and not column.fraction):
        plain = str
    elif kind is Decimal:
        plain = _decimal_text
    if plain is not None:
        return [null if v is None else plain(v) for v in values] if nullable else list(map(plain, values))
    convert = text_converter(column, null)
    return [null if v is None else escape(convert(v)) for v in values]


def json_string(text: str) -> str:
    """Returns a JSON string; DEL and C1 control characters are escaped too, which JSON allows and terminals need."""
    encoded = _encode_string(text)
    if not encoded.isprintable():
        encoded = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in encoded)
        encoded = encoded.replace("\x7f", "\\u007f")
    return encoded


def json_columns(columns: Sequence[Column], batch: Sequence[Row]) -> list[Sequence[str]]:
    """Returns a batch as one sequence of JSON values per column."""
    out: list[Sequence[str]] = []
    for column, values in zip(columns, zip(*batch, strict=True), strict=True):
        convert = str if set(map(type, values)) == {int} else json_converter(column)
        out.append(list(map(convert, values)))
    return out


def json_converter(column: Column) -> Converter:
    """Returns the function that makes a column's values JSON."""
    fraction, embedded, single = column.fraction, column.json, column.single

    def convert(value: object) -> str:
        if value is None:
            return "null"
        if isinstance(value, str):
            return value if embedded else json_string(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return str(value)
        if isinstance(value, Decimal):
            return format(value, "f")
        if isinstance(value, float):
            if not math.isfinite(value):
                return f'"{value}"'
            return _single(value) if single else repr(value)
        if isinstance(value, datetime):
            return f'"{datetime_text(value, fraction, "T")}"'
        if isinstance(value, timedelta):
            return f'"{time_text(value, fraction)}"'
        return json_string(_TEXT.get(type(value), str)(value))

    return convert
