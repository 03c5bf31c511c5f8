"""Plans on the wire: both ways, and requests laid out by hand as TiDB lays them out."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings

from coprocessor import types as t
from coprocessor.dag.codec import decode_dag, encode_dag
from coprocessor.dag.expressions import Decoder, can_group_by, can_push, can_push_agg, encode_expr
from coprocessor.dag.plan import Aggregation, Dag, Projection, Selection, TopN
from coprocessor.dag.signatures import BY_NUMBER, CASE, PUSHED, number_of
from coprocessor.env import Env
from coprocessor.errors import BadRequest, Unsupported
from coprocessor.evaluate import compile_expr
from coprocessor.expr import Agg, Call, Column, Const, Expr, OrderKey, Param
from coprocessor.functions import resolve, resolve_agg
from coprocessor.functions.registry import AGGREGATES, FUNCTIONS
from coprocessor.types import FieldType, Tp
from kvstore.proto import tipb_pb2
from tests.coprocessor import plans


def _form(expr: Expr) -> Expr:
    return plans.binary_form(expr)


def _normal(dag: Dag) -> Dag:
    """The plan with what the wire says in another way brought to that."""
    steps = []
    for step in dag.steps:
        match step:
            case Selection():
                steps.append(Selection(tuple(map(_form, step.conditions))))
            case Projection():
                steps.append(Projection(tuple(map(_form, step.exprs))))
            case Aggregation():
                parts = [part for agg in step.aggs for part in _parts(agg)]
                aggs = tuple(replace(a, args=tuple(map(_form, a.args))) for a in parts)
                steps.append(replace(step, aggs=tuple(map(_counted, aggs))))
            case TopN():
                steps.append(TopN(tuple(OrderKey(_form(k.expr), k.desc) for k in step.keys), step.limit))
            case _:
                steps.append(step)
    return replace(dag, steps=tuple(steps))


def _parts(agg: Agg) -> tuple[Agg, ...]:
    """An average is two aggregates on the wire."""
    return (resolve_agg("count", agg.args), resolve_agg("sum", agg.args)) if agg.func == "avg" else (agg,)


def _counted(agg: Agg) -> Agg:
    constant = agg.func == "count" and agg.args and isinstance(agg.args[0], Const)
    return replace(agg, args=()) if constant else agg


@settings(max_examples=200)
@given(plans.dags())
def test_a_plan_comes_back_as_it_went(dag: Dag) -> None:
    assert decode_dag(encode_dag(dag).SerializeToString()) == _normal(dag)


def test_only_what_the_catalogue_names_is_pushed() -> None:
    """The column of signatures in the catalogue says that a server's meaning is ours."""
    for signature in (*PUSHED.values(), *CASE.values()):
        if signature.func != "cast":
            named = FUNCTIONS[signature.func].tipb
            assert signature.name in ({named} if isinstance(named, str) else set((named or {}).values())), signature


def test_what_the_catalogue_names_is_tipb_s() -> None:
    for function in FUNCTIONS.values():
        named = function.tipb
        for name in [named] if isinstance(named, str) else (named or {}).values():
            assert number_of(name), function.name
    for aggregate in AGGREGATES.values():
        assert aggregate.tipb is None or tipb_pb2.ExprType.Value(aggregate.tipb), aggregate.name


def test_signatures_have_tipb_s_numbers() -> None:
    numbers = {"LTInt": 100, "EQString": 143, "PlusDecimal": 201, "MultiplyInt": 210, "LogicalAnd": 3101,
               "IntIsNull": 3116, "InInt": 4001, "CaseWhenInt": 4208, "LikeSig": 4310}  # fmt: skip
    assert {name: number_of(name) for name in numbers} == numbers
    assert all(BY_NUMBER[number].name == name for name, number in numbers.items())


def test_a_column_reference_is_an_offset() -> None:
    wire = encode_expr(Column(3, t.BIGINT), dt.UTC)
    assert (wire.tp, wire.val) == (201, bytes.fromhex("8000000000000003"))


def test_literals_are_laid_out_as_tidb_does() -> None:
    def val(value: object, type_: FieldType) -> tuple[int, str]:
        wire = encode_expr(Const(value, type_), dt.timezone(dt.timedelta(hours=2)))
        return wire.tp, wire.val.hex()

    assert val(1, t.BIGINT) == (1, "8000000000000001")
    assert val(-1, t.BIGINT) == (1, "7fffffffffffffff")
    assert val(1, t.UBIGINT) == (2, "0000000000000001")
    assert val(1.5, t.DOUBLE) == (4, "bff8000000000000")
    assert val("é", t.TEXT) == (5, "c3a9")
    assert val(b"\xff", t.BYTES) == (6, "ff")
    assert val(Decimal("1234567890.1234"), t.decimal_type(14, 4)) == (102, "0e04810dfb38d204d2")
    assert val(dt.timedelta(seconds=1), t.DURATION) == (103, "800000003b9aca00")
    assert val(dt.datetime(2018, 1, 19, 3, 14, 7), t.DATETIME) == (107, "199ee63387000000")
    # a TIMESTAMP goes in UTC
    stamp = val(dt.datetime(2018, 1, 19, 5, 14, 7), FieldType(Tp.TIMESTAMP, 19, 0))
    assert stamp == (107, "199ee63387000000")
    assert val(None, t.BIGINT) == (0, "")


