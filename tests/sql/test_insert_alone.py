"""An INSERT that is a transaction of its own does what the same INSERT does inside one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import sqlfront
from tests.conftest import Connect

TABLE = """create table t (
    id int primary key auto_increment, u varchar(10) not null, n decimal(6, 2) default 1.5, at timestamp null,
    b bigint unsigned, unique key (u), unique key (b), key (n, u))"""
ROWS: list[tuple[Any, ...]] = [
    (1, "a", 1, "2020-01-01 10:00:00", 5),
    (None, "b", None, None, None),
    (0, "c", "2.345", "2021-06-01 00:00:00", 2**64 - 1),
    ("7", 7, 1.005, 20200101, "12"),
]
BAD: list[tuple[tuple[Any, ...], int]] = [
    ((1, "z", 1, None, None), 1062),
    ((99, "a", 1, None, None), 1062),
    ((99, "z", 1, None, 5), 1062),
    ((99, None, 1, None, None), 1048),
    ((99, "longer than ten", 1, None, None), 1406),
    ((99, "z", 100000, None, None), 1264),
    ((99, "z", "x", None, None), 1366),
    ((2**40, "z", 1, None, None), 1264),
]
INSERT = "insert into t (id, u, n, at, b) values (?, ?, ?, ?, ?)"


def state(con: Any) -> list[Any]:
    con.execute("admin check table t")
    return list(con.execute("select * from t order by id").fetchall())


def test_the_same_rows_alone_and_in_a_transaction(connect: Connect) -> None:
    con = connect()
    con.execute("set time_zone = '+02:00'")
    con.execute(TABLE)
    ids = [con.execute(INSERT, row).lastrowid for row in ROWS]
    alone = state(con)
    con.execute("drop table t")
    con.execute(TABLE)
    with con.transaction():
        assert ids == [con.execute(INSERT, row).lastrowid for row in ROWS]
    assert state(con) == alone


@pytest.mark.parametrize(("row", "code"), BAD)
def test_a_refused_row_leaves_nothing(connect: Connect, row: tuple[Any, ...], code: int) -> None:
    con = connect()
    con.execute(TABLE)
    con.execute(INSERT, ROWS[0])
    before = state(con)
    with pytest.raises(sqlfront.Error) as raised:
        con.execute(INSERT, row)
    assert raised.value.code == code
    assert state(con) == before


def test_read_only_sessions_and_waits_hold_for_it(connect: Connect) -> None:
    con, other = connect(), connect()
    con.execute(TABLE)
    con.execute("set session transaction read only")
    with pytest.raises(sqlfront.Error) as raised:
        con.execute(INSERT, ROWS[0])
    assert raised.value.code == 1792
    con.execute("set session transaction read write")
    other.execute("begin")
    other.execute(INSERT, ROWS[0])
    con.execute("set innodb_lock_wait_timeout = 1")
    with pytest.raises(sqlfront.Error) as raised:
        con.execute(INSERT, (None, "a", 1, None, None))
    assert raised.value.code == 1205
    other.execute("rollback")
    con.execute(INSERT, (None, "a", 1, None, None))
    assert len(state(con)) == 1


def test_a_column_added_meanwhile_is_filled(connect: Connect) -> None:
    """Plans that were made for another definition are not used: no row lacks the new column or its index."""
    con = connect()
    con.execute("create table g (id bigint primary key, v int)")
    over = threading.Event()
    failed: list[BaseException] = []

    def insert(worker: int) -> None:
        own = connect()
        number = 0
        try:
            while not over.is_set():
                number += 1
                own.execute("insert into g (id, v) values (?, ?)", (number * 4 + worker, number))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    threads = [threading.Thread(target=insert, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    try:
        con.execute("alter table g add column w int not null default 7")
        con.execute("create index w on g (w, v)")
        con.execute("create unique index i on g (id, w)")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failed
    con.execute("admin check table g")
    count = con.execute("select count(*), count(w), min(w), max(w) from g").fetchone()
    assert count[0] == count[1] > 0
    assert count[2:] == (7, 7)
