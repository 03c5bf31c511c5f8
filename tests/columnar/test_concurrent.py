"""Writers in threads while readers ask rows and replica: one snapshot gives one answer, and no answer is stale."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

import sqlfront
from tests.columnar.compare import REPLICA, hinted, same_table
from tests.columnar.conftest import Views

ACCOUNTS = 12
START = 1000
SHORT_S, LONG_S = 2.5, 45.0
BUILD_WAIT_S = 3.0
"""A hint waits no longer for a table that is gone by then."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlfront.session.BUILD_WAIT_S", BUILD_WAIT_S)


class Crew:
    """Threads that work until the time is up or one of them fails."""

    def __init__(self, connect: Callable[..., Any]) -> None:
        self.connect = connect
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self.rounds: dict[str, int] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[Any, random.Random], None], *, seed: int) -> None:
        """Calls `work` again and again in a thread, with a connection of its own."""
        con = self.connect()

        def run() -> None:
            rng = random.Random(f"{name}-{seed}")
            try:
                while not self.stop.is_set():
                    self.attempt(con, work, rng)
                    self.rounds[name] = self.rounds.get(name, 0) + 1
            except BaseException as error:  # noqa: BLE001 - raised again by the test's own thread
                self.failures.append(error)
                self.stop.set()

        thread = threading.Thread(target=run, name=name)
        self._threads.append(thread)
        thread.start()

    def attempt(self, con: Any, work: Callable[[Any, random.Random], None], rng: random.Random) -> None:
        """One round; a conflict or a wait for a load that took too long only ends it."""
        try:
            work(con, rng)
        except sqlfront.OperationalError as error:
            if not error.retryable and error.code not in (1205, 1213, 1412, 9007):
                raise
            con.execute("rollback")

    def work_for(self, seconds: float) -> None:
        self.stop.wait(seconds)
        self.stop.set()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]


def transfer(con: Any, rng: random.Random) -> None:
    a, b = rng.sample(range(ACCOUNTS), 2)
    amount = rng.randint(1, 20)
    con.execute("begin")
    con.execute("update account set balance = balance - ?, v = v + 1 where id = ?", (amount, a))
    con.execute("update account set balance = balance + ?, v = v + 1 where id = ?", (amount, b))
    con.execute("rollback" if rng.random() < 0.1 else "commit")


def churn(con: Any, rng: random.Random) -> None:
    """Inserts, updates and deletes one or a few rows."""
    first = rng.randrange(400)
    kind = rng.choice(("insert", "replace", "update", "move", "delete"))
    if kind == "insert":
        con.execute("insert ignore into item values (?, ?, ?)", (first, rng.randrange(9), f"n{first}"))
    elif kind == "replace":
        con.executemany("replace into item values (?, ?, ?)", [(i, 1, "r ") for i in range(first, first + 5)])
    elif kind == "update":
        con.execute("update item set n = n + 1 where id between ? and ?", (first, first + 20))
    elif kind == "move":
        con.execute("update ignore item set id = id + 400 where id = ?", (first,))
    else:
        con.execute("delete from item where id between ? and ?", (first, first + 8))


def check_snapshot(con: Any, rng: random.Random) -> None:
    """Both engines in one read-only transaction, over every table."""
    con.execute("start transaction read only")
    for table in rng.sample(("account", "item", "short"), 2):
        same_table(con, table)
    if rng.random() < 0.3:
        time.sleep(0.05)
        same_table(con, "item")
        same_table(con, "account")
    con.execute("commit")


def check_total(con: Any, rng: random.Random) -> None:
    query = hinted(REPLICA, "select sum(balance), count(*), min(id), max(id) from account", "account")
    assert con.execute(query).fetchall() == [(ACCOUNTS * START, ACCOUNTS, 0, ACCOUNTS - 1)]


class Counter:
    """A row that every commit counts up, and the highest value that was acknowledged."""

    def __init__(self) -> None:
        self.acknowledged = 0

    def count(self, con: Any, rng: random.Random) -> None:
        con.execute("update counter set n = n + 1 where id = 1")
        if rng.random() < 0.3:
            con.execute("replace into counter values (?, -1)", (rng.randint(2, 50),))
        self.acknowledged += 1

    def check(self, con: Any, rng: random.Random) -> None:
        least = self.acknowledged
        query = hinted(REPLICA, "select max(n) from counter", "counter")
        ((found,),) = con.execute(query).fetchall()
        most = self.acknowledged + 1
        assert least <= found <= most, f"the replica says {found}, acknowledged were {least}, begun {most}"


def truncate(con: Any, rng: random.Random) -> None:
    con.execute("insert into short values (?, ?)", (rng.randrange(10**6), 1))
    if rng.random() < 0.05:
        con.execute("truncate table short")
    time.sleep(0.01)


def prepare(con: Any) -> None:
    con.execute("create table account (id int primary key, balance int not null, v int not null)")
    con.execute("create table item (id int primary key, n int, s varchar(20))")
    con.execute("create table short (a int, b int)")
    con.execute("create table counter (id int primary key, n int)")
    con.execute("insert into account values " + ", ".join(f"({i}, {START}, 0)" for i in range(ACCOUNTS)))
    con.execute("insert into counter values (1, 0)")
    for table in ("account", "item", "short", "counter"):
        same_table(con, table)


