"""Push-down requests over a cluster: every row in exactly one answer, whatever happens to the regions meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from coprocessor import endpoint
from coprocessor import types as t
from coprocessor.arrow import batch_to_rows
from coprocessor.dag.answer import read_answer
from coprocessor.dag.build import merge_steps, run_steps
from coprocessor.dag.plan import Aggregation, EncodeType, Limit, Selection, TopN
from coprocessor.duck import DuckEngine
from coprocessor.env import Env
from coprocessor.expr import Column, Const, OrderKey
from coprocessor.functions import resolve, resolve_agg
from kvstore import failpoint
from kvstore.client.api import ReadFrom
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.errors import ClusterError
from kvstore.client.cluster.parts import Options
from kvstore.client.cluster.push import Push
from kvstore.errors import PushFailed, SnapshotTooOld, TxnError
from tests.cluster_client.real import RealCluster, with_real_cluster
from tests.cluster_client.test_real_services import Lossy
from tests.cluster_client.world import ASYNC, TWO_PHASES, put_all
from tests.coprocessor.cluster import (
    ROWS,
    ask,
    collect,
    dag_of,
    ids,
    push_request,
    row,
    rows_in,
    with_table,
)
from tests.coprocessor.store import CODEC, records

ALL = list(range(ROWS))
N = Column(1, t.INT)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    failpoint.clear()


@pytest.mark.parametrize("page_rows", [0, 1, 7])
@pytest.mark.parametrize("concurrency", [0, 1, 2])
@pytest.mark.parametrize("desc", [False, True], ids=["asc", "desc"])
def test_each_row_is_in_one_answer(page_rows: int, concurrency: int, desc: bool) -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        dag = dag_of(desc=desc)
        options: dict[str, Any] = {"page_rows": page_rows, "concurrency": concurrency}
        wanted = ALL[::-1] if desc else ALL
        assert sorted(found[0] for found in await ask(client, push, dag, **options)) == ALL
        assert [found[0] for found in await ask(client, push, dag, keep_order=True, **options)] == wanted
        key = CODEC.record_key
        ranges = [(key(3), key(5)), (key(5), key(21)), (key(30), key(31)), (key(59), key(62)), (key(79), key(99))]
        some = [*range(3, 21), 30, 59, 60, 61, 79]
        found = [one[0] for one in await ask(client, push, dag, keep_order=True, ranges=ranges, **options)]
        assert found == (some[::-1] if desc else some)
        assert await ids(client, push, ranges=[]) == []

    with_table(scenario)


@pytest.mark.parametrize("encode", EncodeType)
def test_selections_and_aggregates_run_beside_the_data(encode: EncodeType) -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        over = Selection((resolve("ge", (N, Const(15, t.BIGINT))),))
        assert sorted(found[0] for found in await ask(client, push, dag_of(over, encode=encode))) == ALL[15:]
        count = Aggregation((), (resolve_agg("count", ()), resolve_agg("sum", (N,))))
        dag = dag_of(over, count, encode=encode)
        answers = [answer async for answer in push.run(push_request(dag, await client.now_ts()))]
        assert len(answers) == 4
        assert len({answer.region_id for answer in answers}) == 4
        assert all(answer.store == "store1:20160" for answer in answers)
        assert all(0 < answer.wire_bytes < 500 for answer in answers)
        parts = [rows_in(answer, dag) for answer in answers]
        assert sum(part[0][0] for part in parts) == 65
        assert sum(part[0][1] for part in parts) == sum(ALL[15:])
        top = TopN((OrderKey(N, True),), 3)
        assert sorted(found[0] for found in await ask(client, push, dag_of(top, encode=encode)))[-3:] == [77, 78, 79]
        assert len(await ask(client, push, dag_of(Limit(2), encode=encode))) == 8

    with_table(scenario)


def test_a_value_that_cannot_be_computed_and_a_request_that_is_none() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        dag = dag_of(Selection((resolve("gt", (resolve("mul", (N, Const(2**62, t.BIGINT))), Const(1, t.BIGINT))),)))
        with pytest.raises(PushFailed) as failed:
            await ask(client, push, dag)
        assert failed.value.code == 1690
        request = push_request(dag, await client.now_ts())
        with pytest.raises(PushFailed) as failed:
            await anext(push.run(type(request)(b"noise", request.ranges, request.ts)))
        assert failed.value.code == 0

    with_table(scenario)


@pytest.mark.parametrize("desc", [False, True], ids=["asc", "desc"])
def test_regions_split_under_the_request(desc: bool) -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        dag = dag_of(desc=desc)
        other = await cluster.client(seed=9)
        await ids(client, push)
        await other.split([CODEC.record_key(i) for i in (10, 33, 47, 70)])
        assert sorted(await ids(client, push)) == ALL
        ts = await client.now_ts()
        answers = push.run(push_request(dag, ts, keep_order=True, page_rows=3, concurrency=2))
        found = []
        at = iter((5, 8, 25, 36, 55, 57, 72, 78))
        async for answer in answers:
            found += [one[0] for one in rows_in(answer, dag)]
            if (key := next(at, None)) is not None:
                await other.split([CODEC.record_key(key)])
                # what is written meanwhile is not seen
                await put_all(other, records([row(1000 + key), row(key, -1)]))
        assert found == (ALL[::-1] if desc else ALL)
        await other.close()

    with_table(scenario)


def test_leaders_move_and_a_store_stops_under_the_request() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        rng = random.Random(5)
        dag = dag_of()
        request = push_request(dag, await client.now_ts(), keep_order=True, page_rows=2, concurrency=3)
        found = []
        count = 0
        async for answer in push.run(request):
            found += [one[0] for one in rows_in(answer, dag)]
            count += 1
            if count % 3 == 0:
                for node in cluster.nodes:
                    assert node.store is not None
                    for peer in list(node.store.peers.values()):
                        if peer.is_leader and rng.random() < 0.5:
                            to = rng.choice([one for one in peer.region.peers if one.store_id != node.store.store_id])
                            peer.raft.transfer_leader(to.id)
                            node.store.mark(peer)
                await asyncio.sleep(0.2)
            if count == 20:
                await cluster.nodes.pop().stop(0)
        assert found == ALL

    with_table(scenario, stores=3)


def test_a_store_that_dies_while_it_evaluates() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        assert sorted(await ids(client, push)) == ALL
        failpoint.configure("coprocessor::before_evaluation", "4*pause->off")
        asking = asyncio.ensure_future(ids(client, push, keep_order=True))
        await asyncio.sleep(1)
        assert not asking.done()
        region = client.regions.find(CODEC.record_key(0))
        assert region is not None
        (node,) = [n for n in cluster.nodes if n.store is not None and n.store.store_id == region.leader.store_id]
        cluster.nodes.remove(node)
        await node.stop(0)
        failpoint.clear()
        assert await asking == ALL

    with_table(scenario, stores=3)


async def leave_locks(cluster: RealCluster, options: Options, point: str, pairs: dict[bytes, bytes], seed: int) -> None:
    """A client that is cut off at a failpoint of its commit and leaves its locks."""
    transport = cluster.network.transport(f"dying{seed}")
    client = await cluster.client(options, seed, transport)
    failpoint.configure(point, "pause")
    committing = asyncio.ensure_future(put_all(client, pairs))
    await asyncio.sleep(1)
    transport.crash()
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    failpoint.clear()
    await client.close()


@pytest.mark.parametrize(
    ("options", "point", "survives"),
    [
        (TWO_PHASES, "client::before_commit_primary", False),
        (TWO_PHASES, "client::before_commit_secondaries", True),
        (ASYNC, "client::after_prewrite", True),
    ],
    ids=["2pc dead", "2pc committed", "async"],
)
@pytest.mark.parametrize("page_rows", [0, 4])
@pytest.mark.parametrize("desc", [False, True], ids=["asc", "desc"])
def test_what_dead_clients_left_is_settled(
    options: Options, point: str, survives: bool, page_rows: int, desc: bool
) -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        new = records([row(i, -i - 1) for i in (2, 3, 25, 79)])
        await leave_locks(cluster, options, point, new, 3)
        before = await client.now_ts()
        await asyncio.sleep(60)
        dag = dag_of(desc=desc)
        wanted = [(i, -i - 1 if survives and i in (2, 3, 25, 79) else i) for i in ALL]
        for ts in (before, await client.now_ts()):
            found = await collect(push.run(push_request(dag, ts, keep_order=True, page_rows=page_rows)), dag)
            assert found == (wanted[::-1] if desc else wanted)

    with_table(scenario)


def test_a_living_writer_is_pushed_up_and_not_seen() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        writer = await cluster.client(TWO_PHASES, 4)
        failpoint.configure("client::before_commit_primary", "pause")
        writing = asyncio.ensure_future(put_all(writer, records([row(5, -5), row(65, -65)])))
        await asyncio.sleep(1)
        dag = dag_of()
        assert sorted(await ask(client, push, dag)) == [(i, i) for i in ALL]
        failpoint.clear()
        await writing
        wanted = [(i, -i if i in (5, 65) else i) for i in ALL]
        assert await ask(client, push, dag, keep_order=True) == wanted
        await writer.close()

    with_table(scenario)


def test_answers_are_kept_until_something_is_written() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        dag = dag_of(Aggregation((), (resolve_agg("sum", (N,)),)))

        async def run(ts: int | None = None) -> tuple[int, list[int]]:
            request = push_request(dag, ts or await client.now_ts(), keep_order=True)
            answers = [answer async for answer in push.run(request)]
            wire = [i for i, answer in enumerate(answers) if answer.wire_bytes]
            return sum(rows_in(answer, dag)[0][0] for answer in answers), wire

        old = await client.now_ts()
        assert await run() == (sum(ALL), [0, 1, 2, 3])
        assert await run() == (sum(ALL), [])
        # of an earlier timestamp than what is kept
        assert await run(old) == (sum(ALL), [0, 1, 2, 3])
        await put_all(client, records([row(45, 1045)]))
        assert await run() == (sum(ALL) + 1000, [2])
        assert await run() == (sum(ALL) + 1000, [])
        # between an old reader and the present there is a commit: what it is told is not for others
        between = old
        await put_all(client, records([row(1, 101)]))
        assert (await run(between))[1] != []
        assert await run() == (sum(ALL) + 1100, [0])
        await client.split([CODEC.record_key(5)])
        assert await run() == (sum(ALL) + 1100, [0, 1])
        # a lock that hides nothing yet may hide a commit from the next reader
        await leave_locks(
            cluster, TWO_PHASES, "client::before_commit_secondaries", records([row(79, 0), row(70, 0)]), 8
        )
        assert (await run())[0] == sum(ALL) + 1100 - 149

    with_table(scenario)


def test_an_answer_is_never_larger_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "ANSWER_BYTES_MAX", 150)
    monkeypatch.setattr(endpoint, "PAGE_BYTES_MAX", 100)
    with_duck = DuckEngine()

    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        for desc in (False, True):
            dag = dag_of(desc=desc)
            request = push_request(dag, await client.now_ts(), keep_order=True)
            answers = [answer async for answer in push.run(request)]
            assert all(sum(len(rows_in(answer, dag)) for _ in "1") * 16 <= 150 for answer in answers)
            assert [one[0] for answer in answers for one in rows_in(answer, dag)] == (ALL[::-1] if desc else ALL)
        group = Aggregation((N,), (resolve_agg("count", ()), resolve_agg("avg", (N,))))
        dag = dag_of(group)
        answers = [answer async for answer in push.run(push_request(dag, await client.now_ts()))]
        assert len(answers) > 4
        batches = [batch for answer in answers for batch in read_answer(answer.data, dag.output_types, dag.tz).batches]
        (made,) = run_steps(batches, dag.output_types, merge_steps(group), with_duck, Env())
        assert sorted(found[2] for found in batch_to_rows(made, [t.BIGINT, t.BIGINT, t.INT])) == ALL

    with_table(scenario)
    with_duck.close()


def test_a_generator_that_is_closed_leaves_nothing_under_way() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        service = cluster.nodes[0].service
        assert service is not None

        def under_way() -> list[str]:
            return [name for task in asyncio.all_tasks() if "_Lane" in (name := repr(task.get_coro()))]

        answers = push.run(push_request(dag_of(), await client.now_ts(), page_rows=2, keep_order=True))
        await anext(answers)
        assert under_way()
        await answers.aclose()
        assert not under_way()
        asking = asyncio.ensure_future(ids(client, push, page_rows=1))
        failpoint.configure("coprocessor::before_evaluation", "sleep(5000)")
        await asyncio.sleep(0.5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert not under_way()
        await asyncio.sleep(1)
        assert service.in_flight == 0

    with_table(scenario)


def test_no_more_answers_are_held_than_regions_are_asked() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        asked = cluster.nodes[0].service
        assert asked is not None
        before = asked.counts["Coprocessor"]
        answers = push.run(push_request(dag_of(), await client.now_ts(), page_rows=1, concurrency=2))
        await anext(answers)
        await asyncio.sleep(30)
        assert asked.counts["Coprocessor"] - before <= 3
        await answers.aclose()

    with_table(scenario)


def test_followers_answer_too() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        push = Push(client.parts)
        counts = [node.service.counts["Coprocessor"] for node in cluster.nodes if node.service is not None]
        assert sorted(await ids(client, push, read=ReadFrom.FOLLOWER)) == ALL
        await put_all(client, records([row(200)]))
        assert sorted(await ids(client, push, read=ReadFrom.FOLLOWER)) == [*ALL, 200]
        after = [node.service.counts["Coprocessor"] for node in cluster.nodes if node.service is not None]
        assert sum(one > other for one, other in zip(after, counts, strict=True)) >= 2

    with_table(scenario, stores=3)


def test_a_timestamp_below_the_safe_point_is_refused() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        old = await client.now_ts()
        await asyncio.sleep(200)
        await client.gc(await client.now_ts())
        with pytest.raises(SnapshotTooOld):
            await collect(push.run(push_request(dag_of(), old)), dag_of())

    with_table(scenario)


@pytest.mark.parametrize("options", [Options(), ASYNC, TWO_PHASES], ids=["1pc", "async", "2pc"])
def test_the_banks_total_stays_over_lossy_links_and_splits(options: Options) -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        links = Lossy(3)
        cluster.network.faults = links
        links.on = True
        over = asyncio.Event()

        async def transfers(seed: int) -> int:
            rng = random.Random(seed)
            mine = await cluster.client(options, seed)
            done = 0
            while not over.is_set():
                source, target = rng.sample(ALL, 2)
                txn = await mine.begin(pessimistic=False)
                try:
                    values = await txn.batch_get(CODEC.record_key(i) for i in (source, target))
                    before = [CODEC.decode(i, values[CODEC.record_key(i)])[1] for i in (source, target)]
                    amount = rng.randrange(1, 9)
                    after = records([row(source, before[0] - amount), row(target, before[1] + amount)])
                    for key, value in after.items():
                        txn.put(key, value)
                    await txn.commit()
                    done += 1
                except (TxnError, ClusterError):
                    await txn.rollback()
                await asyncio.sleep(rng.random() * 0.5)
            await mine.close()
            return done

        workers = [asyncio.ensure_future(transfers(seed)) for seed in range(1, 4)]
        total = dag_of(Aggregation((), (resolve_agg("sum", (N,)), resolve_agg("count", ()))))
        rng = random.Random(9)
        for turn in range(15):
            at = rng.randrange(ROWS)
            if turn % 6 == 5:
                await client.split([CODEC.record_key(at)])
            if turn % 2:
                parts = await ask(client, push, total)
                assert sum(part[1] for part in parts) == ROWS
                assert sum(part[0] or 0 for part in parts) == sum(ALL)
            else:
                dag = dag_of(desc=turn % 4 == 0)
                found = await ask(client, push, dag, keep_order=True, page_rows=rng.choice([0, 5]))
                assert [one[0] for one in found] == (ALL[::-1] if dag.scan.desc else ALL)
                assert sum(one[1] for one in found) == sum(ALL)
            await asyncio.sleep(rng.random())
        over.set()
        assert sum(await asyncio.gather(*workers)) > 10

    with_table(scenario, stores=3, options=options)


def test_arrow_is_asked_of_stores_that_say_so() -> None:
    async def scenario(cluster: RealCluster, client: Cluster, push: Push) -> None:
        assert await push.arrow()

    with_table(scenario)

    async def without(cluster: RealCluster, client: Cluster) -> None:
        push = Push(client.parts)
        assert not await push.arrow()
        with pytest.raises((PushFailed, ClusterError), match="no coprocessor"):
            await ids(client, push)

    with_real_cluster(without, stores=1)
