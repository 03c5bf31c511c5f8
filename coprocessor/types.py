"""SQL types: one table from MySQL type to Arrow type, DuckDB type and Python value.

| MySQL | Python value (row path) | Arrow | DuckDB |
|---|---|---|---|
| TINYINT … BIGINT [UNSIGNED], YEAR, BIT | int | int8 … uint64 (YEAR uint16, BIT uint64) | TINYINT … UBIGINT |
| DECIMAL(p, s) | decimal.Decimal (exactly s digits after the point) | decimal128(p, s), p > 38 decimal256 | DECIMAL(p,
s); p > 38 has none |
| FLOAT, DOUBLE | float | float32, float64 | FLOAT, DOUBLE |
| CHAR, VARCHAR, TEXT | str | large_string → string | VARCHAR |
| BINARY, VARBINARY, BLOB | bytes | large_binary → binary | BLOB |
| DATE | datetime.date | date32 | DATE |
| DATETIME(f), TIMESTAMP(f) | datetime.datetime, naive; TIMESTAMP in the session's zone | timestamp[us] | TIMESTAMP |
| TIME(f) | datetime.timedelta | duration[us]; inside DuckDB int64 microseconds | BIGINT |
| ENUM, SET | str | string | VARCHAR |
| JSON | str (normalised text) | string | VARCHAR |
| NULL | None | null | "NULL" |

A boolean expression is a BIGINT of 0 and 1, as in MySQL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

UNSPECIFIED = -1


class Tp(IntEnum):
    """MySQL's column type codes (protocol and TableInfo `Tp`)."""

    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    NULL = 6
    TIMESTAMP = 7
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    DURATION = 11
    DATETIME = 12
    YEAR = 13
    VARCHAR = 15
    BIT = 16
    JSON = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254


INTEGER_TPS = frozenset({Tp.TINY, Tp.SHORT, Tp.INT24, Tp.LONG, Tp.LONGLONG})
STRING_TPS = frozenset({Tp.VARCHAR, Tp.VAR_STRING, Tp.STRING, Tp.TINY_BLOB, Tp.BLOB, Tp.MEDIUM_BLOB, Tp.LONG_BLOB})
BLOB_TPS = frozenset({Tp.TINY_BLOB, Tp.BLOB, Tp.MEDIUM_BLOB, Tp.LONG_BLOB})


@dataclass(frozen=True, slots=True)
class FieldType:
    """The type of a column or an expression.

    `flen` is display width, character count (strings) or precision (decimal); `decimal` the scale or fsp; -1 is
    unspecified. `charset` is "binary" for BINARY, BLOB and friends. `elems` are ENUM's and SET's members.
    """

    tp: Tp
    flen: int = UNSPECIFIED
    decimal: int = UNSPECIFIED
    unsigned: bool = False
    charset: str = ""
    collate: str = ""
    elems: tuple[str, ...] = ()

    @property
    def is_integer(self) -> bool:
        return self.tp in INTEGER_TPS or self.tp in (Tp.YEAR, Tp.BIT)

    @property
    def is_decimal(self) -> bool:
        return self.tp == Tp.NEWDECIMAL

    @property
    def is_real(self) -> bool:
        return self.tp in (Tp.FLOAT, Tp.DOUBLE)

    @property
    def is_numeric(self) -> bool:
        return self.is_integer or self.is_decimal or self.is_real

    @property
    def is_binary(self) -> bool:
        """BINARY, VARBINARY and BLOB: bytes, not text."""
        return self.tp in STRING_TPS and self.charset == "binary"

    @property
    def is_text(self) -> bool:
        return self.tp in STRING_TPS and self.charset != "binary"

    @property
    def is_string(self) -> bool:
        """Text or bytes, and what behaves as a string in expressions (ENUM, SET)."""
        return self.tp in STRING_TPS or self.tp in (Tp.ENUM, Tp.SET)

    @property
    def is_temporal(self) -> bool:
        return self.tp in (Tp.DATE, Tp.DATETIME, Tp.TIMESTAMP, Tp.DURATION)

    def with_(self, **changes: object) -> FieldType:
        return replace(self, **changes)  # type: ignore[arg-type]


TEXT_CHARSET = "utf8mb4"
TEXT_COLLATE = "utf8mb4_bin"

NULL = FieldType(Tp.NULL)
BIGINT = FieldType(Tp.LONGLONG, 20, 0)
UBIGINT = FieldType(Tp.LONGLONG, 20, 0, unsigned=True)
INT = FieldType(Tp.LONG, 11, 0)
BOOL = FieldType(Tp.LONGLONG, 1, 0)
DOUBLE = FieldType(Tp.DOUBLE, 22)
FLOAT = FieldType(Tp.FLOAT, 12)
TEXT = FieldType(Tp.VAR_STRING, UNSPECIFIED, charset=TEXT_CHARSET, collate=TEXT_COLLATE)
BYTES = FieldType(Tp.VAR_STRING, UNSPECIFIED, charset="binary", collate="binary")
DATE = FieldType(Tp.DATE, 10, 0)
DATETIME = FieldType(Tp.DATETIME, 19, 0)
DATETIME6 = FieldType(Tp.DATETIME, 26, 6)
DURATION = FieldType(Tp.DURATION, 10, 0)
JSON = FieldType(Tp.JSON, charset=TEXT_CHARSET, collate=TEXT_COLLATE)


def decimal_type(precision: int, scale: int, *, unsigned: bool = False) -> FieldType:
    return FieldType(Tp.NEWDECIMAL, min(precision, 65), min(scale, 30), unsigned)


def varchar(length: int = UNSPECIFIED) -> FieldType:
    return FieldType(Tp.VARCHAR, length, charset=TEXT_CHARSET, collate=TEXT_COLLATE)
