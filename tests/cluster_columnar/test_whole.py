"""Queries that one columnar store computes whole."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from coprocessor.columnar.of_store import StoreReplica
from coprocessor.columnar.whole import WholeQuery, WholeRelation, decode_whole, encode_whole
from coprocessor.dag.build import scan_table
from coprocessor.dag.plan import Dag
from coprocessor.errors import BadRequest, Unsupported
from kvstore.client.api import PushRequest
from tests.cluster_columnar.worlds import by_both, wait_ready
from tests.cluster_sql.world import World

QUERIES = [
    "SELECT o.id, c.name, o.at FROM o JOIN c ON o.c = c.id WHERE o.amount > 20 ORDER BY o.id",
    (
        "SELECT c.name, COUNT(*), SUM(o.amount), AVG(o.amount), MAX(o.at) FROM o JOIN c ON o.c = c.id "
        "GROUP BY c.name ORDER BY c.name"
    ),
    "SELECT c.id FROM c WHERE NOT EXISTS (SELECT * FROM o WHERE o.c = c.id AND o.amount > 30) ORDER BY c.id",
    "SELECT c.id, (SELECT MAX(amount) FROM o WHERE o.c = c.id) FROM c ORDER BY 1",
    (
        "SELECT id FROM o WHERE amount > (SELECT AVG(amount) FROM o) AND c IN (SELECT id FROM c WHERE name LIKE 'n1%') "
        "ORDER BY id"
    ),
    (
        "WITH big AS (SELECT * FROM o WHERE amount > 40), few AS (SELECT c, COUNT(*) n FROM big GROUP BY c) "
        "SELECT c.name, few.n FROM few JOIN c ON c.id = few.c ORDER BY 1"
    ),
    "SELECT id FROM o WHERE amount < 5 UNION SELECT id FROM c WHERE name = 'n3' ORDER BY 1",
    (
        "SELECT o.id, ROW_NUMBER() OVER (PARTITION BY o.c ORDER BY o.amount DESC, o.id) k, c.name "
        "FROM o JOIN c ON o.c = c.id ORDER BY o.c, k LIMIT 40"
    ),
    "SELECT a.id, b.id FROM o a JOIN o b ON a.c = b.c AND a.id < b.id WHERE a.note = b.note ORDER BY 1, 2 LIMIT 60",
    "SELECT c.name FROM c JOIN o ON o.note = c.name ORDER BY o.id",
    "SELECT COUNT(DISTINCT o.note) FROM o JOIN c ON o.c = c.id",
    "SELECT COUNT(*) FROM o JOIN c ON o.c = c.id WHERE c.id < 0",
    "SELECT o.id, o.span, o.e, o.s FROM o JOIN c ON o.c = c.id WHERE c.id < 0 ORDER BY 1",
    "SELECT c.name, SUM(o.id), SUM(IF(o.c > 3, o.id, 0)) FROM o JOIN c ON o.c = c.id WHERE c.id < 0 GROUP BY c.name",
    "SELECT o.e, o.s, o.span, o.b, o.y, o.j FROM o JOIN c ON o.c = c.id ORDER BY o.id LIMIT 30",
]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(columnar=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def cursor(world: World) -> Any:
    made = world.connect().cursor()
    made.execute("CREATE TABLE c (id INT PRIMARY KEY, name CHAR(8))")
    made.execute(
        "CREATE TABLE o (id BIGINT UNSIGNED PRIMARY KEY, c INT, amount DECIMAL(10, 2), note VARCHAR(20), "
        "at TIMESTAMP NULL, span TIME(2), e ENUM('x', 'y'), s SET('p', 'q'), b VARBINARY(8), y YEAR, j JSON)"
    )
    made.execute("INSERT INTO c VALUES " + ", ".join(f"({i}, 'n{i}')" for i in range(12)))
    rows = ", ".join(
        f"({i}, {i % 13 if i % 10 else 'NULL'}, {i * 7 % 50}.25, 'n{i % 7}{' ' * (i % 2)}', "
        f"'2021-0{1 + i % 9}-02 03:04:05', '{i % 24}:00:01.5', '{'xy'[i % 2]}', 'p,q', x'00{i % 90 + 10}', "
        f"{2000 + i % 9}, "
        f"'{{\"k\": {i}}}')"
        for i in range(400)
    )
    made.execute(f"INSERT INTO o VALUES {rows}")
    for table in ("c", "o"):
        made.execute(f"ALTER TABLE {table} SET TIFLASH REPLICA 1")
        wait_ready(made, table)
    return made


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that stores computed."""
    computed: list[str] = []
    answer = StoreReplica._answer_whole

    def noting(self: StoreReplica, query: WholeQuery, *args: Any) -> Any:
        found = answer(self, query, *args)
        computed.append("".join(query.parts))
        return found

    monkeypatch.setattr(StoreReplica, "_answer_whole", noting)
    return computed


