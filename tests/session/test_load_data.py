"""LOAD DATA and SELECT ... INTO OUTFILE: files of MySQL's forms, in bulk and row by row."""

from __future__ import annotations

import datetime as dt
import os
from decimal import Decimal
from pathlib import Path

import pytest

from sqlfront.session import Session
from tests.session.statements import error_code, rows, run, value


@pytest.fixture
def loading(a: Session) -> Session:
    run(a, "create table l (id int primary key, name varchar(20), price decimal(8, 2), bytes varbinary(20), d date)")
    return a


def write(tmp_path: Path, data: bytes, name: str = "file.txt") -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def warnings(session: Session) -> list[int]:
    return [code for _, code, _ in session.warnings]


def test_the_form_of_mysql(loading: Session, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        b"1\tone\\ttab\t1.50\t\\0\xff\\\\\t2024-02-29\n2\t\\N\t\\N\t\\N\t\\N\n3\t\xc3\xa9\\\nx\t0\tN\t1999-12-31\n",
    )
    result = loading.execute(f"load data infile '{path}' into table l")
    assert result.affected_rows == 3
    assert result.info == "Records: 3  Deleted: 0  Skipped: 0  Warnings: 0"
    assert rows(loading, "select * from l order by id") == [
        (1, "one\ttab", Decimal("1.50"), b"\0\xff\\", dt.date(2024, 2, 29)),
        (2, None, None, None, None),
        (3, "é\nx", Decimal("0.00"), b"N", dt.date(1999, 12, 31)),
    ]


CSV = b'id;name;price\r\n1;"a;b";1\r\n2;"say ""hi""";2.5\r\n3;NULL;\\N\r\n4;"NULL";"4"\r\n5;"two\r\nlines";5'


def test_csv(loading: Session, tmp_path: Path) -> None:
    path = write(tmp_path, CSV)
    run(
        loading,
        f"load data infile '{path}' into table l character set utf8mb4 fields terminated by ';'"
        " optionally enclosed by '\"' lines terminated by '\\r\\n' ignore 1 lines (id, name, price)",
    )
    assert rows(loading, "select id, name, price from l order by id") == [
        (1, "a;b", Decimal(1)),
        (2, 'say "hi"', Decimal("2.5")),
        (3, None, None),
        (4, "NULL", Decimal(4)),
        (5, "two\r\nlines", Decimal(5)),
    ]


def test_variables_and_set(loading: Session, tmp_path: Path) -> None:
    path = write(tmp_path, b"1,10,x\n2,,y\n")
    run(
        loading,
        f"load data infile '{path}' into table l columns terminated by ',' (id, @price, name)"
        " set price = nullif(@price, '') / 4, bytes = upper(name), d = default",
    )
    assert rows(loading, "select id, name, price, bytes, d from l order by id") == [
        (1, "x", Decimal("2.50"), b"X", None),
        (2, "y", None, b"Y", None),
    ]
    assert value(loading, "select @price") == ""


def test_set_of_columns_that_fields_are_for(a: Session, tmp_path: Path) -> None:
    """SET sees what the field gave a column, and its last value counts; NULL is one in quotes too."""
    path = write(tmp_path, b'abc,def,"\\N"\njkl,5,"N"\n')
    run(a, "create table s (i varchar(10), j varchar(10), k varchar(10), n int default (length(j)))")
    form = "fields terminated by ',' enclosed by '\"'"
    run(a, "set @x = 'x'")
    for text in (
        "(i, j, k) set i = '123', i = '321'",
        "(i, j, k) set j = concat(j, j, @x), i = j",
        "(i, j, @k) set j = concat(i, @k), k = j",
        "(@x, k, j) set i = @x, n = 0",
    ):
        run(a, f"load data infile '{path}' into table s {form} {text}")
    assert rows(a, "select * from s") == [
        ("321", "def", None, 3),
        ("321", "5", "N", 1),
        ("defdefx", "defdefx", None, 7),
        ("55x", "55x", "N", 3),
        ("abc", None, None, None),
        ("jkl", "jklN", "jklN", 4),
        ("abc", None, "def", 0),
        ("jkl", "N", "5", 0),
    ]
    assert error_code(a, f"load data infile '{path}' into table s {form} (i, i, k) set j = 1") == 1110


