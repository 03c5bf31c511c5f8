"""What every RegionStore does: one suite, for the store without Raft and the one with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kvstore.engine.api import CF_DEFAULT, CF_WRITE
from kvstore.engine.memory import MemoryEngine
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.raftstore.api import RegionError, RegionStore
from kvstore.raftstore.single import SingleRegionStore
from kvstore.raftstore.syncer import InlineSyncer
from tests.raftstore.cluster import Cluster
from tests.raftstore.loop import run_virtual

Body = Callable[[RegionStore, Context], Awaitable[None]]


def on_single(body: Body) -> None:
    async def main() -> None:
        engine = MemoryEngine()
        store = SingleRegionStore(engine, InlineSyncer(engine))
        await body(store, store.context())

    run_virtual(main())


def on_raft(body: Body) -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        store = await cluster.leader()
        await body(store, cluster.context(store, 2))
        await cluster.stop()

    run_virtual(main())


@pytest.fixture(params=[on_single, on_raft])
def run(request: pytest.FixtureRequest) -> Callable[[Body], None]:
    return request.param  # type: ignore[no-any-return]


def test_writes_are_there_when_they_are_acknowledged(run: Callable[[Body], None]) -> None:
    async def body(store: RegionStore, context: Context) -> None:
        first = await store.write(context, [(CF_DEFAULT, b"za", b"1"), (CF_WRITE, b"zb", b"2")])
        second = await store.write(context, [(CF_DEFAULT, b"za", None)])
        assert second > first
        grant = await store.read(context)
        assert grant.applied_index >= second
        assert store.engine.get(CF_DEFAULT, b"za") is None
        assert store.engine.get(CF_WRITE, b"zb") == b"2"
        assert await store.read_index(context) >= second

    run(body)


def test_the_order_of_concurrent_writes_is_that_of_the_calls(run: Callable[[Body], None]) -> None:
    async def body(store: RegionStore, context: Context) -> None:
        writes = [store.write(context, [(CF_DEFAULT, b"za", b"%d" % n)]) for n in range(50)]
        await asyncio.gather(*writes)
        assert store.engine.get(CF_DEFAULT, b"za") == b"49"

    run(body)


def test_a_range_is_deleted(run: Callable[[Body], None]) -> None:
    async def body(store: RegionStore, context: Context) -> None:
        await store.write(context, [(CF_DEFAULT, b"z" + key, b"1") for key in (b"a", b"b", b"c")])
        await store.delete_range(context, CF_DEFAULT, b"za", b"zc")
        assert store.engine.get(CF_DEFAULT, b"zb") is None
        assert store.engine.get(CF_DEFAULT, b"zc") == b"1"

    run(body)


def test_a_write_is_bound_to_the_term_of_its_read(run: Callable[[Body], None]) -> None:
    async def body(store: RegionStore, context: Context) -> None:
        grant = await store.read(context)
        await store.write(context, [(CF_DEFAULT, b"za", b"1")], term=grant.term)
        with pytest.raises(RegionError) as caught:
            await store.write(context, [(CF_DEFAULT, b"za", b"2")], term=grant.term + 1)
        assert caught.value.error.HasField("stale_command")
        assert store.engine.get(CF_DEFAULT, b"za") == b"1"

    run(body)


def test_wrong_places_are_refused(run: Callable[[Body], None]) -> None:
    async def body(store: RegionStore, context: Context) -> None:
        other = Context()
        other.CopyFrom(context)
        other.peer.store_id += 50
        other.region_id += 50
        with pytest.raises(RegionError) as caught:
            store.try_read(other)
        assert caught.value.error.store_not_match.actual_store_id == store.store_id
        other.peer.store_id -= 50
        with pytest.raises(RegionError) as caught:
            await store.write(other, [(CF_DEFAULT, b"za", b"1")])
        assert caught.value.error.HasField("region_not_found")
        other.region_id -= 50
        other.region_epoch.version += 1
        with pytest.raises(RegionError) as caught:
            await store.read(other)
        (known,) = caught.value.error.epoch_not_match.current_regions
        assert known == store.regions()[0]
        assert store.leader_of(context.region_id) == context.peer
        store.check_key(known, b"anything")

    run(body)
