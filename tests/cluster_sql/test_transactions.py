"""Transactions of several servers in each other's way."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import sqlfront
from kvstore.client.cluster.sender import RegionSender
from tests.cluster_sql.test_servers import Both, both, table_of

__all__ = ["both"]


def code_of(both: Both, server: int, sql: str) -> int:
    with pytest.raises(sqlfront.Error) as raised:
        both.run(server, sql)
    return raised.value.code


@pytest.fixture
def rows(both: Both) -> Both:
    both.run(0, "create table t (id int primary key, v int, u int unique)")
    both.run(0, "insert into t values (1, 10, 1), (2, 20, 2), (3, 30, 3)")
    return both


def test_a_deadlock_of_two_servers_ends_one_of_them(rows: Both) -> None:
    for server in (0, 1):
        rows.run(server, "begin")
        rows.run(server, "update t set v = v + 1 where id = ?", server + 1)
    outcomes: dict[int, Any] = {}

    def cross(server: int) -> None:
        try:
            outcomes[server] = rows.run(server, "update t set v = v + 1 where id = ?", 2 - server)
        except sqlfront.Error as exc:
            outcomes[server] = exc.code

    threads = [threading.Thread(target=cross, args=(server,)) for server in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    victims = [server for server in (0, 1) if outcomes[server] == 1213]
    assert len(victims) == 1
    rows.run(1 - victims[0], "commit")
    total = rows.run(victims[0], "select sum(v) from t")
    assert total == [(62,)]


def test_locks_are_waited_for_across_servers(rows: Both) -> None:
    rows.run(0, "begin")
    rows.run(0, "select * from t where id = 1 for update")
    assert code_of(rows, 1, "select * from t where id = 1 for update nowait") == 3572
    assert rows.run(1, "select id from t order by id for update skip locked") == [(2,), (3,)]
    rows.run(1, "set innodb_lock_wait_timeout = 1")
    assert code_of(rows, 1, "update t set v = 0 where id = 1") == 1205
    threading.Timer(0.3, lambda: rows.run(0, "rollback")).start()
    rows.run(1, "set innodb_lock_wait_timeout = 50")
    rows.run(1, "update t set v = 0 where id = 1")
    assert rows.run(0, "select v from t where id = 1") == [(0,)]


def test_the_second_of_two_optimistic_ones_is_refused(rows: Both) -> None:
    for server in (0, 1):
        rows.run(server, "begin optimistic")
        rows.run(server, "update t set v = v + 1 where id = 1")
    rows.run(1, "commit")
    assert code_of(rows, 0, "commit") == 9007
    assert rows.run(0, "select v from t where id = 1") == [(11,)]


def test_a_key_is_unique_across_servers(rows: Both) -> None:
    rows.run(0, "begin")
    rows.run(0, "insert into t values (4, 0, 4)")
    timer = threading.Timer(0.3, lambda: rows.run(0, "commit"))
    timer.start()
    assert code_of(rows, 1, "insert into t values (5, 0, 4)") == 1062
    timer.join()
    rows.run(0, "begin optimistic")
    rows.run(0, "insert into t values (6, 0, 5)")
    rows.run(1, "insert into t values (7, 0, 6)")
    rows.run(0, "update t set u = 6 where id = 6")
    assert code_of(rows, 0, "commit") == 9007
    rows.run(1, "delete from t where id = 7")
    assert rows.run(1, "select count(*) from t") == [(4,)]
    rows.run(0, "admin check table t")


def test_snapshots_do_not_see_half_of_a_commit(rows: Both) -> None:
    rows.run(0, "create table big (id int primary key, v int, pad varchar(200), index iv (v))")
    rows.run(0, "begin")
    for start in range(0, 3000, 500):
        values = ", ".join(f"({i}, {i % 7}, '{'p' * 150}')" for i in range(start, start + 500))
        rows.run(0, f"insert into big values {values}")
    seen: set[int] = set()
    stop = threading.Event()

    def look() -> None:
        other = rows.another(1)
        cursor = other.cursor()
        while not stop.is_set():
            cursor.execute("select count(*), (select count(*) from big use index (iv) where v >= 0) from big")
            (counts,) = cursor.fetchall()
            assert counts[0] == counts[1]
            seen.add(counts[0])
        other.close()

    thread = threading.Thread(target=look)
    thread.start()
    rows.run(0, "commit")
    stop.set()
    thread.join()
    assert seen <= {0, 3000}
    assert rows.run(1, "select count(*), sum(v) from big") == [(3000, sum(i % 7 for i in range(3000)))]
    rows.run(1, "admin check table big")


def test_a_transaction_over_its_limit_is_refused(rows: Both) -> None:
    storage = rows.servers[0].storage
    parts = storage.cluster.parts
    before = parts.options
    object.__setattr__(parts, "options", type(before)(txn_bytes_max=100_000))
    try:
        rows.run(0, "create table wide (id int primary key, v longtext)")
        rows.run(0, "begin")
        for i in range(9):
            rows.run(0, "insert into wide values (?, ?)", i, "x" * 10_000)
        assert code_of(rows, 0, f"insert into wide values (10, '{'x' * 20_000}')") == 8004
        rows.run(0, "rollback")
    finally:
        object.__setattr__(parts, "options", before)


def test_a_row_that_is_known_by_its_key_is_locked_and_read_in_one_call(
    rows: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = RegionSender.send

    records = table_of(rows, 0, "t").codec.record_prefix

    def noting(self: RegionSender, backoff: Any, command: Any, request: Any, *args: Any, **options: Any) -> Any:
        if records in request.SerializeToString():  # not what the servers write of themselves: statistics, leases
            sent.append(command.method.name)
        return send(self, backoff, command, request, *args, **options)

    monkeypatch.setattr(RegionSender, "send", noting)
    rows.run(0, "begin")
    for sql, calls in (
        ("update t set v = v + 1 where id = 1", ["KvPessimisticLock"]),
        ("delete from t where id in (2, 9) and v = 20", ["KvPessimisticLock"]),
        ("insert into t values (4, 40, 4)", ["KvPessimisticLock"]),
        ("select v from t where id = 3 for update", ["KvPessimisticLock"]),
        ("select v from t where id = 3 for update", ["KvBatchGet"]),
    ):
        sent.clear()
        rows.run(0, sql)
        assert sent == calls, sql
    # another server's commit since the transaction began: the first try is behind it
    sent.clear()
    rows.run(1, "insert into t values (5, 50, 5)")
    sent.clear()
    rows.run(0, "update t set v = v + 1 where id = 5")
    assert sent == ["KvPessimisticLock", "KVPessimisticRollback", "KvPessimisticLock"]
    assert code_of(rows, 0, "insert into t values (5, 0, 6)") == 1062
    rows.run(0, "commit")
    assert rows.run(1, "select id, v from t order by id") == [(1, 11), (3, 30), (4, 40), (5, 51)]


def test_named_locks_exclude_across_servers(both: Both) -> None:
    assert both.run(0, "select get_lock('l', 0), get_lock('l', 0)") == [(1, 1)]
    assert both.run(1, "select get_lock('l', 0), is_free_lock('l'), release_lock('l')") == [(0, 0, 0)]
    assert both.run(1, "select is_used_lock('l'), is_free_lock('m'), release_lock('m')") == [(0, 1, None)]
    timer = threading.Timer(0.3, lambda: both.run(0, "select release_all_locks()"))
    timer.start()
    assert both.run(1, "select get_lock('l', 30)") == [(1,)]
    timer.join()
    third = both.another(1)
    with third.cursor() as cursor:
        cursor.execute("select get_lock('m', 0), get_lock('l', 0)")
        assert cursor.fetchall() == [(1, 0)]
    assert both.run(0, "select get_lock('m', 0)") == [(0,)]
    third.close()
    assert both.run(0, "select get_lock('m', 20)") == [(1,)]
