"""PEP 249's type objects, constructors and type codes.

A type code is MySQL's column type number; bytes (BINARY, VARBINARY, BLOB) carry `BINARY_FLAG` on top, because MySQL
gives them the numbers of the text types. A type object equals every code of its kind: `cur.description[0][1] ==
sqlfront.NUMBER`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from coprocessor.types import BLOB_TPS, INTEGER_TPS, STRING_TPS, FieldType, Tp

BINARY_FLAG = 0x100

Date = dt.date
Time = dt.time
Timestamp = dt.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> dt.date:
    """Returns the local date of a Unix time in seconds."""
    return dt.date.fromtimestamp(ticks)


def TimeFromTicks(ticks: float) -> dt.time:
    """Returns the local time of day of a Unix time in seconds."""
    return dt.datetime.fromtimestamp(ticks).time()


def TimestampFromTicks(ticks: float) -> dt.datetime:
    """Returns the local date and time of a Unix time in seconds."""
    return dt.datetime.fromtimestamp(ticks)


class TypeObject:
    """Equal to each type code of one kind of column."""

    __slots__ = ("_codes", "_name")

    def __init__(self, name: str, codes: Iterable[int]) -> None:
        self._name = name
        self._codes = frozenset(int(c) for c in codes)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TypeObject):
            return self._codes == other._codes
        return isinstance(other, int) and other in self._codes

    def __hash__(self) -> int:
        return hash(self._codes)

    def __contains__(self, code: int) -> bool:
        return code in self._codes

    def __repr__(self) -> str:
        return f"sqlfront.{self._name}"


STRING = TypeObject("STRING", {*STRING_TPS, Tp.ENUM, Tp.SET, Tp.JSON})
BINARY = TypeObject("BINARY", {tp | BINARY_FLAG for tp in STRING_TPS})
NUMBER = TypeObject("NUMBER", {*INTEGER_TPS, Tp.YEAR, Tp.BIT, Tp.NEWDECIMAL, Tp.FLOAT, Tp.DOUBLE})
DATETIME = TypeObject("DATETIME", {Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP, Tp.DURATION})
ROWID = TypeObject("ROWID", ())


def type_code(type_: FieldType) -> int:
    """Returns the type code of a column's type."""
    return type_.tp | BINARY_FLAG if type_.is_binary else int(type_.tp)


def type_name(code: int) -> str:
    """Returns a short SQL name of a type code, for people."""
    tp = Tp(code & ~BINARY_FLAG)
    if tp in BLOB_TPS:
        base = {Tp.TINY_BLOB: "TINY", Tp.MEDIUM_BLOB: "MEDIUM", Tp.LONG_BLOB: "LONG"}.get(tp, "")
        return base + ("BLOB" if code & BINARY_FLAG else "TEXT")
    if tp in STRING_TPS:
        fixed, varying = ("BINARY", "VARBINARY") if code & BINARY_FLAG else ("CHAR", "VARCHAR")
        return fixed if tp == Tp.STRING else varying
    return _NAMES.get(tp, tp.name)


_NAMES = {
    Tp.TINY: "TINYINT",
    Tp.SHORT: "SMALLINT",
    Tp.INT24: "MEDIUMINT",
    Tp.LONG: "INT",
    Tp.LONGLONG: "BIGINT",
    Tp.NEWDECIMAL: "DECIMAL",
    Tp.DURATION: "TIME",
}

Description = tuple[str, int, None, int | None, int | None, int | None, bool]


def describe(name: str, type_: FieldType, nullable: bool) -> Description:
    """Returns PEP 249's seven items: name, type code, display size, internal size, precision, scale, null_ok.

    Internal size is the declared length of strings; scale is a decimal's or a FLOAT(M,D)'s scale, or a
    temporal type's fraction digits.
    """
    size = type_.flen if type_.is_string and type_.flen >= 0 else None
    precision = type_.flen if type_.is_decimal and type_.flen >= 0 else None
    scale = type_.decimal if (type_.is_decimal or type_.is_real or type_.is_temporal) and type_.decimal >= 0 else None
    return (name, type_code(type_), None, size, precision, scale, nullable)
