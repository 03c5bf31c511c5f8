"""Transactions statement by statement: what ends one, what a failed statement leaves, who sees what when."""

from __future__ import annotations

import time

import pytest

from sqlfront.errors import Error
from sqlfront.session import Session
from tests.session.statements import Connect, error_code, rows, run, value

ALL = "select id, v from t order by id"
START = [(1, 10), (2, 20), (3, 30)]


# What begins and ends a transaction


@pytest.mark.parametrize(
    "ddl",
    [
        "create table u (id int primary key)",
        "alter table t add column w int",
        "create index s on t (s)",
        "drop table t2",
        "truncate table t2",
        "rename table t2 to t3",
        "create database other",
    ],
)
def test_ddl_commits_first(a: Session, b: Session, ddl: str) -> None:
    run(a, "create table t2 (id int primary key)", "begin", "update t set v = 11 where id = 1")
    assert rows(b, ALL) == START
    run(a, ddl)
    assert not a.in_transaction
    run(a, "rollback")
    assert rows(b, ALL)[0] == (1, 11)


def test_a_failed_ddl_has_committed_too(a: Session, b: Session) -> None:
    run(a, "begin", "update t set v = 11 where id = 1")
    assert error_code(a, "create table t (id int)") == 1050
    run(a, "rollback")
    assert rows(b, ALL)[0] == (1, 11)


def test_begin_commits_the_open_transaction(a: Session, b: Session) -> None:
    run(a, "begin", "update t set v = 11 where id = 1", "begin")
    assert rows(b, ALL)[0] == (1, 11)


def test_closing_rolls_back(a: Session, connect: Connect) -> None:
    other = connect()
    run(other, "begin", "update t set v = 11 where id = 1")
    other.close()
    assert rows(a, ALL) == START
    assert error_code(a, "update t set v = 12 where id = 1") == 0


def test_autocommit_off_opens_a_transaction_by_the_first_statement(a: Session, b: Session) -> None:
    run(a, "set autocommit = 0")
    assert not a.in_transaction
    run(a, "select 1 from t")
    assert a.in_transaction
    run(b, "update t set v = 11 where id = 1")
    assert rows(a, ALL) == START
    run(a, "commit")
    assert rows(a, ALL)[0] == (1, 11)
    run(a, "update t set v = 12 where id = 1", "rollback")
    assert rows(a, ALL)[0] == (1, 11)


def test_autocommit_on_commits(a: Session, b: Session) -> None:
    run(a, "set autocommit = 0", "update t set v = 11 where id = 1")
    assert rows(b, ALL) == START
    run(a, "set autocommit = 1")
    assert rows(b, ALL)[0] == (1, 11)


def test_savepoints(a: Session) -> None:
    run(a, "begin", "update t set v = 11 where id = 1", "savepoint one", "update t set v = 21 where id = 2")
    run(a, "savepoint two", "delete from t where id = 3", "savepoint one", "insert into t values (4, 40, 'd')")
    run(a, "rollback to one")
    assert rows(a, ALL) == [(1, 11), (2, 21)]
    # Setting `one` again moved it behind `two`.
    run(a, "rollback to savepoint two")
    assert rows(a, ALL) == [(1, 11), (2, 21), (3, 30)]
    assert error_code(a, "rollback to one") == 1305
    run(a, "release savepoint two")
    assert error_code(a, "rollback to two") == 1305
    run(a, "commit")
    assert rows(a, ALL) == [(1, 11), (2, 21), (3, 30)]
    assert error_code(a, "rollback to two") == 1305


def test_savepoint_names_ignore_case(a: Session) -> None:
    run(a, "begin", "savepoint Mark", "delete from t", "rollback to MARK")
    assert rows(a, ALL) == START


def test_rolled_back_writes_do_not_come_back_at_commit(a: Session, b: Session) -> None:
    run(a, "begin", "savepoint x", "insert into t values (4, 40, 'd')", "rollback to x", "commit")
    assert rows(b, ALL) == START
    assert rows(b, "select id from t force index (v) where v = 40") == []
    run(b, "admin check table t")


# What others see


def test_repeatable_read_keeps_its_snapshot(a: Session, b: Session) -> None:
    run(a, "begin")
    assert rows(a, ALL) == START
    run(b, "update t set v = 11 where id = 1", "insert into t values (4, 40, 'd')")
    for sql, expected in (
        (ALL, START),
        ("select v from t where id = 1", [(10,)]),
        ("select id from t where v = 40", []),
        ("select count(*), sum(v) from t", [(3, 60)]),
        ("select count(*) from t x join t y on x.id = y.id", [(3,)]),
    ):
        assert rows(a, sql) == expected, sql
    run(a, "commit")
    assert rows(a, "select count(*), sum(v) from t") == [(4, 101)]


