"""Commits that wait for the disk together are written together: each has its own outcome all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvstore import errors
from kvstore.client import commit as commit_module
from kvstore.client.embedded import EmbeddedStore
from tests.kv.stores import open_test_store

WAIT_S = 20


class HeldDisk:
    """The first sync after `hold` waits for `release`; what is committed meanwhile is one group."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self._sync = store.engine.sync
        self._held = threading.Event()
        self._go_on = threading.Event()
        self._threads: list[threading.Thread] = []
        self.outcomes: dict[str, BaseException | int] = {}

    def hold(self) -> None:
        def sync() -> None:
            self.store.engine.sync = self._sync  # type: ignore[method-assign]
            self._held.set()
            assert self._go_on.wait(WAIT_S)
            self._sync()

        self.store.engine.sync = sync  # type: ignore[method-assign]
        self.commit("first", b"first")
        assert self._held.wait(WAIT_S)

    def commit(self, name: str, key: bytes, value: bytes = b"v", check: Callable[[int], None] | None = None) -> None:
        """Commits one key in a thread of its own, and waits until that has queued."""
        txn = self.store.begin(pessimistic=False)
        txn.put(key, value)

        def run() -> None:
            try:
                self.outcomes[name] = txn.commit(check)
            except BaseException as error:  # noqa: BLE001 - looked at by the test
                self.outcomes[name] = error

        queue = self.store.committer._group._queue
        queued = len(queue) + self._held.is_set()
        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)
        until = time.monotonic() + WAIT_S
        while len(queue) < queued:
            assert thread.is_alive(), self.outcomes
            assert time.monotonic() < until
            time.sleep(0.001)

    def release(self) -> None:
        self._go_on.set()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = open_test_store(str(tmp_path / "db"))
    store.now_ts()  # the oracle writes its window with the first timestamp
    yield store
    store.close()


def reject(commit_ts: int) -> None:
    raise errors.CommitRejected("the schema has changed")


def test_one_that_is_rejected_leaves_the_others(store: EmbeddedStore) -> None:
    disk = HeldDisk(store)
    disk.hold()
    before = store.engine.write_seq
    disk.commit("a", b"a")
    disk.commit("rejected", b"r", check=reject)
    disk.commit("b", b"b")
    assert store.engine.write_seq == before, "what waits is not written yet"
    disk.release()
    assert store.engine.write_seq == before + 1, "one batch for all of them"
    assert isinstance(disk.outcomes["rejected"], errors.CommitRejected)
    assert store.get_latest(b"r") is None
    a, b = disk.outcomes["a"], disk.outcomes["b"]
    assert isinstance(a, int)
    assert isinstance(b, int)
    assert a < b
    assert (store.snapshot(a).get(b"b"), store.snapshot(b).get(b"b")) == (None, b"v")
    assert not store.committing
    assert not store.lock_table.owners


def test_all_rejected_is_no_write(store: EmbeddedStore) -> None:
    before = store.engine.write_seq
    txn = store.begin()
    txn.put(b"k", b"v")
    with pytest.raises(errors.CommitRejected):
        txn.commit(reject)
    assert store.engine.write_seq == before
    txn = store.begin()
    txn.put(b"k", b"w")
    txn.commit()
    assert store.get_latest(b"k") == b"w"


def test_large_ones_have_batches_of_their_own(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "GROUP_BYTES_MAX", 1000)
    disk = HeldDisk(store)
    disk.hold()
    before = store.engine.write_seq
    for name in "abcdef":
        disk.commit(name, name.encode(), name.encode() * 600)
    disk.release()
    assert store.engine.write_seq == before + 3
    assert all(store.get_latest(name.encode()) == name.encode() * 600 for name in "abcdef")


def test_a_failed_write_is_all_of_theirs(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = HeldDisk(store)
    disk.hold()
    for name in "ab":
        disk.commit(name, name.encode())
    disk.commit("rejected", b"r", check=reject)

    def full(batch: object) -> None:
        raise errors.DiskFull("no room")

    monkeypatch.setattr(store.engine, "write", full)
    disk.release()
    assert isinstance(disk.outcomes["first"], int)
    assert all(isinstance(disk.outcomes[name], errors.DiskFull) for name in "ab")
    assert isinstance(disk.outcomes["rejected"], errors.CommitRejected)
    late = store.begin()
    late.put(b"c", b"v")
    with pytest.raises(errors.StoreError, match="stopped"):
        late.commit()
    assert not store.committing
    assert not store.lock_table.owners
