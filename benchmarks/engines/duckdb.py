"""DuckDB in this process, on a file, with the same primary keys as the others (its ART indexes)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from benchmarks.engines.api import Connection, Paramstyle
from benchmarks.schema import Table, create_indexes, create_table


class DuckDB:
    """One database object; every thread works on a cursor of its own, which is a connection."""

    name = "duckdb"
    paramstyle: Paramstyle = "qmark"
    begin = "BEGIN TRANSACTION"
    errors: tuple[type[Exception], ...] = (duckdb.Error,)
    in_process = True
    row_store = False

    def __init__(self) -> None:
        self._database: Any = None

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return str(duckdb.__version__)

    def start(self, directory: Path) -> None:
        self._database = duckdb.connect(str(directory / "bench.duckdb"))

    def connect(self) -> Connection:
        connection: Connection = self._database.cursor()
        return connection

    def create_table(self, con: Connection, table: Table) -> None:
        con.cursor().execute(create_table(table, lambda column: column.type))

    def create_indexes(self, con: Connection, table: Table) -> None:
        for statement in create_indexes(table):
            con.cursor().execute(statement)

    def prepare(self, path: Path) -> None:
        """DuckDB reads the Parquet file itself."""

    def append(self, con: Connection, table: Table, path: Path) -> None:
        columns = ", ".join(table.column_names)
        con.cursor().execute(f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM read_parquet(?)", [str(path)])

    def analyze(self, con: Connection) -> None:
        con.cursor().execute("CHECKPOINT")

    def settle(self, con: Connection) -> str | None:
        return None

    def adapt(self, sql: str) -> str:
        return sql

    def interrupt(self, con: Connection) -> None:
        assert isinstance(con, duckdb.DuckDBPyConnection)
        con.interrupt()

    def conflict(self, error: Exception) -> bool:
        text = str(error).lower()
        return "conflict" in text or "transaction is aborted" in text

    def interrupted(self, error: Exception) -> bool:
        return isinstance(error, duckdb.InterruptException)

    def stop(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
