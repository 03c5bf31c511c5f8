"""SQL servers over a simulated cluster: processes of threads, which are killed, stand still, and start again."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from kvstore.client.api import PushDown
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.storage import ClusterStorage
from kvstore.errors import KvError
from kvstore.rpc.api import RpcError
from sqlfront.catalog.model import Schema
from sqlfront.cluster import serve
from sqlfront.database import Database
from tests.sim.machine import Life, Machine
from tests.sim.nemesis import Cluster as Target
from tests.sim.nemesis import Skip
from tests.sim.sql_model import Model
from tests.sim.store_cluster import Shape, StoreCluster
from tests.sim.threads import Crew, SimLoopThread
from tests.sim.world import World

RETRY_S = 0.5
JITTER_S = 0.0005
"""How long a thread that may go on waits for the processor, in the mean."""

Main = Callable[[Crew, Database, int], None]
"""What a server does once it serves: starts threads of its crew. The number is the server's own."""


class PlainStorage(ClusterStorage):
    """A storage that is asked for rows only: its stores evaluate nothing."""

    @property
    def push_down(self) -> PushDown | None:
        return None


class SqlCluster(StoreCluster):
    """Stores and placement drivers as in `StoreCluster`, and `servers` SQL servers; faults hit them all."""

    def __init__(self, world: World, shape: Shape, servers: int, main: Main, model: Model) -> None:
        super().__init__(world, shape)
        self.model = model
        self._main = main
        self.sql_machines = [world.machine(f"sql{n + 1}", self._sql_main(n)) for n in range(servers)]
        self.machines = [*self.machines, *self.sql_machines]
        self.running: dict[str, tuple[Crew, Database]] = {}
        """The servers that serve, or did until they were killed."""

    def _sql_main(self, number: int) -> Callable[[Life], Any]:
        async def main(life: Life) -> None:
            crew = Crew(self.world, life, random.Random(life.rng.random()), JITTER_S)
            crew.start("main", lambda: self._serve(crew, number))

        return main

    def _serve(self, crew: Crew, number: int) -> None:
        while True:
            try:
                database = serve(self._connect(crew), crew, crew.life.rng.getrandbits(62) | 1)
                break
            except (KvError, RpcError):
                crew.sleep(RETRY_S)
        self._watch_commits(database.catalog)
        self.running[crew.life.name] = (crew, database)
        self._main(crew, database, number)

    def _watch_commits(self, catalog: Any) -> None:
        """Has the model told of every commit and every schema version that this server makes."""
        model, make, commit_with = self.model, catalog._make, catalog.commit_with

        def made(txn: Any, before: Schema, after: Schema) -> int:
            commit = txn.commit

            def told(check: Any) -> int:
                ts: int = commit(check)
                revisions = {table.id: table.revision for table in after.table_by_id.values()}
                model.versions[after.version] = (ts, revisions)
                return ts

            txn.commit = told
            return make(txn, before, after)  # type: ignore[no-any-return]

        def committed(used: Mapping[int, int], commit: Callable[[Any], int]) -> int:
            ts: int = commit_with(used, commit)
            model.commits.append((ts, dict(used)))
            return ts

        catalog._make, catalog.commit_with = made, committed

    def _connect(self, crew: Crew) -> ClusterStorage:
        life = crew.life
        loop = SimLoopThread(crew)
        transport = life.transport()
        work = Cluster.connect(self.pd_addresses, transport=transport, rng=life.rng, options=self.shape.options)
        storage = ClusterStorage if self.shape.computes else PlainStorage
        return storage(loop, loop.run(work), transport.close)

    async def start_servers(self) -> None:
        for machine in self.sql_machines:
            await machine.start()

    def servers(self) -> list[tuple[Crew, Database]]:
        """Those that serve now."""
        return [pair for _, pair in sorted(self.running.items()) if not pair[0].has_ended]

    def owner(self) -> Machine | None:
        """The server that changes the schema, if one does."""
        for crew, database in self.servers():
            if database.catalog.lease._depth:  # type: ignore[attr-defined]
                return crew.life.machine
        return None


@contextlib.asynccontextmanager
async def stall(cluster: Target, rng: random.Random) -> AsyncIterator[str]:
    """The threads of a SQL server stand still, wherever they are, as after SIGSTOP; some for longer than a lease."""
    assert isinstance(cluster, SqlCluster)
    servers = cluster.servers()
    if not servers:
        raise Skip
    crew, _ = rng.choice(servers)
    seconds = rng.choice((1.0, 5.0, 12.0, 20.0))
    crew.stalled_until = crew.loop.time() + seconds
    yield f"{crew.life.name} stands still for {seconds} s"


@contextlib.asynccontextmanager
async def stall_owner(cluster: Target, rng: random.Random) -> AsyncIterator[str]:
    """The same for the one that changes the schema."""
    assert isinstance(cluster, SqlCluster)
    owner = cluster.owner()
    if owner is None:
        raise Skip
    crew, _ = cluster.running[owner.name]
    seconds = rng.choice((5.0, 12.0, 20.0))
    crew.stalled_until = crew.loop.time() + seconds
    yield f"{owner.name}, the owner, stands still for {seconds} s"


@contextlib.asynccontextmanager
async def kill_owner(cluster: Target, rng: random.Random) -> AsyncIterator[str]:
    """The server that changes the schema is killed, and another one takes its place."""
    assert isinstance(cluster, SqlCluster)
    owner = cluster.owner()
    if owner is None:
        raise Skip
    owner.crash(power=False)
    try:
        yield f"kill of {owner.name}, the owner"
    finally:
        if not owner.running:
            cluster.restart(owner)


@contextlib.asynccontextmanager
async def kill_server(cluster: Target, rng: random.Random) -> AsyncIterator[str]:
    """A SQL server is killed, and another one takes its place."""
    assert isinstance(cluster, SqlCluster)
    machines: Sequence[Machine] = [machine for machine in cluster.sql_machines if machine.running]
    if not machines:
        raise Skip
    machine = rng.choice(machines)
    machine.crash(power=False)
    try:
        yield f"kill of {machine.name}"
    finally:
        if not machine.running:
            cluster.restart(machine)