def test_strings_compare_by_the_collation_of_the_result() -> None:
    call = resolve("eq", (Column(0, t.varchar(5)), Const("a", t.TEXT)))
    wire = encode_expr(call, dt.UTC)
    assert (wire.sig, wire.field_type.tp, wire.field_type.collate) == (143, 8, -46)
    weighed = t.varchar(5).with_(collate="utf8mb4_unicode_ci")
    wire = encode_expr(resolve("eq", (Column(0, weighed), Const("STRASSE", t.TEXT))), dt.UTC)
    assert wire.field_type.collate == -224
    assert [child.field_type.collate for child in wire.children] == [-224, -46]
    for collate, rows in ((-224, ["Straße", "strasse "]), (-45, ["strasse "]), (-46, [])):
        wire.field_type.collate = collate
        found = compile_expr(_decode(wire, t.varchar(9)), {0: 0})
        assert [text for text in ("Straße", "strasse ", "x") if found((text,), Env())] == rows


def _decode(wire: tipb_pb2.Expr, *types: FieldType) -> Expr:
    return Decoder(types, dt.UTC).expr(wire)


def _column(offset: int, tp: int = 8) -> tipb_pb2.Expr:
    val = (offset + (1 << 63)).to_bytes(8, "big")
    return tipb_pb2.Expr(tp="ColumnRef", val=val, field_type=tipb_pb2.FieldType(tp=tp))


def test_what_is_not_supported_is_named() -> None:
    wire = tipb_pb2.Expr(tp="ScalarFunc", sig=4309, children=[_column(0, 15)] * 3)
    with pytest.raises(Unsupported, match=r"IlikeSig \(4309\)"):
        _decode(wire, t.varchar(5))
    wire = tipb_pb2.Expr(tp="ScalarFunc", sig=99_999)
    with pytest.raises(Unsupported, match="signature 99999"):
        _decode(wire)
    wire = tipb_pb2.Expr(tp="ScalarFunc", sig=143, children=[_column(0, 15)] * 2)
    wire.field_type.tp, wire.field_type.collate = 8, -45
    wire.field_type.collate = -46 - 1000
    with pytest.raises(Unsupported, match="collation -1046"):
        _decode(wire, t.varchar(5))
    with pytest.raises(Unsupported, match="DISTINCT"):
        Decoder((t.BIGINT,), dt.UTC).agg(tipb_pb2.Expr(tp="Count", children=[_column(0)], has_distinct=True))


def test_an_unknown_expression_type_is_not_taken_for_null() -> None:
    wire = tipb_pb2.Expr()
    wire.ParseFromString(b"\x08\x79")  # TiDBVectorFloat32
    with pytest.raises(BadRequest):
        _decode(wire)


def test_arguments_have_to_be_of_the_signature_s_kind() -> None:
    wire = tipb_pb2.Expr(tp="ScalarFunc", sig=140, children=[_column(0), _column(0)])
    with pytest.raises(BadRequest, match="argument 0 of EQInt is a string"):
        _decode(wire, t.varchar(5))
    with pytest.raises(BadRequest, match="column 3 of 1"):
        _decode(_column(3), t.BIGINT)


def test_types_that_say_nothing_are_inferred() -> None:
    wire = tipb_pb2.Expr(tp="ScalarFunc", sig=209, children=[_column(0, 246), _column(1, 246)])
    wire.field_type.tp = 246
    assert _decode(wire, t.decimal_type(15, 2), t.decimal_type(5, 1)).type == t.decimal_type(20, 3)


def test_the_allow_list() -> None:
    n, u, s = Column(0, t.BIGINT), Column(1, t.UBIGINT), Column(2, t.varchar(9))
    ci, enum = Column(3, t.varchar(9).with_(collate="utf8mb4_general_ci")), Column(4, plans.TYPES[14])
    assert can_push(resolve("lt", (n, Param(0, t.BIGINT))))
    assert can_push(resolve("eq", (s, Const("a", t.TEXT))))
    assert can_push(resolve("lt", (n, u)))
    assert not can_push(resolve("plus", (n, u)))
    assert can_push(resolve("eq", (ci, Const("a", t.TEXT))))
    assert can_push(resolve("like", (ci, Const("a%", t.TEXT))))
    assert can_push(resolve("isnull", (ci,)))
    assert can_push(resolve("concat", (ci, s)))
    assert can_group_by(ci)
    assert not can_group_by(enum)
    assert not can_push(resolve("lower", (ci,)))
    assert not can_push(resolve("eq", (enum, Const("red", t.TEXT))))
    assert not can_push(resolve("div", (n, n)))
    assert not can_push(resolve("inet_aton", (s,)))
    assert not can_push(Call("cast", (s,), t.BIGINT))
    assert can_push(ci)
    assert can_push(enum)
    assert can_push_agg(resolve_agg("count", (enum,)))
    assert can_push_agg(resolve_agg("sum", (n,)))
    assert not can_push_agg(resolve_agg("sum", (Column(5, FieldType(Tp.BIT, 8)),)))
    assert can_push_agg(resolve_agg("max", (ci,)))
    assert not can_push_agg(resolve_agg("max", (enum,)))
    assert not can_push_agg(resolve_agg("count", (n,), distinct=True))
    assert not can_push_agg(resolve_agg("group_concat", (s,)))


def test_conditions_of_tidb_that_keep_null() -> None:
    wire = tipb_pb2.Expr(tp="ScalarFunc", sig=3142, children=[_column(0)])
    assert _decode(wire, t.BIGINT) == resolve("ne", (Column(0, t.BIGINT), Const(0, t.BIGINT)))
