"""The endpoint: requests as TiDB sends them, in every encoding, by pages, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor import types as t
from coprocessor.arrow import batch_to_rows
from coprocessor.codec.row import build_row
from coprocessor.dag.answer import read_answer
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.plan import Aggregation, Dag, EncodeType, Limit, Projection, ScanColumn, Selection, TableScan, TopN
from coprocessor.duck import DuckEngine
from coprocessor.endpoint import DataVersion, Endpoint
from coprocessor.expr import Call, Column, Const, OrderKey
from coprocessor.functions import resolve, resolve_agg
from coprocessor.types import FieldType, Tp
from kvstore.proto import coprocessor_pb2, tipb_pb2
from tests.coprocessor import plans
from tests.coprocessor.store import CODEC, ROWS, MemoryReader, Row, records
from tests.coprocessor.test_run import execute

START, END = CODEC.record_range


@pytest.fixture(scope="module", params=[10**9, -1], ids=["rows", "duckdb"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    engine = DuckEngine()
    yield Endpoint(engine, direct_rows=request.param)
    engine.close()


def request(dag: Dag, **changes: Any) -> coprocessor_pb2.Request:
    fields = {"tp": 103, "start_ts": 9, "data": encode_dag(dag).SerializeToString()} | changes
    made = coprocessor_pb2.Request(**fields)
    if not made.ranges:
        made.ranges.add(start=START, end=END)
    return made


def ask(endpoint: Endpoint, dag: Dag, pairs: dict[bytes, bytes], **changes: Any) -> list[Row]:
    response = endpoint.handle(request(dag, **changes), lambda ts: MemoryReader(pairs, ts))
    assert not response.other_error, response.other_error
    return rows_of(response, dag)


def rows_of(response: coprocessor_pb2.Response, dag: Dag) -> list[Row]:
    answer = read_answer(response.data, dag.output_types, dag.tz)
    assert answer.error is None, answer.error
    return [row for batch in answer.batches for row in batch_to_rows(batch, dag.output_types)]


@settings(max_examples=120)
@given(dag=plans.dags(), rows=ROWS)
def test_the_answer_is_what_the_plan_gives(dag: Dag, rows: list[Row], endpoint: Endpoint) -> None:
    reader = MemoryReader(records(rows))
    response = endpoint.handle(request(dag), lambda ts: reader)
    assert not response.other_error, response.other_error
    answer = read_answer(response.data, dag.output_types, dag.tz)
    if answer.error is not None:
        assert answer.error[0] == 1690
        return
    found = [row for batch in answer.batches for row in batch_to_rows(batch, dag.output_types)]
    wanted, _ = execute(dag, reader, endpoint._engine, 10**9)
    assert sorted(found, key=repr) == sorted(wanted, key=repr)


@settings(max_examples=60)
@given(rows=ROWS, desc=st.booleans(), page=st.integers(1, 5), encode=st.sampled_from(EncodeType))
def test_pages_make_up_the_whole(
    rows: list[Row], desc: bool, page: int, encode: EncodeType, endpoint: Endpoint
) -> None:
    some = Selection((resolve("ge", (Column(0, t.BIGINT), Const(-20, t.BIGINT))),))
    dag = Dag(plans.table_scan((0, 1), desc=desc), (some,), (1, 0), encode)
    reader = MemoryReader(records(rows))
    first, last = START, END
    found: list[Row] = []
    for _ in range(len(rows) + 2):
        ranges = [coprocessor_pb2.KeyRange(start=first, end=last)]
        response = endpoint.handle(request(dag, paging_size=page, ranges=ranges), lambda ts: reader)
        part = rows_of(response, dag)
        found += part
        if not response.HasField("range"):
            break
        assert len(part) >= page
        if desc:
            assert response.range.end == last
            last = response.range.start
        else:
            assert response.range.start == first
            first = response.range.end
    else:
        pytest.fail("the pages do not end")
    wanted = [(row[1], row[0]) for row in rows if row[0] >= -20]
    assert found == wanted[:: -1 if desc else 1]


def test_a_page_may_be_of_bytes(endpoint: Endpoint) -> None:
    pairs = records([(i, *([None] * 15)) for i in range(20)])
    response = endpoint.handle(
        request(Dag(plans.table_scan((0,)), (), (0,)), paging_size_bytes=1), lambda ts: MemoryReader(pairs, ts)
    )
    assert response.HasField("range")
    assert response.range.end == CODEC.record_key(2) + b"\0"


def test_a_limit_that_is_reached_leaves_no_page(endpoint: Endpoint) -> None:
    """Neither where its rows are all, nor under an aggregation, whose next page would count other rows."""
    pairs = records([(i, *([None] * 15)) for i in range(20)])
    count = Aggregation((), (resolve_agg("count", ()),))
    for steps, rows in (((Limit(2),), [(0,), (1,)]), ((Limit(2), count), [(2,)])):
        dag = Dag(plans.table_scan((0,)), steps, (0,))
        response = endpoint.handle(request(dag, paging_size=1), lambda ts: MemoryReader(pairs, ts))
        assert rows_of(response, dag) == rows
        assert not response.HasField("range")


def test_a_request_as_tidb_builds_it(endpoint: Endpoint) -> None:
    """SELECT COUNT(1), SUM(n), s FROM t WHERE n > 1 AND s LIKE 'a%' GROUP BY s, field by field."""

    def column(offset: int, tp: int, **more: Any) -> tipb_pb2.Expr:
        val = (offset | 1 << 63).to_bytes(8, "big")
        return tipb_pb2.Expr(tp=201, val=val, field_type=tipb_pb2.FieldType(tp=tp, flen=-1, decimal=-1, **more))

    one = tipb_pb2.Expr(tp=1, val=bytes.fromhex("8000000000000001"), field_type=tipb_pb2.FieldType(tp=8, flag=129))
    text = tipb_pb2.FieldType(tp=253, flen=2, decimal=-1, collate=-46, charset="utf8mb4")
    pattern = tipb_pb2.Expr(tp=5, val=b"a%", field_type=text)
    escape = tipb_pb2.Expr(tp=1, val=(92 | 1 << 63).to_bytes(8, "big"), field_type=tipb_pb2.FieldType(tp=8))
    boolean = tipb_pb2.FieldType(tp=8, flag=128, flen=1, decimal=0, collate=-46, charset="binary")
    more = tipb_pb2.Expr(tp=10000, sig=120, children=[column(0, 3), one], field_type=boolean)
    like = tipb_pb2.Expr(tp=10000, sig=4310, children=[column(1, 15), pattern, escape], field_type=boolean)
    total = tipb_pb2.FieldType(tp=246, flag=128, flen=32, decimal=0, collate=63, charset="binary")
    dag = tipb_pb2.DAGRequest(
        executors=[
            tipb_pb2.Executor(
                tp=0,
                executor_id="TableFullScan_5",
                tbl_scan=tipb_pb2.TableScan(
                    table_id=plans.TABLE_ID,
                    columns=[
                        tipb_pb2.ColumnInfo(column_id=2, tp=3, collation=-63, columnLen=11, decimal=0, flag=0),
                        tipb_pb2.ColumnInfo(column_id=7, tp=15, collation=-46, columnLen=20, decimal=0, flag=0),
                    ],
                ),
            ),
            tipb_pb2.Executor(tp=2, executor_id="Selection_6", selection=tipb_pb2.Selection(conditions=[more, like])),
            tipb_pb2.Executor(
                tp=3,
                executor_id="HashAgg_7",
                aggregation=tipb_pb2.Aggregation(
                    group_by=[column(1, 15, collate=-46)],
                    agg_func=[
                        tipb_pb2.Expr(tp=3001, children=[one], field_type=tipb_pb2.FieldType(tp=8, flag=129, flen=21)),
                        tipb_pb2.Expr(tp=3002, children=[column(0, 3)], field_type=total),
                    ],
                ),
            ),
        ],
        output_offsets=[0, 1, 2],
        encode_type=1,
        flags=32,
        time_zone_name="UTC",
        time_zone_offset=0,
        sql_mode=1436549152,
        collect_execution_summaries=True,
        chunk_memory_layout=tipb_pb2.ChunkMemoryLayout(endian=0),
    )
    nothing: list[Any] = [None] * 9
    rows: list[Row] = [
        (i, n, None, None, None, None, s, *nothing)
        for i, (n, s) in enumerate([(2, "ab"), (5, "ab"), (1, "a"), (3, "b")])
    ]
    made = coprocessor_pb2.Request(tp=103, data=dag.SerializeToString(), start_ts=5)
    made.ranges.add(start=START, end=END)
    response = endpoint.handle(made, lambda ts: MemoryReader(records(rows), ts))
    select = tipb_pb2.SelectResponse.FromString(response.data)
    assert select.encode_type == tipb_pb2.TypeChunk
    assert list(select.output_counts) == [1]
    count = "01000000000000000200000000000000"  # fmt: skip
    amount = "01000000000000000900000007000000" + "00" * 32  # fmt: skip
    name = "0100000000000000000000000000000002000000000000006162"  # fmt: skip
    assert select.chunks[0].rows_data.hex() == count + amount + name
    summaries = [(s.executor_id, s.num_produced_rows) for s in select.execution_summaries]
    assert summaries == [("TableFullScan_5", 4), ("Selection_6", 2), ("HashAgg_7", 1)]


def test_default_encoding_has_64_rows_a_chunk(endpoint: Endpoint) -> None:
    nothing: list[Any] = [None] * 15
    pairs = records([(i, *nothing) for i in range(150)])
    dag = Dag(plans.table_scan((0, 1)), (), (0, 1), EncodeType.DEFAULT)
    response = endpoint.handle(request(dag), lambda ts: MemoryReader(pairs, ts))
    select = tipb_pb2.SelectResponse.FromString(response.data)
    first = select.chunks[0].rows_data
    assert select.encode_type == tipb_pb2.TypeDefault
    assert first[:6].hex() == "080000080200"
    assert [row[0] for row in rows_of(response, dag)] == list(range(150))


def test_a_set_is_answered_in_datums(endpoint: Endpoint) -> None:
    type_ = FieldType(Tp.SET, elems=("a", "b"), charset="utf8mb4", collate="utf8mb4_bin")
    pairs = {CODEC.record_key(1): build_row([(50, b"\x03")], [])}
    dag = Dag(TableScan(plans.TABLE_ID, (ScanColumn(50, type_),)), (), (0,), EncodeType.CHUNK)
    response = endpoint.handle(request(dag), lambda ts: MemoryReader(pairs, ts))
    assert tipb_pb2.SelectResponse.FromString(response.data).encode_type == tipb_pb2.TypeDefault
    assert rows_of(response, dag) == [("a,b",)]


def test_timestamps_are_seen_in_the_request_s_zone(endpoint: Endpoint) -> None:
    import datetime as dt

    stored = dt.datetime(2020, 6, 1, 22, 0)
    row: Row = (1, *([None] * 10), stored, *([None] * 4))
    stamp = Column(0, plans.TYPES[11])
    local = Selection((resolve("eq", (stamp, Const(dt.datetime(2020, 6, 2), plans.TYPES[11]))),))
    for encode in EncodeType:
        dag = Dag(plans.table_scan((11,)), (local,), (0,), encode, "Europe/Berlin")
        assert ask(endpoint, dag, records([row])) == [(dt.datetime(2020, 6, 2),)]
        dag = replace(dag, time_zone="", zone_offset=7200)
        assert ask(endpoint, dag, records([row])) == [(dt.datetime(2020, 6, 2),)]
        assert ask(endpoint, replace(dag, zone_offset=3600), records([row])) == []


def test_arguments_as_other_clients_send_them(endpoint: Endpoint) -> None:
    """Without the casts that our binder puts in: a date with a time, bits of signed integers."""
    import datetime as dt

    day, n = Column(0, t.DATE), Column(1, plans.TYPES[1])
    late = Const(dt.datetime(2020, 1, 1, 12), t.DATETIME)
    before = Call("lt", (day, late), t.BOOL)
    among = Call("in", (day, Const(dt.datetime(2020, 1, 1), t.DATETIME), late), t.BOOL)
    either = Call("coalesce", (late, day), t.DATETIME)
    bits = Call("bitand", (n, Const(-4, t.BIGINT)), t.UBIGINT)
    days = Call("datediff", (late, day), t.BIGINT)
    dag = Dag(plans.table_scan((9, 1)), (Projection((before, among, either, bits, days)),), tuple(range(5)))
    nothing: list[Any] = [None] * 14
    row = (1, -2, *nothing[:7], dt.date(2020, 1, 1), *nothing[:6])
    assert ask(endpoint, dag, records([row])) == [(1, 1, dt.datetime(2020, 1, 1, 12), 2**64 - 4, 0)]


# What goes wrong


def test_a_lock(endpoint: Endpoint) -> None:
    pairs = records([(1, *([None] * 15))])
    key = CODEC.record_key(1)
    response = endpoint.handle(request(Dag(plans.table_scan())), lambda ts: MemoryReader(pairs, ts, [key]))
    assert (response.locked.key, response.locked.lock_version, response.locked.primary_lock) == (key, 7, b"primary")
    assert not response.data


def test_a_deadline_makes_the_server_busy(endpoint: Endpoint) -> None:
    now = iter(range(100))
    endpoint = Endpoint(endpoint._engine, clock_ns=lambda: next(now) * 1_000_000_000)
    made = request(Dag(plans.table_scan()))
    made.context.max_execution_duration_ms = 2500
    response = endpoint.handle(made, lambda ts: MemoryReader(records([(i, *([None] * 15)) for i in range(30)]), ts))
    assert response.region_error.HasField("server_is_busy")


def test_what_cannot_be_computed_is_an_error_of_the_answer(endpoint: Endpoint) -> None:
    huge = resolve("mul", (Column(0, t.BIGINT), Const(2**62, t.BIGINT)))
    dag = Dag(plans.table_scan((0,)), (Projection((huge,)),), (0,))
    for count in (3, 3000):
        pairs = records([(i + 100, *([None] * 15)) for i in range(count)])
        response = endpoint.handle(request(dag), lambda ts, pairs=pairs: MemoryReader(pairs, ts))
        answer = read_answer(response.data, dag.output_types, dag.tz)
        assert answer.error is not None
        assert answer.error[0] == 1690


def test_warnings_are_counted_and_the_first_are_sent(endpoint: Endpoint) -> None:
    rest = resolve("mod", (Column(0, t.BIGINT), Const(0, t.BIGINT)))
    dag = Dag(plans.table_scan((0,)), (Projection((rest,)),), (0,))
    pairs = records([(i, *([None] * 15)) for i in range(100)])
    response = Endpoint(endpoint._engine).handle(request(dag), lambda ts: MemoryReader(pairs, ts))
    select = tipb_pb2.SelectResponse.FromString(response.data)
    assert [warning.code for warning in select.warnings] == [1365] * 64
    assert select.warning_count == 100


def test_other_kinds_of_requests(endpoint: Endpoint) -> None:
    dag = Dag(plans.table_scan())
    for tp, words in ((104, "ANALYZE"), (1, "type 1"), (0, "type 0")):
        response = endpoint.handle(request(dag, tp=tp), lambda ts: MemoryReader({}, ts))
        assert words in response.other_error
    wrong = [coprocessor_pb2.KeyRange(start=END, end=END), coprocessor_pb2.KeyRange(start=START, end=END)]
    assert "ascend" in endpoint.handle(request(dag, ranges=wrong), lambda ts: MemoryReader({}, ts)).other_error
    wrong = [coprocessor_pb2.KeyRange(start=START), coprocessor_pb2.KeyRange(start=START, end=END)]
    assert "ascend" in endpoint.handle(request(dag, ranges=wrong), lambda ts: MemoryReader({}, ts)).other_error
    wire = encode_dag(dag)
    wire.time_zone_name = "Nowhere/At_All"
    response = endpoint.handle(request(dag, data=wire.SerializeToString()), lambda ts: MemoryReader({}, ts))
    assert "time zone" in response.other_error


@settings(max_examples=150)
@given(rows=ROWS, data=st.data())
def test_damaged_rows_are_an_error_of_the_request(rows: list[Row], data: st.DataObject, endpoint: Endpoint) -> None:
    pairs = records(rows)
    for key, value in pairs.items():
        wrong = bytearray(value)
        at = data.draw(st.integers(0, len(wrong) - 1))
        wrong[at] = data.draw(st.integers(0, 255))
        pairs[key] = bytes(wrong)
    offsets = tuple(range(len(plans.TYPES)))
    dag = Dag(plans.table_scan(), (), offsets, data.draw(st.sampled_from(EncodeType)))
    response = endpoint.handle(request(dag), lambda ts: MemoryReader(pairs, ts))
    assert response.data or response.other_error


@settings(max_examples=300)
@given(data=st.data())
def test_no_request_breaks_the_endpoint(data: st.DataObject, endpoint: Endpoint) -> None:
    dag = data.draw(plans.dags())
    wire = bytearray(encode_dag(dag).SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        if wire:
            at = data.draw(st.integers(0, len(wire) - 1))
            wire[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        wire = wire[: data.draw(st.integers(0, len(wire)))]
    pairs = records([(i, *([None] * 15)) for i in range(4)])
    made = request(dag, data=bytes(wire), paging_size=data.draw(st.integers(0, 3)))
    response = endpoint.handle(made, lambda ts: MemoryReader(pairs, ts))
    assert response.data or response.other_error


def test_text_that_is_not_utf_8_is_refused(endpoint: Endpoint) -> None:
    """protobuf gives such a string as bytes."""
    enum = FieldType(Tp.ENUM, elems=("member",), charset="utf8mb4", collate="utf8mb4_bin")
    scan = TableScan(plans.TABLE_ID, (ScanColumn(50, enum),))
    some = Selection((Call("eq", (Const("text", t.TEXT), Const("text", t.TEXT)), t.BOOL),))
    dag = Dag(scan, (some,), (0,), time_zone="UTC", summaries=True, executor_ids=("leaf", "above"))
    wire = encode_dag(dag).SerializeToString()
    reader = MemoryReader({CODEC.record_key(1): build_row([], [50])})
    assert endpoint.handle(request(dag), lambda ts: reader).data
    for word in (b"member", b"UTC", b"leaf", b"utf8mb4"):
        assert word in wire
        wrong = wire.replace(word, b"\xff" + word[1:])
        assert "not UTF-8" in endpoint.handle(request(dag, data=wrong), lambda ts: reader).other_error


def _messages(message: Any) -> Iterator[Any]:
    """All the types and columns in a request."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else [value]:
            if isinstance(part, tipb_pb2.FieldType | tipb_pb2.ColumnInfo):
                yield part
            yield from _messages(part)


