"""Schemas and values at the edges: odd names, many columns, many indexes, large values, no rows, only NULLs."""

from __future__ import annotations

from typing import Any

import pytest

import sqlfront
from tests.conftest import Connect

NAMES = [
    "two words",
    "ünï cödé",
    "日本",
    "select",
    "a-b",
    "a.b",
    "1abc",
    "a`b",
    "it's",
    "%s",
    "?",
    ":x",
    "x" * 64,
    "😀",
    "#c",
    "a\\b",
]


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


@pytest.mark.parametrize("name", NAMES)
def test_names_of_tables_columns_and_indexes(con: Any, name: str) -> None:
    q = quoted(name)
    con.execute(f"create table {q} (id int primary key, {q} int, key {q} ({q}))")
    con.execute(f"insert into {q} (id, {q}) values (?, ?), (2, 20)", (1, 10))
    assert con.execute(f"select {q} from {q} where {q} = ?", (20,)).fetchall() == [(20,)]
    assert con.execute(f"select max({q}), count(*) from {q} group by {q} order by {q}").fetchall() == [(10, 1), (20, 1)]
    assert con.execute(f"select * from {q}").description[1][0] == name
    assert con.execute(f"select id as {q} from {q}").description[0][0] == name
    con.execute(f"update {q} set {q} = {q} + 1 where {q}.{q} = 10")
    assert con.execute(f"select x.{q} from {q} x join {q} y using ({q}) order by 1").fetchall() == [(11,), (20,)]
    assert (name,) in con.execute("show tables").fetchall()
    con.execute(f"admin check table {q}")
    con.execute(f"alter table {q} rename column {q} to plain")
    con.execute(f"alter table {q} drop index {q}")
    con.execute(f"drop table {q}")


def test_a_name_of_65_characters_is_refused(con: Any) -> None:
    for sql in (
        f"create table {'x' * 65} (a int)",
        f"create table t (a int, {'x' * 65} int)",
        f"create database {'x' * 65}",
    ):
        with pytest.raises(sqlfront.ProgrammingError) as raised:
            con.execute(sql)
        assert raised.value.code == 1059


def test_names_of_columns_ignore_case(con: Any) -> None:
    con.execute("create table t (MixedCase int primary key, other int)")
    con.execute("insert into t (mixedcase, OTHER) values (1, 2)")
    cursor = con.execute("select MIXEDCASE, Other from t where mixedCASE = 1")
    assert cursor.fetchall() == [(1, 2)]
    with pytest.raises(sqlfront.ProgrammingError) as raised:
        con.execute("create table u (a int, A int)")
    assert raised.value.code == 1060


def test_three_hundred_columns(con: Any) -> None:
    columns = [f"c{i}" for i in range(300)]
    con.execute(f"create table wide (id int primary key, {', '.join(f'{c} int' for c in columns)})")
    con.execute(f"insert into wide values (1, {', '.join(map(str, range(300)))})")
    con.execute("insert into wide (id, c299) values (2, -1)")
    assert con.execute("select * from wide where id = 1").fetchone() == (1, *range(300))
    assert con.execute("select * from wide where id = 2").fetchone() == (2, *[None] * 299, -1)
    assert con.execute(f"select sum({' + '.join(columns)}) from wide").fetchone() == (sum(range(300)),)
    assert con.execute("select count(*) from wide group by c0, c1, c299").fetchall() == [(1,), (1,)]
    table = con.execute("select * from wide order by id").fetch_arrow_table()
    assert table.num_columns == 301


def test_sixty_four_indexes(con: Any) -> None:
    columns = [f"c{i}" for i in range(64)]
    keys = ", ".join(f"key k{i} ({c})" for i, c in enumerate(columns))
    con.execute(f"create table many (id int primary key, {', '.join(f'{c} int' for c in columns)}, {keys})")
    rows = [(r, *[(r * 7 + i) % 10 for i in range(64)]) for r in range(20)]
    con.executemany(f"insert into many values ({', '.join('?' * 65)})", rows)
    for i in (0, 31, 63):
        expected = sorted(r[0] for r in rows if r[i + 1] == 3)
        assert [x for (x,) in con.execute(f"select id from many where c{i} = 3 order by id").fetchall()] == expected
    con.execute("update many set c5 = 99 where id < 10")
    con.execute("delete from many where id >= 15")
    con.execute("admin check table many")


