"""Statements that once gave something else than MySQL: each on the direct path and in DuckDB."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

import sqlfront
from sqlfront.exec import query as executables

SETUP = """
CREATE DATABASE IF NOT EXISTS f;
USE f;
CREATE TABLE j (id INT PRIMARY KEY, d JSON);
INSERT INTO j VALUES (1, '{"b": 1}'), (2, '{"b": "x"}'), (3, '{"b": true}');
CREATE TABLE n (id INT PRIMARY KEY, a DECIMAL(15,2), b DECIMAL(15,2), w DECIMAL(30,10), r DOUBLE, s VARCHAR(10));
INSERT INTO n VALUES (1, 2, 3, 12345678901234567890.1234567890, 1e308, 'ß'), (2, -7, 3, -1.0000000001, 2, 'a')
"""
D = Decimal
QUERIES: list[tuple[str, list[tuple[Any, ...]] | int]] = [
    ("SELECT JSON_OBJECT('a', 1), JSON_ARRAY(1, TRUE, 1 = 1, 0)", [('{"a": 1}', "[1, true, true, 0]")]),
    ("SELECT id FROM j WHERE d->'$.b' = 1", [(1,)]),
    ("SELECT id FROM j WHERE d->'$.b' = TRUE", [(3,)]),
    ("SELECT id FROM j WHERE d->'$.b' = 'x'", [(2,)]),
    ("SELECT JSON_LENGTH(d->'$.b') FROM j WHERE id = 1", [(1,)]),
    ("SELECT JSON_OBJECTAGG(id, d->'$.b') FROM j", [('{"1": 1, "2": "x", "3": true}',)]),
    ("SELECT JSON_OBJECTAGG('k', id) FROM j WHERE id < 2", [('{"k": 1}',)]),
    ("SELECT JSON_OBJECTAGG(NULLIF(id, 2), 1) FROM j", 3158),
    ("SELECT CAST('ab' AS BINARY(4)), CAST('abc' AS BINARY(2)), CHAR(65, 66)", [(b"ab\0\0", b"ab", b"AB")]),
    ("SELECT LEAST(DATE '2026-01-02', '2026-01-01')", [(dt.date(2026, 1, 1),)]),
    ("SELECT GREATEST(DATE '2026-01-02', '2026-01-02 00:00:01')", [(dt.datetime(2026, 1, 2, 0, 0, 1),)]),
    ("SELECT FROM_UNIXTIME(0), UNIX_TIMESTAMP('1970-01-01 02:00:00')", [(dt.datetime(1970, 1, 1, 2), 0)]),
    ("SELECT FROM_UNIXTIME(id) FROM j WHERE id = 1", [(dt.datetime(1970, 1, 1, 2, 0, 1),)]),
    ("SELECT a / b * 3, a / b / 7 FROM n WHERE id = 1", [(D("2.000000"), D("0.0952380952"))]),
    ("SELECT SUM(a) / SUM(b) * 6, SUM(a / b), AVG(a) * 3 FROM n", [(D("-5.000000"), D("-1.666667"), D("-7.500000"))]),
    ("SELECT a / 3 * 2 AS x FROM n GROUP BY a / 3 ORDER BY x", [(D("-4.666666"),), (D("1.333334"),)]),
    ("SELECT AVG(a) OVER () * 3, SUM(a / 3) OVER () FROM n WHERE id = 1", [(D("6.000000"), D("0.666667"))]),
    ("SELECT (a / b) * (a / b) FROM n WHERE id = 1", [(D("0.444444444444"),)]),
    ("SELECT CAST(a / b AS DECIMAL(20, 12)), CONCAT(a / b) FROM n WHERE id = 1", [(D("0.666666666667"), "0.666667")]),
    ("SELECT SUM(w), AVG(w) FROM n", [(D("12345678901234567889.1234567889"), D("6172839450617283944.56172839445000"))]),
    ("SELECT -12345678901234567890.12345678901", [(D("-12345678901234567890.12345678901"),)]),
    ("SELECT r * 10 FROM n WHERE id = 1", 1690),
    ("SELECT r * 10 / 4 + 1 FROM n WHERE id = 2", [(6.0,)]),
    ("SELECT UPPER(s) FROM n ORDER BY id", [("ß",), ("A",)]),
    ("SELECT 33 AS k, 'x' AS l, NULL AS m, COUNT(*) FROM j GROUP BY k, l, m", [(33, "x", None, 3)]),
    ("SELECT id FROM j ORDER BY 'x', 7 + 2, id DESC", [(3,), (2,), (1,)]),
    ("SELECT 18446744073709551615 + id FROM j", 1690),
    ("SELECT JSON_EXTRACT(d, CONCAT('$', id, '.')) FROM j", 3143),
]  # fmt: skip


@pytest.fixture(params=["direct", "DuckDB"])
def connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlfront.Connection]:
    if request.param == "DuckDB":
        monkeypatch.setattr(executables, "compile_direct", lambda *args, **kwargs: None)
    with sqlfront.connect(":memory:") as opened:
        for statement in SETUP.strip().split(";\n"):
            opened.execute(statement)
        opened.execute("SET time_zone = '+02:00'")
        yield opened


def test_queries(connection: sqlfront.Connection) -> None:
    wrong = []
    for sql, expected in QUERIES:
        try:
            got: Any = connection.execute(sql).fetchall()
        except sqlfront.Error as e:
            got = e.code
        if got != expected:
            wrong.append(f"{sql} gives {got}, expected {expected}")
    assert not wrong, "\n".join(wrong)


def test_stored_quotients(connection: sqlfront.Connection) -> None:
    """A longer column takes the digits that are not shown, text takes what is."""
    connection.execute("INSERT INTO n (id, w, s) VALUES (9, 1 / 3, 2 / 3)")
    connection.execute("UPDATE n SET w = a / 3 WHERE id = 1")
    got = connection.execute("SELECT id, w, s FROM n WHERE id <> 2 ORDER BY id").fetchall()
    assert got == [(1, D("0.6666666660"), "ß"), (9, D("0.3333333330"), "0.6667")]


def test_last_insert_id_of_a_value(connection: sqlfront.Connection) -> None:
    """The way to make sequences: the value is remembered for the session."""
    assert connection.execute("SELECT LAST_INSERT_ID(id + 40) FROM j WHERE id = 2").fetchall() == [(42,)]
    assert connection.execute("SELECT LAST_INSERT_ID()").fetchall() == [(42,)]
    connection.execute("UPDATE n SET a = LAST_INSERT_ID(a + 5) WHERE id = 1")
    assert connection.execute("SELECT LAST_INSERT_ID(), a FROM n WHERE id = 1").fetchall() == [(7, D("7.00"))]


def test_udfs_run_in_the_session_that_asks(connection: sqlfront.Connection) -> None:
    """One DuckDB instance serves all sessions; zone and warnings are each session's own."""
    sql = "SELECT FROM_UNIXTIME(id), CAST(CONCAT(id, 'x') AS SIGNED), COUNT(*) FROM j WHERE id = 1 GROUP BY 1, 2"
    assert connection.execute(sql).fetchall() == [(dt.datetime(1970, 1, 1, 2, 0, 1), 1, 1)]
    warnings = connection.execute("SHOW WARNINGS").fetchall()
    assert {w[1] for w in warnings} == {1292}
    connection.execute("SET time_zone = '-01:00'")
    assert connection.execute(sql).fetchall() == [(dt.datetime(1969, 12, 31, 23, 0, 1), 1, 1)]
    assert connection.execute("SHOW WARNINGS").fetchall() == warnings
