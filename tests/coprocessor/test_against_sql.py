"""Requests over several regions, merged above, give what the SQL engine says to the same query."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlfront
from coprocessor.arrow import batch_to_rows
from coprocessor.dag.answer import read_answer
from coprocessor.dag.build import merge_steps, run_steps, scan_table
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.expressions import at_offsets, can_group_by, can_push, can_push_agg
from coprocessor.dag.plan import Aggregation, Dag, EncodeType, Projection, Selection, Step, TopN, types_after
from coprocessor.endpoint import Endpoint
from coprocessor.env import Env
from coprocessor.expr import Agg, Const, OrderKey
from kvstore.proto import coprocessor_pb2
from sqlfront import parse
from sqlfront.exec.statement import bind_context, plan_query
from sqlfront.plan.nodes import Aggregate, Filter, Limit, Node, Project, Scan, Sort

ROWS = 400
CREATE = """CREATE TABLE t (
    a INT, b INT, n BIGINT UNSIGNED, d DECIMAL(12, 2), f DOUBLE, s VARCHAR(10), c CHAR(4), day DATE, at DATETIME,
    span TIME, PRIMARY KEY (a, c))"""


def _row(i: int) -> tuple[Any, ...]:
    def maybe(value: Any, every: int) -> Any:
        return None if i % every == 0 else value

    return (
        i,
        maybe(i % 7 - 3, 5),
        maybe(i * 3 % 11, 9),
        maybe(f"{i % 40 - 20}.{i % 100:02d}", 4),
        maybe(i * 0.5, 6),
        maybe("ab c"[: i % 5] + " " * (i % 2), 8),
        "wxyz"[i % 4],
        maybe(f"2020-0{i % 9 + 1}-1{i % 10}", 7),
        maybe(f"2020-01-0{i % 9 + 1} 1{i % 10}:00:00", 6),
        maybe(f"0{i % 9}:30:00", 3),
    )


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    con = sqlfront.connect(autocommit=True)
    cursor = con.cursor()
    cursor.execute("CREATE DATABASE x")
    cursor.execute("USE x")
    cursor.execute(CREATE)
    cursor.executemany(f"INSERT INTO t VALUES ({', '.join('?' * 10)})", [_row(i) for i in range(ROWS)])
    yield con
    con.close()


def _chain(root: Node) -> list[Node]:
    nodes = [root]
    while not isinstance(nodes[-1], Scan):
        nodes.append(nodes[-1].child)  # type: ignore[union-attr]
    return nodes[::-1]


def _steps(root: Node) -> tuple[Scan, list[Step], list[Step]]:
    """The request's steps, and those that stay above, of a plan that is one chain."""
    scan, *rest = _chain(root)
    assert isinstance(scan, Scan)
    layout = {c.id: i for i, c in enumerate(scan.cols)}
    below: list[Step] = []
    above: list[Step] = []
    if scan.where:
        assert all(map(can_push, scan.where)), scan.where
        below.append(Selection(tuple(at_offsets(c, layout) for c in scan.where)))
    for node in rest:
        match node:
            case Aggregate():
                assert all(map(can_push_agg, node.aggs)), node.aggs
                assert all(map(can_group_by, node.groups)), node.groups
                aggs = tuple(at_offsets(a, layout) for a in node.aggs)
                groups = tuple(at_offsets(g, layout) for g in node.groups)
                step = Aggregation(groups, tuple(a for a in aggs if isinstance(a, Agg)))
                below.append(step)
                above += merge_steps(step)
                cols = node.cols[len(groups) :] + node.cols[: len(groups)]
                layout = {c.id: i for i, c in enumerate(cols)}
            case Project():
                above.append(Projection(tuple(at_offsets(e, layout) for e in node.exprs)))
                layout = {c.id: i for i, c in enumerate(node.cols)}
            case Filter():
                above.append(Selection(tuple(at_offsets(e, layout) for e in node.conds)))
            case Sort():
                above.append(TopN(tuple(OrderKey(at_offsets(k.expr, layout), k.desc) for k in node.keys), ROWS))
            case Limit():
                assert isinstance(node.count, Const)
                top = above.pop()
                assert isinstance(top, TopN)
                step_n = TopN(top.keys, int(str(node.count.value)))
                if not above and not any(isinstance(s, Aggregation) for s in below):
                    below.append(step_n)
                above.append(step_n)
    return scan, below, above