@pytest.mark.parametrize("sql", QUERIES)
@pytest.mark.parametrize("zone", ["Asia/Tokyo"])
def test_the_rows_are_those_of_the_row_store(cursor: Any, whole: list[str], sql: str, zone: str) -> None:
    cursor.execute(f"SET time_zone = '{zone}'")
    columnar, rows = by_both(cursor, sql)
    assert columnar == rows
    assert len(whole) == 1
    cursor.execute("SET tidb_isolation_read_engines = 'tiflash'")
    cursor.execute(sql)
    arrow = cursor.fetch_arrow_table()
    cursor.execute("SET tidb_isolation_read_engines = 'tikv'")
    cursor.execute(sql)
    assert arrow.equals(cursor.fetch_arrow_table())
    cursor.execute("SET tidb_isolation_read_engines = 'tikv,tiflash,tidb'")


@pytest.mark.parametrize(
    "value",
    [None, 3, 2**63, -(2**63), Decimal("20.250"), 1.5, "n3", "n3 ", "x'; DROP TABLE c; --", b"n3", True,
     dt.date(2021, 5, 2), dt.datetime(2021, 5, 2, 3, 4, 5), dt.timedelta(hours=3, seconds=1.5)],
    ids=repr,
)  # fmt: skip
def test_parameters_keep_their_types(cursor: Any, whole: list[str], value: Any) -> None:
    sql = (
        "SELECT o.id, ?, o.amount > ? FROM o JOIN c ON o.c = c.id "
        "WHERE (o.at <=> ? OR o.span = ? OR c.name = ? OR o.id < 9) ORDER BY o.id"
    )
    found = []
    for engine in ("tiflash", "tikv"):
        cursor.execute(f"SET tidb_isolation_read_engines = '{engine}'")
        try:
            cursor.execute(sql, (value,) * 5)
            found.append((cursor.fetchall(), [column[:2] for column in cursor.description]))
        except Exception as error:  # noqa: BLE001 - the same by both
            found.append(str(error))
    cursor.execute("SET tidb_isolation_read_engines = 'tikv,tiflash,tidb'")
    assert found[0] == found[1]


def test_own_writes_snapshots_and_later_commits(world: World, cursor: Any, whole: list[str]) -> None:
    sql = "SELECT COUNT(*), SUM(o.amount) FROM o JOIN c ON o.c = c.id"
    writing = world.connect(autocommit=False)
    mine = writing.cursor()
    before, rows = by_both(mine, sql)
    assert before == rows
    assert len(whole) == 1
    cursor.execute("UPDATE o SET amount = amount + 1 WHERE id < 100")
    columnar, rows = by_both(mine, sql)
    assert columnar == rows == before
    after, rows = by_both(cursor, sql)
    assert after == rows != before
    assert len(whole) == 3
    mine.execute("DELETE FROM o WHERE id BETWEEN 200 AND 220")
    columnar, rows = by_both(mine, sql)
    assert columnar == rows != before
    assert len(whole) == 3  # the store does not know what is written here
    writing.rollback()


def test_explained(cursor: Any, whole: list[str]) -> None:
    sql = "SELECT c.name, COUNT(*) FROM o JOIN c ON o.c = c.id WHERE o.amount > 20 GROUP BY c.name"
    cursor.execute("SET tidb_isolation_read_engines = 'tiflash'")
    cursor.execute(f"EXPLAIN {sql}")
    lines = cursor.fetchall()
    assert lines[0][0] == "WholeReader"
    assert {line[2] for line in lines[1:]} == {"mpp[tiflash]"}
    assert not whole
    cursor.execute(f"EXPLAIN ANALYZE {sql}")
    measured = cursor.fetchall()
    assert [line[0] for line in measured] == [line[0] for line in lines]
    assert measured[0][2] == "12"
    assert "mpp_task: {num: 1, " in measured[0][-1]
    assert len(whole) == 1
    cursor.execute("SET tidb_allow_mpp = 0")
    for explain in ("EXPLAIN", "EXPLAIN ANALYZE"):
        cursor.execute(f"{explain} {sql}")
        assert "mpp" not in str(cursor.fetchall())
    cursor.execute("SET tidb_allow_mpp = 1")
    cursor.execute("SET tidb_isolation_read_engines = 'tikv,tiflash,tidb'")


