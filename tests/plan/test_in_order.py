"""Paths in an order, and unions of paths: random conditions, orders and limits give what DuckDB gives over all rows.

Every path that gives the wanted order, and every union, is taken, whatever it costs; over the embedded store and over
one that takes requests, before and inside a transaction that has written, and as locking reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlfront
from sqlfront.exec import query
from sqlfront.plan import in_order, optimize
from tests.push.regions import connect

COLUMNS = "id {0}, a int, b int, c varchar(10) collate utf8mb4_general_ci, u bigint unsigned, e enum('x', 'm', 'b')"
TABLES = {
    "whole": ("int", "primary key (id), key ab (a, b), key c (c), unique key u (u), key e (e, a)"),
    "wide": ("bigint unsigned", "primary key (id), key a (a), key bu (b, u), key cut (c(1), a)"),
    "mixed": ("int not null", "primary key (c, id), key ba (b, a), unique key ui (u, id)"),
    "hidden": ("int not null", "unique key ab (a, b), unique key id (id), key ca (c, a)"),
}
NAMES = ("id", "a", "b", "c", "u", "e")
SMALL = st.integers(-2, 3)
TEXT = st.sampled_from(["", "a", "A", "ab", "aB ", "b", "ß", "ss"])
BIG = st.sampled_from([0, 1, 2, 1 << 62, 1 << 63, (1 << 64) - 1])
ROW = st.tuples(SMALL | st.none(), SMALL | st.none(), TEXT, BIG | st.none(), st.sampled_from(["x", "m", "b", None]))
CONDITIONS = (
    "a = {}", "a in ({}, {})", "b > {}", "b <= {}", "id >= {}", "id in ({}, {}, {})", "c = 'A'", "c >= 'a'",
    "c like 'a%'", "u > {}", "u >= 9223372036854775808", "e = 'm'", "a is null", "b is not null", "not a <=> {}",
    "(a, b) > ({}, {})", "(a, id) <= ({}, {})", "(b, u, id) < ({}, {}, {})", "a + b > {}", "a = {} and b = {}",
    "a between {} and {}", "(a = {} or c = 'ab')", "(id = {} or b in ({}, {}) or u = 1)",
    "(a = {} and b > {} or c > 'b')",
    "(id < {} or id = {} or a is null)", "(u in ({}, 2) or id = {})", "(b = {} or e = 'x' or c = 'b' and a = {})",
)  # fmt: skip


@st.composite
def _where(draw: st.DrawFn) -> str:
    chosen = draw(st.lists(st.sampled_from(CONDITIONS), max_size=2))
    conds = [c.format(*draw(st.tuples(SMALL, SMALL, SMALL))) for c in chosen]
    return f" where {' and '.join(conds)}" if conds else ""


@st.composite
def _ordered(draw: st.DrawFn) -> tuple[str, str, int, int]:
    """A condition, an order, a limit and an offset."""
    keys = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    way = draw(st.sampled_from(["", " desc"]))
    order = ", ".join(key + way for key in keys)
    return draw(_where()), order, draw(st.integers(0, 6)), draw(st.sampled_from([0, 0, 2]))


AGGREGATES = st.lists(
    st.tuples(st.sampled_from(["min", "max"]), st.sampled_from(["id", "a", "b", "c", "u", "e"])), min_size=1, max_size=3
)


@pytest.fixture(scope="module")
def databases() -> Iterator[list[Any]]:
    plain, pushed, few = sqlfront.connect(":memory:", autocommit=True), connect(1), connect(2)
    few.session.database.regions.few_rows = 64
    for con in (plain, pushed, few):
        for name, (type_, keys) in TABLES.items():
            con.execute(f"create table {name} ({COLUMNS.format(type_)}, {keys})")
    yield [plain, pushed, few]
    for con in (plain, pushed, few):
        con.close()


def _fill(con: Any, table: str, rows: list[Any]) -> None:
    con.execute(f"delete from {table}")
    for i, row in enumerate(rows):
        handle = i if table != "wide" or i % 2 else (1 << 64) - 1 - i
        con.execute(f"insert ignore into {table} values (?, ?, ?, ?, ?, ?)", (handle, *row))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    table=st.sampled_from(list(TABLES)),
    rows=st.lists(ROW, min_size=4, max_size=14),
    queries=st.lists(_ordered(), min_size=2, max_size=4),
    ends=st.tuples(_where(), AGGREGATES),
    own=ROW,
    at=st.integers(0, 2),
)
def test_in_order_is_as_sorted(
    databases: list[Any], table: str, rows: list[Any], queries: list[Any], ends: Any, own: Any, at: int
) -> None:
    con = databases[at]
    _fill(con, table, rows)
    _compare(con, table, queries, ends)
    con.execute("begin")
    con.execute(f"update ignore {table} set a = ?, b = ?, c = ?, u = ?, e = ? where id in (1, 3)", own)
    con.execute(f"delete from {table} where id = 2 or c = 'aB' and id > 5")
    con.execute(f"insert ignore into {table} values (77, ?, ?, ?, ?, ?)", own)
    _compare(con, table, queries, ends)
    con.execute("rollback")


def _compare(con: Any, table: str, queries: list[Any], ends: Any) -> None:
    where, aggregates = ends
    funcs = ", ".join(f"{func}({name})" for func, name in aggregates)
    sql = f"select {funcs} from {table}{where}"
    assert _folded(_run(con, sql, ordered=True)) == _folded(_run(con, sql, ordered=False)), sql
    for where, order, limit, offset in queries:
        keys = order.replace(" desc", "")
        whole = f"select {keys}, {table}.* from {table}{where} order by {order}"
        cut = f"{whole} limit {limit} offset {offset}"
        expected = _run(con, whole, ordered=False)
        for sql in (cut, f"{cut} for update", whole):
            found = _run(con, sql, ordered=True)
            wanted = expected if sql is whole else expected[offset : offset + limit]
            width = keys.count(",") + 1
            assert _folded([r[:width] for r in found]) == _folded([r[:width] for r in wanted]), sql
            assert Counter(found) <= Counter(expected), sql


def _folded(rows: Any) -> list[Any]:
    """The rows with texts that are equal made the same; equal rows are in any order."""
    return [[v.lower().rstrip().replace("ß", "s") if isinstance(v, str) else v for v in row] for row in rows]


def _run(con: Any, sql: str, *, ordered: bool) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        if ordered:
            patch.setattr(in_order, "cost_of_all", lambda access: 1e9)
            patch.setattr(optimize, "cost_of_all", lambda access: 1e9)
        else:
            patch.setattr(optimize, "index_merge", lambda scan, estimator, costs: None)
            patch.setattr(query, "compile_direct", lambda *args, force=False: None)
        con._session._forget_plans()
        return con.execute(sql).fetchall()


def test_they_are_read_in_order(databases: list[Any]) -> None:
    _fill(databases[0], "whole", [(1, i, "a", i, "x") for i in range(6)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_order, "cost_of_all", lambda access: 1e9)
        databases[0]._session._forget_plans()
        plan = databases[0].execute("explain select * from whole where a = 1 order by b desc limit 2").fetchall()
        assert any("keep order:true, desc" in str(row) for row in plan), plan


def test_a_path_that_has_too_many_rows_is_left() -> None:
    with sqlfront.connect(":memory:", autocommit=True) as con:
        con.execute("create table t (id int primary key, a int, b int, key b (b))")
        con.executemany("insert into t values (?, ?, ?)", [(i, i % 2, i) for i in range(400)])
        con.execute("analyze table t")
        sql = "select id from t where a = 5 or a = 6 - ? order by b limit 2"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(in_order, "cost_of_all", lambda access: 150.0)
            patch.setattr(in_order, "READ_ROWS_MIN", 10.0)
            noted = "select id from t where a = 5 + cast(if(id < 25, '1x', '1') as signed) order by b limit 2"
            assert con.execute(noted).fetchall() == []
            assert con.execute("show count(*) warnings").fetchall() == [(1,)], "of the one text"
            con.execute("create table copy (id int)")
            for params, expected in (((5,), [(1,), (3,)]), ((7,), []), ((0,), [])):
                assert con.execute(sql, params).fetchall() == expected
                con.execute("delete from copy")
                con.execute(f"insert into copy {sql}", params)
                assert con.execute("select * from copy order by id").fetchall() == expected
            change = "update t set a = 9 where a = 6 - ? order by b desc limit 2"
            assert "keep order:true, desc" in str(con.execute(f"explain {change}", (5,)).fetchall())
            assert con.execute(change, (0,)).rowcount == 0  # left, too
            assert con.execute(change, (5,)).rowcount == 2
            assert con.execute("select id from t where a = 9 order by id").fetchall() == [(397,), (399,)]
