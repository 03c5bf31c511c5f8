"""Schema changes on several SQL servers under faults: rows, indexes and jobs are looked at when all has healed."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from coprocessor import segments
from kvstore.client.cluster.parts import Options
from kvstore.errors import KvError
from sqlfront.catalog import backfill
from sqlfront.catalog.jobs import running_jobs
from sqlfront.catalog.meta import MetaReader
from sqlfront.database import Database
from sqlfront.errors import Error
from tests.sim.loop import Stuck, run_simulated
from tests.sim.nemesis import (
    Lane,
    Nemesis,
    bad_weather,
    clock_jump,
    crash,
    isolate,
    partition,
    slow_all,
    split,
    transfer_leader,
)
from tests.sim.run import SETTLE_S_MAX, Report, Run, _Failed
from tests.sim.sql_cluster import SqlCluster, kill_owner, kill_server, stall, stall_owner
from tests.sim.sql_model import Model, Row
from tests.sim.sql_sessions import COLUMNS, CREATE, EXPECTED_OF_DDL, Changer, Failed, Lost, SqlClient, Writer
from tests.sim.store_cluster import Shape
from tests.sim.threads import Crew
from tests.sim.world import World

SESSIONS = 3
"""Of each server, besides the one that changes the schema."""
BATCH_ROWS = 6
"""Rows of one batch of an index build: so that builds have several."""
SEGMENT_ROWS = 16
"""Rows of a segment of the stores' decoded columns."""
CHECKS_MAX = 20
"""Attempts at the last look; what is wrong ends it at once, what is out of reach does not."""
FINISHED_S = 90.0
"""Jobs of dead owners are over so long after all has healed."""
LANES = (
    Lane((crash, kill_server, kill_owner, stall, stall_owner, clock_jump), lasts_s=3.0, pause_s=4.0),
    Lane((partition, isolate, slow_all, bad_weather), lasts_s=4.0, pause_s=5.0),
    Lane((transfer_leader, split), lasts_s=0.1, pause_s=3.0),
)
SERVERS_ONLY = (Lane((kill_server, kill_owner, stall, stall_owner, slow_all), lasts_s=2.0, pause_s=2.0),)


class SqlRun(Run):
    """See `run.Run`; what clients do is in the threads of the servers."""

    model: Model
    cluster: SqlCluster

    async def _work(self, harm: Nemesis, report: Report) -> None:
        cluster, model = self.cluster, self.model
        async with asyncio.timeout(SETTLE_S_MAX):
            await cluster.boot()
            await cluster.start_servers()
            while len(cluster.servers()) < len(cluster.sql_machines):
                await asyncio.sleep(0.1)
        await self._on(0, _create)
        model.is_ready = True
        await self._harm(harm, report)
        await asyncio.sleep(5.0)
        model.is_over = True
        await self._finish()
        for machine in cluster.sql_machines:
            machine.crash(power=False)
        await asyncio.sleep(1.0)
        cluster.observe_at_rest()

    async def _on(self, number: int, work: Callable[[Crew, Database], None]) -> None:
        crew, database = self.cluster.servers()[number]
        await crew.start("check", lambda: work(crew, database)).thread.over.wait()
        if self.world.failures:
            raise _Failed

    async def _finish(self) -> None:
        cluster = self.cluster
        until = self.world.loop.time() + FINISHED_S
        while len(cluster.servers()) < len(cluster.sql_machines):
            assert self.world.loop.time() < until, "a server did not come back"
            await asyncio.sleep(0.5)
        while self.model.at_work:
            assert self.world.loop.time() < until, "a statement does not end"
            await asyncio.sleep(0.1)
        await self._on(0, lambda crew, database: _wait_for_jobs(crew, database, until))
        versions: set[int] = set()
        for number in range(len(cluster.servers())):
            await self._on(number, lambda crew, database: _check(crew, database, self.model, versions))
        assert len(versions) == 1, f"servers have versions {versions}"


