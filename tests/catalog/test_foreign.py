"""Tables as TiDB stores them (tests/catalog/foreign/*.json): what is read, what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from coprocessor.types import Tp
from sqlfront.catalog.constraints import foreign_keys_of
from sqlfront.catalog.foreign import reason_against_reading, reason_against_writing
from sqlfront.catalog.info import TableInfo
from sqlfront.catalog.meta import Meta
from sqlfront.catalog.model import Table
from sqlfront.dbapi import Connection, connect
from sqlfront.errors import DatabaseError, IntegrityError

CORPUS = Path(__file__).parent / "foreign"

WRITABLE = {
    "adding_index",
    "auto_id_cache_1",
    "check_constraint",
    "check_not_enforced",
    "ci_clustered",
    "ci_column",
    "ci_index",
    "common_handle",
    "foreign_key",
    "expression_index",
    "foreign_key_of_old",
    "generated_stored",
    "generated_virtual",
    "invisible_index",
    "parent",
    "partitioned",
    "placement",
    "plain",
    "prefix_index",
    "shard_row_id_bits",
    "ttl",
}
READ_ONLY = {
    "adding_column": "has column 'late' that is being added or dropped",
    "adding_index_fast": "has index 'by_n' that is being built beside it",
    "auto_random": "has an AUTO_RANDOM key",
    "cached": "is a cached table",
    "changing_column": "has column '_Col$_n_0' that is being added or dropped",
    "exchanging": "takes part in an exchange of partitions",
    "full_text": "has the columnar index 'ft'",
    "gbk_index": "has index 'by_v' over column 'v' of collation gbk_bin",
    "locked": "is locked by LOCK TABLES",
    "multi_valued_index": "has an index over an expression that is not computed here",
    "of_the_future": "has a property that is not known here: 'row_shape' of the table",
    "partial_index": "has the partial index 'some'",
}
REFUSED = {
    "binary_members": "has column 'e' with members that are binary literals",
    "dropping": "is being created or dropped",
    "global_temporary": "is a global temporary table",
    "importing": "is being imported into",
    "old_charset_version": "has column 'v' whose character set was stored before TiDB 2.1.9",
    "sequence": "is a sequence",
    "timestamp_of_old": "has column 'ts' whose default is in an unknown time zone",
    "vector": "has column 'embedding' of a type that is not known here (225)",
}
VIEWS = {"view": "is a view"}
CHANGES = (
    "INSERT INTO {} (id) VALUES (1)",
    "REPLACE INTO {} (id) VALUES (1)",
    "UPDATE {} SET id = 2",
    "DELETE FROM {}",
    "TRUNCATE TABLE {}",
    "ALTER TABLE {} ADD COLUMN more INT",
    "RENAME TABLE {} TO other_name",
    "CREATE TABLE copied LIKE {}",
    "DROP TABLE {}",
)
ALL = sorted(path.stem for path in CORPUS.glob("*.json"))


def stored(name: str) -> TableInfo:
    return TableInfo.loads((CORPUS / f"{name}.json").read_bytes())


def test_every_record_of_the_corpus_is_decided() -> None:
    assert sorted([*WRITABLE, *READ_ONLY, *REFUSED, *VIEWS]) == ALL


@pytest.mark.parametrize("name", ALL)
def test_reasons(name: str) -> None:
    info = stored(name)
    assert reason_against_reading(info) == (REFUSED | VIEWS).get(name)
    assert reason_against_writing(info) == (REFUSED | VIEWS | READ_ONLY).get(name)


def test_partitions_that_are_not_known_here() -> None:
    info = stored("partitioned")
    info.partition["type"] = 5
    assert reason_against_reading(info) == "is partitioned in a way that is not known here"
    info.partition |= {"type": 2, "adding_definitions": info.partition["definitions"][:1]}
    assert reason_against_reading(info) == "has partitions that are being changed"
    info.partition["enable"] = False
    assert reason_against_reading(info) is None


@pytest.mark.parametrize(
    ("tp", "collate", "reason"),
    [
        (Tp.LONG, "binary", None),
        (Tp.VARCHAR, "utf8mb4_bin", None),
        (Tp.TIMESTAMP, "binary", "is partitioned by KEY over column 'id', whose type is not hashed here"),
        (Tp.VARCHAR, "utf8mb4_general_ci", "is partitioned by KEY over column 'id' of collation utf8mb4_general_ci"),
    ],
)
def test_partitions_by_key_of_what_is_not_hashed_here(tp: Tp, collate: str, reason: str | None) -> None:
    info = stored("partitioned")
    info.partition |= {"type": 4, "expr": "", "columns": [{"O": "Id", "L": "id"}]}
    (column,) = [c for c in info.columns if c.name == "id"]
    column.type.tp, column.type.collate = tp, collate
    assert reason_against_reading(info) == reason
    info.partition["columns"] = None
    assert reason_against_reading(info) == "is partitioned by KEY of columns that its record does not name"


@pytest.mark.parametrize("name", ALL)
def test_a_record_is_written_back_as_it_was(name: str) -> None:
    info = stored(name)
    assert TableInfo.loads(info.dumps()).to_json() == info.to_json()


def test_foreign_keys_that_are_kept() -> None:
    (key,) = foreign_keys_of(stored("foreign_key"), "test")
    assert key.told("test", "t") == (
        "`test`.`t`, CONSTRAINT `fk_1` FOREIGN KEY (`n`) REFERENCES `Parent` (`id`) ON DELETE CASCADE"
    )
    assert foreign_keys_of(stored("foreign_key_of_old"), "test") == ()
    info = stored("foreign_key")
    info.fk_info[0].extra["of_the_future"] = 1
    reason = "has a property that is not known here: 'of_the_future' of foreign key 'fk_1'"
    assert reason_against_writing(info) == reason
    info = stored("check_constraint")
    info.constraint_info[0].extra["of_the_future"] = 1
    assert reason_against_writing(info) == "has a property that is not known here: 'of_the_future' of constraint 'c1'"
    info = stored("partitioned")
    info.fk_info = stored("foreign_key").fk_info
    assert reason_against_writing(info) == "has partitions and foreign keys"


# In a catalog


@pytest.fixture
def db(tmp_path: Path) -> Connection:
    """A database whose schema has the whole corpus, each table under an id of its own."""
    connection = connect(str(tmp_path / "db"))
    storage = connection._database.storage
    txn = storage.begin(pessimistic=False)
    meta = Meta(txn)
    test = next(info for info in meta.databases() if info.name == "test")
    for number, name in enumerate(ALL):
        info = stored(name)
        info.id = 500 + number
        meta.put_table(test.id, info)
    txn.commit()
    connection.close()
    return connect(str(tmp_path / "db"))


def refused(db: Connection, sql: str) -> tuple[int, str]:
    with pytest.raises(DatabaseError) as caught:
        db.cursor().execute(sql)
    return caught.value.code, caught.value.message


def test_statements_over_the_corpus(db: Connection) -> None:
    cursor = db.cursor()
    for name in ALL:
        if name in REFUSED:
            code, message = refused(db, f"SELECT * FROM {name}")
            assert (code, message) == (8200, f"Table 'test.{name}' cannot be read here: it {REFUSED[name]}")
            assert refused(db, f"DROP TABLE {name}")[0] == 1036
        else:
            cursor.execute(f"SELECT * FROM {name}")
            assert cursor.fetchall() == []
        if name in READ_ONLY:
            expected = (1036, f"Table 'test.{name}' is read only here: it {READ_ONLY[name]}")
            for sql in CHANGES:
                assert refused(db, sql.format(name)) == expected
    assert refused(db, "DROP DATABASE test")[0] == 1036
    cursor.execute("SHOW TABLES")
    assert sorted(row[0] for row in cursor.fetchall()) == ALL
    cursor.execute("SHOW FULL TABLES")
    kinds = dict(cursor.fetchall())
    assert (kinds["view"], kinds["sequence"], kinds["plain"]) == ("VIEW", "SEQUENCE", "BASE TABLE")
    cursor.execute("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'test'")
    assert dict(cursor.fetchall()) == kinds
    cursor.execute("SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'vector'")
    assert cursor.fetchall() == [(0,)]
    db.close()


def test_rows_of_writable_tables(db: Connection) -> None:
    cursor = db.cursor()
    cursor.execute("INSERT INTO parent (id) VALUES (3), (4), (5)")
    for name in sorted(WRITABLE - {"ci_clustered", "common_handle", "ttl", "parent"}):
        cursor.execute(f"INSERT INTO {name} (id, v, n) VALUES (7, 'a', 3), (8, 'b', 4)")
        cursor.execute(f"UPDATE {name} SET n = 5 WHERE id = 7")
        cursor.execute(f"DELETE FROM {name} WHERE v = 'b'")
        cursor.execute(f"SELECT id, v, n FROM {name} WHERE n = 5")
        assert cursor.fetchall() == [(7, "a", 5)]
        cursor.execute(f"ADMIN CHECK TABLE {name}")
    db.close()


def test_rows_under_a_clustered_key_of_weights(db: Connection) -> None:
    cursor = db.cursor()
    cursor.execute("INSERT INTO ci_clustered (k, n) VALUES ('Straße', 1), ('b', 2)")
    with pytest.raises(IntegrityError, match="Duplicate entry 'STRASSE' for key"):
        cursor.execute("INSERT INTO ci_clustered (k, n) VALUES ('STRASSE', 1)")
    cursor.execute("UPDATE ci_clustered SET n = 5 WHERE k = 'strasse'")
    cursor.execute("SELECT k, n FROM ci_clustered ORDER BY k")
    assert cursor.fetchall() == [("b", 2), ("Straße", 5)]
    cursor.execute("ADMIN CHECK TABLE ci_clustered")
    db.close()


def test_constraints_of_others_are_kept(db: Connection) -> None:
    cursor = db.cursor()
    assert refused(db, "INSERT INTO check_constraint (id, n) VALUES (1, -1)") == (
        3819,
        "Check constraint 'c1' is violated.",
    )
    code, _ = refused(db, "INSERT INTO foreign_key (id, n) VALUES (1, 1)")
    assert code == 1452
    cursor.execute("INSERT INTO parent (id) VALUES (1), (2)")
    cursor.execute("INSERT INTO foreign_key (id, n) VALUES (1, 1), (2, 2), (3, NULL)")
    assert refused(db, "UPDATE parent SET id = 9 WHERE id = 1")[0] == 1451
    assert refused(db, "DROP TABLE parent")[0] == 3730
    cursor.execute("DELETE FROM parent WHERE id = 1")
    cursor.execute("SELECT id FROM foreign_key")
    assert cursor.fetchall() == [(2,), (3,)]
    cursor.execute("INSERT INTO foreign_key_of_old (id, n) VALUES (1, 77)")
    db.close()


def test_children_that_are_not_known_well_enough(tmp_path: Path) -> None:
    """A parent does not change when nobody can look for its children, or change them as their actions say."""
    connection = connect(str(tmp_path / "db"))
    txn = connection._database.storage.begin(pessimistic=False)
    meta = Meta(txn)
    test = next(info for info in meta.databases() if info.name == "test")
    for number, name in enumerate(("plain", "parent", "partial_index", "vector")):
        info = stored(name)
        info.id = 500 + number
        if name in ("partial_index", "vector"):
            info.fk_info = stored("foreign_key").fk_info
            info.fk_info[0].ref_table = "parent" if name == "partial_index" else "plain"
        meta.put_table(test.id, info)
    txn.commit()
    connection.close()
    db = connect(str(tmp_path / "db"), autocommit=True)
    cursor = db.cursor()
    for sql in ("INSERT INTO plain (id) VALUES (1)", "DELETE FROM plain"):
        code, message = refused(db, sql)
        assert (code, message.rpartition(": ")[2]) == (
            1036,
            "it is referenced by 'test.vector', which cannot be read here",
        )
    cursor.execute("INSERT INTO parent (id) VALUES (1), (2)")
    table = db._database.catalog.schema.need_table("test", "partial_index")
    txn = db._database.storage.begin(pessimistic=False)
    row = [1 if column.name in ("id", "n") else None for column in table.columns]
    txn.put(*table.codec.encode_record(row))
    for _, entry, value, _ in table.codec.index_entries(row, 1):
        txn.put(entry, value)
    txn.commit()
    assert refused(db, "DELETE FROM parent")[0] == 1036
    cursor.execute("DELETE FROM parent WHERE id = 2")
    db.close()


def test_hidden_columns_are_not_shown(db: Connection) -> None:
    """Those of indexes that are kept here are the last of a table's columns, wherever they are stored; others are no
    columns at all."""
    table: Table = db._database.catalog.schema.need_table("test", "expression_index")
    assert [column.name for column in table.columns] == ["id", "v", "n", "late", "_V$_by_low_0"]
    indexes = [(index.name, [part.offset for part in index.columns]) for index in table.indexes]
    assert indexes == [("by_low", [4]), ("by_late", [3])]
    other = db._database.catalog.schema.need_table("test", "multi_valued_index")
    assert not any(column.hidden for column in other.columns)
    weighted = db._database.catalog.schema.need_table("test", "gbk_index")
    assert weighted.indexes == ()
    cursor = db.cursor()
    cursor.execute("SHOW CREATE TABLE gbk_index")
    ((_, shown),) = cursor.fetchall()
    assert "KEY `by_v` (`v`)" in shown
    assert "COLLATE gbk_bin" in shown
    cursor.execute("SHOW INDEX FROM gbk_index")
    assert {row[2] for row in cursor.fetchall()} >= {"by_v"}
    cursor.execute("SHOW CREATE TABLE expression_index")
    shown = cursor.fetchall()[0][1]
    assert "KEY `by_low` ((lower(`v`)))" in shown
    assert "_V$" not in shown
    db.close()
