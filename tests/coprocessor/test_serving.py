"""The coprocessor of one store: what is refused, what is in the way, and what goes away beneath a read."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from coprocessor.dag.codec import encode_dag
from coprocessor.dag.plan import EncodeType
from coprocessor.duck import DuckEngine
from coprocessor.serving import InlineWorkers, Serving, ServingLimits, ThreadWorkers, Workers
from kvstore import failpoint
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.push import Push
from kvstore.codec import encode_bytes
from kvstore.engine.rocks import RocksEngine
from kvstore.mvcc.keys import TS_MAX
from kvstore.proto import coprocessor_pb2 as cop
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.rpc.grpc import GrpcTransport
from kvstore.server.service import METHODS
from tests.cluster_client.world import put_all
from tests.coprocessor.cluster import ask, dag_of, push_request, row
from tests.coprocessor.store import CODEC, records
from tests.coprocessor.test_endpoint import rows_of
from tests.server.cluster import one_store
from tests.server.ends import FakeDirectory, Node, make_node, serving
from tests.server.region_store import TestStore
from tests.sim.loop import run_simulated

T = TypeVar("T")
START, END = CODEC.record_range
DAG = dag_of()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    failpoint.clear()


@pytest.fixture(scope="module")
def duck() -> Iterator[DuckEngine]:
    engine = DuckEngine()
    yield engine
    engine.close()


class HeldWorkers:
    """Evaluates when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def run(self, work: Callable[[], T]) -> T:
        await self.go.wait()
        return work()

    def close(self) -> None:
        """Nothing is under way."""


def on_store(
    test: Callable[[Node, Serving], Awaitable[None]],
    duck: DuckEngine,
    workers: Callable[[], Workers] = InlineWorkers,
    limits: ServingLimits | None = None,
) -> None:
    """Runs a test against one store with ten rows, committed at 20."""

    async def whole() -> None:
        coprocessor = Serving(lambda: duck, workers(), limits or ServingLimits())
        node = await make_node(coprocessor=coprocessor)
        pairs = records([row(i) for i in range(10)])
        assert not (await node.prewrite(10, pairs)).errors
        assert not (await node.commit(10, 20, *pairs)).HasField("error")
        await test(node, coprocessor)

    run_simulated(whole())


def request(ts: int = 100, start: bytes = START, end: bytes = END, **more: Any) -> cop.Request:
    fields = {"tp": 103, "data": encode_dag(DAG).SerializeToString(), "start_ts": ts} | more
    return cop.Request(ranges=[cop.KeyRange(start=start, end=end)], **fields)


def ids(response: cop.Response) -> list[int]:
    assert not response.other_error, response.other_error
    assert not response.HasField("region_error"), response.region_error
    return [found[0] for found in rows_of(response, DAG)]


