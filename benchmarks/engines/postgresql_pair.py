"""PostgreSQL with one synchronous standby: a commit returns when both have it on their disks. Both on loopback TCP."""

from __future__ import annotations

import signal
from pathlib import Path

from benchmarks.engines.postgresql import USER, PostgreSQL, required, server_command
from benchmarks.engines.server import Server, give_to, run_once
from shell.playground.plan import HOST, free_ports

IN_SYNC = "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')"


class PostgreSQLPair(PostgreSQL):
    """A primary and its standby, streamed to from a base backup on."""

    name = "postgresql-pair"

    def __init__(self) -> None:
        super().__init__()
        self._standby: Server | None = None

    def start(self, directory: Path) -> None:
        self._directory, self._host = directory, HOST
        self._port, other = free_ports(2)
        listen = f"listen_addresses={HOST}"
        self._start_primary(listen, f"port={self._port}", "wal_level=replica", "synchronous_standby_names=*")
        data, place = directory / "standby-data", directory / "standby"
        give_to(USER, place)
        where = ["-h", HOST, "-p", str(self._port), "-U", "bench"]
        run_once([required("pg_basebackup"), "-D", data, *where, "-R", "-X", "stream", "-c", "fast"], USER, directory)
        self._standby = Server(server_command(data, place, listen, f"port={other}"), USER, place, signal.SIGINT)
        self._standby.wait_until(self._in_sync)

    def _in_sync(self) -> bool:
        with self._open() as con:
            row = con.execute(IN_SYNC).fetchone()
            return row is not None and row[0] == 1

    def conflict(self, error: Exception) -> bool:
        """Also a duplicate key, as sysbench runs such a transaction again.

        Under READ COMMITTED a DELETE that waited for another client's finds nothing, and the INSERT after it meets the
        row that the other one put back.
        """
        import psycopg.errors

        return isinstance(error, psycopg.errors.UniqueViolation) or super().conflict(error)

    def stop(self) -> None:
        # the primary first: without its standby it would wait with every commit
        super().stop()
        if self._standby is not None:
            self._standby.stop()
            self._standby = None
