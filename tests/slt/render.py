"""Values as sqllogictest text, and the comparison of a result with what a file expects.

Three ways of writing a result:

- *classic*, sqlite's: one value a line; `I` as if by printf("%d"), `R` by "%.3f", `T` with every byte outside printable
  ASCII as `@`; NULL and (empty).
- *rows*, of DuckDB's, RisingLight's and DataFusion's files: one row a line (or one value a line), cells separated by a
  tab or blanks; numbers are compared as numbers (12 significant digits), text by its words.
- *lossless*, of our own files: one row a line, cells separated by tabs; `T` is the value as it is with backslash, tab
  and newline escaped, bytes as 0x and hex, DECIMAL with all its digits, `I` an exact integer, and `R` a double to 12
  significant digits, because the last ones depend on the order in which a sum is made.

A file that does not say which (`auto`) is compared as classic first, then as rows.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import re
from collections.abc import Sequence

from tests.slt.records import Query

Row = Sequence[object]

_HASH = re.compile(r"(\d+) values hashing to ([0-9a-f]{32})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LEADING_INTEGER = re.compile(r"\s*[+-]?\d+")


def plain(value: object) -> str:
    """Returns a value's text with nothing lost: what `T` means before escaping."""
    match value:
        case bool():
            return "1" if value else "0"
        case str():
            return value
        case float():
            return repr(value)
        case decimal.Decimal():
            return format(value, "f")
        case bytes() | bytearray() | memoryview():
            return "0x" + bytes(value).hex().upper()
        case datetime.datetime():
            return value.isoformat(" ")
        case datetime.timedelta():
            return _duration(value)
        case _:
            return str(value)


def _duration(value: datetime.timedelta) -> str:
    micros = value // datetime.timedelta(microseconds=1)
    sign, micros = ("-" if micros < 0 else ""), abs(micros)
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}" if fraction else text


def _as_float(value: object) -> float:
    if isinstance(value, int | float | decimal.Decimal):
        return float(value)
    found = _NUMBER.match(plain(value).strip())
    return float(found[0]) if found is not None else 0.0


def _as_integer(value: object) -> int:
    if isinstance(value, int | float | decimal.Decimal):
        return int(value)
    found = _LEADING_INTEGER.match(value.decode("latin-1") if isinstance(value, bytes) else plain(value))
    return int(found[0]) if found is not None else 0


def classic(value: object, letter: str) -> str:
    """Renders one value as sqlite's runner does."""
    if value is None:
        return "NULL"
    if letter == "I":
        return str(_as_integer(value))
    if letter == "R":
        return f"{_as_float(value):.3f}"
    raw = value if isinstance(value, bytes) else plain(value).encode("utf-8", "surrogateescape")
    return "".join(chr(b) if 0x20 <= b <= 0x7E else "@" for b in raw) or "(empty)"


def lossless(value: object, letter: str) -> str:
    """Renders one value as our own files write it."""
    if value is None:
        return "NULL"
    if letter == "R":
        return _significant(_as_float(value)) if isinstance(value, float) else plain(value)
    text = plain(value)
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") or "(empty)"


def _significant(value: float) -> str:
    text = f"{value:.12g}"
    return "0" if text == "-0" else text


def _rows_text(value: object, letter: str) -> str:
    if value is None:
        return "NULL"
    if letter == "B" and isinstance(value, int):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace") or "(empty)"
    return plain(value) or "(empty)"


def _canonical(word: str) -> str:
    """Returns numbers in one spelling, so that 2.50 and 2.5 are the same cell."""
    if _NUMBER.fullmatch(word) is None:
        return word
    with decimal.localcontext(prec=30):
        number = decimal.Decimal(word)
        if number != number.to_integral_value():
            number = decimal.Context(prec=12).plus(number)
        return format(number.normalize() if number else decimal.Decimal(0), "f")


def _sorted(rows: list[tuple[str, ...]], sort: str) -> list[tuple[str, ...]]:
    if sort == "rowsort":
        return sorted(rows)
    if sort == "valuesort":
        return [(v,) for v in sorted(v for row in rows for v in row)]
    return rows


def values_hash(rows: Sequence[Sequence[str]]) -> str:
    """Returns the MD5 of all values, each followed by a newline."""
    text = "".join(f"{value}\n" for row in rows for value in row)
    return hashlib.md5(text.encode("utf-8", "surrogateescape")).hexdigest()


def _letters(types: str, columns: int) -> str:
    return types if len(types) == columns else "T" * columns


def rendered(query: Query, columns: int, rows: Sequence[Row], dialect: str) -> list[tuple[str, ...]]:
    """Returns the result as sorted rows of text in a dialect (classic or lossless)."""
    letters = _letters(query.types, columns)
    write = lossless if dialect == "lossless" else classic
    return _sorted([tuple(map(write, row, letters)) for row in rows], query.sort)


def written(query: Query, columns: int, rows: Sequence[Row], hash_threshold: int) -> list[str]:
    """Returns the lines that a recorder puts below `----`, lossless."""
    out = rendered(query, columns, rows, "lossless")
    count = sum(map(len, out))
    if 0 < hash_threshold < count:
        return [f"{count} values hashing to {values_hash(out)}"]
    return ["\t".join(row) for row in out]


def agrees(query: Query, columns: int, rows: Sequence[Row], dialect: str) -> bool:
    """Tells whether a result is what the file expects."""
    if dialect == "lossless":
        return _agrees_lossless(query, columns, rows)
    if _agrees_classic(query, columns, rows):
        return True
    return dialect == "auto" and _agrees_rows(query, columns, rows)


def _agrees_hash(expected: str, rows: list[tuple[str, ...]]) -> bool | None:
    found = _HASH.fullmatch(expected)
    if found is None:
        return None
    return int(found[1]) == sum(map(len, rows)) and found[2] == values_hash(rows)


def _agrees_lossless(query: Query, columns: int, rows: Sequence[Row]) -> bool:
    actual = rendered(query, columns, rows, "lossless")
    if len(query.expected) == 1 and (same := _agrees_hash(query.expected[0], actual)) is not None:
        return same
    return ["\t".join(row) for row in actual] == list(query.expected)


def _agrees_classic(query: Query, columns: int, rows: Sequence[Row]) -> bool:
    actual = rendered(query, columns, rows, "classic")
    if len(query.expected) == 1 and (same := _agrees_hash(query.expected[0], actual)) is not None:
        return same
    return [value for row in actual for value in row] == list(query.expected)


def _agrees_rows(query: Query, columns: int, rows: Sequence[Row]) -> bool:
    letters = _letters(query.types, columns)
    text = [tuple(map(_rows_text, row, letters)) for row in rows]
    if len(query.expected) == 1 and (same := _agrees_hash(query.expected[0], _sorted(text, query.sort))) is not None:
        return same
    by_value = columns > 1 and len(query.expected) == columns * len(rows)
    if by_value and query.sort != "valuesort":
        lines = [" ".join(query.expected[i : i + columns]) for i in range(0, len(query.expected), columns)]
    else:
        lines = list(query.expected)
    if query.sort == "valuesort":
        text = [(value,) for row in text for value in row]
    expected_rows = [tuple(map(_canonical, line.split())) for line in lines]
    actual_rows = [tuple(_canonical(w) for cell in row for w in cell.split()) for row in text]
    if query.sort != "nosort":
        return sorted(expected_rows) == sorted(actual_rows)
    return expected_rows == actual_rows
