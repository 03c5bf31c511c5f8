"""DuckDB over Arrow tables in memory: no storage of its own, so what is left is its executor over Arrow's columns.

It stands between DuckDB's own tables and sqlfront, whose scans hand DuckDB Arrow columns too. It only reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from benchmarks.engines.api import Connection
from benchmarks.engines.duckdb import DuckDB
from benchmarks.schema import Table


class ArrowConnection:
    """A connection that is its own cursor: a registered table is seen by the connection that registered it only."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def cursor(self) -> Any:
        return self.inner

    def close(self) -> None:
        self.inner.close()


class DuckDBArrow(DuckDB):
    """One database object in memory; `append` reads the Parquet file into an Arrow table and registers that."""

    name = "duckdb-arrow"

    def start(self, directory: Path) -> None:
        self._database = duckdb.connect()

    def connect(self) -> Connection:
        return ArrowConnection(self._database.cursor())

    def create_table(self, con: Connection, table: Table) -> None:
        """`append` brings the columns with their types."""

    def create_indexes(self, con: Connection, table: Table) -> None:
        """Arrow tables have none."""

    def append(self, con: Connection, table: Table, path: Path) -> None:
        import pyarrow.parquet as pq

        con.cursor().register(table.name, pq.read_table(path, columns=table.column_names))

    def analyze(self, con: Connection) -> None:
        """There are no statistics to collect."""

    def interrupt(self, con: Connection) -> None:
        con.cursor().interrupt()
