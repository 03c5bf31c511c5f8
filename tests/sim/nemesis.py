"""The faults of a run: a schedule drawn from the seed, in lanes that go on side by side.

A fault is begun, lasts, and is undone before its lane begins the next, so that at most one of a lane is on at a time.
What the faults act on is the small `Cluster` Protocol, and a fault that the cluster cannot do now is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.sim.faults import Links, Weather
from tests.sim.machine import Machine


class Cluster(Protocol):
    """What faults act on."""

    @property
    def links(self) -> Links: ...

    @property
    def machines(self) -> Sequence[Machine]:
        """Every server; faults choose among them."""

    @property
    def others(self) -> Sequence[str]:
        """The names of machines that only call, as clients do."""

    def restart(self, machine: Machine) -> None:
        """Starts it again in the background; what goes wrong is a failure of the run."""

    async def transfer_leader(self, rng: random.Random) -> str | None:
        """Moves a leader; says what was done, None when nothing could be."""

    async def split(self, rng: random.Random) -> str | None: ...

    async def merge(self, rng: random.Random) -> str | None: ...

    async def change_peers(self, rng: random.Random) -> str | None:
        """Adds, removes or moves a peer of some region."""


class Skip(Exception):
    """The fault cannot be done now."""


FaultContext = contextlib.AbstractAsyncContextManager[str]
Fault = Callable[[Cluster, random.Random], FaultContext]
"""A context: entered it is on and says what it did, left it is undone."""


def _pick(cluster: Cluster, rng: random.Random, *, running: bool = True) -> Machine:
    machines = [machine for machine in cluster.machines if machine.running or not running]
    if not machines:
        raise Skip
    return rng.choice(machines)


@contextlib.asynccontextmanager
async def crash(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    """One to all machines lose power or are killed, and start again."""
    count = 1 if rng.random() < 0.7 else rng.randint(1, len(cluster.machines))
    machines = rng.sample(list(cluster.machines), count)
    power = rng.random() < 0.7
    for machine in machines:
        machine.crash(power=power)
    try:
        yield f"{'power loss' if power else 'kill'} of {', '.join(machine.name for machine in machines)}"
    finally:
        for machine in machines:
            if not machine.running:
                cluster.restart(machine)


@contextlib.asynccontextmanager
async def blackout(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    """All machines lose power at once, and come back one after the other."""
    machines = [machine for machine in cluster.machines if machine.running]
    rng.shuffle(machines)
    for machine in machines:
        machine.crash(power=True)
    try:
        yield f"power loss of all; back in the order {', '.join(machine.name for machine in machines)}"
    finally:
        for machine in machines:
            if not machine.running:
                cluster.restart(machine)
            await asyncio.sleep(rng.random())


def _everyone(cluster: Cluster) -> list[str]:
    return [*(machine.name for machine in cluster.machines), *cluster.others]


@contextlib.asynccontextmanager
async def partition(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    """Two groups, each with some of the servers, do not reach each other, or only one way."""
    names = _everyone(cluster)
    rng.shuffle(names)
    at = rng.randint(1, len(names) - 1)
    both_ways = rng.random() < 0.6
    cluster.links.cut(names[:at], names[at:], both_ways=both_ways)
    try:
        yield f"partition {sorted(names[:at])} {'|' if both_ways else '-/->'} {sorted(names[at:])}"
    finally:
        cluster.links.heal()


@contextlib.asynccontextmanager
async def isolate(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    """One server is alone with the clients, or only hears, or only speaks."""
    one = _pick(cluster, rng).name
    rest = [machine.name for machine in cluster.machines if machine.name != one]
    way = rng.randrange(3)
    if way == 0:
        cluster.links.cut([one], rest)
    else:
        cluster.links.cut(*(([one], rest) if way == 1 else (rest, [one])), both_ways=False)
    try:
        yield f"isolate {one} ({('both ways', 'it cannot speak', 'it cannot hear')[way]})"
    finally:
        cluster.links.heal()


@contextlib.asynccontextmanager
async def slow_links(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    one, delay = _pick(cluster, rng).name, rng.choice([0.05, 0.3, 1.5])
    cluster.links.slow([one], _everyone(cluster), delay)
    try:
        yield f"links of {one} are {delay} s slow"
    finally:
        cluster.links.heal()


@contextlib.asynccontextmanager
async def slow_all(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    """Every link is slow, so that what takes a few messages takes long enough for other faults to hit."""
    usual = cluster.links.weather
    cluster.links.weather = Weather(delay_s=rng.choice([0.05, 0.1, 0.3]))
    try:
        yield str(cluster.links.weather)
    finally:
        cluster.links.weather = usual


@contextlib.asynccontextmanager
async def bad_weather(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    """Every link loses, doubles and reorders."""
    usual = cluster.links.weather
    cluster.links.weather = Weather(
        delay_s=rng.choice([0.001, 0.01, 0.05]), loss=rng.uniform(0, 0.2), doubled=rng.uniform(0, 0.2), reset=0.002
    )
    try:
        yield str(cluster.links.weather)
    finally:
        cluster.links.weather = usual


@contextlib.asynccontextmanager
async def slow_disk(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    machine = _pick(cluster, rng)
    usual, mean = machine.disk.sync_s, rng.choice([0.02, 0.2, 1.0])
    machine.disk.sync_s = lambda: rng.expovariate(1 / mean)
    try:
        yield f"disk of {machine.name} syncs in {mean} s"
    finally:
        machine.disk.sync_s = usual


@contextlib.asynccontextmanager
async def full_disk(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    machine = _pick(cluster, rng)
    machine.disk.full = True
    try:
        yield f"disk of {machine.name} is full"
    finally:
        machine.disk.full = False


@contextlib.asynccontextmanager
async def clock_jump(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    """A wall clock goes wrong by up to minutes, forward or back, and is set right again."""
    machine = _pick(cluster, rng, running=False)
    usual = machine.clock.offset_ms
    machine.clock.offset_ms = usual + int(rng.choice([-1, 1]) * 10 ** rng.uniform(1, 5))
    try:
        yield f"clock of {machine.name} is off by {machine.clock.offset_ms} ms"
    finally:
        machine.clock.offset_ms = usual


def _operation(do: Callable[[Cluster, random.Random], object]) -> Fault:
    @contextlib.asynccontextmanager
    async def operate(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
        done = await do(cluster, rng)  # type: ignore[misc]
        if not isinstance(done, str):
            raise Skip
        yield done

    return operate


transfer_leader = _operation(lambda cluster, rng: cluster.transfer_leader(rng))
split = _operation(lambda cluster, rng: cluster.split(rng))
merge = _operation(lambda cluster, rng: cluster.merge(rng))
change_peers = _operation(lambda cluster, rng: cluster.change_peers(rng))


@dataclass(frozen=True, slots=True)
class Lane:
    """Faults of which one is on at a time: how long they last and how long the pauses are, means in seconds."""

    faults: tuple[Fault, ...]
    lasts_s: float
    pause_s: float


LANES = (
    Lane((crash, crash, slow_disk, full_disk, clock_jump), lasts_s=3.0, pause_s=4.0),
    Lane((partition, isolate, isolate, slow_links, bad_weather), lasts_s=4.0, pause_s=4.0),
    Lane((transfer_leader, split, merge, change_peers), lasts_s=0.1, pause_s=2.0),
)


@dataclass(slots=True)
class Nemesis:
    """Runs the lanes; `log` says what was done when."""

    cluster: Cluster
    rng: random.Random
    lanes: Sequence[Lane] = LANES
    log: list[str] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Does harm for so long; when it returns all is healed and every machine runs or is starting."""
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for lane in self.lanes:
                group.create_task(self._run_lane(lane, random.Random(self.rng.random()), until))
        self.cluster.links.heal()
        for machine in self.cluster.machines:
            if not machine.running:
                self.cluster.restart(machine)

    async def _run_lane(self, lane: Lane, rng: random.Random, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await asyncio.sleep(min(rng.expovariate(1 / lane.pause_s), until - loop.time()))
            if loop.time() >= until:
                return
            fault = rng.choice(lane.faults)
            with contextlib.suppress(Skip):
                async with fault(self.cluster, rng) as done:
                    self.log.append(f"{loop.time():9.3f} {done}")
                    await asyncio.sleep(min(rng.expovariate(1 / lane.lasts_s), max(0.0, until - loop.time())))
