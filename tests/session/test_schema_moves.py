"""A schema change of another session between what a statement or transaction was bound to and what it reads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sqlfront.catalog.catalog import LocalCatalog
from sqlfront.catalog.model import Schema
from sqlfront.database import Database
from sqlfront.session import Session
from tests.session.statements import Connect, rows, run

BOTH = "select (select count(*) from t) + (select count(*) from u)"


def before_a_snapshot(monkeypatch: pytest.MonkeyPatch, session: Session, *statements: str) -> list[str]:
    """Runs statements of another session just before the next snapshot is drawn; returns what was run, then."""
    storage, taken = session.storage, list[str]()
    snapshot = storage.snapshot

    def late(*args: Any, **options: Any) -> Any:
        if threading.current_thread() is threading.main_thread() and not taken:
            taken.extend(statements)
            run(session, *statements)
        return snapshot(*args, **options)

    monkeypatch.setattr(storage, "snapshot", late)
    return taken


@pytest.fixture
def c(connect: Connect) -> Session:
    return connect()


def test_a_snapshot_drawn_after_a_truncate_reads_by_it(
    a: Session, b: Session, c: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both tables are never full at once: who sees the rows of `u` sees that `t` was emptied before."""
    run(a, "create table u (id int primary key)")
    assert rows(b, BOTH) == [(3,)]
    taken = before_a_snapshot(monkeypatch, c, "truncate table t", "insert into u values (1), (2), (3)")
    assert rows(b, BOTH) == [(3,)]
    assert taken


def test_a_lookup_by_an_index_that_was_just_dropped_is_done_anew(
    a: Session, b: Session, c: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index has no entry of a row that came after it."""
    query = "select id from t use index (v) where v >= 10 order by id"
    assert rows(b, query) == [(1,), (2,), (3,)]
    taken = before_a_snapshot(
        monkeypatch, c, "alter table t drop index v, add index v (v, s)", "insert into t values (4, 40, 'd')"
    )
    assert rows(b, query) == [(1,), (2,), (3,), (4,)]
    assert taken


def test_a_transaction_begins_when_a_change_before_it_is_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded, the change has its timestamp, and is held there; a later timestamp reads by it."""
    drawn, go_on = threading.Event(), threading.Event()
    place = LocalCatalog._put_in_place

    def held(catalog: LocalCatalog, schema: Schema) -> None:
        drawn.set()
        assert go_on.wait(10)
        place(catalog, schema)

    seen: list[Any] = []

    def read() -> None:
        run(reading, "start transaction read only")
        seen.append(rows(reading, "select id from t"))
        seen.append(rows(reading, "select count(*) from t"))
        run(reading, "commit")

    database = Database.open(None)
    changing, reading = database.session(), database.session()
    for session in (changing, reading):
        session.use("test")
    run(changing, "create table t (id int primary key)", "insert into t values (1), (2)")
    with monkeypatch.context() as patch:
        patch.setattr(LocalCatalog, "_put_in_place", held)
        change = threading.Thread(target=run, args=(changing, "truncate table t"))
        reader = threading.Thread(target=read)
        change.start()
        assert drawn.wait(10)
        reader.start()
        reader.join(0.3)
        go_on.set()
        change.join()
        reader.join()
    for session in (changing, reading):
        session.close()
    database.close()
    assert seen == [[], [(0,)]]


@pytest.mark.parametrize("statement", ["update t set s = 'x' where v = 20", "delete from t where id = 2 order by id"])
def test_a_change_that_finds_no_row_in_a_table_that_was_copied_is_done_anew(
    a: Session, b: Session, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that it was bound to are destroyed before it reads."""
    begun = a.storage.begin

    def late(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        run(b, "alter table t modify v varchar(20)")
        b.catalog.collect_ranges(b.storage.now_ts())
        return begun(*args, **options)

    monkeypatch.setattr(a.storage, "begin", late)
    run(a, statement)
    assert a.row_count == 1
