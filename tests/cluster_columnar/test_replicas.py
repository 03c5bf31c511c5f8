"""Columnar replicas of a cluster: placed by SET TIFLASH REPLICA, read by queries, kept through definitions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import sqlfront
from kvstore.client.cluster.errors import PdRefused
from kvstore.client.cluster.pd_client import PdClient
from kvstore.rpc.api import Code
from tests.cluster_columnar.worlds import READY_S, answered, by_both, refused, wait_ready
from tests.cluster_sql.world import World

QUERIES = [
    "SELECT COUNT(*), SUM(n), AVG(d), MIN(s), MAX(at), SUM(f) FROM t",
    "SELECT n, COUNT(*), SUM(d), COUNT(DISTINCT s) FROM t WHERE id > 50 GROUP BY n ORDER BY n",
    "SELECT * FROM t ORDER BY id",
    "SELECT id, s FROM t WHERE s LIKE 'b%' OR n IS NULL ORDER BY id",
    "SELECT id, d FROM t ORDER BY d DESC, id LIMIT 7",
    "SELECT a.id, b.id FROM t AS a JOIN t AS b ON a.id = b.n ORDER BY 1, 2 LIMIT 50",
    "SELECT DISTINCT s FROM t ORDER BY s",
    "SELECT at, day FROM t WHERE at >= '2021-01-01' ORDER BY id LIMIT 10",
    "SELECT SUM(n) OVER (ORDER BY id), id FROM t ORDER BY id LIMIT 20",
    "SELECT (SELECT MAX(d) FROM t AS i WHERE i.n = o.n), id FROM t AS o ORDER BY id LIMIT 5",
]
COLUMNS = "n INT, d DECIMAL(12,3), f DOUBLE, s VARCHAR(30), at TIMESTAMP(3) NULL, day DATE, e ENUM('x','y')"
KEYS = {
    "int": "id BIGINT PRIMARY KEY",
    "unsigned": "id BIGINT UNSIGNED PRIMARY KEY",
    "hidden": "id BIGINT",
    "text": "id VARCHAR(20) PRIMARY KEY CLUSTERED",
}


def row(i: int) -> str:
    n = "NULL" if i % 11 == 0 else str(i % 13)
    text = "abc"[i % 3] * (i % 5) + " " * (i % 2)
    return (
        f"({i}, {n}, {i * 7 % 1000}.125, {i}.5, '{text}', '20{20 + i % 3}-03-04 05:06:{i % 60:02}.250', "
        f"'2020-01-{1 + i % 28:02}', '{'xy'[i % 2]}')"
    )


def fill(cursor: Any, rows: range) -> None:
    cursor.execute("INSERT INTO t VALUES " + ", ".join(map(row, rows)))


@pytest.fixture
def world() -> Iterator[World]:
    made = World(columnar=1)
    yield made
    made.close()


@pytest.mark.parametrize("kind", KEYS)
def test_both_engines_give_the_same_rows(world: World, kind: str) -> None:
    cursor = world.connect().cursor()
    cursor.execute(f"CREATE TABLE t ({KEYS[kind]}, {COLUMNS})")
    fill(cursor, range(1, 400))
    if kind == "unsigned":
        cursor.execute("INSERT INTO t (id, n) VALUES (18446744073709551615, 1), (9223372036854775808, 2)")
    cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 1")
    wait_ready(cursor, "t")
    for zone in ("+00:00", "Europe/Vienna"):
        cursor.execute(f"SET time_zone = '{zone}'")
        for sql in QUERIES:
            columnar, rows = by_both(cursor, sql)
            assert columnar == rows, sql
    assert answered(world) >= len(QUERIES)
    assert not refused(world)


def test_writes_show_at_once_and_snapshots_stand(world: World) -> None:
    cursor, other = world.connect().cursor(), world.connect(autocommit=False)
    cursor.execute(f"CREATE TABLE t ({KEYS['int']}, {COLUMNS})")
    fill(cursor, range(300))
    cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 1")
    wait_ready(cursor, "t")
    total = "SELECT COUNT(*), SUM(n) FROM t"
    before, _ = by_both(cursor, total)
    reading = other.cursor()
    reading.execute("SELECT 1 FROM t LIMIT 1")
    reading.fetchall()
    cursor.execute("DELETE FROM t WHERE id < 100")
    cursor.execute("UPDATE t SET n = 1000 WHERE id >= 250")
    fill(cursor, range(300, 350))
    columnar, rows = by_both(cursor, total)
    assert columnar == rows != before
    # the transaction reads what was there when it began, and its own writes over that
    columnar, rows = by_both(reading, total)
    assert columnar == rows == before
    reading.execute("UPDATE t SET n = n + 1 WHERE id IN (5, 6, 7, 200)")
    reading.execute("DELETE FROM t WHERE id = 9")
    columnar, rows = by_both(reading, total)
    assert columnar == rows != before
    other.rollback()
    assert not refused(world)


def test_definitions(world: World) -> None:
    cursor = world.connect().cursor()
    cursor.execute(f"CREATE TABLE t ({KEYS['int']}, {COLUMNS})")
    fill(cursor, range(100))
    cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 1")
    wait_ready(cursor, "t")

    def same() -> list[Any]:
        columnar, rows = by_both(cursor, "SELECT * FROM t ORDER BY id")
        assert columnar == rows
        return columnar

    same()
    cursor.execute("ALTER TABLE t ADD COLUMN extra INT NOT NULL DEFAULT 5")
    assert {r[-1] for r in same()} == {5}
    cursor.execute("UPDATE t SET extra = id WHERE id > 90")
    same()
    cursor.execute("ALTER TABLE t DROP COLUMN s")
    fill_rest = "INSERT INTO t (id, n, extra) VALUES (1000, 1, 1)"
    cursor.execute(fill_rest)
    same()
    cursor.execute("ALTER TABLE t MODIFY COLUMN n BIGINT")
    cursor.execute("INSERT INTO t (id, n) VALUES (1001, 99999999999)")
    same()
    before = answered(world)
    cursor.execute("TRUNCATE TABLE t")
    wait_ready(cursor, "t")
    assert same() == []
    cursor.execute(fill_rest)
    assert len(same()) == 1
    assert answered(world) > before
    assert not refused(world)


def test_taken_away_and_dropped(world: World) -> None:
    cursor = world.connect().cursor()
    cursor.execute(f"CREATE TABLE t ({KEYS['int']}, {COLUMNS})")
    fill(cursor, range(50))
    cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 1")
    wait_ready(cursor, "t")
    storage = world.first.storage
    assert len(storage.columnar_placed()) == 1  # type: ignore[attr-defined]
    cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 0")
    assert storage.columnar_placed() == {}  # type: ignore[attr-defined]
    cursor.execute("SELECT /*+ READ_FROM_STORAGE(TIFLASH[t]) */ COUNT(*) FROM t")
    assert cursor.fetchall() == [(50,)]
    with pytest.raises(sqlfront.Error) as caught:
        cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 2")
    assert caught.value.code == 1105
    assert "total tiflash server count: 1" in str(caught.value)


def test_the_rule_goes_with_its_table(world: World) -> None:
    storage: Any = world.first.storage
    cursor = world.connect(world.server()).cursor()
    cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 1")
    (before,) = storage.columnar_placed()
    cursor.execute("TRUNCATE TABLE t")
    until = time.monotonic() + READY_S
    while storage.columnar_placed().keys() & {before} or not storage.columnar_placed():
        assert time.monotonic() < until
        time.sleep(0.05)
    cursor.execute("DROP TABLE t")
    while storage.columnar_placed():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_placement_driver_that_takes_no_rules(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = world.connect().cursor()
    cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")

    async def rules(self: PdClient) -> list[Any]:
        raise PdRefused(Code.UNIMPLEMENTED, "unknown service")

    monkeypatch.setattr(PdClient, "rules", rules)
    with pytest.raises(sqlfront.Error) as caught:
        cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 1")
    assert caught.value.code == 8200


def test_a_cluster_without_columnar_stores_refuses() -> None:
    world = World()
    try:
        cursor = world.connect().cursor()
        cursor.execute("CREATE TABLE t (id INT)")
        with pytest.raises(sqlfront.Error) as caught:
            cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 1")
        assert caught.value.code == 1105
    finally:
        world.close()


def test_explained_as_a_batch_request(world: World) -> None:
    cursor = world.connect().cursor()
    cursor.execute(f"CREATE TABLE t ({KEYS['int']}, {COLUMNS})")
    cursor.execute("ALTER TABLE t SET TIFLASH REPLICA 1")
    cursor.execute("EXPLAIN SELECT /*+ READ_FROM_STORAGE(TIFLASH[t]) */ n FROM t")
    assert "replica: placing, 0%; rows are read until it is there" in str(cursor.fetchall())
    wait_ready(cursor, "t")
    cursor.execute("EXPLAIN SELECT /*+ READ_FROM_STORAGE(TIFLASH[t]) */ n, COUNT(*) FROM t WHERE id > 5 GROUP BY n")
    lines = cursor.fetchall()
    assert "replica" not in str(lines)
    tasks = [line[2] for line in lines]
    assert tasks[-2:] == ["batchCop[tiflash]", "batchCop[tiflash]"]
    cursor.execute("EXPLAIN SELECT n FROM t WHERE id = 5")
    assert "tiflash" not in str(cursor.fetchall())
