"""Remote calls within one event loop: an in-memory network between named machines, whose faults are a parameter.

Every message is serialised and parsed on its way, so the ends share nothing. Without `Faults` a message arrives at
once; with them it is late, lost, doubled or out of order as they decide, and what the caller sees is what gRPC shows: a
lost request or answer ends at the call's timeout, a stream that lost something breaks when keepalive notices, nobody
listening is UNAVAILABLE. A handler whose caller went away is cancelled. Only the streams named as datagrams (Raft's,
whose users expect nothing else) lose, double and reorder single messages.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from kvstore.rpc.api import MESSAGE_BYTES_MAX, Call, Code, Handlers, Method, RpcError, internal_error
from kvstore.rpc.memory_stream import KEEPALIVE_S as KEEPALIVE_S
from kvstore.rpc.memory_stream import Kind as Kind
from kvstore.rpc.memory_stream import MemoryStream, StreamCall

DATAGRAM_STREAMS = frozenset({"/tikvpb.Tikv/Raft", "/tikvpb.Tikv/BatchRaft"})

_log = logging.getLogger(__name__)


class Faults(Protocol):
    """What happens to messages between two machines."""

    def delays(self, source: str, target: str, kind: Kind) -> Sequence[float]:
        """After how many seconds copies of a message sent now arrive: none when it is lost. More than one count only
        for datagrams."""

    def reachable(self, source: str, target: str) -> bool:
        """Whether the link carries anything now; keepalive asks in both directions."""


class MemoryNetwork:
    """The wires: who listens where, and how messages travel. Made inside or outside a running loop."""

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        datagrams: frozenset[str] = DATAGRAM_STREAMS,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
        on_bug: Callable[[str, Exception], None] | None = None,
    ) -> None:
        """`on_bug` is told, in place of the log, of the method whose handler raised something that is no RpcError."""
        self.faults = faults
        self.on_bug = on_bug or log_bug
        self.datagrams = datagrams
        self.message_bytes_max = message_bytes_max
        self._servers: dict[str, MemoryServer] = {}
        self._machines: dict[str, str] = {}
        # messages under way are nobody's: they arrive though their sender died
        self.context = contextvars.copy_context()

    def transport(self, machine: str) -> MemoryTransport:
        """A client end on `machine`."""
        return MemoryTransport(self, machine)

    def server(self, address: str, handlers: Handlers, machine: str | None = None) -> MemoryServer:
        """A server end at `address`, on the machine of that name unless told otherwise."""
        return MemoryServer(self, address, handlers, machine if machine is not None else address)

    def listen(self, server: MemoryServer) -> None:
        """Raises OSError when the address is taken."""
        if server.address in self._servers:
            raise OSError(f"address {server.address} is in use")
        self._servers[server.address] = server
        self._machines[server.address] = server.machine

    def unlisten(self, server: MemoryServer) -> None:
        if self._servers.get(server.address) is server:
            del self._servers[server.address]

    def listening(self, address: str) -> MemoryServer | None:
        return self._servers.get(address)

    def machine_at(self, address: str) -> str:
        """The machine that listens at the address, or did last."""
        return self._machines.get(address, address)

    def carry(self, source: str, target: str, arrive: Callable[[], None]) -> bool:
        """Runs `arrive` when the message is there, at once without faults; False when it is lost."""
        if self.faults is None:
            arrive()
            return True
        delays = self.faults.delays(source, target, Kind.UNARY)
        if not delays:
            return False
        self.after(delays[0], arrive)
        return True

    def after(self, delay_s: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, action, context=self.context)

    def check_size(self, data: bytes) -> None:
        if len(data) > self.message_bytes_max:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"message of {len(data)} bytes is over {self.message_bytes_max}")


class UnaryCall:
    """One request on its way, and its answer."""

    __slots__ = ("_deadline", "_method", "_network", "_source", "_target", "_task", "address", "data", "outcome")

    def __init__(self, network: MemoryNetwork, source: str, address: str, method: Method, data: bytes) -> None:
        self._network = network
        self._source = source
        self._target = network.machine_at(address)
        self._method = method
        self._task: asyncio.Task[None] | None = None
        self.address = address
        self.data = data
        self.outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def run(self, timeout_s: float) -> bytes:
        deadline = self._network.after(timeout_s, self._expire)
        try:
            self._network.carry(self._source, self._target, self._arrive)
            return await self.outcome
        finally:
            deadline.cancel()
            if self.outcome.cancelled():
                self._network.carry(self._source, self._target, self._abandon)

    def _expire(self) -> None:
        self.settle(RpcError(Code.DEADLINE_EXCEEDED, f"{self._method.path} at {self.address}"))
        self._abandon()

    def _abandon(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _arrive(self) -> None:
        if self.outcome.done():
            return
        server = self._network.listening(self.address)
        if server is None:
            self._reply(self._target, RpcError(Code.UNAVAILABLE, f"nobody listens at {self.address}"))
            return
        self._task = server.spawn(self, self._serve(server))

    async def _serve(self, server: MemoryServer) -> None:
        self._reply(server.machine, await self._answer(server))

    async def _answer(self, server: MemoryServer) -> bytes | RpcError:
        entry = server.handlers.unary.get(self._method.path)
        if entry is None:
            return RpcError(Code.UNIMPLEMENTED, f"{self._method.path} is not implemented")
        method, handler = entry
        try:
            request = method.request.FromString(self.data)
        except DecodeError:
            return RpcError(Code.INTERNAL, "the request cannot be parsed")
        try:
            answer = (await handler(request, Call(self._source))).SerializeToString()
            self._network.check_size(answer)
        except RpcError as error:
            return error
        except Exception as error:  # noqa: BLE001 the edge of the process: the caller gets a status, the log the rest
            self._network.on_bug(self._method.path, error)
            return internal_error(error)
        return bytes(answer)

    def _reply(self, machine: str, result: bytes | RpcError) -> None:
        self._network.carry(machine, self._source, partial(self.settle, result))

    def settle(self, result: bytes | RpcError) -> None:
        """Ends the call for the caller; what comes later is ignored."""
        if self.outcome.done():
            return
        if isinstance(result, RpcError):
            self.outcome.set_exception(result)
        else:
            self.outcome.set_result(result)

    def server_gone(self, machine: str) -> None:
        self._abandon()
        self._reply(machine, RpcError(Code.UNAVAILABLE, f"{self.address} went away"))


def log_bug(path: str, error: Exception) -> None:
    _log.error("handler of %s failed", path, exc_info=error)


class MemoryChannel:
    """See `api.Channel`."""

    def __init__(self, transport: MemoryTransport, address: str) -> None:
        self._transport = transport
        self._address = address

    async def unary(self, method: Method, request: Any, timeout_s: float) -> Any:
        transport = self._transport
        network = transport.network
        transport.check_open()
        data = request.SerializeToString()
        network.check_size(data)
        call = UnaryCall(network, transport.machine, self._address, method, data)
        transport.unary_calls[call] = None
        try:
            return method.response.FromString(await call.run(timeout_s))
        finally:
            del transport.unary_calls[call]

    def stream(self, method: Method) -> MemoryStream:
        transport = self._transport
        transport.check_open()
        call = StreamCall(transport.network, transport.machine, self._address, method)
        transport.stream_calls[call] = None
        call.on_over = transport.stream_over
        call.open()
        return MemoryStream(call)


class MemoryTransport:
    """See `api.Transport`; the client end on one machine."""

    def __init__(self, network: MemoryNetwork, machine: str) -> None:
        self.network = network
        self.machine = machine
        self.unary_calls: dict[UnaryCall, None] = {}
        self.stream_calls: dict[StreamCall, None] = {}
        self._channels: dict[str, MemoryChannel] = {}
        self._closed = False

    def channel(self, address: str) -> MemoryChannel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = MemoryChannel(self, address)
        return channel

    def forget(self, address: str) -> None:
        self._channels.pop(address, None)
        self._end_calls(address)

    async def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """Ends every call at once and refuses new ones."""
        self._closed = True
        self._end_calls(None)

    def check_open(self) -> None:
        if self._closed:
            raise RpcError(Code.UNAVAILABLE, f"the transport of {self.machine} is closed")

    def stream_over(self, call: StreamCall) -> None:
        self.stream_calls.pop(call, None)

    def _end_calls(self, address: str | None) -> None:
        for unary in list(self.unary_calls):
            if address is None or unary.address == address:
                unary.settle(RpcError(Code.CANCELLED, f"the channel to {unary.address} was closed"))
        for stream in list(self.stream_calls):
            if address is None or stream.address == address:
                stream.cancel()


class MemoryServer:
    """See `api.Server`. Handlers run as tasks in the context in which the server was started."""

    def __init__(self, network: MemoryNetwork, address: str, handlers: Handlers, machine: str) -> None:
        self.address = address
        self.handlers = handlers
        self.machine = machine
        self._network = network
        self._context = contextvars.copy_context()
        self._calls: dict[asyncio.Task[None], UnaryCall | StreamCall] = {}

    async def start(self) -> None:
        self._context = contextvars.copy_context()
        self._network.listen(self)

    async def stop(self, grace_s: float) -> None:
        self._network.unlisten(self)
        if self._calls and grace_s > 0:
            await asyncio.wait(list(self._calls), timeout=grace_s)
        self.crash()

    def crash(self) -> None:
        """Ends at once: callers see the connection break."""
        self._network.unlisten(self)
        for call in list(self._calls.values()):
            call.server_gone(self.machine)

    def spawn(self, call: UnaryCall | StreamCall, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        self._calls[task] = call
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._calls[task]
