"""Random tables with NULLs and random queries on them, compared with sqlite3."""

from __future__ import annotations

import sqlite3
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

import sqlfront
from tests.sql.rows import comparable

INTEGERS = st.one_of(st.none(), st.integers(-5, 5))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ab", "B", "abc", "z"]))
ROWS = st.lists(st.tuples(INTEGERS, INTEGERS, TEXTS), max_size=12)
COMPARISONS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])


def column(table: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{table}.a", f"{table}.b"])


def integer(table: str) -> st.SearchStrategy[str]:
    leaf = st.one_of(column(table), st.integers(-4, 6).map(str))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            inner.map(lambda e: f"abs({e})"),
            st.tuples(inner, inner).map(lambda t: f"coalesce({t[0]}, {t[1]})"),
            st.tuples(inner, inner).map(lambda t: f"nullif({t[0]}, {t[1]})"),
            st.tuples(condition_of(inner), inner, inner).map(lambda t: f"case when {t[0]} then {t[1]} else {t[2]} end"),
        ),
        max_leaves=4,
    )


def condition_of(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(value, COMPARISONS, value).map(" ".join),
        value.map(lambda e: f"{e} is null"),
        st.tuples(value, value, value).map(lambda t: f"{t[0]} between {t[1]} and {t[2]}"),
        st.tuples(value, value, value).map(lambda t: f"{t[0]} in ({t[1]}, {t[2]})"),
    )


def condition(table: str) -> st.SearchStrategy[str]:
    text = st.one_of(
        st.sampled_from([f"{table}.s like '%b%'", f"{table}.s like 'a_'", f"{table}.s is null", f"{table}.s = ''"]),
        st.tuples(COMPARISONS, st.sampled_from(["''", "'ab'", "'B'", "null"])).map(
            lambda t: f"{table}.s {' '.join(t)}"
        ),
    )
    return st.recursive(
        st.one_of(condition_of(integer(table)), text),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})"),
            inner.map(lambda c: f"not ({c})"),
        ),
        max_leaves=3,
    )


def aggregate(table: str) -> st.SearchStrategy[str]:
    return st.one_of(
        st.just("count(*)"),
        st.tuples(st.sampled_from(["count", "sum", "avg", "min", "max"]), integer(table)).map(
            lambda t: f"{t[0]}({t[1]})"
        ),
        st.tuples(st.sampled_from(["count", "sum"]), column(table)).map(lambda t: f"{t[0]}(distinct {t[1]})"),
        st.sampled_from([f"min({table}.s)", f"max({table}.s)", f"count({table}.s)"]),
    )


def _lists(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(parts, min_size=1, max_size=3).map(", ".join)


@st.composite
def queries(draw: st.DrawFn) -> str:
    where = f" where {draw(condition('x'))}" if draw(st.booleans()) else ""
    kind = draw(
        st.sampled_from(["plain", "distinct", "aggregate", "group", "join", "left", "in", "exists", "scalar", "set"])
    )
    if kind in ("plain", "distinct"):
        word = "distinct " if kind == "distinct" else ""
        return f"select {word}{draw(_lists(integer('x')))}, x.s from t x{where}"
    if kind == "aggregate":
        return f"select {draw(_lists(aggregate('x')))} from t x{where}"
    if kind == "group":
        having = f" having count(*) {draw(COMPARISONS)} {draw(st.integers(0, 3))}" if draw(st.booleans()) else ""
        key = draw(st.sampled_from(["x.a", "x.b", "x.s", "x.a + x.b"]))
        return f"select {key}, {draw(_lists(aggregate('x')))} from t x{where} group by {key}{having}"
    link = f"x.{draw(st.sampled_from('ab'))} = y.{draw(st.sampled_from('ab'))}"
    if kind in ("join", "left"):
        extra = f" and {draw(condition('y'))}" if draw(st.booleans()) else ""
        word = "left join" if kind == "left" else "join"
        return f"select x.a, x.s, {draw(integer('y'))} from t x {word} u y on {link}{extra}{where}"
    no = draw(st.sampled_from(["", "not "]))
    inner = draw(condition("y"))
    if kind == "in":
        return f"select x.a, x.b from t x where {draw(integer('x'))} {no}in (select y.a from u y where {inner})"
    if kind == "exists":
        return f"select x.a, x.b from t x where {no}exists (select 1 from u y where {link} and {inner})"
    if kind == "scalar":
        return f"select x.a, (select {draw(aggregate('y'))} from u y where {link}) from t x{where}"
    word = draw(st.sampled_from(["union", "union all", "except", "intersect"]))
    return f"select x.a, x.s from t x{where} {word} select y.b, y.s from u y where {draw(condition('y'))}"


def _load(ours: Any, judge: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    for con in (ours, judge):
        con.execute(f"delete from {table}")
        if rows:
            con.executemany(f"insert into {table} (a, b, s) values (?, ?, ?)", rows)


class _Average:
    """MySQL's AVG of integers: a DECIMAL of four digits; SQLite's is a float."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def step(self, value: int | None) -> None:
        if value is not None:
            self.values.append(value)

    def finalize(self) -> float | None:
        if not self.values:
            return None
        exact = Decimal(sum(self.values)) / len(self.values)
        return float(exact.quantize(Decimal("0.0001"), ROUND_HALF_UP))


def test_queries_answer_as_sqlite_does() -> None:
    judge = sqlite3.connect(":memory:", isolation_level=None)
    judge.create_aggregate("avg", 1, _Average)
    judge.execute("pragma case_sensitive_like = on")
    with sqlfront.connect(":memory:", autocommit=True) as ours:
        for con in (ours, judge):
            con.execute("create table t (a int, b int, s varchar(10))")
            con.execute("create table u (a int, b int, s varchar(10))")
            con.execute("create index ia on t (a)")
            con.execute("create index ib on u (b)")

        @settings(max_examples=150)
        @example([(-2, 0, None), (0, 0, None), (0, 0, None)], [], ["select avg(a) from t"])
        @given(ROWS, ROWS, st.lists(queries(), min_size=3, max_size=3))
        def run(t: list[tuple[Any, ...]], u: list[tuple[Any, ...]], sqls: list[str]) -> None:
            _load(ours, judge, "t", t)
            _load(ours, judge, "u", u)
            for sql in sqls:
                expected = comparable(judge.execute(sql).fetchall())
                assert comparable(ours.execute(sql).fetchall()) == expected, sql

        run()
    judge.close()
