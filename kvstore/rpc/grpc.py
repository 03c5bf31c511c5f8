"""Remote calls over gRPC (grpc.aio): generic handlers and callables made from `Method`, no generated stubs."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from kvstore.failpoint import fail_point_async
from kvstore.rpc.api import (
    MESSAGE_BYTES_MAX,
    Call,
    Code,
    Handlers,
    Method,
    RpcError,
    StreamHandler,
    UnaryHandler,
    internal_error,
)
from kvstore.rpc.health import health_handlers

_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
_log = logging.getLogger(__name__)
_CODES = {code.value: code for code in Code}
_STATUS: dict[Code, grpc.StatusCode] = {_CODES[s.value[0]]: s for s in grpc.StatusCode if s.value[0] in _CODES}


class PublicBindRefused(ValueError):
    """A server without TLS was told to listen where other machines reach it."""


class BindFailed(OSError):
    """The address is in use, not this machine's, or not an address."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: who signs the peers' certificates, our certificate (for both roles), its key."""

    ca: Path
    cert: Path
    key: Path

    def server_credentials(self) -> grpc.ServerCredentials:
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_credentials([pair], self.ca.read_bytes(), require_client_auth=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes())


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Limits and times of either end."""

    message_bytes_max: int = MESSAGE_BYTES_MAX
    keepalive_ms: int = 10_000
    """A connection that carries calls is probed after so long without a byte."""
    keepalive_timeout_ms: int = 3_000
    """It is dropped when the probe is not answered in that time."""
    reconnect_min_ms: int = 100
    reconnect_max_ms: int = 400
    """The pause between attempts to connect grows from the one to the other. Until the next attempt all calls fail, so
    a peer that is back stays away for so long."""

    def _common(self) -> list[tuple[str, int]]:
        return [
            ("grpc.max_receive_message_length", self.message_bytes_max),
            ("grpc.max_send_message_length", self.message_bytes_max),
            ("grpc.keepalive_time_ms", self.keepalive_ms),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms),
            ("grpc.http2.max_pings_without_data", 0),
        ]

    def for_channel(self) -> list[tuple[str, int]]:
        return [
            *self._common(),
            ("grpc.initial_reconnect_backoff_ms", self.reconnect_min_ms),
            ("grpc.min_reconnect_backoff_ms", self.reconnect_min_ms),
            ("grpc.max_reconnect_backoff_ms", self.reconnect_max_ms),
            ("grpc.enable_http_proxy", 0),
            # a channel that was forgotten must not live on in a shared connection
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]

    def for_server(self) -> list[tuple[str, int]]:
        return [
            *self._common(),
            ("grpc.so_reuseport", 0),
            # clients of ours and of TiKV probe often
            ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
            ("grpc.http2.max_ping_strikes", 0),
        ]


def _error_of(error: grpc.RpcError) -> RpcError:
    assert isinstance(error, grpc.aio.AioRpcError)
    return RpcError(_CODES.get(error.code().value[0], Code.UNKNOWN), error.details() or "")


def _cancelled_by_caller() -> bool:
    """Whether a CancelledError is the task's own, and not that of a call whose channel was closed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class GrpcStream:
    """See `api.Stream`."""

    def __init__(self, call: Any, method: Method) -> None:
        self._call = call
        self._method = method
        self._sending_over = False

    async def send(self, message: Any) -> None:
        try:
            await self._call.write(message)
        except grpc.RpcError as error:
            raise _error_of(error) from None
        except asyncio.InvalidStateError:
            raise await self._ended() from None
        except asyncio.CancelledError:
            if _cancelled_by_caller():
                raise
            raise RpcError(Code.CANCELLED, "the stream was cancelled") from None
        if not self._method.client_streaming:
            await self.done_sending()

    async def _ended(self) -> RpcError:
        """Why nothing can be sent any more."""
        if self._sending_over or not self._call.done():
            return RpcError(Code.UNAVAILABLE, "the stream is over")
        status = _CODES.get((await self._call.code()).value[0])
        if status is None:
            return RpcError(Code.UNAVAILABLE, "the stream is over")
        return RpcError(status, await self._call.details() or "")

    async def receive(self) -> Any | None:
        try:
            message = await self._call.read()
        except grpc.RpcError as error:
            raise _error_of(error) from None
        except asyncio.CancelledError:
            if _cancelled_by_caller():
                raise
            raise RpcError(Code.CANCELLED, "the stream was cancelled") from None
        return None if message is _EOF else message

    async def done_sending(self) -> None:
        if self._sending_over:
            return
        self._sending_over = True
        try:
            await self._call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # it is over already, which the receiver learns

    def cancel(self) -> None:
        self._call.cancel()


class GrpcChannel:
    """See `api.Channel`. Calls fail at once while the peer is away, and it is tried again behind them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._unary: dict[str, Callable[..., Awaitable[Any]]] = {}
        self._streams: dict[str, Any] = {}

    async def unary(self, method: Method, request: Any, timeout_s: float) -> Any:
        if await fail_point_async("rpc::before_send") is not None:
            raise RpcError(Code.UNAVAILABLE, "failpoint rpc::before_send")
        call = self._unary.get(method.path)
        if call is None:
            call = self._unary[method.path] = self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        try:
            return await call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _error_of(error) from None
        except asyncio.CancelledError:
            if _cancelled_by_caller():
                raise
            raise RpcError(Code.CANCELLED, "the channel was closed") from None
        except grpc.aio.UsageError as error:
            raise RpcError(Code.UNAVAILABLE, str(error)) from None

    def stream(self, method: Method) -> GrpcStream:
        make: Any = self._streams.get(method.path)
        if make is None:
            # on the wire every kind of stream is this one
            make = self._streams[method.path] = self._channel.stream_stream(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        try:
            return GrpcStream(make(), method)
        except grpc.aio.UsageError as error:
            raise RpcError(Code.UNAVAILABLE, str(error)) from None

    async def close(self) -> None:
        await self._channel.close(None)


class GrpcTransport:
    """See `api.Transport`."""

    def __init__(self, options: GrpcOptions | None = None, tls: Tls | None = None) -> None:
        self._options = (options or GrpcOptions()).for_channel()
        self._credentials = tls.channel_credentials() if tls is not None else None
        self._channels: dict[str, GrpcChannel] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def channel(self, address: str) -> GrpcChannel:
        channel = self._channels.get(address)
        if channel is None:
            if self._closed:
                raise RpcError(Code.UNAVAILABLE, "the transport is closed")
            channel = self._channels[address] = GrpcChannel(self._open(address))
        return channel

    def _open(self, address: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=self._options)
        return grpc.aio.secure_channel(address, self._credentials, options=self._options)

    def forget(self, address: str) -> None:
        channel = self._channels.pop(address, None)
        if channel is not None:
            task = asyncio.get_running_loop().create_task(channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        self._closed = True
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close() for channel in channels.values()), *self._closing)


