"""The distributed store over gRPC on loopback, everything on one machine.

- `echo`: a plain grpc.aio server that answers with the request, the measure of what Python's gRPC can do
- `raw_put_1`, `raw_put_3`: durable raw puts of 100 bytes to one store, and to three with three replicas; `_unary` one
  gRPC call each, without it over BatchCommands, the client's default
- `get_1`: transactional reads of single keys at one timestamp
- `tso`: timestamps
- `raw_put_N_regions`: raw puts spread over so many regions of one store
- `idle_cpu`, `idle_memory`: a store with 1,000 regions to which nobody speaks
- `failover`: from the kill -9 of the store that leads the only region until a put succeeds again, in election timeouts
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.cluster.processes import echo_server, usage
from benchmarks.cluster.work import KEYS, Echo, Operation, fill, get, rate, raw_put, timestamp
from benchmarks.engines import OURS
from benchmarks.measure import Measurement
from kvstore.client.cluster.cluster import Cluster
from kvstore.errors import KvError
from kvstore.raftstore.config import StoreConfig
from shell.playground.local import LocalCluster, temporary_cluster

IN_FLIGHT = (1, 8, 32, 64)
REGIONS = (1, 100, 1000)
IDLE_REGIONS = 1000
IDLE_SETTLE_S = 20.0
IDLE_S = 20.0
GET_KEYS = 1000
SEED = 20130101
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How long each rate is taken, how often, and how large the idle store is."""

    seconds: float = 2.0
    rounds: int = 3
    regions: tuple[int, ...] = REGIONS
    idle_regions: int = IDLE_REGIONS
    idle_seconds: float = IDLE_S
    kills: int = 3


@dataclass(slots=True)
class ClusterBench:
    """One run of the suite."""

    settings: ClusterSettings
    say: Callable[[str], None]
    measurements: list[Measurement] = field(default_factory=list)

    async def run(self) -> list[Measurement]:
        for _ in range(self.settings.rounds):
            async with echo_server() as address:
                await self._echo(address)
                async with temporary_cluster(1) as processes:
                    await self._puts(processes, "raw_put_1")
                    await self._gets(processes)
            async with temporary_cluster(3) as processes:
                await self._puts(processes, "raw_put_3")
        for regions in self.settings.regions:
            await self._regions(regions)
        await self._idle()
        await self._failover()
        return self.measurements

    def _add(self, work: str, in_flight: int, unit: str, value: float) -> None:
        for known in self.measurements:
            if (known.work, known.threads) == (work, in_flight):
                known.values.append(value)
                return
        self.measurements.append(Measurement(work, OURS, in_flight, 1.0, unit, [value]))

    async def _rates(self, work: str, operation: Operation) -> None:
        for in_flight in IN_FLIGHT:
            self.say(f"{work}, {in_flight} in flight")
            self._add(work, in_flight, "per_s", await rate(operation, in_flight, self.settings.seconds))

    async def _echo(self, address: str) -> None:
        echo = Echo(address)
        await self._rates("echo", echo.unary)
        await echo.close()

    async def _puts(self, processes: LocalCluster, work: str) -> None:
        for batch, name in ((False, f"{work}_unary"), (True, work)):
            async with processes.client(batch=batch, seed=SEED) as cluster:
                await self._rates(name, raw_put(cluster))

    async def _gets(self, processes: LocalCluster) -> None:
        async with processes.client(seed=SEED) as cluster:
            ts = await fill(cluster, GET_KEYS)
            await self._rates("get_1", get(cluster, ts, GET_KEYS))
            await self._rates("tso", timestamp(cluster))
        async with processes.client(batch=False, seed=SEED) as cluster:
            await self._rates("get_1_unary", get(cluster, ts, GET_KEYS))

    async def _regions(self, count: int) -> None:
        async with temporary_cluster(1) as processes, processes.client(seed=SEED) as cluster:
            await split_raw(cluster, count)
            self.say(f"raw puts over {count} regions")
            put = raw_put(cluster)
            for in_flight in (1, 64):
                value = await rate(put, in_flight, self.settings.seconds)
                self._add(f"raw_put_{count}_regions", in_flight, "per_s", value)

    async def _idle(self) -> None:
        async with temporary_cluster(1) as processes:
            async with processes.client(seed=SEED) as cluster:
                await split_raw(cluster, self.settings.idle_regions)
            store = processes.children[processes.plan.stores[0].name]
            self.say(f"an idle store with {self.settings.idle_regions} regions")
            await asyncio.sleep(min(IDLE_SETTLE_S, self.settings.idle_seconds))
            before = usage(store.pid)
            await asyncio.sleep(self.settings.idle_seconds)
            after = usage(store.pid)
        self._add("idle_cpu", 0, "% of a core", 100 * (after.cpu_s - before.cpu_s) / self.settings.idle_seconds)
        self._add("idle_memory", 0, "MiB", after.memory_bytes / MIB)

    async def _failover(self) -> None:
        config = StoreConfig()
        timeout_s = config.election_ticks * config.tick_s
        for _ in range(self.settings.kills):
            self.say("the leading store is killed")
            async with temporary_cluster(3) as processes, processes.client(seed=SEED) as cluster:
                await cluster.raw.put(b"k", b"v")
                found = await cluster.pd.get_region(b"k")
                assert found is not None
                assert found[1] is not None
                leader = await cluster.pd.get_store(found[1].store_id)
                child = processes.store_at(leader.address)
                child.send(signal.SIGKILL)
                took = await _until(lambda: cluster.raw.put(b"k", b"w"))
            self._add("failover", 0, "election timeouts", took / timeout_s)


