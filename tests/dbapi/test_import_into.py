"""IMPORT INTO of an embedded database: formats, options, what is refused, and where errors point to."""

import datetime as dt
import gzip
import io
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sqlfront
from sqlfront import load_files, load_source

TABLE = """CREATE TABLE item (
    id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20) NOT NULL DEFAULT 'none', price DECIMAL(8, 2), at DATETIME(3),
    kind ENUM('x', 'y'), data BLOB, y YEAR, t TIME, f DOUBLE, UNIQUE KEY by_name (name, id))"""


@pytest.fixture
def con():
    with sqlfront.connect(":memory:", autocommit=True) as connection:
        yield connection


def rows(con, sql):
    return con.execute(sql).fetchall()


def refused(con, sql, code, match):
    with pytest.raises(sqlfront.Error, match=match) as caught:
        con.execute(sql)
    assert caught.value.code == code
    return caught.value


def test_values_are_converted_as_an_insert_would(con, tmp_path):
    con.execute(TABLE)
    path = tmp_path / "item.csv"
    path.write_bytes(
        b"id,name,price,at,kind,data,y,t,f\n"
        b"3,pen,1.235,2024-01-02 03:04:05.6789,x,\xff,70,10:00:00,1e3\n"
        b'\\N,"a ""b"", c",7,2024-1-2,y,\\N,2001,-100:00:00,-.5\r\n'
        b'\n0,"two\nlines",\\N,\\N,\\N,,\\N,\\N,\\N\n'
    )
    answer = con.execute(f"IMPORT INTO item FROM '{path}' WITH skip_rows=1")
    assert [column[0] for column in answer.description] == [
        "Job_ID", "Data_Source", "Target_Table", "Table_ID", "Phase", "Status", "Source_File_Size", "Imported_Rows",
        "Result_Message", "Create_Time", "Start_Time", "End_Time", "Created_By",
    ]  # fmt: skip
    row = answer.fetchone()
    assert row[1:3] == (str(path), "`test`.`item`")
    assert row[4:9] == ("", "finished", f"{path.stat().st_size}B", 3, "")
    assert rows(con, "SELECT * FROM item") == [
        (3, "pen", Decimal("1.24"), dt.datetime(2024, 1, 2, 3, 4, 5, 679000), "x", b"\xff", 1970,
         dt.timedelta(hours=10), 1000.0),
        (4, 'a "b", c', Decimal(7), dt.datetime(2024, 1, 2), "y", None, 2001, dt.timedelta(hours=-100), -0.5),
        (5, "two\nlines", None, None, None, b"", None, None, None),
    ]  # fmt: skip
    con.execute("ADMIN CHECK TABLE item")
    con.execute("INSERT INTO item (name) VALUES ('next')")
    assert rows(con, "SELECT id FROM item WHERE name = 'next'") == [(6,)]


def test_escapes_of_load_data(con, tmp_path):
    con.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), b BLOB)")
    path = tmp_path / "t.csv"
    path.write_bytes(b'1,a\\nb\\tc\\0d\\Z\\b,\\\\\n2,"q\\"\\\\",\\,\n3,\\N,x\\Ny\n4,"\\N",\\r\n5,N,\\x\n')
    con.execute(f"IMPORT INTO t FROM '{path}'")
    assert rows(con, "SELECT v, b FROM t") == [
        ("a\nb\tc\0d\x1a\b", b"\\"), ('q"\\', b","), (None, b"xNy"), ("N", b"\r"), ("N", b"x"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("fields_terminated_by='\\t', fields_enclosed_by=''", '1\t"a\n2\t\\N\n'),
        ("fields_terminated_by='|', fields_enclosed_by='\\'', fields_escaped_by=''", "1|'\"a'\n2|\\N\n"),
        ("fields_escaped_by='', fields_defined_null_by='NULL'", '1,"""a"\n2,NULL\n'),
        ("fields_escaped_by='\"', fields_defined_null_by=''", '1,"""a"\n2,\n'),
        ("lines_terminated_by='\\r\\n', character_set='latin1'", '1,"""a"\r\n2,\\N'),
        ("fields_escaped_by='$', fields_defined_null_by='$N'", '1,$"a\n2,$N\n'),
    ],
)
def test_forms_of_csv(con, tmp_path, options, text):
    con.execute("CREATE TABLE t (id INT, v VARCHAR(20))")
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    if "fields_escaped_by=''" in options and "null_by" not in options:
        options += ", fields_defined_null_by='\\\\N'"
    con.execute(f"IMPORT INTO t FROM '{path}' WITH {options}")
    assert rows(con, "SELECT * FROM t ORDER BY id") == [(1, '"a'), (2, None)]


