"""The engines that can run, by name. One file an engine, one Protocol (`api.Engine`) for all."""

from __future__ import annotations

from benchmarks.engines.api import Engine
from benchmarks.engines.duckdb import DuckDB
from benchmarks.engines.duckdb_arrow import DuckDBArrow
from benchmarks.engines.mariadb import MariaDB
from benchmarks.engines.postgresql import PostgreSQL
from benchmarks.engines.sqlfront import Sqlfront
from benchmarks.engines.sqlite import SQLite

ENGINE_NAMES = ("sqlfront", "sqlite3-full", "sqlite3-normal", "duckdb", "duckdb-arrow", "postgresql", "mariadb")
OURS = "sqlfront"


def make_engine(name: str) -> Engine:
    """Returns a new engine that isn't started yet."""
    match name:
        case "sqlfront":
            return Sqlfront()
        case "sqlite3-full":
            return SQLite("FULL")
        case "sqlite3-normal":
            return SQLite("NORMAL")
        case "duckdb":
            return DuckDB()
        case "duckdb-arrow":
            return DuckDBArrow()
        case "postgresql":
            return PostgreSQL()
        case "mariadb":
            return MariaDB()
    raise ValueError(f"unknown engine '{name}'; there are {', '.join(ENGINE_NAMES)}")
