"""The engine's failpoints: what a disk that refuses does to the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore import failpoint
from kvstore.engine.api import CF_DEFAULT
from kvstore.engine.rocks import RocksEngine
from kvstore.errors import DiskFull, StoreError


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    failpoint.clear()


def put(engine: RocksEngine, key: bytes) -> None:
    batch = engine.batch()
    batch.put(key, b"v", engine.handle(CF_DEFAULT))
    engine.write(batch)


def test_a_write_that_the_disk_refuses_is_not_there_and_nothing_follows_it(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "d"))
    put(engine, b"a")
    failpoint.configure("engine::before_write", "1*return")
    with pytest.raises(DiskFull):
        put(engine, b"b")
    with pytest.raises(DiskFull):
        put(engine, b"c")
    engine.close()
    engine = RocksEngine(str(tmp_path / "d"))
    assert engine.get(CF_DEFAULT, b"a") == b"v"
    assert engine.get(CF_DEFAULT, b"b") is None
    engine.close()


def test_after_a_sync_that_failed_none_succeeds(tmp_path: Path) -> None:
    """What an fsync that failed has left on disk is not known, and a second one may say it is well."""
    engine = RocksEngine(str(tmp_path / "d"))
    put(engine, b"a")
    engine.sync()
    put(engine, b"b")
    failpoint.configure("engine::before_sync", "1*return")
    for _ in range(2):
        with pytest.raises(StoreError, match="sync"):
            engine.sync()
    with pytest.raises(StoreError, match="sync"):
        put(engine, b"c")
    engine.close()
    engine = RocksEngine(str(tmp_path / "d"))
    assert engine.get(CF_DEFAULT, b"a") == b"v"
    assert engine.get(CF_DEFAULT, b"c") is None
    engine.close()