def test_read_committed_reads_anew_with_every_statement(a: Session, b: Session) -> None:
    run(a, "set transaction isolation level read committed", "begin")
    assert rows(a, ALL) == START
    run(b, "update t set v = 11 where id = 1")
    assert value(a, "select v from t where id = 1") == 11
    assert value(a, "select sum(v) from t") == 61
    run(a, "update t set v = 22 where id = 2")
    run(b, "insert into t values (4, 40, 'd')")
    assert value(a, "select sum(v) from t") == 103
    assert value(a, "select count(*) from t x join t y on x.id = y.id") == 4
    run(a, "commit")
    # SET TRANSACTION was for one transaction only.
    run(a, "begin", "select 1 from t")
    run(b, "delete from t where id = 4")
    assert value(a, "select count(*) from t") == 4


def test_an_update_sees_the_latest_rows_a_select_does_not(a: Session, b: Session) -> None:
    run(a, "begin")
    assert rows(a, ALL) == START
    run(b, "update t set v = v + 1 where id = 1")
    run(a, "update t set v = v + 100 where id = 1")
    assert value(a, "select v from t where id = 1") == 111
    run(a, "commit")
    assert value(b, "select v from t where id = 1") == 111


def test_for_update_reads_the_latest_rows(a: Session, b: Session) -> None:
    run(a, "begin", "select 1 from t")
    run(b, "update t set v = 11 where id = 1")
    assert value(a, "select v from t where id = 1") == 10
    assert value(a, "select v from t where id = 1 for update") == 11
    run(a, "rollback")


def test_own_writes_on_every_path(a: Session) -> None:
    run(
        a,
        "begin",
        "insert into t values (4, 40, 'd')",
        "delete from t where id = 1",
        "update t set v = 21 where id = 2",
    )
    assert rows(a, ALL) == [(2, 21), (3, 30), (4, 40)]
    assert rows(a, "select v from t where id = 1") == []
    assert rows(a, "select id from t where v = 10") == []
    assert rows(a, "select id from t where v in (20, 21, 40) order by id") == [(2,), (4,)]
    assert rows(a, "select count(*), sum(v) from t") == [(3, 91)]
    assert rows(a, "select x.id from t x join t y on x.v = y.v order by 1") == [(2,), (3,), (4,)]
    assert rows(a, "select id from t order by v desc limit 1") == [(4,)]
    run(a, "rollback")
    assert rows(a, ALL) == START


# Read only


@pytest.mark.parametrize(
    "sql",
    ["insert into t values (9, 9, 'x')", "update t set v = 1", "delete from t", "replace into t values (1, 1, 'x')"],
)
def test_read_only_transactions_refuse_changes(a: Session, sql: str) -> None:
    run(a, "start transaction read only")
    assert error_code(a, sql) == 1792
    assert rows(a, ALL) == START
    run(a, "commit")
    assert error_code(a, sql) == 0


def test_set_transaction_read_only(a: Session) -> None:
    run(a, "set transaction read only", "begin")
    assert error_code(a, "delete from t") == 1792
    run(a, "commit", "begin", "delete from t", "rollback")
    run(a, "set session transaction read only")
    assert error_code(a, "delete from t") == 1792
    run(a, "set session transaction read write", "delete from t")
    assert rows(a, ALL) == []


# The past


def _mark(session: Session) -> str:
    """A moment between two changes."""
    time.sleep(0.005)
    now = value(session, "select now(6)")
    time.sleep(0.005)
    return str(now)


def test_as_of_reads_the_past(a: Session) -> None:
    before = _mark(a)
    run(a, "update t set v = 11 where id = 1", "delete from t where id = 2", "insert into t values (4, 40, 'd')")
    assert rows(a, f"select id, v from t as of timestamp '{before}' order by id") == START
    assert rows(a, f"select v from t as of timestamp '{before}' where id = 1") == [(10,)]
    assert rows(a, f"select id from t as of timestamp '{before}' where v = 20") == [(2,)]
    assert value(a, f"select sum(x.v) from t as of timestamp '{before}' x join t y on x.id = y.id") == 60
    assert rows(a, ALL) == [(1, 11), (3, 30), (4, 40)]


def test_transaction_in_the_past(a: Session) -> None:
    before = _mark(a)
    run(a, "update t set v = 11 where id = 1")
    run(a, f"start transaction read only as of timestamp '{before}'")
    assert rows(a, ALL) == START
    assert error_code(a, "update t set v = 12") == 1792
    run(a, "commit")
    assert value(a, "select v from t where id = 1") == 11


