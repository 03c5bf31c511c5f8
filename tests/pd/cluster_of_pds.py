"""Placement drivers over the in-memory network in virtual time, and a client that speaks to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any

from kvstore.engine.api import Engine
from kvstore.engine.memory import MemoryEngine
from kvstore.proto import pdpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch, Store, StoreLabel
from kvstore.rpc.api import Code, Method, RpcError
from kvstore.rpc.memory import MemoryNetwork
from pd.config import Member, PdConfig, ScheduleConfig
from pd.node import PdNode
from pd.server import PD_METHODS

TIMEOUT_S = 5.0
EPOCH_MS = 1_700_000_000_000


class Machine:
    """One placement driver with its disk and clock; it can be crashed and started again."""

    def __init__(self, network: MemoryNetwork, config: PdConfig, seed: int) -> None:
        self.network = network
        self.config = config
        self.engine: Engine = MemoryEngine()
        self.clock_skew_ms = 0
        self._seed = seed
        self._starts = 0
        self.node: PdNode | None = None

    def wall_ms(self) -> int:
        return EPOCH_MS + self.clock_skew_ms + int(asyncio.get_running_loop().time() * 1000)

    async def _sync(self) -> None:
        await asyncio.sleep(0.001)

    async def start(self) -> PdNode:
        self._starts += 1
        self.node = PdNode(
            self.config,
            self.engine,
            self.network.transport(self.config.me().address),
            self.network.server,
            wall_ms=self.wall_ms,
            sync=self._sync,
            rng=random.Random(f"{self._seed}/{self.config.name}/{self._starts}"),
        )
        await self.node.start()
        return self.node

    async def stop(self) -> None:
        assert self.node is not None
        await self.node.stop()
        self.node = None


class Client:
    """Calls to the leader, with the header filled in."""

    def __init__(self, network: MemoryNetwork, addresses: Iterable[str]) -> None:
        self.transport = network.transport("client")
        self.addresses = list(addresses)
        self.address = self.addresses[0]
        self.cluster_id = 0

    async def find_leader(self) -> None:
        """Asks the members for the leader until one answers that leads."""
        while True:
            for address in self.addresses:
                try:
                    channel = self.transport.channel(address)
                    reply = await channel.unary(PD_METHODS["GetMembers"], pb.GetMembersRequest(), TIMEOUT_S)
                    self.cluster_id = reply.header.cluster_id
                    self.address = reply.leader.client_urls[0].partition("://")[2]
                    await self.call("IsBootstrapped", pb.IsBootstrappedRequest())
                except RpcError as error:
                    if error.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                        raise
                else:
                    return
            await asyncio.sleep(0.05)

    async def call(self, method: Method | str, request: Any) -> Any:
        """A reply without an error in its header."""
        reply = await self.call_raw(method, request)
        assert not reply.header.HasField("error"), reply.header.error
        return reply

    async def call_raw(self, method: Method | str, request: Any) -> Any:
        method = PD_METHODS[method] if isinstance(method, str) else method
        if "header" in request.DESCRIPTOR.fields_by_name:
            request.header.cluster_id = self.cluster_id
        return await self.transport.channel(self.address).unary(method, request, TIMEOUT_S)

    def stream(self, method: str) -> Any:
        return self.transport.channel(self.address).stream(PD_METHODS[method])

    async def timestamp(self, count: int = 1) -> int:
        """The largest of `count` timestamps, from a stream of its own."""
        stream = self.stream("Tso")
        try:
            await stream.send(pb.TsoRequest(header=pb.RequestHeader(cluster_id=self.cluster_id), count=count))
            reply = await stream.receive()
            assert reply.count == count
            return int(reply.timestamp.physical << 18) + int(reply.timestamp.logical)
        finally:
            stream.cancel()

    async def bootstrap(self, stores: int = 1) -> None:
        """The first store and region (ids 1 and 2), and further stores up to the number; ids to 100 are taken."""
        await self.call("AllocID", pb.AllocIDRequest(count=100))
        await self.call("Bootstrap", pb.BootstrapRequest(store=store(1), region=region(2, peers=[(3, 1)])))
        for store_id in range(1, stores + 1):
            await self.call("PutStore", pb.PutStoreRequest(store=store(store_id)))


def store(store_id: int, **labels: str) -> Store:
    return Store(
        id=store_id,
        address=f"store{store_id}:20160",
        version="8.5.0",
        labels=[StoreLabel(key=key, value=value) for key, value in labels.items()],
    )


def region(
    region_id: int,
    start: bytes = b"",
    end: bytes = b"",
    *,
    peers: Iterable[tuple[int, int]],
    version: int = 1,
    conf_ver: int = 1,
) -> Region:
    """A region of voters, given as (peer id, store id)."""
    return Region(
        id=region_id,
        start_key=start,
        end_key=end,
        region_epoch=RegionEpoch(version=version, conf_ver=conf_ver),
        peers=[Peer(id=peer_id, store_id=store_id) for peer_id, store_id in peers],
    )


def heartbeat(meta: Region, *, cluster_id: int, size_mib: int = 10, term: int = 1) -> pb.RegionHeartbeatRequest:
    """The first peer's."""
    return pb.RegionHeartbeatRequest(
        header=pb.RequestHeader(cluster_id=cluster_id),
        region=meta,
        leader=meta.peers[0],
        term=term,
        approximate_size=size_mib << 20,
        approximate_keys=1000,
        interval=pb.TimeInterval(start_timestamp=0, end_timestamp=60),
    )


def machines(
    network: MemoryNetwork, count: int = 1, *, seed: int = 1, schedule: ScheduleConfig | None = None
) -> list[Machine]:
    members = tuple(Member(f"pd{i}", f"http://pd{i}:2379") for i in range(1, count + 1))
    return [
        Machine(
            network,
            PdConfig(member.name, member.client_url, members=members, schedule=schedule or ScheduleConfig()),
            seed,
        )
        for member in members
    ]
