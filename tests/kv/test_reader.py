"""Locks as a reader sees them: those of its own state, also where very many were deleted, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.engine.api import CF_LOCK, Engine
from kvstore.engine.memory import MemoryEngine
from kvstore.engine.rocks import RocksEngine
from kvstore.mvcc.keys import data_key
from kvstore.mvcc.reader import MvccReader
from kvstore.mvcc.record import Lock, LockType

KEY = b"account"


@pytest.fixture(params=["memory", "rocksdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened: Engine = MemoryEngine() if request.param == "memory" else RocksEngine(str(tmp_path / "db"))
    yield opened
    opened.close()


def lock(engine: Engine, key: bytes, start_ts: int) -> None:
    batch = engine.batch()
    batch.put(data_key(key), Lock(LockType.PUT, key, start_ts, 3000, short_value=b"v").encode(), engine.handle(CF_LOCK))
    engine.write(batch)


def unlock(engine: Engine, key: bytes) -> None:
    batch = engine.batch()
    batch.delete(data_key(key), engine.handle(CF_LOCK))
    engine.write(batch)


def start_ts_of(reader: MvccReader, key: bytes) -> int | None:
    found = reader.load_lock(key)
    return None if found is None else found.start_ts


def test_a_lock_is_that_of_the_readers_state(engine: Engine) -> None:
    with MvccReader(engine) as before:
        lock(engine, KEY, 10)
        with MvccReader(engine) as during:
            assert start_ts_of(before, KEY) is None
            unlock(engine, KEY)
            assert start_ts_of(during, KEY) == 10
            lock(engine, KEY, 20)
            assert start_ts_of(during, KEY) == 10
            assert start_ts_of(during.refresh(), KEY) == 20
        assert start_ts_of(before, KEY) is None


def test_a_write_that_is_only_just_begun_is_not_looked_at(engine: Engine) -> None:
    """As when it can be seen already and is not counted yet."""
    lock(engine, KEY, 10)
    with MvccReader(engine) as reader:
        counted = engine.write_seq
        unlock(engine, KEY)
        engine.write_seq = counted
        assert start_ts_of(reader, KEY) == 10


def test_deleted_locks_are_not_gone_through(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        lock(engine, b"k%03d" % number, 10)
        unlock(engine, b"k%03d" % number)
    lock(engine, b"k050", 30)

    def sought(*_: object) -> None:
        raise AssertionError("the locks behind the key were gone through")

    with MvccReader(engine) as reader:
        monkeypatch.setattr(MvccReader, "_at", sought)
        assert start_ts_of(reader, b"k000") is None
        assert start_ts_of(reader, b"k050") == 30
        unlock(engine, b"k050")
        assert start_ts_of(reader.refresh(), b"k050") is None
