"""What a query may take: DuckDB spills beyond its quota, and rows that do not fit are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sqlfront
from tests.columnar.compare import REPLICA, ROWS, hinted

COUNT = 60_000
WIDE = "select count(*) from (select s, count(*) c from t group by s order by s) q"


@pytest.fixture
def con(tmp_path: Path) -> Any:
    with sqlfront.connect(str(tmp_path / "db"), autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute("create table t (id int primary key, s varchar(200))")
        con.executemany("insert into t values (?, ?)", [(i, f"{i * 7919 % COUNT:0>100}") for i in range(COUNT)])
        yield con


def query(engine: str) -> str:
    return WIDE.replace("select s,", f"select /*+ READ_FROM_STORAGE({engine}[t]) */ s,")


def test_the_replica_spills_and_answers(con: Any) -> None:
    assert con.execute(hinted(REPLICA, "select count(*) from t", "t")).fetchall() == [(COUNT,)]
    con.execute("set tidb_mem_quota_query = 1000000")
    assert con.execute(query(REPLICA)).fetchall() == [(COUNT,)]


def test_rows_beyond_the_quota_are_refused(con: Any) -> None:
    con.execute("set tidb_mem_quota_query = 1000000")
    with pytest.raises(sqlfront.Error) as refused:
        con.execute(query(ROWS)).fetchall()
    assert refused.value.code == 8175
    con.execute("set tidb_mem_quota_query = -1")
    assert con.execute(query(ROWS)).fetchall() == [(COUNT,)]


@pytest.mark.parametrize("value", ["5MB", "100%", "much", "-1"])
def test_a_limit_that_is_none_is_refused(con: Any, value: str) -> None:
    with pytest.raises(sqlfront.Error) as refused:
        con.execute(f"set global tidb_server_memory_limit = '{value}'")
    assert refused.value.code == 1231


def test_the_server_limit_is_duckdbs(con: Any) -> None:
    con.execute("set global tidb_server_memory_limit = '600MB'")
    connection = con._database.duck.take()
    try:
        ((limit,),) = connection.execute("select current_setting('memory_limit')").fetchall()
    finally:
        con._database.duck.give_back(connection)
    assert limit == "600.0 MiB"
    con.execute("set global tidb_server_memory_limit = '80%'")
