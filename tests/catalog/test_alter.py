"""ALTER TABLE, DROP, TRUNCATE and RENAME over rows that are there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest

from coprocessor.codec.keys import index_key_range, table_range
from kvstore.client.api import TS_MAX
from kvstore.errors import CommitRejected
from sqlfront.errors import Error
from tests.catalog.harness import FakeSession


@pytest.fixture
def filled(session: FakeSession) -> FakeSession:
    session.ddl("CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(10), KEY a (a))")
    session.insert("t", (1, 10, "x"), (2, 20, None), (3, None, "z"))
    return session


def names(session: FakeSession, table: str = "t") -> list[str]:
    return [c.name for c in session.table(table).columns]


def test_add_columns_in_place(filled: FakeSession) -> None:
    filled.ddl("ALTER TABLE t ADD c INT DEFAULT 7 FIRST, ADD COLUMN d VARCHAR(5) NOT NULL AFTER a, ADD (e INT, f DATE)")
    assert names(filled) == ["c", "id", "a", "d", "b", "e", "f"]
    assert filled.rows("t")[0] == (7, 1, 10, "", "x", None, None)
    filled.insert("t", (None, 4, 40, "new", "w", 1, dt.date(2020, 1, 1)))
    assert filled.rows("t")[3] == (None, 4, 40, "new", "w", 1, dt.date(2020, 1, 1))
    assert filled.check("t") == 4


ZEROS = [
    ("INT UNSIGNED", 0), ("DECIMAL(6,2)", "0.00"), ("DOUBLE", 0.0), ("VARCHAR(3)", ""), ("BLOB", b""), ("BIT(9)", 0),
    ("TIME", dt.timedelta()), ("ENUM('p','q')", "p"), ("SET('p','q')", ""), ("JSON", "null"), ("YEAR", 0),
]  # fmt: skip


@pytest.mark.parametrize(("written", "zero"), ZEROS)
def test_not_null_column_gets_the_types_zero(filled: FakeSession, written: str, zero: object) -> None:
    filled.ddl(f"ALTER TABLE t ADD c {written} NOT NULL")
    value = filled.rows("t")[0][3]
    assert (str(value) if isinstance(zero, str) else value) == zero


def test_default_now_is_the_time_of_the_statement(filled: FakeSession) -> None:
    filled.ddl(
        "ALTER TABLE t ADD c DATETIME DEFAULT CURRENT_TIMESTAMP, ADD d TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3)"
    )
    first, second = filled.rows("t")[0][3:]
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    assert abs(now - first) < dt.timedelta(seconds=60)
    assert abs(now - second) < dt.timedelta(seconds=60)
    assert filled.rows("t")[0][3:] == (first, second)


def test_date_without_default_needs_an_empty_table(filled: FakeSession) -> None:
    with pytest.raises(Error) as caught:
        filled.ddl("ALTER TABLE t ADD c DATE NOT NULL")
    assert caught.value.code == 1292
    filled.ddl("CREATE TABLE e (a INT)")
    filled.ddl("ALTER TABLE e ADD c DATE NOT NULL")


def test_a_changed_default_leaves_old_rows_alone(filled: FakeSession) -> None:
    filled.ddl("ALTER TABLE t ADD c INT DEFAULT 1")
    filled.ddl("ALTER TABLE t ALTER COLUMN c SET DEFAULT 2")
    assert filled.rows("t")[0][3] == 1
    assert filled.table("t").columns[3].default.value == 2
    filled.ddl("ALTER TABLE t ALTER c DROP DEFAULT")
    assert filled.table("t").columns[3].default.kind == "none"
    assert filled.rows("t")[0][3] == 1


def test_dropped_column_does_not_come_back(filled: FakeSession) -> None:
    filled.ddl("ALTER TABLE t DROP COLUMN b")
    assert filled.rows("t")[0] == (1, 10)
    filled.ddl("ALTER TABLE t ADD b VARCHAR(10)")
    assert filled.rows("t")[0] == (1, 10, None)


def test_drop_column_takes_its_own_index_along(filled: FakeSession) -> None:
    filled.ddl("ALTER TABLE t DROP a")
    assert filled.table("t").indexes == ()
    assert filled.rows("t") == [(1, "x"), (2, None), (3, "z")]


def test_rename_column_follows_into_indexes(filled: FakeSession) -> None:
    filled.ddl("ALTER TABLE t RENAME COLUMN a TO amount, RENAME INDEX a TO by_amount")
    assert names(filled) == ["id", "amount", "b"]
    assert filled.table("t").info.indexes[0].columns[0].name == "amount"
    assert filled.check("t") == 3


def test_moving_columns_keeps_rows_and_indexes(filled: FakeSession) -> None:
    filled.ddl("ALTER TABLE t MODIFY b VARCHAR(20) FIRST, CHANGE a n BIGINT DEFAULT 5 AFTER b")
    assert names(filled) == ["b", "n", "id"]
    assert filled.rows("t")[0] == ("x", 10, 1)
    assert filled.check("t") == 3


WIDER = [
    ("TINYINT", "BIGINT"), ("VARCHAR(3)", "VARCHAR(30)"), ("ENUM('a')", "ENUM('a','b')"), ("TEXT", "LONGTEXT"),
    ("DATETIME", "DATETIME(6)"), ("FLOAT", "DOUBLE"), ("CHAR(3)", "CHAR(9)"), ("BIT(3)", "BIT(8)"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), WIDER)
def test_widening(session: FakeSession, old: str, new: str) -> None:
    session.ddl(f"CREATE TABLE t (a {old})")
    table_id = session.table("t").id
    session.ddl(f"ALTER TABLE t MODIFY a {new}")
    assert session.table("t").id == table_id
    if old.startswith("BIT"):
        with pytest.raises(Error) as caught:
            session.ddl(f"ALTER TABLE t MODIFY a {old}")
        assert caught.value.code == 1235
    else:  # by a copy of the table
        session.ddl(f"ALTER TABLE t MODIFY a {old}")
        assert session.table("t").id != table_id


def test_not_null_is_proven(filled: FakeSession) -> None:
    before = filled.table("t").columns
    with pytest.raises(Error) as caught:
        filled.ddl("ALTER TABLE t MODIFY b VARCHAR(10) NOT NULL")
    assert caught.value.code == 1138
    assert filled.table("t").columns == before
    filled.delete("t", 2)
    filled.ddl("ALTER TABLE t MODIFY b VARCHAR(10) NOT NULL")
    assert filled.table("t").columns[2].not_null


def test_add_index_fills_it(filled: FakeSession) -> None:
    filled.ddl("CREATE INDEX b ON t (b(1), a) COMMENT 'c'")
    assert filled.table("t").index("b").comment == "c"  # type: ignore[union-attr]
    assert len(filled.index_entries("t", "b")) == 3
    assert filled.check("t") == 3


def test_duplicate_takes_the_new_index_away(filled: FakeSession) -> None:
    filled.insert("t", (4, 10, "x"))
    with pytest.raises(Error, match=r"Duplicate entry 'x-10' for key 't\.u'") as caught:
        filled.ddl("ALTER TABLE t ADD UNIQUE u (b, a), ADD c INT")
    assert caught.value.code == 1062
    assert names(filled) == ["id", "a", "b"]
    assert filled.table("t").index("u") is None
    assert not filled.table("t").building
    filled.insert("t", (5, 10, "x"))
    assert filled.check("t") == 5
    filled.delete("t", 4)
    filled.delete("t", 5)
    filled.ddl("ALTER TABLE t ADD UNIQUE u (b, a)")
    assert filled.check("t") == 3


def test_nulls_are_no_duplicates(filled: FakeSession) -> None:
    filled.insert("t", (4, None, None), (5, None, None))
    filled.ddl("ALTER TABLE t ADD UNIQUE u (a)")
    assert filled.check("t") == 5


def test_index_on_a_new_column(filled: FakeSession) -> None:
    filled.ddl("ALTER TABLE t ADD c INT DEFAULT 4, ADD KEY c (c), DROP INDEX a, RENAME TO s")
    assert [i.name for i in filled.table("s").indexes] == ["c"]
    assert filled.check("s") == 3
    assert len(filled.index_entries("s", "c")) == 3


def test_replacing_an_index_by_its_name(filled: FakeSession) -> None:
    old = filled.table("t").index("a")
    filled.ddl("ALTER TABLE t DROP INDEX a, ADD INDEX a (b)")
    new = filled.table("t").index("a")
    assert old is not None
    assert new is not None
    assert (old.id, [c.offset for c in new.columns]) != (new.id, [1])
    assert filled.check("t") == 3


def test_primary_key_added_and_dropped(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (a INT, b INT)")
    session.insert("t", (1, 1), (2, 2))
    session.ddl("ALTER TABLE t ADD PRIMARY KEY (b)")
    table = session.table("t")
    assert (table.primary_key, table.clustered, table.columns[1].not_null) == ((1,), False, True)
    assert session.check("t") == 2
    session.ddl("ALTER TABLE t DROP PRIMARY KEY")
    assert session.table("t").primary_key == ()


TABLES = [
    "CREATE TABLE h (id BIGINT UNSIGNED PRIMARY KEY, v VARCHAR(9), w INT)",
    "CREATE TABLE h (id BIGINT UNSIGNED PRIMARY KEY NONCLUSTERED, v VARCHAR(9), w INT)",
    "CREATE TABLE h (id BIGINT UNSIGNED, v VARCHAR(9), w INT, PRIMARY KEY (v, id))",
]


@pytest.mark.parametrize("text", TABLES)
def test_index_on_every_kind_of_handle(session: FakeSession, text: str) -> None:
    session.ddl(text)
    top = (1 << 64) - 1
    session.insert("h", (1, "a", 5), (top, "b", None), (1 << 63, "c", 5))
    session.ddl("ALTER TABLE h ADD KEY w (w), ADD UNIQUE vw (v, w), ADD UNIQUE i (id)")
    assert session.check("h") == 3


REFUSED = [
    ("ALTER TABLE t ADD a INT", 1060),
    ("ALTER TABLE t DROP nope", 1091),
    ("ALTER TABLE t DROP INDEX nope", 1091),
    ("ALTER TABLE t ADD PRIMARY KEY (a)", 1068),
    ("ALTER TABLE t ADD KEY a (b)", 1061),
    ("ALTER TABLE t ADD KEY (nope)", 1072),
    ("ALTER TABLE t MODIFY nope INT", 1054),
    ("ALTER TABLE t MODIFY id INT NULL", 1171),
    ("ALTER TABLE t CHANGE a b INT", 1060),
    ("ALTER TABLE t RENAME COLUMN a TO b", 1060),
    ("ALTER TABLE t RENAME INDEX x TO y", 1176),
    ("ALTER TABLE t MODIFY a TIME", 1235),
    ("ALTER TABLE t MODIFY a ENUM('1')", 1235),
    ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES x (y)", 1824),
    ("ALTER TABLE t ADD CHECK (x > 1)", 3820),
    ("ALTER TABLE t DROP CHECK nothing", 3821),
    ("ALTER TABLE t ALTER CHECK nothing ENFORCED", 3821),
    ("ALTER TABLE t DROP FOREIGN KEY nothing", 1091),
    ("ALTER TABLE t DROP CONSTRAINT nothing", 3940),
    ("ALTER TABLE t ALTER CHECK nothing", 1064),
    ("ALTER TABLE t RENAME COLUMN a TO x, ADD CHECK (a > 1)", 1235),
    ("ALTER TABLE t ADD FULLTEXT (b)", 1235),
    ("ALTER TABLE t ADD PARTITION (PARTITION p VALUES LESS THAN (1))", 1505),
    ("ALTER TABLE t ORDER BY a", 1235),
    ("ALTER TABLE t CONVERT TO CHARACTER SET gbk", 1235),
    ("ALTER TABLE t SET TIFLASH REPLICA 2", 1105),
    ("ALTER TABLE t SET TIFLASH REPLICA 0, ADD c INT", 1235),
    ("ALTER TABLE t SET TIFLASH REPLICA", 1064),
    ("ALTER TABLE t SET TIFLASH REPLICA 1 LOCATION LABELS", 1064),
    ("ALTER DATABASE test SET TIFLASH REPLICA 1", 1235),
    ("ALTER TABLE t RENAME TO taken", 1050),
    ("ALTER TABLE nope ADD c INT", 1146),
    ("ALTER TABLE t ALTER nope SET DEFAULT 1", 1054),
    ("ALTER TABLE t ALTER a SET DEFAULT 'x'", 1067),
    ("ALTER TABLE t ADD c INT AFTER nope", 1054),
    ("ALTER TABLE t ADD", 1064),
    ("ALTER TABLE t FLY", 1064),
    ("DROP TABLE t, nope", 1051),
    ("TRUNCATE TABLE nope", 1146),
    ("RENAME TABLE t TO taken", 1050),
]


@pytest.mark.parametrize(("text", "code"), REFUSED)
def test_refused_and_nothing_changed(filled: FakeSession, text: str, code: int) -> None:
    filled.ddl("CREATE TABLE taken (a INT)")
    schema = filled.database.catalog.schema
    with pytest.raises(Error) as caught:
        filled.ddl(text)
    assert caught.value.code == code
    assert filled.database.catalog.schema is schema


def test_last_column_stays(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (a INT, b INT)")
    with pytest.raises(Error) as caught:
        session.ddl("ALTER TABLE t DROP a, DROP b")
    assert caught.value.code == 1090


def test_if_exists_and_if_not_exists_leave_notes(filled: FakeSession) -> None:
    filled.ddl("ALTER TABLE t ADD COLUMN IF NOT EXISTS a INT, DROP COLUMN IF EXISTS nope, DROP INDEX IF EXISTS nope")
    assert [w[1] for w in filled.warnings] == [1060, 1091, 1091]
    filled.ddl("DROP TABLE IF EXISTS nope, t")
    assert filled.warnings == [("Note", 1051, "Unknown table 'test.nope'")]
    assert filled.database.catalog.schema.table("test", "t") is None


def test_rename_chain_is_atomic(filled: FakeSession) -> None:
    filled.ddl("CREATE TABLE u (x INT)")
    filled.ddl("RENAME TABLE t TO tmp, u TO t, tmp TO u")
    assert names(filled, "u") == ["id", "a", "b"]
    assert names(filled, "t") == ["x"]
    with pytest.raises(Error):
        filled.ddl("RENAME TABLE u TO v, nope TO w")
    assert names(filled, "u") == ["id", "a", "b"]


def test_rename_to_another_database_keeps_rows_and_ids(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY)")
    ids = session.database.autoids
    assert ids.allocate(session.table("t")) == 1
    session.insert("t", (1,))
    session.ddl("CREATE DATABASE d")
    session.ddl("RENAME TABLE t TO d.t2")
    session.current_db = "d"
    assert session.rows("t2") == [(1,)]
    again = session.database.reopen()
    moved = again.catalog.schema.table("d", "t2")
    assert again.autoids.allocate(moved) > 1
    session.ddl("RENAME TABLE t2 TO test.t")
    assert session.database.catalog.schema.table("test", "t").info.old_schema_id == 0


def test_truncate_has_a_new_id_and_starts_over(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, UNIQUE (v))")
    session.database.autoids.allocate(session.table("t"), 10)
    session.insert("t", (1, 1))
    old = session.table("t")
    session.ddl("TRUNCATE TABLE t")
    new = session.table("t")
    assert new.id > old.id
    assert session.rows("t") == []
    assert session.database.autoids.allocate(new) == 1
    with pytest.raises(CommitRejected):
        session.insert("t", (2, 2), table=old)


@pytest.mark.parametrize(
    "change",
    ["DROP TABLE t", "TRUNCATE TABLE t", "ALTER TABLE t ADD c INT", "DROP INDEX a ON t", "CREATE INDEX x ON t (b)"],
)
def test_writers_of_the_old_schema_are_refused(filled: FakeSession, change: str) -> None:
    old = filled.table("t")
    filled.ddl(change)
    with pytest.raises(CommitRejected):
        filled.insert("t", (9, 9, "9"), table=old)


def test_dropped_ranges_wait_for_readers(filled: FakeSession) -> None:
    catalog, storage = filled.database.catalog, filled.database.storage
    table = filled.table("t")
    index = table.index("a")
    assert index is not None
    entries = index_key_range(table.id, index.id)
    filled.ddl("DROP INDEX a ON t")
    reader = storage.snapshot()
    assert catalog.collect_ranges(reader.ts - (1 << 40)) == 0
    assert len(list(reader.scan(*entries))) == 3
    assert catalog.collect_ranges(storage.now_ts()) == 1
    assert list(storage.snapshot().scan(*entries)) == []
    assert catalog.pending_ranges() == []
    filled.ddl("DROP TABLE t")
    assert len(catalog.pending_ranges()) == 1
    again = filled.database.reopen()
    assert again.catalog.pending_ranges() == []
    assert list(storage.snapshot().scan(*table_range(table.id))) == []
    assert again.catalog.collect_ranges(TS_MAX) == 0


def test_auto_increment_option(session: FakeSession) -> None:
    session.ddl("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY)")
    allocate: Callable[..., int] = session.database.autoids.allocate
    assert allocate(session.table("t")) == 1
    session.ddl("ALTER TABLE t AUTO_INCREMENT = 1000, COMMENT = 'c'")
    assert allocate(session.table("t")) == 1000
    session.ddl("ALTER TABLE t AUTO_INCREMENT = 5")
    assert allocate(session.table("t")) == 1001
    assert session.table("t").comment == "c"
