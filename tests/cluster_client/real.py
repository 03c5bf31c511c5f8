"""A whole cluster of the real services over the in-memory network: a placement driver, stores, and our client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from coprocessor.serving import LABELS
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.parts import Options
from kvstore.client.cluster.pd_client import PdClient
from kvstore.client.cluster.stores import ENGINE_LABEL, ENGINES
from kvstore.engine.memory import MemoryEngine
from kvstore.raftstore.config import StoreConfig
from kvstore.raftstore.syncer import InlineSyncer
from kvstore.rpc.memory import MemoryNetwork, MemoryTransport
from kvstore.server.api import CoprocessorHandler, ReplicaHandler
from kvstore.server.node import NodeConfig, StoreNode
from tests.pd.cluster_of_pds import EPOCH_MS, Machine, machines
from tests.sim.loop import run_simulated

FAST = StoreConfig(region_heartbeat_s=1.0, store_heartbeat_s=1.0, split_check_s=1.0, log_gc_s=1.0)


FREE_BYTES = 1 << 40
AT_MOST_S = 1200.0
"""Virtual seconds after which a scenario is stuck: the cluster's own timers would go on for ever."""


class RealCluster:
    """`pds` placement drivers and `stores` stores."""

    def __init__(
        self,
        stores: int,
        pds: int,
        seed: int,
        coprocessor: CoprocessorHandler | None = None,
        *,
        config: StoreConfig = FAST,
        epoch_ms: int = EPOCH_MS,
        columnar: int = 0,
        make_replica: Callable[[], ReplicaHandler] | None = None,
    ) -> None:
        """Clocks show `epoch_ms` when the loop's time is 0. `columnar` stores more hold replicas of `make_replica`."""
        self.network = MemoryNetwork()
        """Without faults; a test sets `network.faults`."""
        self.seed = seed
        self.pds: list[Machine] = machines(self.network, pds, seed=seed)
        for machine in self.pds:
            machine.clock_skew_ms = epoch_ms - EPOCH_MS
        self.config = config
        self.epoch_ms = epoch_ms
        self.nodes: list[StoreNode] = []
        self._count = stores
        self._columnar = columnar
        self._make_replica = make_replica
        self.engines: dict[int, MemoryEngine] = {}
        """By the number of the store, from 1."""
        self._coprocessor = coprocessor
        self._labels = {} if coprocessor is None else LABELS
        self._clients: list[PdClient] = []

    @property
    def addresses(self) -> list[str]:
        return [machine.config.me().address for machine in self.pds]

    async def start(self) -> None:
        for machine in self.pds:
            await machine.start()
        for number in range(1, self._count + 1):
            await self._start_store(number)
        for number in range(self._count + 1, self._count + self._columnar + 1):
            await self.start_columnar(number)

    async def start_columnar(self, number: int) -> None:
        """Starts a columnar store, anew over the rows that it had."""
        assert self._make_replica is not None
        await self._start_store(number, self._make_replica())

    async def stop_store(self, number: int) -> None:
        """Stops a store; its rows stay."""
        node = next(node for node in self.nodes if node.config.address == f"store{number}:20160")
        self.nodes.remove(node)
        await node.stop(0)

    async def _start_store(self, number: int, replica: ReplicaHandler | None = None) -> None:
        address = f"store{number}:20160"
        transport = self.network.transport(address)
        rng = random.Random(f"{self.seed}/{number}")
        placement = await PdClient.connect(transport, self.addresses, rng=rng)
        engine = self.engines.setdefault(number, MemoryEngine())
        labels = self._labels if replica is None else {**self._labels, ENGINE_LABEL: ENGINES[0]}
        loop = asyncio.get_running_loop()
        node = StoreNode(
            NodeConfig(address, labels=labels, store=self.config),
            engine,
            transport,
            placement,
            lambda handlers: self.network.server(address, handlers),
            cluster_id=placement.cluster_id,
            syncer=InlineSyncer(engine),
            rng=rng,
            clock=loop.time,
            wall_ms=lambda: self.epoch_ms + int(loop.time() * 1000),
            coprocessor=self._coprocessor,
            replica=replica,
            # with replicas to be placed, no store may say that its disk is full
            free_bytes=(lambda: FREE_BYTES) if self._columnar else None,
        )
        await node.start()
        self.nodes.append(node)
        self._clients.append(placement)

    async def client(
        self, options: Options | None = None, seed: int = 0, transport: MemoryTransport | None = None
    ) -> Cluster:
        transport = transport or self.network.transport(f"client{seed}")
        return await Cluster.connect(self.addresses, transport=transport, rng=random.Random(seed), options=options)

    async def stop(self) -> None:
        for node in self.nodes:
            await node.stop(0)
        for client in self._clients:
            await client.close()
        for machine in self.pds:
            await machine.stop()


def with_real_cluster(
    scenario: Callable[[RealCluster, Cluster], Awaitable[None]],
    *,
    stores: int = 3,
    pds: int = 1,
    seed: int = 1,
    options: Options | None = None,
    coprocessor: CoprocessorHandler | None = None,
) -> None:
    async def main() -> None:
        cluster = RealCluster(stores, pds, seed, coprocessor)
        await cluster.start()
        client = await cluster.client(options)
        try:
            await scenario(cluster, client)
        finally:
            await client.close()
            await cluster.stop()

    run_simulated(asyncio.wait_for(main(), AT_MOST_S))