@settings(max_examples=300)
@given(dag=plans.dags(), rows=ROWS, data=st.data())
def test_no_type_breaks_the_endpoint(dag: Dag, rows: list[Row], data: st.DataObject, endpoint: Endpoint) -> None:
    """Types that do not belong to the expressions, or to what is stored."""
    wire = encode_dag(dag)
    types = list(_messages(wire))
    for _ in range(data.draw(st.integers(1, 4))):
        part = data.draw(st.sampled_from(types))
        part.tp = data.draw(st.sampled_from([int(tp) for tp in Tp]))
        part.decimal = data.draw(st.sampled_from([-1, 0, 2, 6, 30]))
        part.flag = data.draw(st.sampled_from([0, 1, 32]))
        if isinstance(part, tipb_pb2.FieldType):
            part.flen = data.draw(st.sampled_from([-1, 0, 1, 10, 65, 99]))
    response = endpoint.handle(request(dag, data=wire.SerializeToString()), lambda ts: MemoryReader(records(rows), ts))
    assert response.data or response.other_error


@given(data=st.binary(max_size=60), tp=st.sampled_from([103, 104, 105]))
def test_noise_is_refused_or_answered(data: bytes, tp: int, endpoint: Endpoint) -> None:
    response = endpoint.handle(request(Dag(plans.table_scan()), data=data, tp=tp), lambda ts: MemoryReader({}, ts))
    assert response.data or response.other_error


