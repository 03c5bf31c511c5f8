"""Bulk load. Most tests run both ways: through the store's ingest and as an ordinary INSERT, with equal outcomes."""

import datetime as dt
import threading
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlfront
from sqlfront import load, load_source


@pytest.fixture(params=["ingest", "insert"])
def way(request, monkeypatch):
    monkeypatch.setattr(load, "TRANSACTIONAL_ROWS_MAX", 0 if request.param == "ingest" else 10**9)
    return request.param


@pytest.fixture
def ingest(monkeypatch):
    monkeypatch.setattr(load, "TRANSACTIONAL_ROWS_MAX", 0)


@pytest.fixture
def con():
    with sqlfront.connect(":memory:", autocommit=True) as connection:
        yield connection


def rows(con, sql):
    return con.execute(sql).fetchall()


def code_of(call):
    with pytest.raises(sqlfront.Error) as caught:
        call()
    return caught.value.code


ITEM = """CREATE TABLE item (
    id BIGINT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(10) NOT NULL, price DECIMAL(8, 2) DEFAULT 1.5,
    at DATETIME(3), UNIQUE KEY by_name (name), KEY by_price (price))"""


def check(con, table="item"):
    con.execute(f"ADMIN CHECK TABLE {table}")


def test_columns_go_by_name(con, way):
    con.execute(ITEM)
    data = pa.table({"NAME": ["a", "b"], "Id": [5, 3], "at": [dt.datetime(2024, 2, 29, 1, 2, 3, 4000), None]})
    assert con.append("item", data) == 2
    assert rows(con, "SELECT id, name, price, at FROM item ORDER BY id") == [
        (3, "b", Decimal("1.50"), None),
        (5, "a", Decimal("1.50"), dt.datetime(2024, 2, 29, 1, 2, 3, 4000)),
    ]
    assert rows(con, "SELECT id FROM item WHERE name = 'a'") == [(5,)]
    assert rows(con, "SELECT COUNT(*) FROM item WHERE price = 1.5") == [(2,)]
    check(con)


def test_auto_increment(con, way):
    con.execute(ITEM)
    con.append("item", pa.table({"name": ["a", "b"]}))
    con.append("item", pa.table({"id": [10, None, 0], "name": ["c", "d", "e"]}))
    con.execute("INSERT INTO item (name) VALUES ('f')")
    found = dict(rows(con, "SELECT name, id FROM item"))
    assert (found["a"], found["b"], found["c"]) == (1, 2, 10)
    assert 10 < found["d"] < found["e"] < found["f"]


def test_generated_columns(con, way):
    con.execute(
        "CREATE TABLE g (id INT PRIMARY KEY, at TIMESTAMP, d DECIMAL(6, 2), v INT AS (id * 2) NOT NULL,"
        " s VARCHAR(40) AS (CONCAT(v, '/', YEAR(at), '/', d)) STORED, KEY (s))"
    )
    con.execute("SET time_zone = '+05:00'")
    moments = [dt.datetime(2019, 12, 31, 22), dt.datetime(2020, 1, 1, 3), None]
    data = pa.table({"id": [1, 2, 3], "at": moments, "d": [1.5, 2.25, 3.0]})
    assert con.append("g", data) == 3
    assert rows(con, "SELECT v, s FROM g ORDER BY id") == [(2, "2/2019/1.50"), (4, "4/2020/2.25"), (6, None)]
    assert rows(con, "SELECT id FROM g WHERE s = '4/2020/2.25'") == [(2,)]
    assert code_of(lambda: con.append("g", pa.table({"id": [4], "v": [8]}))) == 3105
    assert code_of(lambda: con.append("g", pa.table({"id": [1 << 30]}))) == 1264
    check(con, "g")


