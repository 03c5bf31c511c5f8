"""This project, embedded: a directory in this process, durable as it comes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.engines.api import Connection, Paramstyle
from benchmarks.schema import Table, create_indexes, create_table

if TYPE_CHECKING:
    import sqlfront


class Sqlfront:
    """One directory; every thread has a connection in autocommit mode."""

    name = "sqlfront"
    paramstyle: Paramstyle = "qmark"
    begin = "BEGIN"
    in_process = True
    row_store = True

    def __init__(self) -> None:
        self._path = Path()
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

        self._path = directory / "bench.db"
        self._keep = sqlfront.connect(str(self._path), autocommit=True)

    def connect(self) -> Connection:
        import sqlfront

        return sqlfront.connect(str(self._path), autocommit=True)

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
