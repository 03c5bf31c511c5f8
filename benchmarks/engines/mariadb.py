"""MariaDB by PyMySQL: a server of our own on a unix socket at its default (durable) settings; LOAD DATA loads."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path
from typing import Any

from benchmarks.engines.api import Connection, Paramstyle
from benchmarks.engines.server import Server, csv_beside, find_binary, give_to, run_once
from benchmarks.schema import Table, create_indexes, create_table

USER = "mysql"
DATABASE = "bench"
SBIN = Path("/usr/sbin")
ER_LOCK_WAIT_TIMEOUT = 1205
ER_LOCK_DEADLOCK = 1213
ER_CHECKREAD = 1020
ER_QUERY_INTERRUPTED = 1317


class MariaDB:
    """mariadb-install-db into the benchmark's directory, `mariadbd` listening on a socket there only."""

    name = "mariadb"
    paramstyle: Paramstyle = "format"
    begin = "BEGIN"
    in_process = False
    row_store = True

    def __init__(self) -> None:
        self._socket = Path()
        self._server: Server | None = None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        import pymysql  # type: ignore[import-untyped]

        return (pymysql.err.Error,)

    def missing(self) -> str | None:
        if importlib.util.find_spec("pymysql") is None:
            return "the Python package pymysql isn't installed"
        if find_binary("mariadbd", SBIN) is None or find_binary("mariadb-install-db") is None:
            return "the server isn't installed (apt install mariadb-server)"
        return None

    def version(self) -> str:
        con = self._open()
        try:
            return str(con.get_server_info())
        finally:
            con.close()

    def start(self, directory: Path) -> None:
        give_to(USER, directory)
        data = directory / "data"
        self._socket = directory / "s"
        run_once(
            [
                find_binary("mariadb-install-db") or "mariadb-install-db",
                "--no-defaults",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            USER,
            directory,
        )
        command = [
            find_binary("mariadbd", SBIN) or "mariadbd",
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={self._socket}",
            f"--pid-file={directory / 'pid'}",
            "--skip-networking",
            "--local-infile=1",
            "--character-set-server=utf8mb4",
            "--collation-server=utf8mb4_bin",
        ]
        self._server = Server(command, USER, directory, signal.SIGTERM)
        self._server.wait_until(self._answers)
        con = self._open("mysql")
        con.cursor().execute(f"CREATE DATABASE {DATABASE}")
        con.close()

    def _answers(self) -> bool:
        import pymysql

        try:
            self._open("mysql").close()
        except pymysql.err.OperationalError:
            return False
        return True

    def _open(self, database: str = DATABASE) -> Any:
        import pymysql

        return pymysql.connect(
            unix_socket=str(self._socket), user="root", database=database, autocommit=True, local_infile=True
        )

    def connect(self) -> Connection:
        connection: Connection = self._open()
        return connection

    def create_table(self, con: Connection, table: Table) -> None:
        con.cursor().execute(create_table(table, lambda column: column.type))

    def create_indexes(self, con: Connection, table: Table) -> None:
        for statement in create_indexes(table):
            con.cursor().execute(statement)

    def prepare(self, path: Path) -> None:
        csv_beside(path)

    def append(self, con: Connection, table: Table, path: Path) -> None:
        con.cursor().execute(
            f"LOAD DATA LOCAL INFILE %s INTO TABLE {table.name} FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' "
            f"({', '.join(table.column_names)})",
            (str(csv_beside(path)),),
        )

    def analyze(self, con: Connection) -> None:
        cursor = con.cursor()
        cursor.execute("SHOW TABLES")
        for (name,) in cursor.fetchall():
            cursor.execute(f"ANALYZE TABLE `{name}`")
            cursor.fetchall()

    def settle(self, con: Connection) -> str | None:
        return None

    def adapt(self, sql: str) -> str:
        return sql

    def interrupt(self, con: Connection) -> None:
        import pymysql

        assert isinstance(con, pymysql.Connection)
        other = self._open()
        other.cursor().execute(f"KILL QUERY {con.thread_id()}")
        other.close()

    def conflict(self, error: Exception) -> bool:
        return bool(error.args) and error.args[0] in (ER_LOCK_DEADLOCK, ER_LOCK_WAIT_TIMEOUT, ER_CHECKREAD)

    def interrupted(self, error: Exception) -> bool:
        return bool(error.args) and error.args[0] == ER_QUERY_INTERRUPTED

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
