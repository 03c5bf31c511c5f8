"""Random tables of every type, random changes: rows and replica agree after each step, in and out of transactions."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import sqlfront
from sqlfront.errors import Error
from tests.columnar.compare import REPLICA, ROWS, answer, hinted, plan, reads_replica, replica_row, same, same_table
from tests.columnar.conftest import Views
from tests.columnar.tables import KEYS, TYPES, RandomTable

ZONES = ("UTC", "+05:30", "Europe/Berlin")
LOCK_WAIT_S = 1


def literal(value: Any) -> str:
    """A value as a SQL literal."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, int | float | Decimal):
        return f"{value:f}" if isinstance(value, Decimal) else repr(value)
    if isinstance(value, dt.timedelta):
        micros = abs(value) // dt.timedelta(microseconds=1)
        seconds, fraction = divmod(micros, 1_000_000)
        sign = "-" if value < dt.timedelta(0) else ""
        return f"'{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}'"
    text = str(value).replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0")
    return f"'{text}'"


def refused(con: Any, query: str) -> bool:
    """Whether a query of the past cannot be read with the table's definition of now."""
    try:
        con.execute(query).fetchall()
    except sqlfront.OperationalError as error:
        if error.code != 1412:
            raise
        return True
    return False


class Judge:
    """Changes one random table through two connections and compares after each step."""

    def __init__(self, connect: Callable[..., Any], views: Views, seed: int, key: str, columns: int) -> None:
        self.views = views
        self.rng = random.Random(seed)
        self.con = connect()
        self.other = connect()
        for con in (self.con, self.other):
            con.execute(f"set innodb_lock_wait_timeout = {LOCK_WAIT_S}")
        self.table = RandomTable(self.rng, "t", key, columns)
        self.log: list[str] = []
        self.past: list[str] = []
        self.in_transaction = False
        self.savepoints = 0
        self.run(self.con, self.table.create())

    def run(self, con: Any, sql: str, params: Any = ()) -> bool:
        """Runs a statement that may be refused for its values; False when it was."""
        who = "other" if con is self.other else "con"
        self.log.append(f"{who}: {sql} {list(params) or ''}")
        try:
            con.execute(sql, tuple(params))
        except sqlfront.InternalError:
            raise
        except sqlfront.DatabaseError as e:
            self.log[-1] += f" -- {e}"
            return False
        return True

    def step(self) -> None:
        kind = self.rng.choices(("change", "other", "transaction", "define", "truncate"), (60, 10, 20, 10, 1))[0]
        if kind == "change":
            self.run(self.con, *self.table.change())
        elif kind == "other":
            # inside a transaction of `con`, only rows that it surely holds no locks of
            self.run(self.other, *(self.table.insert() if self.in_transaction else self.table.change()))
        elif kind == "transaction":
            self.transaction()
        elif not self.in_transaction:
            if kind == "truncate":
                self.run(self.con, f"truncate table {self.table.name}")
            else:
                sql, done = self.table.alter(literal)
                if self.run(self.con, sql):
                    done()

    def transaction(self) -> None:
        if not self.in_transaction:
            self.in_transaction = self.run(self.con, self.rng.choice(("begin", "begin optimistic")))
            self.savepoints = 0
            return
        kind = self.rng.choice(("commit", "rollback", "savepoint", "rollback to"))
        if kind == "savepoint":
            self.savepoints += 1
            self.run(self.con, f"savepoint s{self.savepoints}")
        elif kind == "rollback to" and self.savepoints:
            self.savepoints = self.rng.randint(1, self.savepoints)
            self.run(self.con, f"rollback to s{self.savepoints}")
        elif kind in ("commit", "rollback"):
            self.in_transaction = False
            self.run(self.con, kind)

    def compare(self) -> None:
        name = self.table.name
        # the first query after a column got another type finds that the replica has to be built anew
        answer(self.other, REPLICA, f"select count(*) from {name}", name)
        for con in (self.con, self.other):
            self.views.clear()
            zone = self.rng.choice(ZONES)
            con.execute(f"set time_zone = '{zone}'")
            same_table(con, name)
            where, params = self.table.where()
            same(con, f"select * from {name} where {where}", name, params)
            column = self.rng.choice(self.table.all).name
            same(con, f"select count({column}), count(distinct {column}), count(*) from {name}", name)
            for c in [c.name for c in self.table.all if c.type.startswith(("decimal(10", "int", "big"))][:1]:
                same(con, f"select sum({c}), min({c}), max({c}) from {name} where {where}", name, params)
            con.execute("set time_zone = 'UTC'")
            if con is self.other or not self.in_transaction:
                assert self.views, "nobody asked for the replica"
                assert all(self.views), f"read by rows: {replica_row(con, name)}"

    def compare_past(self) -> None:
        self.con.execute("set time_zone = 'UTC'")
        for moment in self.rng.sample(self.past, min(4, len(self.past))):
            query = f"select * from {self.table.name} as of timestamp '{moment}'"
            if refused(self.con, hinted(ROWS, query, "t")):  # the table was another one then
                assert refused(self.con, hinted(REPLICA, query, "t"))
            else:
                same(self.con, query, self.table.name)

    def note_moment(self) -> None:
        time.sleep(0.002)
        self.past.append(str(self.other.execute("select utc_timestamp(6)").fetchone()[0]))
        time.sleep(0.002)

    def explain_failure(self, seed: int) -> str:
        return f"seed {seed}\n" + "\n".join(self.log[-40:])