def test_as_of_errors(a: Session) -> None:
    assert error_code(a, "select * from t as of timestamp '2999-01-01'") in (8135, 9006)
    assert error_code(a, "select * from t as of timestamp 'yesterday'") != 0
    run(a, "begin")
    assert error_code(a, "select * from t as of timestamp now() - interval 1 second") == 8135


# Statements that fail


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("insert into t values (7, 70, 'g'), (8, 80, 'h'), (1, 0, 'x')", 1062),
        ("insert into t values (7, 70, 'g'), (8, null, 'much too long a text')", 1406),
        ("insert into t select id + 2, v, s from t", 1062),
        ("update t set id = 3 where id < 3", 1062),
        ("update t set v = 1 / (id - 3)", 0),
        ("update t set v = v * 1000000000", 1264),
        ("replace into t values (1, 1, 'x'), (2, 99999999999, 'y')", 1264),
        ("insert into t values (1, 5, 'x'), (9, 9, 'y') on duplicate key update v = 99999999999", 1264),
    ],
)
@pytest.mark.parametrize("begin", ["", "begin", "begin optimistic"])
def test_a_failed_statement_leaves_nothing(a: Session, sql: str, code: int, begin: str) -> None:
    if begin:
        run(a, begin, "insert into t values (5, 50, 'e')")
    before = rows(a, ALL)
    found = error_code(a, sql)
    if begin == "begin optimistic" and code == 1062 and not found:
        # What an optimistic transaction inserts is checked when it commits, and nothing of it stays.
        assert error_code(a, "commit") == 1062
        assert rows(a, ALL) == START
        return
    assert found == code or (code == 0 and found == 1365)
    if found:
        assert rows(a, ALL) == before
        assert rows(a, "select id from t force index (v) where v > 0 order by v") == [(i,) for i, _ in before]
    if begin:
        assert error_code(a, "commit") == 0
    run(a, "admin check table t")
    if found:
        assert rows(a, ALL) == before


def test_locks_of_a_failed_statement_do_not_stop_the_transaction(a: Session, b: Session) -> None:
    run(a, "begin", "update t set v = 11 where id = 1")
    assert error_code(a, "insert into t values (2, 0, 'x')") == 1062
    run(a, "update t set v = 31 where id = 3", "commit")
    assert rows(b, ALL) == [(1, 11), (2, 20), (3, 31)]


def test_an_autocommit_statement_that_lost_a_race_runs_again(a: Session, b: Session) -> None:
    """Between the read and the commit of `a` another session changes the row: no conflict is seen, nothing lost."""
    real = a.storage.begin
    lost = 0

    def begin(*args: object, **kwargs: object) -> object:
        nonlocal lost
        txn = real(*args, **kwargs)
        if lost < 2:
            lost += 1
            a.storage.begin = real  # type: ignore[method-assign]
            b.execute("update t set v = v + 1 where id = 1")
            a.storage.begin = begin  # type: ignore[method-assign,assignment]
        return txn

    a.storage.begin = begin  # type: ignore[method-assign,assignment]
    try:
        assert a.execute("update t set v = v * 2 where id = 1").affected_rows == 1
    finally:
        a.storage.begin = real  # type: ignore[method-assign]
    assert lost == 2
    assert value(a, "select v from t where id = 1") == 24


def test_an_optimistic_transaction_is_never_run_again(a: Session, b: Session) -> None:
    run(a, "begin optimistic", "update t set v = v * 2 where id = 1")
    run(b, "update t set v = v + 1 where id = 1")
    assert error_code(a, "commit") == 9007
    assert not a.in_transaction
    assert value(a, "select v from t where id = 1") == 11


def test_a_table_that_changed_under_a_transaction(a: Session, b: Session) -> None:
    run(a, "begin", "insert into t values (4, 40, 'd')")
    run(b, "alter table t add column w int not null default 7")
    code = error_code(a, "commit")
    assert code in (0, 8028)
    assert value(b, "select count(*) from t where w = 7") == (4 if code == 0 else 3)
    run(b, "admin check table t")


def test_errors_in_a_transaction_keep_it_open(a: Session) -> None:
    run(a, "begin", "update t set v = 11 where id = 1")
    for sql in ("selec 1", "select nothing from t", "select * from nowhere", "insert into t values (1, 1, 'x')"):
        with pytest.raises(Exception) as caught:
            a.execute(sql)
        assert isinstance(caught.value, Error) or "KeyExists" in type(caught.value).__name__
        assert a.in_transaction
    run(a, "commit")
    assert value(a, "select v from t where id = 1") == 11