def test_several_files_and_columns_that_are_listed(con, tmp_path):
    con.execute("CREATE TABLE t (a INT NOT NULL, b INT, c INT DEFAULT 7)")
    (tmp_path / "1.csv").write_text("1,2\n")
    (tmp_path / "2.csv").write_text("")
    with gzip.open(tmp_path / "3.csv.gz", "wt") as file:
        file.write("3,4\n\\N,6\n")
    con.execute(f"IMPORT INTO t (b, a) FROM '{tmp_path}/*.csv*'")
    assert rows(con, "SELECT * FROM t ORDER BY a") == [(2, 1, 7), (4, 3, 7), (6, None, 7)]
    con.execute("TRUNCATE TABLE t")
    refused(
        con, f"IMPORT INTO t (a, b) FROM '{tmp_path}/*.csv*'", 1048, r"'a' cannot be null at row 2 of file .*3.csv.gz"
    )


def test_parquet(con, tmp_path, monkeypatch):
    monkeypatch.setattr(load_files, "CHUNK_ROWS", 1000)
    con.execute("CREATE TABLE t (a INT, b VARCHAR(10), c INT)")
    for number in range(2):
        part = pa.table(
            {"B": [f"v{i}" for i in range(2500)], "a": range(number * 2500, number * 2500 + 2500), "z": [0] * 2500}
        )
        pq.write_table(part, tmp_path / f"{number}.parquet")
    where = f"{tmp_path}/*.parquet"
    refused(con, f"IMPORT INTO t FROM '{where}'", 1054, "Unknown column 'z'")
    assert con.execute(f"IMPORT INTO t (a, B) FROM '{where}'").fetchone()[7] == 5000
    assert rows(con, "SELECT COUNT(*), MIN(a), MAX(a), MIN(c) FROM t") == [(5000, 0, 4999, None)]
    assert rows(con, "SELECT b FROM t WHERE a = 2600") == [("v100",)]
    con.execute("TRUNCATE TABLE t")
    refused(
        con,
        f"IMPORT INTO t (a, c) FROM '{where}'",
        8160,
        r"it has the columns B, a, z, not a, c \(file '.*0.parquet'\)",
    )
    (tmp_path / "9.parquet").write_text("a,b\n")
    refused(con, f"IMPORT INTO t (a) FROM '{where}'", 8160, r"9.parquet")
    refused(
        con, f"IMPORT INTO t FROM '{where}' WITH skip_rows=1", 8166, "Unsupported option skip_rows for non-CSV format"
    )


@pytest.mark.parametrize(
    ("text", "code", "match"),
    [
        ("1,2\n3\n", 1261, "Row 2 of file '.*t.csv' doesn't contain data for all columns"),
        ("1,2\n3,4,5\n", 1262, "Row 2 of file '.*t.csv' was truncated"),
        ("1,2\n1,300\n", 1264, "Out of range value for column 'b' at row 2 of file '.*t.csv'"),
        ("1,2\nx,3\n", 1366, "Incorrect integer value: 'x' for column 'a' at row 2 of file '.*t.csv'"),
        ("1,2\n0x10,3\n", 1265, "Data truncated for column 'a' at row 2 of file '.*t.csv'"),
        ("1,2\n2,2\n1,2\n", 1062, "Duplicate entry '1' for key 't.PRIMARY'"),
        ("", 8173, "No file matched, or the file is empty"),
    ],
)
def test_wrong_rows_leave_nothing(con, tmp_path, text, code, match):
    con.execute("CREATE TABLE t (a INT PRIMARY KEY, b TINYINT)")
    path = tmp_path / "t.csv"
    path.write_text(text)
    refused(con, f"IMPORT INTO t FROM '{path}'", code, match)
    assert rows(con, "SELECT * FROM t") == []
    path.write_text("1,2\n")
    con.execute(f"IMPORT INTO t FROM '{path}'")
    refused(con, f"IMPORT INTO t FROM '{path}'", 8173, "PreCheck failed: target table is not empty")


def test_row_numbers_count_over_chunks_and_rows_that_are_skipped(con, tmp_path, monkeypatch):
    monkeypatch.setattr(load_source, "CHUNK_ROWS", 100)
    con.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "".join(f"{i}\n" for i in range(1000)) + "no\n")
    refused(con, f"IMPORT INTO t FROM '{path}' WITH skip_rows=1", 1366, "'no' for column 'a' at row 1002 of")
    assert con.execute(f"IMPORT INTO t FROM '{path}' WITH skip_rows=5000").fetchone()[7] == 0


