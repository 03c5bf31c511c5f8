"""Text of all scripts under the collations that have weights: rows, DuckDB and keys agree with the weights alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

import sqlfront
from coprocessor.codec.collation import sort_key
from coprocessor.functions.collation import weights

COLLATIONS = ("utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_0900_ai_ci")
LETTERS = "aAbBzZ 09_~^áÁßsSøØłŁıIİiÿœæñÑΩωΣςσжЖйЙ한글가中文日ﬀf\u0301\u00a0\u200d😀😁𠀀\ufffd"
ENGINES = ("TIKV", "TIFLASH")


def texts(rng: random.Random) -> list[str]:
    return ["", " ", *("".join(rng.choices(LETTERS, k=rng.randrange(1, 5))) for _ in range(60))]


@pytest.fixture(params=COLLATIONS)
def collate(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rows(con: Any, collate: str) -> dict[int, str]:
    rows = dict(enumerate(texts(random.Random(collate))))
    con.execute(f"create table t (id int primary key, a varchar(20) not null, key (a)) collate {collate}")
    con.executemany("insert into t values (?, ?)", list(rows.items()))
    con.execute(f"create table u (id int primary key, a varchar(20) not null) collate {collate}")
    con.execute("insert into u select * from t")
    return rows


@pytest.mark.parametrize("engine", ENGINES)
def test_comparisons(con: Any, collate: str, rows: dict[int, str], engine: str) -> None:
    key = sort_key(collate)
    hint = f"/*+ READ_FROM_STORAGE({engine}[x], {engine}[y]) */"
    for op, holds in (("=", lambda a, b: a == b), ("<", lambda a, b: a < b), (">=", lambda a, b: a >= b)):
        found = con.execute(f"select {hint} x.id, y.id from t x join u y on x.a {op} y.a").fetchall()
        expected = [(i, j) for i, a in rows.items() for j, b in rows.items() if holds(key(a), key(b))]
        assert sorted(found) == expected, op


@pytest.mark.parametrize("engine", ENGINES)
def test_order_groups_and_ends(con: Any, collate: str, rows: dict[int, str], engine: str) -> None:
    key = sort_key(collate)
    hint = f"/*+ READ_FROM_STORAGE({engine}[x]) */"
    found = con.execute(f"select {hint} id from t x order by a, id").fetchall()
    assert [i for (i,) in found] == sorted(rows, key=lambda i: (key(rows[i]), i))
    groups: dict[bytes, list[int]] = {}
    for i, text in rows.items():
        groups.setdefault(key(text), []).append(i)
    found = con.execute(f"select {hint} min(id), count(*) from t x group by a").fetchall()
    assert sorted(found) == sorted((min(ids), len(ids)) for ids in groups.values())
    ((low, high, count),) = con.execute(f"select {hint} min(a), max(a), count(distinct a) from t x").fetchall()
    assert (key(low), key(high), count) == (min(groups), max(groups), len(groups))


@pytest.mark.parametrize("engine", ENGINES)
def test_patterns(con: Any, collate: str, rows: dict[int, str], engine: str) -> None:
    classes = weights(collate).classes
    hint = f"/*+ READ_FROM_STORAGE({engine}[x]) */"
    plain = [text for text in rows.values() if text and not set(text) & set("_%\\")]
    for wanted in plain[:25]:
        found = con.execute(f"select {hint} id from t x where a like '{wanted}%'").fetchall()
        expected = [i for i, text in rows.items() if classes(text).startswith(classes(wanted))]
        assert sorted(i for (i,) in found) == expected, wanted


def test_keys(con: Any, collate: str, rows: dict[int, str]) -> None:
    key = sort_key(collate)
    for wanted in list(rows.values())[:30]:
        assert con.execute("select id from t use index (a) where a = ? order by id", (wanted,)).fetchall() == [
            (i,) for i, text in rows.items() if key(text) == key(wanted)
        ]
        assert con.execute("select id from t use index (a) where a > ? order by id", (wanted,)).fetchall() == [
            (i,) for i, text in rows.items() if key(text) > key(wanted)
        ]
    classes = weights(collate).classes
    for wanted in rows.values():
        if wanted.strip() and not set(wanted) & set("_%\\"):
            found = con.execute("select id from t use index (a) where a like concat(?, '%') order by id", (wanted,))
            plain = con.execute(f"select id from t use index (a) where a like '{wanted}%' order by id").fetchall()
            assert found.fetchall() == plain
            assert plain == [(i,) for i, text in rows.items() if classes(text).startswith(classes(wanted))], wanted
    con.execute("admin check table t")


def test_keys_that_lead_to_other_tables(con: Any, collate: str, rows: dict[int, str]) -> None:
    key = sort_key(collate)
    con.execute(f"create table big (id int primary key, a varchar(20) not null, key (a)) collate {collate}")
    con.executemany("insert into big values (?, ?)", list(rows.items()))
    con.executemany("insert into big values (?, ?)", [(i, f"x{i}") for i in range(1000, 5000)])
    con.execute("analyze table big")
    con.execute(f"create table few (b varchar(20)) collate {collate}")
    wanted = list(rows.values())[:12]
    con.executemany("insert into few values (?)", [(text,) for text in wanted])
    con.execute("analyze table few")
    join = "select big.id from few join big on big.a = few.b"
    assert any("by the keys of few" in str(row) for row in con.execute(f"explain {join}").fetchall())
    expected = sorted(i for i, text in rows.items() for b in wanted if key(text) == key(b))
    assert sorted(i for (i,) in con.execute(join).fetchall()) == expected
    ((low,),) = con.execute("select min(a) from big").fetchall()
    ((high,),) = con.execute("select max(a) from big").fetchall()
    texts = [*rows.values(), *(f"x{i}" for i in range(1000, 5000))]
    assert (key(low), key(high)) == (min(map(key, texts)), max(map(key, texts)))


def test_indexes_over_the_beginnings_of_texts(con: Any, collate: str) -> None:
    rows = dict(enumerate(("ß", "ss", "SS ", "s", "æ", "ae", "\u00ada", "a", "é")))
    con.execute(
        f"create table t (id int primary key, a varchar(20), n int, key (a (1)), key (n, a (1))) collate {collate}"
    )
    con.executemany("insert into t values (?, ?, 1)", list(rows.items()))
    for condition in (
        "a = ?",
        "a <= ?",
        "a >= ?",
        "n = 1 and a = ?",
        "n = 1 and a in (?, 'q')",
        "(n, a) in ((1, ?), (2, 'q'))",
    ):
        for text in rows.values():
            found, expected = (
                con.execute(f"select id from t {hint} where {condition} order by id", (text,)).fetchall()
                for hint in ("force index (a, n)", "ignore index (a, n)")
            )
            assert found == expected, (condition, text)


def test_functions_first_used_over_own_writes() -> None:
    with sqlfront.connect(":memory:", autocommit=True) as con:
        con.execute("create table t (id int primary key, a varchar(20)) collate utf8mb4_general_ci")
        con.execute("alter table t set tiflash replica 1")
        con.execute("insert into t values (1, 'é'), (2, 'b')")
        con.execute("begin")
        con.execute("insert into t values (3, 'É')")
        query = "select /*+ READ_FROM_STORAGE(TIFLASH[t]) */ id from t where a like 'é%' order by id"
        assert con.execute(query).fetchall() == [(1,), (3,)]
