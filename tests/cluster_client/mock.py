"""A cluster in memory for tests of the client: stores and regions whose leaders, splits, errors and losses a test sets.

All stores read and write one engine (replication is somebody else's test); what a store serves is decided by the
region map alone. The records and the rules of transactions are the real ones (`kvstore.txn`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from kvstore.codec import encode_bytes
from kvstore.engine.memory import MemoryEngine
from kvstore.proto import errorpb_pb2 as errorpb
from kvstore.proto import tikvpb_pb2 as tikvpb
from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch, Store
from kvstore.rpc.api import Call, Code, Handlers, RpcError, methods_of
from kvstore.rpc.memory import MemoryNetwork, MemoryServer
from tests.cluster_client.mock_pd import MockPd
from tests.cluster_client.mock_txn import MockTxn, keys_of

METHODS = methods_of(tikvpb.DESCRIPTOR, "Tikv")
LOST = RpcError(Code.UNAVAILABLE, "lost")


@dataclass(slots=True)
class Fault:
    """What happens to matching calls: `times` of them, after letting `skip` through."""

    name: str
    """The request's type without `Request`, e.g. Prewrite; "" for any."""
    error: errorpb.Error | None = None
    lose_request: bool = False
    lose_answer: bool = False
    delay_s: float = 0
    before: Callable[[], None] | None = None
    """Run before the request is looked at."""
    after: Callable[[], None] | None = None
    """Run after it was executed, before the answer."""
    times: int = 1
    skip: int = 0
    when: Callable[[Any], bool] = lambda request: True

    def takes(self, request: Any) -> bool:
        if self.name not in ("", name_of(request)) or self.times <= 0 or not self.when(request):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


def name_of(request: Any) -> str:
    return str(request.DESCRIPTOR.name).removesuffix("Request")


