"""A disk without room stops the replica and nothing else; it goes on when there is room again."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

import sqlfront
from coprocessor.columnar import worker
from tests.columnar.compare import REPLICA, hinted, same_table


class NoRoom:
    """A connection that can write nothing."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, sql: str, *args: object) -> Any:
        if sql.endswith("COMMIT"):
            raise duckdb.IOException('IO Error: Could not write file "replica.duckdb.wal": No space left on device')
        return self._connection.execute(sql, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_full_disk_stops_the_replica_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "RETRY_S", 0.5)
    with sqlfront.connect(str(tmp_path / "db"), autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute("create table t (id int primary key, v int)")
        con.executemany("insert into t values (?, ?)", [(i, i) for i in range(2000)])
        same_table(con, "t")
        replica = con._database.columnar._replica
        assert replica is not None
        real = replica.writer
        assert real is not None
        replica.writer = NoRoom(real)  # type: ignore[assignment]
        con.execute("insert into t values (5000, 1)")
        with caplog.at_level(logging.WARNING, "sqlfront.columnar"):
            assert con.execute(hinted(REPLICA, "select count(*) from t", "t")).fetchall() == [(2001,)]
        assert "No space left" in caplog.text
        warnings = con.execute("show warnings").fetchall()
        assert any("No space left" in row[2] for row in warnings), warnings
        con.execute("update t set v = v + 1 where id < 100")
        assert con.execute("select sum(v) from t").fetchall() == [(sum(range(2000)) + 101,)]
        replica.writer = real
        until = time.monotonic() + 20
        while replica.problem is not None and time.monotonic() < until:
            time.sleep(0.05)
        assert replica.problem is None
        same_table(con, "t")