def test_a_read_is_of_its_timestamp_and_counted(duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        assert ids(await node.call("Coprocessor", request())) == list(range(10))
        assert ids(await node.call("Coprocessor", request(19))) == []
        region, keys, size = node.store.reads[-2]
        assert (region, keys) == (1, 10)
        assert size > 100
        assert coprocessor.scanned_keys == 10
        for ts in (0, TS_MAX):
            assert "at a timestamp" in (await node.call("Coprocessor", request(ts))).other_error
        assert "104" in (await node.call("Coprocessor", request(tp=104))).other_error

    on_store(test, duck)


def test_ranges_have_to_be_inside_the_region(duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        key = CODEC.record_key
        node.store.add(2, encode_bytes(key(3)), encode_bytes(key(7)))

        async def ask(start: bytes, end: bytes) -> cop.Response:
            return await node.call("Coprocessor", request(start=start, end=end), region=2)

        assert ids(await ask(key(3), key(7))) == [3, 4, 5, 6]
        for start, end in ((key(2), key(7)), (key(3), key(7) + b"\0"), (key(3), b""), (b"", key(5))):
            assert (await ask(start, end)).region_error.HasField("key_not_in_region")

    on_store(test, duck)


def test_locks_in_the_engine_and_in_flight(duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        new = records([row(4, -4), row(12, 12)])
        first = next(iter(new))
        assert not (await node.prewrite(50, new, lock_ttl=777)).errors
        found = (await node.call("Coprocessor", request())).locked
        assert (found.key, found.lock_version, found.primary_lock, found.lock_ttl) == (first, 50, first, 777)
        assert ids(await node.call("Coprocessor", request(49))) == list(range(10))
        assert not (await node.call("Coprocessor", request(49))).can_be_cached
        # a limit that ends before the lock does not meet it
        assert ids(await node.call("Coprocessor", request(paging_size=1, end=CODEC.record_key(4)))) == [0, 1, 2, 3]
        read_committed = pb.Context(isolation_level=pb.IsolationLevel.RC)
        assert ids(await node.call("Coprocessor", request(context=read_committed))) == list(range(10))
        ignoring = pb.Context(resolved_locks=[50])
        assert ids(await node.call("Coprocessor", request(context=ignoring))) == list(range(10))
        through = pb.Context(committed_locks=[50])
        response = await node.call("Coprocessor", request(context=through))
        assert rows_of(response, DAG) == [(i, -4 if i == 4 else i) for i in [*range(10), 12]]
        assert not response.can_be_cached

    on_store(test, duck)


def test_a_commit_that_chooses_its_timestamp_comes_after_the_read(duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        new = records([row(4, -4)])
        assert ids(await node.call("Coprocessor", request(700))) == list(range(10))
        node.store.write_delay_s = 1.0
        writing = asyncio.ensure_future(node.prewrite(50, new, try_one_pc=True))
        await asyncio.sleep(0.5)
        assert (await node.call("Coprocessor", request(800))).locked.lock_version == 50
        assert not (await node.call("Coprocessor", request(800, end=CODEC.record_key(4)))).HasField("locked")
        assert (await writing).one_pc_commit_ts == 701
        assert rows_of(await node.call("Coprocessor", request(700)), DAG)[4] == (4, 4)
        assert rows_of(await node.call("Coprocessor", request(701)), DAG)[4] == (4, -4)

    on_store(test, duck)


def test_rc_check_ts_refuses_what_is_newer(duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        context = pb.Context(isolation_level=pb.IsolationLevel.RCCheckTS)
        assert ids(await node.call("Coprocessor", request(30, context=context))) == list(range(10))
        new = records([row(4, -4)])
        assert not (await node.prewrite(50, new)).errors
        assert not (await node.commit(50, 60, *new)).HasField("error")
        assert "write conflict" in (await node.call("Coprocessor", request(30, context=context))).other_error
        before = request(30, context=context, end=CODEC.record_key(4))
        assert ids(await node.call("Coprocessor", before)) == [0, 1, 2, 3]

    on_store(test, duck)


def test_a_followers_read_is_announced_to_the_leader(duck: DuckEngine) -> None:
    async def whole() -> None:
        leader = await make_node()
        second = TestStore(leader.store.engine, store_id=2)
        second.add(1, b"", b"", leads=False)
        second.leaders[1] = leader.store.leaders[1]
        second.has_lease = False
        coprocessor = Serving(lambda: duck, InlineWorkers(), ServingLimits())
        follower = await make_node(
            store_id=2, store=second, network=leader.network, directory=FakeDirectory(), coprocessor=coprocessor
        )
        pairs = records([row(1)])
        assert not (await leader.prewrite(10, pairs)).errors
        await leader.commit(10, 20, *pairs)
        context = pb.Context(replica_read=True)
        assert ids(await follower.call("Coprocessor", request(900, context=context))) == [1]
        assert leader.service.concurrency.max_ts == 900

    run_simulated(whole())


def test_what_does_not_fit_the_queue_is_busy(duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        workers = coprocessor._workers
        assert isinstance(workers, HeldWorkers)
        waiting = [node.start("Coprocessor", request()) for _ in range(3)]
        await asyncio.sleep(0.1)
        busy = await node.call("Coprocessor", request())
        assert busy.region_error.server_is_busy.backoff_ms > 0
        assert coprocessor.errors == {"server_is_busy": 1}
        # who leaves does not make room: the work is still there
        waiting[0].cancel()
        await asyncio.sleep(0.1)
        assert coprocessor.pending == 3
        workers.go.set()
        assert [ids(await one) for one in waiting[1:]] == [list(range(10))] * 2
        assert coprocessor.pending == 0
        assert coprocessor.errors == {"server_is_busy": 1, "Cancelled": 1}

    on_store(test, duck, HeldWorkers, ServingLimits(threads=1, queue_max=2))


def test_a_deadline_ends_what_waited_too_long(duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        failpoint.configure("coprocessor::before_evaluation", "sleep(50)")
        late = await node.call("Coprocessor", request(context=pb.Context(max_execution_duration_ms=20)))
        assert late.region_error.server_is_busy.reason == "deadline is exceeded"
        in_time = request(context=pb.Context(max_execution_duration_ms=2000))
        assert ids(await node.call("Coprocessor", in_time)) == list(range(10))

    on_store(test, duck)


@pytest.mark.parametrize("event", ["on_destroyed", "on_replaced"])
def test_data_that_goes_away_beneath_a_read_leaves_no_answer(event: str, duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        for point in ("coprocessor::before_evaluation", "coprocessor::before_answer"):
            failpoint.configure(point, "sleep(1000)->off")
            asking = node.start("Coprocessor", request())
            await asyncio.sleep(0.5)
            for observer in node.store._observers:
                # a part of the region, split off meanwhile
                part = node.store._regions[1].__class__(id=9, start_key=encode_bytes(CODEC.record_key(5)))
                getattr(observer, event)(part)
            assert (await asking).region_error.HasField("region_not_found")
            failpoint.clear()
        assert ids(await node.call("Coprocessor", request())) == list(range(10))

    on_store(test, duck)


async def receive(node: Node, name: str, message: Any) -> list[Any]:
    stream = node.network.transport("client").channel(node.address).stream(METHODS[name])
    await stream.send(message)
    await stream.done_sending()
    found = []
    while (answer := await stream.receive()) is not None:
        found.append(answer)
    return found


@pytest.mark.parametrize("desc", [False, True])
def test_a_stream_is_the_pages(desc: bool, duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        dag = dag_of(desc=desc)
        message = request(paging_size=4, data=encode_dag(dag).SerializeToString(), context=node.store.context())
        pages = await receive(node, "CoprocessorStream", message)
        found = [one[0] for page in pages for one in rows_of(page, dag)]
        assert found == list(range(10))[:: -1 if desc else 1]
        assert len(pages) == 2
        node.store.set_leader(1, None)
        (refused,) = await receive(node, "CoprocessorStream", message)
        assert refused.region_error.HasField("not_leader")

    on_store(test, duck)


def test_a_batch_asks_several_regions(duck: DuckEngine) -> None:
    async def test(node: Node, coprocessor: Serving) -> None:
        key = CODEC.record_key
        second = node.store.add(2, encode_bytes(key(5)), b"")
        first = node.store._regions[1]
        message = cop.BatchRequest(tp=103, data=encode_dag(DAG).SerializeToString(), start_ts=100)
        for region, start, end in ((first, START, key(5)), (second, key(5), END)):
            message.regions.add(
                region_id=region.id, region_epoch=region.region_epoch, ranges=[cop.KeyRange(start=start, end=end)]
            )
        answers = await receive(node, "BatchCoprocessor", message)
        assert [ids(cop.Response(data=answer.data)) for answer in answers] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
        message.regions[0].region_epoch.version = 9
        *answers, last = await receive(node, "BatchCoprocessor", message)
        assert len(answers) == 1
        assert [region.id for region in last.retry_regions] == [1]

    on_store(test, duck)


def test_without_a_coprocessor_streams_say_so() -> None:
    async def test(node: Node) -> None:
        message = request(context=node.store.context())
        assert "no coprocessor" in (await receive(node, "CoprocessorStream", message))[0].other_error

    serving(test)


def test_over_grpc_and_rocksdb(duck: DuckEngine, tmp_path: Path) -> None:
    async def whole() -> None:
        coprocessor = Serving(lambda: duck, ThreadWorkers(2), ServingLimits())
        engine = RocksEngine(str(tmp_path / "store"))
        transport = GrpcTransport()
        async with one_store(engine, coprocessor) as store:
            client = await Cluster.connect([store.pd_address], transport=transport, rng=random.Random(1))
            push = Push(client.parts)
            assert await push.arrow()
            await put_all(client, records([row(i) for i in range(3000)]))
            await client.split([CODEC.record_key(i) for i in (1000, 2000)])
            for desc in (False, True):
                dag = dag_of(desc=desc, encode=EncodeType.ARROW)
                found = await ask(client, push, dag, keep_order=True, page_rows=500)
                assert found == [(i, i) for i in range(3000)][:: -1 if desc else 1]
            answers = push.run(push_request(DAG, await client.now_ts(), page_rows=1))
            await anext(answers)
            await answers.aclose()
            await client.close()
        coprocessor._workers.close()
        engine.close()
        await transport.close()

    asyncio.run(whole())


def test_requests_run_on_threads_of_their_own(duck: DuckEngine) -> None:
    """Several at a time, none of them the loop's."""
    names: list[str] = []

    class Noted(Serving):
        def _the_endpoint(self) -> Any:
            names.append(threading.current_thread().name)
            return super()._the_endpoint()

    async def whole() -> None:
        coprocessor = Noted(lambda: duck, ThreadWorkers(2), ServingLimits())
        node = await make_node(coprocessor=coprocessor)
        pairs = records([row(i) for i in range(10)])
        assert not (await node.prewrite(10, pairs)).errors
        await node.commit(10, 20, *pairs)
        answers = await asyncio.gather(*(node.call("Coprocessor", request()) for _ in range(8)))
        assert [ids(answer) for answer in answers] == [list(range(10))] * 8
        await node.service.close()
        coprocessor._workers.close()

    asyncio.run(whole())
    assert len(names) == 8
    assert all(name.startswith("coprocessor") for name in names)