def test_partitions(con, way):
    con.execute(
        "CREATE TABLE p (id INT, at DATE, v INT AS (id * 2) STORED, KEY (v)) PARTITION BY RANGE (YEAR(at))"
        " (PARTITION a VALUES LESS THAN (2020), PARTITION b VALUES LESS THAN (2021))"
    )
    days = [dt.date(2019, 5, 5), dt.date(2020, 5, 5), dt.date(2018, 1, 1), None]
    assert con.append("p", pa.table({"id": [1, 2, 3, 4], "at": days})) == 4
    assert rows(con, "SELECT id FROM p PARTITION (a) ORDER BY id") == [(1,), (3,), (4,)]
    assert rows(con, "SELECT id, v FROM p PARTITION (b)") == [(2, 4)]
    assert rows(con, "SELECT id FROM p WHERE v = 6") == [(3,)]
    assert rows(con, "SELECT COUNT(DISTINCT _tidb_rowid) FROM p") == [(4,)]
    assert code_of(lambda: con.append("p", pa.table({"id": [5], "at": [dt.date(2021, 1, 1)]}))) == 1526
    assert rows(con, "SELECT COUNT(*) FROM p") == [(4,)]
    con.execute("CREATE TABLE keyed (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3")
    con.append("keyed", [(i,) for i in range(10)])
    assert code_of(lambda: con.append("keyed", [(20,), (3,)])) == 1062
    assert rows(con, "SELECT COUNT(*) FROM keyed") == [(10,)]
    check(con, "p")


def test_hidden_row_ids(con, way):
    con.execute("CREATE TABLE log (line TEXT, KEY (line(3)))")
    con.append("log", pa.table({"line": ["abcd", "abce", None]}))
    con.append("log", pa.table({"line": ["abcd"]}))
    assert rows(con, "SELECT line, COUNT(*) FROM log GROUP BY line ORDER BY line") == [
        (None, 1),
        ("abcd", 2),
        ("abce", 1),
    ]
    check(con, "log")


def test_composite_key_out_of_order(con, way):
    con.execute("CREATE TABLE l (a INT, b VARCHAR(5), c INT, PRIMARY KEY (a, b), KEY (c))")
    con.append("l", [(2, "x", 1), (1, "y", 3), (1, "x", 2)])
    assert rows(con, "SELECT * FROM l ORDER BY a, b") == [(1, "x", 2), (1, "y", 3), (2, "x", 1)]
    check(con, "l")


def test_every_source(con, way, tmp_path):
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    con.execute("CREATE TABLE s (n INT PRIMARY KEY, t VARCHAR(5))")
    columns = {"n": [1, 2], "t": ["a", None]}
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "s.parquet")
    con.execute("CREATE TABLE other (n INT, t VARCHAR(5))")
    con.execute("INSERT INTO other VALUES (1, 'a'), (2, NULL)")
    sources = [
        table,
        table.to_batches()[0],
        table.to_reader(),
        pandas.DataFrame(columns),
        polars.DataFrame(columns),
        str(tmp_path / "s.parquet"),
        tmp_path / "s.parquet",
        [(1, "a"), (2, None)],
        ((i, t) for i, t in zip(columns["n"], columns["t"], strict=True)),
        con.execute("SELECT n, t FROM other"),
    ]
    for source in sources:
        assert con.append("test.s", source) == 2
        assert rows(con, "SELECT * FROM s ORDER BY n") == [(1, "a"), (2, None)]
        con.execute("DELETE FROM s")


def test_nothing_to_load(con, way, tmp_path):
    con.execute("CREATE TABLE s (n INT PRIMARY KEY)")
    assert con.append("s", []) == 0
    assert con.append("s", pa.table({"n": pa.array([], pa.int32())})) == 0


def test_errors_leave_nothing(con, way):
    con.execute(ITEM)
    con.append("item", [(1, "a", None, None)])
    moment = dt.datetime(2024, 1, 1)
    cases = [
        (pa.table({"id": [2, 1], "name": ["x", "y"]}), 1062),
        (pa.table({"name": ["x", "a"]}), 1062),
        (pa.table({"name": ["x", "x"]}), 1062),
        (pa.table({"name": ["x", None]}), 1048),
        (pa.table({"name": ["x", "y" * 11]}), 1406),
        (pa.table({"name": ["x", "y"], "price": [1.0, 1e9]}), 1264),
        (pa.table({"name": ["x"], "price": ["cheap"]}), 1366),
        (pa.table({"name": ["x"], "at": ["yesterday"]}), 1292),
        (pa.table({"price": [1.0]}), 1364),
        (pa.table({"nam": ["x"]}), 1054),
        (pa.table({"name": ["x"], "NAME": ["x"]}), 1110),
        ([(2, "b", None, moment), (3, "c", None)], 1136),
    ]
    for data, code in cases:
        assert code_of(lambda data=data: con.append("item", data)) == code, data
    assert rows(con, "SELECT id, name FROM item") == [(1, "a")]
    check(con)


