"""Every rewrite rule keeps the meaning: random queries give the same rows with all rules and with all but one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlfront
from sqlfront.plan import optimize
from sqlfront.plan.nodes import Node
from sqlfront.plan.rules import RULES

ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-2, 3)),
        st.one_of(st.none(), st.integers(-2, 3)),
        st.one_of(st.none(), st.sampled_from(["", "a", "ab", "b"])),
    ),
    max_size=6,
)


def _columns(table: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{table}.id", f"{table}.a", f"{table}.b"])


NUMBER = st.integers(-2, 4).map(str)


def _term(tables: tuple[str, ...]) -> st.SearchStrategy[str]:
    column = st.sampled_from(tables).flatmap(_columns)
    return st.one_of(
        column,
        NUMBER,
        st.tuples(column, st.sampled_from(["+", "-", "*"]), NUMBER).map(lambda t: f"({' '.join(t)})"),
        st.tuples(NUMBER, st.sampled_from(["+", "-"]), NUMBER).map(lambda t: f"({' '.join(t)})"),
        st.tuples(column, NUMBER).map(lambda t: f"coalesce({t[0]}, {t[1]})"),
    )


def _condition(*tables: str) -> st.SearchStrategy[str]:
    term = _term(tables)
    name = st.sampled_from(tables)
    simple = st.one_of(
        st.tuples(term, st.sampled_from(["=", "<", "<=", ">", "<>", "<=>"]), term).map(" ".join),
        st.tuples(term, st.lists(NUMBER, min_size=1, max_size=3)).map(lambda t: f"{t[0]} in ({', '.join(t[1])})"),
        st.tuples(term, NUMBER, NUMBER).map(lambda t: f"{t[0]} between {t[1]} and {t[2]}"),
        name.flatmap(_columns).map(lambda c: f"{c} is null"),
        st.tuples(name, st.sampled_from(["a%", "a", "_b", "%"])).map(lambda t: f"{t[0]}.s like '{t[1]}'"),
        st.sampled_from(["1 = 1", "1 > 2", "null", "not null is null"]),
        name.map(lambda n: f"{n}.a in (select b from u where u.id > 1)"),
        name.map(lambda n: f"exists (select 1 from u where u.a = {n}.b)"),
        name.map(lambda n: f"{n}.a >= (select min(a) from t)"),
    )
    return st.recursive(
        simple,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
            inner.map(lambda c: f"not ({c})"),
        ),
        max_leaves=4,
    )


def _query() -> st.SearchStrategy[str]:
    join = st.sampled_from(["join", "left join", "right join"])
    on = st.one_of(st.sampled_from(["t.a = u.a", "t.id = u.id"]), _condition("t", "u"))
    one, both, derived = _condition("t"), _condition("t", "u"), _condition("d")
    return st.one_of(
        one.map(lambda c: f"select * from t where {c}"),
        one.map(lambda c: f"select b from t where {c} order by id desc limit 3"),
        st.tuples(join, on, both).map(lambda t: f"select t.id, u.id, t.s from t {t[0]} u on {t[1]} where {t[2]}"),
        st.tuples(join, on).map(lambda t: f"select count(*), sum(t.a) from t {t[0]} u on {t[1]}"),
        st.tuples(both, derived).map(
            lambda t: (
                f"select d.id, d.b from (select t.id, t.a + u.a as a, u.b, t.s from t, u where {t[0]}) d where {t[1]}"
            )
        ),
        st.tuples(one, derived).map(
            lambda t: (
                f"select d.id, d.a from (select a as id, sum(b) as a, count(*) as b, max(s) as s from t where {t[0]}"
                f" group by a) d where {t[1]}"
            )
        ),
        st.tuples(one, derived).map(
            lambda t: (
                f"select d.a from (select id, a, b, s from t where {t[0]} union all select id, b, a, s from u) d"
                f" where {t[1]}"
            )
        ),
        st.tuples(one, derived).map(
            lambda t: f"select d.s from (select distinct a as id, a, b, s from t where {t[0]}) d where {t[1]}"
        ),
        derived.map(
            lambda c: (
                "select d.id, d.b from (select id, a, row_number() over (partition by a order by id) as b, s"
                f" from t) d where {c}"
            )
        ),
        st.tuples(st.sampled_from(["max", "min"]), _columns("t"), st.sampled_from(["", " where t.id > 0"])).map(
            lambda t: f"select {t[0]}({t[1]}) from t{t[2]}"
        ),
        st.tuples(join, join, on, both, _condition("t", "u", "v")).map(
            lambda t: (
                f"select t.id, u.id, v.id from t {t[0]} u on {t[2]} {t[1]} u v on u.b = v.b and {t[3]} where {t[4]}"
            )
        ),
        derived.map(lambda c: f"with d as (select id, a + 1 as a, b, s from t) select * from d where {c}"),
        derived.map(lambda c: f"select d.id from (select * from t order by id limit 3) d where {c}"),
        st.tuples(one, derived).map(
            lambda t: (
                f"select t.id, d.id from t left join (select id, a, 5 as b, s from u) d on t.a = d.a where {t[1]}"
                f" and {t[0]}"
            )
        ),
    )


@pytest.fixture(scope="module")
def con() -> Iterator[Any]:
    with sqlfront.connect(":memory:", autocommit=True) as connection:
        connection.execute("create table t (id int primary key, a int, b int, s varchar(10), key a (a), key s (s))")
        connection.execute("create table u (id int primary key, a int, b int, s varchar(10), key b_a (b, a))")
        yield connection


def _rows(con: Any, sql: str, rules: tuple[Callable[[Node], Node], ...]) -> object:
    before = optimize.RULES
    optimize.RULES = rules
    try:
        con._session._forget_plans()
        rows = con.execute(sql).fetchall()
    except sqlfront.Error as exc:
        return exc.code
    finally:
        optimize.RULES = before
    return rows if "order by id desc" in sql else sorted(rows, key=repr)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(t=ROWS, u=ROWS, queries=st.lists(_query(), min_size=1, max_size=4))
def test_each_rule_keeps_the_meaning(con: Any, t: list[Any], u: list[Any], queries: list[str]) -> None:
    for table, rows in (("t", t), ("u", u)):
        con.execute(f"delete from {table}")
        con.executemany(f"insert into {table} values (?, ?, ?, ?)", [(i, *row) for i, row in enumerate(rows)])
    for sql in queries:
        expected = _rows(con, sql, RULES)
        for left_out in RULES:
            rules = tuple(r for r in RULES if r is not left_out)
            assert _rows(con, sql, rules) == expected, (left_out.__name__, sql)
        assert _rows(con, sql, ()) == expected, ("no rules", sql)
