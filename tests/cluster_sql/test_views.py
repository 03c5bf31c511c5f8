"""Views on several SQL servers of a cluster."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import sqlfront
from tests.cluster_sql.world import World

pytestmark = pytest.mark.usefixtures("second")


@pytest.fixture
def cursors(world: World) -> list[Any]:
    """Of two servers; the table `t` and the view `v` are new."""
    made = [world.connect(server).cursor() for server in world._open[:2]]
    made[0].execute("DROP DATABASE IF EXISTS test")
    made[0].execute("CREATE DATABASE test")
    made[0].execute("USE test")
    made[0].execute("CREATE TABLE t (a INT PRIMARY KEY, b INT)")
    made[0].execute("CREATE VIEW v AS SELECT a, b FROM t WHERE a > 1")
    made[1].execute("USE test")
    made[1].execute("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)")
    return made


def rows(cursor: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return [tuple(row) for row in cursor.fetchall()]


def test_what_one_server_makes_the_other_reads(cursors: list[Any]) -> None:
    first, second = cursors
    assert rows(second, "SELECT SUM(b) FROM v") == [(50,)]
    first.execute("CREATE OR REPLACE VIEW v AS SELECT a, b FROM t WHERE a = 1")
    assert rows(second, "SELECT SUM(b) FROM v") == [(10,)]
    second.execute("CREATE VIEW over_v AS SELECT COUNT(*) AS n FROM v")
    second.execute("RENAME TABLE v TO w")
    with pytest.raises(sqlfront.Error) as caught:
        rows(first, "SELECT n FROM over_v")
    assert caught.value.code == 1356
    first.execute("RENAME TABLE w TO v")
    assert rows(second, "SELECT n FROM over_v") == [(1,)]
    second.execute("DROP VIEW v")
    second.execute("CREATE TABLE v (a INT)")
    assert rows(first, "SELECT n FROM over_v") == [(0,)]
    assert rows(first, "SHOW FULL TABLES") == [("over_v", "VIEW"), ("t", "BASE TABLE"), ("v", "BASE TABLE")]
    second.execute("DROP TABLE v")
    second.execute("DROP VIEW over_v")
    assert rows(first, "SHOW TABLES") == [("t",)]


def test_a_view_in_another_database_follows(cursors: list[Any]) -> None:
    first, second = cursors
    first.execute("DROP DATABASE IF EXISTS aside")
    first.execute("CREATE DATABASE aside")
    second.execute("RENAME TABLE v TO aside.v")
    assert rows(first, "SELECT b FROM aside.v ORDER BY a") == [(20,), (30,)]
    assert rows(first, "SHOW TABLES") == [("t",)]
    first.execute("DROP DATABASE aside")
    with pytest.raises(sqlfront.Error):
        rows(second, "SELECT b FROM aside.v")


def test_a_transaction_goes_on_beside_changes_of_a_view(cursors: list[Any]) -> None:
    first, second = cursors
    first.execute("BEGIN")
    assert rows(first, "SELECT COUNT(*) FROM v") == [(2,)]
    second.execute("CREATE OR REPLACE VIEW v AS SELECT a, b FROM t")
    first.execute("INSERT INTO t VALUES (4, 40)")
    assert rows(first, "SELECT COUNT(*) FROM v") == [(4,)]
    first.execute("COMMIT")
    assert rows(second, "SELECT COUNT(*) FROM v") == [(4,)]


def test_jobs_name_the_view(cursors: list[Any]) -> None:
    first, second = cursors
    second.execute("DROP VIEW v")
    jobs = rows(first, "ADMIN SHOW DDL JOBS 10")
    assert jobs[0][2:4] == ("v", "drop view")
    assert ("v", "create view") in [job[2:4] for job in jobs]


def test_readers_see_one_of_the_versions(cursors: list[Any], world: World) -> None:
    """A view that is replaced again and again never gives a mixture, nor is it ever away."""
    first, _ = cursors
    stop = threading.Event()
    seen: list[Any] = []
    failed: list[sqlfront.Error] = []

    def read() -> None:
        cursor = world.connect(world._open[1]).cursor()
        try:
            while not stop.is_set():
                seen.append(rows(cursor, "SELECT x.n, y.n FROM pair x JOIN pair y ON x.n = y.n"))
        except sqlfront.Error as exc:
            failed.append(exc)

    first.execute("CREATE VIEW pair AS SELECT 0 AS n")
    reader = threading.Thread(target=read)
    reader.start()
    for i in range(1, 15):
        first.execute(f"CREATE OR REPLACE VIEW pair AS SELECT {i} AS n")
    stop.set()
    reader.join()
    assert failed == []
    assert seen
    assert all(len(found) == 1 and found[0][0] == found[0][1] for found in seen)
    numbers = [found[0][0] for found in seen]
    assert numbers == sorted(numbers)
