"""Locks, waits, deadlocks, visibility and the rest of the embedded store's promises."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore import errors
from kvstore.client.api import CancelToken
from kvstore.client.embedded import EmbeddedStore
from kvstore.engine.directory import FORMAT_VERSION
from kvstore.mvcc.packed import unpack
from tests.kv.stores import ManualClock, open_test_store


@pytest.fixture(params=["memory", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = open_test_store(None if request.param == "memory" else str(tmp_path / "db"))
    yield opened
    opened.close()


def put(store: EmbeddedStore, **pairs: bytes) -> int:
    txn = store.begin()
    for key, value in pairs.items():
        txn.put(key.encode(), value)
    return txn.commit()


def lock(txn: object, *keys: bytes, wait_ms: int = 0, **options: bool) -> list[bytes]:
    ts = txn._store.now_ts()  # type: ignore[attr-defined]
    return txn.lock_keys(list(keys), for_update_ts=ts, wait_ms=wait_ms, **options)  # type: ignore[attr-defined, no-any-return]


def wait_until_waiting(store: EmbeddedStore, count: int) -> None:
    while len(store.lock_table._waiting) < count:
        threading.Event().wait(0.001)


def test_nowait_timeout_and_skip_locked(store: EmbeddedStore) -> None:
    first, second = store.begin(), store.begin()
    lock(first, b"a")
    with pytest.raises(errors.LockNowait):
        lock(second, b"b", b"a")
    assert lock(second, b"b", b"a", b"c", skip_locked=True) == [b"b", b"c"]
    with pytest.raises(errors.LockWaitTimeout):
        lock(second, b"a", wait_ms=5)
    first.rollback()
    assert lock(second, b"a") == [b"a"]
    second.rollback()
    assert not store.lock_table.owners


def test_locks_bring_the_newest_values(store: EmbeddedStore) -> None:
    txn = store.begin()
    assert txn.get(b"a") is None
    put(store, a=b"1", b=b"1")
    txn.put(b"b", b"own")
    assert txn.lock_and_get([b"c", b"b", b"a"], wait_ms=0) == {b"b": b"own", b"a": b"1"}
    assert set(store.lock_table.owners) == {b"a", b"b", b"c"}
    with pytest.raises(errors.LockNowait):
        store.begin().lock_and_get([b"a"], wait_ms=0)
    stale = store.now_ts()
    txn.rollback()
    put(store, a=b"2")
    with pytest.raises(errors.WriteConflict):
        store.begin().lock_and_get([b"a"], for_update_ts=stale, wait_ms=0)
    optimistic = store.begin(pessimistic=False)
    assert optimistic.lock_and_get([b"a"], wait_ms=0) == {b"a": b"2"}
    assert not store.lock_table.owners
    put(store, a=b"3")
    optimistic.put(b"z", b"1")
    with pytest.raises(errors.WriteConflict):
        optimistic.commit()


def test_failed_lock_call_keeps_nothing(store: EmbeddedStore) -> None:
    holder, txn, third = store.begin(), store.begin(), store.begin()
    lock(holder, b"z")
    with pytest.raises(errors.LockNowait):
        lock(txn, b"a", b"z")
    lock(third, b"a")
    stale = store.now_ts()
    holder.rollback()
    put(store, z=b"new")
    with pytest.raises(errors.WriteConflict):
        txn.lock_keys([b"y", b"z"], for_update_ts=stale, wait_ms=0)
    assert set(store.lock_table.owners) == {b"a"}
    third.rollback()


def test_waiter_gets_the_lock_in_order_and_reads_the_new_value(store: EmbeddedStore) -> None:
    put(store, n=b"0")
    first = store.begin()
    lock(first, b"n")
    first.put(b"n", b"1")
    seen: list[bytes | None] = []

    def waiter() -> None:
        txn = store.begin()
        while True:
            ts = store.now_ts()
            try:
                txn.lock_keys([b"n"], for_update_ts=ts, wait_ms=10_000)
                break
            except errors.WriteConflict:
                continue
        seen.append(txn.at(ts).get(b"n"))
        txn.put(b"n", b"%d" % (int(seen[-1] or b"0") + 1))
        txn.commit()

    threads = [threading.Thread(target=waiter) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until_waiting(store, 4)
    first.commit()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [b"1", b"2", b"3", b"4"]  # type: ignore[type-var]
    assert store.get_latest(b"n") == b"5"


def test_deadlock_names_the_victim(store: EmbeddedStore) -> None:
    first, second = store.begin(), store.begin()
    lock(first, b"a")
    lock(second, b"b")
    thread = threading.Thread(target=lambda: lock(first, b"b", wait_ms=10_000))
    thread.start()
    wait_until_waiting(store, 1)
    with pytest.raises(errors.Deadlock) as deadlock:
        lock(second, b"a", wait_ms=10_000)
    assert deadlock.value.start_ts == second.start_ts
    assert deadlock.value.wait_chain == (
        (second.start_ts, first.start_ts, b"a"),
        (first.start_ts, second.start_ts, b"b"),
    )
    second.rollback()
    thread.join()
    assert store.lock_table.owners[b"b"] is first.owner
    first.rollback()


def test_cancel_wakes_a_waiter(store: EmbeddedStore) -> None:
    holder, txn = store.begin(), store.begin()
    lock(holder, b"a")
    txn.cancel = CancelToken()
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            lock(txn, b"a", wait_ms=60_000)
        except errors.Cancelled as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until_waiting(store, 1)
    txn.cancel.set()
    thread.join()
    assert len(caught) == 1


def test_commit_waits_for_a_pessimistic_lock_and_then_conflicts(store: EmbeddedStore) -> None:
    optimistic = store.begin(pessimistic=False)
    holder = store.begin()
    lock(holder, b"k")
    holder.put(b"k", b"held")
    optimistic.put(b"k", b"late")
    outcome: list[BaseException] = []

    def commit() -> None:
        try:
            optimistic.commit()
        except errors.WriteConflict as error:
            outcome.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    wait_until_waiting(store, 1)
    holder.commit()
    thread.join()
    assert len(outcome) == 1
    assert store.get_latest(b"k") == b"held"


def test_optimistic_lock_only_keys_conflict(store: EmbeddedStore) -> None:
    first, second = store.begin(pessimistic=False), store.begin(pessimistic=False)
    for txn, key in ((first, b"x"), (second, b"y")):
        lock(txn, b"shared")
        txn.put(key, b"1")
    first.commit()
    with pytest.raises(errors.WriteConflict):
        second.commit()


def test_insert_then_delete_still_checks_and_writes_nothing(store: EmbeddedStore) -> None:
    put(store, k=b"live")
    txn = store.begin()
    txn.insert(b"k", b"mine")
    txn.delete(b"k")
    with pytest.raises(errors.KeyExists):
        txn.commit()
    assert store.get_latest(b"k") == b"live"


def test_rejected_commit_leaves_nothing(store: EmbeddedStore) -> None:
    txn = store.begin()
    txn.put(b"k", b"v")

    def refuse(commit_ts: int) -> None:
        raise errors.CommitRejected("schema changed")

    with pytest.raises(errors.CommitRejected):
        txn.commit(refuse)
    assert store.get_latest(b"k") is None
    assert not store.committing
    assert not store.lock_table.owners
    with pytest.raises(errors.TxnNotFound):
        txn.commit()


def test_read_only_past_reads_and_too_old(store: EmbeddedStore) -> None:
    before = put(store, k=b"1")
    put(store, k=b"2")
    past = store.begin(start_ts=before)
    assert past.get(b"k") == b"1"
    with pytest.raises(errors.ReadOnlyTxn):
        past.put(b"k", b"3")
    counts = store.gc(store.now_ts())
    assert counts["safe_point"] <= before
    assert past.get(b"k") == b"1"
    past.rollback()
    assert store.gc(store.now_ts())["removed"] == 1
    with pytest.raises(errors.SnapshotTooOld):
        store.begin(start_ts=before)
    with pytest.raises(errors.SnapshotTooOld):
        store.snapshot(before).get(b"k")
    with pytest.raises(errors.SnapshotTooOld):
        list(store.snapshot(before).scan(b"", b""))


def test_dropped_transaction_frees_locks(store: EmbeddedStore) -> None:
    txn = store.begin()
    lock(txn, b"a")
    del txn
    gc.collect()
    assert not store.lock_table.owners
    assert not store.active


def test_txn_too_large(tmp_path: Path) -> None:
    store = open_test_store(None, txn_bytes_max=100)
    txn = store.begin()
    txn.put(b"a", b"x" * 101)
    with pytest.raises(errors.TxnTooLarge):
        txn.put(b"b", b"")
    with pytest.raises(errors.TxnTooLarge):
        txn.commit()
    store.close()


def test_observers_hear_commits_in_order_before_they_show(store: EmbeddedStore) -> None:
    heard: list[tuple[int, list[tuple[bytes, bytes | None]]]] = []

    class Observer:
        def on_commit(self, commit_ts: int, writes: object, patches: object) -> None:
            heard.append((commit_ts, list(writes)))  # type: ignore[call-overload]

        def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
            heard.append((commit_ts, [(start, end)]))

    store.observe(Observer())
    threads = [threading.Thread(target=lambda: [put(store, k=b"v") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    order = [ts for ts, _ in heard]
    assert order == sorted(order)
    assert len(order) == 80


def test_observers_hear_which_parts_of_a_value_were_patched(store: EmbeddedStore) -> None:
    heard: list[dict[bytes, frozenset[int]]] = []

    class Observer:
        def on_commit(self, commit_ts: int, writes: object, patches: dict[bytes, frozenset[int]]) -> None:
            heard.append(dict(patches))

        def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
            """Not called here."""

    put(store, a=b"1", b=b"1", c=b"1", d=b"1")
    store.observe(Observer())
    one, two = frozenset({1}), frozenset({2})
    txn = store.begin()
    txn.patch(b"a", b"2", one)
    txn.patch(b"a", b"3", two)
    txn.patch(b"b", b"2", one)
    txn.put(b"b", b"3")
    txn.put(b"c", b"2")
    txn.patch(b"c", b"3", one)
    txn.patch(b"d", b"2", one)
    mark = txn.mark()
    txn.patch(b"d", b"3", two)
    txn.patch(b"e", b"3", two)
    txn.delete(b"a")
    txn.undo_to(mark)
    txn.commit()
    put(store, a=b"4")
    assert heard == [{b"a": one | two, b"d": one}, {}]
    assert [store.get_latest(key) for key in (b"a", b"b", b"c", b"d", b"e")] == [b"4", b"3", b"3", b"2", None]


def test_bulk_load(store: EmbeddedStore) -> None:
    put(store, b=b"old", z=b"outside")
    load = store.ingest(b"a", b"m")
    during = store.snapshot()
    writer = store.begin()
    writer.put(b"c", b"x")
    writer.lock_wait_ms = 5
    with pytest.raises(errors.LockWaitTimeout):
        writer.commit()
    load.add_run([b"a1", b"a3"], [b"1", b"L" * 1000])
    load.add_run([b"a2", b"c"], [b"2", b"3"])
    assert store.get_latest(b"a1") is None
    load.finish()
    rows = [(b"a1", b"1"), (b"a2", b"2"), (b"a3", b"L" * 1000), (b"b", b"old"), (b"c", b"3"), (b"z", b"outside")]
    for reader, want in ((store.snapshot(), rows), (during, [rows[3], rows[5]])):
        assert list(reader.scan(b"", b"")) == want
        assert list(reader.scan(b"", b"", reverse=True)) == want[::-1]
        assert [pair for batch in reader.scan_packed(b"", b"") for pair in unpack(batch)] == want
        assert reader.get(b"c") == dict(want).get(b"c")
    late = store.begin()
    late.put(b"c", b"4")
    late.commit()
    assert store.get_latest(b"c") == b"4"


@pytest.mark.parametrize("runs", [[[b"b"]], [[b"a", b"c"], [b"b1", b"c"]], [[b"a", b"a"]]])
def test_bulk_load_refuses_duplicates(store: EmbeddedStore, runs: list[list[bytes]]) -> None:
    put(store, b=b"live")
    load = store.ingest(b"a", b"m")

    def run_load() -> None:
        for run in runs:
            load.add_run(run, [b"x"] * len(run))
        load.finish()

    with pytest.raises(errors.KeyExists):
        run_load()
    load.abort()
    assert list(store.snapshot().scan(b"", b"")) == [(b"b", b"live")]
    put(store, c=b"1")


def test_optimistic_writer_from_before_a_bulk_load_conflicts(store: EmbeddedStore) -> None:
    load = store.ingest(b"a", b"m")
    load.add_run([b"c"], [b"1"])
    writer = store.begin(pessimistic=False)
    assert writer.get(b"c") is None
    writer.put(b"c", b"2")
    load.finish()
    with pytest.raises(errors.WriteConflict):
        writer.commit()


def test_backup_opens(store: EmbeddedStore, tmp_path: Path) -> None:
    put(store, k=b"v" * 5000)
    target = str(tmp_path / "copy")
    store.backup(target)
    copy = open_test_store(target)
    assert copy.get_latest(b"k") == b"v" * 5000
    assert copy.now_ts() > 0
    copy.close()
    with pytest.raises(errors.StoreError):
        store.backup(target)


def test_bank_total_is_constant_in_every_snapshot(store: EmbeddedStore) -> None:
    accounts = [b"account-%02d" % i for i in range(8)]
    opening = store.begin()
    for account in accounts:
        opening.put(account, b"100")
    opening.commit()
    done = threading.Event()
    problems: list[object] = []

    def transfer(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            a, b = rng.sample(accounts, 2)
            txn = store.begin(pessimistic=seed % 2 == 0)
            try:
                ts = txn.start_ts
                if txn.pessimistic:
                    ts = store.now_ts()
                    txn.lock_keys([a, b], for_update_ts=ts, wait_ms=5000)
                reader = txn.at(ts)
                amount = rng.randrange(10)
                txn.put(a, b"%d" % (int(reader.get(a) or b"0") - amount))
                txn.put(b, b"%d" % (int(reader.get(b) or b"0") + amount))
                txn.commit()
            except (errors.WriteConflict, errors.Deadlock):
                txn.rollback()

    def audit() -> None:
        while not done.is_set():
            reader = store.snapshot()
            by_scan = sum(int(value) for _, value in reader.scan(b"account", b"b"))
            by_get = sum(int(reader.get(account) or b"0") for account in accounts)
            if (by_scan, by_get) != (800, 800):
                problems.append((reader.ts, by_scan, by_get))

    writers = [threading.Thread(target=transfer, args=(seed,)) for seed in range(4)]
    auditor = threading.Thread(target=audit)
    for thread in (*writers, auditor):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    auditor.join()
    assert not problems
    assert not store.lock_table.owners
    assert not store.committing


def test_oracle_never_goes_back(tmp_path: Path) -> None:
    clock = ManualClock()
    rng = random.Random(7)
    last = 0
    for _ in range(5):
        store = open_test_store(str(tmp_path / "db"), clock)
        for _ in range(200):
            clock.now_ms += rng.choice([0, 0, 1, 5000, -100_000])
            ts = store.now_ts()
            assert ts > last
            last = ts
        if rng.random() < 0.5:
            store.close()
        else:
            store.engine.close()  # as a crash would: the window is not given back
    assert open_and_read_ts(tmp_path, clock) > last


def open_and_read_ts(tmp_path: Path, clock: ManualClock) -> int:
    store = open_test_store(str(tmp_path / "db"), clock)
    ts = store.now_ts()
    store.close()
    return ts


def test_second_owner_foreign_directory_and_newer_format(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    store = open_test_store(path)
    with pytest.raises(errors.DirectoryInUse):
        open_test_store(path)
    store.close()
    store.close()
    with pytest.raises(errors.StoreClosed):
        store.begin()
    with pytest.raises(errors.StoreClosed):
        store.get_latest(b"k")
    identity = tmp_path / "db" / "sqlfront.json"
    identity.write_text(identity.read_text().replace(f'"format": {FORMAT_VERSION}', '"format": 99'))
    with pytest.raises(errors.FormatTooNew):
        open_test_store(path)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(errors.NotOurDirectory):
        open_test_store(str(foreign))
    assert [entry.name for entry in foreign.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("pessimistic", [False, True])
@pytest.mark.parametrize("writes", [False, True])
def test_a_witnessed_key_conflicts_with_an_optimistic_write(
    store: EmbeddedStore, pessimistic: bool, writes: bool
) -> None:
    put(store, parent=b"1")
    removal = store.begin(pessimistic=False)
    removal.delete(b"parent")
    witness = store.begin(pessimistic=pessimistic)
    if pessimistic:
        lock(witness, b"parent")
    witness.witness([b"parent"])
    if writes:
        witness.put(b"child", b"1")
    assert witness.commit() > removal.start_ts
    with pytest.raises(errors.WriteConflict):
        removal.commit()
    assert store.snapshot().get(b"parent") == b"1"
    assert store.begin(pessimistic=False).get(b"parent") == b"1"


def test_witnesses_do_not_meet_but_see_changes(store: EmbeddedStore) -> None:
    put(store, parent=b"1")
    first, second, third = (store.begin(pessimistic=False) for _ in range(3))
    waiting_ts = store.now_ts()
    for number, txn in enumerate((first, second)):
        txn.witness([b"parent"])
        txn.put(b"child%d" % number, b"")
        txn.commit()
    locker = store.begin()
    locker.lock_keys([b"parent"], for_update_ts=waiting_ts, wait_ms=0)  # nothing has changed since
    locker.rollback()
    put(store, parent=b"2")
    third.witness([b"parent"])
    third.put(b"child2", b"")
    with pytest.raises(errors.WriteConflict):
        third.commit()
    locker = store.begin()
    with pytest.raises(errors.WriteConflict):
        locker.lock_keys([b"parent"], for_update_ts=waiting_ts, wait_ms=0)
    locker.rollback()
    store.gc(store.now_ts())
    assert store.snapshot().get(b"parent") == b"2"
