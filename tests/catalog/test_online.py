"""Index builds beside writers, and after a crash in every state."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kvstore.errors import Cancelled, CommitRejected, DiskFull, TxnError
from sqlfront.bind.ddl import read_text
from sqlfront.catalog import backfill, online
from sqlfront.catalog.info import State
from sqlfront.catalog.meta import DDL_JOBS, MetaReader
from sqlfront.errors import Error
from tests.catalog.harness import FakeDatabase, FakeSession


@pytest.fixture
def filled(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    monkeypatch.setattr(backfill, "BATCH_ROWS", 16)
    session.ddl("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    session.insert("t", *[(i, i * 10) for i in range(100)])
    return session


def _jobs(database: Any) -> dict[int, Any]:
    return MetaReader(database.storage.snapshot()).json_fields(DDL_JOBS)


def _between_batches(monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    real = backfill._fill_batch

    def wrapped(*args: Any) -> Any:
        out = real(*args)
        action(out)
        return out

    monkeypatch.setattr(backfill, "_fill_batch", wrapped)


def test_writes_between_batches_are_indexed(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    step = iter(range(1000))

    def write(_: Any) -> None:
        n = next(step)
        filled.insert("t", (1000 + n, n))
        filled.delete("t", 99 - n)

    _between_batches(monkeypatch, write)
    filled.ddl("CREATE INDEX v ON t (v)")
    assert next(step) > 3
    assert filled.check("t") == 100
    assert filled.table("t").index("v") is not None
    assert _jobs(filled.database) == {}


def test_changes_inside_a_batch_are_left_alone(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    real = backfill.EntryEncoder.__call__
    done: list[int] = []

    def racing(self: Any, packed: Any) -> Any:
        if len(done) < 3:
            done.append(1)
            filled.delete("t", len(done))
            filled.insert("t", (len(done), 5000 + len(done)))
            filled.delete("t", 50 + len(done))
        return real(self, packed)

    monkeypatch.setattr(backfill.EntryEncoder, "__call__", racing)
    filled.ddl("CREATE UNIQUE INDEX v ON t (v)")
    assert len(done) == 3
    assert filled.check("t") == 97


def test_a_writer_in_the_batch_takes_a_key_of_a_row_in_another(
    filled: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer finds no entry of row 90 yet, so only the count of entries tells that two rows have one key."""
    real = backfill.EntryEncoder.__call__
    done: list[int] = []

    def racing(self: Any, packed: Any) -> Any:
        if not done:
            done.append(1)
            filled.insert("t", (2000, 900))
        return real(self, packed)

    monkeypatch.setattr(backfill.EntryEncoder, "__call__", racing)
    with pytest.raises(Error, match="Duplicate entry '900'"):
        filled.ddl("CREATE UNIQUE INDEX v ON t (v)")
    assert filled.table("t").index("v") is None
    assert filled.check("t") == 101


def test_duplicates_in_different_batches(filled: FakeSession) -> None:
    filled.insert("t", (500, 20))
    with pytest.raises(Error, match="Duplicate entry '20'"):
        filled.ddl("CREATE UNIQUE INDEX v ON t (v)")
    filled.delete("t", 2)
    filled.ddl("CREATE UNIQUE INDEX v ON t (v)")
    assert filled.check("t") == 100


