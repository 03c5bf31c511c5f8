"""Requests run in DuckDB and row by row give the same, and what a naive reading of each executor gives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coprocessor import types as t
from coprocessor.arrow import batch_to_rows
from coprocessor.codec.temporal import from_utc
from coprocessor.dag.plan import Aggregation, Dag, IndexScan, Limit, Projection, ScanColumn, Selection, TableScan, TopN
from coprocessor.dag.run import Execution
from coprocessor.dag.scan import Source
from coprocessor.duck import DuckEngine
from coprocessor.env import Env
from coprocessor.errors import BadRequest, EvalError
from coprocessor.evaluate import compile_expr, compile_predicate
from coprocessor.expr import Column, Const, OrderKey
from coprocessor.functions import resolve, resolve_agg
from coprocessor.table import KeyRange
from coprocessor.types import FieldType, Tp
from kvstore.errors import KeyIsLocked
from tests.coprocessor import plans
from tests.coprocessor.store import BY_N, BY_U, CODEC, ROWS, MemoryReader, Row, entries, records

MANY = 10**9


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    made = DuckEngine()
    yield made
    made.close()


def execute(
    dag: Dag,
    reader: MemoryReader,
    engine: DuckEngine,
    direct_rows: int,
    ranges: Sequence[KeyRange] = (CODEC.record_range,),
) -> tuple[list[Row], Execution]:
    execution = Execution(
        dag,
        lambda: Source(dag.scan, ranges, reader, dag.tz, lambda: None),
        engine,
        Env(tz=dag.tz),
        direct_rows=direct_rows,
    )
    rows = [row for batch in execution.batches() for row in batch_to_rows(batch, dag.types)]
    return rows, execution


def _shown(rows: list[Row], dag: Dag) -> list[Row]:
    zone = dag.tz
    return [
        tuple(from_utc(v, zone) if ft.tp == Tp.TIMESTAMP and v else v for v, ft in zip(row, plans.TYPES, strict=True))
        for row in rows
    ]


def _ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=repr)


def _outcome(dag: Dag, reader: MemoryReader, engine: DuckEngine, direct_rows: int) -> list[Row] | str:
    """The rows, in an order of their own where the request gives none; or that a value was out of range."""
    try:
        rows, _ = execute(dag, reader, engine, direct_rows)
    except EvalError as error:
        return str(error.code)
    return _ordered(rows) if any(isinstance(s, Aggregation) for s in dag.steps) else rows


@settings(max_examples=250)
@given(dag=plans.dags(), rows=ROWS, summaries=st.booleans())
def test_duckdb_and_rows_agree(dag: Dag, rows: list[Row], summaries: bool, engine: DuckEngine) -> None:
    dag = replace(dag, summaries=summaries)
    reader = MemoryReader(records(rows))
    assert _outcome(dag, reader, engine, -1) == _outcome(dag, reader, engine, MANY)


@settings(max_examples=100)
@given(rows=ROWS, condition=plans.conditions(plans.TYPES), desc=st.booleans(), direct=st.sampled_from([-1, MANY]))
def test_selection_is_a_filter(rows: list[Row], condition: Any, desc: bool, direct: int, engine: DuckEngine) -> None:
    dag = Dag(plans.table_scan(desc=desc), (Selection((condition,)),), summaries=True)
    found, execution = execute(dag, MemoryReader(records(rows)), engine, direct)
    keep = compile_predicate(condition, {i: i for i in range(len(plans.TYPES))})
    wanted = [row for row in rows if keep(row, Env())]
    assert found == wanted[:: -1 if desc else 1]
    assert execution.produced == [len(rows), len(wanted)]


@settings(max_examples=60)
@given(rows=ROWS, exprs=st.lists(plans.typed(plans.TYPES, "decimal"), min_size=1, max_size=3))
def test_projection_is_a_row_of_expressions(rows: list[Row], exprs: list[Any], engine: DuckEngine) -> None:
    dag = Dag(plans.table_scan(), (Projection(tuple(exprs)),))
    found, _ = execute(dag, MemoryReader(records(rows)), engine, -1)
    closures = [compile_expr(e, {i: i for i in range(len(plans.TYPES))}) for e in exprs]
    assert found == [tuple(c(row, Env()) for c in closures) for row in rows]


D_TYPE, N_TYPE, S_TYPE = plans.TYPES[3], plans.TYPES[1], plans.TYPES[6]


@settings(max_examples=100)
@given(rows=ROWS, direct=st.sampled_from([-1, MANY]), partial=st.booleans())
def test_aggregates_by_group(rows: list[Row], direct: int, partial: bool, engine: DuckEngine) -> None:
    d, n, s = Column(3, D_TYPE), Column(1, N_TYPE), Column(6, S_TYPE)
    aggs = tuple(
        resolve_agg(name, args)
        for name, args in (("count", ()), ("count", (d,)), ("sum", (d,)), ("avg", (d,)), ("min", (n,)), ("max", (n,)))
    )
    dag = Dag(plans.table_scan(), (Aggregation((s,), aggs, partial=partial),))
    found, _ = execute(dag, MemoryReader(records(rows)), engine, direct)
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(None if row[6] is None else row[6].rstrip(" "), []).append(row)
    wanted = {}
    for key, members in groups.items():
        ds = [r[3] for r in members if r[3] is not None]
        ns = [r[1] for r in members if r[1] is not None]
        total = sum(ds, Decimal(0)) if ds else None
        average = (len(ds), total) if partial else (None if total is None else round_half_up(total / len(ds), 6),)
        wanted[key] = (len(members), len(ds), total, *average, min(ns, default=None), max(ns, default=None))
    assert {None if r[-1] is None else r[-1].rstrip(" "): r[:-1] for r in found} == wanted


def round_half_up(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), rounding="ROUND_HALF_UP")


@settings(max_examples=60)
@given(rows=ROWS, direct=st.sampled_from([-1, MANY]), limit=st.integers(0, 6), desc=st.booleans())
def test_top_n(rows: list[Row], direct: int, limit: int, desc: bool, engine: DuckEngine) -> None:
    keys = (OrderKey(Column(1, N_TYPE), desc), OrderKey(Column(0, t.BIGINT)))
    dag = Dag(plans.table_scan(), (TopN(keys, limit),))
    found, _ = execute(dag, MemoryReader(records(rows)), engine, direct)
    by_n = sorted(rows, key=lambda r: (r[1] is not None, r[1] or 0), reverse=desc)
    assert found == _shown(by_n, dag)[:limit]


@given(rows=ROWS, direct=st.sampled_from([-1, MANY]), desc=st.booleans())
def test_a_streamed_aggregate_keeps_the_groups_order(
    rows: list[Row], direct: int, desc: bool, engine: DuckEngine
) -> None:
    step = Aggregation((Column(0, t.BIGINT),), (resolve_agg("count", ()),), streamed=True)
    found, _ = execute(Dag(plans.table_scan(desc=desc), (step,)), MemoryReader(records(rows)), engine, direct)
    assert found == [(1, row[0]) for row in rows][:: -1 if desc else 1]


def _rows(count: int) -> list[Row]:
    return [(i, i % 3, *(None for _ in plans.TYPES[2:])) for i in range(count)]


@pytest.mark.parametrize("direct", [-1, MANY])
def test_a_limit_ends_the_scan(engine: DuckEngine, direct: int) -> None:
    reader = MemoryReader(records(_rows(1000)))
    some = Selection((resolve("eq", (Column(1, N_TYPE), Const(1, t.BIGINT))),))
    found, execution = execute(Dag(plans.table_scan(), (some, Limit(2)), summaries=True), reader, engine, direct)
    assert [row[0] for row in found] == [1, 4]
    assert reader.reads <= 9
    assert execution.produced == [6, 2, 2]


@pytest.mark.parametrize("direct", [-1, MANY])
def test_what_each_executor_gave_is_counted(engine: DuckEngine, direct: int) -> None:
    reader = MemoryReader(records(_rows(30)))
    some = Selection((resolve("lt", (Column(1, N_TYPE), Const(2, t.BIGINT))),))
    agg = Aggregation((Column(1, N_TYPE),), (resolve_agg("count", ()),))
    _, execution = execute(Dag(plans.table_scan(), (some, agg), summaries=True), reader, engine, direct)
    assert execution.produced == [30, 20, 2]
    top = TopN((OrderKey(Column(0, t.BIGINT)),), 5)
    _, execution = execute(Dag(plans.table_scan(), (some, top), summaries=True), reader, engine, direct)
    assert execution.produced == [30, 20, 5]


@pytest.mark.parametrize("direct", [-1, MANY])
def test_a_lock_is_raised_through_the_query(engine: DuckEngine, direct: int) -> None:
    pairs = records(_rows(10))
    reader = MemoryReader(pairs, locked=[CODEC.record_key(8)])
    agg = Aggregation((), (resolve_agg("count", ()),))
    with pytest.raises(KeyIsLocked):
        execute(Dag(plans.table_scan((0,)), (agg,)), reader, engine, direct)
    found, _ = execute(Dag(plans.table_scan((0,)), (agg,)), MemoryReader(pairs), engine, direct)
    assert found == [(10,)]


def test_decimals_that_duckdb_cannot_hold(engine: DuckEngine) -> None:
    wide = t.decimal_type(65, 30)
    scan = TableScan(plans.TABLE_ID, (ScanColumn(4, wide),))
    total = Aggregation((), (resolve_agg("sum", (Column(0, wide),)),))
    rows = [(i, None, None, Decimal(i), *(None for _ in plans.TYPES[4:])) for i in range(5)]
    reader = MemoryReader(records(rows))
    found, _ = execute(Dag(scan, (total,)), reader, engine, -1)
    assert found == [(Decimal(10),)]
    assert reader.reads == 5  # the types alone tell: nothing is read for a query that cannot be
    # what overflows DuckDB's sums of 38 digits, but not MySQL's
    narrow = t.decimal_type(38, 0)
    big = Decimal(9 * 10**37)
    scan = TableScan(plans.TABLE_ID, (ScanColumn(4, narrow),))
    from coprocessor.codec.datum import value_encoder
    from coprocessor.codec.row import build_row

    pairs = {CODEC.record_key(i): build_row([(4, value_encoder(narrow)(big))], []) for i in range(3)}
    total = Aggregation((), (resolve_agg("sum", (Column(0, narrow),)),))
    found, _ = execute(Dag(scan, (total,)), MemoryReader(pairs), engine, -1)
    assert found == [(big * 3,)]


def test_no_columns(engine: DuckEngine) -> None:
    reader = MemoryReader(records(_rows(7)))
    agg = Aggregation((), (resolve_agg("count", ()),))
    for direct in (-1, MANY):
        assert execute(Dag(TableScan(plans.TABLE_ID, ()), (agg,)), reader, engine, direct)[0] == [(7,)]
        assert execute(Dag(TableScan(plans.TABLE_ID, ()), (Limit(4),)), reader, engine, direct)[0] == [()] * 4


# Scans


@settings(max_examples=60)
@given(rows=ROWS, desc=st.booleans(), data=st.data())
def test_ranges_are_read_in_order(rows: list[Row], desc: bool, data: st.DataObject, engine: DuckEngine) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(-51, 51), min_size=2, max_size=8, unique=True)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    ranges = [(CODEC.record_key(a), CODEC.record_key(b)) for a, b in pairs]
    dag = Dag(plans.table_scan((0,), desc=desc))
    found, _ = execute(dag, MemoryReader(records(rows)), engine, MANY, ranges)
    wanted = [row[0] for row in rows if any(a <= row[0] < b for a, b in pairs)]
    assert [row[0] for row in found] == wanted[:: -1 if desc else 1]


@given(rows=ROWS, desc=st.booleans())
def test_single_keys_are_fetched(rows: list[Row], desc: bool, engine: DuckEngine) -> None:
    reader = MemoryReader(records(rows))
    ranges = [(CODEC.record_key(i), CODEC.record_key(i + 1)) for i in range(-50, 50, 2)]
    found, _ = execute(Dag(plans.table_scan((0,), desc=desc)), reader, engine, MANY, ranges)
    wanted = [row[0] for row in rows if row[0] % 2 == 0 and row[0] < 50]
    assert [row[0] for row in found] == wanted[:: -1 if desc else 1]
    assert reader.reads == 0


@settings(max_examples=60)
@given(rows=ROWS, desc=st.booleans(), zone=st.sampled_from(["", "Europe/Berlin"]))
def test_an_index_gives_its_columns_and_the_handle(rows: list[Row], desc: bool, zone: str, engine: DuckEngine) -> None:
    columns = (ScanColumn(2, N_TYPE), ScanColumn(10, t.DATE), ScanColumn(1, t.BIGINT, True, True))
    pairs = entries(rows, BY_N)
    from coprocessor.codec.keys import index_key_range

    ranges = [index_key_range(plans.TABLE_ID, BY_N.id)]
    dag = Dag(IndexScan(plans.TABLE_ID, BY_N.id, columns, desc), time_zone=zone)
    found, _ = execute(dag, MemoryReader(pairs), engine, MANY, ranges)
    wanted = sorted(
        ((row[1], row[9], row[0]) for row in rows),
        key=lambda r: tuple((v is not None, v or 0 if not isinstance(v, dt.date) else v) for v in r),
        reverse=desc,
    )
    assert _ordered(found) == _ordered(wanted)
    assert [r[0] for r in found] == [r[0] for r in wanted]


@given(rows=ROWS, with_handle=st.booleans())
def test_a_unique_index(rows: list[Row], with_handle: bool, engine: DuckEngine) -> None:
    rows = list({row[2]: row for row in rows}.values())
    handle = (ScanColumn(1, t.BIGINT, True, True),) if with_handle else ()
    scan = IndexScan(plans.TABLE_ID, BY_U.id, (ScanColumn(3, plans.TYPES[2]), *handle), unique=True)
    from coprocessor.codec.keys import index_key_range

    found, _ = execute(Dag(scan), MemoryReader(entries(rows, BY_U)), engine, MANY, [index_key_range(77, BY_U.id)])
    assert _ordered(found) == _ordered([(row[2], row[0])[: 1 + with_handle] for row in rows])


def test_columns_that_were_added_have_their_default(engine: DuckEngine) -> None:
    new = ScanColumn(90, t.INT, True, default=5)
    stamp = ScanColumn(91, FieldType(Tp.TIMESTAMP, 19, 0), default=dt.datetime(2020, 1, 1))
    dag = Dag(TableScan(plans.TABLE_ID, (new, stamp)), time_zone="Europe/Berlin")
    found, _ = execute(dag, MemoryReader(records(_rows(2))), engine, MANY)
    assert found == [(5, from_utc(dt.datetime(2020, 1, 1), ZoneInfo("Europe/Berlin")))] * 2


def test_ranges_of_something_else_are_refused(engine: DuckEngine) -> None:
    reader = MemoryReader(records(_rows(2)))
    for bounds in ((b"", b"z"), (b"m", b"n"), (b"t" + bytes(8) + b"_i", b"t" + bytes(8) + b"_j")):
        with pytest.raises(BadRequest):
            execute(Dag(plans.table_scan((0,))), reader, engine, MANY, [bounds])
