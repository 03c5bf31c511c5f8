"""A deployment of whole nodes: placement drivers, stores, clients: the production coroutines over simulated machines.

Raw and transactional data do not share a cluster (region bounds suit one of the two), so a deployment is for either.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from coprocessor.duck import DuckEngine
from coprocessor.serving import LABELS, InlineWorkers, Serving, ServingLimits
from kvstore.client.cluster.errors import PdUnavailable
from kvstore.client.cluster.parts import Options
from kvstore.client.cluster.pd_client import PdClient
from kvstore.codec import encode_bytes
from kvstore.errors import KvError
from kvstore.proto.eraftpb_pb2 import ConfChangeType
from kvstore.proto.metapb_pb2 import Peer as PeerPb
from kvstore.proto.metapb_pb2 import PeerRole, Region
from kvstore.proto.pdpb_pb2 import ChangePeer, ChangePeerV2, RegionHeartbeatResponse, TransferLeader
from kvstore.raft.types import Role
from kvstore.raftstore import placement_worker
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.config import StoreConfig
from kvstore.raftstore.peer import Peer
from kvstore.raftstore.store import RaftStore
from kvstore.rpc.api import RpcError
from kvstore.server.node import NodeConfig, StoreNode
from pd.config import Member, PdConfig, ScheduleConfig
from pd.node import PdNode, member_id
from pd.server import ADMIN_METHODS
from tests.sim.cluster_client import Habits, RunningTransactions, SimClient
from tests.sim.invariants import Broken
from tests.sim.machine import Life, Machine
from tests.sim.observer import Observer, digest_of
from tests.sim.world import RESTART_S, World

GC_POLL_S = 1.0
"""How often a store asks for the safe point."""
GC_S = 6.0
"""How long a client may take to settle the old locks."""
ADMIN_S = 3.0
"""How long a region operation is waited for; it may come to its end later, or never."""
PROBE_PAUSE_S = 0.2
EQUAL_S = 60.0
"""At rest the replicas of each region must be equal within so long."""
FINISHED_S = 60.0
"""What was begun under faults must be over so long after a healed cluster serves again."""
REGIONS_MAX = 12
"""With so many, no region is split any more."""

STORE = StoreConfig(
    hibernate_ticks=60,
    log_gc_s=1.0,
    log_gc_entries=24,
    log_gc_entries_max=120,
    snapshot_piece_bytes=2048,
    snapshot_timeout_s=10.0,
    region_heartbeat_s=1.5,
    store_heartbeat_s=1.0,
    leader_missing_s=8.0,
    down_peer_s=8.0,
    split_check_s=5.0,
    merge_check_s=0.3,
)
SCHEDULE = ScheduleConfig(
    max_store_disconnected_s=5,
    max_store_down_time_s=20,
    split_merge_interval_s=4,
    schedule_interval_ms=1000,
    patrol_interval_ms=300,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a cluster consists of."""

    stores: int = 4
    pds: int = 3
    raw: bool = False
    options: Options = field(default_factory=Options)
    store: StoreConfig = STORE
    schedule: ScheduleConfig = SCHEDULE
    zones: int = 1
    """Stores are in zones a, b, … in turn."""
    clocks_wrong_ms: int = 0
    """Wall clocks are wrong by up to so much from the start, each in its own way."""
    clients: Habits = field(default_factory=Habits)
    """How clients behave."""
    computes: bool = False
    """Whether the stores have a coprocessor."""


class _Syncer:
    def __init__(self, life: Life) -> None:
        self.sync = life.sync.__call__


