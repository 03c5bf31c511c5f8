"""CREATE TABLE ... SELECT with parameters, with many rows, and what is left of it when it fails."""

from __future__ import annotations

from decimal import Decimal

from sqlfront.session import Session
from tests.session.statements import error_code, rows, run, value


def test_parameters(a: Session) -> None:
    assert (
        a.execute("create table c select id, ? as x, v * ? as y from t where id > ?", ["text", 2, 1]).affected_rows == 2
    )
    assert rows(a, "select * from c order by id") == [(2, "text", 40), (3, "text", 60)]
    assert value(a, "select row_count()") == -1
    run(a, "prepare p from 'create table d select id from t where id < ?'", "set @most = 3", "execute p using @most")
    assert value(a, "select row_count()") == 2
    assert rows(a, "select id from d order by id") == [(1,), (2,)]


def test_many_rows(a: Session, b: Session) -> None:
    run(a, "create table many (n int primary key)")
    for start in range(0, 4000, 1000):
        run(a, "insert into many values " + ", ".join(f"({n})" for n in range(start, start + 1000)))
    result = a.execute("create table c (k bigint auto_increment primary key) select n, n / 4 as q from many")
    assert result.affected_rows == 4000
    assert rows(b, "select count(*), min(k), max(k), sum(n), sum(q) from c") == [
        (4000, 1, 4000, Decimal(7998000), Decimal("1999500.0000"))
    ]


def test_what_fails_leaves_nothing(a: Session, b: Session) -> None:
    before = rows(a, "show tables")
    for sql, code in (
        ("create table c (unique (v)) select id, 1 as v from t", 1062),
        ("create table c (x tinyint) select 1000 as x", 1264),
        ("create table c select (select id from t) as x", 1242),
        ("create table c (v int not null default 3) select cast(null as signed) as v from t", 1048),
    ):
        assert error_code(a, sql) == code
        assert rows(b, "show tables") == before


def test_warnings_of_the_query(a: Session) -> None:
    assert error_code(a, "create table c select id / 0 as x from t") == 1365
    run(a, "set sql_mode = 'ERROR_FOR_DIVISION_BY_ZERO'", "create table c select id / 0 as x from t")
    assert {code for _, code, _ in a.warnings} == {1365}
    run(a, "drop table c", "create table c select cast('x' as signed) + id as y from t")
    assert {code for _, code, _ in a.warnings} == {1292}


def test_the_table_may_be_its_own_predecessor(a: Session) -> None:
    run(a, "create table c select * from t", "drop table t", "rename table c to t")
    assert rows(a, "select id, v from t order by id") == [(1, 10), (2, 20), (3, 30)]
