"""Statements stopped from outside, and sessions killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from sqlfront.errors import Error
from sqlfront.plan import in_order
from sqlfront.session import Session
from tests.session.statements import error_code, rows, run, value

LONG_JOIN = "select count(*) from n w, n x, n y, n z where w.id + x.id + y.id < z.id"
LONG_CTE = "with recursive c (i) as (select 1 union all select i + 1 from c where i < 100000000) select max(i) from c"


@pytest.fixture
def busy(a: Session) -> Session:
    run(a, "create table n (id int primary key)")
    a.execute_many("insert into n values (?)", [(i,) for i in range(3000)])
    return a


def _later(action: Callable[[], object], seconds: float = 0.2) -> threading.Thread:
    def wait() -> None:
        time.sleep(seconds)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_interrupt_stops_a_query(busy: Session) -> None:
    thread = _later(busy.interrupt)
    begun = time.monotonic()
    assert error_code(busy, LONG_JOIN) == 1317
    assert time.monotonic() - begun < 10
    thread.join()
    assert value(busy, "select count(*) from n") == 3000


@pytest.mark.parametrize("lock", ["", " for update"])
def test_interrupt_stops_rows_in_an_order(busy: Session, monkeypatch: pytest.MonkeyPatch, lock: str) -> None:
    monkeypatch.setattr(in_order, "cost_of_all", lambda access: 1e9)
    thread = _later(busy.interrupt)
    assert error_code(busy, f"select id from n where sleep(0.001) = 2 order by id limit 1{lock}") == 1317
    thread.join()


def test_interrupt_keeps_the_transaction(busy: Session) -> None:
    run(busy, "begin", "update t set v = 11 where id = 1")
    thread = _later(busy.interrupt)
    assert error_code(busy, LONG_JOIN) == 1317
    thread.join()
    assert busy.in_transaction
    run(busy, "commit")
    assert value(busy, "select v from t where id = 1") == 11


def test_an_interrupted_change_leaves_nothing(busy: Session) -> None:
    thread = _later(busy.interrupt)
    code = error_code(busy, f"insert into n select 5000 + x.id from n x where x.id < ({LONG_JOIN})")
    thread.join()
    assert code == 1317
    assert value(busy, "select count(*) from n") == 3000


def test_interrupting_nothing_does_not_hurt_the_next_statement(a: Session) -> None:
    a.interrupt()
    assert rows(a, "select v from t where id = 1") == [(10,)]
    run(a, "update t set v = 11 where id = 1")


def test_kill_query(busy: Session, b: Session) -> None:
    thread = _later(lambda: b.execute(f"kill query {busy.id}"))
    assert error_code(busy, LONG_JOIN) == 1317
    thread.join()
    assert value(busy, "select 1") == 1


def test_kill_connection(a: Session, b: Session) -> None:
    run(a, "begin", "update t set v = 11 where id = 1")
    run(b, f"kill {a.id}")
    assert error_code(a, "select 1") == 1317
    a.close()
    assert value(b, "select v from t where id = 1") == 10
    run(b, "update t set v = 12 where id = 1")


def test_kill_of_nobody(a: Session) -> None:
    assert error_code(a, "kill 987654") == 1094


def test_sleep_is_interrupted(a: Session) -> None:
    thread = _later(a.interrupt)
    begun = time.monotonic()
    assert value(a, "select sleep(60)") == 1
    assert time.monotonic() - begun < 10
    thread.join()
    assert value(a, "select sleep(0.01)") == 0


@pytest.mark.parametrize("query", [LONG_JOIN, LONG_CTE])
def test_max_execution_time(busy: Session, query: str) -> None:
    run(busy, "set cte_max_recursion_depth = 4294967295", "set max_execution_time = 100")
    begun = time.monotonic()
    assert error_code(busy, query) == 3024
    assert time.monotonic() - begun < 10
    run(busy, "set max_execution_time = 0")
    assert value(busy, "select count(*) from n") == 3000
    thread = _later(busy.interrupt, 0.4)
    assert error_code(busy, query) == 1317
    thread.join()


def test_max_execution_time_of_a_hint(busy: Session) -> None:
    hinted = LONG_JOIN.replace("select", "select /*+ max_execution_time(100) */", 1)
    assert error_code(busy, hinted) == 3024
    run(busy, "set max_execution_time = 1000")
    assert value(busy, "select /*+ MAX_EXECUTION_TIME(0) */ sleep(1.5)") == 0
    # the hint of a subquery is not the statement's, and only queries are limited
    assert value(busy, "select * from (select /*+ max_execution_time(100000) */ sleep(60)) s") == 1
    run(busy, "update t set v = v + sleep(1.5) where id = 1", "set max_execution_time = 0")
    assert value(busy, "select v from t where id = 1") == 10


def test_the_time_of_a_query_that_is_over_stops_nothing(busy: Session) -> None:
    run(busy, "set max_execution_time = 3000")
    assert value(busy, "select count(*) from n") == 3000
    result = busy.execute("select id from n")
    next(result.fetch())
    result.close()
    run(busy, "set max_execution_time = 0")
    thread = _later(busy.interrupt, 3.5)
    assert error_code(busy, LONG_JOIN) == 1317
    thread.join()


def test_a_result_left_open_interrupts_no_other_statement(busy: Session) -> None:
    run(busy, "set max_execution_time = 2000")
    left_open = busy.execute("select x.id from n x, n y where x.id + y.id > 5")
    batches = left_open.fetch()
    next(batches)
    run(busy, "set max_execution_time = 0")
    assert value(busy, "select sleep(2.1)") == 0
    with pytest.raises(Error) as raised:
        for _ in batches:
            pass
    assert raised.value.code == 3024
    left_open.close()
    assert value(busy, "select count(*) from n") == 3000
