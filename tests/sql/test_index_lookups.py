"""Many rows found by an index: fetched and decoded in bulk, with a transaction's own writes, as a scan gives them."""

from __future__ import annotations

import random
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


def alternative(rng: random.Random) -> str:
    """One side of an OR: equalities over some columns, and sometimes more."""
    names = rng.sample(("a", "b", "c", "v"), rng.randint(1, 4))
    parts = []
    for name in names:
        if name == "c":
            parts.append(f"c = '{rng.choice(('x', 'x ', 'y', '', 'X'))}'")
        else:
            op = rng.choice(("=", "=", "=", "=", "<=>", ">", "in"))
            value = rng.choice((*range(5), "null", "1.5", "'2'"))
            parts.append(f"{name} in ({value}, 3)" if op == "in" else f"{name} {op} {value}")
    return f"({' and '.join(parts)})"


@pytest.mark.parametrize("seed", range(4))
def test_alternatives_over_several_columns(seed: int) -> None:
    rng = random.Random(seed)
    with sqlfront.connect(":memory:", autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute(
            "create table t (a int, b int, c varchar(9), v int, w int, primary key (a, b, c), key v_b (v, b), "
            "unique key w (w), key c_a (c, a))"
        )
        rows = {(a, b, c) for a in range(5) for b in range(5) for c in ("x", "y ", "", "X") if rng.random() < 0.8}
        con.executemany(
            "insert into t values (?, ?, ?, ?, ?)",
            [(*key, rng.choice((*range(5), None)), i) for i, key in enumerate(sorted(rows))],
        )
        con.execute("analyze table t")
        plans = set()
        for _ in range(150):
            condition = " or ".join(alternative(rng) for _ in range(rng.randint(2, 4)))
            if rng.random() < 0.3:
                columns = rng.choice(("a, b", "b, v", "a, b, c", "c, a"))
                values = [
                    ", ".join(
                        f"'{rng.choice('xy')}'" if name == "c" else str(rng.randrange(6))
                        for name in columns.split(", ")
                    )
                    for _ in range(rng.randint(2, 5))
                ]
                condition = f"({columns}) in (({'), ('.join(values)}))"
            by_scan = con.execute(f"select * from t ignore index (primary, v_b, c_a) where {condition}").fetchall()
            for hint in ("", "use index (primary)", "use index (v_b)", "use index (c_a)"):
                query = f"select * from t {hint} where {condition}"
                assert sorted(con.execute(query).fetchall(), key=str) == sorted(by_scan, key=str), query
                plans.add(con.execute(f"explain {query}").fetchall()[-1][0].split("─")[-1])
        assert {"Batch_Point_Get", "TableRangeScan", "IndexLookUp", "TableFullScan"} <= plans
