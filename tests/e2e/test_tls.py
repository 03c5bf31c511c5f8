"""A cluster whose processes and clients speak TLS with certificates of one authority, and who is kept out of it."""

from __future__ import annotations

import asyncio
import random
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest

from kvstore.client.cluster.cluster import Cluster as Client
from kvstore.client.cluster.pd_client import METHODS
from kvstore.proto import tikvpb_pb2
from kvstore.proto.kvrpcpb_pb2 import RawGetRequest
from kvstore.proto.pdpb_pb2 import GetMembersRequest
from kvstore.rpc.api import methods_of
from kvstore.rpc.grpc import GrpcTransport, Tls
from shell.playground.local import PROGRAM
from shell.playground.plan import HOST, free_ports
from tests.e2e.harness import ROOT, Cluster, run, until
from tests.ops.certificates import Certificates, make_certificates

RAW_GET = methods_of(tikvpb_pb2.DESCRIPTOR, "Tikv")["RawGet"]
BACK_S = 15.0
REFUSED_S = 5.0


def paths(made: Certificates) -> Tls:
    return Tls(Path(made.ca), Path(made.cert), Path(made.key))


def options(made: Certificates) -> list[str]:
    return ["--ca", made.ca, "--cert", made.cert, "--key", made.key]


class SecureCluster(Cluster):
    """A cluster with certificates; its own calls present one as well."""

    def __init__(self, directory: Path, made: Certificates, pds: int, stores: int) -> None:
        super().__init__(directory, pds=pds, stores=stores)
        self.made = made
        self.transport = GrpcTransport(tls=paths(made))

    def _add(self, name: str, kind: str, port: int, status: int, given: Sequence[str], config: str) -> None:
        super()._add(name, kind, port, status, [*given, *options(self.made)], config)


def credentials(ca: str, pair: Certificates | None) -> grpc.ChannelCredentials:
    """Of a client that trusts the cluster, and presents a certificate or none."""
    trusted = Path(ca).read_bytes()
    if pair is None:
        return grpc.ssl_channel_credentials(trusted)
    return grpc.ssl_channel_credentials(trusted, Path(pair.key).read_bytes(), Path(pair.cert).read_bytes())


async def asks(address: str, known: grpc.ChannelCredentials | None) -> bool:
    """Whether anything answers GetMembers and RawGet at the address, with an answer or an error of its own."""
    opened = grpc.aio.insecure_channel(address) if known is None else grpc.aio.secure_channel(address, known)
    async with opened as channel:
        for method, request in ((METHODS["GetMembers"], GetMembersRequest()), (RAW_GET, RawGetRequest(key=b"k"))):
            call = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
            try:
                await call(request, timeout=REFUSED_S)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    return True
            else:
                return True
    return False


async def status_of(address: str, context: ssl.SSLContext | None) -> int:
    scheme = "http" if context is None else "https"
    url = f"{scheme}://{address}/status"
    async with aiohttp.ClientSession() as client, client.get(url, ssl=context or True) as answer:
        return answer.status


def with_tls(
    directory: Path, pds: int, stores: int, body: Callable[[SecureCluster, Certificates], Awaitable[None]]
) -> None:
    async def main() -> None:
        ours = make_certificates(directory / "ours")
        theirs = make_certificates(directory / "theirs")
        cluster = SecureCluster(directory, ours, pds, stores)
        async with cluster:
            await body(cluster, theirs)

    run(main)


@pytest.mark.slow
def test_stores_drivers_and_clients_speak_tls(tmp_path: Path) -> None:
    async def body(cluster: SecureCluster, theirs: Certificates) -> None:
        await cluster.replicated(3, 60)
        rng = random.Random(0)
        async with await Client.connect(cluster.pd_addresses, transport=cluster.transport, rng=rng) as client:
            transaction = await client.begin()
            for number in range(50):
                transaction.put(b"key %d" % number, b"value %d" % number)
            await transaction.commit()
            await cluster.kill(await cluster.pd_leader())
            await cluster.kill("kv1")

            async def writes() -> bool:
                later = await client.begin()
                later.put(b"later", b"x")
                await later.commit()
                return True

            await until(writes, BACK_S + 30, "writes go on without a leader of either kind")
            found = await client.snapshot(await client.now_ts()).batch_get([b"key %d" % n for n in range(50)])
            assert found == {b"key %d" % number: b"value %d" % number for number in range(50)}

    with_tls(tmp_path, 3, 3, body)


@pytest.mark.slow
def test_who_has_no_certificate_of_the_authority_is_kept_out(tmp_path: Path) -> None:
    async def body(cluster: SecureCluster, theirs: Certificates) -> None:
        ours = cluster.made
        trusting = ssl.create_default_context(cafile=ours.ca)
        presenting = ssl.create_default_context(cafile=ours.ca)
        presenting.load_cert_chain(ours.cert, ours.key)
        for name in ("pd1", "kv1"):
            member = cluster.members[name]
            assert await asks(member.address, credentials(ours.ca, ours))
            assert not await asks(member.address, None)
            assert not await asks(member.address, credentials(ours.ca, None))
            assert not await asks(member.address, credentials(ours.ca, theirs))
            assert not await asks(member.address, credentials(theirs.ca, ours))
            assert await status_of(member.status, presenting) == 200
            for context in (trusting, None):
                with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
                    await status_of(member.status, context)

    with_tls(tmp_path, 1, 1, body)


@pytest.mark.slow
@pytest.mark.parametrize("secured", [False, True])
def test_a_store_without_a_certificate_of_the_authority_does_not_join(tmp_path: Path, secured: bool) -> None:
    async def body(cluster: SecureCluster, theirs: Certificates) -> None:
        port, status = free_ports(2)
        where = ["--data", str(tmp_path / "stranger"), "--addr", f"{HOST}:{port}", "--status-addr", f"{HOST}:{status}"]
        asked = [*where, "--pd", cluster.pd_addresses[0], *(options(theirs) if secured else [])]
        stranger = subprocess.Popen(
            [*PROGRAM, "kv", *asked], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            await asyncio.sleep(REFUSED_S)
            assert len(await cluster.pd.get_all_stores()) == 1
        finally:
            stranger.kill()
            said, _ = stranger.communicate()
        assert b"ready" not in said

    with_tls(tmp_path, 1, 1, body)


@pytest.mark.slow
@pytest.mark.parametrize("secured", [False, True])
def test_a_public_address_needs_certificates(tmp_path: Path, secured: bool) -> None:
    made = make_certificates(tmp_path / "ours")
    port, status = free_ports(2)
    where = ["--client-addr", f"0.0.0.0:{port}", "--advertise-client-addr", f"{HOST}:{port}"]
    where += ["--data", str(tmp_path / "d"), "--status-addr", f"0.0.0.0:{status}"]
    serving = subprocess.Popen(
        [*PROGRAM, "pd", *where, *(options(made) if secured else [])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None
        first = serving.stdout.readline()
        if secured:
            assert first.startswith("ready pd")
            assert asyncio.run(asks(f"{HOST}:{port}", credentials(made.ca, made)))
            assert not asyncio.run(asks(f"{HOST}:{port}", None))
        else:
            assert first == ""
    finally:
        serving.terminate()
        _, complaint = serving.communicate(timeout=60)
    if not secured:
        assert serving.returncode == 2
        assert "TLS is not configured" in complaint
        assert not (tmp_path / "d").exists()
