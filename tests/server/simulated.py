"""A whole cluster in virtual time: a placement driver, stores and a client over the in-memory network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.pd_client import PdClient
from kvstore.engine.memory import MemoryEngine
from kvstore.proto.metapb_pb2 import PeerRole
from kvstore.raftstore.syncer import InlineSyncer
from kvstore.rpc.api import Handlers, Server
from kvstore.rpc.memory import MemoryNetwork
from kvstore.server.node import NodeConfig, StoreNode
from pd.config import PdConfig
from pd.node import PdNode
from tests.sim.loop import run_simulated

PD_ADDRESS = "pd:2379"
EPOCH_MS = 1_700_000_000_000


def wall_ms() -> int:
    return EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)


@dataclass
class Store:
    node: StoreNode
    engine: MemoryEngine
    placement: PdClient


class Simulated:
    """The machines, by name, and a client of them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.network = MemoryNetwork()
        self.stores: list[Store] = []
        self.pd: PdNode
        self.client: Cluster

    def _rng(self) -> random.Random:
        return random.Random(self.rng.getrandbits(64))

    async def start(self, stores: int) -> None:
        await self._start_pd()
        for number in range(1, stores + 1):
            await self.add_store(number)
        self.client = await Cluster.connect([PD_ADDRESS], transport=self.network.transport("client"), rng=self._rng())
        await self._until_replicated(stores)

    async def _start_pd(self) -> None:
        def server(at: str, handlers: Handlers) -> Server:
            return self.network.server(PD_ADDRESS, handlers)

        engine = MemoryEngine()

        async def sync() -> None:
            engine.sync()

        config = PdConfig("pd1", f"http://{PD_ADDRESS}")
        transport = self.network.transport(PD_ADDRESS)
        self.pd = PdNode(config, engine, transport, server, wall_ms=wall_ms, sync=sync, rng=self._rng())
        await self.pd.start()

    async def add_store(self, number: int) -> None:
        address = f"store-{number}:20160"
        engine, transport = MemoryEngine(), self.network.transport(address)
        placement = await PdClient.connect(transport, [PD_ADDRESS], rng=self._rng())
        node = StoreNode(
            NodeConfig(address),
            engine,
            transport,
            placement,
            lambda handlers: self.network.server(address, handlers),
            cluster_id=placement.cluster_id,
            syncer=InlineSyncer(engine),
            rng=self._rng(),
            clock=asyncio.get_running_loop().time,
            wall_ms=wall_ms,
        )
        await node.start()
        self.stores.append(Store(node, engine, placement))

    async def _until_replicated(self, stores: int) -> None:
        """Waits until the first region has as many voters as it can have."""
        while True:
            found = await self.client.pd.get_region(b"")
            voters = [] if found is None else [peer for peer in found[0].peers if peer.role == PeerRole.Voter]
            if len(voters) == min(stores, 3):
                return
            await asyncio.sleep(1)

    async def stop(self) -> None:
        await self.client.close()
        for store in self.stores:
            await store.node.stop(0)
            await store.placement.close()
        await self.pd.stop()


def simulated(test: Callable[[Simulated], Awaitable[None]], *, stores: int = 3, seed: int = 1) -> None:
    """Runs a test against a cluster whose first region is on all stores."""

    async def whole() -> None:
        cluster = Simulated(seed)
        await cluster.start(stores)
        await test(cluster)
        await cluster.stop()

    run_simulated(whole())
