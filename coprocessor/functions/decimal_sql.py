"""Exact decimal arithmetic in DuckDB's SQL, which itself divides decimals in floating point.

A quotient is computed on unscaled HUGEINTs, rounded half away from zero, and scaled back by a decimal
multiplication. Where the declared precision does not prove that HUGEINT (38 digits) holds it, the text looks at the
magnitudes and takes DOUBLE for the rows that would overflow.
"""

from __future__ import annotations

from decimal import Decimal

from coprocessor.types import FieldType

DUCK_DIGITS = 38


def decimal_type_sql(ft: FieldType) -> str:
    """Returns DuckDB's name of a DECIMAL type, 38 digits at most."""
    scale = max(ft.decimal, 0)
    return f"DECIMAL({min(max(ft.flen, scale, 1), DUCK_DIGITS)},{scale})"


def unscaled_sql(text: str, scale: int) -> str:
    """Returns the text of a decimal as the HUGEINT of its digits."""
    if scale == 0:
        return f"CAST({text} AS HUGEINT)"
    return f"CAST(CAST({text} AS DECIMAL({DUCK_DIGITS},{scale})) * {10**scale} AS HUGEINT)"


def divide_sql(n: str, n_digits: tuple[int, int], d: str, d_digits: tuple[int, int], result: FieldType) -> str:
    """Returns the text of n / d, NULL where d is 0; digits are (precision, scale) of the operands."""
    (p1, s1), (p2, s2) = n_digits, d_digits
    scale = result.decimal
    shift = scale - s1 + s2
    top = unscaled_sql(n, s1)
    bottom = f"nullif({unscaled_sql(d, s2)}, 0)"
    if shift < 0:
        bottom, shift = f"({bottom} * {10**-shift})", 0
    num = f"({top} * {10**shift})" if shift else top
    half = f"CASE WHEN ({num} < 0) <> ({bottom} < 0) THEN -({bottom}) ELSE {bottom} END"
    quotient = f"((2 * {num} + {half}) // (2 * {bottom}))"
    exact = f"(CAST({quotient} AS DECIMAL({DUCK_DIGITS},0)) * {Decimal(1).scaleb(-scale):f})"
    if max(p1 + shift + 1, p1 + s1, p2 + s2 + 1, result.flen) <= DUCK_DIGITS:
        return exact
    near = f"CAST(CAST({n} AS DOUBLE) / nullif(CAST({d} AS DOUBLE), 0) AS DECIMAL({DUCK_DIGITS},{scale}))"
    n_limit, d_limit = DUCK_DIGITS - 1 - s1 - max(s1, shift), DUCK_DIGITS - 1 - 2 * s2
    fits = f"abs(CAST({n} AS DOUBLE)) < 1e{n_limit} AND abs(CAST({d} AS DOUBLE)) < 1e{d_limit}"
    return f"CASE WHEN {fits} THEN {exact} ELSE {near} END"
