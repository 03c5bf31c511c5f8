"""Sends a request to a region: picks the peer, sets the context, and knows what each region error asks for.

`send` tries again where the same region can still answer (another leader, a busy store); it raises `RegionChanged`
where the keys have to be looked up and grouped anew. Every wait has been done by then. Answers without a region error
go back as they are.

A call that fails below the protocol, or with `undetermined_result`, may have been executed: `Backoff.maybe_executed`
of its Backoff is set, and the repetition is marked `is_retry_request`.
"""

from __future__ import annotations

from typing import Any, NoReturn

from kvstore.client.api import ReadFrom
from kvstore.client.cluster.away import AwayStores
from kvstore.client.cluster.backoff import (
    DISK_FULL,
    NO_LEADER,
    NOT_READY,
    REGION_MISS,
    RPC,
    SERVER_BUSY,
    STALE_COMMAND,
    UPDATE_LEADER,
    Backoff,
)
from kvstore.client.cluster.commands import Command
from kvstore.client.cluster.connection import StoreConnection
from kvstore.client.cluster.errors import RaftEntryTooLarge, RefusedRequest
from kvstore.client.cluster.regions import EXECUTION_MS_MAX, CachedRegion, RegionCache
from kvstore.proto.errorpb_pb2 import Error
from kvstore.proto.metapb_pb2 import Peer
from kvstore.rpc.api import Code, Method, RpcError, Stream, Transport

CALL_TIMEOUT_S = EXECUTION_MS_MAX / 1000
"""How long a store may take over one call before another peer is tried."""

FINAL_CODES = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.PERMISSION_DENIED,
        Code.UNAUTHENTICATED,
        Code.UNIMPLEMENTED,
        Code.RESOURCE_EXHAUSTED,
    }
)
"""What a store refuses with one of these it will refuse again."""


class RegionChanged(Exception):
    """The keys of the request have to be located anew. Never leaves the client."""


