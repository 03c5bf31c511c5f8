"""This project as a SQL server of a cluster, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.engines.api import Connection
from benchmarks.engines.sqlfront import NOT_AVAILABLE, REPLICA_POLL_S, Sqlfront

if TYPE_CHECKING:
    import sqlfront

BUILDING = "SELECT count(*) FROM information_schema.tiflash_replica WHERE state <> 'none'"
FIRST_SIGN_S = 10.0
"""How long no table has a replica under way before there will be none."""


class SqlfrontCluster(Sqlfront):
    """Every thread has a session of the one server, in autocommit mode."""

    name = "sqlfront-cluster"

    def __init__(self, url: str, name: str = name) -> None:
        super().__init__()
        self.url = url
        self.name = name

    def start(self, directory: Path) -> None:
        """Joins the cluster by a connection that stays, so that the server does not leave between two measurements."""
        self._keep = self._open()

    def connect(self) -> Connection:
        return self._open()

    def _open(self) -> sqlfront.Connection:
        import sqlfront

        return sqlfront.connect(self.url, autocommit=True)

    def settle(self, con: Connection) -> str | None:
        """Rows are read as they are."""
        return None

    def has_replicas(self, con: Connection, tables: Sequence[str], limit_s: float) -> bool:
        """Asks for the tables' columnar replicas; whether all are available within the limit."""
        cursor = con.cursor()
        for name in tables:
            cursor.execute(f"ALTER TABLE `{name}` SET TIFLASH REPLICA 1")
        begun = time.monotonic()
        while time.monotonic() < begun + limit_s:
            cursor.execute(NOT_AVAILABLE)
            if cursor.fetchone()[0] == 0:
                return True
            cursor.execute(BUILDING)
            if cursor.fetchone()[0] == 0 and time.monotonic() > begun + FIRST_SIGN_S:
                return False
            time.sleep(REPLICA_POLL_S)
        return False

    def close(self) -> None:
        self.stop()