def check(connect: Callable[..., Any], views: Views, seed: int, key: str, *, steps: int, columns: int) -> None:
    """Runs `steps` random steps over one table."""
    judge = Judge(connect, views, seed, key, columns)
    try:
        for i in range(steps):
            judge.step()
            judge.compare()
            if not judge.in_transaction and i % 5 == 0:
                judge.note_moment()
        if judge.in_transaction:
            judge.run(judge.con, "rollback")
        judge.compare()
        judge.compare_past()
        judge.con.execute(f"admin check table {judge.table.name}")
    except (AssertionError, Error, sqlfront.Error) as error:
        error.add_note(judge.explain_failure(seed))
        raise


@pytest.mark.parametrize("key", KEYS)
def test_random_changes(connect: Callable[..., Any], views: Views, key: str) -> None:
    check(connect, views, sorted(KEYS).index(key), key, steps=14, columns=8)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_many_random_changes(connect: Callable[..., Any], views: Views, key: str) -> None:
    check(connect, views, 100, key, steps=80, columns=12)


@pytest.mark.parametrize("type_", TYPES)
def test_every_type_before_and_after_the_build(connect: Callable[..., Any], views: Views, type_: str) -> None:
    """Values that a build reads, ones that are applied, and ones that a transaction has not committed yet."""
    con = connect()
    rng = random.Random(type_)
    con.execute(f"create table t (id int primary key, v {type_} null)")

    def insert(first: int) -> None:
        for i in range(first, first + 12):
            con.execute("insert into t values (?, ?)", (i, None if i % 12 == 0 else TYPES[type_](rng)))

    insert(0)
    assert reads_replica(con, "t")
    for first in (12, 24):
        same_table(con, "t")
        insert(first)
    con.execute("update t set v = null where id < 3")
    same_table(con, "t")
    con.execute("begin")
    insert(36)
    con.execute("delete from t where id between 10 and 20")
    rows = same_table(con, "t")
    con.execute("rollback")
    assert len(rows) == 48 - 11
    for zone in ZONES:
        con.execute(f"set time_zone = '{zone}'")
        assert len(same_table(con, "t")) == 36
    assert views.take().count(False) == 0


def test_a_transaction_reads_its_own_snapshot_and_writes(connect: Callable[..., Any], views: Views) -> None:
    con, other = connect(), connect()
    con.execute("create table t (id int primary key, v int)")
    con.execute("insert into t values (1, 1), (2, 2), (3, 3), (4, 4)")
    same_table(con, "t")
    con.execute("start transaction with consistent snapshot")
    other.execute("update t set v = 10 where id = 1")
    other.execute("delete from t where id = 2")
    other.execute("insert into t values (5, 5)")
    assert len(same_table(other, "t")) == 4  # the replica stands above the transaction now
    assert same_table(con, "t") == ["(1, 1)", "(2, 2)", "(3, 3)", "(4, 4)"]
    con.execute("delete from t where id = 3")
    con.execute("insert into t values (6, 6)")
    con.execute("update t set v = 40 where id = 4")
    assert same_table(con, "t") == ["(1, 1)", "(2, 2)", "(4, 40)", "(6, 6)"]
    con.execute("savepoint s")
    con.execute("delete from t where id = 1")
    assert same_table(con, "t") == ["(2, 2)", "(4, 40)", "(6, 6)"]
    con.execute("rollback to s")
    same_table(con, "t")
    assert views.take().count(False) == 0
    con.execute("commit")
    assert same_table(con, "t") == ["(1, 10)", "(4, 40)", "(5, 5)", "(6, 6)"]


