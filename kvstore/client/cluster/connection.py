"""The connection to one store: calls coalesced on one BatchCommands stream, or one by one where that is not had.

While a message is being written, everything that comes in is put into the next: one message carries many calls when
there are many, and a single call does not wait for others. Answers come back in any order, matched by id. What was
pending on a stream that breaks fails with RpcError: it may or may not have been executed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from kvstore.client.cluster.commands import BATCH_COMMANDS, Command
from kvstore.proto.tikvpb_pb2 import BatchCommandsRequest, BatchCommandsResponse
from kvstore.rpc.api import Channel, Code, RpcError, Stream

BATCH_REQUESTS_MAX = 256
"""Calls in one message."""
BATCH_BYTES_MAX = 4 << 20
"""A message is not filled further once it is this large."""
SWEEP_S = 0.1
"""How often calls past their timeout are looked for."""


@dataclass(slots=True, eq=False)
class _Pending:
    future: asyncio.Future[Any]
    sent_at: float
    deadline: float


class StoreConnection:
    """Calls to one address."""

    def __init__(self, channel: Channel, *, batch: bool = True) -> None:
        self._channel = channel
        self._batch = batch
        self._pending: dict[int, _Pending] = {}
        self._next_id = 1
        self._queue: deque[BatchCommandsRequest] = deque()
        self._queue_bytes = 0
        self._stream: Stream | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._wake: asyncio.Future[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self.messages = 0
        """How many messages were written."""

    async def call(self, command: Command, request: Any, timeout_s: float) -> Any:
        """One request, one answer. Raises RpcError."""
        if command.field is None or not self._batch:
            return await self._channel.unary(command.method, request, timeout_s)
        try:
            answer = await self._enqueue(command.field, request, timeout_s)
        except RpcError as error:
            if error.code is Code.UNIMPLEMENTED and not self._batch:
                return await self._channel.unary(command.method, request, timeout_s)
            raise
        if answer.WhichOneof("cmd") != command.field:
            raise RpcError(Code.INTERNAL, f"asked {command.field}, got {answer.WhichOneof('cmd')}")
        return getattr(answer, command.field)

    async def close(self) -> None:
        tasks = self._tasks
        self._break(RpcError(Code.CANCELLED, "the connection was closed"))
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _enqueue(self, field: str, request: Any, timeout_s: float) -> Any:
        loop = asyncio.get_running_loop()
        now = loop.time()
        call_id = self._next_id
        self._next_id = call_id + 1
        pending = _Pending(loop.create_future(), now, now + timeout_s)
        self._pending[call_id] = pending
        size: int = request.ByteSize()
        if (
            not self._queue
            or len(self._queue[-1].requests) >= BATCH_REQUESTS_MAX
            or self._queue_bytes > BATCH_BYTES_MAX
        ):
            self._queue.append(BatchCommandsRequest())
            self._queue_bytes = 0
        self._queue_bytes += size
        message = self._queue[-1]
        getattr(message.requests.add(), field).CopyFrom(request)
        message.request_ids.append(call_id)
        if self._stream is None:
            self._open(loop)
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        try:
            return await pending.future
        finally:
            self._pending.pop(call_id, None)

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            stream = self._channel.stream(BATCH_COMMANDS)
        except RpcError as error:
            self._break(error)
            return
        self._stream = stream
        self._heard_at = loop.time()
        self._tasks = (loop.create_task(self._write(stream)), loop.create_task(self._read(stream)))

    async def _write(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not self._queue:
                    self._wake = loop.create_future()
                    await self._wake
                message = self._queue.popleft()
                self.messages += 1
                await stream.send(message)
        except RpcError as error:
            self._lost(stream, error)

    async def _read(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        pending = self._pending
        try:
            while True:
                answer = await stream.receive()
                if answer is None:
                    raise RpcError(Code.UNAVAILABLE, "the stream to the store ended")
                if not isinstance(answer, BatchCommandsResponse) or len(answer.responses) != len(answer.request_ids):
                    raise RpcError(Code.INTERNAL, "a malformed answer on the stream")
                self._heard_at = loop.time()
                for call_id, response in zip(answer.request_ids, answer.responses, strict=True):
                    entry = pending.pop(call_id, None)
                    if entry is not None and not entry.future.done():
                        entry.future.set_result(response)
        except RpcError as error:
            self._lost(stream, error)

    def _lost(self, stream: Stream, error: RpcError) -> None:
        if stream is not self._stream:
            return
        if error.code is Code.UNIMPLEMENTED:
            self._batch = False
        self._break(error)

    def _break(self, error: RpcError) -> None:
        """Fails everything pending; the next call opens a new stream."""
        stream, self._stream = self._stream, None
        tasks, self._tasks = self._tasks, ()
        current = asyncio.current_task()
        if stream is not None:
            stream.cancel()
        for task in tasks:
            if task is not current:
                task.cancel()
        self._queue.clear()
        self._wake = None
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        pending = list(self._pending.values())
        self._pending.clear()
        for entry in pending:
            if not entry.future.done():
                entry.future.set_exception(RpcError(error.code, error.message))

    def _sweep(self) -> None:
        """Fails calls past their deadline; a stream on which nothing came since such a call was sent is given up."""
        loop = asyncio.get_running_loop()
        self._sweeper = None
        now = loop.time()
        late = [(call_id, entry) for call_id, entry in self._pending.items() if entry.deadline <= now]
        if any(self._heard_at <= entry.sent_at for _, entry in late):
            self._break(RpcError(Code.DEADLINE_EXCEEDED, "the store does not answer"))
            return
        for call_id, entry in late:
            del self._pending[call_id]
            if not entry.future.done():
                entry.future.set_exception(RpcError(Code.DEADLINE_EXCEEDED, "the store did not answer in time"))
        if self._pending:
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)
