"""The connection to one store: calls coalesced on one BatchCommands stream, or one by one where that is not had.

While a message is being written, everything that comes in is put into the next: one message carries many calls when
there are many, and a single call does not wait for others. Answers come back in any order, matched by id. What was
pending on a stream that breaks fails with RpcError: it may or may not have been executed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from kvstore.client.cluster.commands import BATCH_COMMANDS, Command
from kvstore.proto.tikvpb_pb2 import BatchCommandsRequest, BatchCommandsResponse
from kvstore.rpc.api import Channel, Code, Method, RpcError, Stream

BATCH_REQUESTS_MAX = 256
"""Calls in one message."""
BATCH_BYTES_MAX = 4 << 20
"""A message is not filled further once it is this large."""
SWEEP_S = 0.1
"""How often calls past their timeout are looked for."""


class StoreConnection:
    """Calls to one address."""

    def __init__(self, channel: Channel, *, batch: bool = True) -> None:
        self._channel = channel
        self._batch = batch
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, tuple[asyncio.Future[Any], float, float]] = {}
        """By id: who waits, when it was sent, when it is over."""
        self._next_id = 1
        self._queue: deque[BatchCommandsRequest] = deque()
        self._filling: BatchCommandsRequest | None = None
        """The last of the queue."""
        self._filled = 0
        self._filled_bytes = 0
        self._stream: Stream | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._wake: asyncio.Future[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self.messages = 0
        """How many messages were written."""

    async def alone(self, command: Command, request: Any, timeout_s: float) -> Any:
        """One request, one answer, past the stream. Raises RpcError."""
        return await self._channel.unary(command.method, request, timeout_s)

    def stream(self, method: Method) -> Stream:
        """Opens a call of a streaming method. Raises RpcError."""
        return self._channel.stream(method)

    def submit(self, command: Command, request: Any, timeout_s: float) -> asyncio.Future[Any] | None:
        """Puts a call on the stream; its answer is `command.answer` of the result. None where it has to go `alone`.

        The future fails with RpcError, UNIMPLEMENTED when the store has no such stream: then all calls go alone. What
        is done to `request` afterwards does not matter.
        """
        field = command.field
        if field is None or not self._batch:
            return None
        loop = self._loop
        now = loop.time()
        call_id = self._next_id
        self._next_id = call_id + 1
        future = loop.create_future()
        self._pending[call_id] = (future, now, now + timeout_s)
        message = self._filling
        if message is None or self._filled >= BATCH_REQUESTS_MAX:
            message = self._filling = BatchCommandsRequest()
            self._queue.append(message)
            self._filled = self._filled_bytes = 0
        if command.bulky:
            self._filled_bytes += request.ByteSize()
            self._filled = BATCH_REQUESTS_MAX if self._filled_bytes > BATCH_BYTES_MAX else self._filled
        self._filled += 1
        getattr(message.requests.add(), field).CopyFrom(request)
        message.request_ids.append(call_id)
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)
        elif self._stream is None:
            self._open(loop)
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        return future

    async def close(self) -> None:
        tasks = self._tasks
        self._break(RpcError(Code.CANCELLED, "the connection was closed"))
        await asyncio.gather(*tasks, return_exceptions=True)

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
                    wake = self._wake = loop.create_future()
                    await wake
                message = self._queue.popleft()
                if not self._queue:
                    self._filling = None
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
                    if entry is not None and not entry[0].done():
                        entry[0].set_result(response)
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
        self._filling = None
        self._wake = None
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        pending = list(self._pending.values())
        self._pending.clear()
        for future, _, _ in pending:
            if not future.done():
                future.set_exception(RpcError(error.code, error.message))

    def _sweep(self) -> None:
        """Fails calls past their deadline; a stream on which nothing came since such a call was sent is given up."""
        loop = asyncio.get_running_loop()
        self._sweeper = None
        now = loop.time()
        late = [call_id for call_id, (_, _, deadline) in self._pending.items() if deadline <= now]
        if any(self._heard_at <= self._pending[call_id][1] for call_id in late):
            self._break(RpcError(Code.DEADLINE_EXCEEDED, "the store does not answer"))
            return
        for call_id in late:
            future = self._pending.pop(call_id)[0]
            if not future.done():
                future.set_exception(RpcError(Code.DEADLINE_EXCEEDED, "the store did not answer in time"))
        if self._pending:
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)
