"""`sqlfront kv`: a store as a process."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coprocessor.duck import DuckEngine
from coprocessor.serving import LABELS, Serving, ServingLimits, ThreadWorkers
from kvstore.client.cluster.errors import PdUnavailable
from kvstore.client.cluster.pd_client import PdClient
from kvstore.engine.rocks import RocksEngine
from kvstore.errors import StoreError
from kvstore.ops import process
from kvstore.ops.config import setting
from kvstore.ops.log import get_logger
from kvstore.ops.metrics import GrpcMetrics
from kvstore.ops.net import Address, AddressError, parse_address
from kvstore.ops.process import Usage
from kvstore.ops.status import PeerStatus, RegionStatus, StatusServer
from kvstore.proto.metapb_pb2 import PeerRole
from kvstore.raftstore.config import StoreConfig
from kvstore.raftstore.metrics import StoreCollector
from kvstore.raftstore.peer import Peer
from kvstore.raftstore.syncer import ThreadSyncer
from kvstore.rpc.api import Handlers
from kvstore.rpc.grpc import GrpcServer, GrpcTransport
from kvstore.server.limits import ServiceLimits
from kvstore.server.node import NodeConfig, StoreNode
from shell.nodes import common
from shell.nodes.kv_metrics import CoprocessorMetrics, StoreMetrics

KIND = "kv"
MIB = 1 << 20


@dataclass(frozen=True)
class KvSettings:
    """The configuration of a store's process."""

    data_dir: str = setting("", "the directory of its data; made if missing")
    addr: str = setting("127.0.0.1:20160", "where it answers clients and other stores (gRPC)")
    advertise_addr: str = setting("", "the address others are told; empty: addr")
    pd_endpoints: tuple[str, ...] = setting((), "addresses of placement drivers; those of some are enough")
    labels: Mapping[str, str] = setting({}, "where the machine stands, for placement: zone, rack, host")
    status_addr: str = setting("127.0.0.1:20180", "the status port (HTTP); empty: none")
    advertise_status_addr: str = setting("", "the status port others are told; empty: status-addr")
    stop_grace_ms: int = setting(1_000, "how long calls under way may take when it stops", 0, 600_000)
    cache_mib: int = setting(256, "memory for blocks of data that were read", 8, 1 << 20)
    raw_ttl: bool = setting(False, "raw values can expire, and there are no transactions; for a directory's whole life")
    gc_poll_ms: int = setting(10_000, "how often the safe point of garbage collection is asked for", 100, 3_600_000)
    log: common.LogSettings = field(default_factory=common.LogSettings)
    security: common.SecuritySettings = field(default_factory=common.SecuritySettings)
    raftstore: StoreConfig = field(default_factory=StoreConfig)
    service: ServiceLimits = field(default_factory=ServiceLimits)
    coprocessor: ServingLimits = field(default_factory=ServingLimits)


def run(file: Path | None, given: Mapping[str, object]) -> int:
    """Runs a store until it is told to stop; returns the exit code."""
    try:
        settings = common.settings_of(KvSettings, file, given)
    except Usage as error:
        process.say_fatal(KIND, str(error))
        return process.EXIT_USAGE
    return process.run(KIND, lambda: RunningKv.start(settings), settings.stop_grace_ms / 1000)


@dataclass(frozen=True, slots=True)
class Places:
    """The addresses of a store, checked."""

    listen: Address
    told: Address
    status: Address | None
    status_told: str
    pd: Sequence[str]


def places(settings: KvSettings, prepared: common.Process) -> Places:
    """The addresses of the settings; raises Usage."""
    listen = common.address_of(settings.addr, "--addr", prepared.tls)
    status = common.address_of(settings.status_addr, "--status-addr", prepared.tls) if settings.status_addr else None
    if not settings.pd_endpoints:
        raise Usage("where are the placement drivers? give --pd HOST:PORT")
    try:
        told = parse_address(settings.advertise_addr, "--advertise-addr") if settings.advertise_addr else listen
        pd = [str(parse_address(endpoint, "--pd")) for endpoint in settings.pd_endpoints]
    except AddressError as error:
        raise Usage(str(error)) from error
    if told.is_unspecified or told.port == 0:
        raise Usage(f"others cannot reach {told}; give --advertise-addr")
    return Places(listen, told, status, settings.advertise_status_addr or (str(status) if status else ""), pd)


