"""Schema changes on several SQL servers over a cluster in this process."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import sqlfront
from kvstore.client.api import CancelToken
from kvstore.errors import Cancelled
from sqlfront.catalog import online, shared_build
from sqlfront.catalog.jobs import CANCELLED, cancel_job, past_jobs, running_jobs
from sqlfront.catalog.lease import OWNER
from sqlfront.catalog.meta import MetaReader, string_key
from sqlfront.catalog.shared_build import SharedBuild
from sqlfront.threads import OS_THREADS
from tests.cluster_sql.world import World

pytestmark = pytest.mark.usefixtures("second")


@pytest.fixture
def cursors(world: World) -> list[Any]:
    """Of two servers; the table `t` is new."""
    made = [world.connect(server).cursor() for server in world._open[:2]]
    made[0].execute("DROP TABLE IF EXISTS t")
    made[0].execute("CREATE TABLE t (a INT PRIMARY KEY, b INT, c INT, KEY ic (c))")
    made[1].execute("INSERT INTO t VALUES (1, 10, 100), (2, 20, 200)")
    return made


def names(cursor: Any) -> set[str]:
    cursor.execute("SHOW INDEX FROM t")
    return {row[2] for row in cursor.fetchall()}


class Died(Exception):
    pass


def die(*_: object) -> None:
    raise Died


def leave_job(cursor: Any, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    """Has the owner stop in the middle of a build."""
    with monkeypatch.context() as patch:
        patch.setattr(SharedBuild, "fill", die)
        patch.setattr(online, "roll_back", die)
        for server in cursor.connection._database.sessions.values():
            patch.setattr(server.catalog.lease, "on_orphans", None)
        with pytest.raises(sqlfront.Error):
            cursor.execute(sql)


@pytest.mark.parametrize(("priority", "share"), [("LOW", 1.0), ("NORMAL", 0.5), ("HIGH", 0.0)])
def test_a_build_rests_between_batches(
    cursors: list[Any], monkeypatch: pytest.MonkeyPatch, priority: str, share: float
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(shared_build, "BATCH_ROWS", 1)
    monkeypatch.setattr(shared_build, "rest", lambda threads, seconds, cancel: rests.append(seconds))
    first, second = cursors
    first.execute(f"SET tidb_ddl_reorg_priority = PRIORITY_{priority}")
    first.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, {n}, {n})" for n in range(10, 2000)))
    began = time.monotonic()
    first.execute("ALTER TABLE t ADD INDEX ib (b)")
    took = time.monotonic() - began
    assert len(rests) >= 2  # not after the last
    assert 0 <= sum(rests) <= share * took
    assert (sum(rests) > 0) == (share > 0)
    second.execute("ADMIN CHECK TABLE t")


def test_a_rest_ends_when_the_statement_is_interrupted() -> None:
    cancel = CancelToken()
    began = time.monotonic()
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled):
        shared_build.rest(OS_THREADS, 60.0, cancel)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("are_of_now", [False, True])
def test_entries_lie_below_what_writers_did_since_the_snapshot(
    cursors: list[Any], monkeypatch: pytest.MonkeyPatch, are_of_now: bool
) -> None:
    """With entries that are versions of the load, and not of before, a removed row would be in the index again."""
    first, second = cursors
    load = SharedBuild._load

    def written_meanwhile(self: SharedBuild, *arguments: Any) -> None:
        second.execute("DELETE FROM t WHERE a = 1")
        second.execute("UPDATE t SET b = 21 WHERE a = 2")
        if are_of_now:
            self._job.entries_ts = self._storage.now_ts()
        load(self, *arguments)

    monkeypatch.setattr(SharedBuild, "_load", written_meanwhile)
    first.execute("ALTER TABLE t ADD INDEX ib (b)")
    if are_of_now:
        with pytest.raises(sqlfront.Error) as raised:
            second.execute("ADMIN CHECK TABLE t")
        assert raised.value.code == 8223
        first.execute("DROP TABLE t")
        return
    second.execute("ADMIN CHECK TABLE t")
    second.execute("SELECT a FROM t WHERE b > 0")
    assert second.fetchall() == [(2,)]


def test_a_statement_that_was_bound_before_a_switch_reads_by_the_schema_after_it(
    cursors: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = cursors
    session = first.connection._session
    reader = session.reader
    done: list[int] = []

    def late() -> Any:
        if not done:
            done.append(1)
            second.execute("ALTER TABLE t DROP INDEX ic")
            second.execute("INSERT INTO t VALUES (3, 30, 200)")
        return reader()

    monkeypatch.setattr(session, "reader", late)
    first.execute("SELECT a FROM t WHERE c = 200 ORDER BY a")
    assert done
    assert first.fetchall() == [(2,), (3,)]


def test_a_dead_owners_job_is_finished_before_anything_else_changes(
    cursors: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's record has the table as it is to be: a change in between would be undone by it."""
    first, second = cursors
    leave_job(first, monkeypatch, "ALTER TABLE t ADD INDEX ib (b)")
    second.execute("ALTER TABLE t DROP INDEX ic")
    for cursor in cursors:
        assert names(cursor) == {"PRIMARY", "ib"}
        cursor.execute("ADMIN CHECK TABLE t")
        cursor.execute("SELECT a FROM t WHERE b = 20")
        assert cursor.fetchall() == [(2,)]


