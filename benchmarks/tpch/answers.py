"""The check of TPC-H's answers: an engine's rows against DuckDB's on the same Parquet files.

Values are equal when their differences are only those of the dialects' types: a DECIMAL average against a DOUBLE, a
date against its text, a CHAR with and without its padding. Decimals that MySQL rounds to four digits more than its
operands have differ from DuckDB's doubles by less than `ABSOLUTE_TOLERANCE`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import duckdb

from benchmarks.tpch.data import QUERY_NUMBERS, query

ABSOLUTE_TOLERANCE = 1e-6
RELATIVE_TOLERANCE = 1e-9
# Queries whose ORDER BY may leave ties: their rows are compared as a multiset.
PARTIAL_ORDER = frozenset({3, 5, 10, 11, 18})

Row = Sequence[object]


class WrongAnswer(AssertionError):
    """An engine's rows aren't DuckDB's."""


def reference_answers(files: dict[str, Path], numbers: Sequence[int] = QUERY_NUMBERS) -> dict[int, list[Row]]:
    """Returns DuckDB's rows for the queries, read straight from the Parquet files."""
    with duckdb.connect() as con:
        for name, path in files.items():
            con.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")
        return {number: con.execute(query(number)).fetchall() for number in numbers}


def check_answer(number: int, engine: str, rows: Sequence[Row], expected: Sequence[Row]) -> None:
    """Raises WrongAnswer with the first difference when `rows` aren't the expected ones."""
    if len(rows) != len(expected):
        raise WrongAnswer(f"Q{number}: {engine} gave {len(rows)} rows, DuckDB {len(expected)}")
    got, want = list(rows), list(expected)
    if number in PARTIAL_ORDER:
        got.sort(key=_sort_key)
        want.sort(key=_sort_key)
    for index, (left, right) in enumerate(zip(got, want, strict=True)):
        if len(left) != len(right) or not all(same(a, b) for a, b in zip(left, right, strict=True)):
            raise WrongAnswer(f"Q{number} row {index}: {engine} gave {tuple(left)}, DuckDB {tuple(right)}")


def same(left: object, right: object) -> bool:
    """Tells whether two values are one and the same answer."""
    if left is None or right is None:
        return left is right
    if isinstance(left, Decimal) and isinstance(right, Decimal) and left == right:
        return True
    if isinstance(left, int | float | Decimal) and isinstance(right, int | float | Decimal):
        if isinstance(left, int) and isinstance(right, int):
            return left == right
        return math.isclose(float(left), float(right), rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return _text(left) == _text(right)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime.date) else str(value).rstrip(" ")


def _sort_key(row: Row) -> tuple[str, ...]:
    """Orders rows alike on both sides: text exactly, numbers by few enough digits that rounding can't swap rows."""
    return tuple(f"{float(v):.3f}" if isinstance(v, int | float | Decimal) else _text(v) for v in row)
