"""Rows in which a few columns were changed are updated where they lie in DuckDB, not deleted and added again."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sqlfront
from coprocessor.columnar import key_index, table
from tests.columnar.compare import REPLICA, hinted, same_table

ROWS = 600
BY_INDEX_AND_BY_JOIN = (1, 1 << 40)
"""How many rows of probing a key is worth that is looked up."""
DEFINITION = (
    "a int, b int, n int, u bigint unsigned, d decimal(12, 2), f double, m datetime(3), y date, s varchar(20), "
    "e enum('p', 'q', 'r'), tm time(2), yr year, bt bit(9), fl float, ti tinyint, w decimal(30, 5), j json, "
    "g int as (n + 1) stored, h int as (n * 2) virtual, "
    "at timestamp default current_timestamp on update current_timestamp, primary key (a, b), key (n)"
)
VALUES: dict[str, Callable[[random.Random], Any]] = {
    "n": lambda rng: rng.choice([None, rng.randrange(-100, 100)]),
    "u": lambda rng: rng.choice([None, rng.randrange(1 << 64)]),
    "d": lambda rng: rng.choice([None, rng.randrange(10**9)]),
    "f": lambda rng: rng.choice([None, rng.random()]),
    "m": lambda rng: rng.choice([None, f"2024-01-01 10:00:00.{rng.randrange(1000):03}"]),
    "y": lambda rng: rng.choice([None, f"2024-01-{rng.randrange(1, 29):02}"]),
    "s": lambda rng: rng.choice([None, "", "x" * rng.randrange(20), "ends in a space "]),
    "e": lambda rng: rng.choice([None, "p", "q", "r"]),
    "tm": lambda rng: rng.choice([None, f"-{rng.randrange(800)}:00:0{rng.randrange(10)}.25"]),
    "yr": lambda rng: rng.choice([None, rng.randrange(1901, 2156)]),
    "bt": lambda rng: rng.choice([None, rng.randrange(512)]),
    "fl": lambda rng: rng.choice([None, rng.random()]),
    "ti": lambda rng: rng.choice([None, rng.randrange(-128, 128)]),
    "w": lambda rng: rng.choice([None, rng.randrange(10**24)]),
    "j": lambda rng: rng.choice([None, "[1]"]),
}


@pytest.fixture
def con(tmp_path: Path) -> Any:
    with sqlfront.connect(str(tmp_path / "db"), autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute(f"create table t ({DEFINITION})")
        con.executemany(
            "insert into t (a, b, n, u, d, f, m, y, s, e) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(i // 3, i % 3, i, i, i, i / 8, "2024-01-01", "2024-01-01", f"s{i}", "p") for i in range(ROWS)],
        )
        con.execute(hinted(REPLICA, "select count(*) from t", "t"))
        assert followed(con).rows == ROWS
        yield con


def followed(con: Any) -> Any:
    (found,) = con._database.columnar._replica.tables
    return found


def deleted(con: Any) -> int:
    """How many rows were deleted, to be added again or not, since the last call."""
    same_table(con, "t")
    count: int = followed(con).dead
    followed(con).dead = 0
    return count


@pytest.mark.parametrize("rows", [1, 40, ROWS])
def test_updates_delete_nothing(con: Any, rows: int) -> None:
    con.execute("update t set d = d + 1, f = null where a < ?", (-(-rows // 3),))
    assert deleted(con) == 0
    con.execute("update t set n = n + 1, y = '2025-01-01', at = at where a < ?", (-(-rows // 3),))
    assert deleted(con) == 0


def test_what_is_deleted_and_added_again(con: Any) -> None:
    con.execute("update t set s = 'other' where a = 1")
    assert deleted(con) == 3
    con.execute("update t set n = 1, u = 2, d = 3, f = 4, m = null, y = null where a = 1")
    assert deleted(con) == 3
    con.execute("update t set d = 5 where a = 1")
    con.execute("delete from t where a = 2")
    con.execute("delete from t where a = 3 and b < 1")
    assert deleted(con) == 7  # those to be deleted are more
    con.execute("update t set d = 6 where a = 1")
    con.execute("delete from t where a = 3 and b = 1")
    assert deleted(con) == 1


def test_a_key_that_is_written_more_than_once(con: Any) -> None:
    con.execute("update t set d = 1 where a = 1 and b = 1")
    con.execute("update t set f = 2 where a = 1 and b = 1")
    con.execute("update t set d = 3 where a = 1 and b = 1")
    assert deleted(con) == 0
    con.execute("begin")
    con.execute("update t set d = 4 where a = 1 and b = 1")
    con.execute("update t set n = 5 where a = 1 and b = 1")
    con.execute("commit")
    assert deleted(con) == 0
    con.execute("begin")
    con.execute("delete from t where a = 1 and b = 1")
    con.execute("insert into t (a, b, n, s) values (1, 1, 7, 'new')")
    con.execute("update t set d = 8 where a = 1 and b = 1")
    con.execute("commit")
    assert deleted(con) == 1
    con.execute("begin")
    con.execute("insert into t (a, b, n) values (999, 1, 7)")
    con.execute("update t set d = 9 where a = 999")
    con.execute("commit")
    con.execute("update t set d = 10 where a = 999")
    deleted(con)
    con.execute("insert into t (a, b, n) values (999, 1, 7) on duplicate key update d = 11")
    assert deleted(con) == 0
    con.execute("replace into t (a, b, n) values (999, 1, 8)")
    assert deleted(con) == 1


def test_what_was_rolled_back_to_a_savepoint(con: Any) -> None:
    con.execute("begin")
    con.execute("update t set d = 1 where a = 1")
    con.execute("savepoint here")
    con.execute("update t set s = 'gone', n = 3 where a in (1, 2)")
    con.execute("delete from t where a = 3")
    con.execute("rollback to here")
    con.execute("update t set f = 5 where a in (1, 3)")
    con.execute("commit")
    assert deleted(con) == 0


def test_a_key_that_is_set_to_what_it_is_or_moved(con: Any) -> None:
    con.execute("update t set a = a, d = 7 where a < 5")
    assert deleted(con) == 0
    con.execute("update t set a = a, b = b where a < 5")
    con.execute("update t set a = a + 10000 where a < 5")
    assert deleted(con) == 15


def test_columns_that_came_and_went(con: Any) -> None:
    con.execute("update t set d = 1, y = null where a = 1")
    con.execute("alter table t add column late int default 5")
    con.execute("update t set late = 6 where a in (1, 2)")
    con.execute("alter table t drop column y")
    con.execute("update t set d = 2 where a in (2, 3)")
    assert deleted(con) == 0


def test_readers_of_the_past(con: Any) -> None:
    con.execute("begin")
    query = hinted(REPLICA, "select sum(d), sum(n), count(f) from t", "t")
    before = con.execute(query).fetchall()
    with sqlfront.connect(con._database.path, autocommit=True) as other:
        other.execute("use d")
        other.execute("update t set d = d + 1, n = 0, f = null where a < 50")
        assert deleted(other) == 0
        assert other.execute(query).fetchall() != before
    assert con.execute(query).fetchall() == before
    con.execute("rollback")


def test_a_cursor_that_is_open_keeps_the_values_as_they_were(con: Any) -> None:
    cursor = con.cursor().execute(hinted(REPLICA, "select n, d from t", "t"))
    first = cursor.fetchmany(5)
    with sqlfront.connect(con._database.path, autocommit=True) as other:
        other.execute("use d")
        other.execute("update t set n = -1, d = null")
        assert deleted(other) == 0
    assert sorted(first + cursor.fetchall()) == [(i, i) for i in range(ROWS)]


@pytest.mark.parametrize("definition", ["a int primary key, v int", "v int", "a varchar(9) primary key, v int"])
@pytest.mark.parametrize("keys_rows", BY_INDEX_AND_BY_JOIN)
def test_other_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, definition: str, keys_rows: int) -> None:
    monkeypatch.setattr(key_index, "ROWS_FOR_A_KEY", keys_rows)
    with sqlfront.connect(str(tmp_path / "db"), autocommit=True) as con:
        con.execute("create database d")
        con.execute("use d")
        con.execute(f"create table t ({definition})")
        marks = ", ".join("?" * (definition.count(",") + 1))
        con.executemany(f"insert into t values ({marks})", [(i,) * (definition.count(",") + 1) for i in range(ROWS)])
        con.execute(hinted(REPLICA, "select count(*) from t", "t"))
        for rows in (1, 100, ROWS):
            con.execute("update t set v = v + 1000 where v % 1000 < ?", (rows,))
            assert deleted(con) == 0


@pytest.mark.parametrize("seed", range(6))
def test_random_changes(con: Any, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(key_index, "ROWS_FOR_A_KEY", rng.choice(BY_INDEX_AND_BY_JOIN))
    monkeypatch.setattr(table, "UPDATED_SHARE_MIN", rng.choice([0.0, 0.5]))
    for _ in range(12):
        whole = rng.random() < 0.5
        con.execute("begin" if whole else "select 1")
        for _ in range(rng.randrange(1, 30)):
            low, rows = rng.randrange(ROWS // 3), rng.choice([1, 1, 2, 30])
            kind = rng.random()
            if kind < 0.8:
                names = rng.sample(sorted(VALUES), rng.choice([1, 1, 2, 3, 7]))
                sets = ", ".join(f"{name} = ?" for name in names)
                values = tuple(VALUES[name](rng) for name in names)
                con.execute(f"update t set {sets} where a >= ? and a < ?", (*values, low, low + rows))
            elif kind < 0.9:
                con.execute("delete from t where a = ?", (low,))
            else:
                con.execute(
                    "insert into t (a, b, n) values (?, 0, 1), (?, 1, 2) on duplicate key update n = n + 1, f = 0.5",
                    (low, low),
                )
            if whole and rng.random() < 0.1:
                con.execute("savepoint p")
            if whole and rng.random() < 0.1:
                con.execute("savepoint q")
                con.execute("update t set d = 0 where a = ?", (low,))
                con.execute("rollback to q")
        con.execute(rng.choice(["commit", "commit", "rollback"]) if whole else "select 1")
        same_table(con, "t")