class MockCluster:
    """The map of regions, the stores that serve them, and what is to go wrong."""

    def __init__(self, stores: int = 3, *, txn_keys: bool = True, batch_commands: bool = True) -> None:
        self.network = MemoryNetwork()
        self.pd = MockPd(self.network)
        self.encode = encode_bytes if txn_keys else bytes
        self.engine = MemoryEngine()
        self.txn = MockTxn(self.engine, self.pd)
        self.faults: list[Fault] = []
        self.chaos: Callable[[Any], Fault | None] | None = None
        """What happens to calls that no fault was made for."""
        self.log: list[Any] = []
        """Every request that reached a store, in order."""
        self.messages = 0
        self.down: dict[int, None] = {}
        self._batch_commands = batch_commands
        self._next_id = 1
        for store_id in range(1, stores + 1):
            self.pd.stores[store_id] = Store(id=store_id, address=f"s{store_id}:20160")
        peers = [Peer(id=self.new_id(), store_id=store_id) for store_id in self.pd.stores]
        region = Region(id=self.new_id(), region_epoch=RegionEpoch(conf_ver=1, version=1), peers=peers)
        self.regions: dict[int, tuple[Region, Peer | None]] = {region.id: (region, peers[0])}
        self.servers: dict[int, MemoryServer] = {}
        self.tell_pd()

    async def start(self) -> None:
        await self.pd.start()
        for store_id, store in self.pd.stores.items():
            server = self.network.server(store.address, self._handlers(store_id))
            await server.start()
            self.servers[store_id] = server

    async def stop_store(self, store_id: int) -> None:
        await self.servers[store_id].stop(0)

    def new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def tell_pd(self) -> None:
        """The placement driver learns how things are now."""
        self.pd.regions = dict(self.regions)

    def region_of(self, key: bytes) -> Region:
        return self._at(self.encode(key))

    def _at(self, encoded: bytes) -> Region:
        for region, _ in self.regions.values():
            if region.start_key <= encoded and (not region.end_key or encoded < region.end_key):
                return region
        raise AssertionError("the regions do not tile the key space")

    def split(self, *keys: bytes, tell: bool = True) -> None:
        """Splits at user keys; the right part keeps the id, as in TiKV's default."""
        for key in keys:
            at = self.encode(key)
            old = self._at(at)
            if old.start_key == at:
                continue
            leader = self.regions[old.id][1]
            peers = [Peer(id=self.new_id(), store_id=peer.store_id) for peer in old.peers]
            version = old.region_epoch.version + 1
            epoch = RegionEpoch(conf_ver=old.region_epoch.conf_ver, version=version)
            left = Region(id=self.new_id(), start_key=old.start_key, end_key=at, region_epoch=epoch, peers=peers)
            right = Region(id=old.id, start_key=at, end_key=old.end_key, region_epoch=epoch, peers=old.peers)
            left_leader = next((p for p in peers if leader is not None and p.store_id == leader.store_id), None)
            self.regions[left.id] = (left, left_leader)
            self.regions[right.id] = (right, leader)
        if tell:
            self.tell_pd()

    def move_leader(self, key: bytes, store_id: int | None, *, tell: bool = True) -> None:
        region = self.region_of(key)
        peer = next((peer for peer in region.peers if peer.store_id == store_id), None)
        self.regions[region.id] = (region, peer)
        if tell:
            self.tell_pd()

    def fault(self, name: str, **how: Any) -> Fault:
        fault = Fault(name, **how)
        self.faults.append(fault)
        return fault

    def sent(self, name: str) -> list[Any]:
        """The requests of a type that reached a store."""
        return [request for request in self.log if name_of(request) == name]

    def _handlers(self, store_id: int) -> Handlers:
        unary = {}
        for method in METHODS.values():
            if not method.client_streaming and not method.server_streaming:
                unary[method.path] = (method, self._unary(store_id, method.response))
        batch = METHODS["BatchCommands"]

        async def commands(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            async for answer in self._serve_batches(store_id, requests):
                yield answer

        return Handlers(unary, {batch.path: (batch, commands)} if self._batch_commands else {})

    def _unary(self, store_id: int, response: Any) -> Any:
        async def answer(request: Any, call: Call) -> Any:
            return await self.serve(store_id, request, response)

        return answer

    async def _serve_batches(self, store_id: int, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Answers commands as they get done; a lost request or answer breaks the stream, as a connection that broke."""
        done: asyncio.Queue[tuple[int, str, Any] | RpcError | None] = asyncio.Queue()
        tasks: dict[asyncio.Task[None], None] = {}

        async def one(call_id: int, field: str, request: Any, response: Any) -> None:
            try:
                done.put_nowait((call_id, field, await self.serve(store_id, request, response)))
            except RpcError as error:
                done.put_nowait(error)
            except Exception as error:  # noqa: BLE001 a fault of the mock must not look like a store's that is slow
                done.put_nowait(RpcError(Code.INVALID_ARGUMENT, f"the mock failed: {error!r}"))

        async def read() -> None:
            async for message in requests:
                self.messages += 1
                for call_id, entry in zip(message.request_ids, message.requests, strict=True):
                    field = entry.WhichOneof("cmd")
                    response = getattr(tikvpb.BatchCommandsResponse.Response(), field).__class__
                    task = asyncio.ensure_future(one(call_id, field, getattr(entry, field), response))
                    tasks[task] = None
                    task.add_done_callback(tasks.pop)
            done.put_nowait(None)

        reader = asyncio.ensure_future(read())
        try:
            while (item := await done.get()) is not None:
                answer = tikvpb.BatchCommandsResponse()
                while True:
                    if isinstance(item, RpcError):
                        raise item
                    assert item is not None
                    getattr(answer.responses.add(), item[1]).CopyFrom(item[2])
                    answer.request_ids.append(item[0])
                    if done.empty():
                        break
                    item = done.get_nowait()
                    if item is None:
                        break
                yield answer
        finally:
            reader.cancel()
            for task in list(tasks):
                task.cancel()

    async def serve(self, store_id: int, request: Any, response: Any) -> Any:
        """One request at a store, with what the script says of it."""
        fault = next((fault for fault in self.faults if fault.takes(request)), None)
        if fault is None and self.chaos is not None:
            fault = self.chaos(request)
        if fault is not None:
            if fault.before is not None:
                fault.before()
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            if fault.lose_request:
                raise RpcError(LOST.code, "the request was lost")
            if fault.error is not None:
                return response(region_error=fault.error)
        error = self.check(store_id, request)
        if error is not None:
            return response(region_error=error)
        self.log.append(request)
        if name_of(request) == "SplitRegion":
            answer = self._split_region(request, response)
        else:
            answer = await self.txn.run(request, response, self.region_bounds(request.context.region_id))
        if fault is not None:
            if fault.after is not None:
                fault.after()
            if fault.lose_answer:
                raise RpcError(LOST.code, "the answer was lost")
        return answer

    def region_bounds(self, region_id: int) -> tuple[bytes, bytes]:
        region, _ = self.regions[region_id]
        return region.start_key, region.end_key

    def check(self, store_id: int, request: Any) -> errorpb.Error | None:
        """The checks of a store, in TiKV's order: store, region, leader, epoch, key."""
        context = request.context
        if context.peer.store_id != store_id:
            mismatch = errorpb.StoreNotMatch(request_store_id=context.peer.store_id, actual_store_id=store_id)
            return errorpb.Error(store_not_match=mismatch)
        if context.region_id not in self.regions:
            return errorpb.Error(region_not_found=errorpb.RegionNotFound(region_id=context.region_id))
        region, leader = self.regions[context.region_id]
        if (leader is None or leader.store_id != store_id) and not context.replica_read and not context.stale_read:
            return errorpb.Error(not_leader=errorpb.NotLeader(region_id=region.id, leader=leader))
        if context.region_epoch.version != region.region_epoch.version:
            current = [region, *(other for other, _ in self.regions.values() if other.id != region.id)]
            return errorpb.Error(epoch_not_match=errorpb.EpochNotMatch(current_regions=current))
        for key in keys_of(request):
            encoded = self.encode(key)
            if encoded < region.start_key or (region.end_key and encoded >= region.end_key):
                found = errorpb.KeyNotInRegion(key=encoded, region_id=region.id)
                return errorpb.Error(key_not_in_region=found)
        return None

    def _split_region(self, request: Any, response: Any) -> Any:
        before = set(self.regions)
        self.split(*request.split_keys)
        new = [region for region, _ in self.regions.values() if region.id not in before]
        regions = sorted([*new, self.regions[request.context.region_id][0]], key=lambda region: region.start_key)
        return response(regions=regions)
