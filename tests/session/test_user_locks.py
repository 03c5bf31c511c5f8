"""GET_LOCK and its relatives: two sessions of one server, and of two."""

from __future__ import annotations

import threading
import time

from sqlfront.session import Session
from tests.session.statements import Connect, error_code, rows, run, value
from tests.session.test_interrupt import _later


def test_a_session_takes_several_locks_and_each_often(a: Session, b: Session) -> None:
    assert rows(a, "select get_lock('One', 0), get_lock('one', 10), get_lock('two', -1)") == [(1, 1, 1)]
    asked = "select is_free_lock('ONE'), is_used_lock('one'), is_free_lock('three'), is_used_lock('three')"
    assert rows(b, asked) == rows(a, asked) == [(0, a.id, 1, None)]
    assert rows(b, "select get_lock('one', 0), release_lock('one'), release_lock('three')") == [(0, 0, None)]
    assert [value(a, "select release_lock('one')") for _ in range(3)] == [1, 1, None]
    assert rows(b, "select get_lock('one', 0.5), get_lock('two', 0.05)") == [(1, 0)]
    assert rows(a, "select release_all_locks(), release_all_locks()") == [(1, 0)]
    assert value(b, "select get_lock('two', 1e300)") == 1
    b.close()
    assert rows(a, "select get_lock('one', 0), get_lock('one', null), get_lock('two', 0)") == [(1, 1, 1)]
    assert value(a, "select release_all_locks()") == 3


def test_locks_are_not_the_transactions(a: Session, b: Session) -> None:
    run(a, "begin", "do get_lock('l', 0)", "rollback")
    assert value(b, "select get_lock('l', 0)") == 0
    # in DuckDB too
    assert rows(b, "select get_lock('m', 0) + count(*) from t group by v % 1") == [(4,)]
    assert value(a, "select is_used_lock('m')") == b.id


def test_names_have_1_to_64_characters(a: Session) -> None:
    for call in ("get_lock({}, 0)", "release_lock({})", "is_free_lock({})", "is_used_lock({})"):
        for name in ("''", "null", "repeat('x', 65)"):
            assert error_code(a, "select " + call.format(name)) == 3057


def test_a_lock_is_waited_for(a: Session, b: Session) -> None:
    run(a, "do get_lock('l', 0)")
    thread = _later(lambda: a.execute("do release_lock('l')"))
    assert value(b, "select get_lock('l', 20)") == 1
    thread.join()


def test_who_waits_can_be_stopped(a: Session, b: Session, connect: Connect) -> None:
    run(a, "do get_lock('l', 0)")
    begun = time.monotonic()
    thread = _later(b.interrupt)
    assert error_code(b, "select get_lock('l', -1)") == 1317
    thread.join()
    run(b, "set max_execution_time = 100")
    assert error_code(b, "select get_lock('l', 60)") == 3024
    run(b, "set max_execution_time = 0")
    c = connect()
    thread = _later(lambda: c.execute(f"kill {a.id}"))
    assert value(b, "select get_lock('l', 60)") == 1
    thread.join()
    assert time.monotonic() - begun < 20


def test_a_circle_of_waiting_sessions(a: Session, b: Session) -> None:
    run(a, "do get_lock('one', 0)")
    run(b, "do get_lock('two', 0)")
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(value(a, "select get_lock('two', 20)")))
    thread.start()
    while not a.user_locks.holder.waits_for:
        time.sleep(0.001)
    assert error_code(b, "select get_lock('one', 20)") == 3058
    run(b, "do release_lock('two')")
    thread.join()
    assert found == [1]
