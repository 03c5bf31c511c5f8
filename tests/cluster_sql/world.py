"""A whole cluster in this process, on one loop thread: a placement driver, stores with small regions, SQL servers.

The network is in memory and the clock is the machine's.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

from coprocessor.columnar.of_store import StoreReplica
from coprocessor.duck import DuckEngine
from coprocessor.serving import InlineWorkers, ReplicaServing, Serving, ServingLimits, Workers
from kvstore.client.cluster.loop_thread import LoopThread
from kvstore.client.cluster.storage import OPTIONS, ClusterStorage
from kvstore.raftstore.config import KIB, StoreConfig
from sqlfront.cluster import serve
from sqlfront.database import Database
from sqlfront.dbapi import Connection
from tests.cluster_client.real import RealCluster

SMALL_REGIONS = StoreConfig(
    region_heartbeat_s=0.3,
    store_heartbeat_s=0.5,
    split_check_s=0.2,
    log_gc_s=1.0,
    region_max_bytes=96 * KIB,
    region_split_bytes=64 * KIB,
    split_check_bytes=16 * KIB,
)


class World:
    """`stores` stores, one placement driver; `server()` starts SQL servers, `connect()` sessions.

    `columnar` stores more hold columnar replicas, which `replicas` has in the order of their starts.
    """

    def __init__(
        self,
        stores: int = 3,
        seed: int = 1,
        config: StoreConfig = SMALL_REGIONS,
        *,
        columnar: int = 0,
        make_workers: Callable[[], Workers] = InlineWorkers,
    ) -> None:
        self._make_workers = make_workers
        self.replicas: list[ReplicaServing] = []
        self.loop = LoopThread("cluster")
        self._seeds = itertools.count(seed)
        self._open: list[Any] = []

        async def start() -> RealCluster:
            epoch_ms = time.time_ns() // 1_000_000 - int(asyncio.get_running_loop().time() * 1000)
            serving = Serving(lambda: DuckEngine(None), InlineWorkers(), ServingLimits())
            cluster = RealCluster(
                stores,
                1,
                seed,
                serving,
                config=config,
                epoch_ms=epoch_ms,
                columnar=columnar,
                make_replica=self._replica,
            )
            await cluster.start()
            return cluster

        self.cluster = self.loop.run(start())
        self.first = self.server()

    def _replica(self) -> ReplicaServing:
        made = ReplicaServing(StoreReplica(DuckEngine(None), None), self._make_workers(), ServingLimits())
        self.replicas.append(made)
        return made

    def storage(self) -> ClusterStorage:
        async def connect() -> ClusterStorage:
            seed = next(self._seeds)
            transport = self.cluster.network.transport(f"sql{seed}")
            client = await self.cluster.client(OPTIONS, seed, transport)
            return ClusterStorage(_Borrowed(self.loop), client, transport.close)

        return self.loop.run(connect())

    def server(self) -> Database:
        database = serve(self.storage())
        self._open.append(database)
        return database

    def connect(self, server: Database | None = None, *, database: str = "test", autocommit: bool = True) -> Connection:
        server = server or self.first
        server._references += 1
        connection = Connection(server, server.session())
        connection._call(lambda: connection._session.use(database))
        connection.autocommit = autocommit
        return connection

    def close(self) -> None:
        for database in self._open:
            database._references = 1
            database.close()
        self.loop.close(self.cluster.stop())
        for replica in self.replicas:
            replica.close()


class _Borrowed(LoopThread):
    """A loop that others use too: closing it ends nothing but the client."""

    def __init__(self, loop: LoopThread) -> None:
        self.__dict__.update(loop.__dict__)

    def close(self, last: Any) -> None:
        self.run(last, to_its_end=True)
