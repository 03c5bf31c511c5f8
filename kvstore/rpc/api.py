"""The seam for remote calls: methods taken from service descriptors, channels to call them, handlers to answer them.

Two transports carry it: `grpc` between processes and `memory` inside one, where a simulation decides what is lost, late
or doubled. A unary call that raises `RpcError` may or may not have been executed.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

MESSAGE_BYTES_MAX = 64 << 20
"""The largest message either side takes."""


class Code(enum.IntEnum):
    """gRPC's status codes, those that are used."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call failed below the protocol: the peer is away, too slow, or refused it with a status."""

    def __init__(self, code: Code, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code.name}: {message}")


def internal_error(error: Exception) -> RpcError:
    """What the caller is told of a handler's bug; the log has the traceback."""
    return RpcError(Code.INTERNAL, f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service; `path` is gRPC's `/package.Service/Name`."""

    path: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def methods_of(file: FileDescriptor, service: str) -> dict[str, Method]:
    """The methods of one service of a generated module's DESCRIPTOR, by name."""
    descriptor = file.services_by_name[service]
    return {
        method.name: Method(
            f"/{descriptor.full_name}/{method.name}",
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
            method.client_streaming,
            method.server_streaming,
        )
        for method in descriptor.methods
    }


class Stream(Protocol):
    """One open call of a streaming method, used by one sender and one receiver."""

    async def send(self, message: Any) -> None:
        """Waits while too much is under way; raises RpcError when the stream is broken."""

    async def receive(self) -> Any | None:
        """The next message (for client streams: the one answer), None at the end; raises RpcError."""

    async def done_sending(self) -> None:
        """Tells the peer that nothing more will come."""

    def cancel(self) -> None:
        """Ends the call at once; harmless when it is over."""


class Channel(Protocol):
    """Calls to one address; connects by itself, again and again."""

    async def unary(self, method: Method, request: Any, timeout_s: float) -> Any:
        """One request, one answer; raises RpcError."""

    def stream(self, method: Method) -> Stream: ...


class Transport(Protocol):
    """Makes channels, one an address."""

    def channel(self, address: str) -> Channel: ...

    def forget(self, address: str) -> None:
        """Closes and drops the channel, for an address that is gone."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler may know of the call it answers."""

    peer: str
    """The caller's address, for logs."""


UnaryHandler = Callable[[Any, Call], Awaitable[Any]]
StreamHandler = Callable[[AsyncIterator[Any], Call], AsyncIterator[Any]]
"""For methods with a stream on either side; one that answers once yields once."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a server answers: handlers by method path. RpcError out of a handler goes to the caller as that status."""

    unary: Mapping[str, tuple[Method, UnaryHandler]]
    streams: Mapping[str, tuple[Method, StreamHandler]]


class Server(Protocol):
    """Answers calls at an address until it is stopped."""

    async def start(self) -> None: ...

    async def stop(self, grace_s: float) -> None: ...
