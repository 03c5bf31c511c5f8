"""Many threads, each with a connection: nothing is lost, and every refusal is the one that MySQL would give."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import sqlfront
from tests.conftest import Connect

ACCOUNTS = 8
START = 100
THREADS = 6


def run_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Runs `work(i)` in threads that start together; raises what any of them raised."""
    barrier = threading.Barrier(count)

    def one(i: int) -> Any:
        barrier.wait()
        return work(i)

    with ThreadPoolExecutor(count) as pool:
        return [f.result(timeout=60) for f in [pool.submit(one, i) for i in range(count)]]


def code_of(call: Callable[..., Any], *arguments: object) -> int:
    """Runs it and returns the error's code, 0 for none."""
    try:
        call(*arguments)
    except sqlfront.Error as e:
        return e.code
    return 0


@pytest.fixture
def bank(connect: Connect) -> Any:
    con = connect()
    con.execute("create table account (id int primary key, balance int not null, key (balance))")
    con.executemany("insert into account values (?, ?)", [(i, START) for i in range(ACCOUNTS)])
    return con


def transfer(con: Any, rng: random.Random) -> bool:
    """Moves money between two accounts; False if the database chose it as a victim."""
    a, b = rng.sample(range(ACCOUNTS), 2)
    amount = rng.randint(1, 20)
    try:
        con.execute("begin")
        (balance,) = con.execute("select balance from account where id = ? for update", (a,)).fetchone()
        if balance >= amount:
            con.execute("update account set balance = balance - ? where id = ?", (amount, a))
            con.execute("update account set balance = balance + ? where id = ?", (amount, b))
        con.execute("commit")
    except sqlfront.OperationalError as e:
        con.execute("rollback")
        if not e.retryable:
            raise
        return False
    return True


@pytest.mark.parametrize("begin", ["pessimistic", "optimistic"])
def test_bank_total_stays(connect: Connect, bank: Any, begin: str) -> None:
    stop = threading.Event()
    totals: list[Any] = []

    def watch() -> None:
        con = connect()
        while not stop.is_set():
            totals.append(con.execute("select sum(balance), count(*), min(balance) >= 0 from account").fetchone())

    def work(i: int) -> int:
        con = connect()
        con.execute(f"set tidb_txn_mode = '{begin}'")
        rng = random.Random(i)
        return sum(transfer(con, rng) for _ in range(30))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = run_threads(THREADS, work)
    finally:
        stop.set()
        watcher.join()
    assert sum(done) > 0
    assert set(totals) <= {(ACCOUNTS * START, ACCOUNTS, 1)}
    assert bank.execute("select sum(balance) from account").fetchone() == (ACCOUNTS * START,)
    bank.execute("admin check table account")


def test_no_update_is_lost(connect: Connect, con: Any) -> None:
    con.execute("create table counter (id int primary key, n int)")
    con.execute("insert into counter values (1, 0)")

    def work(_: int) -> None:
        mine = connect()
        for _ in range(25):
            mine.execute("update counter set n = n + 1 where id = 1")

    run_threads(THREADS, work)
    assert con.execute("select n from counter").fetchone() == (THREADS * 25,)


def test_no_read_modify_write_is_lost_with_for_update(connect: Connect, con: Any) -> None:
    con.execute("create table counter (id int primary key, n int)")
    con.execute("insert into counter values (1, 0)")

    def work(_: int) -> None:
        mine = connect()
        for _ in range(15):
            mine.execute("begin")
            (n,) = mine.execute("select n from counter where id = 1 for update").fetchone()
            mine.execute("update counter set n = ? where id = 1", (n + 1,))
            mine.execute("commit")

    run_threads(THREADS, work)
    assert con.execute("select n from counter").fetchone() == (THREADS * 15,)


@pytest.mark.parametrize("key", ["primary", "unique"])
def test_exactly_one_wins_a_unique_key(connect: Connect, con: Any, key: str) -> None:
    con.execute("create table seat (id int primary key auto_increment, no int, who int, unique key (no))")
    column = "no" if key == "unique" else "id"

    def work(i: int) -> int:
        mine = connect()
        return [
            code_of(mine.execute, f"insert into seat ({column}, who) values (?, ?)", (n, i)) for n in range(1, 21)
        ].count(0)

    won = run_threads(THREADS, work)
    assert sum(won) == 20
    assert con.execute("select count(*) from seat").fetchone() == (20,)
    con.execute("admin check table seat")


def test_losers_get_1062(connect: Connect, con: Any) -> None:
    con.execute("create table one (id int primary key)")
    codes = run_threads(THREADS, lambda _: code_of(lambda: connect().execute("insert into one values (1)")))
    assert sorted(codes) == [0] + [1062] * (THREADS - 1)


def test_auto_increment_never_repeats(connect: Connect, con: Any) -> None:
    con.execute("create table log (id int primary key auto_increment, who int)")

    def work(i: int) -> list[int]:
        mine = connect()
        return [mine.execute("insert into log (who) values (?)", (i,)).lastrowid for _ in range(30)]

    ids = [i for some in run_threads(THREADS, work) for i in some]
    assert len(set(ids)) == THREADS * 30
    assert con.execute("select count(*), count(distinct id) from log").fetchone() == (THREADS * 30,) * 2


def test_deadlock_has_one_victim(connect: Connect, bank: Any) -> None:
    one, two = connect(), connect()
    for con, row in ((one, 1), (two, 2)):
        con.execute("begin")
        con.execute("update account set balance = balance + 1 where id = ?", (row,))
    step = "update account set balance = balance + 10 where id = ?"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(code_of, lambda: one.execute(step, (2,)))
        time.sleep(0.2)
        second = code_of(lambda: two.execute(step, (1,)))
        two.execute("commit" if second == 0 else "rollback")
        first = waiting.result(timeout=30)
    assert sorted((first, second)) == [0, 1213]
    one.execute("commit" if first == 0 else "rollback")
    changed = bank.execute("select sum(balance) from account").fetchone()[0] - ACCOUNTS * START
    assert changed == 11


