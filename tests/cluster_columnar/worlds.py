"""Worlds with columnar stores, and the same query by both engines."""

from __future__ import annotations

import time
from typing import Any

from tests.cluster_sql.world import World

READY_S = 30.0
"""The world's clock is the machine's; a replica is placed by a few heartbeats."""


def wait_ready(cursor: Any, table: str) -> None:
    """Waits until every region of the table has its replicas."""
    until = time.monotonic() + READY_S
    while True:
        cursor.execute(
            "SELECT AVAILABLE, PROGRESS, STATE FROM information_schema.tiflash_replica WHERE TABLE_NAME = ?", (table,)
        )
        rows = cursor.fetchall()
        if rows and rows[0][0] == 1:
            return
        assert time.monotonic() < until, (table, rows)
        time.sleep(0.05)


def by_both(cursor: Any, sql: str) -> tuple[list[Any], list[Any]]:
    """The rows by the columnar engine and by the rows; `sql` orders them wholly."""
    made = []
    for engine in ("tiflash", "tikv"):
        cursor.execute(f"SET tidb_isolation_read_engines = '{engine}'")
        cursor.execute(sql)
        made.append(cursor.fetchall())
    cursor.execute("SET tidb_isolation_read_engines = 'tikv,tiflash,tidb'")
    return made[0], made[1]


def answered(world: World) -> int:
    """How many requests the replicas have answered."""
    return sum(replica.answered for replica in world.replicas)


def refused(world: World) -> int:
    """How many they left to the rows."""
    return sum(replica.refused for replica in world.replicas)
