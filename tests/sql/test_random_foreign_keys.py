"""Random statements over tables that refer to each other, here and in SQLite: the same rows, the same refusals.

Both look at references when a statement has made its changes. Where the two mean different things nothing is asked:
RESTRICT on two ways to one row, keys that move onto others' under NO ACTION, REPLACE.
"""

from __future__ import annotations

import random
import sqlite3
from typing import Any

import pytest

import sqlfront
from tests.conftest import Connect

ACTIONS = ("cascade", "set null", "restrict")
CHANGES = ("cascade", "set null")
KEEPING = ("cascade", "restrict")
DEFERRED = (*CHANGES, "no action")
STATEMENTS = 80
TABLES = ("p", "c", "g", "s")
FORGIVEN = {1048, 1062, 1451, 1452}


def definitions(rng: random.Random) -> list[str]:
    def on(choices: tuple[str, ...]) -> str:
        return f"on delete {rng.choice(choices)} on update {rng.choice(choices)}"

    plain, wide = rng.random() < 0.5, rng.random() < 0.5
    parent = "id int, u int unique, w int, " + ("primary key (id)" if plain else "primary key (id, w)")
    child = "id int primary key, pid int, pw int, pu int"
    both = CHANGES if rng.random() < 0.7 else ()
    by_key = f"foreign key (pid) references p (id) {on(both or ACTIONS)}"
    if not plain:
        by_key = f"foreign key (pid, pw) references p (id, w) {on(both or ACTIONS)}"
    by_u = f", foreign key (pu) references p (u) {on(both)}" if both else ""
    target = "v" if wide else "id"
    keyed = rng.random() < 0.4
    grandchild = f"id int, cid int{' not null, primary key (cid, id)' if keyed else ', primary key (id)'}"
    return [
        f"create table p ({parent})",
        f"create table c ({child}, v int unique, {by_key}{by_u})",
        f"create table g ({grandchild}, foreign key (cid) references c ({target}) {on(KEEPING if keyed else ACTIONS)})",
        f"create table s (id int primary key, up int, foreign key (up) references s (id) {on(DEFERRED)})",
    ]


def statement(rng: random.Random) -> str:
    def n() -> int:
        return rng.randint(1, 6)

    def maybe() -> str:
        return "null" if rng.random() < 0.25 else str(n())

    def rows(make: Any) -> str:
        return ", ".join(make() for _ in range(rng.choice((1, 1, 2, 3))))

    inserts = [
        lambda: "insert into p values " + rows(lambda: f"({n()}, {maybe()}, {rng.randint(1, 2)})"),
        lambda: (
            "insert into c values " + rows(lambda: f"({n()}, {maybe()}, {rng.choice((1, 1, 2))}, {maybe()}, {maybe()})")
        ),
        lambda: "insert into g values " + rows(lambda: f"({n()}, {maybe()})"),
        lambda: "insert into s values " + rows(lambda: f"({n()}, {maybe()})"),
        lambda: f"insert into g select id, v from c where id > {n()}",
    ]
    changes = [
        lambda: f"update p set id = {n()} where id = {n()}",
        lambda: f"update p set u = {maybe()} where u = {n()}",
        lambda: f"update p set id = id + 10, u = u + 20 where id <= {n()} and u <= 6",
        lambda: f"update p set id = id - 10 where id > {n() + 10}",
        lambda: f"update c set id = {n()}, v = {maybe()} where id = {n()}",
        lambda: f"update c set pid = {maybe()} where id <= {n()}",
        lambda: f"update c set pu = {maybe()}, pw = {rng.randint(1, 2)} where pid = {n()}",
        lambda: f"update g set cid = {maybe()} where id <= {n()}",
        lambda: f"update s set id = {n()} where id = {n()}",
        lambda: f"update s set up = {maybe()} where id <= {n()}",
        lambda: f"delete from p where id in ({n()}, {n()})",
        lambda: f"delete from p where u = {n()}",
        lambda: f"delete from c where id = {n()} or v = {n()}",
        lambda: f"delete from s where id in ({n()}, {n()}, {n()})",
        lambda: f"delete from {rng.choice(TABLES)} where id > {n()}",
        lambda: f"delete from g where cid = {n()}",
    ]
    return str(rng.choice(inserts if rng.random() < 0.55 else changes)())


def run(con: Any, sql: str, alone: bool) -> None:
    """Runs a statement; `alone` in an optimistic transaction, which finds a duplicate key when it commits."""
    if not alone:
        con.execute(sql)
        return
    con.execute("begin optimistic")
    try:
        con.execute(sql)
    except sqlfront.Error:
        con.execute("rollback")
        raise
    con.execute("commit")


def contents(con: Any) -> list[list[tuple[Any, ...]]]:
    return [sorted(map(tuple, con.execute(f"select * from {table}").fetchall()), key=repr) for table in TABLES]


@pytest.mark.parametrize("mode", ["", "begin pessimistic", "begin optimistic"])
@pytest.mark.parametrize("seed", range(12))
def test_as_sqlite_does(connect: Connect, seed: int, mode: str) -> None:
    rng = random.Random(seed)
    con, other = connect(), sqlite3.connect(":memory:", isolation_level=None)
    other.execute("pragma foreign_keys = on")
    for sql in definitions(rng):
        con.execute(sql)
        other.execute(sql)
    done: list[str] = []
    succeeded = 0
    for _ in range(STATEMENTS):
        if mode == "begin pessimistic" and not other.in_transaction and rng.random() < 0.5:
            con.execute(mode)
            other.execute("begin")
        sql = statement(rng)
        done.append(sql)
        mine = theirs = 0
        try:
            run(con, sql, alone=mode == "begin optimistic")
        except sqlfront.Error as exc:
            mine = exc.code
        try:
            other.execute(sql)
        except sqlite3.IntegrityError:
            theirs = 1
        assert mine == 0 or mine in FORGIVEN, (mine, done)
        assert bool(mine) == bool(theirs), (mine, done)
        succeeded += not mine
        assert contents(con) == contents(other), done
        if other.in_transaction and rng.random() < 0.3:
            end = rng.choice(("commit", "commit", "rollback"))
            con.execute(end)
            other.execute(end)
    if other.in_transaction:
        con.execute("commit")
    con.execute("admin check table p, c, g, s")
    assert succeeded > STATEMENTS // 5