def test_duplicates(loading: Session, tmp_path: Path) -> None:
    path = write(tmp_path, b"1\tnew\n2\tnew\n")
    run(loading, "insert into l (id, name) values (1, 'old')")
    assert error_code(loading, f"load data infile '{path}' into table l (id, name)") == 1062
    assert rows(loading, "select id, name from l") == [(1, "old")]
    result = loading.execute(f"load data infile '{path}' ignore into table l (id, name)")
    assert result.info == "Records: 2  Deleted: 0  Skipped: 1  Warnings: 1"
    assert rows(loading, "select id, name from l") == [(1, "old"), (2, "new")]
    result = loading.execute(f"load data infile '{path}' replace into table l (id, name)")
    assert result.info == "Records: 2  Deleted: 1  Skipped: 0  Warnings: 0"  # one is replaced by itself
    assert rows(loading, "select id, name from l") == [(1, "new"), (2, "new")]
    assert loading.execute(f"load data local infile '{path}' into table l (id, name)").affected_rows == 0
    assert warnings(loading) == [1062, 1062]


def test_rows_that_do_not_fit(loading: Session, tmp_path: Path) -> None:
    short, long = write(tmp_path, b"1\ta\n2\n", "short"), write(tmp_path, b"1\ta\tb\n", "long")
    wrong = write(tmp_path, b"1\ta\nx\tb\n", "wrong")
    for path, code in ((short, 1261), (long, 1262), (wrong, 1366)):
        assert error_code(loading, f"load data infile '{path}' into table l (id, name)") == code
        assert rows(loading, "select * from l") == []
    run(loading, f"load data local infile '{short}' into table l (id, name)")
    assert warnings(loading) == [1261]
    run(loading, f"load data local infile '{wrong}' into table l (id, name)")
    assert rows(loading, "select id, name from l order by id") == [(0, "b"), (1, "a"), (2, None)]


def test_defaults_and_numbers(a: Session, tmp_path: Path) -> None:
    run(a, "create table n (id int primary key auto_increment, v int not null default 7, g int as (v * 2))")
    path = write(tmp_path, b"x:1\nno such line\nx:2\n")
    run(a, f"load data infile '{path}' into table n lines starting by 'x:' (v)")
    assert rows(a, "select * from n order by id") == [(1, 1, 2), (2, 2, 4)]
    path = write(tmp_path, b"10\n")
    run(a, f"load data infile '{path}' ignore into table n (id, v)")
    assert rows(a, "select * from n where id = 10") == [(10, 7, 14)]
    assert a.execute(f"load data infile '{write(tmp_path, b'5')}' ignore into table n (v)").last_insert_id == 11


def test_within_a_transaction(loading: Session, b: Session, tmp_path: Path) -> None:
    path = write(tmp_path, b"1\ta\n2\tb\n")
    run(loading, "begin", f"load data infile '{path}' into table l (id, name)")
    assert value(loading, "select count(*) from l") == 2
    assert value(b, "select count(*) from l") == 0
    run(loading, "rollback")
    assert value(b, "select count(*) from l") == 0


def test_many_rows(loading: Session, tmp_path: Path) -> None:
    path = write(tmp_path, b"".join(b"%d\tname %d\t%d.25\n" % (i, i, i) for i in range(5000)))
    assert loading.execute(f"load data infile '{path}' into table l (id, name, price)").affected_rows == 5000
    assert rows(loading, "select count(*), sum(price) from l") == [(5000, Decimal("12498750.00"))]
    assert loading.execute(f"load data infile '{path}' replace into table l (id, name, @p)").affected_rows == 10000
    assert rows(loading, "select count(*), sum(price) from l") == [(5000, None)]


