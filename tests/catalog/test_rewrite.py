"""MODIFY and CHANGE that rewrite rows: what comes out, what is refused, writers meanwhile, and a crash."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal
from typing import Any

import pytest

from coprocessor.errors import CoprocessorError
from kvstore.errors import CommitRejected
from sqlfront.catalog import rewrite
from sqlfront.catalog.meta import DDL_JOBS, MetaReader
from sqlfront.errors import Error
from tests.catalog.harness import FakeSession


@pytest.fixture
def filled(session: FakeSession) -> FakeSession:
    session.ddl(
        "CREATE TABLE t (id INT PRIMARY KEY, n BIGINT, s VARCHAR(20), d DECIMAL(8,2), w DATETIME, e ENUM('a','b'), "
        "KEY (n, s), UNIQUE (s))"
    )
    when = dt.datetime(2026, 1, 2, 3, 4, 5)
    session.insert("t", *[(i, i - 2, f"{i}", Decimal(i) / 4, when, "ab"[i % 2]) for i in range(100)])
    session.insert("t", (100, None, None, None, None, None))
    return session


@pytest.mark.parametrize(
    ("change", "offset", "wanted"),
    [
        ("MODIFY n INT", 1, 7),
        ("MODIFY n DECIMAL(12,3)", 1, Decimal("7.000")),
        ("MODIFY n VARCHAR(20)", 1, "7"),
        ("MODIFY n DOUBLE", 1, 7.0),
        ("MODIFY s INT", 2, 9),
        ("MODIFY s VARCHAR(2)", 2, "9"),
        ("DROP INDEX s, DROP INDEX n, MODIFY s TEXT", 2, "9"),
        ("MODIFY d DECIMAL(12,2)", 3, Decimal("2.25")),
        ("MODIFY d DECIMAL(8,1)", 3, Decimal("2.3")),
        ("MODIFY d VARCHAR(9)", 3, "2.25"),
        ("MODIFY w DATE", 4, dt.date(2026, 1, 2)),
        ("MODIFY w TIMESTAMP", 4, dt.datetime(2026, 1, 2, 3, 4, 5)),
        ("MODIFY w VARCHAR(30)", 4, "2026-01-02 03:04:05"),
        ("MODIFY e VARCHAR(5)", 5, "b"),
        ("MODIFY e ENUM('c','b','a')", 5, "b"),
        ("CHANGE e kind SET('b','a') FIRST", 0, "b"),
    ],
)
def test_values_are_converted(filled: FakeSession, change: str, offset: int, wanted: Any) -> None:
    before = filled.table("t")
    filled.ddl(f"ALTER TABLE t {change}")
    after = filled.table("t")
    assert after.id != before.id
    rows = filled.rows("t")
    assert rows[9][offset] == wanted
    assert rows[100][offset] is None
    assert filled.check("t") == 101
    assert filled.database.statistics.rows(after) == 101
    assert filled.database.statistics.table(before.id) is None
    again = filled.database.reopen().catalog.schema.need_table("test", "t")
    assert [c.type for c in again.columns] == [c.type for c in after.columns]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("MODIFY n TINYINT UNSIGNED", 1264),
        ("MODIFY s VARCHAR(1)", 1406),
        ("MODIFY d DECIMAL(3,2)", 1264),
        ("MODIFY e ENUM('a')", 1265),
        ("MODIFY n INT NOT NULL", 1138),
        ("MODIFY n TIME", 1235),
        ("MODIFY id VARCHAR(9)", 1235),
        ("MODIFY n INT, RENAME TO u", 1235),
        ("MODIFY n INT, ADD UNIQUE (e)", 1062),
    ],
)
def test_what_does_not_fit_changes_nothing(filled: FakeSession, change: str, code: int) -> None:
    before, rows = filled.table("t"), filled.rows("t")
    with pytest.raises((Error, CoprocessorError)) as raised:
        filled.ddl(f"ALTER TABLE t {change}")
    assert getattr(raised.value, "code", 0) == code
    assert filled.table("t") is before or filled.table("t").id == before.id
    assert filled.rows("t") == rows
    assert MetaReader(filled.database.storage.snapshot()).json_fields(DDL_JOBS) == {}
    assert filled.check("t") == 101
    filled.insert("t", (500, 1, "x", None, None, None))


def test_ids_go_on(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)")
    ids = session.database.autoids
    session.insert("t", (ids.allocate(session.table("t")), 1))
    session.ddl("ALTER TABLE t MODIFY v VARCHAR(10)")
    assert ids.allocate(session.table("t")) > 1


def test_writers_wait_and_are_refused(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome: list[BaseException | None] = []
    real = rewrite._Conversion.add

    def write() -> None:
        try:
            filled.insert("t", (1000, 1, "w", None, None, None), table=old)
            outcome.append(None)
        except CommitRejected as exc:
            outcome.append(exc)

    def racing(self: Any, *args: Any) -> None:
        if not threads:
            threads.append(threading.Thread(target=write))
            threads[0].start()
        real(self, *args)

    old = filled.table("t")
    threads: list[threading.Thread] = []
    monkeypatch.setattr(rewrite._Conversion, "add", racing)
    filled.ddl("ALTER TABLE t MODIFY n INT")
    threads[0].join(30)
    assert [type(o) for o in outcome] == [CommitRejected]
    assert filled.check("t") == 101


class Killed(BaseException):
    pass


def test_killed_before_the_copy_is_in_place(filled: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: Any) -> None:
        raise Killed

    rows = filled.rows("t")
    monkeypatch.setattr(rewrite, "_put_in_place", die)
    monkeypatch.setattr(rewrite, "roll_back_copy", die)
    with pytest.raises(Killed):
        filled.ddl("ALTER TABLE t MODIFY n INT")
    monkeypatch.undo()
    (record,) = MetaReader(filled.database.storage.snapshot()).json_fields(DDL_JOBS).values()
    start, end = rewrite._range_of(record["copy_id"])
    assert next(iter(filled.database.storage.snapshot().scan(start, end)), None) is not None
    filled.database = filled.database.reopen()
    assert MetaReader(filled.database.storage.snapshot()).json_fields(DDL_JOBS) == {}
    assert next(iter(filled.database.storage.snapshot().scan(start, end)), None) is None
    assert filled.rows("t") == rows
    filled.ddl("ALTER TABLE t MODIFY n INT")
    assert filled.check("t") == 101
