"""A store's service behind the in-memory transport, and short names for its calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kvstore.engine.memory import MemoryEngine
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer, Region, Store
from kvstore.raftstore.single import SingleRegionStore
from kvstore.raftstore.syncer import InlineSyncer
from kvstore.rpc.memory import MemoryNetwork, MemoryServer
from kvstore.server.limits import ServiceLimits
from kvstore.server.service import METHODS, Service
from tests.server.region_store import TestStore
from tests.sim.loop import run_simulated

TIMEOUT_S = 600.0
NOW_MS = 1_700_000_000_000


class FakeDirectory:
    """Knows stores by id and the leader of the first region; hands out timestamps that grow."""

    def __init__(self) -> None:
        self.ts = 0
        self.first_leader: Peer | None = None
        self.available = asyncio.Event()
        self.available.set()

    async def get_region(self, key: bytes) -> tuple[Region, Peer | None] | None:
        return Region(id=1), self.first_leader

    async def get_store(self, store_id: int) -> Store:
        return Store(id=store_id, address=f"store-{store_id}")

    async def get_ts(self) -> int:
        await self.available.wait()
        self.ts += 1
        return self.ts


@dataclass
class Node:
    """One store that serves, and a client next to it."""

    network: MemoryNetwork
    store: TestStore
    service: Service
    server: MemoryServer
    directory: FakeDirectory
    now_ms: int = NOW_MS

    @property
    def address(self) -> str:
        return self.server.address

    async def call(self, name: str, request: Any, *, region: int | None = 1) -> Any:
        """Calls with the present context of a region put in, unless the request has one."""
        if region is not None and "context" in request.DESCRIPTOR.fields_by_name:
            context = self.store.context(region)
            context.MergeFrom(request.context)
            request.context.CopyFrom(context)
        return await self.network.transport("client").channel(self.address).unary(METHODS[name], request, TIMEOUT_S)

    def start(self, name: str, request: Any, *, region: int | None = 1) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.call(name, request, region=region))

    # -- transactions, for short

    async def prewrite(self, start_ts: int, pairs: dict[bytes, bytes], **options: Any) -> pb.PrewriteResponse:
        mutations = [pb.Mutation(op=pb.Op.Put, key=key, value=value) for key, value in pairs.items()]
        fields = {"primary_lock": next(iter(pairs)), "lock_ttl": 3000, **options}
        request = pb.PrewriteRequest(mutations=mutations, start_version=start_ts, **fields)
        response: pb.PrewriteResponse = await self.call("KvPrewrite", request)
        return response

    async def commit(self, start_ts: int, commit_ts: int, *keys: bytes) -> pb.CommitResponse:
        request = pb.CommitRequest(start_version=start_ts, commit_version=commit_ts, keys=keys)
        response: pb.CommitResponse = await self.call("KvCommit", request)
        return response

    async def put(self, start_ts: int, commit_ts: int, **pairs: str) -> None:
        """Commits a transaction."""
        encoded = {key.encode(): value.encode() for key, value in pairs.items()}
        assert not (await self.prewrite(start_ts, encoded)).errors
        assert not (await self.commit(start_ts, commit_ts, *encoded)).HasField("error")

    async def get(self, key: bytes, ts: int, **context: Any) -> pb.GetResponse:
        request = pb.GetRequest(key=key, version=ts, context=pb.Context(**context))
        response: pb.GetResponse = await self.call("KvGet", request)
        return response

    def lock_request(self, start_ts: int, *keys: bytes, **options: Any) -> pb.PessimisticLockRequest:
        fields: dict[str, Any] = {
            "primary_lock": keys[0],
            "for_update_ts": start_ts,
            "lock_ttl": 3000,
            "wait_timeout": -1,
            **options,
        }
        mutations = [pb.Mutation(op=pb.Op.PessimisticLock, key=key) for key in keys]
        return pb.PessimisticLockRequest(mutations=mutations, start_version=start_ts, **fields)

    async def lock(self, start_ts: int, *keys: bytes, **options: Any) -> pb.PessimisticLockResponse:
        request = self.lock_request(start_ts, *keys, **options)
        response: pb.PessimisticLockResponse = await self.call("KvPessimisticLock", request)
        return response

    def locking(self, start_ts: int, *keys: bytes, **options: Any) -> asyncio.Task[Any]:
        """A lock request that may wait, by itself for a minute."""
        return self.start(
            "KvPessimisticLock", self.lock_request(start_ts, *keys, **{"wait_timeout": 60_000, **options})
        )

    async def unlock(self, start_ts: int, *keys: bytes) -> None:
        request = pb.PessimisticRollbackRequest(start_version=start_ts, for_update_ts=start_ts + 1000, keys=keys)
        assert not (await self.call("KVPessimisticRollback", request)).errors


async def make_node(
    *,
    store_id: int = 1,
    network: MemoryNetwork | None = None,
    directory: FakeDirectory | None = None,
    store: TestStore | None = None,
    limits: ServiceLimits | None = None,
    **options: Any,
) -> Node:
    network = network or MemoryNetwork()
    directory = directory or FakeDirectory()
    store = store or TestStore(store_id=store_id)
    transport = network.transport(f"store-{store_id}")
    service = Service(
        store, now_ms=lambda: node.now_ms, transport=transport, directory=directory, limits=limits, **options
    )
    server = network.server(f"store-{store_id}", service.handlers())
    node = Node(network, store, service, server, directory)
    await server.start()
    service.start()
    return node


def serving(test: Callable[[Node], Awaitable[None]], **options: Any) -> None:
    """Runs a test against one store in virtual time."""

    async def whole() -> None:
        node = await make_node(**options)
        await test(node)
        await node.server.stop(0)
        await node.service.close()

    run_simulated(whole())


class OneRegion(SingleRegionStore):
    """The region store without Raft, named as the double is."""

    def context(self, region_id: int = 1) -> pb.Context:
        assert region_id == 1
        return super().context()


def everywhere(test: Callable[[Node], Awaitable[None]], **options: Any) -> None:
    """Runs a test against the double, and against the region store without Raft."""
    serving(test, **options)
    engine = MemoryEngine()
    store: Any = OneRegion(engine, InlineSyncer(engine), region_id=1, peer_id=11)
    serving(test, store=store, **options)
