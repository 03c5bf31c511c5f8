"""A cluster in one loop: stores over engines that forget what was not synced, a faulty network, a placement driver.

Everything random is drawn from one generator, so a seed is a run.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from kvstore.engine.api import CF_DEFAULT, COLUMN_FAMILIES, Engine
from kvstore.engine.memory import MemoryBatch, MemoryEngine
from kvstore.engine.staged import MemoryFiles
from kvstore.proto.eraftpb_pb2 import ConfChangeType
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch, Store
from kvstore.proto.pdpb_pb2 import (
    RegionHeartbeatRequest,
    RegionHeartbeatResponse,
    SplitID,
    StoreHeartbeatResponse,
    StoreStats,
)
from kvstore.proto.raft_serverpb_pb2 import RaftMessage, SnapshotChunk
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.bootstrap import first_region, prepare_region, write_ident
from kvstore.raftstore.config import StoreConfig
from kvstore.raftstore.placement_worker import PlacementWorker
from kvstore.raftstore.store import RaftStore
from kvstore.rpc.api import Code, RpcError

CLUSTER_ID = 7
TEST_CONFIG = StoreConfig(
    tick_s=0.1,
    heartbeat_ticks=2,
    election_ticks=10,
    lease_s=0.7,
    hibernate_ticks=0,
    log_gc_s=1.0,
    log_gc_entries=8,
    log_gc_entries_max=64,
    snapshot_piece_bytes=64,
    merge_check_s=0.2,
    region_heartbeat_s=2.0,
    store_heartbeat_s=5.0,
    leader_missing_s=8.0,
    split_check_s=1.0,
    joint_leave_s=1.0,
)


class CrashEngine(MemoryEngine):
    """A memory engine that knows what of it is durable."""

    def __init__(self) -> None:
        super().__init__()
        self.unsynced: list[list[tuple[int, bytes, bytes | None, bytes | None]]] = []
        self.disk = MemoryEngine()

    def write(self, batch: Any) -> None:
        assert isinstance(batch, MemoryBatch)
        numbers = {id(self.handle(cf)): number for number, cf in enumerate(COLUMN_FAMILIES)}
        self.unsynced.append([(numbers[id(f)], key, value, end) for f, key, value, end in batch.changes])
        super().write(batch)

    def ingest(self, cf: str, files: Sequence[Any]) -> None:
        batch = self.batch()
        for file in files:
            batch.put_all(zip(file.keys, file.values, strict=True), self.handle(cf))
        self.write(batch)
        self.sync()  # the real one empties its log first and is then durable itself

    def make_durable(self, count: int) -> None:
        batch = self.disk.batch()
        for changes in self.unsynced[:count]:
            for number, key, value, end in changes:
                handle = self.disk.handle(COLUMN_FAMILIES[number])
                if value is not None:
                    batch.put(key, value, handle)
                elif end is None:
                    batch.delete(key, handle)
                else:
                    batch.delete_range(key, end, handle)
        self.disk.write(batch)
        del self.unsynced[:count]

    def sync(self) -> None:
        super().sync()
        self.make_durable(len(self.unsynced))

    def crash(self, rng: random.Random) -> CrashEngine:
        """What a machine finds after it lost power: what was synced and a prefix of the rest."""
        self.make_durable(rng.randrange(len(self.unsynced) + 1))
        fresh = CrashEngine()
        assert isinstance(self.staged, MemoryFiles)
        fresh._staged = MemoryFiles(fresh, self.staged.kept)
        batch = fresh.batch()
        for cf in COLUMN_FAMILIES:
            scanner = self.disk.scanner(cf, b"", b"\xff" * 40)
            flat = scanner.take(1 << 30)
            batch.put_all(zip(flat[::2], flat[1::2], strict=True), fresh.handle(cf))
        fresh.write(batch)
        fresh.sync()
        return fresh


class SlowSyncer:
    """Takes a while to sync what was written when it began."""

    def __init__(self, engine: CrashEngine, rng: random.Random, delay_s: float) -> None:
        self._engine, self._rng, self._delay_s = engine, rng, delay_s

    async def sync(self) -> None:
        count = len(self._engine.unsynced)
        await asyncio.sleep(self._rng.random() * self._delay_s)
        self._engine.make_durable(count)


class Network:
    """Which messages arrive, and when."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.drop = 0.0
        self.duplicate = 0.0
        self.delay_s = (0.0005, 0.002)
        self.cut: set[tuple[int, int]] = set()
        self.stores: dict[int, RaftStore] = {}
        self.filter: Any = None

    def isolate(self, store_id: int, others: Sequence[int]) -> None:
        for other in others:
            self.cut |= {(store_id, other), (other, store_id)}

    def heal(self) -> None:
        self.cut.clear()

    def delay(self) -> float:
        return self.rng.uniform(*self.delay_s)

    def carries(self, sender: int, receiver: int) -> bool:
        return (sender, receiver) not in self.cut and receiver in self.stores and self.rng.random() >= self.drop


