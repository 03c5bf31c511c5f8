"""What only gRPC has: TLS with client certificates, the refusal of public addresses, ports that are taken."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from kvstore import failpoint
from kvstore.proto.kvrpcpb_pb2 import RawGetRequest
from kvstore.rpc import health
from kvstore.rpc.api import Call, Code, RpcError
from kvstore.rpc.grpc import BindFailed, GrpcChannel, GrpcServer, GrpcTransport, PublicBindRefused, Tls, is_loopback
from tests.rpc.ends import RAW_GET, TIMEOUT_S, echo, handlers_of

HANDLERS = handlers_of({RAW_GET: echo})


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def authority(directory: Path, name: str) -> Tls:
    """An authority and one certificate for localhost that it signed."""
    ca, ca_key, cert, key = (directory / f"{name}-{part}.pem" for part in ("ca", "ca-key", "cert", "key"))
    request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", str(ca_key), "-out", str(ca), "-days", "2", "-subj", f"/CN={name}")
    openssl("req", *curve, "-keyout", str(key), "-out", str(request), "-subj", "/CN=node")
    sign = ("-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial", "-extfile", str(extensions))
    openssl("x509", "-req", "-in", str(request), *sign, "-days", "2", "-out", str(cert))
    return Tls(ca, cert, key)


def with_server(server: GrpcServer, test: Callable[[str], Awaitable[None]]) -> None:
    async def whole() -> None:
        await server.start()
        try:
            await test(server.address)
        finally:
            await server.stop(0)

    asyncio.run(whole())


async def get(address: str, tls: Tls | None) -> bytes:
    transport = GrpcTransport(tls=tls)
    try:
        answer = await transport.channel(address).unary(RAW_GET, RawGetRequest(key=b"k"), TIMEOUT_S)
        return bytes(answer.value)
    finally:
        await transport.close()


def test_tls_takes_only_clients_with_a_certificate_of_the_authority(tmp_path: Path) -> None:
    ours, theirs = authority(tmp_path, "ours"), authority(tmp_path, "theirs")

    async def test(address: str) -> None:
        assert await get(address, ours) == b"k"
        for wrong in (None, theirs, Tls(ours.ca, theirs.cert, theirs.key)):
            with pytest.raises(RpcError) as info:
                await get(address, wrong)
            assert info.value.code is Code.UNAVAILABLE

    with_server(GrpcServer("127.0.0.1:0", HANDLERS, ours), test)


@pytest.mark.parametrize("address", ["0.0.0.0:1234", "[::]:1234", "192.168.1.7:1", "example.com:80", ":20160"])
def test_public_address_needs_tls(address: str, tmp_path: Path) -> None:
    with pytest.raises(PublicBindRefused, match="without TLS"):
        GrpcServer(address, HANDLERS)
    GrpcServer(address, HANDLERS, Tls(tmp_path, tmp_path, tmp_path))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.0.1:2", "localhost:3", "[::1]:4", "unix:/tmp/socket"])
def test_loopback_addresses(address: str) -> None:
    assert is_loopback(address)


def test_address_in_use() -> None:
    async def test(address: str) -> None:
        with pytest.raises(BindFailed, match=address):
            await GrpcServer(address, HANDLERS).start()

    with_server(GrpcServer("127.0.0.1:0", HANDLERS), test)


async def connects(channel: GrpcChannel) -> bool:
    try:
        await channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S)
    except RpcError:
        return False
    return True


def test_server_that_comes_back_is_found_again() -> None:
    async def whole() -> None:
        transport = GrpcTransport()
        first = GrpcServer("127.0.0.1:0", HANDLERS)
        await first.start()
        channel = transport.channel(first.address)
        await channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S)
        await first.stop(0)
        with pytest.raises(RpcError, match="UNAVAILABLE"):
            await channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S)
        second = GrpcServer(first.address, HANDLERS)
        await second.start()
        async with asyncio.timeout(10):
            while not await connects(channel):
                await asyncio.sleep(0.1)
        await transport.close()
        with pytest.raises(RpcError, match="UNAVAILABLE"):
            transport.channel("127.0.0.1:1")
        await second.stop(0)

    asyncio.run(whole())


def test_an_answer_that_is_lost_was_executed_and_a_call_that_is_not_sent_was_not() -> None:
    executed: list[bytes] = []

    async def note(request: Any, call: Call) -> Any:
        executed.append(request.key)
        return await echo(request, call)

    async def test(address: str) -> None:
        try:
            for point, count in (("rpc::before_answer", 1), ("rpc::before_send", 1)):
                failpoint.configure(point, "1*return")
                with pytest.raises(RpcError, match=point) as caught:
                    await get(address, None)
                assert caught.value.code == Code.UNAVAILABLE
                assert len(executed) == count
            await get(address, None)
        finally:
            failpoint.clear()

    with_server(GrpcServer("127.0.0.1:0", handlers_of({RAW_GET: note})), test)


def test_health_service_answers_for_the_server_and_its_services() -> None:
    method, watch = health.METHODS["Check"], health.METHODS["Watch"]

    async def test(address: str) -> None:
        transport = GrpcTransport()
        channel = transport.channel(address)
        try:
            for service in ("", RAW_GET.path.split("/")[1]):
                answer = await channel.unary(method, health_pb2.HealthCheckRequest(service=service), TIMEOUT_S)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(RpcError) as info:
                await channel.unary(method, health_pb2.HealthCheckRequest(service="not.There"), TIMEOUT_S)
            assert info.value.code is Code.NOT_FOUND
            stream = channel.stream(watch)
            await stream.send(health_pb2.HealthCheckRequest(service="not.There"))
            answer = await asyncio.wait_for(stream.receive(), TIMEOUT_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            stream.cancel()
        finally:
            await transport.close()

    with_server(GrpcServer("127.0.0.1:0", HANDLERS), test)
