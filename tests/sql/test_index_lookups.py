"""Many rows found by an index: fetched and decoded in bulk, with a transaction's own writes, as a scan gives them."""

from __future__ import annotations

from typing import Any

import pytest

import sqlfront

ROWS = 9000
QUERY = (
    "select /*+ read_from_storage(tikv[t]) */ g, count(*), sum(id), min(s), max(d) from t {} where k < 60 group by g"
)


@pytest.fixture
def con() -> Any:
    with sqlfront.connect(":memory:", autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute("create table t (id int primary key, k int, g int, s varchar(400), d decimal(12, 2), key k (k))")
        con.executemany(
            "insert into t values (?, ?, ?, ?, ?)",
            [(i, i % 100, i % 3, None if i % 11 == 0 else "s" * (i % 300), f"{i}.25") for i in range(ROWS)],
        )
        con.execute("analyze table t")
        yield con


def both(con: Any) -> list[Any]:
    by_index = con.execute(QUERY.format("use index (k)")).fetchall()
    by_scan = con.execute(QUERY.format("ignore index (k)")).fetchall()
    assert sorted(by_index) == sorted(by_scan)
    return sorted(by_index)


def test_many_rows_by_an_index(con: Any) -> None:
    plan = con.execute("explain " + QUERY.format("use index (k)")).fetchall()
    assert "IndexLookUp" in str(plan)
    assert sum(row[1] for row in both(con)) == ROWS * 60 // 100


def test_own_writes_are_among_them(con: Any) -> None:
    before = both(con)
    con.execute("begin")
    con.execute("update t set k = 1 where k = 99")
    con.execute("delete from t where id % 7 = 0")
    con.execute("insert into t values (100000, 3, 1, 'new', 1)")
    inside = both(con)
    assert inside != before
    assert max(row[4] for row in inside) <= ROWS
    con.execute("rollback")
    assert both(con) == before