class Router:
    """One store's transport."""

    def __init__(self, network: Network, store_id: int) -> None:
        self._network, self._store_id = network, store_id

    def send(self, message: RaftMessage) -> None:
        network, to = self._network, message.to_peer.store_id
        if network.filter is not None and not network.filter(message):
            return
        if not network.carries(self._store_id, to):
            if to not in network.stores and self._store_id in network.stores:
                network.stores[self._store_id].on_unreachable(to)
            return
        data = message.SerializeToString()
        for _ in range(2 if network.rng.random() < network.duplicate else 1):
            asyncio.get_running_loop().call_later(network.delay(), self._deliver, to, data)

    def _deliver(self, to: int, data: bytes) -> None:
        store = self._network.stores.get(to)
        if store is not None and (self._store_id, to) not in self._network.cut:
            store.on_raft_message(RaftMessage.FromString(data))

    def flush(self) -> None: ...

    async def send_snapshot(self, message: RaftMessage, pieces: Iterator[bytes]) -> None:
        network, to = self._network, message.to_peer.store_id
        await asyncio.sleep(network.delay())
        store = network.stores.get(to)
        if store is None or not network.carries(self._store_id, to):
            raise RpcError(Code.UNAVAILABLE, "cut")

        async def chunks() -> AsyncIterator[SnapshotChunk]:
            yield SnapshotChunk(message=message)
            for piece in pieces:
                await asyncio.sleep(network.delay() / 8)
                if network.stores.get(to) is not store or (self._store_id, to) in network.cut:
                    raise RpcError(Code.UNAVAILABLE, "cut on the way")
                yield SnapshotChunk(data=piece)

        await store.receive_snapshot(chunks())


class Pd:
    """A placement driver that remembers heartbeats and hands out ids; orders are put in by tests."""

    def __init__(self) -> None:
        self.next_id = 100
        self.regions: dict[int, tuple[Region, Peer]] = {}
        self.stores: dict[int, Store] = {}
        self.first: Region | None = None
        self.down: set[int] = set()
        self.heartbeats = 0

    def alloc(self) -> int:
        self.next_id += 1
        return self.next_id

    def note(self, region: Region, leader: Peer | None) -> None:
        for other, _ in list(self.regions.values()):
            if other.id != region.id and _overlap(other, region):
                if other.region_epoch.version >= region.region_epoch.version:
                    return
                del self.regions[other.id]
        known = self.regions.get(region.id)
        if known is not None:
            a, b = known[0].region_epoch, region.region_epoch
            if a.version > b.version or a.conf_ver > b.conf_ver:
                return
            leader = leader or known[1]
        self.regions[region.id] = (region, leader or region.peers[0])


def _overlap(a: Region, b: Region) -> bool:
    return (not b.end_key or a.start_key < b.end_key) and (not a.end_key or b.start_key < a.end_key)


