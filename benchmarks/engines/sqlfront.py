"""This project, embedded: a directory in this process, durable as it comes."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.engines.api import Connection, Paramstyle
from benchmarks.schema import Table, create_indexes, create_table

if TYPE_CHECKING:
    import sqlfront

REPLICA_LIMIT_S = 300.0
REPLICA_POLL_S = 0.01
NOT_AVAILABLE = "SELECT count(*) FROM information_schema.tiflash_replica WHERE available = 0"


class Sqlfront:
    """One directory; every thread has a connection in autocommit mode."""

    name = "sqlfront"
    paramstyle: Paramstyle = "qmark"
    begin = "BEGIN"
    in_process = True
    row_store = True

    def __init__(self) -> None:
        self.path = Path()
        self._keep: sqlfront.Connection | None = None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        import sqlfront

        return (sqlfront.Error,)

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("sqlfront") else "the package sqlfront isn't importable"

    def version(self) -> str:
        import sqlfront

        return sqlfront.__version__

    def start(self, directory: Path) -> None:
        """Opens one connection that stays, so that the store isn't closed between two measurements."""
        import sqlfront

        self.path = directory / "bench.db"
        self._keep = sqlfront.connect(str(self.path), autocommit=True)

    def connect(self) -> Connection:
        import sqlfront

        return sqlfront.connect(str(self.path), autocommit=True)

    def create_table(self, con: Connection, table: Table) -> None:
        con.cursor().execute(create_table(table, lambda column: column.type))

    def create_indexes(self, con: Connection, table: Table) -> None:
        for statement in create_indexes(table):
            con.cursor().execute(statement)

    def prepare(self, path: Path) -> None:
        """`append` reads the Parquet file itself."""

    def append(self, con: Connection, table: Table, path: Path) -> None:
        import sqlfront

        assert isinstance(con, sqlfront.Connection)
        con.append(table.name, path)

    def analyze(self, con: Connection) -> None:
        cursor = con.cursor()
        cursor.execute("SHOW TABLES")
        for (name,) in cursor.fetchall():
            cursor.execute(f"ANALYZE TABLE `{name}`")

    def settle(self, con: Connection) -> str | None:
        """Gives every table its columnar replica and waits until each can answer."""
        cursor = con.cursor()
        cursor.execute("SHOW TABLES")
        return self.set_replicas(con, [name for (name,) in cursor.fetchall()])

    def set_replicas(self, con: Connection, tables: Sequence[str]) -> str | None:
        """Asks for the tables' replicas and waits for all that were asked for; returns why there are none, if so."""
        cursor = con.cursor()
        try:
            for name in tables:
                cursor.execute(f"ALTER TABLE `{name}` SET TIFLASH REPLICA 1")
            deadline = time.monotonic() + REPLICA_LIMIT_S
            while True:
                cursor.execute(NOT_AVAILABLE)
                waiting = int(cursor.fetchone()[0])
                if waiting == 0:
                    return None
                if time.monotonic() > deadline:
                    return f"{waiting} columnar replicas weren't available after {REPLICA_LIMIT_S:g} s"
                time.sleep(REPLICA_POLL_S)
        except self.errors as error:
            return f"no columnar replica: {error}"

    def adapt(self, sql: str) -> str:
        return sql

    def interrupt(self, con: Connection) -> None:
        import sqlfront

        assert isinstance(con, sqlfront.Connection)
        con.interrupt()

    def conflict(self, error: Exception) -> bool:
        import sqlfront

        return isinstance(error, sqlfront.Error) and error.retryable

    def interrupted(self, error: Exception) -> bool:
        import sqlfront

        return isinstance(error, sqlfront.Error) and error.code in (1317, 3024)

    def stop(self) -> None:
        if self._keep is not None:
            self._keep.close()
            self._keep = None
