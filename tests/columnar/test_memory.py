"""What a query may take: DuckDB spills beyond its quota, and rows that do not fit are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sqlfront
from coprocessor.codec.vector import BatchDecoder
from coprocessor.errors import CodecError, OverQuota
from coprocessor.quota import Quota
from sqlfront.exec.streamed import Streamed
from tests.columnar.compare import REPLICA, ROWS, hinted

COUNT = 60_000
WIDE = "select count(*) from (select s, count(*) c from t group by s order by s) q"


@pytest.fixture
def con(tmp_path: Path) -> Any:
    with sqlfront.connect(str(tmp_path / "db"), autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute("create table t (id int primary key, s varchar(200))")
        texts = [f"{i * 7919 % COUNT:0>100}" for i in range(COUNT)]
        con.append("t", pa.table({"id": pa.array(range(COUNT), pa.int32()), "s": texts}))
        yield con


def query(engine: str) -> str:
    return WIDE.replace("select s,", f"select /*+ READ_FROM_STORAGE({engine}[t]) */ s,")


def test_the_replica_spills_and_answers(con: Any) -> None:
    assert con.execute(hinted(REPLICA, "select count(*) from t", "t")).fetchall() == [(COUNT,)]
    con.execute("set tidb_mem_quota_query = 1000000")
    assert con.execute(query(REPLICA)).fetchall() == [(COUNT,)]


STREAMED = {
    "groups": WIDE,
    "a sum": "select sum(length(s)), min(id), max(s) from t where s like '%7%'",
    "two of them": "select count(*) from t join u using (id) where t.s >= u.s",
    "one twice": "with q as (select id from t where s > 0) select count(*) from q a join q b on a.id = b.id + 3",
    "one below another": "select count(*) from t where id in (select id from u where s > '0')",
    "all": "select id, s from t",
    "sorted": "select s, id from t order by s desc limit 5",
    "spaces": "select count(*) from u where concat(s, ' ') = '5'",
}


@pytest.mark.parametrize("sql", STREAMED.values(), ids=STREAMED)
def test_rows_beyond_the_quota_are_read_as_the_query_runs(con: Any, sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    con.execute("create table u (id int primary key, s varchar(200))")
    con.execute("insert into u select id, concat(id, if(id % 2, ' ', '')) from t")
    con.execute("set tidb_isolation_read_engines = 'tikv'")
    con.execute("set tidb_mem_quota_query = -1")
    whole = sorted(con.execute(sql).fetchall())
    scans: list[int] = []
    read = Streamed.__arrow_c_stream__
    monkeypatch.setattr(Streamed, "__arrow_c_stream__", lambda self, *args: (scans.append(1), read(self, *args))[1])
    con.execute("set tidb_mem_quota_query = 2000000")
    assert sorted(con.execute(sql).fetchall()) == whole
    assert scans
    assert con.execute(sql).fetch_arrow_table().num_rows == len(whole)


def test_relations_that_fit_one_by_one_are_not_refused_together(con: Any) -> None:
    con.execute("set tidb_isolation_read_engines = 'tikv'")
    con.execute("set tidb_mem_quota_query = 1000000")
    sql = "select count(*) from t a" + "".join(f" join t b{i} using (id)" for i in range(5))  # an id takes four bytes
    assert con.execute(sql).fetchall() == [(COUNT,)]


def test_what_is_read_as_the_query_runs_is_of_its_snapshot(con: Any) -> None:
    con.execute("set tidb_isolation_read_engines = 'tikv'")
    con.execute("set tidb_mem_quota_query = 3000000")
    cursor = con.cursor().execute("select id, s from t where id >= 0")
    first = cursor.fetchmany(10)
    with sqlfront.connect(con._database.path, autocommit=True) as other:
        other.execute("use d")
        other.execute("set tidb_mem_quota_query = -1")
        other.execute("delete from t where id >= 100")
    assert len(first) + len(cursor.fetchall()) == COUNT
    assert con.execute("select count(*), sum(length(s)) from t").fetchone() == (100, 10_000)


def test_own_writes_beyond_the_quota_are_refused(con: Any) -> None:
    con.execute("set tidb_mem_quota_query = 3000000")
    con.execute("begin")
    con.execute("delete from t where id = 7")
    with pytest.raises(sqlfront.Error) as refused:
        con.execute(query(ROWS)).fetchall()
    assert refused.value.code == 8175
    con.execute("set tidb_mem_quota_query = -1")
    assert con.execute(query(ROWS)).fetchall() == [(COUNT - 1,)]
    con.execute("rollback")


def test_what_fails_while_it_is_read_says_why(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    con.execute("set tidb_mem_quota_query = 3000000")

    def damaged(*_: Any, **__: Any) -> Any:
        raise CodecError("a record of 3 bytes")

    monkeypatch.setattr(BatchDecoder, "decode", damaged)
    with pytest.raises(sqlfront.Error, match="Stored bytes cannot be read: a record of 3 bytes"):
        con.execute(query(ROWS)).fetchall()
    monkeypatch.undo()
    assert con.execute(query(ROWS)).fetchall() == [(COUNT,)]


def test_explain_analyze_counts_what_was_read_as_it_ran(con: Any) -> None:
    con.execute("set tidb_mem_quota_query = 3000000")
    plan = con.execute(f"explain analyze {query(ROWS)}").fetchall()
    assert any(str(COUNT) in map(str, row) for row in plan if "TableFullScan" in str(row[0])), plan


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
