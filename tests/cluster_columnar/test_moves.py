"""Replicas stay right while regions split, leaders move, stores come and go, and others write."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import sqlfront
from coprocessor.columnar import held, of_store
from coprocessor.serving import ThreadWorkers
from kvstore.codec import encode_bytes
from kvstore.errors import PdError
from kvstore.proto import pdraft_pb2 as pdraft
from tests.cluster_columnar.worlds import answered, by_both, wait_ready
from tests.cluster_sql.world import World

CHECKS = [
    "SELECT COUNT(*), SUM(n), SUM(id), MIN(s), MAX(s) FROM t",
    "SELECT n % 7, COUNT(*), SUM(id) FROM t GROUP BY 1 ORDER BY 1",
    "SELECT id, n, s FROM t WHERE id BETWEEN 100 AND 160 ORDER BY id",
    "SELECT * FROM t ORDER BY n DESC, id LIMIT 20",
]


def check(cursor: Any) -> None:
    for sql in CHECKS:
        columnar, rows = by_both(cursor, sql)
        assert columnar == rows, sql


def record_key(world: World, handle: int) -> bytes:
    (table,) = (t for t in world.first.catalog.schema.table_by_id.values() if t.name == "t" and t.db == "test")
    return table.codec.record_key(handle)


def split(world: World, rng: random.Random) -> None:
    storage: Any = world.first.storage
    key = encode_bytes(record_key(world, rng.randrange(500)))
    storage.run(storage.cluster.pd.split_regions([key]))


def move_leader(world: World, rng: random.Random) -> None:
    """Orders the lead of a region of the table to another voter; it may be refused."""
    storage: Any = world.first.storage
    pd = storage.cluster.pd
    key = encode_bytes(record_key(world, rng.randrange(500)))
    region, leader = storage.run(pd.get_region(key))
    others = [p for p in region.peers if p.role == 0 and (leader is None or p.id != leader.id)]
    if not others:
        return
    order = pdraft.PdAddOperatorRequest(region_id=region.id)
    order.transfer_leader.store_id = rng.choice(others).store_id
    with suppress(PdError):  # another operator works on it
        storage.run(pd._call("AddOperator", order))


def write(cursor: Any, rng: random.Random) -> None:
    """One random statement that writes."""
    low = rng.randrange(500)
    match rng.randrange(5):
        case 0:
            rows = ", ".join(f"({i}, {rng.randrange(50)}, '{'xyz'[i % 3] * 20}')" for i in range(low, low + 40))
            cursor.execute(f"REPLACE INTO t VALUES {rows}")
        case 1:
            cursor.execute(f"DELETE FROM t WHERE id BETWEEN {low} AND {low + rng.randrange(60)}")
        case 2:
            cursor.execute(f"UPDATE t SET n = n + 1 WHERE id % {rng.randrange(2, 9)} = 0")
        case 3:
            cursor.execute(f"UPDATE t SET id = id + 500 WHERE id BETWEEN {low} AND {low + 3} AND id < 500")
        case _:
            cursor.execute(f"INSERT IGNORE INTO t VALUES ({low}, 1, ''), ({low + 1}, 2, 'q ')")


def make(world: World, replicas: int = 1) -> Any:
    cursor = world.connect().cursor()
    cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT, s VARCHAR(100))")
    cursor.execute("INSERT INTO t VALUES " + ", ".join(f"({i}, {i % 50}, 'row {i}')" for i in range(500)))
    cursor.execute(f"ALTER TABLE t SET TIFLASH REPLICA {replicas}")
    wait_ready(cursor, "t")
    return cursor


@pytest.mark.parametrize("seed", range(2))
def test_random_writes_with_splits_and_leader_moves(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(of_store, "PENDING_LAID_MAX", rng.choice([0, 20, 1000]))
    monkeypatch.setattr(held, "CHANGED_MAX", rng.choice([50, 1_000_000]))
    world = World(columnar=1 + seed % 2, seed=seed + 1)
    try:
        cursor = make(world)
        old = world.connect(autocommit=False)
        past: list[Any] = []
        acts: list[Callable[[World, random.Random], None]] = [split, move_leader]
        for step in range(25):
            write(cursor, rng)
            if step % 3 == 0:
                rng.choice(acts)(world, rng)
            if step % 5 == 0:
                old.rollback()
                reader = old.cursor()
                reader.execute(CHECKS[0])
                past = reader.fetchall()
            check(cursor)
            columnar, rows = by_both(reader, CHECKS[0])
            assert columnar == rows == past, step
        assert answered(world) > 50
    finally:
        world.close()


def test_a_sum_stands_while_others_write() -> None:
    """Transfers between rows, by several sessions, some over regions: no read sees half of one."""
    world = World(columnar=1, make_workers=lambda: ThreadWorkers(2))
    try:
        cursor = make(world)
        cursor.execute("SELECT SUM(n) FROM t")
        total = cursor.fetchall()
        split(world, random.Random(1))
        stopped = threading.Event()
        failures: list[BaseException] = []

        def transfer(seed: int) -> None:
            rng = random.Random(seed)
            connection = world.connect(autocommit=False)
            writing = connection.cursor()
            while not stopped.is_set():
                a, b, amount = rng.randrange(500), rng.randrange(500), rng.randrange(9)
                try:
                    writing.execute(f"UPDATE t SET n = n - {amount} WHERE id = {a}")
                    writing.execute(f"UPDATE t SET n = n + {amount} WHERE id = {b}")
                    connection.commit()
                except sqlfront.Error as error:
                    if error.code != 1213:  # two that wait for each other
                        failures.append(error)
                        return
                    connection.rollback()

        writers = [threading.Thread(target=transfer, args=(seed,)) for seed in range(3)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(60):
                columnar, rows = by_both(cursor, "SELECT SUM(n) FROM t")
                assert columnar == rows == total
        finally:
            stopped.set()
            for writer in writers:
                writer.join()
        assert not failures
        assert answered(world) > 30
    finally:
        world.close()


def test_a_restarted_store_reads_its_rows_again() -> None:
    world = World(columnar=1)
    try:
        cursor = make(world)
        check(cursor)
        cluster = world.cluster
        world.loop.run(cluster.stop_store(4))
        cursor.execute("UPDATE t SET n = n + 1000 WHERE id < 100")
        check(cursor)  # by the rows
        world.loop.run(cluster.start_columnar(4))
        wait_ready(cursor, "t")
        check(cursor)
        until = time.monotonic() + 20
        while not world.replicas[-1].answered:
            assert time.monotonic() < until
            check(cursor)
    finally:
        world.close()


def test_two_copies_outlive_a_store() -> None:
    world = World(columnar=2)
    try:
        cursor = make(world, replicas=2)
        check(cursor)
        world.loop.run(world.cluster.stop_store(4))
        cursor.execute("DELETE FROM t WHERE id % 3 = 0")
        before = answered(world)
        check(cursor)
        assert answered(world) > before
    finally:
        world.close()


def test_a_lock_in_the_way_is_settled() -> None:
    world = World(columnar=1)
    try:
        cursor = make(world)
        check(cursor)
        writing = world.connect(autocommit=False)
        changing = writing.cursor()
        changing.execute("UPDATE t SET n = 5000 WHERE id < 20")
        check(cursor)  # pessimistic locks hide nothing
        writing.commit()
        columnar, rows = by_both(cursor, "SELECT COUNT(*) FROM t WHERE n = 5000")
        assert columnar == rows == [(20,)]
    finally:
        world.close()


def test_a_bulk_load_is_seen() -> None:
    world = World(columnar=1)
    try:
        cursor = make(world)
        check(cursor)
        storage: Any = world.first.storage
        start, end = record_key(world, 10_000), record_key(world, 20_000)
        # the same values as another row's, under new keys
        value = storage.snapshot().get(record_key(world, 1))
        load = storage.load(start, end)
        load.add_run([record_key(world, i) for i in range(10_000, 10_300)], [value] * 300)
        load.finish()
        columnar, rows = by_both(cursor, "SELECT COUNT(*), SUM(id) FROM t")
        assert columnar == rows
        assert columnar[0][0] == 800
    finally:
        world.close()
