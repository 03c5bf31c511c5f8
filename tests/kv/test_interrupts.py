"""What signal handlers raise in the main thread, at any moment, wedges nobody and leaves a clear outcome."""

from __future__ import annotations

import gc
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from kvstore import errors
from kvstore.client.embedded import EmbeddedStore
from kvstore.client.group_commit import GroupCommit, Place, carried_on
from tests.kv.stores import open_test_store


class Switch:
    """Raises KeyboardInterrupt in the main thread, once each time it is on."""

    def __init__(self) -> None:
        self.on = False
        self.raised = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.on:
            self.on = False
            self.raised += 1
            raise KeyboardInterrupt


@contextmanager
def interruptions(seed: int, at_most_s: float) -> Iterator[Switch]:
    switch = Switch()
    over = threading.Event()
    rng = random.Random(seed)

    def disturb() -> None:
        while not over.wait(rng.uniform(0, at_most_s)):
            if switch.on:
                signal.raise_signal(signal.SIGINT)

    previous = signal.signal(signal.SIGINT, switch.handle)
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield switch
    finally:
        switch.on = False
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, previous)


def write_until(store: EmbeddedStore, over: threading.Event, writer: int) -> None:
    number = 0
    while not over.is_set():
        number += 1
        txn = store.begin(pessimistic=False)
        txn.put(b"other/%d/%d" % (writer, number), b"v")
        if number % 4 == 0:
            txn.put(b"hot", b"%d" % number)
        try:
            txn.commit()
        except errors.WriteConflict:
            continue


def interrupted_commit(store: EmbeddedStore, switch: Switch, number: int) -> bool | None:
    """One transaction under fire: whether it is committed, None when it never began."""
    txn = None
    try:
        switch.on = True
        txn = store.begin()
        txn.lock_keys([b"hot"], for_update_ts=store.now_ts(), wait_ms=10_000)
        txn.insert(b"mine/%d" % number, b"v" * (number % 400))
        txn.put(b"hot", b"mine")
        txn.commit()
        switch.on = False
    except KeyboardInterrupt:
        return None if txn is None else txn.commit_ts != 0
    except errors.WriteConflict:
        switch.on = False
        return False
    return True


# what is raised in a finalizer can only be told by a warning
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["memory", "rocksdb", "unsynced"])
def test_interrupted_commits_wedge_nobody(kind: str, tmp_path: Path) -> None:
    store = open_test_store(None if kind == "memory" else str(tmp_path / "db"))
    if kind == "unsynced":
        store.synchronous = False
    over = threading.Event()
    others = [threading.Thread(target=write_until, args=(store, over, i)) for i in range(2)]
    outcomes: dict[int, bool | None] = {}
    for thread in others:
        thread.start()
    try:
        with interruptions(5, 0.0008) as switch:
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                outcomes[len(outcomes)] = interrupted_commit(store, switch, len(outcomes))
    finally:
        over.set()
        for thread in others:
            thread.join(20)
    assert not any(thread.is_alive() for thread in others)
    assert switch.raised > 20
    for number, committed in outcomes.items():
        assert (store.get_latest(b"mine/%d" % number) is not None) == bool(committed), (number, committed)
    gc.collect()
    store.adopt_orphans()
    assert not store.committing
    assert not store.lock_table.owners
    assert not store.lock_table._queues
    assert not store.active
    store.close()


class Numbered(Place):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def test_an_interrupted_leader_finishes_its_group() -> None:
    finished: list[int] = []
    moments = iter([True, True, False])

    def write(group: list[Numbered]) -> None:
        if next(moments, False):
            raise KeyboardInterrupt

    group: GroupCommit[Numbered] = GroupCommit(write, lambda p: finished.append(p.number), lambda p, error: None)
    places = [Numbered(item) for item in range(3)]
    group._queue += places
    with pytest.raises(KeyboardInterrupt) as interrupted:
        group.carry(places[1])
    assert isinstance(carried_on(lambda: group.carry(places[1]), interrupted.value), KeyboardInterrupt)
    assert finished == [0, 1, 2]
    assert all(place.finished and place.error is None for place in places)
    late = Numbered(3)
    group.carry(late)
    assert finished == [0, 1, 2, 3]


def test_a_failed_sync_fails_the_whole_group_once() -> None:
    failed: list[int] = []
    broken = errors.StoreError("disk")

    def write(group: list[Numbered]) -> None:
        raise broken

    group: GroupCommit[Numbered] = GroupCommit(write, lambda p: None, lambda p, error: failed.append(p.number))
    places = [Numbered(item) for item in range(2)]
    group._queue += places
    for place in places:
        group.carry(place)
        assert place.error is broken
    assert failed == [0, 1]


def test_an_observer_that_raises_stops_the_store() -> None:
    store = open_test_store(None)

    class Broken:
        def on_commit(self, commit_ts: int, writes: object, patches: object) -> None:
            raise ValueError("bug")

        def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
            """Not called here."""

    store.observe(Broken())
    txn = store.begin()
    txn.put(b"k", b"v")
    txn.commit()
    late = store.begin()
    late.put(b"k", b"w")
    with pytest.raises(errors.StoreError, match="bug"):
        late.commit()
    assert not store.committing
    store.close()
