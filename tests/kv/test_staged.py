"""Sorted files that wait for a log: kept, taken over once or again, removed; the same on disk and in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvstore.engine.api import CF_DEFAULT, CF_WRITE, Engine
from kvstore.engine.memory import MemoryEngine
from kvstore.engine.rocks import RocksEngine
from kvstore.errors import Corruption, StoreError

KEYS = [b"zk%03d" % n for n in range(100)]
VALUES = [b"v%d" % n for n in range(100)]


@pytest.fixture(params=["rocks", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = RocksEngine(str(tmp_path / "db")) if request.param == "rocks" else MemoryEngine()
    yield made
    made.close()


def stage(engine: Engine, cf: str, name: str) -> None:
    file = engine.staged.writer(cf, name)
    file.put_all(KEYS, VALUES)
    file.finish()


def test_a_file_is_there_when_it_is_kept_and_until_it_is_removed(engine: Engine) -> None:
    stage(engine, CF_WRITE, "one")
    assert engine.staged.sizes() == {}
    assert engine.staged.bounds(CF_WRITE, "one") == (KEYS[0], KEYS[-1])
    engine.staged.keep(["one"])
    assert engine.staged.sizes()["one"] > 100
    engine.staged.remove("one")
    engine.staged.remove("one")
    assert engine.staged.sizes() == {}


def test_taken_over_again_it_leaves_the_same(engine: Engine) -> None:
    stage(engine, CF_WRITE, "one")
    stage(engine, CF_WRITE, "two")
    engine.staged.keep(["one", "two"])
    for _ in range(2):
        engine.staged.take_over(CF_WRITE, ["one"])
        assert [engine.get(CF_WRITE, key) for key in KEYS] == VALUES
    assert engine.staged.sizes().keys() == {"one", "two"}
    assert engine.is_empty(CF_DEFAULT)


def test_later_writes_are_above_it(engine: Engine) -> None:
    stage(engine, CF_WRITE, "one")
    engine.staged.keep(["one"])
    engine.staged.take_over(CF_WRITE, ["one"])
    batch = engine.batch()
    batch.put(KEYS[0], b"newer", engine.handle(CF_WRITE))
    engine.write(batch)
    assert engine.get(CF_WRITE, KEYS[0]) == b"newer"


def test_a_missing_file_is_corruption(engine: Engine) -> None:
    with pytest.raises(Corruption, match="missing"):
        engine.staged.take_over(CF_WRITE, ["none"])


def test_what_was_kept_outlives_the_process_and_nothing_else_does(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    stage(engine, CF_WRITE, "kept")
    engine.staged.keep(["kept"])
    stage(engine, CF_WRITE, "open")
    engine.close()
    engine = RocksEngine(str(tmp_path / "db"))
    assert engine.staged.sizes().keys() == {"kept"}
    assert [path.name for path in (tmp_path / "db" / "import").iterdir()] == ["kept.sst"]
    engine.staged.take_over(CF_WRITE, ["kept"])
    assert engine.get(CF_WRITE, KEYS[5]) == VALUES[5]
    engine.close()


def receive(engine: Engine, data: bytes) -> None:
    receiver = engine.staged.receive("up")
    receiver.write(data[:10])
    receiver.write(data[10:])
    receiver.finish()


def test_a_table_file_of_elsewhere_is_looked_at_before_it_is_kept(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    stage(engine, CF_WRITE, "made")
    data = (tmp_path / "db" / "import" / "made.tmp").read_bytes()
    receive(engine, data)
    assert engine.staged.bounds(CF_WRITE, "up") == (KEYS[0], KEYS[-1])
    engine.staged.keep(["up"])
    engine.staged.take_over(CF_WRITE, ["up"])
    assert engine.get(CF_WRITE, KEYS[7]) == VALUES[7]
    spoil: Callable[[bytes], bytes]
    for spoil in (lambda data: data[:-20], lambda data: b"x" * len(data), lambda data: b""):
        receive(engine, spoil(data))
        with pytest.raises(Corruption):
            engine.staged.bounds(CF_WRITE, "up")
        engine.staged.remove("up")
    engine.close()


def test_memory_takes_no_table_files() -> None:
    with pytest.raises(StoreError):
        MemoryEngine().staged.receive("up")
