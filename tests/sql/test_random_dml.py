"""Random INSERT, UPDATE, DELETE and REPLACE on tables with indexes, compared with sqlite3; ADMIN CHECK TABLE after."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlfront
from tests.sql.rows import comparable

KEYS = st.integers(0, 9)
VALUES = st.one_of(st.none(), st.integers(-3, 6))
WORDS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ab", "zz"]))
COLUMNS = "(k, v, w, u)"

SCHEMAS = {
    "integer key": "create table t (k int primary key, v int, w varchar(5), u int unique)",
    "string key": "create table t (k varchar(5) primary key, v int, w varchar(5), u int unique)",
    "composite key": "create table t (k int, v int, w varchar(5), u int unique, primary key (u, k))",
    "no key": "create table t (k int, v int, w varchar(5), u int, unique (u))",
    "temporary": "create temporary table t (k int primary key, v int, w varchar(5), u int unique)",
}


def text(value: object) -> str:
    if value is None:
        return "null"
    return str(value) if isinstance(value, int) else f"'{value}'"


@st.composite
def conditions(draw: st.DrawFn) -> str:
    condition: str = draw(
        st.one_of(
            KEYS.map(lambda k: f"k = {k}"),
            st.tuples(KEYS, KEYS).map(lambda t: f"k in ({t[0]}, {t[1]})"),
            VALUES.map(lambda v: f"v = {text(v)}"),
            VALUES.map(lambda v: f"v < {text(v)}"),
            st.just("v is null"),
            WORDS.map(lambda w: f"w = {text(w)}"),
            VALUES.map(lambda v: f"u > {text(v)}"),
            st.tuples(KEYS, VALUES).map(lambda t: f"k > {t[0]} and (v is null or v <> {text(t[1])})"),
        )
    )
    return condition


@st.composite
def statements(draw: st.DrawFn) -> str:
    row = st.tuples(KEYS, VALUES, WORDS, KEYS).map(lambda r: f"({', '.join(map(text, r))})")
    kind = draw(
        st.sampled_from(["insert", "insert", "insert many", "replace", "ignore", "update", "update key", "delete"])
    )
    if kind in ("insert", "replace", "ignore"):
        word = {"insert": "insert into", "replace": "replace into", "ignore": "insert ignore into"}[kind]
        return f"{word} t {COLUMNS} values {draw(row)}"
    if kind == "insert many":
        return f"insert into t {COLUMNS} values {', '.join(draw(st.lists(row, min_size=2, max_size=4)))}"
    if kind == "update":
        change = draw(st.sampled_from(["v = v + 1", "v = null", "w = 'n'", "v = k, w = null", "v = u"]))
        return f"update t set {change} where {draw(conditions())}"
    if kind == "update key":
        return f"update t set {draw(st.sampled_from(['k', 'u']))} = {draw(KEYS)} where {draw(conditions())}"
    return f"delete from t where {draw(conditions())}"


def _for_sqlite(sql: str) -> str:
    return sql.replace("insert ignore", "insert or ignore")


def _apply(ours: Any, judge: sqlite3.Connection, sql: str) -> None:
    """Runs a statement on both; a duplicate must be one on both, and leaves no trace on either."""
    try:
        judge.execute(_for_sqlite(sql))
        refused = False
    except sqlite3.IntegrityError:
        refused = True
    if refused:
        with pytest.raises(sqlfront.IntegrityError) as raised:
            ours.execute(sql)
        assert raised.value.code == 1062, sql
    else:
        ours.execute(sql)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_tables_end_as_in_sqlite(schema: str) -> None:
    with sqlfront.connect(":memory:", autocommit=True) as ours:

        @settings(max_examples=40)
        @given(st.lists(statements(), min_size=4, max_size=20), st.booleans())
        def run(sqls: list[str], in_transaction: bool) -> None:
            judge = sqlite3.connect(":memory:", isolation_level=None)
            for con in (ours, judge):
                con.execute("drop table if exists t")
                con.execute(SCHEMAS[schema])
                con.execute("create index iv on t (v)")
                con.execute("create index iwv on t (w, v)")
            if in_transaction:
                ours.execute("begin")
            for sql in sqls:
                _apply(ours, judge, sql)
            select = "select k, v, w, u from t"
            expected = comparable(judge.execute(select).fetchall())
            assert comparable(ours.execute(select).fetchall()) == expected
            if in_transaction:
                ours.execute("commit")
            assert comparable(ours.execute(select).fetchall()) == expected
            for condition in ("v = 1", "v is null", "w = 'a'", "u = 3", "v between 0 and 2", "k > 4"):
                found = comparable(ours.execute(f"{select} where {condition}").fetchall())
                assert found == comparable(judge.execute(f"{select} where {condition}").fetchall()), condition
            ours.execute("admin check table t")
            judge.close()

        run()
