"""The processes that are measured: placement drivers and stores of a cluster on loopback, and the echo server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from kvstore.client.cluster.cluster import Cluster
from kvstore.rpc.grpc import GrpcTransport
from shell.playground.children import Child
from shell.playground.plan import Plan, make_plan

READY_S = 60.0
STOP_S = 15.0
REPLICAS_S = 60.0
SEED = 20130101


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: processor seconds since its start, bytes of memory now."""

    cpu_s: float
    memory_bytes: int


def usage(pid: int) -> Usage:
    """Reads /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return Usage((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


@dataclass(slots=True)
class Processes:
    """A running cluster."""

    plan: Plan
    children: dict[str, Child]

    @property
    def addresses(self) -> list[str]:
        """The placement drivers'."""
        return [pd.address for pd in self.plan.pds]

    def store_at(self, address: str) -> Child:
        return next(self.children[store.name] for store in self.plan.stores if store.address == address)

    @contextlib.asynccontextmanager
    async def client(self, *, batch: bool = True) -> AsyncIterator[Cluster]:
        """A client of its own connections; over BatchCommands, or one gRPC call a request."""
        transport = GrpcTransport()
        rng = random.Random(SEED)
        cluster = await Cluster.connect(self.addresses, transport=transport, rng=rng, batch_commands=batch)
        try:
            yield cluster
        finally:
            await cluster.close()
            await transport.close()


@contextlib.asynccontextmanager
async def running(stores: int, pds: int = 1) -> AsyncIterator[Processes]:
    """Starts a cluster in a temporary directory and stops it; its first region has a peer on each of up to 3 stores."""
    directory = Path(tempfile.mkdtemp(prefix="sqlfront-bench-cluster-"))
    plan = make_plan(stores, pds, directory, None, _free_ports(2 * (stores + pds)))
    children: dict[str, Child] = {}
    try:
        for members in (plan.pds, plan.stores):
            for member in members:
                command = (sys.executable, "-m", "shell", *member.arguments)
                children[member.name] = await Child.start(member.name, command, directory / f"{member.name}.out")
            await asyncio.gather(*(children[member.name].wait_ready(READY_S) for member in members))
        processes = Processes(plan, children)
        await _replicated(processes, min(stores, 3))
        yield processes
    finally:
        for members in (plan.stores, plan.pds):
            await asyncio.gather(*(children[m.name].stop(STOP_S) for m in members if m.name in children))
        shutil.rmtree(directory, ignore_errors=True)


async def _replicated(processes: Processes, replicas: int) -> None:
    async with processes.client() as cluster, asyncio.timeout(REPLICAS_S):
        while True:
            found = await cluster.pd.get_region(b"")
            if found is not None and len(found[0].peers) == replicas and all(peer.role == 0 for peer in found[0].peers):
                return
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """The echo server's address."""
    directory = Path(tempfile.mkdtemp(prefix="sqlfront-bench-echo-"))
    child = await Child.start("echo", (sys.executable, "-m", "benchmarks.cluster.echo"), directory / "echo.out")
    try:
        await child.wait_ready(READY_S)
        yield child.ready["addr"]
    finally:
        await child.stop(STOP_S)
        shutil.rmtree(directory, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
