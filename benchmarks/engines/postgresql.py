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
        self._directory = directory
        give_to(USER, directory)
        data = directory / "data"
        run_once(
            [_required("initdb"), "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C"], USER, directory
        )
        command: list[str | Path] = [_required("postgres"), "-D", data, "-k", directory, "-c", "listen_addresses="]
        self._server = Server(command, USER, directory, signal.SIGINT)
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

        return psycopg.connect(host=str(self._directory), user="bench", dbname="postgres", autocommit=True)

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


def _required(name: str) -> Path:
    path = _binary(name)
    if path is None:
        raise RuntimeError(f"{name} isn't installed")
    return path