def check(connect: Callable[..., Any], seconds: float, seed: int, *, tidy: bool) -> Crew:
    con = connect()
    prepare(con)
    crew, counter = Crew(connect), Counter()
    worker = con._database.columnar._worker
    crew.start("transfer", transfer, seed=seed)
    crew.start("transfer too", transfer, seed=seed)
    crew.start("churn", churn, seed=seed)
    crew.start("truncate", truncate, seed=seed)
    crew.start("count", counter.count, seed=seed)
    crew.start("check count", counter.check, seed=seed)
    crew.start("check snapshot", check_snapshot, seed=seed)
    crew.start("check total", check_total, seed=seed)
    if tidy:
        crew.start("tidy", lambda c, r: worker.tidy() if not crew.stop.wait(0.1) else None, seed=seed)
    crew.work_for(seconds)
    for table in ("account", "item", "short", "counter"):
        same_table(con, table)
        con.execute(f"admin check table {table}")
    assert all(crew.rounds.get(name, 0) > 2 for name in ("transfer", "churn", "count", "check count", "check total"))
    return crew


def test_one_snapshot_one_answer(connect: Callable[..., Any], views: Views) -> None:
    check(connect, SHORT_S, seed=1, tidy=False)
    served = views.take()
    assert served.count(True) > len(served) // 2, f"{served.count(True)} of {len(served)} were read from the replica"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2])
def test_one_snapshot_one_answer_for_long(connect: Callable[..., Any], seed: int) -> None:
    check(connect, LONG_S, seed=seed, tidy=True)


def test_what_was_acknowledged_is_read(connect: Callable[..., Any], views: Views) -> None:
    """Two counters, three readers, nothing else: every answer has what was acknowledged before it was asked for."""
    con = connect()
    prepare(con)
    views.clear()
    crew, counter = Crew(connect), Counter()
    crew.start("count", counter.count, seed=1)
    for i in range(3):
        crew.start(f"check {i}", counter.check, seed=i)
    crew.work_for(2.0)
    assert counter.acknowledged > 20
    assert views.take().count(False) == 0


def test_long_results_keep_their_snapshot(connect: Callable[..., Any]) -> None:
    """A result that is fetched slowly is that of its snapshot, while commits are applied under it."""
    con, other = connect(), connect()
    con.execute("create table t (id int primary key, v int)")
    n = 20_000
    con.append("t", pa.table({"id": list(range(n)), "v": [0] * n}))
    same_table(con, "t")
    cursor = con.execute(hinted(REPLICA, "select id, v from t", "t"))
    rows = cursor.fetchmany(10)
    other.execute("update t set v = 1 where id % 100 = 0")
    other.execute("delete from t where id % 100 = 1")
    assert other.execute(hinted(REPLICA, "select sum(v), count(*) from t", "t")).fetchall() == [
        (n // 100, n * 99 // 100)
    ]
    other.execute("alter table t add w int default 5")
    assert len(same_table(other, "t")) == n * 99 // 100
    other.execute("drop table t")
    rows += cursor.fetchall()
    assert sorted(rows) == [(i, 0) for i in range(n)]


def test_definitions_change_under_readers(connect: Callable[..., Any]) -> None:
    con = connect()
    prepare(con)
    crew, counter = Crew(connect), Counter()
    columns: list[str] = []

    def define(mine: Any, rng: random.Random) -> None:
        kind = rng.choice(("add", "drop", "modify", "index", "off", "on"))
        if kind == "add" and len(columns) < 5:
            name = f"x{rng.randrange(10**6)}"
            mine.execute(f"alter table item add {name} int not null default {rng.randrange(9)}")
            columns.append(name)
        elif kind == "drop" and columns:
            mine.execute(f"alter table item drop column {columns.pop()}")
        elif kind == "modify":
            mine.execute(f"alter table item modify n {rng.choice(('int', 'bigint', 'smallint'))}")
        elif kind == "off":
            mine.execute("alter table account set tiflash replica 0")
        elif kind == "on":
            mine.execute("alter table account set tiflash replica 1")
        time.sleep(0.1)

    def change(mine: Any, rng: random.Random) -> None:
        i = rng.randrange(100)
        mine.execute("insert into item (id, n, s) values (?, 1, 'x ') on duplicate key update n = 3", (i,))
        mine.execute("delete from item where id = ?", (rng.randrange(100),))

    crew.start("define", define, seed=1)
    crew.start("change", change, seed=1)
    crew.start("transfer", transfer, seed=1)
    crew.start("count", counter.count, seed=1)
    crew.start("check count", counter.check, seed=1)
    crew.start("check snapshot", check_snapshot, seed=1)
    crew.start("check total", check_total, seed=1)
    crew.work_for(SHORT_S)
    con.execute("alter table account set tiflash replica 1")
    for table in ("account", "item", "counter"):
        same_table(con, table)
