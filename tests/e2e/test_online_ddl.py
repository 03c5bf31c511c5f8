"""Several SQL servers as processes; the one that adds an index is killed -9 in the middle of it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sqlfront
from sqlfront.catalog.lease import LEASE_MS, OWNER_MS
from tests.e2e.ddl_tables import BIG_ROWS, CREATE_BIG
from tests.e2e.harness import ROOT, Cluster, run, until
from tests.e2e.test_stores import DRIVERS, MOVE_S, STORES
from tests.sim.sql_model import Model, Row
from tests.sim.sql_sessions import COLUMNS, CREATE

SESSIONS = 2
ADD_INDEX = "ALTER TABLE big ADD INDEX ik (k, v)"
TAKEN_OVER_S = (LEASE_MS + OWNER_MS) / 1000 + 5.0
"""After the death of an owner another server has taken over by then."""
BUILT_S = 120.0
"""And has built the index, on a busy machine."""
TEST_S = 500.0


async def start(cluster: Cluster, number: int, *options: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.e2e.sql_server",
        ",".join(cluster.pd_addresses),
        str(number * SESSIONS),
        str(SESSIONS),
        *options,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line == b"ready\n", line
    return process


async def stop(process: asyncio.subprocess.Process) -> dict[int, frozenset[int | None]]:
    """Ends a server in order; returns the values that its rows may have."""
    out, _ = await process.communicate(b"")
    assert process.returncode == 0
    found = json.loads(out.splitlines()[-1])
    return {
        int(row_id): frozenset(None if value == "None" else int(value) for value in values)
        for row_id, values in found.items()
    }


def fill(connection: Any) -> None:
    cursor = connection.cursor()
    for sql in (*CREATE, CREATE_BIG):
        cursor.execute(sql)
    ids = pa.array(range(BIG_ROWS), pa.int32())
    rows = pa.table({"id": ids, "k": ids, "v": pa.array([f"row {n} of the table" for n in range(BIG_ROWS)])})
    connection.append("big", rows)


@pytest.mark.slow
def test_an_index_is_finished_by_another_server_when_its_owner_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        async with Cluster(tmp_path, 1, 3, STORES, DRIVERS) as cluster:
            await cluster.replicated(3, MOVE_S)
            target = f"tikv://{','.join(cluster.pd_addresses)}/test"
            connection = await asyncio.to_thread(lambda: sqlfront.connect(target, autocommit=True))
            processes: list[asyncio.subprocess.Process] = []
            try:
                await asyncio.to_thread(fill, connection)
                await kill_the_owner(cluster, connection, processes)
            finally:
                for process in processes:
                    if process.returncode is None:
                        process.kill()
                await asyncio.to_thread(connection.close)

    run(main, TEST_S)


async def kill_the_owner(cluster: Cluster, connection: Any, processes: list[asyncio.subprocess.Process]) -> None:
    cursor = connection.cursor()

    def ask(sql: str) -> list[tuple[Any, ...]]:
        cursor.execute(sql)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    async def jobs(state: str) -> list[tuple[Any, ...]]:
        found = await asyncio.to_thread(ask, "ADMIN SHOW DDL JOBS 512")
        return [job for job in found if job[2] == "big" and job[3] == "add index" and job[11] == state]

    async def is_filling() -> bool:
        return any(job[4] == "write reorganization" for job in await jobs("running"))

    for number in range(2):
        processes.append(await start(cluster, number))
    workers = list(processes)
    owner = await start(cluster, 2, "--statement", ADD_INDEX)
    processes.append(owner)
    await until(is_filling, 60.0, "the index is being built")
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    assert await jobs("running"), "it was killed in the middle"

    async def other_owns() -> bool:
        row = (await asyncio.to_thread(ask, "ADMIN SHOW DDL"))[0]
        return bool(row[2]) and not row[2].endswith(f":{owner.pid}")

    await until(other_owns, TAKEN_OVER_S, "another server has taken over")
    await until(lambda: jobs("synced"), BUILT_S, "another server has built it")
    model = Model()
    for worker in workers:
        model.may_be.update(await stop(worker))
    await until(lambda: no_jobs(ask), BUILT_S, "all jobs are over")
    u = "u" if ask("SHOW TABLES LIKE 'u'") else "u2"
    for table in ("big", "t", u):
        await asyncio.to_thread(ask, f"ADMIN CHECK TABLE {table}")
    assert ask("SHOW INDEX FROM big WHERE Key_name = 'ik'")
    model.check_rows([Row.read(row) for row in await asyncio.to_thread(ask, f"SELECT {COLUMNS} FROM t")])


async def no_jobs(ask: Any) -> bool:
    found = await asyncio.to_thread(ask, "ADMIN SHOW DDL JOBS 0")
    return not found
