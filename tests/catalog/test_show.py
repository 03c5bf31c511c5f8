"""SHOW, DESCRIBE, information_schema and ADMIN CHECK."""

from __future__ import annotations

import pytest

from sqlfront.catalog import infoschema
from sqlfront.errors import Error
from tests.catalog.harness import FakeSession


@pytest.fixture
def shop(session: FakeSession) -> FakeSession:
    session.ddl(
        "CREATE TABLE item (id INT AUTO_INCREMENT PRIMARY KEY, "
        "name VARCHAR(20) NOT NULL DEFAULT 'x' COMMENT 'its name', "
        "at DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, "
        "code INT UNIQUE, grp INT, KEY g (grp, name(5)))"
    )
    session.insert("item", (1, "a", None, 10, 1), (2, "b", None, 20, 1))
    return session


def header(session: FakeSession, text: str) -> list[str]:
    return [c.name for c in session.result(text).columns or ()]


def test_databases_and_tables(shop: FakeSession) -> None:
    assert shop.query("SHOW DATABASES") == [("information_schema",), ("mysql",), ("test",)]
    assert shop.query("SHOW SCHEMAS LIKE 'T_st'") == [("test",)]
    assert header(shop, "SHOW TABLES") == ["Tables_in_test"]
    assert shop.query("SHOW FULL TABLES") == [("item", "BASE TABLE")]
    assert shop.query("SHOW TABLES LIKE 'x%'") == []
    assert ("TABLES", "SYSTEM VIEW") in shop.query("SHOW FULL TABLES FROM information_schema")


def test_describe(shop: FakeSession) -> None:
    assert header(shop, "DESCRIBE item") == ["Field", "Type", "Null", "Key", "Default", "Extra"]
    assert shop.query("DESC item") == [
        ("id", "int", "NO", "PRI", None, "auto_increment"),
        ("name", "varchar(20)", "NO", "", "x", ""),
        ("at", "datetime", "YES", "", "CURRENT_TIMESTAMP", "DEFAULT_GENERATED on update CURRENT_TIMESTAMP"),
        ("code", "int", "YES", "UNI", None, ""),
        ("grp", "int", "YES", "MUL", None, ""),
    ]
    assert [r[0] for r in shop.query("DESCRIBE item name")] == ["name"]
    full = shop.query("SHOW FULL COLUMNS FROM item LIKE 'name'")
    assert full == [
        ("name", "varchar(20)", "utf8mb4_bin", "NO", "", "x", "", "select,insert,update,references", "its name")
    ]


def test_index(shop: FakeSession) -> None:
    rows = shop.query("SHOW INDEX FROM item")
    assert [(r[1], r[2], r[3], r[4], r[7]) for r in rows] == [
        (0, "PRIMARY", 1, "id", None),
        (0, "code", 1, "code", None),
        (1, "g", 1, "grp", None),
        (1, "g", 2, "name", 5),
    ]
    shop.query("ANALYZE TABLE item")
    assert [r[6] for r in shop.query("SHOW KEYS FROM item")] == [2, 2, 1, 2]


def test_statements_that_clients_send(shop: FakeSession) -> None:
    assert shop.query("SHOW VARIABLES LIKE 'time_zone'") == [("time_zone", "session")]
    assert shop.query("SHOW GLOBAL VARIABLES LIKE 'time_zone'") == [("time_zone", "global")]
    assert ("Threads_connected", "1") in shop.query("SHOW STATUS")
    assert shop.query("SHOW PROCESSLIST")[0][:4] == (1, "root", "localhost", "test")
    assert shop.query("SHOW TABLE STATUS")[0][:2] == ("item", "InnoDB")
    assert shop.query("SHOW ENGINES")[0][1] == "DEFAULT"
    assert shop.query("SHOW COLLATION LIKE 'utf8mb4%'")[0][:2] == ("utf8mb4_bin", "utf8mb4")
    assert shop.query("SHOW CHARSET")[1][0] == "utf8mb4"
    assert shop.query("SHOW CHARACTER SET")[1][3] == 4
    assert "ALL PRIVILEGES" in shop.query("SHOW GRANTS")[0][0]
    assert shop.query("SHOW TRIGGERS") == []
    assert shop.query("SHOW CREATE DATABASE test")[0][1].startswith("CREATE DATABASE `test`")
    assert shop.query("SHOW STATS_META") == [("test", "item", 2, 2)]
    shop.warnings.append(("Error", 1146, "no"))
    shop.warnings.append(("Note", 1050, "yes"))
    assert shop.query("SHOW WARNINGS") == [("Error", 1146, "no"), ("Note", 1050, "yes")]
    assert shop.query("SHOW ERRORS") == [("Error", 1146, "no")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SHOW TABLES FROM nope", 1049),
        ("SHOW COLUMNS FROM itme", 1146),
        ("SHOW CREATE TABLE nope", 1146),
        ("DESCRIBE information_schema.nope", 1109),
        ("SHOW NONSENSE", 1235),
        ("SHOW TABLES WHERE x = 1", 1235),
        ("ADMIN CHECK TABLE nope", 1146),
        ("ADMIN CHECK INDEX item nope", 1176),
        ("ANALYZE TABLE nope", 1146),
    ],
)
def test_refused(shop: FakeSession, text: str, code: int) -> None:
    with pytest.raises(Error) as caught:
        shop.query(text)
    assert caught.value.code == code