async def split_raw(cluster: Cluster, count: int) -> None:
    """Makes so many regions of about as many of the benchmark's keys each."""
    await cluster.raw.split([b"k%08d" % (number * KEYS // count) for number in range(1, count)])


async def _until(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds until the work succeeds."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while True:
        with contextlib.suppress(KvError):
            await work()
            return loop.time() - start


def run(settings: ClusterSettings, say: Callable[[str], None]) -> list[Measurement]:
    """Runs the suite."""
    return asyncio.run(ClusterBench(settings, say).run())


def verdicts(results: list[Measurement]) -> list[list[str]]:
    """What was wanted of each work, and what came of it."""
    at = {(m.work, m.threads): m.value for m in results}
    echo = at["echo", 32]
    rows = [["work", "wanted", "got"]]

    def row(work: str, wanted: str, got: float) -> None:
        rows.append([work, wanted, f"{got:,.2f}" if got < 100 else f"{got:,.0f}"])

    row("raw put, 1 replica, unary, 32 in flight ÷ echo", "≥ 0.5", at["raw_put_1_unary", 32] / echo)
    row("raw put, 1 replica, BatchCommands, 32 in flight ÷ echo", "≥ 0.5", at["raw_put_1", 32] / echo)
    row("raw put, 3 replicas, unary, 64 in flight, /s", "≥ 1,200", at["raw_put_3_unary", 64])
    row("raw put, 3 replicas, BatchCommands, 64 in flight, /s", "≥ 8,000", at["raw_put_3", 64])
    row("the same ÷ one in flight", "≥ 20", at["raw_put_3", 64] / at["raw_put_3", 1])
    row("transactional get, unary, 32 in flight ÷ echo", "≥ 0.5", at["get_1_unary", 32] / echo)
    row("transactional get, BatchCommands, 32 in flight ÷ echo", "≥ 0.5", at["get_1", 32] / echo)
    row("timestamps, 64 callers, /s", "≥ 100,000", at["tso", 64])
    row("idle store with 1,000 regions, % of a core", "< 10", at["idle_cpu", 0])
    row("the same, MiB", "< 300", at["idle_memory", 0])
    row("failover, election timeouts", "≤ 3", at["failover", 0])
    return rows