def test_a_writer_that_began_before_is_refused(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    old = filled.table("t")
    txn = filled.database.storage.begin()
    filled.write(txn, old, [(500, 1)])
    filled.ddl("CREATE INDEX v ON t (v)")
    with pytest.raises(CommitRejected):
        txn.commit(lambda ts: filled.database.catalog.check_revisions({old.id: old.revision}))
    assert filled.check("t") == 100


def test_a_writer_of_the_write_only_state_commits_after_the_end(
    filled: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def begin(_: Any) -> None:
        if not started:
            table = filled.table("t")
            assert [i.state for i in table.building] == [State.WRITE_REORG]
            txn = filled.database.storage.begin()
            filled.write(txn, table, [(500, 1)])
            started.append((table, txn))

    _between_batches(monkeypatch, begin)
    filled.ddl("CREATE INDEX v ON t (v)")
    table, txn = started[0]
    txn.commit(lambda ts: filled.database.catalog.check_revisions({table.id: table.revision}))
    assert filled.check("t") == 101


def test_concurrent_writers(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "BATCH_ROWS", 128)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(base: int) -> None:
        n = 0
        while n < 600 and not stop.is_set():
            n += 1
            try:
                filled.insert("t", (base + n, base + n))
                if n % 3 == 0:
                    filled.delete("t", base + n - 1)
            except TxnError:
                continue
            except BaseException as exc:  # noqa: BLE001 - the main thread asserts that there is none
                failures.append(exc)
                return

    threads = [threading.Thread(target=work, args=(base,)) for base in (10_000, 200_000)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2):
            filled.ddl(f"CREATE UNIQUE INDEX u{number} ON t (v)")
            filled.ddl(f"CREATE INDEX k{number} ON t (v, id)")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    filled.check("t")
    assert len(filled.table("t").indexes) == 4


def test_older_snapshots_do_not_read_the_new_index(filled: FakeSession) -> None:
    before = filled.database.storage.now_ts()
    filled.ddl("CREATE INDEX v ON t (v)")
    schema = filled.database.catalog.schema
    old = schema.at(before).need_table("test", "t")
    assert (old.indexes, [i.name for i in old.building]) == ((), ["v"])
    assert [i.name for i in old.write_schema.indexes] == ["v"]
    assert schema.at(before) is schema.at(before)
    assert schema.at(filled.database.storage.now_ts()) is schema
    reopened = filled.database.reopen().catalog.schema
    assert reopened.at(before).need_table("test", "t").indexes == ()
    filled.ddl("TRUNCATE t")
    with pytest.raises(Error) as raised:
        filled.database.catalog.schema.at(before).need_table("test", "t")
    assert raised.value.code == 1412


class Killed(BaseException):
    pass


@pytest.mark.parametrize("place", ["_set_reorg", "LocalBuild.fill", "_finish"])
def test_killed_index_build_is_rolled_back_at_open(
    filled: FakeSession, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    real_roll_back = online.roll_back
    where = backfill.LocalBuild if place == "LocalBuild.fill" else online
    monkeypatch.setattr(where, place.rpartition(".")[2], die)
    monkeypatch.setattr(online, "roll_back", die)
    with pytest.raises(Killed):
        filled.ddl("ALTER TABLE t ADD UNIQUE u (v), ADD c INT DEFAULT 3")
    monkeypatch.setattr(online, "roll_back", real_roll_back)
    assert len(_jobs(filled.database)) == 1
    filled.database = filled.database.reopen()
    assert _jobs(filled.database) == {}
    table = filled.table("t")
    assert (table.indexes, table.building, [c.name for c in table.columns]) == ((), (), ["id", "v"])
    filled.insert("t", (1000, 0))
    monkeypatch.undo()
    filled.ddl("CREATE INDEX v ON t (v)")
    assert filled.check("t") == 101


def test_killed_not_null_is_rolled_back_at_open(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: Any) -> None:
        raise Killed

    monkeypatch.setattr(online, "check_not_null", die)
    monkeypatch.setattr(online, "roll_back", die)
    with pytest.raises(Killed):
        filled.ddl("ALTER TABLE t MODIFY v INT NOT NULL")
    assert filled.table("t").columns[1].not_null
    monkeypatch.undo()
    filled.database = filled.database.reopen()
    assert not filled.table("t").columns[1].not_null


def test_interrupt_stops_and_cleans_up(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    _between_batches(monkeypatch, lambda _: filled.cancel.set())
    with pytest.raises(Cancelled):
        filled.ddl("CREATE INDEX v ON t (v)")
    assert filled.table("t").building == ()
    assert _jobs(filled.database) == {}


class FailingTransaction:
    """Runs the commit check and then fails, as a full disk would."""

    def __init__(self, txn: Any) -> None:
        self._txn = txn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)

    def commit(self, check: Any = None) -> int:
        if check is not None:
            check(1)
        self._txn.rollback()
        raise DiskFull("no room")


def test_failed_commit_leaves_the_schema(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    before = filled.database.catalog.schema
    storage = filled.database.storage

    class Storage:
        @staticmethod
        def begin(**kwargs: Any) -> Any:
            return FailingTransaction(storage.begin(**kwargs))

    monkeypatch.setattr(filled.database.catalog, "storage", Storage())
    with pytest.raises(DiskFull):
        filled.ddl("CREATE TABLE u (a INT)")
    assert filled.database.catalog.schema is before
    assert FakeDatabase(storage).catalog.schema.version == before.version


def test_reader_of_a_definition_is_reusable(filled: FakeSession) -> None:
    spec = read_text("CREATE INDEX v ON t (v)")
    assert spec == read_text("create index v on t (v)")
    with pytest.raises(Error):
        read_text("CREATE INDEX ON t (v)")
