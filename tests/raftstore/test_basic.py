"""One region: elections, writes, reads, restart."""

from __future__ import annotations

import asyncio

import pytest

from kvstore.engine.api import CF_DEFAULT
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer
from kvstore.raftstore.api import RegionError
from tests.raftstore.cluster import Cluster
from tests.raftstore.loop import run_virtual


def test_single_replica_writes_and_reads() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1])
        store = await cluster.leader()
        context = cluster.context(store, 2)
        index = await store.write(context, [(CF_DEFAULT, b"za", b"1"), (CF_DEFAULT, b"zb", b"2")])
        assert index > 5
        grant = store.try_read(context)
        assert grant is not None
        assert grant.applied_index == index
        assert store.engine.get(CF_DEFAULT, b"za") == b"1"
        await store.write(context, [(CF_DEFAULT, b"za", None)])
        assert store.engine.get(CF_DEFAULT, b"za") is None
        await cluster.stop()

    run_virtual(main())


def test_three_replicas_have_the_same_data_and_survive_a_crash() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        for number in range(20):
            await cluster.put(b"k%02d" % number, b"v")
        leader = await cluster.leader()
        cluster.crash(leader.store_id)
        await cluster.put(b"k99", b"after")
        cluster.start(leader.store_id)
        await cluster.until(lambda: len(cluster.data(leader.store_id)) == 21)
        for store_id in (1, 2, 3):
            assert cluster.data(store_id) == cluster.data(1)
        assert await cluster.get(b"k99") == b"after"
        await cluster.stop()

    run_virtual(main())


def test_all_stores_crash_and_nothing_acknowledged_is_lost() -> None:
    async def main() -> None:
        cluster = Cluster(seed=3)
        cluster.form([1, 2, 3])
        for number in range(30):
            await cluster.put(b"k%02d" % number, b"v%d" % number)
            if number % 7 == 6:
                for store_id in (1, 2, 3):
                    cluster.crash(store_id)
                for store_id in (1, 2, 3):
                    cluster.start(store_id)
        for number in range(30):
            assert await cluster.get(b"k%02d" % number) == b"v%d" % number
        await cluster.stop()

    run_virtual(main())


def test_concurrent_writes_share_entries() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1])
        store = await cluster.leader()
        context = cluster.context(store, 2)
        before = store.peers[2].raft.last_index
        writes = [store.write(context, [(CF_DEFAULT, b"z%03d" % n, b"v")]) for n in range(64)]
        indexes = await asyncio.gather(*writes)
        assert set(indexes) == {before + 1}
        await cluster.stop()

    run_virtual(main())


def test_errors_in_tikvs_order() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        store = await cluster.leader()
        follower = next(s for s in cluster.stores.values() if s is not store)
        good = cluster.context(store, 2)

        def wrong(**changes: object) -> Context:
            context = Context()
            context.CopyFrom(good)
            for name, value in changes.items():
                field = getattr(context, name)
                if hasattr(field, "CopyFrom"):
                    field.CopyFrom(value)
                else:
                    setattr(context, name, value)
            return context

        def error_of(context: Context, at: object = store) -> str:
            with pytest.raises(RegionError) as caught:
                at.try_read(context)  # type: ignore[attr-defined]
            fields = [field.name for field, _ in caught.value.error.ListFields() if field.name != "message"]
            assert len(fields) == 1
            return str(fields[0])

        assert error_of(wrong(peer=Peer(id=1, store_id=9), region_id=77)) == "store_not_match"
        assert error_of(wrong(region_id=77)) == "region_not_found"
        stale = wrong(peer=follower.peers[2].peer)
        stale.region_epoch.version += 1
        assert error_of(stale, follower) == "not_leader"
        odd = wrong(peer=Peer(id=999, store_id=store.store_id))
        odd.region_epoch.version += 1
        assert error_of(odd) == "mismatch_peer_id"
        newer = wrong()
        newer.region_epoch.version += 1
        assert error_of(newer) == "epoch_not_match"
        newer = wrong()
        newer.region_epoch.conf_ver += 1
        await store.read(newer)  # reads are not bound to the membership
        with pytest.raises(RegionError) as caught:
            await store.write(good, [(CF_DEFAULT, b"za", b"x" * (9 << 20))])
        assert caught.value.error.HasField("raft_entry_too_large")
        with pytest.raises(RegionError) as caught:
            await store.write(good, [(CF_DEFAULT, b"za", b"x")], term=store.peers[2].raft.term + 1)
        assert caught.value.error.HasField("stale_command")
        await cluster.stop()

    run_virtual(main())


def test_reads_by_lease_by_read_index_and_on_followers() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        store = await cluster.leader()
        context = cluster.context(store, 2)
        await store.write(context, [(CF_DEFAULT, b"za", b"1")])
        assert store.try_read(context) is not None, "a write has renewed the lease"
        await asyncio.sleep(2)
        assert store.try_read(context) is None, "the lease has run out"
        await store.read(context)
        assert store.try_read(context) is not None, "the quorum that ReadIndex has heard renews it"
        follower = next(s for s in cluster.stores.values() if s is not store)
        on_follower = cluster.context(follower, 2)
        with pytest.raises(RegionError):
            await follower.read(on_follower)
        on_follower.replica_read = True
        grant = await follower.read(on_follower)
        assert grant.applied_index >= store.peers[2].storage.applied
        assert follower.engine.get(CF_DEFAULT, b"za") == b"1"
        await cluster.stop()

    run_virtual(main())


def test_a_cut_off_leader_serves_no_stale_read() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        old = await cluster.leader()
        context = cluster.context(old, 2)
        await old.write(context, [(CF_DEFAULT, b"za", b"old")])
        cluster.network.isolate(old.store_id, [s for s in (1, 2, 3) if s != old.store_id])
        while True:
            others = [s for s in cluster.stores.values() if s is not old and s.peers[2].is_leader]
            if others:
                break
            await asyncio.sleep(0.02)
        try:
            granted = old.try_read(context)
        except RegionError:
            granted = None
        assert granted is None
        with pytest.raises(RegionError):
            await old.read(context, asyncio.get_running_loop().time() + 1)
        await cluster.stop()

    run_virtual(main())