def test_duplicates_are_named(con, way):
    con.execute(ITEM)
    con.execute("CREATE TABLE l (a INT, b VARCHAR(5), PRIMARY KEY (a, b))")
    con.append("item", [(1, "a", None, None)])
    with pytest.raises(sqlfront.IntegrityError, match=r"Duplicate entry '1' for key 'item.PRIMARY'"):
        con.append("item", [(1, "b", None, None)])
    with pytest.raises(sqlfront.IntegrityError, match=r"Duplicate entry 'a' for key 'item.by_name'"):
        con.append("item", [(2, "a", None, None)])
    with pytest.raises(sqlfront.IntegrityError, match=r"Duplicate entry '1-x' for key 'l.PRIMARY'"):
        con.append("l", [(1, "x"), (1, "x")])


def test_row_numbers_count_over_chunks(con, ingest, monkeypatch):
    monkeypatch.setattr(load_source, "CHUNK_ROWS", 4)
    con.execute("CREATE TABLE s (n TINYINT PRIMARY KEY)")
    seen = []
    batches = pa.table({"n": list(range(10))}).to_batches(max_chunksize=3)
    assert (
        con.append("s", pa.Table.from_batches(batches), progress=lambda done, total: seen.append((done, total))) == 10
    )
    assert seen[-1] == (10, 10)
    assert seen == sorted(seen)
    with pytest.raises(sqlfront.DataError, match="row 6"):
        con.append("s", [(n,) for n in (100, 101, 102, 103, 104, 300)])
    assert rows(con, "SELECT COUNT(*) FROM s") == [(10,)]


def test_wrong_sources(con, tmp_path):
    con.execute("CREATE TABLE s (n INT)")
    (tmp_path / "x.parquet").write_text("not parquet")
    for wrong in (5, None, "nowhere.parquet", tmp_path / "x.parquet", [1, 2], ["ab"], [{"n": 1}]):
        with pytest.raises(sqlfront.InterfaceError):
            con.append("s", wrong)
    assert code_of(lambda: con.append("nope", [(1,)])) == 1146
    assert code_of(lambda: con.append("nope.s", [(1,)])) == 1049
    assert code_of(lambda: con.append("s", [(1,)], on_duplicate="replace")) == 1235
    assert code_of(lambda: con.append("information_schema.tables", [(1,)])) in (1044, 1146)


def test_open_transactions(con, way):
    con.execute("CREATE TABLE s (n INT PRIMARY KEY)")
    con.execute("BEGIN")
    con.execute("INSERT INTO s VALUES (1)")
    with pytest.raises(sqlfront.ProgrammingError, match="commit or roll back"):
        con.append("s", [(2,)])
    con.rollback()
    con.execute("BEGIN")
    rows(con, "SELECT * FROM s")
    con.append("s", [(2,)])
    assert not con.in_transaction
    con.execute("START TRANSACTION READ ONLY")
    assert code_of(lambda: con.append("s", [(3,)])) == 1792
    con.rollback()
    assert rows(con, "SELECT * FROM s") == [(2,)]


def test_without_autocommit_a_load_is_committed(way, tmp_path):
    with sqlfront.connect(tmp_path / "db") as con, sqlfront.connect(tmp_path / "db") as other:
        con.execute("CREATE TABLE s (n INT PRIMARY KEY)")
        con.append("s", [(1,)])
        con.rollback()
        assert rows(other, "SELECT * FROM s") == [(1,)]


