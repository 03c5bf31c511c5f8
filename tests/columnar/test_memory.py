"""What a query may take: DuckDB spills beyond its quota, and rows that do not fit are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sqlfront
from coprocessor.errors import OverQuota
from coprocessor.quota import Quota
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
    assert duckdb_limit(con) == "600.0 MiB"
    con.execute("set global tidb_server_memory_limit = '80%'")


CHANGES = {
    "update": "update t set s = concat(s, 'x') where id >= 0",
    "delete": "delete from t where id >= 0",
    "update by a join": "update t join t u on u.id = t.id set t.s = u.s",
    "insert select": "insert into t select id + 1000000, s from t",
    "for update": "select * from t where id >= 0 for update",
}


@pytest.mark.parametrize("sql", CHANGES.values(), ids=CHANGES)
def test_rows_in_python_count(con: Any, sql: str) -> None:
    """A change, or a lock, of more rows than fit is refused before it does anything."""
    con.execute("set tidb_mem_quota_query = 4000000")
    with pytest.raises(sqlfront.Error) as refused:
        con.execute(sql)
    assert (refused.value.code, refused.value.sqlstate) == (8175, "HY000")
    con.execute("set tidb_mem_quota_query = -1")
    assert con.execute("select count(*), sum(length(s)) from t").fetchone() == (COUNT, COUNT * 100)
    con.execute("begin")
    con.execute(sql)
    con.execute("rollback")


def test_few_rows_of_long_values_count(con: Any) -> None:
    con.execute("create table l (id int primary key, b longblob)")
    for i in range(8):
        con.execute("insert into l values (?, ?)", (i, bytes(1 << 20)))
    con.execute("set tidb_mem_quota_query = 5000000")
    assert len(con.execute("select b from l where id < 4").fetchall()) == 4
    with pytest.raises(sqlfront.Error) as refused:
        con.execute("select b from l where id < 6")
    assert refused.value.code == 8175
    assert con.execute("select length(b) from l where id = 7").fetchone() == (1 << 20,)


def test_what_others_hold_is_not_duckdbs(con: Any) -> None:
    """Rows that are held leave DuckDB less of the server's limit, and it gets that back."""
    con.execute("set global tidb_server_memory_limit = '600MB'")
    holdings = con._database.holdings
    quota = Quota(holdings=holdings)
    quota.hold(100 << 20)
    assert duckdb_limit(con) == "500.0 MiB"
    quota.hold(1)  # too little to be counted, and then too much
    with pytest.raises(OverQuota):
        quota.hold(450 << 20)
    assert duckdb_limit(con) == "500.0 MiB"
    del quota
    con.execute(query(REPLICA)).fetchall()
    assert duckdb_limit(con) == "600.0 MiB"
    con.execute("set global tidb_server_memory_limit = '80%'")


def test_the_servers_limit_ends_a_statement_without_a_quota(con: Any) -> None:
    con.execute("set tidb_mem_quota_query = -1")
    other = Quota(holdings=con._database.holdings)
    con.execute("set global tidb_server_memory_limit = '512MB'")
    other.hold(440 << 20)
    with pytest.raises(sqlfront.Error) as refused:
        con.execute(CHANGES["update"])
    assert refused.value.code == 8175
    del other
    assert con.execute(CHANGES["update"]).rowcount == COUNT
    con.execute("set global tidb_server_memory_limit = '80%'")


def duckdb_limit(con: Any) -> str:
    connection = con._database.duck.take()
    try:
        ((limit,),) = connection.execute("select current_setting('memory_limit')").fetchall()
    finally:
        con._database.duck.give_back(connection)
    return str(limit)