def test_an_orphaned_job_is_taken_up_by_itself(
    cursors: list[Any], monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    first, second = cursors
    leave_job(first, monkeypatch, "ALTER TABLE t ADD UNIQUE ub (b)")
    storage = world.first.storage
    while running_jobs(MetaReader(storage.snapshot())):
        world.first.catalog.lease._look_for_orphans()  # type: ignore[attr-defined]
    assert names(second) == {"PRIMARY", "ic", "ub"}
    second.execute("ADMIN CHECK TABLE t")


def test_a_job_is_cancelled_from_another_server(
    cursors: list[Any], monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    first, second = cursors
    fill = SharedBuild.fill

    def cancelled(self: SharedBuild, *arguments: Any) -> int:
        (job,) = running_jobs(MetaReader(self._storage.snapshot()))
        second.execute("ADMIN SHOW DDL")
        shown = second.fetchall()[0]
        assert shown[1] != shown[4], "another server is the owner"
        assert cancel_job(self._storage, job.id) == "successful"
        return fill(self, *arguments)

    monkeypatch.setattr(SharedBuild, "fill", cancelled)
    with pytest.raises(sqlfront.Error) as raised:
        first.execute("ALTER TABLE t ADD INDEX ib (b)")
    assert raised.value.code == 8214
    assert names(second) == {"PRIMARY", "ic"}
    last = past_jobs(MetaReader(world.first.storage.snapshot()))[0]
    assert last.state in ("rollback done", CANCELLED)


def test_a_statement_whose_server_was_taken_for_dead_ends_as_its_job_does(
    cursors: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = cursors
    fill = SharedBuild.fill

    def taken_over(self: SharedBuild, *arguments: Any) -> int:
        monkeypatch.setattr(SharedBuild, "fill", fill)
        first.connection._session.catalog.lease._owner_until = 1
        self._storage.write({string_key(OWNER): None}, (), wait_ms=2000)
        second.execute("ALTER TABLE t DROP INDEX ic")
        assert names(second) == {"PRIMARY", "ib"}
        return fill(self, *arguments)

    monkeypatch.setattr(SharedBuild, "fill", taken_over)
    first.execute("ALTER TABLE t ADD INDEX ib (b)")
    for cursor in cursors:
        assert names(cursor) == {"PRIMARY", "ib"}
        cursor.execute("ADMIN CHECK TABLE t")


def test_ids_and_rows_after_another_servers_truncate(cursors: list[Any]) -> None:
    first, second = cursors
    first.execute("DROP TABLE IF EXISTS n")
    first.execute("CREATE TABLE n (id INT AUTO_INCREMENT PRIMARY KEY, v INT)")
    first.execute("INSERT INTO n (v) VALUES (1), (2)")
    second.execute("INSERT INTO n (v) VALUES (3)")
    second.execute("TRUNCATE TABLE n")
    first.execute("INSERT INTO n (v) VALUES (4)")
    second.execute("SELECT v FROM n")
    assert second.fetchall() == [(4,)]
    second.execute("RENAME TABLE n TO m")
    first.execute("INSERT INTO m (v) VALUES (5)")
    with pytest.raises(sqlfront.Error) as raised:
        first.execute("INSERT INTO n (v) VALUES (6)")
    assert raised.value.code == 1146
    first.execute("ADMIN CHECK TABLE m")
    first.execute("DROP TABLE m")


def test_a_transaction_across_a_switch_is_refused(cursors: list[Any]) -> None:
    first, second = cursors
    first.execute("BEGIN")
    first.execute("UPDATE t SET b = 11 WHERE a = 1")
    second.execute("ALTER TABLE t ADD COLUMN d INT NOT NULL DEFAULT 5")
    with pytest.raises(sqlfront.Error) as raised:
        first.execute("COMMIT")
    assert raised.value.code == 8028
    first.execute("SELECT b, d FROM t WHERE a = 1")
    assert first.fetchall() == [(10, 5)]


def test_a_transaction_that_holds_locks_does_not_hold_a_change_up(cursors: list[Any]) -> None:
    first, second = cursors
    first.execute("BEGIN PESSIMISTIC")
    first.execute("SELECT * FROM t WHERE a = 1 FOR UPDATE")
    second.execute("ALTER TABLE t ADD INDEX ib (b)")
    first.execute("ROLLBACK")
    assert names(first) == {"PRIMARY", "ib", "ic"}
    first.execute("ADMIN CHECK TABLE t")


def test_a_cached_plan_follows_the_schema(cursors: list[Any]) -> None:
    first, second = cursors
    for step in ("ADD INDEX ib (b)", "DROP INDEX ib", "MODIFY b BIGINT", "MODIFY b INT"):
        first.execute("SELECT a FROM t WHERE b = ?", (20,))
        assert first.fetchall() == [(2,)]
        second.execute(f"ALTER TABLE t {step}")
    first.execute("SELECT a FROM t WHERE b = ?", (20,))
    assert first.fetchall() == [(2,)]