def test_refusals(loading: Session, tmp_path: Path) -> None:
    path = write(tmp_path, b"1\n")
    for sql, code in (
        (f"load data infile '{tmp_path}/nothing' into table l", 29),
        (f"load data infile '{path}' into table nothing", 1146),
        (f"load data infile '{path}' into table l (id, other)", 1054),
        (f"load data infile '{path}' into table l (id) set other = 1", 1054),
        (f"load data infile '{path}' into table l (id, id)", 1110),
        (f"load data infile '{path}' into table l fields enclosed by 'ab'", 1083),
        (f"load data infile '{path}' into table l fields terminated by ''", 1235),
        (f"load data infile '{path}' into table l character set koi8r", 1235),
        (f"load xml infile '{path}' into table l", 1235),
        (f"load data infile '{path}' into table l nonsense", 1064),
        (f"load data infile '{path}' into table l (id) set", 1064),
    ):
        assert error_code(loading, sql) == code, sql


# SELECT ... INTO OUTFILE


def test_what_is_written(a: Session, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    query = "select 1, 'a\\tb\\nc\\\\d', null, 2.50, x'00ff', date '2024-01-02', 'q\"q,'"
    run(a, f"{query} into outfile '{path}'")
    assert value(a, "select row_count()") == 1
    assert path.read_bytes() == b'1\ta\\\tb\\\nc\\\\d\t\\N\t2.50\t\\0\xff\t2024-01-02\tq"q,\n'
    assert error_code(a, f"select 1 into outfile '{path}'") == 1086
    path = tmp_path / "out.csv"
    run(a, f"{query} into outfile '{path}' fields terminated by ',' optionally enclosed by '\"' escaped by '\\\\'"
           " lines starting by '>' terminated by '\\r\\n'")  # fmt: skip
    assert path.read_bytes() == (b'>1,"a\tb\nc\\\\d",\\N,2.50,"\\0\xff","2024-01-02","q\\"q,"\r\n')
    path = tmp_path / "plain.txt"
    run(a, f"select null, 'a\\\\b' into outfile '{path}' fields enclosed by '\\'' escaped by ''")
    assert path.read_bytes() == b"NULL\t'a\\b'\n"


def test_dumpfile(a: Session, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    run(a, f"select x'00ff0a', 'é' into dumpfile '{path}'")
    assert path.read_bytes() == b"\0\xff\n\xc3\xa9"
    assert error_code(a, f"select id from t into dumpfile '{tmp_path}/two'") == 1172
    assert not os.path.exists(tmp_path / "two")


def test_a_file_that_cannot_be_written(a: Session, tmp_path: Path) -> None:
    assert error_code(a, f"select 1 into outfile '{tmp_path}/no/such'") == 1
    assert error_code(a, f"select v / (select 0 from t), v from t into outfile '{tmp_path}/failed'") == 1242
    assert not os.path.exists(tmp_path / "failed")


@pytest.mark.parametrize(
    "form",
    [
        "",
        "fields terminated by ',' enclosed by '\"'",
        "fields terminated by ',' optionally enclosed by '\"' escaped by '' lines terminated by '\\r\\n'",
        "fields terminated by '||' escaped by '!' lines starting by '>>' terminated by '#\\n'",
    ],
)
def test_there_and_back(loading: Session, tmp_path: Path, form: str) -> None:
    quote = "" if "escaped by ''" in form else '"'  # nothing could tell it from the end of the field
    run(loading, f"insert into l values (1, 'tab\\tquote{quote}comma,', 1.5, x'00010a0d1a5c22ff', '2024-01-02'),"
                 " (2, '', null, '', null), (3, '\\\\N', 0, null, null), (4, 'NULL', -1, 'x', '1000-01-01'),"
                 " (5, 'a#\\n>>||b', 2, x'e4b8', null), (6, '日本語', 3, null, null)")  # fmt: skip
    before = rows(loading, "select * from l order by id")
    path = tmp_path / "file"
    run(loading, f"select * from l into outfile '{path}' {form}", "delete from l")
    run(loading, f"load data infile '{path}' into table l {form}")
    assert rows(loading, "select * from l order by id") == before


def test_quotes_that_are_doubled(loading: Session, tmp_path: Path) -> None:
    path = tmp_path / "file"
    form = "fields terminated by ',' enclosed by '\"' escaped by '\"'"
    run(loading, f"select 1, 'a\"b', '\"' into outfile '{path}' {form}")
    assert path.read_bytes() == b'"1","a""b",""""\n'
    run(loading, f"load data infile '{path}' into table l {form} (id, name, bytes)")
    assert rows(loading, "select id, name, bytes from l") == [(1, 'a"b', b'"')]