class RegionSender:
    """Requests to regions over one connection a store."""

    def __init__(self, regions: RegionCache, transport: Transport, *, batch: bool = True) -> None:
        self.regions = regions
        self._transport = transport
        self._batch = batch
        self._connections: dict[str, StoreConnection] = {}
        self._away = AwayStores(regions, transport)
        self._turn = 0

    async def close(self) -> None:
        await self._away.close()
        for connection in self._connections.values():
            await connection.close()

    async def send(
        self,
        backoff: Backoff,
        command: Command,
        request: Any,
        region: CachedRegion,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        read: ReadFrom = ReadFrom.LEADER,
    ) -> Any:
        """The answer of the region. Raises RegionChanged, ClusterError (RegionUnavailable, RefusedRequest), PdError."""
        attempt = 0
        while True:
            peer = self._pick(region, read, attempt)
            if not attempt and read is ReadFrom.LEADER and peer is region.leader:
                request.context.MergeFrom(region.context)
            else:
                self._set_context(request.context, region, peer, read)
            if timeout_s != CALL_TIMEOUT_S:
                request.context.max_execution_duration_ms = int(timeout_s * 1000)
            connection = self._connections.get(self.regions.addresses.get(peer.store_id, ""))
            if connection is None:
                connection = await self._connect(backoff, region, peer.store_id)
            future = connection.submit(command, request, timeout_s)
            try:
                if future is not None:
                    answer = command.answer(await future)
                else:
                    answer = await connection.alone(command, request, timeout_s)
            except RpcError as failure:
                if failure.code is Code.UNIMPLEMENTED and future is not None:
                    # a store without BatchCommands: from now on its connection calls one by one
                    continue
                if failure.code in FINAL_CODES:
                    raise RefusedRequest(f"{command.method.name}: {failure}") from failure
                await self._on_rpc_error(backoff, region, peer, failure)
            else:
                if self._away:
                    self._away.answered(peer.store_id)
                if not answer.HasField(command.error_field):
                    return answer
                error = getattr(answer, command.error_field)
                if read is ReadFrom.STALE and _name_of(error) == "data_is_not_ready":
                    read = ReadFrom.LEADER
                else:
                    await self.on_region_error(backoff, region, peer, error)
            request.context.is_retry_request = True
            attempt += 1

    async def send_to_key(
        self,
        backoff: Backoff,
        command: Command,
        request: Any,
        key: bytes,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        read: ReadFrom = ReadFrom.LEADER,
    ) -> Any:
        """Sends to the region of a key, wherever it is by then."""
        while True:
            region = self.regions.find(key)
            if region is None:
                region = await self.regions.locate(backoff, key)
            try:
                return await self.send(backoff, command, request, region, timeout_s=timeout_s, read=read)
            except RegionChanged:
                continue

    async def send_to_store(self, command: Command, request: Any, address: str, timeout_s: float) -> Any:
        """A call to a store as a whole. Raises RpcError."""
        return await self._connection(address).alone(command, request, timeout_s)

    def stream_to_store(self, method: Method, address: str) -> Stream:
        """A streaming call to a store. Raises RpcError."""
        return self._connection(address).stream(method)

    def _connection(self, address: str) -> StoreConnection:
        connection = self._connections.get(address)
        if connection is None:
            connection = StoreConnection(self._transport.channel(address), batch=self._batch)
            self._connections[address] = connection
        return connection

    async def _connect(self, backoff: Backoff, region: CachedRegion, store_id: int) -> StoreConnection:
        address = await self.regions.store_address(store_id)
        if address is None:
            # a store that is gone for good: the placement driver knows where the region is now
            self.regions.drop(region)
            await backoff.wait(REGION_MISS, f"store {store_id} is gone")
            raise RegionChanged
        return self._connection(address)

    def _pick(self, region: CachedRegion, read: ReadFrom, attempt: int) -> Peer:
        leader = region.leader
        if read is ReadFrom.LEADER:
            return leader if not self._away else self._alive(region, leader)
        peers = region.voters()
        if read is ReadFrom.FOLLOWER:
            peers = [peer for peer in peers if peer.id != leader.id]
        peers = [peer for peer in peers if peer.store_id not in self._away]
        if not peers or attempt > len(peers):
            return leader
        self._turn += 1
        return peers[self._turn % len(peers)]

    def _alive(self, region: CachedRegion, leader: Peer) -> Peer:
        """The leader, or another voter while the leader's store does not answer: its word says who leads now."""
        if leader.store_id not in self._away:
            return leader
        others = [peer for peer in region.voters() if peer.store_id not in self._away]
        return others[region.tried % len(others)] if others else leader

    def _set_context(self, context: Any, region: CachedRegion, peer: Peer, read: ReadFrom) -> None:
        context.region_id = region.meta.id
        context.region_epoch.CopyFrom(region.meta.region_epoch)
        context.peer.CopyFrom(peer)
        context.max_execution_duration_ms = EXECUTION_MS_MAX
        if read is not ReadFrom.LEADER or context.replica_read or context.stale_read:
            context.stale_read = read is ReadFrom.STALE
            context.replica_read = read in (ReadFrom.FOLLOWER, ReadFrom.MIXED) and peer.id != region.leader.id

    async def _on_rpc_error(self, backoff: Backoff, region: CachedRegion, peer: Peer, error: RpcError) -> None:
        """The store is away, or only its answer: another peer may know more."""
        backoff.maybe_executed = True
        if error.code is Code.DEADLINE_EXCEEDED:
            # a store that hangs must not hold a request up for the budget's pauses times the timeout
            backoff.spent_ms += EXECUTION_MS_MAX
        self._away.failed(peer.store_id)
        self.regions.forget_store(peer.store_id)
        await backoff.wait(RPC, f"store {peer.store_id}: {error}")
        if not self.regions.next_peer(region):
            raise RegionChanged

    async def on_region_error(self, backoff: Backoff, region: CachedRegion, peer: Peer, error: Error) -> None:
        """Waits as the error asks; returns to try again, or raises RegionChanged or what is final."""
        name = _name_of(error)
        cause = f"region {region.id} at store {peer.store_id}: {name} {error.message}"
        match name:
            case "not_leader":
                await self._on_not_leader(backoff, region, error, cause)
            case "epoch_not_match":
                outdated = self.regions.learn(region, error.epoch_not_match.current_regions)
                await backoff.wait(REGION_MISS, cause)
                if outdated:
                    raise RegionChanged
            case "server_is_busy":
                await backoff.wait(SERVER_BUSY, cause, at_least_ms=error.server_is_busy.backoff_ms)
            case "stale_command":
                await backoff.wait(STALE_COMMAND, cause)
            case (
                "max_timestamp_not_synced"
                | "read_index_not_ready"
                | "proposal_in_merging_mode"
                | "data_is_not_ready"
                | "region_not_initialized"
            ):
                await backoff.wait(NOT_READY, cause)
            case "disk_full":
                await backoff.wait(DISK_FULL, cause)
            case "raft_entry_too_large":
                raise RaftEntryTooLarge(region.id, error.raft_entry_too_large.entry_size)
            case "store_not_match":
                self.regions.forget_store(error.store_not_match.request_store_id)
                await self._look_up_again(backoff, region, cause)
            case "undetermined_result":
                backoff.maybe_executed = True
                await self._look_up_again(backoff, region, cause)
            case _:
                await self._look_up_again(backoff, region, cause)

    async def _on_not_leader(self, backoff: Backoff, region: CachedRegion, error: Error, cause: str) -> None:
        leader = error.not_leader.leader
        if leader.id and leader.store_id not in self._away:
            known = self.regions.set_leader(region, leader)
            await backoff.wait(UPDATE_LEADER, cause)
            if not known:
                raise RegionChanged
            return
        await backoff.wait(NO_LEADER, cause)
        if not self.regions.next_peer(region):
            raise RegionChanged

    async def _look_up_again(self, backoff: Backoff, region: CachedRegion, cause: str) -> NoReturn:
        self.regions.drop(region)
        await backoff.wait(REGION_MISS, cause)
        raise RegionChanged


def _name_of(error: Error) -> str:
    """The member that is set, "" for an error of which only the message is known."""
    for field, _ in error.ListFields():
        if field.message_type is not None:
            return field.name
    return ""
