"""EXPLAIN FORMAT: one plan in all its forms."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import sqlfront

QUERY = "SELECT b, COUNT(*) FROM t WHERE a < 5 GROUP BY b"


@pytest.fixture
def cursor() -> Iterator[sqlfront.Cursor]:
    connection = sqlfront.connect(":memory:")
    cursor = connection.cursor()
    cursor.execute("CREATE DATABASE IF NOT EXISTS test")
    cursor.execute("USE test")
    cursor.execute("CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR(10))")
    cursor.execute("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    yield cursor
    connection.close()


def rows(cursor: sqlfront.Cursor, sql: str) -> list[tuple[str, ...]]:
    cursor.execute(sql)
    return cursor.fetchall()


@pytest.mark.parametrize("word", ["traditional", "ROW", "'brief'"])
def test_tables(cursor: sqlfront.Cursor, word: str) -> None:
    assert rows(cursor, f"EXPLAIN FORMAT = {word} {QUERY}") == rows(cursor, f"DESC {QUERY}")


def test_json_is_the_root_with_what_is_under_it(cursor: sqlfront.Cursor) -> None:
    table = rows(cursor, f"EXPLAIN {QUERY}")
    ((text,),) = rows(cursor, f"EXPLAIN FORMAT = JSON {QUERY}")
    assert cursor.description is not None
    assert [c[0] for c in cursor.description] == ["EXPLAIN"]
    node, depth = json.loads(text), 0
    for line in table:
        assert node["id"] == line[0].lstrip(" └─├│")
        assert f"{node['estRows']:.2f}" == line[1]
        assert (node["taskType"], node["accessObject"], node["operatorInfo"]) == line[2:5]
        assert "actRows" not in node
        depth += 1
        node = node["subOperators"][0] if node["subOperators"] else None
    assert node is None
    assert depth == 3


def test_tree(cursor: sqlfront.Cursor) -> None:
    ((text,),) = rows(cursor, f"EXPLAIN FORMAT = TREE {QUERY}")
    lines = text.splitlines()
    assert [line[: line.index("->")] for line in lines] == ["", "    ", "        "]
    assert lines[-1].strip().startswith("-> TableRangeScan on table:t: ")


def test_analyze_measures_in_every_form(cursor: sqlfront.Cursor) -> None:
    ((text,),) = rows(cursor, f"EXPLAIN ANALYZE FORMAT = 'json' {QUERY}")
    assert json.loads(text)["actRows"] == 2
    ((text,),) = rows(cursor, f"EXPLAIN ANALYZE FORMAT = tree {QUERY}")
    assert " rows=2)" in text.splitlines()[0]


def test_changes(cursor: sqlfront.Cursor) -> None:
    ((text,),) = rows(cursor, "EXPLAIN FORMAT = JSON UPDATE t SET b = 'z' WHERE a = 1")
    plan = json.loads(text)
    assert plan["id"] == "Update"
    assert plan["subOperators"][0]["id"] == "Point_Get"


def test_other_names(cursor: sqlfront.Cursor) -> None:
    with pytest.raises(sqlfront.Error) as caught:
        cursor.execute(f"EXPLAIN FORMAT = nothing {QUERY}")
    assert caught.value.code == 1791