def test_what_is_not_computed_whole_is_computed_by_parts(cursor: Any, whole: list[str]) -> None:
    sql = "SELECT COUNT(*) FROM o JOIN c ON o.c = c.id"
    cursor.execute("SET tidb_allow_mpp = OFF")
    columnar, rows = by_both(cursor, sql)
    assert columnar == rows
    assert not whole
    cursor.execute("SET tidb_allow_mpp = ON")
    # the iterations of a recursion are counted here
    recursive = (
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) "
        "SELECT r.n, COUNT(o.id) FROM r LEFT JOIN o ON o.c = r.n GROUP BY r.n ORDER BY r.n"
    )
    columnar, rows = by_both(cursor, recursive)
    assert columnar == rows
    assert not whole
    cursor.execute("CREATE TABLE plain (id INT PRIMARY KEY)")
    cursor.execute("INSERT INTO plain VALUES (1), (2)")
    cursor.execute("SELECT COUNT(*) FROM o JOIN plain p ON o.c = p.id")
    assert cursor.fetchall() == [(56,)]
    assert not whole
    cursor.execute("DROP TABLE plain")


def ask(world: World, query: WholeQuery | bytes) -> Any:
    """What a store answers to a query over both tables; None when it refuses."""
    storage: Any = world.first.storage
    tables = [t for t in world.first.catalog.schema.table_by_id.values() if t.name in ("c", "o")]
    data = query if isinstance(query, bytes) else encode_whole(query)
    ranges = sorted(table.codec.record_range for table in tables)
    return storage.push_down.run_whole(PushRequest(b"", ranges, storage.now_ts(), columnar=data))


def relations(world: World) -> dict[str, WholeRelation]:
    tables = {t.name: t for t in world.first.catalog.schema.table_by_id.values() if t.name in ("c", "o")}
    return {
        name: WholeRelation(Dag(scan_table(tables[name].codec.schema, (0, 1)), time_zone="UTC"), 2) for name in "co"
    }


@pytest.mark.parametrize(
    "parts",
    [
        ("DROP TABLE replica.main.format; SELECT * FROM ", ""),
        ("SELECT * FROM ", "; SELECT 1"),
        ("CREATE TABLE replica.main.x AS SELECT * FROM ", ""),
        ("SELECT * FROM read_text('/etc/hostname'), ", ""),
        ("COPY (SELECT * FROM ", ") TO '/tmp/sqlfront-test-whole.csv'"),
        ("SELECT nonsense FROM ", ""),
        ("SELECT * FROM nowhere, ", ""),
    ],
)
def test_texts_that_are_no_plain_select_are_refused(world: World, cursor: Any, parts: tuple[str, str]) -> None:
    assert ask(world, WholeQuery(parts, ["c"], relations(world))) is None
    answers = ask(world, WholeQuery(("SELECT count(*) FROM ", ""), ["c"], relations(world)))
    assert len(answers) == 1


def test_damaged_queries_are_refused(world: World, cursor: Any) -> None:
    good = encode_whole(WholeQuery(("SELECT count(*) FROM ", ""), ["c"], relations(world)))
    assert ask(world, good)
    for bad in (b"", b"x", good[: len(good) // 2], good.replace(b'"version": 1', b'"version": 9')):
        with pytest.raises(BadRequest):
            decode_whole(bad)
        assert ask(world, bad) is None


def test_the_wire_form_gives_the_query_back(world: World, cursor: Any) -> None:
    params = {
        "a": None, "b": 1, "c": Decimal("1.50"), "d": "é'", "e": b"\0", "f": dt.date(2020, 1, 2),
        "g": dt.datetime(2020, 1, 2, 3, 4, 5, 6), "h": True, "i": 1.5, "j": 2**64 - 1,
    }  # fmt: skip
    query = WholeQuery(["x ", " y ", " z"], ["c", "o"], relations(world), params)
    again = decode_whole(encode_whole(query))
    assert again == query
    assert {name: type(value) for name, value in again.params.items()} == {n: type(v) for n, v in params.items()}
    assert again.sql({"c": "(1)", "o": "(2)"}) == "x (1) y (2) z"
    with pytest.raises(Unsupported):
        encode_whole(WholeQuery(["x"], [], {}, {"a": 2**70}))
