"""Random queries over a storage that takes requests give what they give over the embedded store.

Both databases hold the same rows, and both sessions have written the same into an open transaction. The tables differ
in their handles: an integer, a clustered key with text in it, and none that shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sqlfront
from coprocessor.dag.plan import EncodeType
from tests.push.regions import connect

ROWS = 240
COLUMNS = """a INT, b INT, n BIGINT UNSIGNED, d DECIMAL(12, 2), f DOUBLE, s VARCHAR(10), c CHAR(4), day DATE,
    at DATETIME, ts TIMESTAMP, span TIME, e ENUM('x', 'y', 'z'), m SET('p', 'q'), j JSON, big DECIMAL(40, 2),
    KEY by_b (b, d), UNIQUE KEY by_n (n), KEY by_s (s), KEY by_day (day), KEY by_e (e)"""
KEYS = {"whole": "PRIMARY KEY (a)", "mixed": "PRIMARY KEY (c, a)", "hidden": "KEY by_a (a)"}
TABLES = tuple(KEYS)
ENCODINGS = tuple(EncodeType)
PLAIN = "few rows plainly"
Mode = EncodeType | str | None
"""How a database answers: in which encoding, with plain reads of few rows among it, or (None) embedded."""
NOT_SUPPORTED = (1235, "0A000")


def _row(i: int) -> tuple[Any, ...]:
    def maybe(value: Any, every: int) -> Any:
        return None if i % every == 0 else value

    return (
        i,
        maybe(i % 7 - 3, 5),
        maybe(i * 3, 9),
        maybe(f"{i % 40 - 20}.{i % 100:02d}", 4),
        maybe(i * 0.5, 6),
        maybe("ab c"[: i % 5] + " " * (i % 2), 8),
        "wxyz"[i % 4],
        maybe(f"2020-0{i % 9 + 1}-1{i % 10}", 7),
        maybe(f"2020-01-0{i % 9 + 1} 1{i % 10}:00:00", 6),
        maybe(f"2020-07-0{i % 9 + 1} 1{i % 10}:00:00", 6),
        maybe(f"0{i % 9}:30:00", 3),
        maybe("xyz"[i % 3], 7),
        maybe(["", "p", "q", "p,q"][i % 4], 9),
        maybe(f'{{"k": {i % 3}}}', 5),
        maybe(f"{i}12345678901234567890123456789012.25", 4),
    )


def _fill(con: Any) -> None:
    con.execute("set time_zone = 'Europe/Berlin'")
    for table, key in KEYS.items():
        con.execute(f"create table {table} ({COLUMNS}, {key})")
        con.execute("begin")
        con.executemany(f"insert into {table} values ({', '.join('?' * 15)})", [_row(i) for i in range(ROWS)])
        con.execute("commit")
        con.execute(f"analyze table {table}")


@pytest.fixture(scope="module")
def databases() -> Iterator[dict[Mode, Any]]:
    found: dict[Mode, Any] = {encode: connect(1, encode) for encode in ENCODINGS}
    found[PLAIN] = connect(1)
    found[PLAIN].session.database.regions.few_rows = 64
    found[None] = sqlfront.connect(autocommit=True)
    for con in found.values():
        _fill(con)
    yield found
    for con in found.values():
        con.close()


CONDITIONS = st.sampled_from(
    ["b > 0", "b IN (1, 2, NULL)", "d BETWEEN -5 AND 10.5", "s LIKE 'a%'", "s = 'ab'", "c <> 'w'", "a < 40", "a > 30",
     "day >= '2020-03-01'", "at < '2020-01-05 12:00:00'", "ts > '2020-07-04 10:00:00'", "span = '01:30:00'",
     "f * 2 > 100", "n IS NULL", "NOT (b <=> 2)", "a + b > 50", "COALESCE(b, 9) = 9", "IF(b > 0, d, 0.5) < 3",
     "CASE WHEN b = 1 THEN a ELSE 0 END > 10", "YEAR(day) = 2020", "LENGTH(s) = 2", "b AND NOT d", "e = 'x'",
     "MONTH(day) > 4 OR b < -1", "n > 4", "d / 2 > 1", "s LIKE '%b%'", "c = 'x'", "a IN (3, 77, 300)", "b = 1",
     "n BETWEEN 20 AND 90", "a BETWEEN 20 AND 70", "CONCAT(s, c) > 'abx'", "m = 'p,q'", "big > 5", "j->'$.k' = 1",
     "e > 1"]
)  # fmt: skip
AGGREGATES = st.sampled_from(
    ["COUNT(*)", "COUNT(b)", "SUM(d)", "SUM(b)", "AVG(d)", "AVG(b)", "MIN(s)", "MAX(day)", "MAX(span)", "MIN(at)",
     "MAX(ts)", "SUM(f)", "AVG(f)", "MAX(n)", "SUM(d * 2)", "MIN(d)", "COUNT(1)", "SUM(a * b)", "MAX(c)",
     "COUNT(DISTINCT b)", "MAX(e)", "SUM(big)", "BIT_OR(a)", "SUM(n)"]
)  # fmt: skip
GROUPS = st.sampled_from(["b", "s", "c", "day", "n", "d", "YEAR(day)", "b + 1", "b, c", "s, day", "e", "a", "c, a"])
INDEXES = st.sampled_from(["", "", "", " USE INDEX (by_b)", " USE INDEX (by_n)", " USE INDEX (by_s)",
                           " USE INDEX (by_day)", " USE INDEX (by_e)"])  # fmt: skip
NAMES = "a b n d f s c day at ts span e m j big".split()
ORDERS = ["b DESC, a", "day, a", "a DESC", "a", "b, d, a", "s, a", "n DESC, a", "e, a", "c, a"]


@st.composite
def queries(draw: st.DrawFn) -> str:
    table = draw(st.sampled_from(TABLES))
    where = " AND ".join(draw(st.lists(CONDITIONS, max_size=3)))
    source = f"{table}{draw(INDEXES)}"
    tail = f" FROM {source} WHERE {where}" if where else f" FROM {source}"
    columns = ", ".join(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4)))
    match draw(st.sampled_from(["rows", "ordered", "distinct", "groups", "join", "outer", "scalar"])):
        case "ordered":
            limit = f"{draw(st.integers(0, 12))} OFFSET {draw(st.integers(0, 3))}"
            return f"SELECT {columns}, a{tail} ORDER BY {draw(st.sampled_from(ORDERS))} LIMIT {limit}"
        case "distinct":
            return f"SELECT DISTINCT {columns}{tail}"
        case "groups":
            items = ", ".join(draw(st.lists(AGGREGATES, min_size=1, max_size=4)))
            groups = draw(st.none() | GROUPS)
            return f"SELECT {items}{tail}" if groups is None else f"SELECT {items}, {groups}{tail} GROUP BY {groups}"
        case "join":
            other = draw(st.sampled_from(TABLES))
            return f"SELECT x.a, y.a FROM (SELECT a, n{tail}) x JOIN {other} y ON y.n = x.n AND y.b > 0"
        case "outer":
            return f"SELECT x.a, g.k FROM whole x LEFT JOIN (SELECT b, SUM(d) k{tail} GROUP BY b) g ON g.b = x.a"
        case "scalar":
            return f"SELECT a, (SELECT COUNT(*){tail}) FROM hidden WHERE a < 5"
        case _:
            return f"SELECT {columns}{tail}"


CHANGES = st.sampled_from(
    ["UPDATE {t} SET b = b + 1, d = 3.5 WHERE a BETWEEN 10 AND 14", "DELETE FROM {t} WHERE a IN (3, 77, 120)",
     "UPDATE {t} SET n = n + 1000 WHERE n > 690", "UPDATE {t} SET s = 'ab', c = 'xx' WHERE a = 50",
     "INSERT INTO {t} (a, b, n, d, s, c) VALUES (300, 1, 5000, 7.25, 'abc', 'x'), (301, NULL, 1, 1, 'a', 'w')",
     "INSERT INTO {t} (a, b, c) SELECT 1000 + COUNT(*), b, 'q' FROM {t} WHERE b > 0 GROUP BY b ORDER BY b LIMIT 1",
     "UPDATE {t} x JOIN whole y ON x.a = y.b SET x.d = x.d + 1 WHERE y.d > 0 AND y.a < 60",
     "DELETE x FROM {t} x JOIN (SELECT MAX(a) m FROM hidden WHERE b = 1) y ON x.a = y.m",
     "DELETE FROM {t} WHERE b = 2", "INSERT INTO {t} (a, c) VALUES (-5, 'a')"]
)  # fmt: skip


def _comparable(rows: list[tuple[Any, ...]], *, ordered: bool) -> list[str]:
    shown = [repr([v.rstrip(" ") if isinstance(v, str) else v for v in row]) for row in rows]
    return shown if ordered else sorted(shown)


def _answer(con: Any, sql: str) -> list[str] | tuple[int, str]:
    try:
        rows = con.execute(sql).fetchall()
    except sqlfront.Error as exc:
        return exc.code, exc.sqlstate
    return _comparable(rows, ordered="ORDER BY" in sql)


@settings(max_examples=80)
@given(sql=st.lists(queries(), min_size=1, max_size=3), mode=st.sampled_from([*ENCODINGS, PLAIN]),
       changes=st.lists(st.tuples(CHANGES, st.sampled_from(TABLES)), max_size=3))  # fmt: skip
def test_requests_give_the_same_rows(
    sql: list[str], mode: Mode, changes: list[tuple[str, str]], databases: dict[Mode, Any]
) -> None:
    embedded, pushed = databases[None], databases[mode]
    for con in (embedded, pushed):
        con.execute("begin")
    try:
        for change, table in changes:
            wanted, found = (_answer(con, change.format(t=table)) for con in (embedded, pushed))
            assert found == wanted, change
        for query in sql:
            wanted = _answer(embedded, query)
            # A condition that was pushed down leaves less for DuckDB, which cannot hold the widest decimals.
            assert wanted == NOT_SUPPORTED or _answer(pushed, query) == wanted, query
    finally:
        for con in (embedded, pushed):
            con.execute("rollback")
