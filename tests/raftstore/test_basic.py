"""One region: elections, writes, reads, restart."""

from __future__ import annotations

import asyncio

import pytest

from kvstore.engine.api import CF_DEFAULT
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer
from kvstore.proto.raft_serverpb_pb2 import RaftMessage
from kvstore.raft.types import Message, MessageType
from kvstore.raft_wire import message_to_pb
from kvstore.raftstore.api import RegionError
from tests.raftstore.cluster import TEST_CONFIG, Cluster
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
    """In some of the runs the old leader still believes in itself when the new one is there."""
    both = [run_virtual(cut_off_a_leader(seed)) for seed in range(12)]
    assert any(both)


async def cut_off_a_leader(seed: int) -> bool:
    cluster = Cluster(seed)
    cluster.form([1, 2, 3])
    old = await cluster.leader()
    context = cluster.context(old, 2)
    await old.write(context, [(CF_DEFAULT, b"za", b"old")])
    cluster.network.isolate(old.store_id, [s for s in (1, 2, 3) if s != old.store_id])
    while all(not s.peers[2].is_leader for s in cluster.stores.values() if s is not old):
        await asyncio.sleep(0.01)
    believes = old.peers[2].is_leader
    try:
        assert old.try_read(context) is None
    except RegionError:
        assert not believes
    with pytest.raises(RegionError):
        await old.read(context, asyncio.get_running_loop().time() + 1)
    await cluster.stop()
    return believes


def test_a_write_that_was_proposed_behind_a_split_is_refused_when_it_is_applied() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        store = await cluster.leader()
        context = cluster.context(store, 2)
        split = asyncio.ensure_future(store.split(context, [b"m"]))
        while not store.peers[2].proposals:
            await asyncio.sleep(0.0001)
        assert store.regions()[0].region_epoch.version == 1, "it is proposed, not applied"
        with pytest.raises(RegionError) as caught:
            await store.write(context, [(CF_DEFAULT, b"za", b"1")])
        assert caught.value.error.epoch_not_match.current_regions
        await split
        await asyncio.sleep(1)
        assert all(not cluster.data(store_id) for store_id in (1, 2, 3))
        await cluster.stop()

    run_virtual(main())


def vote_request(to: Peer, candidate: Peer, term: int) -> RaftMessage:
    message = RaftMessage(region_id=2, from_peer=candidate, to_peer=to)
    message.region_epoch.conf_ver = message.region_epoch.version = 1
    request = Message(MessageType.REQUEST_VOTE, to.id, candidate.id, term, term, 1000)
    message.message.CopyFrom(message_to_pb(request))
    return message


def test_a_vote_is_remembered_after_a_crash() -> None:
    async def main() -> None:
        cluster = Cluster(seed=4)
        region = cluster.form([1, 2, 3])
        one, voter, three = region.peers
        await asyncio.sleep(TEST_CONFIG.lease_s + 0.1)
        cluster.network.isolate(2, [1, 3])
        answers: list[RaftMessage] = []

        def watch(message: RaftMessage) -> bool:
            if message.message.msg_type == MessageType.REQUEST_VOTE_RESPONSE:
                answers.append(message)
            return True

        await asyncio.sleep(3)
        cluster.network.filter = watch
        cluster.stores[2].on_raft_message(vote_request(voter, one, 50))
        await cluster.until(lambda: len(answers) == 1)
        assert not answers[0].message.reject
        cluster.crash(2)
        cluster.start(2)
        await asyncio.sleep(TEST_CONFIG.lease_s + 0.1)
        cluster.stores[2].on_raft_message(vote_request(voter, three, 50))
        await cluster.until(lambda: len(answers) == 2)
        assert answers[1].message.reject, "two votes in one term"
        await cluster.stop()

    run_virtual(main())


def test_a_store_that_has_just_started_gives_no_vote_while_a_lease_may_hold() -> None:
    async def main() -> None:
        cluster = Cluster(seed=4)
        region = cluster.form([1, 2, 3])
        leader = await cluster.leader()
        follower = next(s for s in cluster.stores.values() if s is not leader)
        candidate = next(p for p in region.peers if p.store_id not in (leader.store_id, follower.store_id))
        await cluster.put(b"a", b"1")
        term = leader.peers[2].raft.term
        cluster.network.isolate(leader.store_id, [1, 2, 3])
        cluster.crash(follower.store_id)
        again = cluster.start(follower.store_id)
        again.on_raft_message(vote_request(again.peers[2].peer, candidate, term + 1))
        await asyncio.sleep(0.05)
        assert again.peers[2].raft.term == term, "the old leader still has its lease"
        await cluster.stop()

    run_virtual(main())
