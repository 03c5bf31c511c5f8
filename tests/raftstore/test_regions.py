"""Regions that grow, are read too much, fall asleep, move; disks that are full, stores that fail."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kvstore import failpoint
from kvstore.engine.api import CF_DEFAULT, CF_RAFT
from kvstore.engine.memory import MemoryEngine
from kvstore.errors import DiskFull, NotOurDirectory
from kvstore.proto.kvrpcpb_pb2 import DiskFullOpt
from kvstore.proto.metapb_pb2 import Peer, Region, Store
from kvstore.proto.raft_cmdpb_pb2 import AdminCmdType, AdminRequest
from kvstore.proto.raft_serverpb_pb2 import RaftMessage, SnapshotChunk
from kvstore.raft.types import MessageType
from kvstore.raftstore import keys
from kvstore.raftstore.api import RegionError, RegionObserver
from kvstore.raftstore.bootstrap import bootstrap, identify, read_ident, write_ident
from kvstore.raftstore.config import StoreConfig
from kvstore.raftstore.merge import prepare_request
from kvstore.raftstore.metrics import StoreCollector
from kvstore.raftstore.placement_worker import begin_merge
from kvstore.raftstore.split_check import balanced_key, boundary, split_keys
from kvstore.rpc.api import RpcError
from tests.raftstore.cluster import ADD, LEARNER, TEST_CONFIG, Cluster, Pd, PdClient
from tests.raftstore.loop import run_virtual

SLEEPY = replace(TEST_CONFIG, hibernate_ticks=20, store_alive_s=0.5, store_silence_s=1.5)


def test_a_region_that_grows_is_split_by_size() -> None:
    config = replace(TEST_CONFIG, region_max_bytes=4000, region_split_bytes=2000, split_check_bytes=500)

    async def main() -> None:
        cluster = Cluster(config=config)
        cluster.form([1, 2, 3])
        for number in range(700):
            await cluster.put(b"k%04d" % number, b"v" * 20)
        await cluster.until(lambda: len(cluster.stores[1].regions()) >= 3)
        await asyncio.sleep(3)
        for store in cluster.stores.values():
            regions = store.regions()
            assert regions[0].start_key == b""
            assert regions[-1].end_key == b""
            assert all(a.end_key == b.start_key for a, b in itertools.pairwise(regions))
        assert cluster.data(1) == cluster.data(2) == cluster.data(3)
        assert await cluster.get(b"k0699") == b"v" * 20
        await cluster.stop()

    run_virtual(main())


def test_a_region_that_is_read_too_much_is_split_where_it_is_read() -> None:
    config = replace(TEST_CONFIG, load_split_qps=50, load_split_window_s=1.0, load_split_windows=2)

    async def main() -> None:
        cluster = Cluster(config=config)
        cluster.form([1])
        store = await cluster.leader()
        rng = random.Random(5)
        for _ in range(80):
            await asyncio.sleep(0.05)
            for _ in range(20):
                key = b"k%03d" % rng.randrange(1000)
                region = next(r for r in store.regions() if r.start_key <= key and (not r.end_key or key < r.end_key))
                store.check_key(region, key)
        regions = store.regions()
        assert len(regions) >= 2
        assert b"k2" < regions[0].end_key < b"k8"
        await cluster.stop()

    run_virtual(main())


def test_a_heartbeat_tells_the_size_in_bytes_once_it_is_known() -> None:
    async def main() -> None:
        cluster = Cluster(config=TEST_CONFIG)
        cluster.form([1])
        store = await cluster.leader()
        peer = store.peers[2]
        told: list[int] = []
        client: Any = store.placement
        client.region_heartbeat = lambda request: told.append(request.approximate_size)
        peer.flow.measured = False
        store.upkeep.report(peer)
        peer.flow.measured, peer.flow.size = True, 3_000_000
        store.upkeep.report(peer)
        peer.flow.size = 0
        store.upkeep.report(peer)
        assert told == [0, 3_000_000, 1]
        await cluster.stop()

    run_virtual(main())


def test_where_to_split() -> None:
    region = Region(id=1, start_key=b"b", end_key=b"y")
    chunks = [(b"c%d" % n, 10, 1) for n in range(9)]
    assert split_keys(region, chunks, 30, 100) == [b"c2", b"c5", b"c8"]
    assert split_keys(region, chunks, 1000, 4) == [b"c3", b"c7"]
    assert boundary(b"abcdefgh\xfe" + bytes(8)) != b"abcdefgh\xfe", "a timestamp is cut off"
    assert boundary(b"plain") == b"plain"
    assert balanced_key(region, [b"c", b"c", b"c"]) is None
    assert balanced_key(region, [b"c", b"d", b"e", b"f"]) == b"e"
    assert balanced_key(region, [b"z"]) is None


def test_idle_groups_sleep_and_wake_for_requests() -> None:
    async def main() -> None:
        cluster = Cluster(config=SLEEPY)
        cluster.form([1, 2, 3])
        await cluster.put(b"a", b"1")
        await cluster.until(lambda: all(not store.awake for store in cluster.stores.values()))
        sent = 0

        def count(message: RaftMessage) -> bool:
            nonlocal sent
            sent += message.region_id != 0
            return True

        cluster.network.filter = count
        await asyncio.sleep(20)
        assert sent == 0
        assert all(not store.awake for store in cluster.stores.values())
        assert await cluster.get(b"a") == b"1"
        await cluster.put(b"b", b"2")
        await cluster.until(lambda: all(not store.awake for store in cluster.stores.values()))
        await cluster.stop()

    run_virtual(main())


def test_who_slept_is_not_reported_as_down() -> None:
    async def main() -> None:
        cluster = Cluster(config=replace(SLEEPY, down_peer_s=5.0))
        cluster.form([1, 2, 3])
        await cluster.put(b"a", b"1")
        await cluster.until(lambda: all(not store.awake for store in cluster.stores.values()))
        await asyncio.sleep(30)
        await cluster.put(b"b", b"1")
        leader = await cluster.leader()
        reports: list[int] = []
        client: Any = leader.placement
        client.region_heartbeat = lambda request: reports.append(len(request.down_peers))
        leader.upkeep.report(leader.peers[2])
        assert reports == [0]
        victim = next(s for s in (1, 2, 3) if s != leader.store_id)
        cluster.crash(victim)
        for _ in range(8):
            await asyncio.sleep(1)
            await cluster.put(b"c", b"1")
        leader.upkeep.report(leader.peers[2])
        assert reports[-1] == 1
        await cluster.stop()

    run_virtual(main())


def test_sleeping_groups_notice_that_their_leader_is_gone() -> None:
    async def main() -> None:
        cluster = Cluster(config=SLEEPY)
        cluster.form([1, 2, 3])
        await cluster.put(b"a", b"1")
        await cluster.until(lambda: all(not store.awake for store in cluster.stores.values()))
        leader = await cluster.leader()
        cluster.crash(leader.store_id)
        begun = asyncio.get_running_loop().time()
        await cluster.until(lambda: cluster.leader_store(2) is not None)
        assert asyncio.get_running_loop().time() - begun < 5
        await cluster.put(b"b", b"2")
        await cluster.stop()

    run_virtual(main())


def test_a_full_disk_refuses_writes_but_not_deletes() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1])
        store = await cluster.leader()
        free = 0
        store.free_bytes = lambda: free
        await asyncio.sleep(2)
        context = cluster.context(store, 2)
        with pytest.raises(RegionError) as caught:
            await store.write(context, [(CF_DEFAULT, b"za", b"1")])
        assert caught.value.error.disk_full.store_id == [1]
        await store.write(context, [(CF_DEFAULT, b"za", None)])
        context.disk_full_opt = DiskFullOpt.AllowedOnAlmostFull
        await store.write(context, [(CF_DEFAULT, b"za", b"1")])
        free = 1 << 40
        await asyncio.sleep(2)
        await store.write(cluster.context(store, 2), [(CF_DEFAULT, b"za", b"1")])
        await cluster.stop()

    run_virtual(main())


def test_too_many_writes_are_refused_with_a_back_off() -> None:
    async def main() -> None:
        cluster = Cluster(config=replace(TEST_CONFIG, queue_writes_max=10))
        cluster.form([1])
        store = await cluster.leader()
        context = cluster.context(store, 2)
        writes = [store.write(context, [(CF_DEFAULT, b"z%d" % n, b"1")]) for n in range(12)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        refused = [r for r in results if isinstance(r, RegionError)]
        assert len(refused) == 2
        assert all(error.error.server_is_busy.backoff_ms for error in refused)
        await store.write(context, [(CF_DEFAULT, b"z", b"1")])
        await cluster.stop()

    run_virtual(main())


def test_nothing_is_acknowledged_after_the_engine_failed() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1])
        store = await cluster.leader()
        context = cluster.context(store, 2)
        engine: Any = store.engine

        def refuse(batch: object) -> None:
            raise DiskFull("no room")

        engine.write = refuse
        with pytest.raises(RegionError) as caught:
            await store.write(context, [(CF_DEFAULT, b"za", b"1")])
        assert caught.value.undetermined
        await asyncio.sleep(0)
        assert isinstance(store.fatal, DiskFull)
        with pytest.raises(RegionError):
            await store.write(context, [(CF_DEFAULT, b"za", b"1")])
        with pytest.raises(AssertionError):
            cluster.check()

    run_virtual(main())


def test_a_failed_sync_ends_the_store_without_an_answer() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1])
        store = await cluster.leader()

        async def fail() -> None:
            raise OSError("input/output error")

        store.rounds._syncer.sync = fail  # type: ignore[method-assign]
        with pytest.raises(RegionError) as caught:
            await store.write(cluster.context(store, 2), [(CF_DEFAULT, b"za", b"1")])
        assert caught.value.undetermined
        assert store.engine.get(CF_DEFAULT, b"za") is None

    run_virtual(main())


def test_writes_of_a_leader_that_lost_its_lead_are_undetermined_or_stale() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        await cluster.put(b"a", b"0")
        old = await cluster.leader()
        context = cluster.context(old, 2)
        cluster.network.isolate(old.store_id, [s for s in (1, 2, 3) if s != old.store_id])
        lost = asyncio.ensure_future(old.write(context, [(CF_DEFAULT, b"za", b"lost")]))
        await cluster.until(lambda: not old.peers[2].is_leader)
        await cluster.put(b"b", b"1")
        cluster.network.heal()
        with pytest.raises(RegionError) as caught:
            await lost
        assert caught.value.error.HasField("stale_command"), "another entry took its index: it was not applied"
        assert await cluster.get(b"a") == b"0"

        leader = await cluster.leader()
        cluster.network.isolate(leader.store_id, [s for s in (1, 2, 3) if s != leader.store_id])
        lost = asyncio.ensure_future(leader.write(cluster.context(leader, 2), [(CF_DEFAULT, b"za", b"lost")]))
        with pytest.raises(RegionError) as caught:
            await lost
        assert caught.value.undetermined, "nobody tells what became of it"
        await cluster.stop()

    run_virtual(main())


def test_a_damaged_snapshot_is_refused_and_a_later_one_taken() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1])
        for number in range(30):
            await cluster.put(b"k%02d" % number, b"v" * 30)
        await asyncio.sleep(3)
        cluster.add_store(2)
        target = cluster.stores[2]
        damaged = 0
        receive = target.receive_snapshot

        async def spoil(chunks: Any) -> None:
            async def spoiled() -> Any:
                nonlocal damaged
                async for chunk in chunks:
                    if chunk.data and damaged < 2:
                        damaged += 1
                        yield SnapshotChunk(data=chunk.data[:-1] + bytes((chunk.data[-1] ^ 1,)))
                    else:
                        yield chunk

            await receive(spoiled())

        target.receive_snapshot = spoil  # type: ignore[method-assign]
        recorder = Recorder()
        target.observe(recorder)
        cluster.change_peer(2, LEARNER, Peer(id=20, store_id=2))
        await cluster.until(lambda: len(cluster.data(2)) == 30)
        assert damaged == 2
        assert recorder.events.count("replaced 2") == 1
        cluster.change_peer(2, ADD, Peer(id=20, store_id=2))
        await cluster.until(lambda: len(cluster.stores[1].peers[2].region.peers) == 2)
        await cluster.stop()

    run_virtual(main())


def test_a_peer_that_has_its_snapshot_is_reported_at_once() -> None:
    async def main() -> None:
        cluster = Cluster(config=replace(TEST_CONFIG, region_heartbeat_s=3600.0))
        cluster.form([1])
        await cluster.put(b"a", b"1")
        cluster.add_store(2)
        told: list[list[int]] = []
        client: Any = cluster.clients[1]
        client.region_heartbeat = lambda request: told.append([peer.id for peer in request.pending_peers])
        cluster.change_peer(2, LEARNER, Peer(id=20, store_id=2))
        await cluster.until(lambda: cluster.data(2) == cluster.data(1), patience_s=10.0)
        await cluster.until(lambda: told[-1:] == [[]], patience_s=5.0)
        assert told == [[20], []]
        await cluster.stop()

    run_virtual(main())


def test_a_crash_in_the_middle_of_applying_a_snapshot_begins_it_anew() -> None:
    async def main() -> None:
        cluster = Cluster(seed=8)
        cluster.form([1])
        for number in range(40):
            await cluster.put(b"k%02d" % number, b"v" * 30)
        await asyncio.sleep(3)
        cluster.add_store(2)
        cluster.change_peer(2, LEARNER, Peer(id=20, store_id=2))
        for _ in range(3):
            failpoint.configure("raftstore::apply_snapshot_piece", "5*off->1*panic")
            await cluster.until(lambda: cluster.stores[2].fatal is not None, check=False)
            assert cluster.stores[2].peers[2].applying is not None
            failpoint.clear()
            cluster.crash(2)
            cluster.start(2)
        await cluster.until(lambda: len(cluster.data(2)) == 40)
        await cluster.until(lambda: cluster.stores[2].peers[2].applying is None)
        assert cluster.data(2) == cluster.data(1)
        left = cluster.stores[2].engine.scanner(CF_RAFT, *keys.STAGING)
        assert left.take(1) == []
        await cluster.stop()

    run_virtual(main())


def test_the_first_store_makes_the_first_region() -> None:
    async def main() -> None:
        pd = Pd()
        one, two = MemoryEngine(), MemoryEngine()
        first, second = PdClient(pd, 1), PdClient(pd, 2)
        assert await identify(one, first, 7) == 101
        assert await identify(one, first, 7) == 101
        assert await identify(two, second, 7) == 102
        assert await bootstrap(one, first, Store(id=101))
        assert not await bootstrap(two, second, Store(id=102))
        assert pd.first is not None
        assert pd.first.peers[0].store_id == 101
        with pytest.raises(NotOurDirectory, match="cluster 7"):
            await identify(one, first, 8)
        with pytest.raises(NotOurDirectory, match="store 101"):
            await identify(one, first, 7, wanted=5)
        found = read_ident(one)
        assert found is not None
        assert (found.cluster_id, found.store_id) == (7, 101)

    run_virtual(main())


def test_two_stores_that_begin_a_cluster_make_one_region() -> None:
    async def main() -> None:
        pd = Pd()
        engines = {1: MemoryEngine(), 2: MemoryEngine()}
        clients = {store_id: PdClient(pd, store_id) for store_id in engines}
        for store_id, engine in engines.items():
            write_ident(engine, 7, store_id)

        async def away() -> bool:
            return False  # both ask before either tells

        for client in clients.values():
            client.is_bootstrapped = away  # type: ignore[method-assign]
        assert await bootstrap(engines[1], clients[1], Store(id=1))
        with pytest.raises(RpcError):
            await bootstrap(engines[2], clients[2], Store(id=2))
        del clients[2].is_bootstrapped  # type: ignore[method-assign]
        assert not await bootstrap(engines[2], clients[2], Store(id=2)), "its region is taken back"
        assert engines[2].get(CF_RAFT, keys.PREPARED_REGION_KEY) is None
        scanner = engines[2].scanner(CF_RAFT, *keys.REGION_STATES)
        assert scanner.take(1) == []

    run_virtual(main())


class Recorder(RegionObserver):
    def __init__(self) -> None:
        self.events: list[str] = []

    def on_role(self, region: Region, peer: Peer, *, is_leader: bool, term: int) -> None:
        self.events.append(f"role {region.id} {is_leader}")

    def on_region(self, region: Region) -> None:
        self.events.append(f"region {region.id} {region.region_epoch.version}")

    def on_destroyed(self, region: Region) -> None:
        self.events.append(f"destroyed {region.id}")

    def on_replaced(self, region: Region) -> None:
        self.events.append(f"replaced {region.id}")

    def on_applied(self, region: Region, entries_bytes: int) -> None:
        self.events.append(f"applied {region.id}")


def test_observers_are_told() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1])
        recorder = Recorder()
        cluster.stores[1].observe(recorder)
        store = await cluster.leader()
        await store.write(cluster.context(store, 2), [(CF_DEFAULT, b"za", b"1")])
        await store.split(cluster.context(store, 2), [b"m"])
        await cluster.leader(101)
        cluster.merge(2, 101)
        await cluster.until(lambda: len(store.regions()) == 1)
        expected = ["role 2 True", "applied 2", "region 2 2", "region 101 2", "role 101 True", "destroyed 2"]
        assert [event for event in recorder.events if event in expected] == expected
        await cluster.stop()

    run_virtual(main())


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="lease_s"):
        StoreConfig(lease_s=5.0)
    with pytest.raises(ValueError, match="split size"):
        StoreConfig(region_split_bytes=1 << 40)


def test_messages_for_others_and_of_the_past_do_nothing() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        store = await cluster.leader()
        peer = store.peers[2]
        for message in (
            RaftMessage(region_id=2, to_peer=Peer(id=11, store_id=99), from_peer=Peer(id=12, store_id=2)),
            RaftMessage(region_id=2, to_peer=Peer(id=5, store_id=store.store_id), from_peer=Peer(id=12, store_id=2)),
            RaftMessage(region_id=77, to_peer=Peer(id=5, store_id=store.store_id), from_peer=Peer(id=1, store_id=2)),
            RaftMessage(region_id=2, to_peer=peer.peer, from_peer=Peer(id=12, store_id=2), is_tombstone=True),
            RaftMessage(),
        ):
            store.on_raft_message(message)
        await asyncio.sleep(1)
        cluster.check()
        assert sorted(store.peers) == [2]
        await cluster.stop()

    run_virtual(main())


def test_entries_that_come_with_a_snapshot_are_applied_after_its_pieces() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1])
        for number in range(30):
            await cluster.put(b"k%02d" % number, b"old" * 10)
        await asyncio.sleep(3)
        cluster.add_store(2)
        target = cluster.stores[2]
        deliver = target.on_raft_message
        waiting: list[RaftMessage] = []
        together = 0

        def hold(message: RaftMessage) -> None:
            nonlocal together
            kind = message.message.msg_type
            if kind == MessageType.SNAPSHOT and not together:
                waiting.append(message)
            elif waiting and kind == MessageType.APPEND and message.message.entries:
                together += 1
                deliver(waiting.pop())
                deliver(message)
            else:
                deliver(message)

        target.on_raft_message = hold  # type: ignore[method-assign]
        cluster.change_peer(2, LEARNER, Peer(id=20, store_id=2))
        await cluster.until(lambda: bool(waiting))
        for number in range(30):
            await cluster.put(b"k%02d" % number, b"new")
        await cluster.until(lambda: set(cluster.data(2).values()) == {b"new"}, what="the newer values win")
        assert together == 1
        assert cluster.data(2) == cluster.data(1)
        await cluster.stop()

    run_virtual(main())


def test_metrics_say_what_was_done() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        store = await cluster.leader()
        await cluster.put(b"a", b"1")
        await store.split(cluster.context(store, 2), [b"m"])
        registry = CollectorRegistry()
        StoreCollector(store).register(registry)
        value = registry.get_sample_value
        assert value("tikv_raftstore_region_count", {"type": "region"}) == 2
        assert value("tikv_raftstore_admin_cmd_total", {"type": "BatchSplit"}) == 1
        assert value("tikv_raftstore_hibernated_peer_state", {"state": "awaken"}) == 2
        assert value("raftstore_syncs_total") == store.counters.syncs > 0
        assert value("raftstore_writes_total") == 1
        assert value("raftstore_queued_bytes") == 0
        assert value("tikv_raftstore_append_log_duration_seconds_count") == store.counters.syncs
        assert value("tikv_raftstore_commit_log_duration_seconds_count") == 2
        committing = value("tikv_raftstore_commit_log_duration_seconds_sum")
        appending = value("tikv_raftstore_append_log_duration_seconds_sum")
        assert committing is not None
        assert appending is not None
        assert 0 < appending < committing < 10
        applied = value("tikv_raftstore_apply_log_duration_seconds_count")
        assert applied is not None
        assert 2 <= applied <= store.counters.apply_batches
        await cluster.stop()

    run_virtual(main())


def test_the_log_of_a_merging_region_is_not_cut() -> None:
    """A CompactLog that was proposed behind PrepareMerge, before that was applied, must do nothing."""

    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        store = await cluster.leader()
        await store.split(cluster.context(store, 2), [b"m"])
        source_leader = await cluster.leader(101)
        source = source_leader.peers[101]
        target_leader = await cluster.leader(2)
        lagging = next(s for s in (1, 2, 3) if s not in (source_leader.store_id, target_leader.store_id))
        await cluster.put(b"a", b"v")
        await asyncio.sleep(0.5)
        cluster.network.isolate(lagging, [1, 2, 3])
        for number in range(5):
            await cluster.put(b"a%02d" % number, b"v")
        merging = asyncio.ensure_future(begin_merge(source_leader, source, source_leader.peers[2].region))
        while not source.proposals:
            await asyncio.sleep(0.0001)
        compact = AdminRequest(cmd_type=AdminCmdType.CompactLog)
        compact.compact_log.compact_index = source.storage.applied
        compact.compact_log.compact_term = source.storage.applied_term
        source.propose_admin(compact, None, 0.0)
        source_leader.mark(source)
        await merging
        await asyncio.sleep(1)
        cluster.network.heal()
        await cluster.until(lambda: all(len(s.regions()) == 1 for s in cluster.stores.values()))
        assert len(cluster.data(lagging)) == 6
        await cluster.stop()

    run_virtual(main())


def test_a_merged_region_is_not_buried_where_the_target_is_behind() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        await cluster.put(b"b", b"1")
        store = await cluster.leader(2)
        left = next(r for r in await store.split_at(store.peers[2], [b"m"]) if r.id != 2).id
        await cluster.until(lambda: all(left in one.peers for one in cluster.stores.values()))
        await cluster.leader(left)
        cluster.transfer(2, next(p for p in store.peers[2].region.peers if p.store_id == 1))
        await cluster.until(lambda: cluster.leader_store(2) is cluster.stores[1])
        appends = (MessageType.APPEND, MessageType.SNAPSHOT)

        def nothing_new(message: RaftMessage) -> bool:
            return not (
                message.to_peer.store_id == 3 and message.region_id == 2 and message.message.msg_type in appends
            )

        cluster.network.filter = nothing_new
        await cluster.until(lambda: cluster.merge(left, 2) and left not in cluster.stores[1].peers)
        third = cluster.stores[3]
        await asyncio.sleep(40)
        assert third.peers[2].leader() is not None, "it hears its leader, and has applied all that it knows of"
        assert left in third.peers
        cluster.network.filter = None
        await cluster.until(lambda: third.peers[2].region.start_key == b"", what="the third store merges, too")
        assert left not in third.peers
        assert cluster.data(1) == cluster.data(3)
        await cluster.stop()

    run_virtual(main())


def test_a_log_is_not_cut_behind_prepare_merge() -> None:
    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        await cluster.put(b"b", b"1")
        store = await cluster.leader(2)
        left = next(r for r in await store.split_at(store.peers[2], [b"m"]) if r.id != 2).id
        await cluster.until(lambda: all(left in one.peers for one in cluster.stores.values()))
        leader = await cluster.leader(left)
        await asyncio.sleep(1)
        peer, behind = leader.peers[left], leader.store_id % 3 + 1
        cluster.network.filter = lambda message: (
            message.region_id != 2 and (message.region_id, message.to_peer.store_id) != (left, behind)
        )
        for number in range(4):
            await cluster.put(b"c%d" % number, b"1")
        now = leader.clock()
        peer.propose_admin(prepare_request(leader, peer, leader.peers[2].region), None, now)
        cut = AdminRequest(cmd_type=AdminCmdType.CompactLog)
        cut.compact_log.compact_index = peer.storage.applied
        cut.compact_log.compact_term = peer.storage.term(peer.storage.applied)
        peer.propose_admin(cut, None, now)
        last = peer.raft.last_index
        leader.mark(peer)
        await cluster.until(lambda: peer.storage.applied == last)
        assert peer.merge is not None
        assert peer.storage.truncated_index < peer.merge.min_index
        cluster.network.filter = None
        await cluster.until(lambda: all(left not in one.peers for one in cluster.stores.values()))
        await cluster.stop()

    run_virtual(main())


async def ranges(cluster: Cluster, starts: bytes) -> list[int]:
    """Splits region 2 before each of `starts`; the ids from left to right, when all stores have all of them."""
    store = await cluster.leader(2)
    await store.split_at(store.peers[2], [starts[at : at + 1] for at in range(len(starts))])
    wanted = len(starts) + 1
    await cluster.until(lambda: all(len(one.tree.all()) == wanted for one in cluster.stores.values()))
    return [region.id for region in store.regions()]


async def cut_off(cluster: Cluster, absent: int) -> None:
    """Isolates a store that leads nothing: store 1 leads all, and knows how far everybody is."""
    for region in cluster.stores[1].regions():
        own = next(member for member in region.peers if member.store_id == 1)
        await cluster.leader(region.id)
        cluster.transfer(region.id, own)
        await cluster.until(lambda one=region.id: cluster.leader_store(one) is cluster.stores[1])
    await asyncio.sleep(1)
    cluster.network.isolate(absent, list(cluster.stores))


async def merge_without(cluster: Cluster, absent: int, source: int, target: int) -> None:
    """Merges on all stores but `absent`."""
    there = [store for store_id, store in cluster.stores.items() if store_id != absent]
    await cluster.until(lambda: cluster.merge(source, target))
    await cluster.until(lambda: all(source not in store.peers for store in there))


async def outgrow_log(cluster: Cluster, key: bytes, absent: int) -> None:
    """Writes until the region of `key` no longer has the log that the absent store needs."""
    found = cluster.locate(key)
    assert found is not None
    region_id = found[1]
    last = cluster.stores[absent].peers[region_id].raft.last_index

    def cut() -> bool:
        leader = cluster.leader_store(region_id)
        return leader is not None and leader.peers[region_id].storage.truncated_index > last

    for number in range(TEST_CONFIG.log_gc_entries_max + 20):
        await cluster.put(key + b"%03d" % number, b"v" * 20)
    await cluster.until(cut, what="the log is cut")


def test_a_region_that_merged_and_split_again_comes_to_a_store_that_missed_both() -> None:
    """Its snapshot has a part only of the source that the store still holds, and that nobody needs any more."""

    async def main() -> None:
        cluster = Cluster()
        cluster.form([1, 2, 3])
        for key in (b"b", b"h", b"p"):
            await cluster.put(key, b"1")
        left, right = await ranges(cluster, b"m")
        assert right == 2
        await cut_off(cluster, 3)
        await merge_without(cluster, 3, left, 2)
        store = await cluster.leader(2)
        part = next(r for r in await store.split_at(store.peers[2], [b"f"]) if r.id != 2).id
        await outgrow_log(cluster, b"p", 3)
        cluster.network.heal()
        third = cluster.stores[3]
        await cluster.until(lambda: third.peers[2].region.start_key == b"f", 60, "the third store follows")
        await cluster.until(lambda: part in third.peers and third.peers[part].storage.initialized)
        assert left not in third.peers
        await cluster.until(lambda: cluster.data(3) == cluster.data(store.store_id), what="the data is the same")
        await cluster.stop()

    run_virtual(main())
