"""The generated table's records in a cluster of several regions, and requests to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from coprocessor.arrow import batch_to_rows
from coprocessor.dag.answer import read_answer
from coprocessor.dag.codec import encode_dag
from coprocessor.dag.plan import Dag, EncodeType, Step
from coprocessor.duck import DuckEngine
from coprocessor.serving import InlineWorkers, Serving, ServingLimits
from kvstore.client.api import PushAnswer, PushRequest
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.parts import Options
from kvstore.client.cluster.push import Push
from tests.cluster_client.real import RealCluster, with_real_cluster
from tests.cluster_client.test_real_services import three_peers
from tests.cluster_client.world import put_all
from tests.coprocessor import plans
from tests.coprocessor.store import CODEC, Row, records

SPLITS = (20, 40, 60)
ROWS = 80
WHOLE = [CODEC.record_range]
Scenario = Callable[[RealCluster, Cluster, Push], Awaitable[None]]


def row(i: int, n: int | None = None) -> Row:
    return (i, i if n is None else n, *([None] * 14))


def dag_of(*steps: Step, desc: bool = False, encode: EncodeType = EncodeType.CHUNK) -> Dag:
    """The columns id and n, and what happens to them."""
    dag = Dag(plans.table_scan((0, 1), desc=desc), tuple(steps), (), encode)
    return Dag(dag.scan, dag.steps, tuple(range(len(dag.types))), encode)


def push_request(dag: Dag, ts: int, **more: Any) -> PushRequest:
    fields = {"ranges": WHOLE, "desc": dag.scan.desc} | more
    return PushRequest(encode_dag(dag).SerializeToString(), ts=ts, **fields)


def rows_in(answer: PushAnswer, dag: Dag) -> list[Row]:
    decoded = read_answer(answer.data, dag.output_types, dag.tz)
    assert decoded.error is None, decoded.error
    return [found for batch in decoded.batches for found in batch_to_rows(batch, dag.output_types)]


async def collect(answers: AsyncGenerator[PushAnswer, None], dag: Dag) -> list[Row]:
    return [found async for answer in answers for found in rows_in(answer, dag)]


async def ask(client: Cluster, push: Push, dag: Dag, **more: Any) -> list[Row]:
    """The rows at a fresh timestamp, as the answers came."""
    return await collect(push.run(push_request(dag, await client.now_ts(), **more)), dag)


async def ids(client: Cluster, push: Push, **more: Any) -> list[int]:
    return [found[0] for found in await ask(client, push, dag_of(), **more)]


def with_table(
    scenario: Scenario,
    *,
    rows: Sequence[Row] | None = None,
    stores: int = 1,
    options: Options | None = None,
    limits: ServingLimits | None = None,
    splits: Sequence[int] = SPLITS,
) -> None:
    """Runs a scenario over ROWS rows in four regions."""
    duck = DuckEngine()
    serving = Serving(lambda: duck, InlineWorkers(), limits or ServingLimits())

    async def whole(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, records([row(i) for i in range(ROWS)] if rows is None else rows))
        if stores > 1:
            await three_peers(client, CODEC.record_key(0))
        await client.split([CODEC.record_key(i) for i in splits])
        await scenario(cluster, client, Push(client.parts))

    try:
        with_real_cluster(whole, stores=stores, options=options, coprocessor=serving)
    finally:
        serving.close()
