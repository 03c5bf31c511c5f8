"""Ranges from blocks are those of the engine, at every timestamp, whatever is committed or loaded meanwhile."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

from kvstore.client import hot_ranges
from kvstore.client.embedded import EmbeddedStore
from kvstore.client.snapshot import Snapshot
from kvstore.codec import encode_int
from kvstore.errors import KeyExists, WriteConflict
from kvstore.mvcc.chunks import pairs_of
from tests.kv.stores import open_test_store

HANDLES = 700


def record_key(handle: int) -> bytes:
    return b"t" + encode_int(5) + b"_r" + encode_int(handle)


def check(snapshot: Snapshot, rng: random.Random) -> None:
    """One range of each direction and some points, read both ways."""
    low, high = sorted((rng.randrange(HANDLES), rng.randrange(HANDLES + 300)))
    start, end = record_key(low), record_key(high)
    expected = list(pairs_of(snapshot.scan_engine(start, end)))
    assert list(snapshot.scan(start, end)) == expected
    assert list(snapshot.scan(start, end, reverse=True)) == expected[::-1]
    there = dict(expected)
    for handle in range(low, min(high, low + 5)):
        assert snapshot.get(record_key(handle)) == there.get(record_key(handle))


def change(store: EmbeddedStore, rng: random.Random) -> None:
    txn = store.begin(pessimistic=False)
    for _ in range(rng.randrange(1, 5)):
        key = record_key(rng.randrange(HANDLES))
        if rng.random() < 0.3:
            txn.delete(key)
        else:
            txn.put(key, rng.randbytes(rng.choice([3, 20, 300])))
    try:
        txn.commit()
    except WriteConflict:
        txn.rollback()


def load(store: EmbeddedStore, rng: random.Random) -> None:
    """A bulk load of rows that may be there already."""
    start = rng.randrange(HANDLES)
    low, high = record_key(start), record_key(start + 40)
    ingest = store.ingest(low, high)
    try:
        ingest.add_run([record_key(start + i) for i in range(0, 40, 7)], [b"loaded"] * 6)
        check(store.snapshot(), rng)
        ingest.finish()
    except KeyExists:
        return


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_every_reader_sees_what_the_engine_has(tmp_path: Path, kind: str, seed: int) -> None:
    rng = random.Random(seed)
    store = open_test_store(None if kind == "memory" else str(tmp_path / "db"))
    kept: list[Snapshot] = []
    for _ in range(400):
        action = rng.random()
        if action < 0.5:
            change(store, rng)
        elif action < 0.52:
            load(store, rng)
        elif action < 0.54:
            start = rng.randrange(HANDLES)
            store.destroy_range(record_key(start), record_key(start + rng.randrange(60)))
            kept.clear()
        elif action < 0.7:
            kept = [*kept[-4:], store.snapshot()]
        check(rng.choice(kept) if kept and action > 0.9 else store.snapshot(), rng)
    assert store.hot_ranges._blocks
    store.close()


def test_readers_beside_writers(tmp_path: Path) -> None:
    store = open_test_store(str(tmp_path / "db"))
    over = threading.Event()
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            while not over.is_set():
                change(store, rng) if seed < 2 else check(store.snapshot(), rng)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)
            over.set()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    over.wait(3)
    over.set()
    for thread in threads:
        thread.join()
    assert not failed
    store.close()


def test_the_budget_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_ranges, "BLOCK_NBYTES_MAX", 60_000)
    store = open_test_store(None)
    store.hot_ranges._budget_bytes = 100_000
    for handle in range(HANDLES):
        store.write({record_key(handle): b"x" * 50}, (), wait_ms=1000)

    def read_all() -> int:
        return sum(
            len(list(store.snapshot().scan(record_key(at), record_key(at + 100)))) for at in range(0, HANDLES, 100)
        )

    assert [read_all() for _ in range(4)] == [HANDLES] * 4
    hot = store.hot_ranges
    assert 0 < hot.nbytes <= 100_000
    assert hot.nbytes == sum(block.nbytes for block in hot._blocks.values())
    prefix = next(iter(hot._blocks))
    grown = next(key for key in map(record_key, range(HANDLES)) if key.startswith(prefix))
    store.write({grown: b"x" * 60_000}, (), wait_ms=1000)
    assert prefix not in hot._blocks
    assert hot.nbytes == sum(block.nbytes for block in hot._blocks.values())
    fills = 0
    fill = hot._fill

    def counted(*args: Any) -> None:
        nonlocal fills
        fills += args[0] == prefix
        fill(*args)

    monkeypatch.setattr(hot, "_fill", counted)
    assert [read_all() for _ in range(3)] == [HANDLES] * 3
    assert not fills, "a block that is too large is not filled again and again"
    store.close()


def test_longer_keys_end_a_block_that_was_empty() -> None:
    """The bounds of a whole index are as long as record keys, its entries are not."""
    store = open_test_store(None)
    start, end = (b"t" + encode_int(5) + b"_i" + encode_int(index) for index in (3, 4))
    for _ in range(3):
        assert list(store.snapshot().scan(start, end)) == []
    entry = start + b"\x03" + encode_int(9) + encode_int(1)
    txn = store.begin(pessimistic=False)
    txn.put(entry, b"0")
    txn.commit()
    for _ in range(3):
        assert list(store.snapshot().scan(start, end)) == [(entry, b"0")]
    store.close()
