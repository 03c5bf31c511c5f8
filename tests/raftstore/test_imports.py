"""Files that the log takes over: crashes around it, membership, merges, and what a store does without its file."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable

import pytest

from kvstore.engine.api import CF_DEFAULT, CF_WRITE
from kvstore.errors import Corruption
from kvstore.proto.eraftpb_pb2 import ConfChangeType
from kvstore.proto.import_sstpb_pb2 import Range, SSTMeta
from kvstore.proto.metapb_pb2 import Peer
from kvstore.proto.pdpb_pb2 import ChangePeer, ChangePeerV2, RegionHeartbeatResponse
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.imports import Imports, file_name
from kvstore.raftstore.placement_worker import execute_order
from kvstore.raftstore.store import RaftStore
from tests.raftstore.cluster import Cluster
from tests.raftstore.loop import run_virtual

KEYS = [b"k%02d" % n for n in range(10)]


def stage(stores: Iterable[RaftStore], region_id: int = 2) -> list[SSTMeta]:
    """The same file on each of the stores, a family."""
    stores = list(stores)
    region = stores[0].peers[region_id].region
    metas = []
    for cf in (CF_DEFAULT, CF_WRITE):
        meta = SSTMeta(
            uuid=uuid.UUID(int=len(stores)).bytes,
            cf_name=cf,
            region_id=region_id,
            region_epoch=region.region_epoch,
            range=Range(start=KEYS[0], end=KEYS[-1]),
            total_kvs=len(KEYS),
            total_bytes=100,
        )
        for store in stores:
            file = store.engine.staged.writer(cf, file_name(meta))
            file.put_all([b"z" + key for key in KEYS], KEYS)
            file.finish()
            store.engine.staged.keep([file_name(meta)])
            store.imports.keep([meta])
        metas.append(meta)
    return metas


def has_rows(store: RaftStore) -> bool:
    return all(store.engine.get(cf, b"z" + key) == key for cf in (CF_DEFAULT, CF_WRITE) for key in KEYS)


def crash_after_ingest(seed: int, delay_s: float) -> None:
    """Power is lost so long after the ingest was asked for; the store comes back whole."""

    async def main() -> None:
        cluster = Cluster(seed=seed, sync_delay_s=0.01)
        cluster.form([1])
        store = await cluster.leader()
        metas = stage([store])
        asking = asyncio.ensure_future(store.ingest(cluster.context(store, 2), metas))
        await asyncio.sleep(delay_s)
        answered = asking.done()
        cluster.crash(1)
        asking.cancel()
        store = cluster.start(1)
        await cluster.leader()
        await cluster.put(b"later", b"1")
        cluster.check()
        assert has_rows(store) or not answered
        await asyncio.sleep(1)
        assert not (has_rows(store) and store.counters.ingests and store.imports.count)
        await cluster.stop()

    run_virtual(main())


@pytest.mark.parametrize("delay_s", [0, 0.001, 0.002, 0.004, 0.008, 0.01, 0.015, 0.02, 0.05, 0.1, 0.11, 0.12, 0.2, 0.5])
def test_a_crash_around_an_ingest_leaves_all_of_it_or_nothing(delay_s: float) -> None:
    for seed in range(10):
        crash_after_ingest(seed, delay_s)


def test_files_that_go_too_early_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that a file stays until its apply state is durable, broken on purpose."""

    def drop_at_once(imports: Imports) -> list[str]:
        names, imports._done = imports._done, []
        for name in names:
            imports._forget(name)
            imports._store.engine.staged.remove(name)
        return []

    monkeypatch.setattr(Imports, "take_done", drop_at_once)

    def crash_often() -> None:
        for seed in range(20):
            crash_after_ingest(seed, 0.15)

    with pytest.raises(AssertionError, match="ended") as raised:
        crash_often()
    assert isinstance(raised.value.__cause__, Corruption)


def test_all_replicas_take_the_files_over_and_drop_them() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        leader = await cluster.leader()
        await leader.ingest(cluster.context(leader, 2), stage(cluster.stores.values()))
        assert has_rows(leader)
        await cluster.until(lambda: all(has_rows(store) for store in cluster.stores.values()))
        await cluster.until(lambda: not any(store.imports.count for store in cluster.stores.values()))
        cluster.check()
        await cluster.stop()

    run_virtual(main())


def test_files_of_an_older_membership_are_refused_and_a_new_peer_needs_none() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2])
        leader = await cluster.leader()
        cluster.add_store(3)
        metas = stage(cluster.stores[n] for n in (1, 2))
        await leader.ingest(cluster.context(leader, 2), metas)
        metas = stage([leader])
        change = ChangePeer(peer=Peer(id=77, store_id=3), change_type=ConfChangeType.AddNode)
        await execute_order(leader, RegionHeartbeatResponse(region_id=2, change_peer_v2=ChangePeerV2(changes=[change])))
        with pytest.raises(RegionError) as raised:
            await leader.ingest(cluster.context(leader, 2), metas)
        assert raised.value.error.HasField("epoch_not_match")
        await cluster.until(lambda: has_rows(cluster.stores[3]))
        assert cluster.stores[3].counters.ingests == 0
        cluster.check()
        await cluster.stop()

    run_virtual(main())


def test_a_follower_without_the_file_stops() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        leader = await cluster.leader()
        lacking = next(store for store in cluster.stores.values() if store is not leader)
        await leader.ingest(
            cluster.context(leader, 2), stage([leader, *(s for s in cluster.stores.values() if s is not lacking)])
        )
        with pytest.raises(AssertionError, match="ended") as raised:
            await cluster.until(lambda: has_rows(lacking))
        assert isinstance(raised.value.__cause__, Corruption)

    run_virtual(main())
