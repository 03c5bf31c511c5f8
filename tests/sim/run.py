"""One run: a deployment boots, workloads and faults go on side by side, all heals, and everything is checked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.sim import nemesis
from tests.sim.loop import Stuck, run_simulated
from tests.sim.nemesis import LANES, Lane, Nemesis
from tests.sim.workloads.api import Client, Workload, drive
from tests.sim.world import World

OBSERVE_S = 0.01
"""How often the invariants are looked at, in virtual time; what nodes report by themselves is checked at once."""
SETTLE_S_MAX = 120.0
"""How long a healed deployment may take until it serves again; longer is a failure."""
STEADY_S = 5.0
"""A healed deployment must serve without faults for so long at the end."""


class Deployment(nemesis.Cluster, Protocol):
    """What a run needs of the processes under test, besides what faults need."""

    async def boot(self) -> None:
        """Starts every machine and returns when the whole serves."""

    def clients(self, count: int) -> Sequence[Client]: ...

    def observe(self) -> None:
        """Reports to the invariants what the nodes hold now; raises Broken."""

    async def settle(self) -> None:
        """Returns when a healed deployment serves again."""

    def observe_at_rest(self) -> None:
        """Checks what holds only when nothing goes on."""


@dataclass(slots=True)
class Report:
    """What came of one run."""

    seed: int
    problems: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)
    trace: str = ""
    """A hash of all that clients and faults did: one seed gives one trace."""
    reports: int = 0
    settled_s: float = 0.0
    """From the end of all faults until it served again."""

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {'FAILED' if self.problems else 'ok'}, trace {self.trace[:12]}"]
        lines += [f"  {line}" for line in self.summary]
        if self.problems:
            lines += ["faults:", *self.faults, "problems:", *self.problems]
        return "\n".join(lines)


class _Failed(Exception):
    """Something is in `World.failures`."""


@dataclass(slots=True)
class Run:
    """The parts of one run."""

    world: World
    deployment: Deployment
    workloads: Sequence[Workload]
    seconds: float
    lanes: Sequence[Lane] = LANES
    clients_each: int = 3

    async def whole(self, report: Report) -> None:
        world = self.world
        harm = Nemesis(self.deployment, world.fork(), self.lanes, report.faults)
        watching = asyncio.ensure_future(self._watch())
        working = asyncio.ensure_future(self._work(harm, report))
        done, pending = await asyncio.wait((watching, working), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    async def _watch(self) -> None:
        while True:
            if self.world.failures:
                raise _Failed
            self.deployment.observe()
            await asyncio.sleep(OBSERVE_S)

    async def _work(self, harm: Nemesis, report: Report) -> None:
        async with asyncio.timeout(SETTLE_S_MAX):
            await self.deployment.boot()
        clients = self.deployment.clients(self.clients_each * len(self.workloads) + 1)
        for workload in self.workloads:
            await workload.setup(clients[0])
        async with asyncio.TaskGroup() as group:
            group.create_task(self._harm(harm, report))
            self._drive(group, clients, self.seconds)
        async with asyncio.TaskGroup() as group:
            self._drive(group, clients, STEADY_S)
        for workload in self.workloads:
            await workload.finish(clients[0])
        self.deployment.observe_at_rest()

    async def _harm(self, harm: Nemesis, report: Report) -> None:
        await harm.run(self.seconds)
        healed = self.world.loop.time()
        async with asyncio.timeout(SETTLE_S_MAX):
            await self.deployment.settle()
        report.settled_s = self.world.loop.time() - healed

    def _drive(self, group: asyncio.TaskGroup, clients: Sequence[Client], seconds: float) -> None:
        for number, workload in enumerate(self.workloads):
            mine = clients[1 + number * self.clients_each :][: self.clients_each]
            group.create_task(drive(workload, mine, self.world.fork(), seconds))


def simulate(
    seed: int,
    deploy: Callable[[World], Deployment],
    workloads: Sequence[Workload],
    seconds: float,
    lanes: Sequence[Lane] = LANES,
    clients_each: int = 3,
) -> Report:
    """Runs one seed to its end; whatever goes wrong is in the report and not raised."""
    world = World(seed)
    report = Report(seed)
    run = Run(world, deploy(world), workloads, seconds, lanes, clients_each)
    try:
        run_simulated(run.whole(report), world.loop)
    except _Failed:
        pass
    except (Exception, Stuck, BaseExceptionGroup) as error:  # noqa: BLE001 a run reports whatever it is
        world.fail(error, "the run")
    report.problems += world.failures
    for workload in workloads:
        _judge(report, workload)
    report.summary.append(
        f"{world.loop.time():.0f} s, {len(report.faults)} faults, settled in {report.settled_s:.1f} s, "
        f"{world.invariants.reports} reports"
    )
    report.reports = world.invariants.reports
    report.trace = _trace(report, workloads)
    return report


def _judge(report: Report, workload: Workload) -> None:
    report.summary.append(f"{workload.name}: {workload.history.summary()}")
    for anomaly in workload.check():
        (report.undecided if anomaly.kind == "undecided" else report.problems).append(f"{workload.name}: {anomaly}")


def _trace(report: Report, workloads: Sequence[Workload]) -> str:
    digest = hashlib.sha256("\n".join(report.faults).encode())
    for workload in workloads:
        for event in workload.history.events:
            digest.update(f"{event}\n".encode())
    return digest.hexdigest()
