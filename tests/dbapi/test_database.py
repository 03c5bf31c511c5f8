"""The DB-API over a real database: what only shows when all layers are there."""

import datetime as dt
import threading
import time
from decimal import Decimal

import pyarrow as pa
import pytest

import sqlfront


@pytest.fixture
def con():
    with sqlfront.connect(":memory:") as connection:
        yield connection


def test_point_select_through_the_cursor(con):
    con.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(20))")
    con.executemany("INSERT INTO t VALUES (?, ?)", [(i, f"n{i}") for i in range(10)])
    cur = con.cursor()
    for i in (3, 7, 3):
        assert cur.execute("SELECT name, id FROM t WHERE id = ?", (i,)).fetchone() == (f"n{i}", i)
        assert cur.fetchone() is None
    assert cur.execute("SELECT name FROM t WHERE id = ?", (99,)).fetchone() is None
    assert cur.execute("SELECT name FROM t WHERE id = :id", {"id": 4}).fetchall() == [("n4",)]
    assert cur.execute("SELECT name FROM t WHERE id = ?", (5,)).fetch_arrow_table().to_pydict() == {"name": ["n5"]}


def test_values_come_back_as_they_went_in(con):
    con.execute(
        "CREATE TABLE v (i BIGINT, u BIGINT UNSIGNED, d DECIMAL(10, 3), f DOUBLE, s VARCHAR(20), b VARBINARY(20), "
        "day DATE, at DATETIME(6), t TIME(6))"
    )
    row = (
        -(2**63),
        2**64 - 1,
        Decimal("1.250"),
        0.1,
        "größe ? :x %s",
        b"\x00\xff",
        dt.date(2024, 2, 29),
        dt.datetime(2024, 2, 29, 1, 2, 3, 4),
        dt.timedelta(hours=-30, microseconds=5),
    )
    con.execute("INSERT INTO v VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    con.execute("INSERT INTO v VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (None,) * 9)
    cur = con.execute("SELECT * FROM v")
    assert set(cur.fetchall()) == {row, (None,) * 9}
    table = con.execute("SELECT * FROM v WHERE i IS NOT NULL").fetch_arrow_table()
    assert tuple(c[0].as_py() for c in table.columns) == row
    types = [pa.int64(), pa.uint64(), pa.decimal128(10, 3), pa.float64(), pa.string(), pa.binary(), pa.date32()]
    assert table.schema.types == [*types, pa.timestamp("us"), pa.duration("us")]


def test_transactions(tmp_path):
    with sqlfront.connect(tmp_path / "db") as con, sqlfront.connect(f"sqlfront://{tmp_path}/db") as other:
        con.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        con.execute("INSERT INTO t VALUES (1)")
        assert con.in_transaction
        assert other.execute("SELECT * FROM t").fetchall() == []
        con.commit()
        assert other.execute("SELECT * FROM t").fetchall() == []
        other.rollback()
        assert other.execute("SELECT * FROM t").fetchall() == [(1,)]
        other.commit()
        con.execute("INSERT INTO t VALUES (2)")
        con.rollback()
        con.execute("INSERT INTO t VALUES (3)")
        con.autocommit = True
        assert not con.in_transaction
        con.execute("INSERT INTO t VALUES (4)")
        assert other.execute("SELECT * FROM t").fetchall() == [(1,), (3,), (4,)]
    with sqlfront.connect(tmp_path / "db") as again:
        assert again.execute("SELECT COUNT(*) FROM t").fetchone() == (3,)


def test_transaction_blocks(con):
    con.autocommit = True
    con.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with con.transaction():
        con.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlfront.IntegrityError), con.transaction():
            con.executemany("INSERT INTO t VALUES (?)", [(2,), (1,)])
        con.execute("INSERT INTO t VALUES (3)")
    with pytest.raises(sqlfront.IntegrityError), con.transaction():
        con.executemany("INSERT INTO t VALUES (?)", [(4,), (1,)])
    assert not con.in_transaction
    assert con.execute("SELECT id FROM t ORDER BY id").fetchall() == [(1,), (3,)]


def test_counts(con):
    cur = con.cursor()
    cur.execute("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT)")
    assert cur.rowcount in (-1, 0)
    cur.execute("INSERT INTO t (n) VALUES (1), (2), (3)")
    assert (cur.rowcount, cur.lastrowid) == (3, 1)
    cur.execute("UPDATE t SET n = 5 WHERE n >= 2")
    assert cur.rowcount == 2
    cur.executemany("INSERT INTO t (n) VALUES (?)", [(i,) for i in range(10)])
    assert cur.rowcount == 10
    cur.execute("DELETE FROM t")
    assert cur.rowcount == 13


