"""A worn table is laid out anew while it is read and written: nobody sees a difference but in speed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import sqlfront
from coprocessor.columnar import worker
from tests.columnar.compare import REPLICA, hinted, same_table

ROWS = 30_000


@pytest.fixture
def con(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(worker, "DEAD_ROWS_MIN", 1 << 40)  # only when a test says so
    with sqlfront.connect(str(tmp_path / "db"), autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute("create table t (a int, b varchar(9), v int, w varchar(9), primary key (a, b))")
        con.executemany("insert into t values (?, ?, ?, ?)", [(i, f"k{i % 7}", i, f"w{i % 5}") for i in range(ROWS)])
        count = con.execute(hinted(REPLICA, "select count(*) from t", "t")).fetchall()
        assert count == [(ROWS,)]
        yield con


def worker_of(con: Any) -> Any:
    return con._database.columnar._worker


def table_of(con: Any) -> Any:
    (table,) = con._database.columnar._replica.tables
    return table


def wear(con: Any) -> None:
    con.execute("update t set v = v + 1, w = concat('u', v) where a % 3 = 0")
    con.execute("delete from t where a % 5 = 0")
    same_table(con, "t")
    assert table_of(con).dead > ROWS // 3


def test_the_rows_stay_the_same(con: Any) -> None:
    wear(con)
    assert worker_of(con).lay_out(table_of(con))
    assert table_of(con).dead == 0
    same_table(con, "t")
    con.execute("insert into t values (0, 'new', 1, null)")
    con.execute("delete from t where a = 1")
    same_table(con, "t")


def test_a_cursor_that_is_open_goes_on(con: Any) -> None:
    cursor = con.cursor().execute(hinted(REPLICA, "select a, v from t", "t"))
    first = cursor.fetchmany(10)
    with sqlfront.connect(con._database.path, autocommit=True) as other:
        other.execute("use d")
        wear(other)
        assert worker_of(con).lay_out(table_of(con))
        same_table(other, "t")
    rows = first + cursor.fetchall()
    assert len(rows) == ROWS
    assert sum(v for _, v in rows) == sum(range(ROWS))


@pytest.mark.parametrize("when", ["while it is written", "between two steps"])
def test_it_gives_way_to_a_writer(con: Any, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The work is for nothing, and done when nobody writes."""
    wear(con)
    table, replica = table_of(con), con._database.columnar._replica
    dead, copy = table.dead, table.layout.copy

    def write() -> None:
        with sqlfront.connect(con._database.path, autocommit=True) as other:
            other.execute("use d")
            other.execute("update t set v = -1 where a = 1")

    create_index = worker.create_index

    def disturbed(connection: Any, *args: Any) -> Any:
        if when == "between two steps":
            write()
        else:
            threading.Timer(0.2, write).start()
            connection.execute("select count(*) from range(100000000000) where range % 7 = 3").fetchall()
        return create_index(connection, *args)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "create_index", disturbed)
        assert not worker_of(con).lay_out(table, gives_way=True)
    assert not replica.hold_way()
    assert (table.dead, table.layout.copy) == (dead, copy)
    same_table(con, "t")
    assert worker_of(con).lay_out(table, gives_way=True)
    assert table.dead == 0
    same_table(con, "t")


def test_writers_meanwhile(con: Any) -> None:
    over = threading.Event()

    def write() -> None:
        with sqlfront.connect(con._database.path, autocommit=True) as other:
            other.execute("use d")
            number = 0
            while not over.is_set():
                number += 1
                other.execute("update t set v = v + 1 where a = ?", (number * 37 % ROWS,))
                other.execute("insert into t values (?, 'w', 0, null)", (ROWS + number,))
                other.execute("delete from t where a = ?", (number * 11 % ROWS,))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = 0
        for _ in range(6):
            con.execute("start transaction read only")
            same_table(con, "t")
            done += worker_of(con).lay_out(table_of(con))
            same_table(con, "t")
            con.execute("commit")
    finally:
        over.set()
        writer.join()
    assert done == 6
    same_table(con, "t")


def test_what_a_crash_left_is_dropped(con: Any) -> None:
    path = con._database.path
    name = table_of(con).layout.name
    con._database.columnar._replica.writer.execute(f"CREATE TABLE {name}9 AS SELECT * FROM {name}")
    con.close()
    with sqlfront.connect(path, autocommit=True) as again:
        again.execute("use d")
        same_table(again, "t")
        left = again._database.columnar._replica.writer.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE regexp_matches(table_name, '^t[0-9]')"
        ).fetchall()
        assert left == [(1,)]