def test_readers_keep_their_snapshot(ingest, tmp_path):
    with sqlfront.connect(tmp_path / "db") as con, sqlfront.connect(tmp_path / "db") as other:
        con.execute("CREATE TABLE s (n INT PRIMARY KEY)")
        assert rows(other, "SELECT COUNT(*) FROM s") == [(0,)]
        con.append("s", [(n,) for n in range(10)])
        assert rows(other, "SELECT COUNT(*) FROM s") == [(0,)]
        other.rollback()
        assert rows(other, "SELECT COUNT(*) FROM s") == [(10,)]
        assert rows(other, "SELECT n FROM s WHERE n = 7") == [(7,)]
    with sqlfront.connect(tmp_path / "db") as again:
        assert rows(again, "SELECT COUNT(*), SUM(n) FROM s") == [(10, 45)]


def test_interrupt(con, ingest, monkeypatch):
    monkeypatch.setattr(load_source, "CHUNK_ROWS", 10)
    con.execute("CREATE TABLE s (n INT PRIMARY KEY)")

    def stop(done, _total):
        if done == 20:
            thread = threading.Thread(target=con.interrupt)
            thread.start()
            thread.join()

    with pytest.raises(sqlfront.QueryInterrupted):
        con.append("s", ((n,) for n in range(100)), progress=stop)
    assert rows(con, "SELECT COUNT(*) FROM s") == [(0,)]
    assert con.append("s", [(1,)]) == 1


def test_a_source_that_fails_undoes_the_load(con, ingest, monkeypatch):
    monkeypatch.setattr(load_source, "CHUNK_ROWS", 2)
    con.execute("CREATE TABLE s (n INT PRIMARY KEY)")

    def broken():
        yield from [(1,), (2,), (3,)]
        raise ConnectionError("the line is down")

    with pytest.raises(sqlfront.OperationalError, match="line is down"):
        con.append("s", broken())
    assert rows(con, "SELECT COUNT(*) FROM s") == [(0,)]
    con.execute("INSERT INTO s VALUES (1)")


def test_time_zone(con, way):
    con.execute("CREATE TABLE s (n INT PRIMARY KEY, ts TIMESTAMP NULL, dt DATETIME, t TIME(3))")
    con.execute("SET time_zone = '+02:00'")
    aware = pa.array([dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)], pa.timestamp("us", "UTC"))
    naive = pa.array([dt.datetime(2024, 1, 1, 10)], pa.timestamp("ms"))
    span = pa.array([dt.time(1, 2, 3, 5000)], pa.time64("us"))
    con.append("s", pa.table({"n": [1], "ts": aware, "dt": aware, "t": span}))
    con.append("s", pa.table({"n": [2], "ts": naive, "dt": naive, "t": span}))
    con.execute("SET time_zone = '+00:00'")
    t = dt.timedelta(hours=1, minutes=2, seconds=3, milliseconds=5)
    assert rows(con, "SELECT * FROM s ORDER BY n") == [
        (1, dt.datetime(2024, 1, 1, 10), dt.datetime(2024, 1, 1, 12), t),
        (2, dt.datetime(2024, 1, 1, 8), dt.datetime(2024, 1, 1, 10), t),
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**31), 2**31 - 1),
            st.none() | st.text(st.characters(codec="utf-8", exclude_characters=" \x00"), max_size=8),
            st.none() | st.decimals(-9999, 9999, places=2),
            st.none() | st.dates(dt.date(1, 1, 1)),
            st.none() | st.binary(max_size=300),
        ),
        unique_by=lambda row: row[0],
        min_size=1,
        max_size=40,
    )
)
def test_both_ways_store_the_same(monkeypatch, data):
    with sqlfront.connect(":memory:", autocommit=True) as con:
        for name in ("a", "b"):
            con.execute(
                f"CREATE TABLE {name} (id INT PRIMARY KEY, t VARCHAR(10), d DECIMAL(6, 2), "
                "day DATE, raw BLOB, KEY (t, d))"
            )
        monkeypatch.setattr(load, "TRANSACTIONAL_ROWS_MAX", 0)
        con.append("a", data)
        con.executemany("INSERT INTO b VALUES (?, ?, ?, ?, ?)", data)
        found = rows(con, "SELECT * FROM a ORDER BY id")
        assert found == sorted(data)
        assert found == rows(con, "SELECT * FROM b ORDER BY id")
        check(con, "a")