def test_a_function_that_duckdb_does_not_know_yet_beside_own_writes(connect: Callable[..., Any], views: Views) -> None:
    """The view's transaction has begun by then, and sees no function that comes later."""
    con = connect()
    con.execute("create table t (id int primary key, v varchar(9) collate utf8mb4_general_ci)")
    con.execute("insert into t values (1, 'a'), (2, 'é'), (3, 'x')")
    same_table(con, "t")
    views.take()
    con.execute("begin")
    con.execute("update t set v = 'E' where id = 3")
    hint = "select /*+ READ_FROM_STORAGE(TIFLASH[t]) */"
    for number in range(5):
        found = con.execute(f"{hint} id, soundex(concat(v, 'b{number}')) from t where v = ? order by id", ("É",))
        assert [row[0] for row in found.fetchall()] == [2, 3]
    con.execute("rollback")
    assert views.take().count(False) == 0


def test_the_past_is_read_while_it_is_remembered(connect: Callable[..., Any], views: Views) -> None:
    con = connect()
    con.execute("create table t (id int primary key, v varchar(9))")
    same_table(con, "t")
    moments = {}
    for i in range(8):
        con.execute("insert into t values (?, ?)", (i, f"v{i}"))
        con.execute("update t set v = concat(v, '+') where id = ?", (i // 2,))
        time.sleep(0.002)
        moments[str(con.execute("select utc_timestamp(6)").fetchone()[0])] = same_table(con, "t")
        time.sleep(0.002)
    con.execute("set time_zone = 'UTC'")
    for moment, rows in moments.items():
        assert same(con, f"select * from t as of timestamp '{moment}'", "t") == rows
        con.execute(f"start transaction read only as of timestamp '{moment}'")
        assert same_table(con, "t") == rows
        con.execute("commit")
    assert views.take().count(False) == 0


def test_a_join_of_both_engines_is_at_one_snapshot(connect: Callable[..., Any]) -> None:
    con, other = connect(), connect()
    for name in ("a", "b"):
        con.execute(f"create table {name} (id int primary key, v int)")
        con.execute(f"insert into {name} values (1, 1), (2, 2), (3, null)")
    query = "select a.id, a.v, b.v from a join b on a.id = b.id"
    hints = ("TIKV[a], TIKV[b]", "TIFLASH[a], TIKV[b]", "TIKV[a], TIFLASH[b]", "TIFLASH[a], TIFLASH[b]")
    con.execute("begin")
    con.execute("insert into a values (4, 4)")
    for i in range(5):
        other.execute("update b set v = ? where id = 1", (i,))
        found = [
            sorted(map(repr, con.execute(query.replace("select", f"select /*+ READ_FROM_STORAGE({h}) */")).fetchall()))
            for h in hints
        ]
        assert found == [found[0]] * 4
    con.execute("insert into b values (4, 9)")
    for hint in hints:
        rows = con.execute(query.replace("select", f"select /*+ READ_FROM_STORAGE({hint}) */")).fetchall()
        assert (4, 4, 9) in rows
        assert len(rows) == 4


def test_a_table_that_duckdb_cannot_hold_is_read_by_rows(connect: Callable[..., Any], views: Views) -> None:
    con = connect()
    con.execute("create table t (id int primary key, v decimal(65,30))")
    con.execute(
        "insert into t values (1, '12345678901234567890123456789012345.123456789012345678901234567890'), (2, 0)"
    )
    begun = time.monotonic()
    assert same(con, "select id from t", "t") == ["(1,)", "(2,)"]
    assert same(con, "select count(*) from t", "t") == ["(2,)"]
    assert time.monotonic() - begun < 5
    assert True not in views.take()
    row = replica_row(con, "t")
    assert row is not None
    assert row[:2] == (0, "refused")
    assert "more than 38 digits" in row[2]
    explained = con.execute(f"explain {hinted(REPLICA, 'select id from t', 't')}").fetchall()
    assert "38 digits" in str(explained), explained


def test_a_hint_says_what_is_read(connect: Callable[..., Any]) -> None:
    con = connect()
    con.execute("create table t (id int primary key, v int)")
    assert "ColumnarScan" in plan(con, hinted(REPLICA, "select * from t", "t"))
    assert "ColumnarScan" not in plan(con, hinted(ROWS, "select * from t", "t"))
    assert reads_replica(con, "t")
