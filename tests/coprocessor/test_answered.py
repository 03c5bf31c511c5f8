"""Signatures that only other clients send: each is computed, over a row of constants, as MySQL does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from coprocessor import types as t
from coprocessor.arrow import batch_to_rows
from coprocessor.dag.answer import read_answer
from coprocessor.dag.build import scan_table
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.expressions import encode_expr
from coprocessor.dag.field_types import wire_type
from coprocessor.dag.plan import Dag, EncodeType
from coprocessor.dag.signatures import number_of
from coprocessor.duck import DuckEngine
from coprocessor.endpoint import Endpoint
from coprocessor.expr import Const
from coprocessor.schema import ColumnSchema, TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import FieldType
from kvstore.proto import coprocessor_pb2, tipb_pb2
from tests.coprocessor.store import MemoryReader

CODEC = TableCodec(TableSchema(3, "t", (ColumnSchema(1, "id", t.BIGINT, True), ColumnSchema(2, "s", t.varchar(9))), 0))
TEXT, JSON = t.TEXT, t.JSON
D = t.decimal_type(9, 3)


def text(value: str) -> Const:
    return Const(value, t.varchar(40))


def real(value: float) -> Const:
    return Const(value, t.DOUBLE)


def number(value: int) -> Const:
    return Const(value, t.BIGINT)


AT = Const(dt.datetime(2026, 2, 27, 13, 14, 15), t.DATETIME)
SPAN = Const(dt.timedelta(hours=30, minutes=4, seconds=5, microseconds=60), FieldType(t.Tp.DURATION, 17, 6))
DOC = Const('{"a": [1, {"b": "x"}]}', JSON)

CASES: list[tuple[str, list[Const], FieldType, Any]] = [
    ("Sign", [real(-2.5)], t.BIGINT, -1),
    ("Sqrt", [real(2.25)], t.DOUBLE, 1.5),
    ("Sqrt", [real(-1)], t.DOUBLE, None),
    ("Log1Arg", [real(1)], t.DOUBLE, 0.0),
    ("Log2", [real(8)], t.DOUBLE, 3.0),
    ("Pow", [real(2), real(10)], t.DOUBLE, 1024.0),
    ("Atan2Args", [real(0), real(1)], t.DOUBLE, 0.0),
    ("CeilIntToInt", [number(-7)], t.BIGINT, -7),
    ("CeilDecToInt", [Const(Decimal("1.001"), D)], t.BIGINT, 2),
    ("FloorDecToInt", [Const(Decimal("-1.001"), D)], t.BIGINT, -2),
    ("RoundDec", [Const(Decimal("2.500"), D)], t.decimal_type(9, 0), Decimal(3)),
    ("RoundInt", [number(12)], t.BIGINT, 12),
    ("CRC32", [text("MySQL")], t.BIGINT, 3259397556),
    ("HexIntArg", [number(255)], TEXT, "FF"),
    ("HexStrArg", [text("abc")], TEXT, "616263"),
    ("ReverseUTF8", [text("aé€")], TEXT, "€éa"),
    ("UpperUTF8", [text("aé")], TEXT, "AÉ"),
    ("Trim1Arg", [text("  a ")], TEXT, "a"),
    ("LTrim", [text("  a ")], TEXT, "a "),
    ("Replace", [text("www.mysql.com"), text("w"), text("Ww")], TEXT, "WwWwWw.mysql.com"),
    ("LpadUTF8", [text("hi"), number(4), text("??")], TEXT, "??hi"),
    ("RpadUTF8", [text("hi"), number(1), text("??")], TEXT, "h"),
    ("Repeat", [text("ab"), number(3)], TEXT, "ababab"),
    ("Space", [number(2)], TEXT, "  "),
    ("SubstringIndex", [text("www.mysql.com"), text("."), number(-2)], TEXT, "mysql.com"),
    ("ConcatWS", [text(","), text("a"), Const(None, TEXT), text("b")], TEXT, "a,b"),
    ("Elt", [number(2), text("a"), text("b")], TEXT, "b"),
    ("ASCII", [text("2")], t.BIGINT, 50),
    ("BitLength", [text("text")], t.BIGINT, 32),
    ("MD5", [text("testing")], TEXT, "ae2b1fca515949e5d54fb22b8ed95575"),
    ("SHA2", [text("abc"), number(224)], TEXT, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
    ("ToBase64", [text("abc")], TEXT, "YWJj"),
    ("JsonLengthSig", [DOC], t.BIGINT, 1),
    ("JsonTypeSig", [DOC], TEXT, "OBJECT"),
    ("JsonExtractSig", [DOC, text("$.a[1].b")], JSON, '"x"'),
    ("Hour", [SPAN], t.BIGINT, 30),
    ("MicroSecond", [SPAN], t.BIGINT, 60),
    ("WeekDay", [AT], t.BIGINT, 4),
    ("DayName", [AT], TEXT, "Friday"),
    ("LastDay", [AT], t.DATE, dt.date(2026, 2, 28)),
    ("ToDays", [AT], t.BIGINT, 740039),
    ("DateFormatSig", [AT, text("%W %M %Y %H")], TEXT, "Friday February 2026 13"),
    ("CastStringAsString", [text("abc")], t.varchar(2), "ab"),
]  # fmt: skip


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    engine = DuckEngine()
    yield Endpoint(engine)
    engine.close()


def asked(endpoint: Endpoint, step: tipb_pb2.Executor) -> coprocessor_pb2.Response:
    dag = Dag(scan_table(CODEC.schema, (0, 1)), (), (0,), EncodeType.CHUNK)
    wire = encode_dag(dag)
    wire.executors.append(step)
    request = coprocessor_pb2.Request(tp=103, data=wire.SerializeToString(), start_ts=5)
    request.ranges.add(start=CODEC.record_range[0], end=CODEC.record_range[1])
    pairs = dict(CODEC.encode_record((i, word), None) for i, word in enumerate(("12abc", "3", None)))
    return endpoint.handle(request, lambda ts: MemoryReader(pairs, ts))


@pytest.mark.parametrize(("name", "args", "result", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_a_signature(name: str, args: list[Const], result: FieldType, wanted: Any, endpoint: Endpoint) -> None:
    call = tipb_pb2.Expr(tp=tipb_pb2.ScalarFunc, sig=number_of(name), field_type=wire_type(result))
    call.children.extend(encode_expr(arg, dt.UTC) for arg in args)
    first = tipb_pb2.Expr(tp=tipb_pb2.First, field_type=wire_type(result), children=[call])
    response = asked(endpoint, tipb_pb2.Executor(tp=tipb_pb2.TypeAggregation, aggregation={"agg_func": [first]}))
    assert not response.other_error, response.other_error
    answer = read_answer(response.data, [result], dt.UTC)
    assert answer.error is None
    assert [row for batch in answer.batches for row in batch_to_rows(batch, [result])] == [(wanted,)]


def test_sum_of_text_is_of_its_numbers(endpoint: Endpoint) -> None:
    column = tipb_pb2.Expr(tp=tipb_pb2.ColumnRef, val=b"\x80" + bytes(6) + b"\x01", field_type=wire_type(t.varchar(9)))
    agg = tipb_pb2.Expr(tp=tipb_pb2.Sum, field_type=wire_type(t.DOUBLE), children=[column])
    response = asked(endpoint, tipb_pb2.Executor(tp=tipb_pb2.TypeAggregation, aggregation={"agg_func": [agg]}))
    answer = read_answer(response.data, [t.DOUBLE], dt.UTC)
    assert [row for batch in answer.batches for row in batch_to_rows(batch, [t.DOUBLE])] == [(15.0,)]