def test_parameter_counts(con):
    for params in ((), (1, 2), {"a": 1}):
        with pytest.raises(sqlfront.ProgrammingError):
            con.execute("SELECT ?", params)
    with pytest.raises(sqlfront.ProgrammingError):
        con.execute("SELECT :a", {"b": 1})
    assert con.execute("SELECT ':a ?', ?", (1,)).fetchone() == (":a ?", 1)


def test_registered_tables(con):
    con.execute("CREATE TABLE orders (id INT PRIMARY KEY, currency CHAR(3), total DECIMAL(8, 2))")
    con.execute("INSERT INTO orders VALUES (1, 'EUR', 10), (2, 'CHF', 20)")
    con.register("rates", pa.table({"currency": ["EUR", "CHF"], "rate": [2, 3]}))
    sql = "SELECT o.id, r.rate FROM orders o JOIN rates r ON r.currency = o.currency ORDER BY o.id"
    assert con.execute(sql).fetchall() == [(1, 2), (2, 3)]
    con.unregister("rates")
    with pytest.raises(sqlfront.ProgrammingError) as caught:
        con.execute(sql)
    assert caught.value.code == 1146
    with pytest.raises(sqlfront.InterfaceError):
        con.unregister("rates")


def test_streaming_keeps_its_snapshot(con):
    con.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT)")
    con.append("t", pa.table({"id": list(range(5000)), "n": [1] * 5000}))
    con.autocommit = True
    reader = con.execute("SELECT id, n FROM t").fetch_record_batch(rows_per_batch=100)
    first = reader.read_next_batch()
    assert first.num_rows <= 100
    con.execute("UPDATE t SET n = 2")
    rest = reader.read_all()
    assert first.num_rows + rest.num_rows == 5000
    assert set(rest.column("n").to_pylist()) == {1}


def test_interrupt(con):
    con.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    con.append("t", pa.table({"id": list(range(1000))}))
    started = threading.Event()

    def stop():
        started.wait(10)
        for _ in range(200):  # the statement may not have begun when the first one comes
            time.sleep(0.02)
            con.interrupt()
            if done.is_set():
                return

    done = threading.Event()
    thread = threading.Thread(target=stop)
    thread.start()
    try:
        started.set()
        with pytest.raises(sqlfront.QueryInterrupted):
            con.execute("SELECT COUNT(*) FROM t a, t b, t c WHERE a.id * b.id < c.id + b.id").fetchall()
    finally:
        done.set()
        thread.join()
    assert con.execute("SELECT COUNT(*) FROM t").fetchone() == (1000,)


def test_errors_carry_codes(con):
    con.execute("CREATE TABLE t (id INT PRIMARY KEY, n TINYINT NOT NULL)")
    con.execute("INSERT INTO t VALUES (1, 1)")
    cases = {
        "SELEC 1": (sqlfront.ProgrammingError, 1064, "42000"),
        "SELECT * FROM nope": (sqlfront.ProgrammingError, 1146, "42S02"),
        "SELECT nope FROM t": (sqlfront.ProgrammingError, 1054, "42S22"),
        "INSERT INTO t VALUES (1, 1)": (sqlfront.IntegrityError, 1062, "23000"),
        "INSERT INTO t VALUES (2, NULL)": (sqlfront.IntegrityError, 1048, "23000"),
        "INSERT INTO t VALUES (2, 500)": (sqlfront.DataError, 1264, "22003"),
    }
    for sql, (kind, code, state) in cases.items():
        with pytest.raises(kind) as caught:
            con.execute(sql)
        assert (caught.value.code, caught.value.sqlstate) == (code, state), sql
    assert con.execute("SELECT COUNT(*) FROM t").fetchone() == (1,)


def test_another_database(tmp_path):
    with sqlfront.connect(tmp_path / "db") as con:
        con.execute("CREATE DATABASE shop")
    with sqlfront.connect(tmp_path / "db", database="shop") as con:
        assert con.database == "shop"
    with pytest.raises(sqlfront.ProgrammingError) as caught:
        sqlfront.connect(tmp_path / "db", database="nope")
    assert caught.value.code == 1049


def test_directories_that_are_not_ours(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    for path in ("file", "full"):
        with pytest.raises(sqlfront.OperationalError):
            sqlfront.connect(tmp_path / path)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "x"