class PdClient:
    """One store's connection to the placement driver."""

    def __init__(self, pd: Pd, store_id: int) -> None:
        self._pd, self._store_id = pd, store_id
        self.orders: asyncio.Queue[RegionHeartbeatResponse] = asyncio.Queue()

    def _check(self) -> None:
        if self._store_id in self._pd.down:
            raise RpcError(Code.UNAVAILABLE, "the placement driver is away")

    async def is_bootstrapped(self) -> bool:
        self._check()
        return self._pd.first is not None

    async def bootstrap(self, store: Store, region: Region) -> None:
        self._check()
        if self._pd.first is not None:
            raise RpcError(Code.FAILED_PRECONDITION, "the cluster is bootstrapped already")
        self._pd.first = region
        self._pd.note(region, region.peers[0])

    async def alloc_id(self) -> int:
        self._check()
        return self._pd.alloc()

    async def put_store(self, store: Store) -> None:
        self._pd.stores[store.id] = store

    async def get_store(self, store_id: int) -> Store:
        return self._pd.stores[store_id]

    async def store_heartbeat(self, stats: StoreStats) -> StoreHeartbeatResponse:
        self._check()
        return StoreHeartbeatResponse()

    def region_heartbeat(self, request: RegionHeartbeatRequest) -> None:
        self._pd.heartbeats += 1
        if self._store_id not in self._pd.down:
            self._pd.note(request.region, request.leader)

    async def next_order(self) -> RegionHeartbeatResponse:
        return await self.orders.get()

    async def ask_batch_split(self, region: Region, count: int) -> Sequence[SplitID]:
        self._check()
        await asyncio.sleep(0.001)
        return [
            SplitID(new_region_id=self._pd.alloc(), new_peer_ids=[self._pd.alloc() for _ in region.peers])
            for _ in range(count)
        ]

    async def report_batch_split(self, regions: Sequence[Region]) -> None:
        self._check()

    async def get_region_by_id(self, region_id: int) -> tuple[Region, Peer | None] | None:
        self._check()
        return self._pd.regions.get(region_id)

    async def get_region(self, key: bytes) -> tuple[Region, Peer | None] | None:
        self._check()
        for region, leader in self._pd.regions.values():
            if region.start_key <= key and (not region.end_key or key < region.end_key):
                return region, leader
        return None

    async def get_ts(self) -> int:
        return 1

    async def gc_safe_point(self) -> int:
        return 0


