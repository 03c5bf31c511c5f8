"""`sqlfront pd`: a placement driver as a process."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvstore.engine.rocks import RocksEngine
from kvstore.errors import StoreError
from kvstore.ops import process
from kvstore.ops.config import setting
from kvstore.ops.metrics import GrpcMetrics
from kvstore.ops.net import Address, AddressError, parse_address
from kvstore.ops.process import Usage
from kvstore.ops.status import PeerStatus, RegionStatus, StatusServer
from kvstore.proto.metapb_pb2 import PeerRole
from kvstore.raftstore.syncer import ThreadSyncer
from kvstore.rpc.api import Handlers
from kvstore.rpc.grpc import GrpcServer, GrpcTransport
from pd.config import Member, PdConfig, ScheduleConfig, parse_members
from pd.node import PdNode, member_id
from pd.regions import RegionInfo
from shell.nodes import common
from shell.nodes.pd_metrics import ClusterMetrics

KIND = "pd"
CACHE_BYTES = 16 << 20
"""The state of a cluster is small."""


@dataclass(frozen=True)
class PdSettings:
    """The configuration of a placement driver's process."""

    name: str = setting("pd1", "this member's name in the initial cluster")
    data_dir: str = setting("", "the directory of its state; made if missing")
    client_addr: str = setting("127.0.0.1:2379", "where it answers clients, stores and other members (gRPC)")
    advertise_client_addr: str = setting("", "the address others are told; empty: client-addr")
    initial_cluster: str = setting("", "all members: `pd1=http://host:port,...`; empty: this one alone")
    status_addr: str = setting("127.0.0.1:2479", "the status port (HTTP); empty: none")
    stop_grace_ms: int = setting(1_000, "how long calls under way may take when it stops", 0, 600_000)
    tick_ms: int = setting(100, "Raft's tick", 10, 10_000)
    election_ticks: int = setting(10, "ticks without a leader until an election", 3, 1000)
    heartbeat_ticks: int = setting(2, "ticks between the leader's heartbeats", 1, 100)
    log: common.LogSettings = field(default_factory=common.LogSettings)
    security: common.SecuritySettings = field(default_factory=common.SecuritySettings)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


def run(file: Path | None, given: Mapping[str, object]) -> int:
    """Runs a placement driver until it is told to stop; returns the exit code."""
    try:
        settings = common.settings_of(PdSettings, file, given)
    except Usage as error:
        process.say_fatal(KIND, str(error))
        return process.EXIT_USAGE
    return process.run(KIND, lambda: RunningPd.start(settings), settings.stop_grace_ms / 1000)


def node_config(settings: PdSettings) -> PdConfig:
    """The node's configuration of the process' settings; raises Usage."""
    scheme = "https" if settings.security.cert_path else "http"
    url = f"{scheme}://{settings.client_addr}"
    advertised = f"{scheme}://{settings.advertise_client_addr}" if settings.advertise_client_addr else ""
    try:
        members: Sequence[Member] = parse_members(settings.initial_cluster) if settings.initial_cluster else ()
        config = PdConfig(
            settings.name,
            url,
            advertised,
            tuple(members),
            settings.tick_ms,
            settings.election_ticks,
            settings.heartbeat_ticks,
            settings.schedule,
        )
        me = parse_address(config.me().client_url, "--initial-cluster")
        told = parse_address(advertised or url, "--client-addr")
    except (ValueError, AddressError) as error:
        raise Usage(str(error)) from error
    if me != told:
        raise Usage(f"the initial cluster has {settings.name} at {me}, but it is told to be at {told}")
    if told.is_unspecified or told.port == 0:
        raise Usage(f"others cannot reach {told}; give --advertise-client-addr")
    return config


@dataclass
class RunningPd:
    """A placement driver that serves."""

    node: PdNode
    engine: RocksEngine
    transport: GrpcTransport
    process: common.Process
    syncer: ThreadSyncer
    status: StatusServer | None
    ready: Mapping[str, object]

    @classmethod
    async def start(cls, settings: PdSettings) -> RunningPd:
        """Raises Usage, StoreError for the directory, OSError for a port."""
        if not settings.data_dir:
            raise Usage("where is its state? give --data DIR")
        config = node_config(settings)
        prepared = common.prepare("pd", settings.log, settings.security)
        address = common.address_of(settings.client_addr, "--client-addr", prepared.tls)
        status_address = None
        if settings.status_addr:
            status_address = common.address_of(settings.status_addr, "--status-addr", prepared.tls)
        engine = RocksEngine(settings.data_dir, cache_bytes=CACHE_BYTES)
        syncer = ThreadSyncer(engine)
        transport = GrpcTransport(tls=prepared.grpc_tls)

        metrics = GrpcMetrics(prepared.registry, "pd")

        def server(at: str, handlers: Handlers) -> GrpcServer:
            return GrpcServer(str(address), metrics.measured(handlers), prepared.grpc_tls)

        node = PdNode(config, engine, transport, server, wall_ms=common.wall_ms, sync=syncer.sync, rng=random.Random())
        running = cls(node, engine, transport, prepared, syncer, None, {})
        try:
            await node.start()
            ClusterMetrics(prepared.registry, node)
            running.status = await common.open_status(prepared, status_address, PdStatus(node), engine, settings)
        except BaseException:
            await running.stop(0)
            raise
        running.ready = running._ready(address)
        return running

    def _ready(self, address: Address) -> Mapping[str, object]:
        status = str(self.status.address) if self.status is not None else "none"
        return {"name": self.node.config.name, "addr": str(address), "status": status}

    async def failed(self) -> BaseException:
        try:
            await self.node.failure()
        except Exception as error:  # noqa: BLE001 whatever it is, the process must end
            return error
        raise AssertionError("waits for ever or raises")

    async def stop(self, grace_s: float) -> None:
        await common.close_status(self.process, self.status)
        await self.node.stop()
        await self.transport.close()
        self.syncer.close()
        try:
            self.engine.close()
        except StoreError as error:
            process.say_fatal(KIND, str(error))


class PdStatus:
    """What the status port tells of a placement driver: all regions while it leads, none otherwise."""

    def __init__(self, node: PdNode) -> None:
        self._node = node

    def identity(self) -> Mapping[str, object]:
        name = self._node.config.name
        return {
            "name": name,
            "member_id": member_id(name),
            "cluster_id": self._node.cluster_id(),
            "leads": self._node.leadership is not None,
            "leader_id": self._node.replica.leader_id,
            "term": self._node.replica.term,
        }

    def is_healthy(self) -> bool:
        return self._node.replica.leader_id != 0

    def regions(self) -> Sequence[RegionStatus]:
        lead = self._node.leadership
        return [] if lead is None else [region_status(one) for one in lead.cluster.regions]

    def region(self, region_id: int) -> RegionStatus | None:
        lead = self._node.leadership
        found = None if lead is None else lead.cluster.regions.by_id(region_id)
        return None if found is None else region_status(found)


def region_status(found: RegionInfo) -> RegionStatus:
    """A region as the placement driver knows it."""
    return RegionStatus(
        id=found.id,
        start_key=found.start_key.hex().upper(),
        end_key=found.end_key.hex().upper(),
        version=found.version,
        conf_ver=found.conf_ver,
        peers=[PeerStatus(peer.id, peer.store_id, PeerRole.Name(peer.role).lower()) for peer in found.peers],
        leader_id=found.leader.id if found.leader is not None else 0,
        term=found.term,
        approximate_bytes=found.size_mib << 20,
        approximate_keys=found.keys,
        state="normal" if found.is_healthy() else "down or pending peers" if found.leader is not None else "no leader",
    )