def test_a_value_of_a_megabyte(con: Any) -> None:
    con.execute("create table big (id int primary key, t mediumtext, b mediumblob)")
    text, data = "é" * 500_000, bytes(range(256)) * 4096
    con.execute("insert into big values (1, ?, ?)", (text, data))
    assert con.execute("select t, b from big where id = 1").fetchone() == (text, data)
    assert con.execute("select length(t), char_length(t), length(b) from big").fetchone() == (
        1_000_000,
        500_000,
        1 << 20,
    )
    con.execute("update big set t = concat(t, 'x')")
    assert con.execute("select right(t, 2) from big").fetchone() == ("éx",)
    con.execute("create table small (t text)")
    with pytest.raises(sqlfront.DataError) as raised:
        con.execute("insert into small values (?)", (text,))
    assert raised.value.code == 1406


def test_a_table_without_rows(con: Any) -> None:
    con.execute("create table none (id int primary key, a varchar(5), d decimal(5, 2), key (a))")
    con.execute("admin check table none")
    con.execute("analyze table none")
    assert con.execute("select * from none").fetchall() == []
    assert con.execute("select * from none where a = 'x' order by d limit 3").fetchall() == []
    assert con.execute("select count(*), sum(d), max(a) from none").fetchall() == [(0, None, None)]
    assert con.execute("select a from none group by a").fetchall() == []
    table = con.execute("select * from none").fetch_arrow_table()
    assert (table.num_rows, table.column_names) == (0, ["id", "a", "d"])
    assert con.execute("delete from none").rowcount == 0


ALL_TYPES = (
    *("int", "bigint unsigned", "decimal(10, 2)", "double", "varchar(5)", "text", "blob", "date", "datetime"),
    *("timestamp", "time", "year", "bit(4)", "json"),
)


def test_only_nulls(con: Any) -> None:
    columns = [f"c{i} {t} null" for i, t in enumerate(ALL_TYPES)]
    con.execute(f"create table nulls (id int primary key, {', '.join(columns)})")
    con.executemany("insert into nulls (id) values (?)", [(1,), (2,), (3,)])
    nulls = (None,) * len(columns)
    assert con.execute("select * from nulls where id = 2").fetchone() == (2, *nulls)
    assert con.execute("select * from nulls order by c0, id").fetchall() == [(i, *nulls) for i in (1, 2, 3)]
    some = [i for i in range(len(columns)) if i != 13]
    aggregates = ", ".join(f"max(c{i}), count(c{i})" for i in some)
    assert con.execute(f"select {aggregates} from nulls").fetchone() == (None, 0) * len(some)
    assert con.execute("select c4, count(*) from nulls group by c4").fetchall() == [(None, 3)]
    assert con.execute("select count(*) from nulls x join nulls y on x.c0 = y.c0").fetchone() == (0,)
    table = con.execute("select * from nulls").fetch_arrow_table()
    assert all(column.null_count == 3 for column in table.columns[1:])


def test_the_same_value_a_thousand_times(con: Any) -> None:
    con.execute("create table same (id int primary key, v int, key (v))")
    con.executemany("insert into same values (?, 7)", [(i,) for i in range(1000)])
    assert con.execute("select count(*) from same where v = 7").fetchone() == (1000,)
    assert con.execute("select id from same where v = 7 order by id desc limit 2").fetchall() == [(999,), (998,)]
    assert con.execute("delete from same where v = 7 order by id limit 400").rowcount == 400
    con.execute("admin check table same")


def test_schemas_survive_reopening(connect: Connect) -> None:
    con = connect()
    con.execute("create database `odd db`")
    con.execute("create table `odd db`.`t t` (`a b` varchar(5) primary key, n int unique)")
    con.execute("insert into `odd db`.`t t` values ('x', 1), ('', 2)")
    con.close()
    con = connect(database="odd db")
    assert con.execute("select * from `t t` order by n").fetchall() == [("x", 1), ("", 2)]
    with pytest.raises(sqlfront.IntegrityError):
        con.execute("insert into `t t` values ('y', 2)")
    con.execute("admin check table `t t`")
