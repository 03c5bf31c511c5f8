"""Indexes over virtual columns: what they find is what the expressions say, whatever happened to the rows."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sqlfront
from tests.conftest import Connect

COLUMNS = """
    id int primary key, a int, s varchar(20), v int as (a * 3) virtual, t varchar(9) as (lower(left(s, 3))) virtual,
    w int as (v - id) virtual, key v (v), key tv (t, v), unique key wi (w, id)
"""
TEXTS = ("Alpha", "ALP", "beta", "BETTER ", "", "ß", None)


def row(rng: random.Random, id_: int) -> tuple[int, int | None, str | None]:
    return id_, rng.choice((None, *range(6))), rng.choice(TEXTS)


def change(rng: random.Random, con: Any) -> None:
    id_, a, s = row(rng, rng.randrange(60))
    match rng.randrange(7):
        case 0:
            con.execute("delete from r where id = ?", (id_,))
        case 1:
            con.execute("update r set a = ? where id between ? and ?", (a, id_, id_ + 4))
        case 2:
            con.execute("update r set s = ?, a = a + 1 where t = 'alp' and id < ?", (s, id_))
        case 3:
            con.execute("replace into r (id, a, s) values (?, ?, ?)", (id_, a, s))
        case 4:
            con.execute("update r set id = id + 1000 where v = ? limit 1", (3 * (a or 0),))
        case _:
            sql = "insert into r (id, a, s) values (?, ?, ?) on duplicate key update a = values(a), s = 'Beta'"
            con.execute(sql, (id_, a, s))


def test_random_changes(con: Any) -> None:
    rng = random.Random(5)
    con.execute(f"create table r ({COLUMNS})")
    for step in range(60):
        inside = step % 3 == 0
        if inside:
            con.execute("begin")
        for _ in range(6):
            with suppress(sqlfront.IntegrityError):  # a moved row meets another
                change(rng, con)
        for column, expr in (("v", "a * 3"), ("t", "lower(left(s, 3))"), ("w", "a * 3 - id")):
            for value in con.execute(f"select distinct {expr} from r where {expr} is not null").fetchall()[:3]:
                found = con.execute(f"select id from r where {column} = ? order by id", value).fetchall()
                plain = con.execute(f"select id from r use index () where concat({expr}) = ? order by id", value)
                assert found == plain.fetchall(), (column, value)
        if inside:
            con.execute(rng.choice(("commit", "rollback")))
    con.execute("admin check table r")


def test_bulk_loads_and_what_is_kept(tmp_path: Path) -> None:
    con = sqlfront.connect(str(tmp_path / "db"), autocommit=True)
    con.execute(f"create table r ({COLUMNS})")
    rng = random.Random(6)
    rows = [row(rng, i) for i in range(3000)]
    table = pa.table({name: [r[i] for r in rows] for i, name in enumerate(("id", "a", "s"))})
    con.append("r", table)
    con.execute("admin check table r")
    expected = sorted(i for i, a, _ in rows if a == 2)
    assert con.execute("select id from r where v = 6 order by id").fetchall() == [(i,) for i in expected]
    with pytest.raises(sqlfront.IntegrityError, match=r"Duplicate entry '.*' for key 'r\.PRIMARY'"):
        con.append("r", table)
    con.execute("alter table r add column z varchar(30) as (concat(s, '-', a)) virtual, add key z (z), drop key v")
    con.close()
    con = sqlfront.connect(str(tmp_path / "db"), autocommit=True)
    con.execute("admin check table r")
    expected = sorted(i for i, a, s in rows if (a, s) == (2, "beta"))
    assert con.execute("select id from r where z = 'beta-2' order by id").fetchall() == [(i,) for i in expected]
    assert "index:z" in str(con.execute("explain select id from r where z = 'beta-2'").fetchall())


def test_an_index_is_added_beside_writers(connect: Connect) -> None:
    con = connect()
    con.execute("create table r (id int primary key, a int, s varchar(20), v int as (a * 3) virtual)")
    con.append("r", pa.table({"id": list(range(40_000)), "a": [i % 9 for i in range(40_000)]}))
    stop = threading.Event()
    failed: list[BaseException] = []

    def write(seed: int) -> None:
        rng = random.Random(seed)
        own = connect()
        try:
            while not stop.is_set():
                change_of = rng.choice(("update r set a = a + 1 where id = ?", "delete from r where id = ?"))
                own.execute(change_of, (rng.randrange(40_000),))
                own.execute("replace into r (id, a) values (?, ?)", (rng.randrange(60_000), rng.randrange(9)))
        except BaseException as exc:  # noqa: BLE001 - shown below
            failed.append(exc)
        finally:
            own.close()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(2)]
    for writer in writers:
        writer.start()
    try:
        con.execute("alter table r add key v (v), add key vi (v, id)")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failed
    con.execute("admin check table r")
    ((count,),) = con.execute("select count(*) from r use index () where concat(a * 3) = '9'").fetchall()
    assert con.execute("select count(*) from r where v = 9").fetchall() == [(count,)]
