"""Raft messages between placement drivers: one stream to each peer, opened again whenever it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from kvstore.proto import eraftpb_pb2 as eraftpb
from kvstore.proto import pdraft_pb2
from kvstore.proto.pdraft_pb2 import PdRaftBatch, PdRaftDone
from kvstore.raft.types import Message
from kvstore.raft_wire import message_from_pb, message_to_pb
from kvstore.rpc.api import Call, Code, Handlers, RpcError, Transport, methods_of

MESSAGES = methods_of(pdraft_pb2.DESCRIPTOR, "PdRaft")["Messages"]
QUEUE_MAX = 1024
"""Messages that wait for one peer; more are dropped, Raft sends them again."""
BATCH_MESSAGES_MAX = 64
RECONNECT_S = 0.2
"""Pause before a stream is opened again."""


class PeerLink:
    """Messages on their way to one peer."""

    def __init__(
        self,
        address: str,
        transport: Transport,
        group_key: int,
        on_sent: Callable[[Message], None],
        on_lost: Callable[[Message], None],
    ) -> None:
        self._address = address
        self._transport = transport
        self._group_key = group_key
        self._on_sent = on_sent
        self._on_lost = on_lost
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_MAX)

    def send(self, message: Message) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._on_lost(message)

    async def run(self) -> None:
        while True:
            message = await self._queue.get()
            stream = None
            try:
                stream = self._transport.channel(self._address).stream(MESSAGES)
                await self._pass_on(stream, message)
            except RpcError:
                self._on_lost(message)
            finally:
                if stream is not None:
                    stream.cancel()
            self._drop_waiting()
            await asyncio.sleep(RECONNECT_S)

    async def _pass_on(self, stream: Any, first: Message) -> None:
        """Sends what comes until the stream breaks; raises RpcError."""
        message = first
        while True:
            messages = [message]
            while len(messages) < BATCH_MESSAGES_MAX and not self._queue.empty():
                messages.append(self._queue.get_nowait())
            batch = PdRaftBatch(cluster_key=self._group_key, messages=[message_to_pb(each) for each in messages])
            await stream.send(batch)
            for each in messages:
                self._on_sent(each)
            message = await self._queue.get()

    def _drop_waiting(self) -> None:
        while not self._queue.empty():
            self._on_lost(self._queue.get_nowait())


class Peers:
    """The links to all peers, and the handler that takes their messages."""

    def __init__(
        self,
        transport: Transport,
        addresses: Mapping[int, str],
        group_key: int,
        *,
        on_message: Callable[[Message], None],
        on_sent: Callable[[Message], None],
        on_lost: Callable[[Message], None],
    ) -> None:
        self._group_key = group_key
        self._on_message = on_message
        self._links = {
            member_id: PeerLink(address, transport, group_key, on_sent, on_lost)
            for member_id, address in addresses.items()
        }
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.ensure_future(link.run()) for link in self._links.values()]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def send(self, message: Message) -> None:
        link = self._links.get(message.to)
        if link is not None:
            link.send(message)

    def handlers(self) -> Handlers:
        return Handlers({}, {MESSAGES.path: (MESSAGES, self._receive)})

    async def _receive(self, requests: AsyncIterator[PdRaftBatch], call: Call) -> AsyncIterator[PdRaftDone]:
        async for batch in requests:
            if batch.cluster_key != self._group_key:
                raise RpcError(Code.FAILED_PRECONDITION, "a placement driver of another cluster")
            for message in batch.messages:
                self._take(message)
        yield PdRaftDone()

    def _take(self, message: eraftpb.Message) -> None:
        try:
            taken = message_from_pb(message)
        except ValueError as error:
            raise RpcError(Code.INVALID_ARGUMENT, f"not a Raft message: {error}") from error
        if taken.from_ in self._links:
            self._on_message(taken)