def ask(connection: Any, sql: str, encode: EncodeType) -> list[tuple[Any, ...]]:
    """The query by requests to three regions."""
    session = connection._session
    parsed = parse.parse(sql)
    plan = plan_query(session, bind_context(session, parsed, ()), parsed.statement)
    scan, below, above = _steps(plan.root)
    codec = scan.table.codec
    dag = Dag(scan_table(codec.schema, scan.offsets), tuple(below), (), encode)
    dag = Dag(dag.scan, dag.steps, tuple(range(len(dag.types))), encode)
    data = encode_dag(dag).SerializeToString()
    storage = session.storage
    ts = storage.now_ts()
    endpoint = Endpoint(session.database.duck)
    start, end = codec.record_range
    cuts = [start, codec.record_prefix + b"\x03\x80" + bytes(6) + b"\x50", codec.record_prefix + b"\x03\x80" + bytes(6)
            + b"\xb0", end]  # fmt: skip
    batches = []
    for low, high in pairwise(cuts):
        request = coprocessor_pb2.Request(tp=103, data=data, start_ts=ts)
        request.ranges.add(start=low, end=high)
        response = endpoint.handle(request, storage.snapshot)
        assert not response.other_error, response.other_error
        answer = read_answer(response.data, dag.output_types, dag.tz)
        assert answer.error is None
        batches += answer.batches
    types = dag.output_types
    made = run_steps(batches, types, above, session.database.duck, Env())
    for step in above:
        types = types_after(step, types)
    return [row for batch in made for row in batch_to_rows(batch, types)]


CONDITIONS = st.sampled_from(
    ["b > 0", "b IN (1, 2, NULL)", "d BETWEEN -5 AND 10.5", "s LIKE 'a%'", "s = 'ab'", "c <> 'w'",
     "day >= '2020-03-01'",
     "at < '2020-01-05 12:00:00'", "span = '01:30:00'", "f * 2 > 100", "n IS NULL", "NOT (b <=> 2)", "a + b > 50",
     "COALESCE(b, 9) = 9", "IF(b > 0, d, 0.5) < 3", "CASE WHEN b = 1 THEN a ELSE 0 END > 10", "YEAR(day) = 2020",
     "DAYOFMONTH(at) = 3", "LENGTH(s) = 2", "b AND NOT d", "MONTH(day) > 4 OR b < -1", "d + 1.5 >= 2.25", "n > 4"]
)  # fmt: skip
AGGREGATES = st.sampled_from(
    ["COUNT(*)", "COUNT(b)", "SUM(d)", "SUM(b)", "AVG(d)", "AVG(b)", "MIN(s)", "MAX(day)", "MAX(span)", "MIN(at)",
     "SUM(f)", "AVG(f)", "MAX(n)", "SUM(d * 2)", "MIN(d)", "COUNT(1)", "SUM(a * b)", "MAX(c)"]
)  # fmt: skip
GROUPS = st.sampled_from(["b", "s", "c", "day", "n", "d", "YEAR(day)", "b + 1", "b, c", "s, day"])


@st.composite
def queries(draw: st.DrawFn) -> str:
    where = " AND ".join(draw(st.lists(CONDITIONS, max_size=2)))
    tail = f" WHERE {where}" if where else ""
    if draw(st.booleans()):
        columns = ", ".join(draw(st.lists(st.sampled_from("a b n d f s c day at span".split()), min_size=1)))
        if draw(st.booleans()):
            return (
                f"SELECT {columns}, a FROM t{tail} ORDER BY {draw(st.sampled_from(['b DESC', 'day', 's']))}, a LIMIT 9"
            )
        return f"SELECT {columns} FROM t{tail}"
    items = ", ".join(draw(st.lists(AGGREGATES, min_size=1, max_size=4)))
    groups = draw(st.none() | GROUPS)
    return (
        f"SELECT {items} FROM t{tail}" if groups is None else f"SELECT {items}, {groups} FROM t{tail} GROUP BY {groups}"
    )


def _comparable(rows: list[tuple[Any, ...]]) -> list[str]:
    return sorted(repr([v.rstrip(" ") if isinstance(v, str) else v for v in row]) for row in rows)


@settings(max_examples=120)
@given(sql=queries(), encode=st.sampled_from(EncodeType))
def test_regions_merged_answer_as_the_engine_does(sql: str, encode: EncodeType, connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(sql)
    wanted = [tuple(row) for row in cursor.fetchall()]
    found = ask(connection, sql, encode)
    assert _comparable(found) == _comparable(wanted), sql
    if "ORDER BY" in sql:
        assert [repr(r[-1]) for r in found] == [repr(r[-1]) for r in wanted]
