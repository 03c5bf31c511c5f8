"""One streaming call over the in-memory network: two pipes, and the task that answers at the server."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError, Message

from kvstore.rpc.api import Call, Code, Method, RpcError, StreamHandler, internal_error

if TYPE_CHECKING:
    from kvstore.rpc.memory import MemoryNetwork, MemoryServer

WINDOW_MESSAGES = 256
"""How many messages of one direction may be under way before the sender waits."""

KEEPALIVE_S = 10.0
"""How often a stream looks whether its two ends still reach each other."""


class Kind(enum.Enum):
    """What a message is part of, and so what its loss means."""

    UNARY = "unary"
    """A request, an answer or the news of an end: lost, the call waits for its timeout."""
    STREAM = "stream"
    """Ordered: lost, nothing more comes and the stream breaks."""
    DATAGRAM = "datagram"
    """On its own."""


class Pipe:
    """One direction of a stream: what was sent and is not received yet, and how it ended for either end."""

    def __init__(
        self, network: MemoryNetwork, source: str, target: str, message: type[Message], datagram: bool
    ) -> None:
        self._network = network
        self._source = source
        self._target = target
        self._message = message
        self._datagram = datagram
        self._on_way: deque[bytes | Callable[[], None]] = deque()
        self._arrived: deque[bytes] = deque()
        self._under_way = 0
        self._last_at = 0.0
        self._no_more_reads = False
        self._no_more_sends = False
        self._read_error: RpcError | None = None
        self._send_error: RpcError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self.lost = False

    async def send(self, message: Any) -> None:
        data = message.SerializeToString()
        self._network.check_size(data)
        while self._under_way >= WINDOW_MESSAGES and not self._no_more_sends:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        if self._no_more_sends:
            raise self._send_error or RpcError(Code.UNAVAILABLE, "the stream is over")
        if self._datagram and self._network.faults is not None:
            for delay_s in self._network.faults.delays(self._source, self._target, Kind.DATAGRAM):
                self._under_way += 1
                self._network.after(delay_s, lambda: self._deliver(data))
        else:
            self._under_way += 1
            self.push(data)

    def push(self, item: bytes | Callable[[], None]) -> None:
        """Sends a message, or an event that happens at the other end, behind everything sent before it."""
        faults = self._network.faults
        if faults is None:
            self._on_way.append(item)
            self._step()
            return
        delays = faults.delays(self._source, self._target, Kind.STREAM)
        if not delays or self.lost:
            # nothing behind a hole is delivered, as in TCP; keepalive will break the stream
            self.lost = True
            return
        now = asyncio.get_running_loop().time()
        self._last_at = max(self._last_at, now + delays[0])
        self._on_way.append(item)
        self._network.after(self._last_at - now, self._step)

    def _step(self) -> None:
        item = self._on_way.popleft()
        if isinstance(item, bytes):
            self._deliver(item)
        else:
            item()

    def _deliver(self, data: bytes) -> None:
        if not self._no_more_reads:
            self._arrived.append(data)
            _wake(self._reader)

    async def receive(self) -> Any | None:
        while not self._arrived:
            if self._no_more_reads:
                if self._read_error is not None:
                    raise self._read_error
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        self._under_way -= 1
        _wake(self._writer)
        try:
            return self._message.FromString(self._arrived.popleft())
        except DecodeError:
            raise RpcError(Code.INTERNAL, "the message cannot be parsed") from None

    def end_sending(self, error: RpcError | None) -> None:
        """Ends the sender's end; it raises from now on."""
        if not self._no_more_sends:
            self._no_more_sends = True
            self._send_error = error
            _wake(self._writer)

    def end_receiving(self, error: RpcError | None) -> None:
        """Ends the receiver's end; what has arrived can still be received, and then comes the end or the error."""
        if not self._no_more_reads:
            self._no_more_reads = True
            self._read_error = error
            _wake(self._reader)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class StreamCall:
    """Both ends of one call."""

    def __init__(self, network: MemoryNetwork, source: str, address: str, method: Method) -> None:
        target = network.machine_at(address)
        datagram = method.path in network.datagrams
        self.address = address
        self.method = method
        self.up = Pipe(network, source, target, method.request, datagram)
        self.down = Pipe(network, target, source, method.response, False)
        self.on_over: Callable[[StreamCall], None] | None = None
        self._network = network
        self._source = source
        self._target = target
        self._task: asyncio.Task[None] | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._over = False

    def open(self) -> None:
        if self._network.faults is not None:
            self._watch()
        self.up.push(self._accept)

    def _watch(self) -> None:
        self._keepalive = self._network.after(KEEPALIVE_S, self._check)

    def _check(self) -> None:
        faults = self._network.faults
        there = faults is None or faults.reachable(self._source, self._target)
        back = faults is None or faults.reachable(self._target, self._source)
        if there and back and not self.up.lost and not self.down.lost:
            self._watch()
            return
        self._abandon()
        self.finish(RpcError(Code.UNAVAILABLE, f"the connection to {self.address} broke"))

    def _accept(self) -> None:
        server = self._network.listening(self.address)
        if self._over:
            return
        if server is None:
            self._tell(RpcError(Code.UNAVAILABLE, f"nobody listens at {self.address}"))
            return
        entry = server.handlers.streams.get(self.method.path)
        if entry is None:
            self._tell(RpcError(Code.UNIMPLEMENTED, f"{self.method.path} is not implemented"))
            return
        self._task = server.spawn(self, self._serve(entry[1], server))

    async def _serve(self, handler: StreamHandler, server: MemoryServer) -> None:
        answers = handler(self._requests(), Call(self._source))
        try:
            async for answer in answers:
                await self.down.send(answer)
            self._tell(None)
        except RpcError as error:
            self._tell(error)
        except Exception as error:  # noqa: BLE001 the edge of the process, as for unary calls
            self._network.on_bug(self.method.path, error)
            self._tell(internal_error(error))
        finally:
            if isinstance(answers, AsyncGenerator):
                await answers.aclose()

    async def _requests(self) -> AsyncIterator[Any]:
        while (request := await self.up.receive()) is not None:
            yield request

    def _tell(self, error: RpcError | None) -> None:
        """The server's end is over; the client learns it behind what was sent to it."""
        self.down.push(lambda: self.finish(error))

    def finish(self, error: RpcError | None) -> None:
        """The call is over for the client."""
        if self._over:
            return
        self._over = True
        if self._keepalive is not None:
            self._keepalive.cancel()
        self.up.end_sending(error)
        self.down.end_receiving(error)
        if self.on_over is not None:
            self.on_over(self)

    def cancel(self) -> None:
        if self._over:
            return
        self.finish(RpcError(Code.CANCELLED, "the stream was cancelled"))
        if not self._network.carry(self._source, self._target, self._abandon):
            self._network.after(KEEPALIVE_S, self._abandon)

    def _abandon(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def server_gone(self, machine: str) -> None:
        self._abandon()
        gone = RpcError(Code.UNAVAILABLE, f"{self.address} went away")
        if not self._network.carry(machine, self._source, lambda: self.finish(gone)):
            self.down.lost = True


class MemoryStream:
    """See `api.Stream`; the client's end."""

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._done_sending = False

    async def send(self, message: Any) -> None:
        await self._call.up.send(message)
        if not self._call.method.client_streaming:
            await self.done_sending()

    async def receive(self) -> Any | None:
        return await self._call.down.receive()

    async def done_sending(self) -> None:
        if not self._done_sending:
            self._done_sending = True
            self._call.up.end_sending(None)
            self._call.up.push(lambda: self._call.up.end_receiving(None))

    def cancel(self) -> None:
        self._call.cancel()