def _work(model: Model, make: Callable[[], Writer | Changer]) -> None:
    with model.working():
        make().work()


def _create(crew: Crew, database: Database) -> None:
    client = SqlClient(crew, database, EXPECTED_OF_DDL)
    for sql in CREATE:
        client.run(sql)


def _wait_for_jobs(crew: Crew, database: Database, until: float) -> None:
    while True:
        try:
            jobs = running_jobs(MetaReader(database.storage.snapshot()))
        except KvError:
            jobs = None
        if jobs == []:
            return
        assert crew.monotonic() < until, f"unfinished: {jobs}"
        crew.sleep(0.5)


def _check(crew: Crew, database: Database, model: Model, versions: set[int]) -> None:
    """What a new session on this server sees."""
    client = SqlClient(crew, database, EXPECTED_OF_DDL)
    for _ in range(CHECKS_MAX):
        try:
            u = "u" if database.catalog.schema.need_database("test").table("u") is not None else "u2"
            for name in ("t", u):
                client.run(f"ADMIN CHECK TABLE {name}")
            model.check_rows([Row.read(row) for row in client.run(f"SELECT {COLUMNS} FROM t")])
            model.check_truncated({row[0] for row in client.run(f"SELECT mark FROM {u} WHERE id > 0")})
            versions.add(database.catalog.schema.version)
            return
        except (Failed, Lost, Error, KvError):
            crew.sleep(1.0)
    raise AssertionError(f"{crew.life.name} does not serve")


@contextmanager
def _conditions() -> Iterator[None]:
    """Small batches, plain evaluation, and no garbage collection of Python's at moments that no seed says."""
    from tests.slt.stores import forced_path

    before = backfill.BATCH_ROWS, segments.SEGMENT_ROWS
    gc.collect()
    gc.disable()
    backfill.BATCH_ROWS, segments.SEGMENT_ROWS = BATCH_ROWS, SEGMENT_ROWS
    try:
        with forced_path("row"):
            yield
    finally:
        backfill.BATCH_ROWS, segments.SEGMENT_ROWS = before
        gc.enable()


def simulate_sql(seed: int, seconds: float, lanes: Sequence[Lane] = LANES, servers: int = 3) -> Report:
    """Runs one seed to its end; whatever goes wrong is in the report and not raised."""
    rng = random.Random(seed ^ 0x5D1)
    model = Model()
    world = World(seed)
    report = Report(seed)
    options = Options(scan_batch=16, one_pc=rng.random() < 0.7, async_commit=rng.random() < 0.7, recent_ms=0)

    def main(crew: Crew, database: Database, number: int) -> None:
        while not model.is_ready:
            crew.sleep(0.1)
        for n in range(SESSIONS):
            slot = number * SESSIONS + n
            mine = random.Random(crew.life.rng.random())
            crew.start(f"session{n}", partial(_work, model, partial(Writer, crew, database, model, mine, slot)))
        changes = random.Random(crew.life.rng.random())
        crew.start("ddl", partial(_work, model, partial(Changer, crew, database, model, changes, number)))

    shape = Shape(stores=3, pds=1, options=options, computes=rng.random() < 0.7)
    cluster = SqlCluster(world, shape, servers, main, model)
    run = SqlRun(world, cluster, [], seconds, lanes)
    run.model, run.cluster = model, cluster
    with _conditions():
        try:
            run_simulated(run.whole(report), world.loop)
        except _Failed:
            pass
        except (Exception, Stuck, BaseExceptionGroup) as error:  # noqa: BLE001 a run reports whatever it is
            world.fail(error, "the run")
        cluster.close()
        try:
            model.check_commits()
        except AssertionError as error:
            world.fail(error, "the commits")
    report.problems += world.failures
    report.summary.append(f"{model.counts}, {world.loop.time():.0f} s, {len(report.faults)} faults")
    report.trace = hashlib.sha256("\n".join([*report.faults, *model.events]).encode()).hexdigest()
    return report
