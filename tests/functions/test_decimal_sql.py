"""Quotients of decimals as DuckDB computes them, beside Python's."""

from __future__ import annotations

import random
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal

import duckdb
import pytest

from coprocessor.functions.decimal_sql import divide_sql
from coprocessor.types import decimal_type

EXACT = Context(prec=100)


@pytest.mark.parametrize("seed", range(4))
def test_quotients_are_exact(seed: int) -> None:
    rnd = random.Random(seed)
    with duckdb.connect() as connection:
        for shape in range(8):
            # short ones by way of DOUBLE, longer ones on integers, the longest by long division
            p1, p2 = rnd.choice([(7, 5), (15, 12), (18, 18), (24, 12), (38, 18)])
            s1, s2 = rnd.randint(0, 6), rnd.randint(0, 5)
            scale, cut_off = s1 + rnd.choice([4, 4, 0, 7]), shape == 0
            rows = []
            for _ in range(40):
                a, b = (
                    Decimal(rnd.randint(-(10 ** rnd.randint(0, p)), 10 ** rnd.randint(0, p)) or 1) for p in (p1, p2)
                )
                a, b = a.scaleb(-s1, EXACT), b.scaleb(-s2, EXACT)
                half = (Decimal(rnd.randint(0, 99)) + Decimal("0.5")).scaleb(-scale) * b
                if rnd.random() < 0.4 and half == half.quantize(Decimal(1).scaleb(-s1)):
                    a = half
                if rnd.random() < 0.1:
                    b = Decimal(0)
                if abs(a) < Decimal(10) ** (p1 - s1) and abs(b) < Decimal(10) ** (p2 - s2):
                    rows.append((a, b))
            unit, rounding = Decimal(1).scaleb(-scale), ROUND_DOWN if cut_off else ROUND_HALF_UP
            wanted = [EXACT.divide(a, b).quantize(unit, rounding, EXACT) if b else None for a, b in rows]
            rows = [row for row, quotient in zip(rows, wanted, strict=True) if abs(quotient or 0) < 10 ** (36 - scale)]
            wanted = [quotient for quotient in wanted if abs(quotient or 0) < 10 ** (36 - scale)]
            types = [f"DECIMAL({p},{s})" for p, s in ((p1, s1), (p2, s2))]
            values = ", ".join(f"('{a:f}'::{types[0]}, '{b:f}'::{types[1]})" for a, b in rows)
            result = decimal_type(p1 + s2 + 4, scale)
            text = divide_sql(lambda t: t, "a", (p1, s1), "b", (p2, s2), result, cut_off=cut_off)
            found = [row[0] for row in connection.execute(f"SELECT {text} FROM (VALUES {values}) t(a, b)").fetchall()]
            assert found == wanted, (types, scale, cut_off)


def test_the_least_integer_has_no_magnitude_of_its_type() -> None:
    wanted = Decimal(-(2**63)) / 2
    with duckdb.connect() as connection:
        for type_, digits in (("BIGINT", (19, 0)), ("DECIMAL(12,1)", (12, 1))):
            for a, b, places in (("n", "d", ((19, 0), digits)), ("d", "n", (digits, (19, 0)))):
                text = divide_sql(lambda t: t, a, places[0], b, places[1], decimal_type(30, 5))
                rows = f"(VALUES ((-9223372036854775808)::BIGINT, 2::{type_})) t(n, d)"
                [(found,)] = connection.execute(f"SELECT {text} FROM {rows}").fetchall()
                assert found == (wanted if a == "n" else 0)
