"""Temporary tables: what a session keeps of them, what ends with it, and what never reaches the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.errors import WriteConflict
from sqlfront.catalog.model import TEMPORARY_ID_MIN
from sqlfront.load import append_rows
from sqlfront.load_source import Chunk, Source
from sqlfront.session import Session
from tests.session.statements import error_code, rows, run, value


def test_ends_with_the_session(a: Session, b: Session) -> None:
    before = list(a.database.storage.snapshot().scan(b"t", b"u"))
    run(a, "create temporary table x (k int primary key, v int, key (v))", "insert into x values (1, 2), (3, 4)")
    table = next(iter(a.temporary or ()))
    assert table.id >= TEMPORARY_ID_MIN
    assert list(a.database.storage.snapshot().scan(b"t", b"u")) == before
    assert a.database.find_table(table.id) is table
    assert error_code(b, "select * from x") == 1146
    assert error_code(b, "drop temporary table x") == 1051
    a.close()
    assert a.database.find_table(table.id) is None
    assert a.database.statistics.table(table.id) is None


def test_one_text_means_what_is_there(a: Session) -> None:
    select, insert = "select v from t where id = ?", "insert into t (id, v) values (?, ?)"
    assert rows(a, select, [1]) == [(10,)]
    run(a, "prepare p from 'select count(*) from t'")
    run(a, "create temporary table t (id int primary key, v int)")
    assert rows(a, select, [1]) == []
    a.execute(insert, [1, -1])
    assert error_code(a, insert, [1, -2]) == 1062
    assert (rows(a, select, [1]), rows(a, "execute p")) == ([(-1,)], [(1,)])
    run(a, "drop temporary table t")
    assert (rows(a, select, [1]), rows(a, "execute p")) == ([(10,)], [(3,)])


def test_a_transaction_that_is_older(a: Session, b: Session) -> None:
    run(a, "begin", "insert into t values (4, 40, 'd')", "savepoint s", "update t set v = 41 where id = 4")
    run(a, "create temporary table x (k int primary key)", "insert into x values (1)", "savepoint s2")
    run(a, "insert into x values (2)", "delete from t where id = 4", "rollback to s2")
    assert (rows(a, "select * from x"), value(a, "select v from t where id = 4")) == ([(1,)], 41)
    run(a, "rollback to s")
    assert (rows(a, "select * from x"), value(a, "select v from t where id = 4")) == ([], 40)
    run(a, "insert into x values (3)", "commit")
    assert (rows(a, "select * from x"), value(b, "select v from t where id = 4")) == ([(3,)], 40)


def test_a_commit_that_fails(a: Session, b: Session) -> None:
    run(a, "create temporary table x (k int primary key)", "insert into x values (1)", "begin optimistic")
    run(a, "insert into x values (2)", "update t set v = 0 where id = 1")
    run(b, "update t set v = 5 where id = 1")
    with pytest.raises(WriteConflict):
        a.commit()
    assert rows(a, "select * from x") == [(1,)]
    run(a, "set transaction_read_only = 1", "insert into x values (3)", "update x set k = 4 where k = 3")
    assert error_code(a, "update t set v = 1") == 1792
    assert rows(a, "select k from x order by k") == [(1,), (4,)]


def test_full(a: Session) -> None:
    run(
        a,
        "set tidb_tmp_table_max_size = 1048576",
        "create temporary table x (k int primary key, s mediumtext, key k (s(9)))",
    )
    insert = "insert into x values (?, repeat('x', 400000))"
    for key in (1, 2):
        a.execute(insert, [key])
    assert error_code(a, insert, [3]) == 1114
    assert error_code(a, "update x set s = concat(s, s) where k = 1") == 1114
    assert error_code(a, "create temporary table y select repeat(s, 2) as s from x") == 1114
    assert error_code(a, "select * from y") == 1146
    run(a, "delete from x where k = 1")
    a.execute(insert, [3])
    assert rows(a, "select k, length(s) from x") == [(2, 400000), (3, 400000)]
    run(a, "admin check table x", "set tidb_tmp_table_max_size = default")
    a.execute(insert, [4])


def test_append(a: Session, tmp_path: Path) -> None:
    run(a, "create temporary table t (n int primary key, v int)")
    source = Source(["n", "v"], None, iter([Chunk([list(range(5000)), list(range(5000))], 5000, 1)]))
    assert append_rows(a.database, a, "t", lambda _: source) == 5000
    assert rows(a, "select count(*), sum(v) from t where n % 2 = 0") == [(2500, 6247500)]
    file = tmp_path / "rows.csv"
    file.write_text("1,2\n")
    assert error_code(a, f"import into t from '{file}'") == 1235
    run(a, "drop table t")
    assert value(a, "select count(*) from t") == 3


def test_a_database_that_goes(a: Session) -> None:
    run(a, "create database d", "use d", "create temporary table x (k int)", "insert into x values (1)")
    run(a, "drop database d")
    assert rows(a, "select * from d.x") == [(1,)]
    assert error_code(a, "create temporary table d.y (k int)") == 1049
    run(a, "alter table d.x add column v int", "truncate table d.x", "drop table d.x")
    assert error_code(a, "select * from d.x") == 1049
