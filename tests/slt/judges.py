"""Other databases as judges: they fill in what our files expect, and check the runner itself.

MariaDB is started by `mariadb_server` on a temporary directory and a unix socket with MySQL's strict mode, or found at
the socket that SLT_MARIADB_SOCKET names. TiDB is found at the socket that SLT_TIDB_SOCKET names. All databases of
either are dropped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import duckdb
import pymysql  # type: ignore[import-untyped]

from tests.slt.runner import Outcome, Session, StatementFailed, Store

START_SECONDS_MAX = 30
SQL_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION"
)
BIT_TYPE_CODE = 16
SYSTEM_DATABASES = frozenset({"mysql", "information_schema", "performance_schema", "metrics_schema", "sys"})

# MariaDB's code -> MySQL's, where the same refusal has two numbers.
MYSQL_CODES = {4025: 3819, 1901: 3102}


class MysqlSession:
    """A session on MariaDB or TiDB, with its values as MySQL's protocol types say."""

    def __init__(self, socket: str) -> None:
        self._connection = pymysql.connect(
            unix_socket=socket, user="root", charset="utf8mb4", collation="utf8mb4_bin", autocommit=True
        )
        self._cursor = self._connection.cursor()
        self._cursor.execute("USE test")

    def execute(self, sql: str) -> Outcome:
        try:
            self._cursor.execute(sql)
            rows: list[tuple[Any, ...]] = list(self._cursor.fetchall())
        except pymysql.MySQLError as e:
            code, message = (*e.args, "")[:2] if e.args else (0, str(e))
            raise StatementFailed(MYSQL_CODES.get(int(code), int(code)), "", str(message)) from e
        description = self._cursor.description
        if not description:
            return Outcome(0, (), self._cursor.rowcount)
        bits = [i for i, column in enumerate(description) if column[1] == BIT_TYPE_CODE]
        if bits:
            rows = [
                tuple(int.from_bytes(v, "big") if i in bits and v is not None else v for i, v in enumerate(row))
                for row in rows
            ]
        return Outcome(len(description), rows, len(rows))

    def close(self) -> None:
        self._connection.close()


def make_test_database(cursor: Any) -> None:
    """Drops all databases of a server, and makes `test`."""
    cursor.execute("SHOW DATABASES")
    for (name,) in cursor.fetchall():
        if name.lower() not in SYSTEM_DATABASES:
            cursor.execute(f"DROP DATABASE `{name}`")
    cursor.execute("CREATE DATABASE test")


class MysqlStore:
    """The database `test` of a running server, made anew."""

    def __init__(self, name: str, socket: str) -> None:
        self.engines = frozenset({"mysql", name})
        self._socket = socket
        connection = pymysql.connect(unix_socket=socket, user="root", autocommit=True)
        with connection, connection.cursor() as cursor:
            make_test_database(cursor)

    def open(self) -> Session:
        return MysqlSession(self._socket)

    def close(self) -> None:
        """Nothing to do: the server belongs to whoever started it."""


class SqliteSession:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str) -> Outcome:
        try:
            cursor = self._connection.execute(sql)
            rows = cursor.fetchall()
        except sqlite3.Error as e:
            raise StatementFailed(e.sqlite_errorcode if hasattr(e, "sqlite_errorcode") else 1, "HY000", str(e)) from e
        return Outcome(len(cursor.description or ()), rows, cursor.rowcount)

    def close(self) -> None:
        self._connection.close()


class SqliteStore:
    """An in-memory database of Python's sqlite3; one session only."""

    engines = frozenset({"sqlite"})

    def open(self) -> Session:
        return SqliteSession(sqlite3.connect(":memory:", isolation_level=None))

    def close(self) -> None:
        """Nothing to do: the session held all of it."""


class DuckdbSession:
    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, sql: str) -> Outcome:
        try:
            self._connection.execute(sql)
            rows = self._connection.fetchall()
        except duckdb.Error as e:
            raise StatementFailed(0, "HY000", str(e)) from e
        return Outcome(len(self._connection.description or ()), rows, len(rows))

    def close(self) -> None:
        self._connection.close()


class DuckdbStore:
    """An in-memory DuckDB."""

    engines = frozenset({"duckdb"})

    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:")

    def open(self) -> Session:
        return DuckdbSession(self._connection.cursor())

    def close(self) -> None:
        self._connection.close()


def open_judge(name: str) -> Store:
    """Makes a fresh database of a judge."""
    if name == "sqlite":
        return SqliteStore()
    if name == "duckdb":
        return DuckdbStore()
    variable = f"SLT_{name.upper()}_SOCKET"
    socket = os.environ.get(variable)
    if not socket:
        started = ", or `python -m tests.slt.record`, which starts one" if name == "mariadb" else ""
        raise ValueError(f"the judge {name} needs {variable}{started}")
    return MysqlStore(name, socket)


@contextlib.contextmanager
def mariadb_server() -> Iterator[str]:
    """Starts MariaDB on a temporary directory and yields its socket; stops it afterwards."""
    if socket := os.environ.get("SLT_MARIADB_SOCKET"):
        yield socket
        return
    directory = tempfile.mkdtemp(prefix="slt-mariadb-")
    data, socket = f"{directory}/data", f"{directory}/s.sock"
    install = ["mariadb-install-db", "--user=root", f"--datadir={data}", "--skip-test-db"]
    subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    server = subprocess.Popen(_server_command(data, socket), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_server(socket)
        os.environ["SLT_MARIADB_SOCKET"] = socket
        yield socket
    finally:
        os.environ.pop("SLT_MARIADB_SOCKET", None)
        server.terminate()
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _server_command(data: str, socket: str) -> list[str]:
    return [
        shutil.which("mariadbd") or "/usr/sbin/mariadbd",
        "--no-defaults",
        "--user=root",
        f"--datadir={data}",
        f"--socket={socket}",
        "--skip-networking",
        f"--sql-mode={SQL_MODE}",
        "--character-set-server=utf8mb4",
        "--collation-server=utf8mb4_bin",
        "--default-time-zone=+00:00",
        "--innodb-flush-log-at-trx-commit=0",
    ]


def _await_server(socket: str) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            pymysql.connect(unix_socket=socket, user="root").close()
            return
        except pymysql.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
