"""Few changed rows of a large table are found by an index, and whether there is one shows in nothing but the plan."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import sqlfront
from coprocessor.columnar import key_index, worker
from coprocessor.duck import RELATION, RELATIONS_MAX, DuckEngine, Script, query_errors, run_over
from tests.columnar.compare import REPLICA, hinted, same_table

ROWS = 3000
WAIT_S = 20


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Tables are large from 1,000 rows, and a key is worth 30 rows of probing."""
    monkeypatch.setattr(key_index, "ROWS_MIN", 1000)
    monkeypatch.setattr(key_index, "ROWS_FOR_A_KEY", 30)
    monkeypatch.setattr(worker, "DEAD_ROWS_MIN", 1 << 40)
    return str(tmp_path / "db")


def connected(path: str) -> Any:
    con = sqlfront.connect(path, autocommit=True)
    con.execute("create database if not exists d")
    con.execute("use d")
    return con


def built(con: Any, definition: str, rows: list[tuple[Any, ...]]) -> Any:
    con.execute(f"create table t ({definition})")
    marks = ", ".join("?" * len(rows[0]))
    con.execute("begin")
    con.executemany(f"insert into t values ({marks})", rows)
    con.execute("commit")
    assert con.execute(hinted(REPLICA, "select count(*) from t", "t")).fetchall() == [(len(rows),)]
    return table_of(con)


def table_of(con: Any) -> Any:
    (found,) = con._database.columnar._replica.tables
    return found


def wait_for_index(found: Any) -> None:
    """Waits for the background to make one."""
    until = time.monotonic() + WAIT_S
    while found.wants_index:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert found.key_index.index is not None


def plan_of(change: str, con: Any, found: Any, count: int) -> str:
    """The plan by which `count` rows of the table are deleted, or their last column is updated; that is not kept."""
    writer = con._database.columnar._replica.writer
    layout = found.layout
    last = f"c{max(layout.types)}"
    names = ", ".join([*layout.key_names, last] if change == "update" else layout.key_names)
    relation = writer.sql(f"SELECT {names} FROM {layout.name} LIMIT {count}").to_arrow_table()
    (rows,) = relation.combine_chunks().to_batches()
    sql = found.update_sql(rows) if change == "update" else found.delete_sql(rows)
    writer.begin()
    ((_, plan),) = run_over(writer, f"EXPLAIN ANALYZE {sql}", rows).fetchall()
    writer.rollback()
    return str(plan)


