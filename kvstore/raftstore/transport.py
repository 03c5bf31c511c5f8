"""Raft messages between stores: one BatchRaft stream a store, a Snapshot stream for each snapshot.

Messages of a round go out together. What cannot be delivered is dropped, as Raft allows, and the leaders here are told
that the store cannot be reached.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from kvstore.errors import KvError
from kvstore.proto import tikvpb_pb2 as tikvpb
from kvstore.proto.raft_serverpb_pb2 import Done, RaftMessage, SnapshotChunk
from kvstore.raftstore.api import Placement
from kvstore.rpc.api import Call, Channel, Code, Handlers, Method, RpcError, Transport, methods_of

QUEUED_BYTES_MAX = 64 << 20
"""Messages that wait for one store; newer ones are dropped."""
BATCH_BYTES_MAX = 4 << 20
BATCH_MESSAGES_MAX = 1024
RECONNECT_S = 0.1
RECONNECT_MAX_S = 0.4
"""A store that is back counts for a quorum only once the others reach it, which has to be well within an election
timeout: the next leader that dies may leave this one to decide."""
METHODS = methods_of(tikvpb.DESCRIPTOR, "Tikv")


class RaftTransport(Protocol):
    """Where a store's messages go."""

    def send(self, message: RaftMessage) -> None:
        """Takes a message for another store; it may be lost."""

    def flush(self) -> None:
        """The round is over: what was sent should leave."""

    async def send_snapshot(self, message: RaftMessage, pieces: Iterator[bytes]) -> None:
        """Delivers a snapshot; RpcError if the receiver does not have all of it."""


class _Lane:
    """Messages for one store, and the task that sends them."""

    def __init__(self) -> None:
        self.queue: deque[RaftMessage] = deque()
        self.queued_bytes = 0
        self.full = False
        """Whether messages are being dropped, which was said already."""
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class StreamTransport:
    """The transport over `kvstore.rpc`; addresses come from the placement driver."""

    def __init__(self, rpc: Transport, placement: Placement, on_unreachable: Callable[[int], None]) -> None:
        self._rpc = rpc
        self._placement = placement
        self._on_unreachable = on_unreachable
        self._lanes: dict[int, _Lane] = {}
        self._addresses: dict[int, str] = {}
        self._filled: dict[int, _Lane] = {}

    def send(self, message: RaftMessage) -> None:
        store_id = message.to_peer.store_id
        lane = self._lanes.get(store_id)
        if lane is None or (lane.task is not None and lane.task.done()):
            lane = self._lanes[store_id] = _Lane()
            lane.task = asyncio.get_running_loop().create_task(self._serve(store_id, lane))
        size = _size_of(message)
        if lane.queued_bytes + size > QUEUED_BYTES_MAX:
            if not lane.full:
                lane.full = True
                self._on_unreachable(store_id)
            return
        lane.queue.append(message)
        lane.queued_bytes += size
        self._filled[store_id] = lane

    def flush(self) -> None:
        for lane in self._filled.values():
            lane.wake.set()
        self._filled.clear()

    async def close(self) -> None:
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _channel(self, store_id: int) -> Channel:
        address = self._addresses.get(store_id)
        if address is None:
            try:
                store = await self._placement.get_store(store_id)
            except KvError as error:
                raise RpcError(Code.NOT_FOUND, f"store {store_id}: {error}") from error
            address = self._addresses[store_id] = store.peer_address or store.address
        return self._rpc.channel(address)

    async def _serve(self, store_id: int, lane: _Lane) -> None:
        pause = RECONNECT_S
        while True:
            while not lane.queue:
                lane.wake.clear()
                await lane.wake.wait()
            try:
                channel = await self._channel(store_id)
                stream = channel.stream(METHODS["BatchRaft"])
                try:
                    while True:
                        while not lane.queue:
                            lane.wake.clear()
                            await lane.wake.wait()
                        await stream.send(self._next_batch(lane))
                        pause = RECONNECT_S
                finally:
                    stream.cancel()
            except RpcError:
                self._addresses.pop(store_id, None)  # it may have moved
                lane.queue.clear()
                lane.queued_bytes = 0
                self._on_unreachable(store_id)
                await asyncio.sleep(pause)
                pause = min(2 * pause, RECONNECT_MAX_S)

    def _next_batch(self, lane: _Lane) -> tikvpb.BatchRaftMessage:
        batch: list[RaftMessage] = []
        size = 0
        while lane.queue and len(batch) < BATCH_MESSAGES_MAX and size < BATCH_BYTES_MAX:
            message = lane.queue.popleft()
            size += _size_of(message)
            batch.append(message)
        lane.queued_bytes = lane.queued_bytes - size if lane.queue else 0
        lane.full = lane.full and lane.queued_bytes > QUEUED_BYTES_MAX // 2
        return tikvpb.BatchRaftMessage(msgs=batch)

    async def send_snapshot(self, message: RaftMessage, pieces: Iterator[bytes]) -> None:
        channel = await self._channel(message.to_peer.store_id)
        stream = channel.stream(METHODS["Snapshot"])
        try:
            await stream.send(SnapshotChunk(message=message))
            for piece in pieces:
                await stream.send(SnapshotChunk(data=piece))
            await stream.done_sending()
            if await stream.receive() is None:
                raise RpcError(Code.UNAVAILABLE, "the receiver ended the snapshot without an answer")
        finally:
            stream.cancel()


def _size_of(message: RaftMessage) -> int:
    """About what a message takes."""
    return 128 + sum(len(entry.data) for entry in message.message.entries)


class Receiver(Protocol):
    """What a store does with what comes (`RaftStore`)."""

    def on_raft_message(self, message: RaftMessage) -> None: ...

    async def receive_snapshot(self, chunks: AsyncIterator[SnapshotChunk]) -> None: ...


def raft_handlers(store: Receiver) -> Handlers:
    """The handlers of Raft, BatchRaft and Snapshot, to be served beside the other methods of the service."""

    async def raft(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Done]:
        async for message in requests:
            store.on_raft_message(message)
        yield Done()

    async def batch_raft(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Done]:
        async for batch in requests:
            for message in batch.msgs:
                store.on_raft_message(message)
        yield Done()

    async def snapshot(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Done]:
        await store.receive_snapshot(requests)
        yield Done()

    streams: dict[str, tuple[Method, Callable[[AsyncIterator[Any], Call], AsyncIterator[Any]]]] = {}
    for name, handler in (("Raft", raft), ("BatchRaft", batch_raft), ("Snapshot", snapshot)):
        streams[METHODS[name].path] = (METHODS[name], handler)
    return Handlers({}, streams)
