"""Exact decimal arithmetic in DuckDB's SQL, which itself divides decimals in floating point.

A quotient is computed on unscaled HUGEINTs, rounded half away from zero, and scaled back by a decimal
multiplication. Where the declared precision does not prove that HUGEINT (38 digits) holds it, the text looks at the
magnitudes and divides in two steps, or takes DOUBLE for the rows that would overflow even so.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from coprocessor.types import FieldType

DUCK_DIGITS = 38


def decimal_type_sql(ft: FieldType) -> str:
    """Returns DuckDB's name of a DECIMAL type, 38 digits at most."""
    scale = max(ft.decimal, 0)
    return f"DECIMAL({min(max(ft.flen, scale, 1), DUCK_DIGITS)},{scale})"


def unscaled_sql(text: str, scale: int, digits: tuple[int, int] | None = None) -> str:
    """Returns the text of a decimal of (precision, scale) `digits` as the HUGEINT of its digits at `scale`."""
    if scale == 0:
        return f"CAST({text} AS HUGEINT)"
    whole = DUCK_DIGITS - scale if digits is None else min(digits[0] - digits[1], DUCK_DIGITS - scale)
    if whole + 2 * scale <= DUCK_DIGITS:
        return f"CAST(CAST({text} AS DECIMAL({DUCK_DIGITS},{scale})) * {10**scale} AS HUGEINT)"
    # The product has the scale twice over: where that leaves no room, the whole part goes a way of its own.
    fraction = f"CAST({text} - trunc({text}) AS DECIMAL({2 * scale + 1 if 2 * scale < 37 else DUCK_DIGITS},{scale}))"
    return f"(CAST(trunc({text}) AS HUGEINT) * {10**scale} + CAST({fraction} * {10**scale} AS HUGEINT))"


def divide_sql(
    share: Callable[[str], str],
    n: str,
    n_digits: tuple[int, int],
    d: str,
    d_digits: tuple[int, int],
    result: FieldType,
    *,
    cut_off: bool = False,
) -> str:
    """Returns the text of n / d, NULL where d is 0; digits are (precision, scale) of the operands.

    The quotient is rounded half away from zero to the result's scale, or cut off there. `share` gives what occurs many
    times a name (see `Printer.share`).
    """
    n, d = share(n), share(d)
    (p1, s1), (p2, s2) = n_digits, d_digits
    scale = result.decimal
    shift = scale - s1 + s2
    top = share(unscaled_sql(n, s1, n_digits))
    bottom = share(f"nullif({unscaled_sql(d, s2, d_digits)}, 0)")
    if shift < 0:
        bottom, shift = f"({bottom} * {10**-shift})", 0
    num = f"({top} * {10**shift})" if shift else top
    exact = _scaled(_quotient(num, bottom, cut_off), scale)
    if max(p1 + shift + 1, p1 + s1, p2 + s2 + 1, result.flen) <= DUCK_DIGITS:
        return exact
    near = f"CAST(CAST({n} AS DOUBLE) / nullif(CAST({d} AS DOUBLE), 0) AS DECIMAL({DUCK_DIGITS},{scale}))"
    n_double, d_double = f"abs(CAST({n} AS DOUBLE))", f"abs(CAST({d} AS DOUBLE))"
    n_limit, d_limit = DUCK_DIGITS - 1 - s1 - max(s1, shift), DUCK_DIGITS - 1 - 2 * s2
    fits = f"{n_double} < 1e{n_limit} AND {d_double} < 1e{d_limit}"
    # Long division: the remainder is smaller than the divisor, so only that must leave room for more digits.
    rest = _quotient(f"(({top} % {bottom}) * {10**shift})", bottom, cut_off)
    long = _scaled(f"(({top} // {bottom}) * {10**shift} + {rest})", scale)
    divides = f"{d_double} < 1e{DUCK_DIGITS - 1 - s2 - shift} AND {n_double} < {d_double} * 1e{DUCK_DIGITS - 1 - scale}"
    return f"CASE WHEN {fits} THEN {exact} WHEN {divides} THEN {long} ELSE {near} END"


def _quotient(num: str, bottom: str, cut_off: bool) -> str:
    if cut_off:
        return f"({num} // {bottom})"
    half = f"CASE WHEN ({num} < 0) <> ({bottom} < 0) THEN -({bottom}) ELSE {bottom} END"
    return f"((2 * {num} + {half}) // (2 * {bottom}))"


def _scaled(unscaled: str, scale: int) -> str:
    return f"(CAST({unscaled} AS DECIMAL({DUCK_DIGITS},0)) * {Decimal(1).scaleb(-scale):f})"
