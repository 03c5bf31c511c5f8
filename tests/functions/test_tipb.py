"""Signature names and numbers are tipb's."""

from __future__ import annotations

from decimal import Decimal

from coprocessor import types as t
from coprocessor.expr import Call, Column, Const
from coprocessor.functions import resolve
from coprocessor.functions.tipb import SIGNATURES, tipb_signature


def signature(name: str, *args: Column | Const) -> tuple[str, int] | None:
    call = resolve(name, args)
    assert isinstance(call, Call)
    return tipb_signature(call)


def test_signatures_follow_the_argument_types() -> None:
    n, d, s = Column(1, t.BIGINT), Column(2, t.decimal_type(10, 2)), Column(3, t.TEXT)
    assert signature("plus", n, n) == ("PlusInt", 203)
    assert signature("plus", n, d) == ("PlusDecimal", 201)
    assert signature("mul", Column(4, t.UBIGINT), n) == ("MultiplyIntUnsigned", 218)
    assert signature("eq", s, Const("a", t.TEXT)) == ("EQString", 143)
    assert signature("isnull", d) == ("DecimalIsNull", 3111)
    assert signature("like", s, Const("a%", t.TEXT)) == ("LikeSig", 4310)
    assert tipb_signature(Call("cast", (d,), t.DOUBLE)) == ("CastDecimalAsReal", 21)


def test_what_no_server_evaluates_has_none() -> None:
    assert signature("inet_aton", Column(1, t.TEXT)) is None
    assert signature("eq", Column(1, t.BIGINT), Const(Decimal("1.5"), t.decimal_type(2, 1))) is None


def test_numbers_are_distinct() -> None:
    assert len(set(SIGNATURES.values())) == len(SIGNATURES)