def _unary_behaviour(path: str, handler: UnaryHandler) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            reply = await handler(request, Call(context.peer()))
            if await fail_point_async("rpc::before_answer") is None:
                return reply
            failure = RpcError(Code.UNAVAILABLE, "failpoint rpc::before_answer")
        except RpcError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 the edge of the process: the caller gets a status, the log the rest
            _log.exception("handler of %s failed", path)
            failure = internal_error(error)
        return await context.abort(_STATUS[failure.code], failure.message)

    return answer


def _stream_behaviour(path: str, handler: StreamHandler) -> Callable[[AsyncIterator[Any], Any], AsyncIterator[Any]]:
    async def answers(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        messages = handler(requests, Call(context.peer()))
        try:
            async for message in messages:
                yield message
            return
        except RpcError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 the edge of the process, as for unary calls
            _log.exception("handler of %s failed", path)
            failure = internal_error(error)
        finally:
            if isinstance(messages, AsyncGenerator):
                await messages.aclose()
        await context.abort(_STATUS[failure.code], failure.message)

    return answers


class _Generic(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds the handler of a path; gRPC answers UNIMPLEMENTED for what is not there."""

    def __init__(self, handlers: Handlers) -> None:
        health = health_handlers([*handlers.unary, *handlers.streams])
        self._by_path: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for path, (method, unary) in {**health.unary, **handlers.unary}.items():
            self._by_path[path] = grpc.unary_unary_rpc_method_handler(
                _unary_behaviour(path, unary),
                request_deserializer=method.request.FromString,
                response_serializer=method.response.SerializeToString,
            )
        for path, (method, stream) in {**health.streams, **handlers.streams}.items():
            self._by_path[path] = grpc.stream_stream_rpc_method_handler(
                _stream_behaviour(path, stream),
                request_deserializer=method.request.FromString,
                response_serializer=method.response.SerializeToString,
            )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._by_path.get(handler_call_details.method)


class GrpcServer:
    """See `api.Server`. `address` is `host:port`; for port 0 it holds the chosen one after `start`."""

    def __init__(
        self, address: str, handlers: Handlers, tls: Tls | None = None, options: GrpcOptions | None = None
    ) -> None:
        """Raises PublicBindRefused."""
        if tls is None and not is_loopback(address):
            raise PublicBindRefused(
                f"refusing to listen on {address} without TLS, because others reach it: configure ca, cert and key, "
                "or listen on 127.0.0.1"
            )
        self.address = address
        self._handlers = handlers
        self._tls = tls
        self._options = (options or GrpcOptions()).for_server()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Raises BindFailed."""
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers((_Generic(self._handlers),))
        try:
            if self._tls is None:
                port = server.add_insecure_port(self.address)
            else:
                port = server.add_secure_port(self.address, self._tls.server_credentials())
        except RuntimeError as error:
            raise BindFailed(f"cannot listen on {self.address}: {error}") from None
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await server.start()
        self._server = server

    async def stop(self, grace_s: float) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches `host:port`; a name other than localhost counts as public."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
