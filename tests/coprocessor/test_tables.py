"""Scans of tables of other shapes: clustered keys, unsigned and hidden handles, their indexes; and many threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor import types as t
from coprocessor.arrow import batch_to_rows
from coprocessor.codec.keys import index_key_range
from coprocessor.dag.answer import read_answer
from coprocessor.dag.build import scan_index, scan_table
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.plan import Aggregation, Dag, EncodeType, Scan, Selection
from coprocessor.duck import DuckEngine
from coprocessor.endpoint import Endpoint
from coprocessor.expr import Column, Const
from coprocessor.functions import resolve, resolve_agg
from coprocessor.schema import HANDLE_OFFSET, ColumnSchema, IndexColumn, IndexSchema, TableSchema
from coprocessor.table import KeyRange, TableCodec
from coprocessor.types import FieldType
from kvstore.codec import encode_bytes
from kvstore.proto import coprocessor_pb2
from tests.coprocessor.store import MemoryReader, Row

CHAR = FieldType(t.Tp.STRING, 8, charset="utf8mb4", collate="utf8mb4_bin")
COLUMNS = (
    ("k", t.varchar(12)),
    ("n", t.INT),
    ("u", t.UBIGINT),
    ("c", CHAR),
    ("day", t.DATE),
    ("d", t.decimal_type(9, 3)),
)
INDEXES = (
    IndexSchema(1, "by_c", (IndexColumn(3), IndexColumn(4)), unique=False),
    IndexSchema(2, "by_n", (IndexColumn(1),), unique=True),
)


def _table(handle: str) -> TableSchema:
    columns = tuple(ColumnSchema(i + 1, name, ft, i < 3) for i, (name, ft) in enumerate(COLUMNS))
    common = (IndexColumn(1), IndexColumn(3)) if handle == "common" else ()
    if handle == "text":
        common = (IndexColumn(0), IndexColumn(1))
    if handle == "three":
        common = (IndexColumn(2), IndexColumn(5), IndexColumn(3))
    return TableSchema(9, "t", columns, 2 if handle == "unsigned" else -1, common, INDEXES)


KINDS = ("common", "text", "three", "unsigned", "hidden")
WORDS = st.text("abé ", max_size=10).map(lambda s: s.strip())
ROWS = st.lists(
    st.tuples(
        WORDS, st.integers(-99, 99), st.integers(0, 2**64 - 1), WORDS.map(lambda s: s[:8].strip()),
        st.none() | st.dates(), st.decimals(-9, 9, places=3),
    ),
    max_size=12,
    unique_by=(lambda r: r[1], lambda r: r[2]),
)  # fmt: skip


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    engine = DuckEngine()
    yield Endpoint(engine)
    engine.close()


def ask(endpoint: Endpoint, scan: Scan, pairs: dict[bytes, bytes], bounds: KeyRange, steps: Any = ()) -> list[Row]:
    dag = Dag(scan, steps, (), EncodeType.CHUNK)
    dag = Dag(scan, steps, tuple(range(len(dag.types))), EncodeType.CHUNK)
    request = coprocessor_pb2.Request(tp=103, data=encode_dag(dag).SerializeToString(), start_ts=5)
    request.ranges.add(start=bounds[0], end=bounds[1])
    response = endpoint.handle(request, lambda ts: MemoryReader(pairs, ts))
    assert not response.other_error, response.other_error
    answer = read_answer(response.data, dag.output_types, dag.tz)
    assert answer.error is None
    return [row for batch in answer.batches for row in batch_to_rows(batch, dag.output_types)]


def _ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=repr)


@pytest.mark.parametrize("handle", KINDS)
@settings(max_examples=40)
@given(rows=ROWS, data=st.data())
def test_records(handle: str, rows: list[Row], data: st.DataObject, endpoint: Endpoint) -> None:
    codec = TableCodec(_table(handle))
    hidden = handle == "hidden"
    pairs = dict(codec.encode_record(row, i + 1 if hidden else None) for i, row in enumerate(rows))
    offsets = data.draw(st.lists(st.integers(0, 5), max_size=6, unique=True))
    scan = scan_table(codec.schema, [*offsets, *([HANDLE_OFFSET] if hidden else [])])
    wanted = [tuple(row[o] for o in offsets) + ((i + 1,) if hidden else ()) for i, row in enumerate(rows)]
    assert _ordered(ask(endpoint, scan, pairs, codec.record_range)) == _ordered(wanted)


@pytest.mark.parametrize("handle", ["common", "unsigned", "hidden"])
@pytest.mark.parametrize("index", INDEXES, ids=lambda index: index.name)
@settings(max_examples=40)
@given(rows=ROWS)
def test_index_entries(handle: str, index: IndexSchema, rows: list[Row], endpoint: Endpoint) -> None:
    codec = TableCodec(_table(handle))
    pairs = {}
    for i, row in enumerate(rows):
        key, value, _ = codec.index_key_value(index, row, i + 1 if handle == "hidden" else codec.handle_of(row))
        pairs[key] = value
    scan, offsets = scan_index(codec.schema, index)
    found = ask(endpoint, scan, pairs, index_key_range(9, index.id))
    wanted = [tuple(i + 1 if o == HANDLE_OFFSET else row[o] for o in offsets) for i, row in enumerate(rows)]
    assert _ordered(found) == _ordered(wanted)


@pytest.mark.parametrize("handle", KINDS)
def test_a_column_asked_for_twice(handle: str, endpoint: Endpoint) -> None:
    """As TiDB's ADMIN CHECK TABLE does with the handle; of two forms of one column neither can be right."""
    codec = TableCodec(_table(handle))
    row = ("key", -5, 2**64 - 1, "c", None, Decimal("1.500"))
    pairs = dict([codec.encode_record(row, 1 if handle == "hidden" else None)])
    asked_for = (2, 0, 2, 5, 0)
    scan = scan_table(codec.schema, asked_for)
    assert ask(endpoint, scan, pairs, codec.record_range) == [tuple(row[o] for o in asked_for)]
    two_forms = replace(scan, columns=(scan.columns[0], replace(scan.columns[0], type=t.DATE)))
    request = coprocessor_pb2.Request(tp=103, data=encode_dag(Dag(two_forms)).SerializeToString(), start_ts=5)
    request.ranges.add(start=codec.record_range[0], end=codec.record_range[1])
    assert "two forms" in endpoint.handle(request, lambda ts: MemoryReader(pairs, ts)).other_error


