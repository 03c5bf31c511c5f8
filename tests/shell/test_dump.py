"""Files as `mysqldump` of MySQL 8 and of MariaDB write them: by the command and by a cursor, with bytes as they are."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import sqlfront
from shell.statements import Statement, split

DUMPS = Path(__file__).parent / "dumps"
COMMAND = [sys.executable, "-m", "shell.cli"]


def load(directory: Path, script: bytes, *arguments: str) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments, str(directory)], input=script, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def by_cursor(connection: sqlfront.Connection, text: str) -> None:
    cursor = connection.cursor()
    for piece in split(text):
        assert isinstance(piece, Statement)
        cursor.execute(piece.text)


@pytest.fixture(params=["command", "cursor"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlfront.Connection]:
    path = tmp_path / "db"
    mariadb = (DUMPS / "mariadb.sql").read_text()
    made = "CREATE DATABASE wiki; USE wiki;\n"
    if request.param == "command":
        load(path, (DUMPS / "mysql8.sql").read_bytes())
        # What MariaDB writes names no database; its first line stands first.
        load(path, (made + mariadb).encode())
        connection = sqlfront.connect(path)
    else:
        connection = sqlfront.connect(path)
        by_cursor(connection, (DUMPS / "mysql8.sql").read_text())
        by_cursor(connection, made)
        by_cursor(connection, mariadb)
    yield connection
    connection.close()


def test_all_rows_are_there(loaded: sqlfront.Connection) -> None:
    cursor = loaded.cursor()

    def rows(sql: str) -> list[tuple[object, ...]]:
        cursor.execute(sql)
        return cursor.fetchall()

    cursor.execute("SET time_zone = '+00:00'")
    assert rows("SELECT * FROM shop.customer ORDER BY id") == [
        (0, "Zero", None, Decimal("0.00"), "bronze", "", None, dt.datetime(2024, 1, 1), None),
        (1, "O'Brien; \"Bob\"", "bob@example.com", Decimal("10.50"), "gold", "a,c", dt.date(1980, 2, 29),
         dt.datetime(2024, 3, 31, 1, 30), dt.datetime(2024, 3, 31, 1, 30, 0, 123000)),
        (7, "Tab\there\nnew line \\ /*!40000 no comment */ -- none", "x'y@example.com", Decimal("-99999.99"), "silver",
         None, dt.date(1999, 12, 31), dt.datetime(2038, 1, 19, 3, 14, 7), None),
    ]  # fmt: skip
    first = rows("SELECT * FROM shop.every_type ORDER BY id")[0]
    assert first[0] == -(1 << 63)
    assert first[5] == (1 << 64) - 1
    assert first[11] == "Grüße 😀"
    assert first[13] == "a\\b\0c\x1a"
    assert first[14:17] == (b"ab\0\0", b"\0'\"\\\n\r\x1a", b"\xde\xad\xbe\xef")
    assert first[-3:] == (-127, "abc!", None)
    assert rows("SELECT hidden FROM shop.every_type WHERE id = 1") == [(3,)]
    assert rows("SELECT COUNT(*) FROM shop.orders PARTITION (p2023)") == [(1,)]
    assert rows("SELECT * FROM shop.tags ORDER BY k") == [("a", 1), ("b", 2), ("c", None)]
    assert rows("SELECT title, views, data FROM wiki.page ORDER BY id") == [
        ("Main_Page", 12, b"\0\x1aabc"),
        ("Ünïcode", 0, None),
    ]
    assert rows("SELECT * FROM wiki.link ORDER BY source") == [(1, 2), (2, 1)]
    cursor.execute("INSERT INTO shop.customer (name) VALUES ('next')")
    assert rows("SELECT id FROM shop.customer WHERE name = 'next'") == [(8,)]


def test_settings_are_put_back(tmp_path: Path) -> None:
    connection = sqlfront.connect(tmp_path / "db")
    cursor = connection.cursor()
    asked = (
        "SELECT @@character_set_client, @@character_set_results, @@collation_connection, @@time_zone, @@unique_checks,"
        " @@foreign_key_checks, @@sql_mode, @@sql_notes"
    )
    cursor.execute(asked)
    before = cursor.fetchall()
    by_cursor(connection, (DUMPS / "mysql8.sql").read_text())
    cursor.execute(asked)
    assert cursor.fetchall() == before
    connection.close()


def test_a_footer_without_its_header_sets_nothing(tmp_path: Path) -> None:
    connection = sqlfront.connect(tmp_path / "db")
    cursor = connection.cursor()
    text = (DUMPS / "mysql8.sql").read_text()
    footer = text[text.index("/*!40103 SET TIME_ZONE=@OLD") :]
    codes = []
    for piece in split(footer):
        try:
            cursor.execute(piece.text)
        except sqlfront.Error as exc:
            codes.append(exc.code)
    # CHARACTER_SET_RESULTS alone may be NULL.
    assert codes == [1231] * 7
    connection.close()


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "db"
    script = (
        b"CREATE DATABASE d; USE d; CREATE TABLE t (a INT PRIMARY KEY, b VARBINARY(20), c TEXT);\n"
        b"INSERT INTO t VALUES (1,_binary '\xff\xfe\\0\\'\x80','\xc3\xa9'),(2,'\xc3\x28','x'); -- \xff\n"
    )
    load(path, script)
    included = tmp_path / "more.sql"
    included.write_bytes(b"INSERT INTO d.t VALUES (3, _binary '\xe2\x82', NULL);\n")
    load(path, f"\\i {included}\n".encode())
    connection = sqlfront.connect(path)
    cursor = connection.cursor()
    cursor.execute("SELECT b, c FROM d.t ORDER BY a")
    assert cursor.fetchall() == [(b"\xff\xfe\0'\x80", "é"), (b"\xc3\x28", "x"), (b"\xe2\x82", None)]
    for code, statement in (
        (1300, b"SELECT 1 AS `\xff`"),
        (1300, b"CREATE TABLE d.u (a INT COMMENT '\xff')"),
        (1366, b"INSERT INTO d.t VALUES (4, NULL, '\xff')"),
    ):
        with pytest.raises(sqlfront.Error) as caught:
            cursor.execute(statement.decode("utf-8", "surrogateescape"))
        assert caught.value.code == code
    connection.close()