def test_every_virtual_table_gives_rows_of_its_columns(shop: FakeSession) -> None:
    for name in infoschema.names():
        table = infoschema.table(name.lower())
        assert table is not None
        for row in table.rows(shop):  # type: ignore[arg-type]
            assert len(row) == len(table.columns), name
        assert [r[0] for r in shop.query(f"DESCRIBE information_schema.{name}")] == [c for c, _ in table.columns]


def test_columns_of_information_schema(shop: FakeSession) -> None:
    table = infoschema.table("columns")
    assert table is not None
    names = [c for c, _ in table.columns]
    rows = [dict(zip(names, r, strict=True)) for r in table.rows(shop)]  # type: ignore[arg-type]
    found = next(r for r in rows if r["TABLE_NAME"] == "item" and r["COLUMN_NAME"] == "name")
    assert found["DATA_TYPE"] == "varchar"
    assert (found["CHARACTER_MAXIMUM_LENGTH"], found["CHARACTER_OCTET_LENGTH"]) == (20, 80)
    assert (found["COLUMN_TYPE"], found["ORDINAL_POSITION"], found["IS_NULLABLE"]) == ("varchar(20)", 2, "NO")


def test_show_auto_increment(shop: FakeSession) -> None:
    shop.database.autoids.rebase(shop.table("item"), 2)
    assert "AUTO_INCREMENT=3 " in shop.query("SHOW CREATE TABLE item")[0][1]


def test_check_passes(shop: FakeSession) -> None:
    assert shop.result("ADMIN CHECK TABLE item").columns is None
    assert shop.result("ADMIN CHECK INDEX item g").columns is None


def _damage(shop: FakeSession, index: str, how: str) -> None:
    key, value = shop.index_entries("item", index)[0]
    txn = shop.database.storage.begin()
    if how == "missing":
        txn.delete(key)
    elif how == "other row":
        txn.put(key, (2).to_bytes(8, "big"))
    elif how == "dangling":
        txn.put(key[:-1] + bytes([key[-1] ^ 0x40]), value)
    txn.commit()


@pytest.mark.parametrize(
    ("index", "how", "what"),
    [
        ("g", "missing", "index: g, handle: 1: the row has no index entry"),
        ("code", "missing", "index: code, handle: 1: the row has no index entry"),
        ("code", "other row", "index: code, handle: 1: the index entry is of another row"),
        ("g", "dangling", "the index entry has no row"),
        ("code", "dangling", "the index entry is not of the row's values"),
    ],
)
def test_check_finds_damage(shop: FakeSession, index: str, how: str, what: str) -> None:
    _damage(shop, index, how)
    with pytest.raises(Error, match=what) as caught:
        shop.query("ADMIN CHECK TABLE item")
    assert caught.value.code == 8223
    with pytest.raises(Error, match=what):
        shop.query(f"ADMIN CHECK INDEX item {index}")


def test_check_finds_a_lost_row(shop: FakeSession) -> None:
    txn = shop.database.storage.begin()
    txn.delete(shop.table("item").codec.record_key(1))
    txn.commit()
    with pytest.raises(Error, match="has no row"):
        shop.query("ADMIN CHECK TABLE item")