SPACED = st.text("aé ", max_size=6)


@pytest.mark.parametrize("handle", ["common", "text", "unsigned", "hidden"])
@pytest.mark.parametrize("unique", [False, True])
@settings(max_examples=40)
@given(rows=ROWS, texts=st.lists(SPACED | st.none(), min_size=12, max_size=12))
def test_text_out_of_an_index_alone(
    handle: str, unique: bool, rows: list[Row], texts: list[str | None], endpoint: Endpoint
) -> None:
    """The spaces that its keys leave out come back from the entries' values."""
    codec = TableCodec(_table(handle))
    index = IndexSchema(3, "by_k", (IndexColumn(4), IndexColumn(0), IndexColumn(3)), unique=unique)
    of_key = handle == "text"
    pairs, wanted = {}, []
    scan, offsets = scan_index(codec.schema, index)
    for i, (row, text) in enumerate(zip(rows, texts, strict=False)):
        changed = (f"{i}{text or ''}" if of_key else text, *row[1:])
        key, value, _ = codec.index_key_value(index, changed, i + 1 if handle == "hidden" else codec.handle_of(changed))
        if key not in pairs:
            pairs[key] = value
            wanted.append(tuple(i + 1 if o == HANDLE_OFFSET else changed[o] for o in offsets))
    assert _ordered(ask(endpoint, scan, pairs, index_key_range(9, index.id))) == _ordered(wanted)


def test_text_of_an_index_without_restored_data(endpoint: Endpoint) -> None:
    """A cluster without new collations has all of the text in the key; weights without it are refused."""
    schema = _table("hidden")
    index = IndexSchema(3, "by_k", (IndexColumn(0),), unique=False)
    scan, _ = scan_index(schema, index)
    key = index_key_range(9, 3)[0]
    handle = b"\x03\x80" + bytes(6) + b"\x07"
    bounds = index_key_range(9, 3)
    assert ask(endpoint, scan, {key + b"\x01" + encode_bytes("é  ".encode()) + handle: b"0"}, bounds) == [("é  ", 7)]
    request = coprocessor_pb2.Request(tp=103, data=encode_dag(Dag(scan, (), (0,))).SerializeToString(), start_ts=5)
    request.ranges.add(start=bounds[0], end=bounds[1])
    weights = {key + b"\x01" + encode_bytes(b"\xff\xfe") + handle: b"0"}
    answer = endpoint.handle(request, lambda ts: MemoryReader(weights, ts))
    assert "does not tell the text" in answer.other_error


def test_many_threads(endpoint: Endpoint) -> None:
    codec = TableCodec(_table("hidden"))
    pairs = dict(codec.encode_record(("k", i, i, "c", None, None), i) for i in range(3000))
    n = Column(0, t.INT)

    def total(limit: int) -> list[Row]:
        below = Selection((resolve("lt", (n, Const(limit, t.BIGINT))),))
        agg = Aggregation((), (resolve_agg("count", ()), resolve_agg("sum", (n,))))
        return ask(endpoint, scan_table(codec.schema, (1,)), pairs, codec.record_range, (below, agg))

    limits = [5, 600, 2500, 2999] * 6
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(total, limits))
    assert found == [[(limit, limit * (limit - 1) // 2)] for limit in limits]