# Cache, checksum


def test_an_answer_is_kept_as_long_as_the_data_is_the_same(endpoint: Endpoint) -> None:
    dag = Dag(plans.table_scan((0,)), (Limit(1),), (0,))
    pairs = records([(1, *([None] * 15))])
    response = endpoint.handle(request(dag), lambda ts: MemoryReader(pairs, ts), DataVersion(4, lambda: True))
    assert (response.can_be_cached, response.cache_last_version) == (True, 4)
    again = request(dag, is_cache_enabled=True, cache_if_match_version=4)
    hit = endpoint.handle(again, lambda ts: MemoryReader(pairs, ts), DataVersion(4, lambda: True))
    assert hit.is_cache_hit
    assert not hit.data
    miss = endpoint.handle(again, lambda ts: MemoryReader(pairs, ts), DataVersion(5, lambda: True))
    assert not miss.is_cache_hit
    assert miss.data
    # something newer than the reader is there: others may not see what it saw
    older = endpoint.handle(request(dag), lambda ts: MemoryReader(pairs, ts), DataVersion(4, lambda: False))
    assert not older.can_be_cached


def crc64(data: bytes) -> int:
    """CRC-64/XZ, bit by bit."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xC96C5795D7870F42 if crc & 1 else 0)
    return crc ^ (1 << 64) - 1


def test_the_checksum_is_crc64_of_every_pair(endpoint: Endpoint) -> None:
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA
    pairs = records([(i, i, None, None, None, None, "x" * i, *([None] * 9)) for i in range(20)])
    made = request(Dag(plans.table_scan()), tp=105, data=tipb_pb2.ChecksumRequest(scan_on=0).SerializeToString())
    response = endpoint.handle(made, lambda ts: MemoryReader(pairs, ts))
    found = tipb_pb2.ChecksumResponse.FromString(response.data)
    wanted = 0
    for key, value in pairs.items():
        wanted ^= crc64(key + value)
    size = sum(len(key) + len(value) for key, value in pairs.items())
    assert (found.checksum, found.total_kvs, found.total_bytes) == (wanted, 20, size)


def test_a_topn_over_json_and_enum_columns(endpoint: Endpoint) -> None:
    rows: list[Row] = [(i, *([None] * 13), color, "[1]") for i, color in enumerate(("blue", "red", "green"))]
    color = Column(1, plans.TYPES[14])
    dag = Dag(plans.table_scan((0, 14, 15)), (TopN((OrderKey(color),), 2),), (1, 2))
    assert ask(endpoint, dag, records(rows)) == [("red", "[1]"), ("green", "[1]")]
    first = resolve_agg("any_value", (color,))
    dag = Dag(plans.table_scan((0, 14)), (Aggregation((), (first,)),), (0,))
    assert ask(endpoint, dag, records(rows)) == [("blue",)]