class StoreCluster:
    """See `run.Deployment`. `splits` are plain keys of the workloads, at which regions may be split."""

    def __init__(self, world: World, shape: Shape, splits: Sequence[bytes] = ()) -> None:
        self.world = world
        self.shape = shape
        self.links = world.links
        self.others: list[str] = []
        self._splits = sorted(splits if shape.raw else map(encode_bytes, splits))
        self._pd_machines = [world.machine(f"pd{n + 1}", self._pd_main(n)) for n in range(shape.pds)]
        self._kv_machines = [world.machine(f"kv{n + 1}", self._kv_main(n)) for n in range(shape.stores)]
        self.machines = [*self._pd_machines, *self._kv_machines]
        for machine in self.machines:
            machine.disk.sync_s = lambda rng=machine.rng: rng.expovariate(500)  # type: ignore[misc]
            machine.clock.offset_ms = machine.rng.randint(-shape.clocks_wrong_ms, shape.clocks_wrong_ms)
        self._running = RunningTransactions(world.invariants)
        self._probe = self._client("probe")
        self._clients: list[SimClient] = []
        """Kept to the end, as what only itself refers to may be collected while it still waits."""
        self.pds: dict[str, PdNode] = {}
        self.nodes: dict[str, StoreNode] = {}
        self._lives: dict[str, Life] = {}
        self._observer = Observer(world.invariants, (machine.name for machine in self._kv_machines))
        self._duck: DuckEngine | None = None

    # processes

    @property
    def store_machines(self) -> Sequence[Machine]:
        return self._kv_machines

    def store_ids(self) -> list[int]:
        """Of the stores that run."""
        return [store.store_id for _, store in self._stores()]

    @property
    def pd_addresses(self) -> list[str]:
        return [f"pd{n + 1}:2379" for n in range(self.shape.pds)]

    def _pd_main(self, number: int) -> Callable[[Life], Any]:
        async def main(life: Life) -> None:
            members = tuple(Member(f"pd{n + 1}", f"http://{address}") for n, address in enumerate(self.pd_addresses))
            config = PdConfig(
                name=life.name,
                client_url=f"http://{self.pd_addresses[number]}",
                members=members,
                schedule=self.shape.schedule,
            )
            node = PdNode(
                config, life.engine, life.transport(), life.server, wall_ms=life.clock, sync=life.sync, rng=life.rng
            )
            self.pds[life.name] = node
            try:
                await node.start()
            except KvError:
                self.world.stopped(life)
                return
            life.spawn(self._watch(life, node.failure()))

        return main

    def _kv_main(self, number: int) -> Callable[[Life], Any]:
        address = f"kv{number + 1}:20160"
        labels = {"zone": chr(ord("a") + number % self.shape.zones), "host": f"kv{number + 1}"}
        labels |= LABELS if self.shape.computes else {}

        async def main(life: Life) -> None:
            transport = life.transport()
            pd = await self._find_pd(life, transport)
            node = StoreNode(
                NodeConfig(address, labels=labels, store=self.shape.store, gc_poll_s=GC_POLL_S),
                life.engine,
                transport,
                pd,
                lambda handlers: life.server(address, handlers),
                cluster_id=pd.cluster_id,
                syncer=_Syncer(life),
                rng=life.rng,
                clock=self.world.loop.time,
                wall_ms=life.clock,
                free_bytes=lambda: 0 if life.machine.disk.full else 1 << 40,
                coprocessor=self._coprocessor(),
            )
            try:
                await node.start()
            except (KvError, RpcError):
                self.world.stopped(life)
                return
            self.nodes[life.name] = node
            self._lives[life.name] = life
            self._observer.forget(life.name)
            life.spawn(self._watch(life, node.failed()))

        return main

    def _coprocessor(self) -> Serving | None:
        """Evaluates on the loop; of the requests only those over many rows come to the cluster's one DuckDB."""
        return Serving(self._engine, InlineWorkers(), ServingLimits(columns_mib=4)) if self.shape.computes else None

    def _engine(self) -> DuckEngine:
        if self._duck is None:
            self._duck = DuckEngine(None)
        return self._duck

    def close(self) -> None:
        """Ends what is no process: nothing simulated uses it any more."""
        if self._duck is not None:
            self._duck.close()

    async def _find_pd(self, life: Life, transport: Any) -> PdClient:
        while True:
            try:
                return await PdClient.connect(transport, self.pd_addresses, rng=life.rng)
            except PdUnavailable:
                await asyncio.sleep(RESTART_S)

    async def _watch(self, life: Life, failure: Any) -> None:
        """A process whose disk fails ends itself; whatever else ends it is a failure of the run."""
        try:
            error = await failure
        except KvError as raised:
            error = raised
        if not isinstance(error, KvError):
            self.world.fail(error or RuntimeError("it ended"), f"{life.name} ended itself")
        self.world.stopped(life)

    def restart(self, machine: Machine) -> None:
        self.world.restart(machine)

    async def boot(self) -> None:
        await asyncio.gather(*(machine.start() for machine in self._pd_machines))
        await asyncio.gather(*(machine.start() for machine in self._kv_machines))
        while not any(len(peer.region.peers) >= 3 for _, peer in self._leaders()):
            await asyncio.sleep(PROBE_PAUSE_S)
        await self.settle()

    def clients(self, count: int) -> list[SimClient]:
        self.others = [f"c{number}" for number in range(count)]
        self._clients = [self._client(name) for name in self.others]
        return self._clients

    def _client(self, name: str) -> SimClient:
        shape = self.shape
        habits = shape.clients if name in self.others else Habits()
        return SimClient(
            self.world, name, self.pd_addresses, self._running, raw=shape.raw, options=shape.options, habits=habits
        )

    async def settle(self) -> None:
        """Until a key of every region can be read, all replicas of every region are equal, and all that was begun
        before is over: merges, joint configurations, peers that are none any more."""
        begun = set(self._unfinished())
        await self._answers()
        await self._compare_replicas()
        loop = asyncio.get_running_loop()
        until = loop.time() + FINISHED_S
        while begun := begun & set(self._unfinished()):
            if loop.time() > until:
                raise Broken(f"not over in {FINISHED_S} s: {sorted(begun)}")
            await asyncio.sleep(PROBE_PAUSE_S)

    def _unfinished(self) -> Iterator[str]:
        """What must not last, each said so that the same thing later says the same."""
        members = {(peer.region_id, member.id) for _, peer in self._leaders() for member in peer.region.peers}
        for name, store in self._stores():
            for region_id, peer in store.peers.items():
                epoch = peer.region.region_epoch
                what = f"{name}: region {region_id} at {epoch.version}.{epoch.conf_ver}"
                if peer.merge is not None:
                    yield f"{what}: merging"
                if any(member.role in (PeerRole.IncomingVoter, PeerRole.DemotingVoter) for member in peer.region.peers):
                    yield f"{what}: joint"
                if (region_id, peer.peer.id) not in members:
                    yield f"{name}: peer {peer.peer.id} of region {region_id} is none"
                if not peer.storage.initialized:
                    yield f"{name}: peer {peer.peer.id} of region {region_id} is empty"

    def _uncovered(self) -> bytes | None:
        """Where the regions that have a leader leave a hole; None: nowhere."""
        reach = b""
        for region in self._newest_regions():
            if region.start_key > reach:
                break
            if not region.end_key:
                return None
            reach = max(reach, region.end_key)
        return reach

    async def _answers(self) -> None:
        while True:
            while self._uncovered() is not None:
                await asyncio.sleep(PROBE_PAUSE_S)
            keys = [region.start_key for region in self._newest_regions()]
            try:
                for key in keys:
                    await self._probe.probe(key)
                return
            except (KvError, RpcError):
                await asyncio.sleep(PROBE_PAUSE_S)

    # what faults do to regions

    def _stores(self) -> Iterator[tuple[str, RaftStore]]:
        for machine in self._kv_machines:
            node = self.nodes.get(machine.name)
            if machine.running and node is not None and machine.life is self._lives[machine.name]:
                if node.store is not None:
                    yield machine.name, node.store

    def _leaders(self) -> list[tuple[RaftStore, Peer]]:
        return [
            (store, peer)
            for _, store in self._stores()
            for _, peer in sorted(store.peers.items())
            if peer.raft.role is Role.LEADER and peer.storage.initialized and not peer.destroyed
        ]

    def _newest_regions(self) -> list[Region]:
        newest: dict[int, Region] = {}
        for _, peer in self._leaders():
            known = newest.get(peer.region_id)
            if known is None or peer.region.region_epoch.version >= known.region_epoch.version:
                newest[peer.region_id] = peer.region
        return sorted(newest.values(), key=lambda region: region.start_key)

    async def ask_pd(self, name: str, request: Any) -> bool:
        """What an operator orders of the placement driver: whether it was done."""
        try:
            async with asyncio.timeout(ADMIN_S):
                await self._probe.ask_pd(ADMIN_METHODS[name], request)
        except (RpcError, KvError, TimeoutError):
            return False
        return True

    async def collect_garbage(self) -> bool:
        """Moves the safe point up to what no transaction needs any more, but for those that do not say so."""
        try:
            async with asyncio.timeout(GC_S):
                await self._probe.collect_garbage()
        except (RpcError, KvError, TimeoutError):
            return False
        return True

    async def _order(self, store: RaftStore, order: RegionHeartbeatResponse) -> bool:
        try:
            async with asyncio.timeout(ADMIN_S):
                await placement_worker.execute_order(store, order)
        except (RegionError, RpcError, KvError, TimeoutError):
            return False
        return True

    async def transfer_leader(self, rng: random.Random) -> str | None:
        if rng.random() < 0.15:
            return self._transfer_pd(rng)
        leaders = self._leaders()
        if not leaders:
            return None
        store, peer = rng.choice(leaders)
        target = rng.choice(list(peer.region.peers))
        order = RegionHeartbeatResponse(region_id=peer.region_id, transfer_leader=TransferLeader(peer=target))
        done = await self._order(store, order)
        return f"lead of region {peer.region_id} to store {target.store_id}" if done else None

    def _transfer_pd(self, rng: random.Random) -> str | None:
        leaders = [
            m.name for m in self._pd_machines if m.running and m.name in self.pds and self.pds[m.name].leadership
        ]
        if not leaders:
            return None
        replica = self.pds[leaders[0]].replica
        target = rng.choice(self._pd_machines).name
        replica.transfer_leader(member_id(target))
        return f"lead of placement drivers from {leaders[0]} to {target}"

    async def split(self, rng: random.Random) -> str | None:
        leaders = self._leaders()
        if not leaders or not self._splits or len({peer.region_id for _, peer in leaders}) >= REGIONS_MAX:
            return None
        key = rng.choice(self._splits)
        for store, peer in leaders:
            start, end = peer.region.start_key, peer.region.end_key
            if start < key and (not end or key < end):
                try:
                    async with asyncio.timeout(ADMIN_S):
                        await store.split_at(peer, [key])
                except (RegionError, RpcError, KvError, TimeoutError):
                    return None
                return f"split of region {peer.region_id} at {key!r}"
        return None

    async def merge(self, rng: random.Random) -> str | None:
        leaders = self._leaders()
        rng.shuffle(leaders)
        by_start = {peer.region.start_key: peer.region for _, peer in leaders}
        by_end = {peer.region.end_key: peer.region for _, peer in leaders}
        for store, peer in leaders:
            around = (by_start.get(peer.region.end_key or b"\xff"), by_end.get(peer.region.start_key or b"\xff"))
            for target in around:
                if target is None or target.id == peer.region_id or _homes(target) != _homes(peer.region):
                    continue
                order = RegionHeartbeatResponse(region_id=peer.region_id)
                order.merge.target.CopyFrom(target)
                if await self._order(store, order):
                    return f"merge of region {peer.region_id} into {target.id}"
        return None

    async def change_peers(self, rng: random.Random) -> str | None:
        leaders = self._leaders()
        if not leaders:
            return None
        store, peer = rng.choice(leaders)
        region = peer.region
        if any(member.role in (PeerRole.IncomingVoter, PeerRole.DemotingVoter) for member in region.peers):
            return None
        order = RegionHeartbeatResponse(region_id=region.id)
        free = sorted({s.store_id for _, s in self._stores()} - {member.store_id for member in region.peers})
        spare = [member for member in region.peers if member.store_id != store.store_id]
        changes: list[ChangePeer] = []
        if free and rng.random() < 0.7:
            try:
                async with asyncio.timeout(ADMIN_S):
                    new = PeerPb(id=await store.placement.alloc_id(), store_id=rng.choice(free))
            except (RpcError, KvError, TimeoutError):
                return None
            if rng.random() < 0.4:
                new.role = PeerRole.Learner
                changes.append(ChangePeer(peer=new, change_type=ConfChangeType.AddLearnerNode))
            else:
                changes.append(ChangePeer(peer=new, change_type=ConfChangeType.AddNode))
        if spare and (not changes or rng.random() < 0.5):
            changes.append(ChangePeer(peer=rng.choice(spare), change_type=ConfChangeType.RemoveNode))
        if not changes:
            return None
        order.change_peer_v2.CopyFrom(ChangePeerV2(changes=changes))
        if not await self._order(store, order):
            return None
        what = ", ".join(f"{ConfChangeType.Name(c.change_type)} store {c.peer.store_id}" for c in changes)
        return f"region {region.id}: {what}"

    # what must hold

    def observe(self) -> None:
        self._observer.look(self._stores())
        if all(machine.name in self.nodes for machine in self._kv_machines):
            self._observer.tiles(at_rest=False)

    def observe_at_rest(self) -> None:
        self.observe()

    async def _compare_replicas(self) -> None:
        """Waits until the replicas of every region hold the same bytes and no store has a region that is another's
        range by now; raises Broken if that never comes."""
        loop = asyncio.get_running_loop()
        until = loop.time() + EQUAL_S
        while (different := self._difference()) is not None:
            if loop.time() > until:
                raise Broken(different)
            await asyncio.sleep(PROBE_PAUSE_S)

    def _difference(self) -> str | None:
        stores = {store.store_id: store for _, store in self._stores()}
        for _, leader in self._leaders():
            region = leader.region
            digests = {}
            for member in region.peers:
                store = stores.get(member.store_id)
                peer = store.peers.get(region.id) if store is not None else None
                if store is None or peer is None or peer.raft.applied != leader.raft.applied:
                    return f"region {region.id}: store {member.store_id} has not applied {leader.raft.applied}"
                digests[member.store_id] = digest_of(store, region)
            if len(set(digests.values())) > 1:
                return f"region {region.id}: replicas differ: {digests}"
        try:
            self._observer.tiles(at_rest=True)
        except Broken as broken:
            return str(broken)
        return None


def _homes(region: Region) -> list[int]:
    return sorted(member.store_id for member in region.peers)
