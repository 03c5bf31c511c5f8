"""Cached plans are used for what they were made for, and for nothing else."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from sqlfront.session import PLAN_CACHE_SIZE, Session
from tests.session.statements import error_code, rows, run, value


def _cached(session: Session, sql: str) -> bool:
    return sql in session._plans


def test_a_repeated_statement_is_not_planned_again(a: Session) -> None:
    sql = "select v from t where id = ?"
    assert value(a, sql, (1,)) == 10
    assert _cached(a, sql)
    plan = a._plans[sql]
    assert value(a, sql, (2,)) == 20
    assert a._plans[sql] is plan


@pytest.mark.parametrize(
    "sql",
    ["select v from t where id = ?", "select v from t where v = ? * 10", "select v from t where cast(id as char) = ?"],
)
def test_parameters_of_other_types(a: Session, sql: str) -> None:
    for given in (1, "1", Decimal(1), 1.0, Decimal("1.0") if "char" not in sql else "1", True):
        assert rows(a, sql, (given,)) == [(10,)], given
    assert rows(a, sql, (None,)) == []
    for given in (2, "2", Decimal(2), 2.0 if "char" not in sql else 2):
        assert rows(a, sql, (given,)) == [(20,)], given
    for nothing in (1.5, Decimal("1.5"), "1.5", 10**12, -(10**12)):
        assert rows(a, sql, (nothing,)) == [], nothing
    for nothing in () if "v = ?" in sql else (2**63, 10**30):
        assert rows(a, sql, (nothing,)) == [], nothing


def test_types_of_results_follow_the_parameters(a: Session) -> None:
    sql = "select ? + ?"
    assert value(a, sql, (1, 2)) == 3
    assert value(a, sql, (Decimal("1.50"), 2)) == Decimal("3.50")
    assert value(a, sql, (1.5, 2)) == 3.5
    assert value(a, sql, (Decimal("1.5"), Decimal("2.25"))) == Decimal("3.75")
    assert value(a, sql, ("1", 2)) == 3.0
    assert value(a, sql, (1, None)) is None
    assert value(a, sql, (2**63, 1)) == 2**63 + 1
    assert value(a, "select ?", (dt.date(2026, 1, 2),)) == dt.date(2026, 1, 2)
    assert value(a, "select ?", ("x",)) == "x"
    assert value(a, "select ?", (b"x",)) == b"x"


DDL = [
    ("alter table t add column w int default 5", [(1, 10, "a", 5)]),
    ("alter table t drop column s", [(1, 10)]),
    ("create index s on t (s)", [(1, 10, "a")]),
    ("drop index v on t", [(1, 10, "a")]),
    ("truncate table t", []),
]


@pytest.mark.parametrize(("ddl", "expected"), DDL, ids=[d[0] for d in DDL])
@pytest.mark.parametrize("sql", ["select * from t where id = 1", "select * from t where v = 10"])
def test_ddl_between_executions(a: Session, b: Session, sql: str, ddl: str, expected: list[tuple[object, ...]]) -> None:
    for session in (a, b):
        assert rows(session, sql) == [(1, 10, "a")]
    run(a, ddl)
    for session in (a, b):
        assert rows(session, sql) == expected


def test_a_table_dropped_and_made_again(a: Session, b: Session) -> None:
    sql = "select * from t where id = ?"
    insert = "insert into t values (?, ?, ?)"
    assert rows(b, sql, (1,)) == [(1, 10, "a")]
    run(a, "drop table t")
    assert error_code(b, sql, (1,)) == 1146
    run(a, "create table t (id int primary key, x varchar(5), y int)")
    a.execute(insert, (1, "new", 3))
    assert rows(b, sql, (1,)) == [(1, "new", 3)]
    b.execute(insert, (2, "b", 4))
    assert rows(a, sql, (2,)) == [(2, "b", 4)]


def test_the_current_database_counts(a: Session) -> None:
    sql = "select v from t where id = 1"
    assert value(a, sql) == 10
    run(a, "create database other", "use other", "create table t (id int primary key, v varchar(5))")
    assert rows(a, sql) == []
    run(a, "insert into t values (1, 'x')")
    assert value(a, sql) == "x"
    run(a, "use test")
    assert value(a, sql) == 10


def test_time_zone(a: Session) -> None:
    run(a, "create table z (id int primary key, at timestamp)", "set time_zone = '+00:00'")
    run(a, "insert into z values (1, '2026-01-01 12:00:00')")
    for sql in ("select at from z where id = 1", "select max(at) from z", "select at from z where at > '2025-01-01'"):
        assert value(a, sql) == dt.datetime(2026, 1, 1, 12)
        run(a, "set time_zone = '+02:00'")
        assert value(a, sql) == dt.datetime(2026, 1, 1, 14)
        run(a, "set time_zone = '+00:00'")
    count = "select count(*) from z where at = '2026-01-01 12:00:00'"
    assert value(a, count) == 1
    run(a, "set time_zone = '-05:00'")
    assert value(a, count) == 0


def test_sql_mode(a: Session) -> None:
    sql = "select v, count(*) from t group by s order by v"
    run(a, "set sql_mode = ''")
    assert len(rows(a, sql)) == 3
    run(a, "set sql_mode = 'ONLY_FULL_GROUP_BY'")
    assert error_code(a, sql) == 1055


def test_sql_select_limit(a: Session) -> None:
    sql = "select id from t order by id"
    assert len(rows(a, sql)) == 3
    run(a, "set sql_select_limit = 1")
    assert rows(a, sql) == [(1,)]
    run(a, "set sql_select_limit = default")
    assert len(rows(a, sql)) == 3


def test_read_engines(a: Session) -> None:
    sql = "select v from t where id = 1"
    assert value(a, sql) == 10
    assert _cached(a, sql)
    run(a, "set tidb_isolation_read_engines = 'tidb'")
    assert not _cached(a, sql)
    assert error_code(a, sql) == 1815
    run(a, "set tidb_isolation_read_engines = 'tikv'")
    assert value(a, sql) == 10
    assert error_code(a, "set tidb_isolation_read_engines = 'innodb'") == 1231
    assert _cached(a, sql)


def test_division_precision(a: Session, b: Session) -> None:
    sql = "select v / 7 from t where id = 1"
    assert value(a, sql) == value(b, sql) == Decimal("1.4286")
    run(a, "set div_precision_increment = 6")
    assert not _cached(a, sql)
    assert value(a, sql) == value(a, sql) == Decimal("1.428571")
    assert value(b, sql) == Decimal("1.4286")
    run(a, "set div_precision_increment = default")
    assert value(a, sql) == Decimal("1.4286")


def test_division_in_a_generated_column_is_the_same_for_all(a: Session, b: Session) -> None:
    run(a, "set div_precision_increment = 10")
    run(a, "create table g (x int primary key, y decimal(20, 12) as (x / 7))")
    run(a, "insert into g (x) values (1)")
    assert value(a, "select y from g") == value(b, "select y from g") == Decimal("0.142900000000")


def test_user_variables_are_read_each_time(a: Session) -> None:
    sql = "select @x"
    run(a, "set @x = 1")
    assert value(a, sql) == 1
    run(a, "set @x = 'text'")
    assert value(a, sql) == "text"
    run(a, "set @x = 2.5")
    assert rows(a, "select id from t where v > @x * 10") == [(3,)]
    run(a, "set @x = null")
    assert rows(a, "select id from t where v > @x * 10") == []


def test_clock_and_connection_are_read_each_time(a: Session, b: Session) -> None:
    first = value(a, "select now(6)")
    assert value(a, "select now(6)") > first
    assert value(a, "select connection_id()") == a.id
    assert value(b, "select connection_id()") == b.id
    values = {value(a, "select rand()") for _ in range(3)}
    assert len(values) == 3


def test_a_grown_table_is_planned_anew(a: Session) -> None:
    run(a, "create table g (id int primary key, k int, key k (k))")
    sql = "select count(*) from g where k < 100000"
    assert value(a, sql) == 0
    a.execute_many("insert into g values (?, ?)", [(i, i) for i in range(7000)])
    for _ in range(3):
        assert value(a, sql) == 7000


def test_the_cache_is_bounded(a: Session) -> None:
    for i in range(PLAN_CACHE_SIZE + 10):
        a.execute(f"select {i}")
    assert len(a._plans) <= PLAN_CACHE_SIZE


# Prepared statements


def test_prepared_statements_follow_the_schema(a: Session) -> None:
    run(a, "prepare p from 'select * from t where id = ?'", "set @i = 1")
    assert rows(a, "execute p using @i") == [(1, 10, "a")]
    run(a, "alter table t add column w int default 5")
    assert rows(a, "execute p using @i") == [(1, 10, "a", 5)]
    run(a, "drop table t")
    assert error_code(a, "execute p using @i") == 1146


def test_preparing_again_replaces(a: Session) -> None:
    run(a, "prepare p from 'select 1'", "prepare p from 'select 2'")
    assert value(a, "execute p") == 2
    assert error_code(a, "prepare p from 'selec'") == 1064
    assert error_code(a, "execute p using @a") == 1210
    run(a, "deallocate prepare p")
    assert error_code(a, "execute p") == 1243


def test_prepared_changes_are_one_statement(a: Session, b: Session) -> None:
    run(a, "prepare p from 'insert into t values (?, ?, ''x''), (1, 1, ''y'')'", "set @i = 9, @v = 90")
    assert error_code(a, "execute p using @i, @v") == 1062
    assert value(b, "select count(*) from t") == 3


def test_prepared_statements_belong_to_their_session(a: Session, b: Session) -> None:
    run(a, "prepare p from 'select 1'")
    assert error_code(b, "execute p") == 1243