@dataclass
class RunningKv:
    """A store that serves, and what it is made of."""

    node: StoreNode
    engine: RocksEngine
    transport: GrpcTransport
    pd: PdClient
    syncer: ThreadSyncer
    process: common.Process
    coprocessor: Serving
    status: StatusServer | None
    ready: Mapping[str, object]

    @classmethod
    async def start(cls, settings: KvSettings) -> RunningKv:
        """Raises Usage, StoreError for the directory, OSError for a port, KvError and RpcError of placement drivers."""
        if not settings.data_dir:
            raise Usage("where is its data? give --data DIR")
        prepared = common.prepare("tikv", settings.log, settings.security)
        at = places(settings, prepared)
        engine = RocksEngine(settings.data_dir, cache_bytes=settings.cache_mib * MIB)
        transport = GrpcTransport(tls=prepared.grpc_tls)
        rng = random.Random()
        try:
            pd = await find_placement_driver(transport, at.pd, rng)
        except BaseException:
            await transport.close()
            engine.close()
            raise
        syncer = ThreadSyncer(engine)
        coprocessor = make_coprocessor(settings)
        node = make_node(settings, at, engine, transport, pd, syncer, coprocessor, prepared, rng)
        running = cls(node, engine, transport, pd, syncer, prepared, coprocessor, None, {})
        try:
            await node.start()
            if node.store is not None:
                StoreCollector(node.store).register(prepared.registry)
                StoreMetrics(prepared.registry, node.store, lambda: free_bytes(settings.data_dir))
                CoprocessorMetrics(prepared.registry, coprocessor)
            running.status = await common.open_status(prepared, at.status, KvStatus(running), engine, settings)
        except BaseException:
            await running.stop(0)
            raise
        running.ready = {
            "addr": str(at.listen),
            "status": str(running.status.address) if running.status is not None else "none",
            "store_id": node.store.store_id if node.store is not None else 0,
            "cluster_id": pd.cluster_id,
        }
        return running

    async def failed(self) -> BaseException:
        return await self.node.failed()

    async def stop(self, grace_s: float) -> None:
        await common.close_status(self.process, self.status)
        await self.node.stop(grace_s)
        await self.pd.close()
        await self.transport.close()
        self.syncer.close()
        self.coprocessor.close()
        try:
            self.engine.close()
        except StoreError as error:
            process.say_fatal(KIND, str(error))


async def find_placement_driver(transport: GrpcTransport, endpoints: Sequence[str], rng: random.Random) -> PdClient:
    """Waits until a placement driver answers, which may be started later. Raises ClusterMismatch, RpcError."""
    log = get_logger(__name__)
    while True:
        try:
            return await PdClient.connect(transport, endpoints, rng=rng)
        except PdUnavailable as error:
            log.warning("no placement driver answers; trying again", endpoints=",".join(endpoints), error=str(error))


def make_coprocessor(settings: KvSettings) -> Serving:
    """What evaluates push-down requests; what its queries do not keep in memory goes beside the data."""
    limits = settings.coprocessor
    spill = os.path.join(settings.data_dir, "spill")
    return Serving(lambda: DuckEngine(spill), ThreadWorkers(limits.threads), limits)


def make_node(
    settings: KvSettings,
    at: Places,
    engine: RocksEngine,
    transport: GrpcTransport,
    pd: PdClient,
    syncer: ThreadSyncer,
    coprocessor: Serving,
    prepared: common.Process,
    rng: random.Random,
) -> StoreNode:
    """The node of the settings, over real surroundings."""

    metrics = GrpcMetrics(prepared.registry, "tikv")

    def serve(handlers: Handlers) -> GrpcServer:
        return GrpcServer(str(at.listen), metrics.measured(handlers), prepared.grpc_tls)

    config = NodeConfig(
        address=str(at.told),
        status_address=at.status_told,
        labels={**settings.labels, **LABELS},
        store=settings.raftstore,
        limits=settings.service,
        raw_ttl=settings.raw_ttl,
        gc_poll_s=settings.gc_poll_ms / 1000,
    )
    return StoreNode(
        config,
        engine,
        transport,
        pd,
        serve,
        cluster_id=pd.cluster_id,
        syncer=syncer,
        rng=rng,
        clock=suspend_aware_clock,
        wall_ms=common.wall_ms,
        free_bytes=lambda: free_bytes(settings.data_dir),
        coprocessor=coprocessor,
        registry=prepared.registry,
    )


def suspend_aware_clock() -> float:
    """Seconds of a clock that goes on while the machine is suspended: leases are measured by it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def free_bytes(path: str) -> int:
    """What is left on the disk for us."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class KvStatus:
    """What the status port tells of a store: its peers."""

    def __init__(self, running: RunningKv) -> None:
        self._running = running

    def identity(self) -> Mapping[str, object]:
        node = self._running.node
        return {
            "store_id": node.store.store_id if node.store is not None else 0,
            "cluster_id": self._running.pd.cluster_id,
            "address": node.config.address,
            "labels": dict(node.config.labels),
            "pd_leader": self._running.pd.leader,
        }

    def is_healthy(self) -> bool:
        store = self._running.node.store
        return store is not None and not store.stopped

    def regions(self) -> Sequence[RegionStatus]:
        store = self._running.node.store
        if store is None:
            return []
        found = (store.peers.get(region.id) for region in store.regions())
        return [region_status(peer) for peer in found if peer is not None]

    def region(self, region_id: int) -> RegionStatus | None:
        store = self._running.node.store
        found = None if store is None else store.peers.get(region_id)
        return None if found is None else region_status(found)


def region_status(peer: Peer) -> RegionStatus:
    """A region as its peer here sees it."""
    region, leader = peer.region, peer.leader()
    return RegionStatus(
        id=region.id,
        start_key=region.start_key.hex().upper(),
        end_key=region.end_key.hex().upper(),
        version=region.region_epoch.version,
        conf_ver=region.region_epoch.conf_ver,
        peers=[PeerStatus(one.id, one.store_id, PeerRole.Name(one.role).lower()) for one in region.peers],
        leader_id=leader.id if leader is not None else 0,
        term=peer.raft.term,
        applied_index=peer.raft.applied,
        committed_index=peer.raft.commit,
        approximate_bytes=peer.flow.size,
        approximate_keys=peer.flow.keys,
        state="asleep" if peer.asleep else "normal",
    )
