"""A connection of `ctl` to one cluster, and how a command runs in it."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from kvstore.client.cluster.pd_client import PdClient
from kvstore.errors import KvError
from kvstore.ops.net import AddressError, Tls, TlsError, load_tls, parse_address
from kvstore.rpc.api import Method, RpcError, Transport
from kvstore.rpc.grpc import GrpcTransport
from kvstore.rpc.grpc import Tls as GrpcTls
from shell.ctl.report import Format, Report, render

CALL_TIMEOUT_S = 10.0
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


class CtlError(Exception):
    """The command cannot be done; the message says why. Exit code 1."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster is asked, how, and how the answer is printed."""

    pd: str
    format: Format = "table"
    ca: str = ""
    cert: str = ""
    key: str = ""


class Session:
    """Calls to the placement driver, to stores and to status ports of one cluster."""

    def __init__(self, pd: PdClient, transport: Transport, tls: Tls | None) -> None:
        self.pd = pd
        self._transport = transport
        self._tls = tls

    async def call(self, address: str, method: Method, request: Any) -> Any:
        """One call to a process by its gRPC address. Raises RpcError."""
        return await self._transport.channel(address).unary(method, request, CALL_TIMEOUT_S)

    async def admin(self, method: Method, request: Any) -> Any:
        """One call of the administration to the leading placement driver. Raises RpcError, CtlError for a refusal."""
        request.header.cluster_id = self.pd.cluster_id
        answer = await self.call(self.pd.leader, method, request)
        if answer.header.error.type:
            raise CtlError(answer.header.error.message)
        return answer

    async def status(self, address: str, path: str) -> Any:
        """What a status port answers to GET, as JSON. Raises CtlError."""
        scheme, context = ("http", True) if self._tls is None else ("https", self._tls.client_context())
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.get(f"{scheme}://{address}{path}", ssl=context) as answer,
            ):
                text = await answer.text()
                if answer.status != 200:
                    raise CtlError(f"the status port {address} answered {answer.status}: {text.strip()[:200]}")
                return json.loads(text)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CtlError(f"the status port {address} does not answer: {error}") from error


Command = Callable[[Session], Awaitable[Report]]


def run(target: Target, command: Command) -> int:
    """Connects, runs the command, prints what it found; returns the exit code."""
    try:
        addresses = [str(parse_address(part, "--pd")) for part in target.pd.split(",")]
        tls = load_tls(target.ca, target.cert, target.key)
    except (AddressError, TlsError) as error:
        return _fail(str(error), EXIT_USAGE)
    try:
        report = asyncio.run(_in_session(addresses, tls, command))
    except (CtlError, KvError, RpcError) as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return 130
    print(render(report, target.format))
    return EXIT_OK


async def _in_session(addresses: list[str], tls: Tls | None, command: Command) -> Report:
    transport = GrpcTransport(tls=grpc_tls(tls))
    try:
        pd = await PdClient.connect(transport, addresses, rng=random.Random())
        try:
            return await command(Session(pd, transport, tls))
        finally:
            await pd.close()
    finally:
        await transport.close()


def grpc_tls(tls: Tls | None) -> GrpcTls | None:
    """The certificates as the transport takes them."""
    return None if tls is None else GrpcTls(*tls.paths)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"Error: {' '.join(message.split())}\n")
    return code
