"""A store as a node of a cluster: the region store, the service over it, and what runs beside them.

    start   identify the directory → bootstrap the cluster, if nobody did → load the regions → serve
            → tell the placement driver the address → heartbeats, deadlock detector, garbage collection
    stop    refuse new calls → end the region store's loop → end the tasks

The engine, the transports and the placement driver's client are the caller's, who closes them afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from kvstore.engine.api import Engine
from kvstore.proto.metapb_pb2 import Store, StoreLabel
from kvstore.raft.config import Rng
from kvstore.raftstore.api import Placement
from kvstore.raftstore.bootstrap import bootstrap, identify
from kvstore.raftstore.config import StoreConfig
from kvstore.raftstore.placement_worker import PlacementWorker
from kvstore.raftstore.store import RaftStore, Syncer
from kvstore.raftstore.transport import StreamTransport, raft_handlers
from kvstore.rpc.api import Handlers, Server, Transport
from kvstore.server.api import CoprocessorHandler, ReplicaHandler
from kvstore.server.gc import GcWorker
from kvstore.server.import_sst import ImportService
from kvstore.server.limits import ServiceLimits
from kvstore.server.metrics import ServiceMetrics
from kvstore.server.service import Service

VERSION = "8.5.0"
"""What the store says of itself: the TiKV release whose protocol this is; clients look for features by it."""
IDLE_S = 10.0
"""Iterators that reads keep are dropped this often, so that they pin no old files."""


BOOTSTRAP_POLL_S = 1.0
"""How often a store that only follows looks whether there is a cluster by now."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Who the store is and what it may take."""

    address: str
    """host:port that others are told."""
    status_address: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    store: StoreConfig = field(default_factory=StoreConfig)
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    raw_ttl: bool = False
    """Raw values expire, and there are no transactions (API V1TTL). For the life of the directory."""
    gc_poll_s: float = 10.0
    version: str = VERSION


class StoreNode:
    """One store of a cluster. `start` once, `stop` once."""

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        transport: Transport,
        placement: Placement,
        serve: Callable[[Handlers], Server],
        *,
        cluster_id: int,
        syncer: Syncer,
        rng: Rng,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        free_bytes: Callable[[], int] | None = None,
        coprocessor: CoprocessorHandler | None = None,
        replica: ReplicaHandler | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """`clock` is monotonic, in seconds, and goes on while the machine is suspended; `wall_ms` is since 1970."""
        self.config = config
        self._engine = engine
        self._transport = transport
        self._placement = placement
        self._serve = serve
        self._cluster_id = cluster_id
        self._syncer = syncer
        self._rng = rng
        self._clock = clock
        self._wall_ms = wall_ms
        self._free_bytes = free_bytes
        self._coprocessor = coprocessor
        self._replica = replica
        self._registry = registry
        self._tasks: list[asyncio.Task[Any]] = []
        self._running: asyncio.Task[None] | None = None
        self._raft_transport: StreamTransport | None = None
        self._server: Server | None = None
        self.store: RaftStore | None = None
        self.service: Service | None = None

    async def start(self) -> None:
        """Raises NotOurDirectory for a directory of another cluster, Corruption, RpcError, OSError for the port."""
        store_id = await identify(self._engine, self._placement, self._cluster_id)
        meta = self._meta(store_id)
        if self._replica is None:
            await bootstrap(self._engine, self._placement, meta)
        else:
            await self._wait_for_cluster()
        store = self._make_store(store_id)
        store.load()
        self.store = store
        self.service = Service(
            store,
            now_ms=self._wall_ms,
            transport=self._transport,
            directory=self._placement,
            limits=self.config.limits,
            raw_ttl=self.config.raw_ttl,
            cluster_id=self._cluster_id,
            coprocessor=self._coprocessor,
            replica=self._replica,
        )
        if self._registry is not None:
            ServiceMetrics(self._registry, self.service)
        imports = ImportService(store, raw_ttl=self.config.raw_ttl)
        self._server = self._serve(joined(self.service.handlers(), raft_handlers(store), imports.handlers()))
        await self._server.start()
        self._running = asyncio.create_task(store.run())
        await self._placement.put_store(meta)
        PlacementWorker(store, meta.start_timestamp).start()
        self.service.start()
        self._spawn(GcWorker(store, self._placement, self.service.admin, self.config.gc_poll_s).run())
        self._spawn(self._drop_idle())

    async def _wait_for_cluster(self) -> None:
        """A store that only follows cannot hold a cluster's first region."""
        while not await self._placement.is_bootstrapped():
            await asyncio.sleep(BOOTSTRAP_POLL_S)

    def _meta(self, store_id: int) -> Store:
        config = self.config
        return Store(
            id=store_id,
            address=config.address,
            peer_address=config.address,
            status_address=config.status_address,
            labels=[StoreLabel(key=key, value=value) for key, value in sorted(config.labels.items())],
            version=config.version,
            start_timestamp=self._wall_ms() // 1000,
        )

    def _make_store(self, store_id: int) -> RaftStore:
        transport = StreamTransport(
            self._transport, self._placement, lambda unreachable: store.on_unreachable(unreachable)
        )
        self._raft_transport = transport
        store = RaftStore(
            self._engine,
            store_id,
            self._placement,
            transport,
            self._syncer,
            self._rng,
            self._clock,
            config=self.config.store,
            free_bytes=self._free_bytes,
        )
        return store

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _drop_idle(self) -> None:
        assert self.service is not None
        while True:
            await asyncio.sleep(IDLE_S)
            self.service.release_idle()

    async def failed(self) -> BaseException:
        """Returns when the store, or what runs beside it, cannot go on, and why; waits for ever while it can."""
        assert self._running is not None, "the node was not started"
        done, _ = await asyncio.wait([self._running, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        errors = [task.exception() for task in done if not task.cancelled()]
        return next((error for error in errors if error is not None), RuntimeError("the store's loop has ended"))

    async def stop(self, grace_s: float) -> None:
        """Ends everything that was begun, also when `start` failed half way."""
        if self._server is not None:
            await self._server.stop(grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.store is not None:
            self.store.stop()
        if self._running is not None:
            await asyncio.wait([self._running])
        if self.service is not None:
            await self.service.close()
        if self._raft_transport is not None:
            await self._raft_transport.close()


def joined(*parts: Handlers) -> Handlers:
    """All handlers of several services."""
    return Handlers(
        unary={path: entry for part in parts for path, entry in part.unary.items()},
        streams={path: entry for part in parts for path, entry in part.streams.items()},
    )
