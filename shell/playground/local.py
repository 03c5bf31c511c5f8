"""A cluster of processes on loopback, as an async context manager: started, waited for, and stopped at the end.

    async with LocalCluster(make_plan(3, 1, directory, None, free_ports(8))) as cluster:
        sqlfront.connect(cluster.url())

It is there when every process serves and the first region has a peer on each of up to three stores. SQL servers are
started after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.loop_thread import LoopThread
from kvstore.client.cluster.pd_client import PdClient
from kvstore.proto.metapb_pb2 import PeerRole
from kvstore.rpc.grpc import GrpcTransport
from shell.playground.children import Child, ChildFailed
from shell.playground.plan import Member, Plan, free_ports, make_plan, ports_of

READY_S = 60.0
STOP_GRACE_S = 15.0
REPLICAS_MAX = 3
REPLICATED_S = 60.0
POLL_S = 0.2
PROGRAM = (sys.executable, "-m", "shell")

Settle = Callable[[Plan], Awaitable[None]]
"""Waits until a cluster whose placement drivers and stores serve can lose a store."""


async def replicated(plan: Plan) -> None:
    """Waits until the first region has a voter on each of up to three stores. Raises ChildFailed."""
    wanted = min(len(plan.stores), REPLICAS_MAX)
    transport = GrpcTransport()
    try:
        pd = await PdClient.connect(transport, [one.address for one in plan.pds], rng=random.Random())
        try:
            async with asyncio.timeout(REPLICATED_S):
                while True:
                    found = await pd.get_region(b"")
                    roles = [peer.role for peer in found[0].peers] if found is not None else []
                    if roles == [PeerRole.Voter] * wanted:
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise ChildFailed(f"the cluster has no {wanted} replicas after {REPLICATED_S:g} s") from None
        finally:
            await pd.close()
    finally:
        await transport.close()


async def leaders(pd: PdClient, names: Mapping[str, str]) -> dict[str, int]:
    """How many regions each store leads, as the placement driver knows it; `names` are the stores' by address."""
    named = {store.id: names[store.address] for store in await pd.get_all_stores() if store.address in names}
    led = dict.fromkeys(named.values(), 0)
    for _, leader in await pd.scan_regions(b"", b""):
        if leader is not None and leader.store_id in named:
            led[named[leader.store_id]] += 1
    return led


class LocalCluster:
    """The processes of a plan. What they print goes to `NAME.out` beside their data."""

    def __init__(self, plan: Plan, *, program: Sequence[str] = PROGRAM, settle: Settle = replicated) -> None:
        self.plan = plan
        self.children: dict[str, Child] = {}
        self._program = program
        self._settle = settle

    async def __aenter__(self) -> LocalCluster:
        try:
            # all of a kind are started before the first is waited for
            for members in (self.plan.pds, (*self.plan.stores, *self.plan.columnar)):
                await self._start(members)
            await self._settle(self.plan)
            await self._start(self.plan.servers)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self, members: Sequence[Member]) -> None:
        for one in members:
            output = one.directory.parent / f"{one.name}.out"
            self.children[one.name] = await Child.start(one.name, (*self._program, *one.arguments), output)
        await asyncio.gather(*(self.children[one.name].wait_ready(READY_S) for one in members))

    async def restart(self, name: str) -> None:
        """Starts a member that has ended, and waits until it serves. Raises ChildFailed, OSError."""
        await self.children[name].gone()
        await self._start([one for one in self.plan.members if one.name == name])

    async def stop(self) -> None:
        """Stops each kind before those that it may still need."""
        for members in (self.plan.servers, (*self.plan.stores, *self.plan.columnar), self.plan.pds):
            running = [self.children[one.name] for one in members if one.name in self.children]
            await asyncio.gather(*(child.stop(STOP_GRACE_S) for child in running))

    @property
    def addresses(self) -> list[str]:
        """The placement drivers'."""
        return [pd.address for pd in self.plan.pds]

    def url(self, database: str = "test") -> str:
        """What `sqlfront.connect` takes."""
        return url_of(self.plan, database)

    def store_at(self, address: str) -> Child:
        """The store that others reach at an address."""
        return next(self.children[store.name] for store in self.plan.stores if store.address == address)

    async def leaders(self) -> dict[str, int]:
        """How many regions each store leads, by its name."""
        async with self.client() as cluster:
            return await leaders(cluster.pd, {store.address: store.name for store in self.plan.stores})

    @contextlib.asynccontextmanager
    async def client(self, *, batch: bool = True, seed: int | None = None) -> AsyncIterator[Cluster]:
        """A client of its own connections; over BatchCommands, or one gRPC call a request."""
        transport = GrpcTransport()
        try:
            cluster = await Cluster.connect(
                self.addresses, transport=transport, rng=random.Random(seed), batch_commands=batch
            )
            try:
                yield cluster
            finally:
                await cluster.close()
        finally:
            await transport.close()


def url_of(plan: Plan, database: str = "test") -> str:
    """What `sqlfront.connect` takes for the cluster of a plan."""
    return f"tikv://{plan.pd_addresses}/{database}"


@contextlib.asynccontextmanager
async def temporary_cluster(
    stores: int, pds: int = 1, servers: int = 0, columnar: int = 0
) -> AsyncIterator[LocalCluster]:
    """A cluster on free ports, in a temporary directory that is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="sqlfront-cluster-"))
    try:
        ports = free_ports(ports_of(stores, pds, servers, columnar))
        plan = make_plan(stores, pds, directory, None, ports, servers=servers, columnar=columnar)
        async with LocalCluster(plan) as cluster:
            yield cluster
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def background_cluster(stores: int, pds: int = 1, servers: int = 0, columnar: int = 0) -> Iterator[LocalCluster]:
    """`temporary_cluster` for code that is not in an event loop; the one that watches the processes is on a thread."""
    loop = LoopThread("local-cluster")
    stack = contextlib.AsyncExitStack()
    try:
        yield loop.run(stack.enter_async_context(temporary_cluster(stores, pds, servers, columnar)))
    finally:
        loop.close(stack.aclose())