@pytest.mark.parametrize(
    ("options", "code", "match"),
    [
        ("no_such=1", 8163, "Unknown option no_such"),
        ("skip_rows", 8164, "Invalid option value for skip_rows"),
        ("skip_rows=-1", 8164, "skip_rows"),
        ("skip_rows=true", 8164, "skip_rows"),
        ("skip_rows='1'", 8164, "skip_rows"),
        ("fields_terminated_by=1", 8164, "fields_terminated_by"),
        ("fields_terminated_by=''", 8164, "fields_terminated_by"),
        ("fields_terminated_by='\"'", 8164, "fields_terminated_by"),
        ("fields_enclosed_by=','", 8164, "fields_enclosed_by"),
        ("character_set='klingon'", 8164, "character_set"),
        ("checkpoint=''", 8164, "checkpoint"),
        ("skip_rows=1, skip_rows=1", 8165, "Option skip_rows specified more than once"),
        ("fields_terminated_by='::'", 1235, "more than one byte"),
        ("lines_terminated_by='END'", 1235, "lines_terminated_by"),
        ("thread=8", 1235, "thread"),
        ("detached", 1235, "detached"),
        ("checkpoint='/tmp/x'", 1235, "checkpoint in an embedded database"),
    ],
)
def test_options_that_are_refused(con, tmp_path, options, code, match):
    con.execute("CREATE TABLE t (a INT)")
    path = tmp_path / "t.csv"
    path.write_text("1\n")
    refused(con, f"IMPORT INTO t FROM '{path}' WITH {options}", code, match)
    assert rows(con, "SELECT * FROM t") == []


def test_what_else_is_refused(con, tmp_path):
    con.execute("CREATE TABLE t (a INT NOT NULL, b INT NOT NULL)")
    path = tmp_path / "t.csv"
    path.write_text("1\n")
    refused(con, "IMPORT INTO t FROM 's3://bucket/t.csv'", 8158, "The URI of data source is invalid")
    refused(con, f"IMPORT INTO t FROM '{path}' FORMAT 'sql'", 8157, "The FORMAT 'sql' is not supported")
    refused(con, f"IMPORT INTO t FROM '{tmp_path}/no*'", 8173, "No file matched")
    refused(con, f"IMPORT INTO nowhere FROM '{path}'", 1146, "nowhere")
    refused(con, f"IMPORT INTO t (a, a) FROM '{path}'", 1110, "specified twice")
    refused(con, f"IMPORT INTO t (a) FROM '{path}'", 1364, "Field 'b' doesn't have a default value")
    con.execute("BEGIN")
    refused(con, f"IMPORT INTO t FROM '{path}'", 1105, "cannot run IMPORT INTO in explicit transaction")
    con.execute("ROLLBACK")
    con.autocommit = False
    con.execute("INSERT INTO t VALUES (1, 2)")
    refused(con, f"IMPORT INTO t FROM '{path}'", 1105, "in explicit transaction")
    con.rollback()
    path.write_text("1,2\n")
    con.execute(f"IMPORT INTO t FROM '{path}'")
    con.rollback()
    assert rows(con, "SELECT * FROM t") == [(1, 2)]


def test_constraints_are_kept(con, tmp_path):
    con.execute("create table p (id int primary key)")
    con.execute("insert into p values (1), (2)")
    con.execute(
        "create table c (id int primary key, pid int, g int as (id * 2) stored check (g < 2000), "
        "foreign key (pid) references p (id))"
    )
    path = tmp_path / "rows.csv"
    for rows, code in [([(1, 1), (2, 3)], 1452), ([(1, 1), (1000, 1)], 3819)]:
        path.write_text("".join(f"{a},{b}\n" for a, b in rows))
        with pytest.raises(sqlfront.IntegrityError, match=f"of file '{path}'") as caught:
            con.execute(f"import into c (id, pid) from '{path}'")
        assert caught.value.code == code
        assert con.execute("select count(*) from c").fetchone() == (0,)
    path.write_text("".join(f"{i},{i % 2 + 1}\n" for i in range(1000)))
    con.execute(f"import into c (id, pid) from '{path}'")
    with pytest.raises(sqlfront.IntegrityError):
        con.execute("delete from p where id = 2")
    con.execute("admin check table c")


