"""One client end and one server end over each transport, for tests that run over both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from kvstore.proto import tikvpb_pb2
from kvstore.proto.kvrpcpb_pb2 import RawGetRequest, RawGetResponse
from kvstore.proto.tikvpb_pb2 import BatchCommandsEmptyRequest
from kvstore.rpc.api import Call, Channel, Handlers, Method, Server, StreamHandler, Transport, UnaryHandler, methods_of
from kvstore.rpc.grpc import GrpcOptions, GrpcServer, GrpcTransport
from kvstore.rpc.memory import MemoryNetwork, MemoryServer

TIKV = methods_of(tikvpb_pb2.DESCRIPTOR, "Tikv")
RAW_GET = TIKV["RawGet"]
BATCH = TIKV["BatchCommands"]
SNAPSHOT = TIKV["Snapshot"]
STREAM = TIKV["BatchCoprocessor"]
TIMEOUT_S = 10.0
SMALL_BYTES_MAX = 1 << 20


class Ends(Protocol):
    """A place where servers can be started and called."""

    transport: Transport

    def serve(
        self, unary: dict[Method, UnaryHandler] | None = None, streams: dict[Method, StreamHandler] | None = None
    ) -> contextlib.AbstractAsyncContextManager[tuple[Channel, Server]]: ...

    def channel(self, server: Server) -> Channel: ...

    def forget(self, server: Server) -> None: ...

    def nobody(self) -> Channel:
        """A channel to an address at which nobody listens."""


def handlers_of(
    unary: dict[Method, UnaryHandler] | None = None, streams: dict[Method, StreamHandler] | None = None
) -> Handlers:
    return Handlers(
        {method.path: (method, handler) for method, handler in (unary or {}).items()},
        {method.path: (method, handler) for method, handler in (streams or {}).items()},
    )


def address_of(server: Server) -> str:
    assert isinstance(server, MemoryServer | GrpcServer)
    return server.address


class MemoryEnds:
    def __init__(self) -> None:
        self.network = MemoryNetwork(message_bytes_max=SMALL_BYTES_MAX)
        self.transport: Transport = self.network.transport("client")

    @contextlib.asynccontextmanager
    async def serve(
        self, unary: dict[Method, UnaryHandler] | None = None, streams: dict[Method, StreamHandler] | None = None
    ) -> AsyncIterator[tuple[Channel, Server]]:
        server = self.network.server("server", handlers_of(unary, streams))
        await server.start()
        try:
            yield self.transport.channel("server"), server
        finally:
            await server.stop(0)

    def channel(self, server: Server) -> Channel:
        return self.transport.channel(address_of(server))

    def forget(self, server: Server) -> None:
        self.transport.forget(address_of(server))

    def nobody(self) -> Channel:
        return self.transport.channel("nowhere")


class GrpcEnds:
    def __init__(self) -> None:
        self.options = GrpcOptions(message_bytes_max=SMALL_BYTES_MAX)
        self.transport: Transport = GrpcTransport(self.options)

    @contextlib.asynccontextmanager
    async def serve(
        self, unary: dict[Method, UnaryHandler] | None = None, streams: dict[Method, StreamHandler] | None = None
    ) -> AsyncIterator[tuple[Channel, Server]]:
        server = GrpcServer("127.0.0.1:0", handlers_of(unary, streams), options=self.options)
        await server.start()
        try:
            yield self.transport.channel(server.address), server
        finally:
            await server.stop(0)

    def channel(self, server: Server) -> Channel:
        return self.transport.channel(address_of(server))

    def forget(self, server: Server) -> None:
        self.transport.forget(address_of(server))

    def nobody(self) -> Channel:
        return self.transport.channel("127.0.0.1:1")


KINDS: dict[str, Callable[[], Ends]] = {"memory": MemoryEnds, "grpc": GrpcEnds}


def run(kind: str, test: Callable[[Ends], Awaitable[None]]) -> None:
    """Runs a test over one of the transports."""

    async def whole() -> None:
        ends = KINDS[kind]()
        try:
            async with asyncio.timeout(60):
                await test(ends)
        finally:
            await ends.transport.close()

    asyncio.run(whole())


async def echo(request: RawGetRequest, call: Call) -> RawGetResponse:
    return RawGetResponse(value=request.key)


async def echo_batch(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    """Answers each batch with its request ids."""
    async for request in requests:
        yield tikvpb_pb2.BatchCommandsResponse(request_ids=request.request_ids)


def ids(*numbers: int) -> tikvpb_pb2.BatchCommandsRequest:
    return tikvpb_pb2.BatchCommandsRequest(
        requests=[tikvpb_pb2.BatchCommandsRequest.Request(Empty=BatchCommandsEmptyRequest()) for _ in numbers],
        request_ids=numbers,
    )


def answered(*numbers: int) -> tikvpb_pb2.BatchCommandsResponse:
    return tikvpb_pb2.BatchCommandsResponse(request_ids=numbers)
