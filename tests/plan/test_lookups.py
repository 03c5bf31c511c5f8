"""Reading a table by another's keys changes no result: random queries with every lookup there can be, and with none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlfront
from sqlfront.exec import query
from sqlfront.plan import lookups

VALUE = st.one_of(st.none(), st.integers(-2, 4))
ROWS = st.lists(st.tuples(VALUE, VALUE), min_size=3, max_size=7)
COLUMN = st.sampled_from(["id", "a", "b"])
INNER = st.tuples(
    st.sampled_from(["u", "v"]), COLUMN, COLUMN, st.sampled_from(["", " and x.b > 0", " order by x.id limit 1"])
)
KINDS = (
    "t.{2} in (select {1} from {0} x where true{3})",
    "t.{2} not in (select {1} from {0} x where true{3})",
    "exists (select 1 from {0} x where x.{1} = t.{2}{3})",
    "not exists (select 1 from {0} x where x.{1} = t.{2}{3})",
    "t.a < (select max(b) from {0} x where x.{1} = t.{2}{3})",
    "t.a in (select b from {0} x where x.{1} = t.{2}{3})",
    "t.a not in (select b from {0} x where x.{1} = t.{2}{3})",
    "t.b >= all (select a from {0} x where x.{1} = t.{2}{3})",
    "(t.a, t.b) in (select {1}, {2} from {0} x where true{3})",
    "exists (select 1 from {0} x left join u y on y.{2} = x.a where y.{1} = t.{2}{3})",
    "exists (select count(*) from {0} x where x.{1} = t.{2}{3})",
    "t.{2} in (select {1} from {0} x where x.id in (select a from u z where z.b = t.b){3})",
    "(exists (select 1 from {0} x where x.{1} = t.{2}{3}) or t.id = 1)",
)


@st.composite
def _condition(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(KINDS)).format(*draw(INNER))


@st.composite
def _query(draw: st.DrawFn) -> str:
    where = " and ".join(draw(st.lists(st.one_of(_condition(), st.just("t.id < 3")), min_size=1, max_size=3)))
    table, inner, outer, _ = draw(INNER)
    column = draw(
        st.sampled_from(
            ["t.b", f"(select count(*) from {table} y where y.{inner} = t.{outer})", "(select max(a) from u)"]
        )
    )
    source = draw(
        st.sampled_from(["t", f"t join v on v.{inner} = t.{outer}", f"t left join v on v.{inner} = t.{outer}"])
    )
    return f"select t.id, {column} from {source} where {where}"


@pytest.fixture(scope="module")
def con() -> Iterator[Any]:
    with sqlfront.connect(":memory:", autocommit=True) as connection:
        connection.execute("create table t (id int primary key, a int, b int, key a (a))")
        connection.execute("create table u (id bigint primary key, a bigint, b int, key b_a (b, a))")
        connection.execute("create table v (id int, a int, b int, unique key a (id), key b (b))")
        yield connection


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables=st.tuples(ROWS, ROWS, ROWS), queries=st.lists(_query(), min_size=2, max_size=6))
def test_lookups_keep_the_meaning(con: Any, tables: tuple[list[Any], ...], queries: list[str]) -> None:
    for name, rows in zip("tuv", tables, strict=True):
        con.execute(f"delete from {name}")
        con.executemany(f"insert into {name} values (?, ?, ?)", [(i, *row) for i, row in enumerate(rows)])
    con.execute("analyze table t")
    for sql in queries:
        assert _rows(con, sql, looked_up=True) == _rows(con, sql, looked_up=False), sql


def test_they_are_looked_up(con: Any) -> None:
    con.execute("delete from t")
    con.executemany("insert into t values (?, ?, ?)", [(i, i, i) for i in range(5)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookups, "LOOKUP_COST", 0.0)
        con._session._forget_plans()
        for kind in KINDS[:3]:
            plan = con.execute("explain select * from t where " + kind.format("u", "b", "id", "")).fetchall()
            assert any("by the keys of" in str(row) for row in plan) == ("not in" not in kind), plan


def _rows(con: Any, sql: str, *, looked_up: bool) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookups, "LOOKUP_COST", 0.0)
        if not looked_up:
            patch.setattr(query, "find_lookups", lambda root, estimator: ())
        con._session._forget_plans()
        try:
            return sorted(con.execute(sql).fetchall(), key=repr)
        except sqlfront.Error as exc:
            return exc.code
