"""The change log: an entry for each commit that wrote followed tables, there exactly when the commit is."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvstore.client.api import Change
from kvstore.client.embedded import EmbeddedStore
from kvstore.engine.api import CF_CHANGES
from kvstore.errors import Corruption, KeyExists, WriteConflict
from tests.kv.stores import open_test_store

A, B, C = b"t" + b"a" * 8 + b"_r", b"t" + b"b" * 8 + b"_r", b"t" + b"c" * 8 + b"_r"
"""Prefixes of the record keys of three tables."""
Open = Callable[[], EmbeddedStore]


@pytest.fixture(params=["memory", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = open_test_store(None if request.param == "memory" else str(tmp_path / "db"))
    yield opened
    opened.close()


def commit(store: EmbeddedStore, *puts: bytes, deletes: tuple[bytes, ...] = ()) -> int:
    txn = store.begin()
    for key in puts:
        txn.put(key, b"v")
    for key in deletes:
        txn.delete(key)
    return txn.commit()


def read(store: EmbeddedStore, after_ts: int = 0) -> list[Change]:
    return list(store.changes.read(after_ts))


def test_nothing_is_logged_unless_it_is_followed(store: EmbeddedStore) -> None:
    commit(store, A + b"1")
    assert store.changes.followed == frozenset()
    assert read(store) == []


def test_the_followed_keys_of_a_commit_and_no_others(store: EmbeddedStore) -> None:
    store.changes.follow([A, B])
    ts = commit(store, A + b"1", C + b"1", B + b"2", A[:-1] + b"i1", b"m1")
    assert read(store) == [Change(ts, (A + b"1", B + b"2"), None)]


def test_a_commit_without_followed_keys_has_no_entry(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    ts = commit(store, B + b"1", b"m1")
    assert not store.changes.has(ts)
    assert read(store) == []


def test_deletes_are_logged_like_puts(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    first = commit(store, A + b"1")
    second = commit(store, A + b"2", deletes=(A + b"1",))
    assert [(c.commit_ts, sorted(c.keys)) for c in read(store)] == [(first, [A + b"1"]), (second, [A + b"1", A + b"2"])]


def test_reading_goes_on_behind_a_position(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    commits = [commit(store, A + b"%d" % i) for i in range(5)]
    for i, ts in enumerate(commits):
        assert [c.commit_ts for c in read(store, ts)] == commits[i + 1 :]
        assert [c.commit_ts for c in read(store, ts - 1)] == commits[i:]


def test_more_entries_than_are_read_at_once(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    for count in (256, 257, 700):
        while len(read(store)) < count:
            commit(store, A + b"1")
        found = [c.commit_ts for c in read(store)]
        assert len(found) == count
        assert found == sorted(set(found))


def test_keys_of_every_length(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    keys = [A, A + b"\x00", A + b"\xff" * 3000, A + bytes(range(256))]
    ts = commit(store, *keys)
    (change,) = read(store)
    assert change.commit_ts == ts
    assert sorted(change.keys) == sorted(keys)


def test_an_unfollowed_table_keeps_its_old_entries(store: EmbeddedStore) -> None:
    store.changes.follow([A, B])
    first = commit(store, A + b"1", B + b"1")
    store.changes.follow([B])
    assert store.changes.followed == {B}
    second = commit(store, A + b"2", B + b"2")
    commit(store, A + b"3")
    assert [(c.commit_ts, sorted(c.keys)) for c in read(store)] == [
        (first, [A + b"1", B + b"1"]),
        (second, [B + b"2"]),
    ]
    store.changes.follow([])
    commit(store, A + b"4", B + b"4")
    assert [c.commit_ts for c in read(store)] == [first, second]


@pytest.mark.parametrize("prefix", [b"", A[:-1], A + b"1"])
def test_a_prefix_is_that_of_one_table(store: EmbeddedStore, prefix: bytes) -> None:
    store.changes.follow([A])
    with pytest.raises(ValueError, match="11 bytes"):
        store.changes.follow([B, prefix])
    assert store.changes.followed == {A}


def test_every_kind_of_commit_is_logged(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    alone = store.write({A + b"1": b"v"}, {A + b"1"}, wait_ms=0)
    pessimistic = store.begin(pessimistic=True)
    pessimistic.lock_keys([A + b"2"], for_update_ts=store.now_ts(), wait_ms=0)
    pessimistic.put(A + b"2", b"v")
    second = pessimistic.commit()
    assert read(store) == [Change(alone, (A + b"1",), None), Change(second, (A + b"2",), None)]


def test_a_lock_is_no_change(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    txn = store.begin(pessimistic=True)
    txn.lock_keys([A + b"1"], for_update_ts=store.now_ts(), wait_ms=0)
    txn.put(B + b"1", b"v")
    txn.commit()
    assert read(store) == []


def test_what_does_not_commit_is_not_logged(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    first = commit(store, A + b"1")

    rolled_back = store.begin()
    rolled_back.put(A + b"2", b"v")
    rolled_back.rollback()

    duplicate = store.begin()
    duplicate.put(A + b"3", b"v")
    duplicate.insert(A + b"1", b"v")
    with pytest.raises(KeyExists):
        duplicate.commit()

    def refuse(commit_ts: int) -> None:
        raise RuntimeError("no")

    refused = store.begin()
    refused.put(A + b"4", b"v")
    with pytest.raises(RuntimeError):
        refused.commit(refuse)

    late = store.begin(pessimistic=False)
    late.put(A + b"1", b"w")
    second = commit(store, A + b"1")
    with pytest.raises(WriteConflict):
        late.commit()
    assert [c.commit_ts for c in read(store)] == [first, second]


def test_undone_writes_are_not_logged(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    txn = store.begin()
    txn.put(A + b"1", b"v")
    mark = txn.mark()
    txn.put(A + b"2", b"v")
    txn.undo_to(mark)
    ts = txn.commit()
    assert read(store) == [Change(ts, (A + b"1",), None)]


def test_a_load_is_logged_as_its_range(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    ingest = store.ingest(A, A + b"\xff")
    ingest.add_run([A + b"1", A + b"2"], [b"v", b"v"])
    assert read(store) == []
    ingest.finish()
    loads = [c for c in read(store) if c.loaded is not None]
    assert loads
    assert all(c.loaded == (A, A + b"\xff") and c.keys == () for c in loads)
    assert loads[0].commit_ts >= ingest.commit_ts


def test_an_aborted_load_is_not_logged(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    ingest = store.ingest(A, A + b"\xff")
    ingest.add_run([A + b"1"], [b"v"])
    ingest.abort()
    assert read(store) == []


@pytest.mark.parametrize(
    ("start", "end", "logged"),
    [
        (A, A + b"\xff", True),
        (A[:-2], A[:-2] + b"\xff", True),
        (A + b"5", A + b"6", True),
        (b"", b"", True),
        (b"a", A + b"\x01", True),
        (b"a", A, False),
        (A + b"5", b"", True),
        (B, B + b"\xff", False),
        (B, b"", False),
        (b"a", b"b", False),
    ],
)
def test_a_load_of_other_ranges_is_not_logged(store: EmbeddedStore, start: bytes, end: bytes, logged: bool) -> None:
    store.changes.follow([A])
    ts = store.now_ts()
    store.changes.note_load(ts, start, end)
    assert read(store) == ([Change(ts, (), (start, end))] if logged else [])
    assert store.changes.has(ts) == logged


def test_marks_are_positions_without_keys(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    first = commit(store, A + b"1")
    marked = store.now_ts()
    store.now_ts()
    assert not store.changes.has(marked)
    store.changes.mark(marked)
    store.now_ts()
    second = commit(store, A + b"2")
    assert read(store) == [
        Change(first, (A + b"1",), None), Change(marked, (), None), Change(second, (A + b"2",), None)
    ]  # fmt: skip
    assert [store.changes.has(ts) for ts in (first, marked, second)] == [True] * 3
    assert not any(store.changes.has(ts) for ts in (first - 1, marked + 1, second + 1))


def test_trim_forgets_what_is_below(store: EmbeddedStore) -> None:
    store.changes.follow([A])
    commits = [commit(store, A + b"%d" % i) for i in range(6)]
    store.changes.trim(commits[3])
    assert [c.commit_ts for c in read(store)] == commits[3:]
    assert [store.changes.has(ts) for ts in commits] == [False] * 3 + [True] * 3
    store.changes.trim(commits[1])
    assert [c.commit_ts for c in read(store)] == commits[3:]
    store.changes.trim(commits[5] + 1)
    assert read(store) == []
    last = commit(store, A + b"9")
    assert [c.commit_ts for c in read(store)] == [last]


def test_writers_at_once_leave_their_entries_in_order(store: EmbeddedStore) -> None:
    store.changes.follow([A, B])
    made: dict[int, set[bytes]] = {}

    def write(n: int) -> None:
        rng = random.Random(n)
        for i in range(40):
            keys = [rng.choice((A, B, C)) + b"%d-%d-%d" % (n, i, k) for k in range(rng.randint(1, 3))]
            made[commit(store, *keys)] = {key for key in keys if key[:11] in (A, B)}

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(c.commit_ts, set(c.keys)) for c in read(store)] == sorted((ts, k) for ts, k in made.items() if k)


def test_follow_holds_for_commits_that_begin_after_it(store: EmbeddedStore) -> None:
    """Writers go on while the followed tables change: whoever drew a timestamp after `follow` is there."""
    stop = threading.Event()
    made: list[int] = []

    def write() -> None:
        while not stop.is_set():
            made.append(commit(store, A + b"1"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            before = len(made)
            store.changes.follow([A])
            since = store.now_ts()
            while len(made) < before + 5:
                assert writer.is_alive()
            until = store.now_ts()
            store.wait_until(until)
            logged = {c.commit_ts for c in read(store, since) if c.commit_ts <= until}
            assert {ts for ts in list(made) if since < ts <= until} <= logged
            store.changes.follow([])
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("synchronous", [True, False])
def test_log_and_followed_tables_hold_over_a_reopening(tmp_path: Path, synchronous: bool) -> None:
    path = str(tmp_path / "db")
    store = open_test_store(path, synchronous=synchronous)
    store.changes.follow([B, A])
    first = commit(store, A + b"1")
    marked = store.now_ts()
    store.changes.mark(marked)
    store.changes.note_load(loaded := store.now_ts(), A, B)
    store.close()

    store = open_test_store(path, synchronous=synchronous)
    assert store.changes.followed == {A, B}
    assert read(store) == [Change(first, (A + b"1",), None), Change(marked, (), None), Change(loaded, (), (A, B))]
    second = commit(store, B + b"1")
    assert [c.commit_ts for c in read(store, loaded)] == [second]
    store.changes.trim(second)
    store.changes.follow([A])
    store.close()

    store = open_test_store(path, synchronous=synchronous)
    assert store.changes.followed == {A}
    assert [c.commit_ts for c in read(store)] == [second]
    assert not store.changes.has(first)
    store.changes.follow([])
    store.close()

    store = open_test_store(path, synchronous=synchronous)
    assert store.changes.followed == frozenset()
    store.close()


def test_an_entry_is_there_exactly_when_its_commit_is(tmp_path: Path) -> None:
    """Of a log that was torn anywhere, as by a crash, commits and their entries are left together."""
    path = tmp_path / "db"
    store = open_test_store(str(path))
    store.changes.follow([A])
    commits = {commit(store, A + b"%02d" % i): A + b"%02d" % i for i in range(20)}
    shutil.copytree(path, tmp_path / "copy")
    store.close()
    log = max((tmp_path / "copy" / "log").iterdir())
    whole = log.read_bytes()
    end = len(whole.rstrip(b"\0"))
    rng = random.Random(1)
    left: set[int] = set()
    for n, cut in enumerate([end, *(rng.randrange(end // 4, end) for _ in range(12))]):
        torn = tmp_path / f"torn{n}"
        shutil.copytree(tmp_path / "copy", torn)
        (torn / "log" / log.name).write_bytes(whole[:cut].ljust(len(whole), b"\0"))
        again = open_test_store(str(torn))
        try:
            there = [key for key, _ in again.snapshot().scan(A, A + b"\xff")]
            entries = read(again)
            assert [c.keys for c in entries] == [(key,) for key in there]
            assert {c.commit_ts: c.keys[0] for c in entries}.items() <= commits.items()
            left.add(len(there))
        finally:
            again.close()
    assert len(left) > 3
    assert max(left) == 20


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"X",
        b"K\x05\x00\x00\x00abc",
        b"R",
        b"R\x01\x00\x00\x00a",
        b"R\x01\x00\x00\x00a\x01\x00\x00\x00b\x01\x00\x00\x00c",
        b"K\xff\xff\xff\xff",
    ],
)
def test_a_damaged_entry_is_corruption(store: EmbeddedStore, value: bytes) -> None:
    store.changes.follow([A])
    commit(store, A + b"1")
    ts = store.now_ts()
    batch = store.engine.batch()
    batch.put(ts.to_bytes(8, "big"), value, store.engine.handle(CF_CHANGES))
    store.engine.write(batch)
    changes = store.changes.read(0)
    assert next(changes).keys == (A + b"1",)
    with pytest.raises(Corruption, match="change log"):
        next(changes)
    assert store.changes.has(ts)