KEYS = {
    "int": ("a int primary key, v int", lambda i: (i, i)),
    "unsigned": ("a bigint unsigned primary key, v int", lambda i: (i if i % 2 else (1 << 64) - 1 - i, i)),
    "hidden": ("a int, v int", lambda i: (i, i)),
    "two": ("a bigint, b smallint, v int, primary key (a, b)", lambda i: (i // 4, i % 4, i)),
    "tenant": ("a tinyint, b int, v int, primary key (a, b)", lambda i: (i % 3, i, i)),
    "bytes": ("a varbinary(9), b int, v int, primary key (a, b)", lambda i: (b"k'%d" % (i % 5), i, i)),
}


@pytest.mark.parametrize("name", KEYS)
def test_few_rows_are_found_by_it(path: str, name: str) -> None:
    definition, row = KEYS[name]
    with connected(path) as con:
        found = built(con, definition, [row(i) for i in range(ROWS)])
        assert found.key_index.index is not None
        for change in ("update", "delete"):
            assert "Index Scan" in plan_of(change, con, found, 40)
            assert "Index Scan" not in plan_of(change, con, found, 400)
        rng = random.Random(name)
        for changes in (1, 20, 300):
            con.execute(f"update t set v = v + 10 where v in ({', '.join(map(str, rng.sample(range(ROWS), changes)))})")
            con.execute("delete from t where v = ?", (rng.randrange(ROWS),))
            same_table(con, "t")


@pytest.mark.parametrize(
    ("definition", "row"),
    [
        ("a varchar(20) primary key, v int", lambda i: (f"k{i}", i)),
        ("a tinyint, b varchar(9), v int, primary key (a, b)", lambda i: (i % 3, f"{i}", i)),
    ],
)
def test_none_where_it_would_find_nothing(path: str, definition: str, row: Any) -> None:
    with connected(path) as con:
        found = built(con, definition, [row(i) for i in range(ROWS)])
        assert found.key_index.index is None
        assert not found.wants_index
        con.execute("update t set v = v + 10 where v % 100 = 7")
        same_table(con, "t")


def test_a_table_goes_without_where_there_is_no_memory(path: str, caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        """A connection that has no memory for an index."""

        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def execute(self, sql: str, *args: object) -> Any:
            if sql.startswith("CREATE INDEX"):
                raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block")
            return self._connection.execute(sql, *args)

    with connected(path) as con:
        found = built(con, *with_rows("int"))
        assert found.key_index.index is not None
        writer = con._database.columnar._replica.writer
        writer.execute(f"DROP INDEX replica.main.{found.layout.index_name}")
        with caplog.at_level("WARNING", "sqlfront.columnar"):
            assert key_index.create_index(Full(writer), found.layout, ROWS) == key_index.Choice(None, False)
        assert "without an index" in caplog.text
        found.key_index = key_index.Choice(None, False)
        con.execute("update t set v = v + 10 where v % 100 = 7")
        same_table(con, "t")


def test_it_is_there_after_a_restart(path: str) -> None:
    with connected(path) as con:
        before = built(con, *with_rows("two")).key_index
        assert before.index is not None
    with connected(path) as con:
        same_table(con, "t")
        found = table_of(con)
        assert found.key_index == before
        assert "Index Scan" in plan_of("delete", con, found, 40)


def test_that_there_is_none_is_remembered(path: str) -> None:
    with connected(path) as con:
        assert built(con, "a varchar(20), b tinyint, v int, primary key (a, b)", rows_of_text()).key_index.index is None
    with connected(path) as con:
        same_table(con, "t")
        assert not table_of(con).wants_index


def rows_of_text() -> list[tuple[Any, ...]]:
    return [(f"k{i}", 1, i) for i in range(ROWS)]


def with_rows(name: str) -> tuple[str, list[tuple[Any, ...]]]:
    definition, row = KEYS[name]
    return definition, [row(i) for i in range(ROWS)]


def test_a_definition_changes(path: str) -> None:
    with connected(path) as con:
        built(con, *with_rows("two"))
        con.execute("alter table t add column w int default 5")
        con.execute("update t set w = v where v % 100 = 7")
        same_table(con, "t")
        con.execute("alter table t drop column v")
        con.execute("update t set w = 1 where w % 200 = 7")
        same_table(con, "t")
        found = table_of(con)
        wait_for_index(found)
        assert "Index Scan" in plan_of("delete", con, found, 40)
        con.execute("delete from t where w = 1")
        same_table(con, "t")


def test_a_table_that_grows_gets_one(path: str) -> None:
    with connected(path) as con:
        definition, rows = with_rows("int")
        found = built(con, definition, rows[:500])
        assert found.key_index.index is None
        con.executemany("insert into t values (?, ?)", rows[500:])
        same_table(con, "t")
        wait_for_index(found)
        same_table(con, "t")


@pytest.mark.parametrize(("fails", "raised"), [("InterruptException", True), ("OutOfMemoryException", False)])
def test_an_index_that_is_interrupted_is_not_given_up(path: str, fails: str, raised: bool, caplog: Any) -> None:
    """A layout that gives way to a writer is, and is done again."""

    class Failing:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def execute(self, sql: str) -> Any:
            if sql.startswith("CREATE INDEX"):
                raise getattr(duckdb, fails)(fails)
            return self._connection.execute(sql)

    with connected(path) as con:
        definition, rows = with_rows("int")
        found = built(con, definition, rows)
        connection = Failing(con._database.columnar._replica.writer)
        if raised:
            with pytest.raises(duckdb.InterruptException):
                key_index.create_index(connection, found.layout, ROWS)  # type: ignore[arg-type]
        else:
            made = key_index.create_index(connection, found.layout, ROWS)  # type: ignore[arg-type]
            assert made == key_index.Choice(None, False)
    assert ("goes without an index" in caplog.text) is not raised


def test_a_script_runs_whole_or_not_at_all() -> None:
    engine = DuckEngine()
    connection = engine.take()
    connection.execute("CREATE TABLE t (a INTEGER, b VARCHAR)")
    for failing in (False, True):
        script = Script()
        for i in range(RELATIONS_MAX * 2 + 1):
            rows = pa.table({"a": [i, i], "b": ["x;--'", None]})
            script.add(f"INSERT INTO t SELECT a, b FROM {RELATION}", rows)
            script.add("DELETE FROM t WHERE a = 1 AND b IS NULL")
        if failing:
            script.add("INSERT INTO t VALUES ('no number', 'x')")
            with pytest.raises(query_errors()):
                script.run_whole(connection)
        else:
            script.run_whole(connection)
        there = connection.execute("SELECT count(*), count(DISTINCT a), count(b) FROM t").fetchall()
        count = RELATIONS_MAX * 2 + 1
        assert there == [(2 * count - 1, count, count)]
    connection.begin()  # no transaction is left open
    connection.rollback()
    engine.give_back(connection)
    engine.close()
