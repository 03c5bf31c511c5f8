"""SQLite by Python's sqlite3, in WAL mode, with synchronous=FULL (durable) or NORMAL (not after power loss)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.engines.api import Connection, Paramstyle
from benchmarks.schema import Column, Table, create_indexes, create_table, insert

BUSY_TIMEOUT_S = 60.0
BATCH_ROWS = 10_000
CACHE_KIB = 128 * 1024
"""The page cache: the servers' default of 128 MiB in place of SQLite's 2 MB, which halves its analytic speed."""

_DATE_ARITHMETIC = re.compile(r"date\s*'([\d-]+)'\s*([+-])\s*interval\s*'(\d+)'\s*(day|month|year)", re.IGNORECASE)
_DATE = re.compile(r"\bdate\s*'([\d-]+)'", re.IGNORECASE)
_YEAR = re.compile(r"\bextract\s*\(\s*year\s+from\s+([\w.]+)\s*\)", re.IGNORECASE)


class SQLite:
    """One file; every thread has a connection, writers take turns by BEGIN IMMEDIATE and the busy timeout."""

    paramstyle: Paramstyle = "qmark"
    begin = "BEGIN IMMEDIATE"
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    in_process = True
    row_store = True

    def __init__(self, synchronous: str) -> None:
        self.name = f"sqlite3-{synchronous.lower()}"
        self._synchronous = synchronous
        self._path = Path()

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return sqlite3.sqlite_version

    def start(self, directory: Path) -> None:
        self._path = directory / "bench.sqlite"

    def connect(self) -> Connection:
        con = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        con.execute("PRAGMA journal_mode=WAL")
        con.execute(f"PRAGMA synchronous={self._synchronous}")
        con.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        return con

    def create_table(self, con: Connection, table: Table) -> None:
        con.cursor().execute(create_table(table, _type, inline_key=True))

    def create_indexes(self, con: Connection, table: Table) -> None:
        for statement in create_indexes(table):
            con.cursor().execute(statement)

    def prepare(self, path: Path) -> None:
        """SQLite has no file format to prepare: rows are bound from the Parquet file's batches."""

    def append(self, con: Connection, table: Table, path: Path) -> None:
        cursor = con.cursor()
        cursor.execute("BEGIN")
        cursor.executemany(insert(table, "?"), _rows(path, table.column_names))
        cursor.execute("COMMIT")

    def analyze(self, con: Connection) -> None:
        con.cursor().execute("ANALYZE")

    def settle(self, con: Connection) -> str | None:
        return None

    def adapt(self, sql: str) -> str:
        sql = _DATE_ARITHMETIC.sub(r"date('\1', '\g<2>\3 \4')", sql)
        sql = _YEAR.sub(r"cast(strftime('%Y', \1) as integer)", sql)
        return _DATE.sub(r"'\1'", sql)

    def interrupt(self, con: Connection) -> None:
        assert isinstance(con, sqlite3.Connection)
        con.interrupt()

    def conflict(self, error: Exception) -> bool:
        return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)

    def interrupted(self, error: Exception) -> bool:
        return isinstance(error, sqlite3.OperationalError) and "interrupted" in str(error)

    def stop(self) -> None:
        """Nothing runs: connections belong to the caller."""


def _type(column: Column) -> str:
    """Maps integers to INTEGER (so that a key is the rowid), decimals to REAL and dates to ISO text."""
    kind = column.type.lower()
    if kind.startswith(("bigint", "int")):
        return "INTEGER"
    if kind.startswith("decimal"):
        return "REAL"
    return "TEXT"


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yields the file's rows as tuples of what sqlite3 binds without an adapter."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            lists = []
            for name in columns:
                column = batch.column(name)
                if pa.types.is_decimal(column.type):
                    column = column.cast(pa.float64())
                elif pa.types.is_date(column.type):
                    column = column.cast(pa.string())
                lists.append(column.to_pylist())
            yield from zip(*lists, strict=True)
