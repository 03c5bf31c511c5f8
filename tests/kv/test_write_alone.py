"""Writes that are a transaction of their own: an inserted key is refused exactly when it has a live value."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from kvstore.client.embedded import EmbeddedStore
from kvstore.codec import encode_int
from kvstore.errors import KeyExists
from tests.kv.stores import open_test_store

WAIT_MS = 5000


def record_key(table: int, handle: int) -> bytes:
    return b"t" + encode_int(table) + b"_r" + encode_int(handle)


def insert(store: EmbeddedStore, key: bytes, value: bytes) -> bool:
    try:
        store.write({key: value}, (key,), wait_ms=WAIT_MS)
    except KeyExists:
        return False
    return True


def insert_in_transaction(store: EmbeddedStore, key: bytes, value: bytes) -> bool:
    txn = store.begin(pessimistic=False)
    txn.insert(key, value)
    try:
        txn.commit()
    except KeyExists:
        return False
    return True


def load(store: EmbeddedStore, keys: list[bytes]) -> bool:
    ingest = store.ingest(keys[0], keys[-1] + b"\0")
    ingest.add_run(keys, [b"loaded"] * len(keys))
    try:
        ingest.finish()
    except KeyExists:
        return False
    return True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_inserts_against_a_model(tmp_path: Path, kind: str, seed: int) -> None:
    rng = random.Random(seed)
    store = open_test_store(None if kind == "memory" else str(tmp_path / "db"))
    model: dict[bytes, bytes] = {}
    top = 10
    for step in range(600):
        table = rng.choice([7, 8, 9])
        handle = top if rng.random() < 0.5 else rng.randrange(top + 20)
        key, value = record_key(table, handle), b"%d" % step
        action = rng.random()
        if action < 0.7:
            how = insert if action < 0.5 else insert_in_transaction
            assert how(store, key, value) == (key not in model), step
            model.setdefault(key, value)
        elif action < 0.8:
            store.write({key: None}, (), wait_ms=WAIT_MS)
            model.pop(key, None)
        elif action < 0.9:
            store.write({key: value}, (), wait_ms=WAIT_MS)
            model[key] = value
        elif action < 0.95:
            keys = [record_key(table, handle + i) for i in range(3)]
            assert load(store, keys) == (not any(k in model for k in keys)), step
            if not any(k in model for k in keys):
                model |= dict.fromkeys(keys, b"loaded")
        else:
            store.gc(store.now_ts())
        top += rng.random() < 0.5
    assert dict(store.snapshot().scan(b"", b"")) == model
    assert store.committer.lasts
    store.close()


def test_threads_that_append_the_same_keys(tmp_path: Path) -> None:
    """Every key is inserted once, whoever is first, while all insert behind the table's last."""
    store = open_test_store(str(tmp_path / "db"))
    won: list[int] = []

    def append() -> None:
        won.extend(handle for handle in range(400) if insert(store, record_key(3, handle), b"x"))

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(400))
    store.close()
