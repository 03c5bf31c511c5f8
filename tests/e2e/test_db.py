"""SQL servers as processes: they follow the schema, say how they stand, and are not waited for once they are dead."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
import pytest

import sqlfront
from shell.playground.local import LocalCluster, temporary_cluster
from tests.e2e.harness import STATUS_TIMEOUT, run, until

LEASE_S = 10.0


async def ask(cluster: LocalCluster, name: str, path: str) -> str:
    """What a SQL server answers at its status port."""
    (server,) = (one for one in cluster.plan.servers if one.name == name)
    url = f"http://{server.status_address}/{path}"
    async with aiohttp.ClientSession(timeout=STATUS_TIMEOUT) as client, client.get(url) as answer:
        return await answer.text()


async def status(cluster: LocalCluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await ask(cluster, name, "status"))
    return found


def execute(cluster: LocalCluster, *statements: str) -> None:
    with contextlib.closing(sqlfront.connect(cluster.url(), autocommit=True)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.slow
def test_servers_follow_the_schema_and_a_dead_one_is_not_waited_for() -> None:
    async def main() -> None:
        async with temporary_cluster(1, 1, 2) as cluster:
            before = await status(cluster, "db1")
            await asyncio.to_thread(execute, cluster, "CREATE TABLE t (id INT PRIMARY KEY)")
            for name in ("db1", "db2"):
                found = await status(cluster, name)
                assert found["schema_version"] == before["schema_version"] + 1
                assert 0 < found["lease_left_s"] <= LEASE_S
                assert json.loads(await ask(cluster, name, "health")) == {"healthy": True}
            assert before["server_id"] != (await status(cluster, "db2"))["server_id"]
            version = before["schema_version"] + 1
            assert f"sqlfront_schema_version {version}" in (await ask(cluster, "db1", "metrics"))

            await cluster.children["db1"].kill()
            started = asyncio.get_running_loop().time()
            await asyncio.to_thread(execute, cluster, "ALTER TABLE t ADD COLUMN a INT", "INSERT INTO t VALUES (1, 2)")
            assert asyncio.get_running_loop().time() - started < 2 * LEASE_S

            await cluster.restart("db1")
            assert (await status(cluster, "db1"))["schema_version"] == (await status(cluster, "db2"))["schema_version"]

    run(main)


@pytest.mark.slow
def test_a_server_without_stores_says_that_it_is_ill_and_recovers() -> None:
    async def main() -> None:
        async with temporary_cluster(1, 1, 1) as cluster:
            await cluster.children["kv1"].kill()

            async def health(wanted: bool) -> bool:
                return bool(json.loads(await ask(cluster, "db1", "health"))["healthy"] == wanted)

            await until(lambda: health(False), 3 * LEASE_S, "the lease has run out")
            await cluster.restart("kv1")
            await until(lambda: health(True), 6 * LEASE_S, "the lease is renewed")

    run(main)
