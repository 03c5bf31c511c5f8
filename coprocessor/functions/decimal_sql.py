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
    times a name (see `Printer.share`). The text is kept short, as DuckDB spends up to 0.1 ms of planning on a node.
    """
    (p1, s1), (p2, s2) = n_digits, d_digits
    scale = result.decimal
    shift = scale - s1 + s2
    stretch, shift = 10 ** max(-shift, 0), max(shift, 0)
    proven = max(p1 + shift + 1, p1 + s1, p2 + s2 + 1, result.flen) <= DUCK_DIGITS
    whens: list[tuple[str, str]] = []
    if 10 ** (s1 + shift) < _DOUBLE_MAX // 1000 and stretch < 1000:  # else it holds for few
        small = []
        if p1 + shift > _DOUBLE_DIGITS:
            small.append(_within("{n}", Decimal(_DOUBLE_MAX // 10**shift).scaleb(-s1)))
        if 10**p2 * stretch > _DOUBLE_MAX:
            small.append(_within("{d}", Decimal(_DOUBLE_MAX // stretch).scaleb(-s2)))
        top, bottom = _double("{n}", n_digits, shift), _double("{d}", d_digits, len(str(stretch)) - 1)
        quotient = f"{top} / nullif({bottom}, 0)"
        digits = f"CAST({'trunc' if cut_off else 'round'}({quotient}) AS DECIMAL(18,0))"
        whens.append((" AND ".join(small), f"{digits} * {Decimal(1).scaleb(-scale):f}"))
        if not small:
            return f"({whens[0][1].format(n=n, d=d)})"
    # A rounded quotient is made of twice the cut-off one, which tells on which side of the half it is.
    factor = 10**shift * (1 if cut_off else 2)
    times = f" * {stretch}" if stretch > 1 else ""
    exact = _scaled(f"({_unscaled('{n}', s1)} * {factor}) // nullif({_unscaled('{d}', s2)}{times}, 0)", scale, cut_off)
    n_double, d_double = "abs(CAST({n} AS DOUBLE))", "abs(CAST({d} AS DOUBLE))"
    if proven:
        otherwise = exact
    else:
        n_limit, d_limit = DUCK_DIGITS - 1 - s1 - max(s1, shift), DUCK_DIGITS - 1 - 2 * s2
        whens.append((f"{n_double} < 1e{n_limit} AND {d_double} < 1e{d_limit}", exact))
        # Long division: the remainder is smaller than the divisor, so only that must leave room for more digits.
        top, bottom = _digits("{n}", s1), f"nullif({_digits('{d}', s2)}{times}, 0)"
        long = f"({top} // {bottom}) * {factor} + (({top} % {bottom}) * {factor}) // {bottom}"
        divides = (
            f"{d_double} < 1e{DUCK_DIGITS - 1 - s2 - shift} AND {n_double} < {d_double} * 1e{DUCK_DIGITS - 1 - scale}"
        )
        whens.append((divides, _scaled(long, scale, cut_off)))
        otherwise = f"CAST(CAST({{n}} AS DOUBLE) / nullif(CAST({{d}} AS DOUBLE), 0) AS DECIMAL({DUCK_DIGITS},{scale}))"
    cases = "".join(f"WHEN {when} THEN {then} " for when, then in whens)
    return (f"CASE {cases}ELSE {otherwise} END" if cases else otherwise).format(n=share(n), d=share(d))


_DOUBLE_MAX = 2**51
_DOUBLE_DIGITS = 15
"""The quotient of two integers below 2**51 is rounded to an integer rightly by way of DOUBLE, and cut off, too: it is
either one itself (or a half), which a DOUBLE holds, or further from it than a DOUBLE's error."""


def _within(text: str, limit: Decimal) -> str:
    """Whether the magnitude of a number is at most `limit`; not by way of abs(), which the least BIGINT has none of."""
    return f"{text} BETWEEN -{limit:f} AND {limit:f}"


def _double(text: str, digits: tuple[int, int], shift: int) -> str:
    """The unscaled digits of a decimal, times a power of ten, as a DOUBLE; exact below `_DOUBLE_MAX`."""
    precision, scale = digits
    if scale == 0:
        return f"CAST({text} AS DOUBLE) * 1e{shift}" if shift else f"CAST({text} AS DOUBLE)"
    if min(precision + shift, _DOUBLE_DIGITS + 1) + scale > 18:  # more than DuckDB gives a product of two short ones
        text = f"CAST({text} AS DECIMAL({DUCK_DIGITS},{scale}))"
    return f"CAST({text} * {10 ** (scale + shift)} AS DOUBLE)"


def _unscaled(text: str, scale: int) -> str:
    """The unscaled digits of a decimal that leaves room for its scale once more, as a HUGEINT."""
    if scale == 0:
        return f"CAST({text} AS HUGEINT)"
    return f"CAST(CAST({text} AS DECIMAL({DUCK_DIGITS},{scale})) * {10**scale} AS HUGEINT)"


def _digits(text: str, scale: int) -> str:
    """The unscaled digits of a decimal of any precision, as a HUGEINT: slow, and the text occurs once."""
    if scale == 0:
        return f"CAST({text} AS HUGEINT)"
    return f"CAST(replace(CAST(CAST({text} AS DECIMAL({DUCK_DIGITS},{scale})) AS VARCHAR), '.', '') AS HUGEINT)"


def _scaled(quotient: str, scale: int, cut_off: bool) -> str:
    """The decimal of a quotient's digits; what is to be rounded comes as twice its value."""
    digits = f"CAST({quotient} AS DECIMAL({DUCK_DIGITS},0))"
    if cut_off:
        return f"({digits} * {Decimal(1).scaleb(-scale):f})"
    return f"round({digits} * {Decimal(5).scaleb(-scale - 1):f}, {scale})"
