"""Requests to a cluster of several regions, merged above, give what the embedded SQL engine says to the same query."""

from __future__ import annotations

from typing import Any

import pytest

import sqlfront
from coprocessor.arrow import batch_to_rows
from coprocessor.dag.answer import read_answer
from coprocessor.dag.build import run_steps, scan_table
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.plan import Dag, EncodeType, types_after
from coprocessor.env import Env
from kvstore.client.api import PushRequest
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.push import Push
from sqlfront import parse
from sqlfront.exec.statement import bind_context, plan_query
from tests.cluster_client.real import RealCluster
from tests.cluster_client.world import put_all
from tests.coprocessor.cluster import with_table
from tests.coprocessor.test_against_sql import CREATE, _comparable, _row, _steps

ROWS = 300
QUERIES = [
    "SELECT a, b, n, d, f, s, c, day, at, span FROM t",
    "SELECT s, d FROM t WHERE b > 0 AND s LIKE 'a%'",
    "SELECT COUNT(*), SUM(d), AVG(b), MIN(s), MAX(day), MAX(span) FROM t",
    "SELECT AVG(d), COUNT(b), SUM(f), c, day FROM t WHERE NOT (b <=> 2) GROUP BY c, day",
    "SELECT MIN(d), MAX(at), n FROM t WHERE day >= '2020-03-01' GROUP BY n",
    "SELECT d, s, a FROM t WHERE n IS NOT NULL ORDER BY b DESC, a LIMIT 9",
]


async def ask(connection: Any, client: Cluster, push: Push, sql: str, encode: EncodeType) -> list[tuple[Any, ...]]:
    """The query's rows by requests to the cluster."""
    session = connection._session
    parsed = parse.parse(sql)
    plan = plan_query(session, bind_context(session, parsed, ()), parsed.statement)
    scan, below, above = _steps(plan.root)
    codec = scan.table.codec
    dag = Dag(scan_table(codec.schema, scan.offsets), tuple(below), (), encode)
    dag = Dag(dag.scan, dag.steps, tuple(range(len(dag.types))), encode)
    request = PushRequest(encode_dag(dag).SerializeToString(), [codec.record_range], await client.now_ts())
    batches = []
    regions: dict[int, None] = {}
    async for given in push.run(request):
        regions[given.region_id] = None
        batches += read_answer(given.data, dag.output_types, dag.tz).batches
    assert len(regions) == 4
    types = dag.output_types
    made = run_steps(batches, types, above, session.database.duck, Env())
    for step in above:
        types = types_after(step, types)
    return [row for batch in made for row in batch_to_rows(batch, types)]


@pytest.mark.parametrize("encode", EncodeType)
def test_a_cluster_answers_as_the_engine_does(encode: EncodeType) -> None:
    connection = sqlfront.connect(autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE DATABASE x")
    cursor.execute("USE x")
    cursor.execute(CREATE)
    cursor.executemany(f"INSERT INTO t VALUES ({', '.join('?' * 10)})", [_row(i) for i in range(ROWS)])
    storage = connection._session.storage

    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        session = connection._session
        parsed = parse.parse(QUERIES[0])
        plan = plan_query(session, bind_context(session, parsed, ()), parsed.statement)
        start, end = _steps(plan.root)[0].table.codec.record_range
        pairs = dict(storage.snapshot().scan(start, end))
        assert len(pairs) == ROWS
        await put_all(client, pairs)
        keys = sorted(pairs)
        await client.split([start, keys[90], keys[170], keys[171], end])
        for sql in QUERIES:
            cursor.execute(sql)
            wanted = [tuple(row) for row in cursor.fetchall()]
            assert _comparable(await ask(connection, client, push, sql, encode)) == _comparable(wanted), sql

    with_table(scenario, rows=[])
    connection.close()