def test_the_victims_transaction_is_over(connect: Connect, bank: Any) -> None:
    one, two = connect(), connect()
    for con, row in ((one, 1), (two, 2)):
        con.execute("begin")
        con.execute("update account set balance = 0 where id = ?", (row,))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(code_of, lambda: one.execute("delete from account where id = 2"))
        time.sleep(0.2)
        second = code_of(lambda: two.execute("delete from account where id = 1"))
        victim, winner = (two, one) if second == 1213 else (one, two)
        if second != 1213:
            two.execute("rollback")
        waiting.result(timeout=30)
    winner.execute("rollback")
    victim.execute("commit")
    assert bank.execute("select sum(balance) from account").fetchone() == (ACCOUNTS * START,)


def test_nowait_and_skip_locked(connect: Connect, bank: Any) -> None:
    other = connect()
    bank.execute("begin")
    bank.execute("select * from account where id in (1, 2) for update")
    assert code_of(lambda: other.execute("select * from account where id = 1 for update nowait")) == 3572
    assert code_of(lambda: other.execute("select * from account where id = 3 for update nowait")) == 0
    rows = other.execute("select id from account where id < 5 order by id for update skip locked").fetchall()
    assert [r[0] for r in rows] == [0, 3, 4]
    bank.execute("commit")
    rows = other.execute("select id from account where id < 3 order by id for update skip locked").fetchall()
    assert [r[0] for r in rows] == [0, 1, 2]


def test_lock_wait_timeout(connect: Connect, bank: Any) -> None:
    other = connect()
    other.execute("set innodb_lock_wait_timeout = 1")
    bank.execute("begin")
    bank.execute("update account set balance = 0 where id = 1")
    started = time.monotonic()
    assert code_of(lambda: other.execute("update account set balance = 1 where id = 1")) == 1205
    assert 0.8 < time.monotonic() - started < 5
    bank.execute("rollback")
    assert code_of(lambda: other.execute("update account set balance = 1 where id = 1")) == 0


def test_a_waiter_goes_on_when_the_holder_ends(connect: Connect, bank: Any) -> None:
    other = connect()
    bank.execute("begin")
    bank.execute("update account set balance = 50 where id = 1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: other.execute("update account set balance = balance + 1 where id = 1"))
        time.sleep(0.2)
        assert not waiting.done()
        bank.execute("commit")
        waiting.result(timeout=10)
    assert bank.execute("select balance from account where id = 1").fetchone() == (51,)


def test_interrupt_ends_a_wait(connect: Connect, bank: Any) -> None:
    other = connect()
    bank.execute("begin")
    bank.execute("update account set balance = 50 where id = 1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(code_of, lambda: other.execute("update account set balance = 1 where id = 1"))
        time.sleep(0.2)
        other.interrupt()
        assert waiting.result(timeout=10) == 1317
    bank.execute("rollback")
    assert other.execute("select balance from account where id = 1").fetchone() == (START,)


def test_optimistic_conflict_is_found_at_commit(connect: Connect, bank: Any) -> None:
    one, two = connect(), connect()
    for con in (one, two):
        con.execute("begin optimistic")
        con.execute("update account set balance = balance + 5 where id = 1")
    one.execute("commit")
    assert code_of(lambda: two.execute("commit")) == 9007
    assert bank.execute("select balance from account where id = 1").fetchone() == (START + 5,)


def test_readers_keep_their_snapshot_while_writers_go_on(connect: Connect, bank: Any) -> None:
    reader = connect()
    reader.execute("start transaction")
    before = reader.execute("select id, balance from account order by id").fetchall()

    def work(i: int) -> None:
        mine = connect()
        for n in range(20):
            mine.execute("update account set balance = ? where id = ?", (n, i))
            mine.execute("insert into account values (?, 0)", (1000 + i * 100 + n,))

    run_threads(4, work)
    assert reader.execute("select id, balance from account order by id").fetchall() == before
    assert reader.execute("select count(*), sum(balance) from account").fetchone() == (ACCOUNTS, ACCOUNTS * START)
    assert reader.execute("select count(*) from account where balance = ?", (START,)).fetchone() == (ACCOUNTS,)
    reader.execute("commit")
    assert reader.execute("select count(*) from account").fetchone() == (ACCOUNTS + 80,)


def test_create_index_while_others_write(connect: Connect, con: Any) -> None:
    con.execute("create table busy (id int primary key, v int)")
    con.executemany("insert into busy values (?, ?)", [(i, i % 7) for i in range(500)])
    stop = threading.Event()
    refused: list[int] = []

    def write(i: int) -> None:
        mine = connect()
        rng = random.Random(i)
        while not stop.is_set():
            k = rng.randrange(1000)
            sql, values = rng.choice(
                [
                    ("replace into busy values (?, ?)", (k, k % 5)),
                    ("delete from busy where id = ?", (k,)),
                    ("update busy set v = v + 1 where id = ?", (k,)),
                ]
            )
            code = code_of(mine.execute, sql, values)
            if code not in (0, 8028):
                refused.append(code)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    try:
        con.execute("create index iv on busy (v)")
        time.sleep(0.1)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not refused
    con.execute("admin check table busy")
    for v in range(5):
        by_index = con.execute("select count(*) from busy use index (iv) where v = ?", (v,)).fetchone()
        assert by_index == con.execute("select count(*) from busy ignore index (iv) where v = ?", (v,)).fetchone()
