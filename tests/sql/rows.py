"""Rows of different databases made comparable: numbers as numbers, order ignored where a query has none."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Sequence

Cell = tuple[int, object]


def cell(value: object) -> Cell:
    """Returns a value that sorts and compares across types and databases."""
    if value is None:
        return (0, 0)
    if isinstance(value, bool | int | float | decimal.Decimal):
        number = float(value)
        return (1, float(f"{number:.9g}") + 0.0)
    if isinstance(value, bytes | bytearray):
        return (2, bytes(value).decode("latin-1"))
    if isinstance(value, datetime.datetime | datetime.date | datetime.timedelta):
        return (3, str(value))
    return (2, str(value))


def comparable(rows: Iterable[Sequence[object]], *, ordered: bool = False) -> list[tuple[Cell, ...]]:
    """Returns rows as comparable cells, sorted unless the query had an ORDER BY."""
    out = [tuple(map(cell, row)) for row in rows]
    return out if ordered else sorted(out)
