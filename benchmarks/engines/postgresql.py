"""PostgreSQL by psycopg 3: a server of our own on a unix socket at its default (durable) settings; COPY loads."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engines.api import Connection, Paramstyle
from benchmarks.engines.server import Server, csv_beside, find_binary, give_to, run_once
from benchmarks.schema import Table, create_indexes, create_table

if TYPE_CHECKING:
    import psycopg

USER = "postgres"
PORT = 5432
COPY_BYTES = 1 << 20
DEBIAN_ROOT = Path("/usr/lib/postgresql")


class PostgreSQL:
    """initdb into the benchmark's directory, `postgres` listening on a socket there only."""

    name = "postgresql"
    paramstyle: Paramstyle = "format"
    begin = "BEGIN"
    in_process = False
    row_store = True

    def __init__(self) -> None:
        self._directory = Path()
        self._host = ""
        self._port = PORT
        self._server: Server | None = None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.Error,)

    def missing(self) -> str | None:
        if importlib.util.find_spec("psycopg") is None:
            return "the Python package psycopg isn't installed"
        if _binary("postgres") is None or _binary("initdb") is None:
            return "the server isn't installed (apt install postgresql)"
        return None

    def version(self) -> str:
        with self._open() as con:
            return str(con.info.parameter_status("server_version"))

    def start(self, directory: Path) -> None:
        self._directory, self._host = directory, str(directory)
        self._start_primary("listen_addresses=")

    def _start_primary(self, *settings: str) -> None:
        """Makes the cluster of databases and starts its server; waits until it answers at `_host` and `_port`."""
        directory, data = self._directory, self._directory / "data"
        give_to(USER, directory)
        run_once(
            [required("initdb"), "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C"], USER, directory
        )
        self._server = Server(server_command(data, directory, *settings), USER, directory, signal.SIGINT)
        self._server.wait_until(self._answers)

    def _answers(self) -> bool:
        import psycopg

        try:
            self._open().close()
        except psycopg.OperationalError:
            return False
        return True

    def _open(self) -> psycopg.Connection[Any]:
        import psycopg

        return psycopg.connect(host=self._host, port=self._port, user="bench", dbname="postgres", autocommit=True)

    def connect(self) -> Connection:
        return self._open()

    def create_table(self, con: Connection, table: Table) -> None:
        con.cursor().execute(create_table(table, lambda column: column.type))

    def create_indexes(self, con: Connection, table: Table) -> None:
        for statement in create_indexes(table):
            con.cursor().execute(statement)

    def prepare(self, path: Path) -> None:
        csv_beside(path)

    def append(self, con: Connection, table: Table, path: Path) -> None:
        statement = f"COPY {table.name} ({', '.join(table.column_names)}) FROM STDIN (FORMAT csv)"
        with csv_beside(path).open("rb") as file, con.cursor().copy(statement) as copy:
            while chunk := file.read(COPY_BYTES):
                copy.write(chunk)

    def analyze(self, con: Connection) -> None:
        con.cursor().execute("VACUUM ANALYZE")

    def settle(self, con: Connection) -> str | None:
        return None

    def adapt(self, sql: str) -> str:
        return sql

    def interrupt(self, con: Connection) -> None:
        import psycopg

        assert isinstance(con, psycopg.Connection)
        con.cancel()

    def conflict(self, error: Exception) -> bool:
        import psycopg.errors

        return isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure)

    def interrupted(self, error: Exception) -> bool:
        import psycopg.errors

        return isinstance(error, psycopg.errors.QueryCanceled)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


def _binary(name: str) -> Path | None:
    versions = sorted(DEBIAN_ROOT.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return find_binary(name, *versions)


def server_command(data: Path, sockets: Path, *settings: str) -> list[str | Path]:
    """The command line of a server over a data directory, with its socket in another."""
    command: list[str | Path] = [required("postgres"), "-D", data, "-k", sockets]
    for one in settings:
        command += ["-c", one]
    return command


def required(name: str) -> Path:
    """A program of PostgreSQL; raises RuntimeError when it isn't there."""
    path = _binary(name)
    if path is None:
        raise RuntimeError(f"{name} isn't installed")
    return path