class Cluster:
    """Stores by id. `start` opens one on its disk, `crash` takes its power away."""

    def __init__(self, seed: int = 0, config: StoreConfig = TEST_CONFIG, sync_delay_s: float = 0.0005) -> None:
        self.rng = random.Random(seed)
        self.config = config
        self.network = Network(self.rng)
        self.pd = Pd()
        self.disks: dict[int, CrashEngine] = {}
        self.stores: dict[int, RaftStore] = self.network.stores
        self.clients: dict[int, PdClient] = {}
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._sync_delay_s = sync_delay_s

    def form(self, store_ids: Sequence[int], region: Region | None = None) -> Region:
        """Makes and starts stores that all have the first region."""
        region = region or first_region(2, 0, 0)
        if not region.peers or not region.peers[0].id:
            del region.peers[:]
            region.peers.extend(Peer(id=10 + store_id, store_id=store_id) for store_id in store_ids)
        for store_id in store_ids:
            self.disks[store_id] = CrashEngine()
            write_ident(self.disks[store_id], CLUSTER_ID, store_id)
            prepare_region(self.disks[store_id], region)
            self.start(store_id)
        self.pd.first = region
        return region

    def add_store(self, store_id: int) -> None:
        """Starts a store without regions."""
        self.disks[store_id] = CrashEngine()
        write_ident(self.disks[store_id], CLUSTER_ID, store_id)
        self.start(store_id)

    def start(self, store_id: int) -> RaftStore:
        disk = self.disks[store_id]
        client = self.clients[store_id] = PdClient(self.pd, store_id)
        loop = asyncio.get_running_loop()
        store = RaftStore(
            disk,
            store_id,
            client,
            Router(self.network, store_id),
            SlowSyncer(disk, self.rng, self._sync_delay_s),
            self.rng,
            loop.time,
            config=self.config,
        )
        store.load()
        PlacementWorker(store).start()
        self.stores[store_id] = store
        self._runs[store_id] = loop.create_task(store.run())
        return store

    def crash(self, store_id: int) -> None:
        """The store stops in the middle of whatever it does, and what was not synced may be lost."""
        store = self.stores.pop(store_id)
        self._runs.pop(store_id).cancel()
        store.stopped = True
        self.disks[store_id] = self.disks[store_id].crash(self.rng)

    def check(self) -> None:
        """Raises what a store has failed with."""
        for store_id, task in self._runs.items():
            if task.done() and not task.cancelled():
                error = task.exception()
                raise AssertionError(f"store {store_id} has ended") from error

    async def stop(self) -> None:
        for store in self.stores.values():
            store.stop()
        await asyncio.gather(*self._runs.values(), return_exceptions=True)

    # what a client does

    def leader_store(self, region_id: int) -> RaftStore | None:
        """The store that leads a region; of two, the one in the higher term."""
        found: RaftStore | None = None
        for store in self.stores.values():
            peer = store.peers.get(region_id)
            if peer is not None and peer.is_leader:
                if found is None or peer.raft.term > found.peers[region_id].raft.term:
                    found = store
        return found

    async def leader(self, region_id: int = 2, patience_s: float = 30.0) -> RaftStore:
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        while loop.time() < end:
            self.check()
            store = self.leader_store(region_id)
            if store is not None:
                peer = store.peers[region_id]
                if peer.storage.applied_term == peer.raft.term:
                    return store
            await asyncio.sleep(0.05)
        raise AssertionError(f"region {region_id} has no leader")

    def context(self, store: RaftStore, region_id: int) -> Context:
        peer = store.peers[region_id]
        return Context(region_id=region_id, region_epoch=peer.region.region_epoch, peer=peer.peer)

    def locate(self, key: bytes) -> tuple[RaftStore, int] | None:
        """The leader whose region holds a key; of several that say so, the one with the newest epoch."""
        best: tuple[tuple[int, int], RaftStore, int] | None = None
        for store in self.stores.values():
            for peer in store.peers.values():
                region = peer.region
                if peer.is_leader and region.start_key <= key and (not region.end_key or key < region.end_key):
                    rank = (region.region_epoch.version, peer.raft.term)
                    if best is None or rank > best[0]:
                        best = (rank, store, region.id)
        return None if best is None else (best[1], best[2])

    async def put(self, key: bytes, value: bytes, patience_s: float = 30.0) -> None:
        """Writes until it is acknowledged; an unknown outcome is tried again, as the write is idempotent."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        error: RegionError | None = None
        while loop.time() < end:
            self.check()
            found = self.locate(key)
            if found is not None:
                store, region_id = found
                try:
                    async with asyncio.timeout(5):
                        await store.write(self.context(store, region_id), [(CF_DEFAULT, b"z" + key, value)])
                    return
                except RegionError as refused:
                    error = refused
                except TimeoutError:
                    pass
            await asyncio.sleep(0.05)
        raise AssertionError(f"{key!r} was not written: {error}")

    async def get(self, key: bytes, patience_s: float = 30.0) -> bytes | None:
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        while loop.time() < end:
            self.check()
            found = self.locate(key)
            if found is not None:
                store, region_id = found
                try:
                    grant = await store.read(self.context(store, region_id), loop.time() + 5)
                    store.check_key(grant.region, key)
                    return store.engine.get(CF_DEFAULT, b"z" + key)
                except RegionError:
                    pass
            await asyncio.sleep(0.05)
        raise AssertionError(f"{key!r} was not read")

    async def until(self, condition: Any, patience_s: float = 30.0, what: str = "", *, check: bool = True) -> None:
        """Waits until the condition holds; unless told otherwise, while no store has failed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        while not condition():
            if check:
                self.check()
            if loop.time() > end:
                raise AssertionError(f"it did not come to pass: {what}")
            await asyncio.sleep(0.05)

    def order(self, region_id: int, order: RegionHeartbeatResponse) -> bool:
        """Gives the leader of a region an order, bound to its present epoch."""
        store = self.leader_store(region_id)
        if store is None:
            return False
        order.region_id = region_id
        order.region_epoch.CopyFrom(store.peers[region_id].region.region_epoch)
        self.clients[store.store_id].orders.put_nowait(order)
        return True

    def change_peer(self, region_id: int, kind: int, peer: Peer) -> bool:
        order = RegionHeartbeatResponse()
        order.change_peer.change_type = kind  # type: ignore[assignment]
        order.change_peer.peer.CopyFrom(peer)
        return self.order(region_id, order)

    def transfer(self, region_id: int, peer: Peer) -> bool:
        order = RegionHeartbeatResponse()
        order.transfer_leader.peer.CopyFrom(peer)
        return self.order(region_id, order)

    def merge(self, source: int, target: int) -> bool:
        order = RegionHeartbeatResponse()
        store = self.leader_store(source)
        if store is None or target not in store.peers:
            return False
        order.merge.target.CopyFrom(store.peers[target].region)
        return self.order(source, order)

    def data(self, store_id: int, start: bytes = b"", end: bytes = b"") -> dict[bytes, bytes]:
        scanner = self.stores[store_id].engine.scanner(CF_DEFAULT, b"z" + start, b"z" + end if end else b"{")
        flat = scanner.take(1 << 30)
        scanner.release()
        return dict(zip(flat[::2], flat[1::2], strict=True))


ADD, REMOVE, LEARNER = ConfChangeType.AddNode, ConfChangeType.RemoveNode, ConfChangeType.AddLearnerNode
__all__ = ["ADD", "LEARNER", "REMOVE", "TEST_CONFIG", "Cluster", "Engine", "RegionEpoch"]
