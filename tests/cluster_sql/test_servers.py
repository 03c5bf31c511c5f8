"""Two SQL servers of one cluster: what one changes the other sees, and what is shared is shared."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pyarrow as pa
import pytest

import sqlfront
from kvstore.client.api import LOGICAL_BITS
from sqlfront.catalog.model import State
from tests.cluster_sql.world import World


class Both:
    """A session on each of two servers."""

    def __init__(self, world: World, second: Any, database: str) -> None:
        self._world = world
        self.servers = (world.first, second)
        self.database = database
        self.connections = [self.another(server) for server in (0, 1)]

    def another(self, server: int) -> Any:
        """A further session."""
        return self._world.connect(self.servers[server], database=self.database)

    def run(self, server: int, sql: str, *params: object) -> list[tuple[Any, ...]]:
        cursor = self.connections[server].cursor()
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def both(world: World, second: Any, database: str) -> Any:
    made = Both(world, second, database)
    yield made
    for connection in made.connections:
        connection.close()


def table_of(both: Both, server: int, name: str) -> Any:
    connection = both.connections[server]
    return both.servers[server].catalog.schema.need_table(connection.database, name)


def test_what_one_creates_the_other_uses_at_once(both: Both) -> None:
    for number in range(5):
        both.run(number % 2, f"create table t{number} (id int primary key, v varchar(20))")
        both.run(1 - number % 2, f"insert into t{number} values (1, 'x')")
        assert both.run(number % 2, f"select v from t{number}") == [("x",)]
        both.run(1 - number % 2, f"drop table t{number}")
        with pytest.raises(sqlfront.ProgrammingError):
            both.run(number % 2, f"select v from t{number}")


def test_a_transaction_that_wrote_by_the_old_version_is_refused(both: Both) -> None:
    both.run(0, "create table t (id int primary key)")
    both.run(1, "begin")
    both.run(1, "insert into t values (1)")
    both.run(0, "alter table t add column v int not null default 7")
    with pytest.raises(sqlfront.Error) as raised:
        both.run(1, "commit")
    assert raised.value.code == 8028
    assert both.run(1, "select * from t") == []
    both.run(1, "insert into t (id) values (2)")
    assert both.run(0, "select * from t") == [(2, 7)]


def test_an_index_is_built_beside_writers_of_both(both: Both) -> None:
    both.run(0, "create table t (id int primary key, v int)")
    both.connections[0].append("t", [(i, i % 100) for i in range(3000)])
    stop = threading.Event()
    done = [0, 0]

    def write(server: int) -> None:
        connection = both.another(server)
        cursor = connection.cursor()
        while not stop.is_set():
            base = 10_000 * (server + 1) + done[server]
            cursor.execute("insert into t values (?, ?)", (base, base % 100))
            cursor.execute("update t set v = v + 1 where id = ?", (done[server] * 2 + server,))
            cursor.execute("delete from t where id = ?", (1500 + done[server] * 2 + server,))
            done[server] += 1
        connection.close()

    threads = [threading.Thread(target=write, args=(server,)) for server in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.2)
        both.run(1, "create index iv on t (v)")
        both.run(0, "create unique index uid on t (id, v)")
        time.sleep(0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert min(done) > 3
    for server in (0, 1):
        both.run(server, "admin check table t")
        table = table_of(both, server, "t")
        assert [index.state for index in table.indexes] == [State.PUBLIC] * 2
    by_index = both.run(0, "select count(*), sum(id) from t use index (iv) where v >= 0")
    assert by_index == both.run(1, "select count(*), sum(id) from t ignore index (iv, uid)")


def test_a_unique_index_over_duplicates_is_undone(both: Both) -> None:
    both.run(0, "create table t (id int primary key, v int)")
    both.run(0, "insert into t values (1, 5), (2, 6), (3, 5)")
    with pytest.raises(sqlfront.IntegrityError) as raised:
        both.run(1, "create unique index u on t (v)")
    assert raised.value.code == 1062
    assert table_of(both, 0, "t").building == ()
    both.run(0, "insert into t values (4, 5)")
    both.run(1, "admin check table t")


def test_a_dropped_index_is_left_by_readers_first(both: Both) -> None:
    both.run(0, "create table t (id int primary key, v int, index iv (v))")
    both.run(0, "insert into t values (1, 1)")
    before = both.servers[1].catalog.schema.version
    both.run(0, "drop index iv on t")
    assert both.servers[1].catalog.schema.version >= before + 2
    assert table_of(both, 1, "t").indexes == ()
    both.run(1, "insert into t values (2, 2)")
    both.run(0, "admin check table t")


def test_rows_are_rewritten_while_writers_wait(both: Both) -> None:
    both.run(0, "create table t (id int primary key, v varchar(10))")
    both.run(0, "insert into t values (1, '1'), (2, '22')")
    both.run(1, "alter table t modify column v int")
    both.run(0, "insert into t values (3, 33)")
    assert both.run(1, "select * from t order by id") == [(1, 1), (2, 22), (3, 33)]
    both.run(0, "insert into t values (4, 44)")
    with pytest.raises(sqlfront.Error):
        both.run(1, "alter table t modify column v tinyint unsigned not null default 'x'")
    both.run(1, "insert into t values (5, 55)")
    both.run(0, "admin check table t")


def test_auto_increments_of_two_servers_do_not_meet(both: Both) -> None:
    both.run(0, "create table t (id bigint primary key auto_increment, s int)")
    for number in range(20):
        both.run(number % 2, "insert into t (s) values (?)", number % 2)
    rows = both.run(0, "select id, s from t")
    assert len({row[0] for row in rows}) == 20


def test_loads_of_an_empty_table_appear_whole(both: Both) -> None:
    both.run(0, "create table t (id int primary key, v varchar(30), index iv (v))")
    rows = pa.table({"id": range(5000), "v": [f"v{i % 17}" for i in range(5000)]})
    assert both.connections[1].append("t", rows) == 5000
    assert both.run(0, "select count(*) from t where v = 'v3'") == [(294,)]
    more = pa.table({"id": range(5000, 8000), "v": ["w"] * 3000})
    assert both.connections[0].append("t", more) == 3000
    with pytest.raises(sqlfront.IntegrityError):
        both.connections[0].append("t", pa.table({"id": range(7999, 10000), "v": ["x"] * 2001}))
    assert both.run(1, "select count(*), count(distinct v) from t") == [(8000, 18)]
    both.run(1, "admin check table t")


def test_a_load_into_an_emptied_table_leaves_the_counters_above_its_ids(both: Both) -> None:
    both.run(0, "create table t (id int primary key auto_increment, v int)")
    both.run(0, "insert into t (v) values (1)")
    both.run(0, "delete from t")
    assert both.connections[0].append("t", pa.table({"v": range(9000)})) == 9000
    both.run(1, "insert into t (v) values (-1)")
    assert both.run(0, "select id > (select max(id) from t where v >= 0) from t where v = -1") == [(1,)]


def test_global_variables_are_those_of_all_servers(both: Both) -> None:
    both.run(0, "set global innodb_lock_wait_timeout = 17")
    until = time.monotonic() + 5
    while both.run(1, "select @@global.innodb_lock_wait_timeout") != [(17,)]:
        assert time.monotonic() < until
        time.sleep(0.05)
    both.run(1, "set global innodb_lock_wait_timeout = default")


def test_row_counts_are_added_up(both: Both) -> None:
    both.run(0, "create table t (id int primary key)")
    for number in range(6):
        both.run(number % 2, "insert into t values (?)", number)
    for server in both.servers:
        server.statistics.flush()
    for index, server in enumerate(both.servers):
        server.statistics.reload()
        assert server.statistics.rows(table_of(both, index, "t")) == 6


def test_garbage_collection_stays_below_readers_of_other_servers(both: Both) -> None:
    both.run(0, "create table t (id int primary key, v int)")
    both.run(0, "insert into t values (1, 1)")
    both.run(1, "begin")
    assert both.run(1, "select v from t") == [(1,)]
    started = both.connections[1]._session.txn.start_ts  # type: ignore[union-attr]
    both.servers[1].catalog.lease._renew(both.servers[1].catalog.lease._record.version)
    both.run(0, "update t set v = 2")
    both.run(0, "drop table t")
    found = both.servers[0]._gc.collect(both.servers[0].storage.now_ts())
    assert found["safe_point"] <= started
    assert both.servers[0].catalog.pending_ranges()
    both.run(1, "commit")
    gc.collect()  # readers that earlier tests have left in cycles
    both.servers[1].catalog.lease._renew(both.servers[1].catalog.lease._record.version)
    now = both.servers[0].storage.now_ts()
    found = both.servers[0]._gc.collect(now)
    assert found["safe_point"] >> LOGICAL_BITS >= (started >> LOGICAL_BITS)
    assert found["dropped_ranges"] >= 1


def test_a_server_that_lost_touch_refuses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlfront.catalog.lease.FENCE_WAIT_S", 0.5)
    server = world.server()
    lost = world.connect(server)
    lost.cursor().execute("create table if not exists lost_touch (id int primary key)")
    lease = server.catalog.lease
    lease._look = lambda: None  # type: ignore[method-assign]
    with lease._round:  # none that began before renews it now
        lease._deadline = 0.0
    with pytest.raises(sqlfront.Error) as raised:
        lost.cursor().execute("select * from lost_touch")
    assert raised.value.code == 8027
    del lease.__dict__["_look"]
    lost.cursor().execute("select * from lost_touch")
    lost.close()


def test_followers_and_the_past_can_be_read(both: Both) -> None:
    both.run(0, "create table t (id int primary key, v int)")
    both.run(0, "insert into t values (1, 1), (2, 2)")
    for copies in ("follower", "leader-and-follower", "leader"):
        both.run(1, f"set tidb_replica_read = '{copies}'")
        both.run(0, "update t set v = v + 1")
        expected = both.run(0, "select id, v from t order by id")
        for _ in range(3):
            assert both.run(1, "select id, v from t order by id") == expected
            assert both.run(1, "select v from t where id = 1") == [expected[0][1:]]
            assert both.run(1, "select sum(v) from t") == [(expected[0][1] + expected[1][1],)]
    before = both.run(0, "select sum(v) from t")
    ts = both.servers[0].storage.now_ts()
    time.sleep(4.1)
    both.run(0, "update t set v = 0")
    both.run(1, "set tidb_read_staleness = -4")
    assert both.run(1, "select sum(v) from t where v > 0") == before
    assert both.run(1, "select v from t where id = 1") != [(0,)]
    both.run(1, "set tidb_read_staleness = 0")
    assert both.run(1, "select v from t where id = 1") == [(0,)]
    both.run(0, "create index iv on t (v)")
    assert both.run(1, f"select sum(v) from t as of timestamp {ts} where v > 0") == before