def test_names_with_a_dot(con, tmp_path):
    con.execute("CREATE DATABASE `a.b`")
    con.execute("CREATE TABLE `a.b`.`c.d` (a INT)")
    path = tmp_path / "t.csv"
    path.write_text("1\n")
    con.execute(f"IMPORT INTO `a.b`.`c.d` FROM '{path}'")
    assert rows(con, "SELECT * FROM `a.b`.`c.d`") == [(1,)]


TEXTS = st.one_of(st.none(), st.text(st.sampled_from('ab\\N",\n\r\t\0\x1anrt é'), max_size=8))


def field(value):
    """A value as SELECT ... INTO OUTFILE writes it: enclosed, and escaped with a backslash."""
    if value is None:
        return "\\N"
    for char, letter in (("\\", "\\"), ('"', '"'), ("\0", "0"), ("\x1a", "Z"), ("\n", "n"), ("\t", "t")):
        value = value.replace(char, "\\" + letter)
    return f'"{value}"'


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20))
def test_texts_come_back_as_they_were(tmp_path, values):
    path = tmp_path / "t.csv"
    path.write_bytes("".join(f"{i},{field(a)},{field(b)}\n" for i, (a, b) in enumerate(values)).encode())
    with sqlfront.connect(":memory:", autocommit=True) as con:
        con.execute("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20))")
        con.execute(f"IMPORT INTO t FROM '{path}'")
        assert rows(con, "SELECT a, b FROM t ORDER BY id") == values


@given(st.binary(max_size=60).map(lambda data: data.replace(b"q", b"\\")), st.integers(1, 9), st.integers(1, 9))
def test_escapes_do_not_depend_on_where_blocks_end(data, block, size):
    class Trickle(io.BytesIO):
        def read(self, wanted=-1):
            return super().read(min(block, wanted) if wanted >= 0 else block)

    whole = load_files._Escapes(io.BytesIO(data), b"\\").read()
    stream = load_files._Escapes(Trickle(data), b"\\")
    assert b"".join(iter(lambda: stream.read(size), b"")) == whole


ODD = {
    "DECIMAL(10, 2)": [
        "1.005", "-0", "1e3", "1e39", "9" * 39, "9" * 8 + ".99", "9" * 8 + ".995", "+5", ".5", "5.", "", "x", "nan",
    ],
    "DECIMAL(38, 30)": ["9" * 8, "9" * 9, "4273275678194205275", "1." + "1" * 31],
    "INT": ["1", "+1", "-0", "2147483648", "1.5", "1e2", "0x1F", " 7", "", "9" * 30],
    "BIGINT UNSIGNED": ["18446744073709551615", "18446744073709551616", "-1"],
    "DOUBLE": ["1e400", "inf", "nan", "-0", "1e-400", ".5e1", "0x1p3", ""],
    "FLOAT": ["1e39", "0.1"],
    "DATE": [
        "2024-02-29", "2023-02-29", "0000-00-00", "0000-01-01", "2024-1-2", "20240102", "2024-01-02 03:04:05",
        "9999-12-31",
    ],
    "DATETIME": [
        "2024-01-02 03:04:05.5", "2024-01-02T03:04:05", "2024-01-02 24:00:00", "0000-01-01 00:00:00", "2024-01-02", "x",
    ],
    "TIMESTAMP": ["2024-01-02 03:04:05", "1969-01-01 00:00:00", "2024-01-02 03:04:05+01:00"],
    "TIME": ["10:00:00", "-1:2:3", "839:00:00", "x"],
    "YEAR": ["0", "1", "70", "1900", "2155"],
    "BIT(8)": ["a", ""],
    "ENUM('a', 'b')": ["a", "B", "1", "c"],
    "SET('a', 'b')": ["a,b", "b,a", "c", ""],
    "JSON": ['{"a": 1}', "x"],
    "CHAR(3)": ["abc", "ab  ", "abcd"],
    "VARBINARY(3)": ["abc", "abcd"],
}  # fmt: skip


def outcome(con, statement, *params):
    con.execute("TRUNCATE TABLE t")
    try:
        con.execute(statement, params)
    except sqlfront.Error as exc:
        return exc.code
    return rows(con, "SELECT v FROM t")


@pytest.mark.parametrize("type_", ODD)
def test_text_is_converted_as_by_an_insert(con, tmp_path, type_):
    con.execute(f"CREATE TABLE t (v {type_})")
    path = tmp_path / "t.csv"
    for text in ODD[type_]:
        path.write_text(field(text) + "\n")
        imported = outcome(con, f"IMPORT INTO t FROM '{path}'")
        assert repr(imported) == repr(outcome(con, "INSERT INTO t VALUES (?)", text)), text
