"""The log and the tables behind it: rotation, what is replayed, and in which order files may go.

What a kill leaves is a copy of the directory of an engine that is open: nobody else writes to it meanwhile.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rocksdict import Options, Rdict, WriteBatch

from kvstore import errors
from kvstore.engine.api import CF_DEFAULT, CF_META, CF_WRITE, COLUMN_FAMILIES, Engine
from kvstore.engine.directory import FORMAT_VERSION
from kvstore.engine.log import LogLimits
from kvstore.engine.log_files import log_numbers
from kvstore.engine.rocks import RocksEngine

TINY = LogLimits(file_bytes=4096, first_step=1024, step_max=2048, step_min=512, pending_bytes=700)


def put(engine: Engine, key: bytes, value: bytes, cf: str = CF_WRITE) -> None:
    batch = engine.batch()
    batch.put(key, value, engine.handle(cf))
    engine.write(batch)


def pairs(engine: Engine, cf: str = CF_WRITE) -> dict[bytes, bytes]:
    flat = engine.scanner(cf, b"", b"\xff").take(100_000)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.suffix != ".lock"}


def killed(engine: RocksEngine, target: Path) -> Path:
    """The directory as it would be after a kill at this moment."""
    assert engine.path is not None
    with engine._journal._rotation:  # no flush begins, so no compaction does, once those that run are over
        while any(
            family.property_int_value(f"rocksdb.{what}")
            for family in engine._families.values()
            for what in ("compaction-pending", "num-running-compactions", "num-running-flushes")
        ):
            time.sleep(0.001)
        shutil.copytree(engine.path, target)
    return target


def test_many_files_come_and_go(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"), limits=TINY)
    expected = {}
    for i in range(2000):
        key, value = b"k%d" % (i % 700), b"v%d" % i * (i % 40 + 1)
        put(engine, key, value)
        expected[key] = value
        if i % 7 == 0:
            engine.sync()
        if i % 500 == 250:
            engine.sync()
            again = RocksEngine(str(killed(engine, tmp_path / f"killed{i}")), limits=TINY)
            assert pairs(again) == expected
            again.close()
    engine.flush()
    assert len(log_numbers(str(tmp_path / "db" / "log"))) == 1
    assert max(log_numbers(str(tmp_path / "db" / "log"))) > 10
    engine.close()
    assert log_numbers(str(tmp_path / "db" / "log")) == []
    engine = RocksEngine(str(tmp_path / "db"))
    assert pairs(engine) == expected
    engine.close()


def test_threads_write_through_rotations(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"), limits=TINY)

    def write(thread: int) -> None:
        for i in range(400):
            put(engine, b"%d/%d" % (thread, i), b"x" * 50)
            engine.sync()

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = RocksEngine(str(killed(engine, tmp_path / "killed")))
    assert len(pairs(again)) == 1600
    again.close()
    engine.close()


def test_a_batch_larger_than_a_file(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"), limits=TINY)
    put(engine, b"large", b"x" * 100_000)
    put(engine, b"small", b"y")
    engine.sync()
    again = RocksEngine(str(killed(engine, tmp_path / "killed")))
    assert pairs(again) == {b"large": b"x" * 100_000, b"small": b"y"}
    again.close()
    engine.close()


def test_every_kind_of_change_is_replayed_in_order(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    for cf in COLUMN_FAMILIES:
        put(engine, b"a", b"1", cf)
        put(engine, b"b", b"2", cf)
        batch = engine.batch()
        batch.delete(b"a", engine.handle(cf))
        batch.delete_range(b"b", b"c", engine.handle(cf))
        batch.put(b"b2", b"", engine.handle(cf))
        engine.write(batch)
        put(engine, b"a", b"again", cf)
    engine.hand_over()
    again = RocksEngine(str(killed(engine, tmp_path / "killed")))
    for cf in COLUMN_FAMILIES:
        assert pairs(again, cf) == {b"a": b"again", b"b2": b""}
    again.close()
    engine.close()


def test_what_was_not_handed_over_is_lost_from_its_end(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    for i in range(5):
        put(engine, b"%d" % i, b"v")
    engine.hand_over()
    put(engine, b"5", b"v")
    again = RocksEngine(str(killed(engine, tmp_path / "killed")))
    assert sorted(pairs(again)) == [b"0", b"1", b"2", b"3", b"4"]
    again.close()
    engine.close()


def test_older_writes_are_not_replayed_over_what_was_ingested(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, b"k1", b"old")
    engine.delete_range(CF_WRITE, b"k", b"l")
    engine.sync()
    file = engine.sorted_file(CF_WRITE, str(tmp_path / "db" / "ingest" / "1.sst"))
    file.put_all([b"k1", b"k2"], [b"new", b"new"])
    file.finish()
    engine.ingest(CF_WRITE, [file])
    after = killed(engine, tmp_path / "after")
    put(engine, b"k2", b"newer")
    engine.sync()
    for path, second in ((after, b"new"), (killed(engine, tmp_path / "later"), b"newer")):
        again = RocksEngine(str(path))
        assert pairs(again) == {b"k1": b"new", b"k2": second}
        again.close()
    engine.close()


def test_a_failed_ingest_or_checkpoint_stops_nothing(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, b"k", b"v")
    broken = engine.sorted_file(CF_WRITE, str(tmp_path / "none.sst"))
    with pytest.raises(errors.StoreError):
        engine.ingest(CF_WRITE, [broken])
    (tmp_path / "there").mkdir()
    with pytest.raises(errors.StoreError):
        engine.checkpoint(str(tmp_path / "there"))
    put(engine, b"k", b"w")
    engine.sync()
    assert pairs(engine) == {b"k": b"w"}
    engine.close()


def test_a_checkpoint_is_whole_without_a_log(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    for cf in COLUMN_FAMILIES:
        put(engine, b"k", b"v" * 5000, cf)
    engine.checkpoint(str(tmp_path / "copy"))
    put(engine, b"k2", b"v")
    assert not (tmp_path / "copy" / "log").exists()
    copy = RocksEngine(str(tmp_path / "copy"))
    for cf in COLUMN_FAMILIES:
        assert pairs(copy, cf) == {b"k": b"v" * 5000}
    copy.close()
    engine.close()


def test_a_flush_that_fails_stops_the_writes_and_keeps_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, b"k", b"v" * 5000, CF_DEFAULT)
    put(engine, b"k", b"record")
    engine.sync()
    tables = engine._tables
    assert tables is not None

    def broken() -> bool:
        raise errors.DiskFull("flush: no space left on device")

    monkeypatch.setattr(tables, "flushing", broken)
    with pytest.raises(errors.DiskFull):
        engine.flush()
    with pytest.raises(errors.DiskFull):
        put(engine, b"k2", b"v")
    engine.close()
    assert len(log_numbers(str(tmp_path / "db" / "log"))) == 2
    engine = RocksEngine(str(tmp_path / "db"))
    assert pairs(engine) == {b"k": b"record"}
    assert pairs(engine, CF_DEFAULT) == {b"k": b"v" * 5000}
    engine.close()


def test_a_write_that_fails_leaves_no_part_of_it_in_the_tables(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, b"first", b"v")
    engine.sync()
    batch = engine.batch()
    for cf in (CF_DEFAULT, CF_WRITE, CF_META):
        batch.put(b"second", b"v", engine.handle(cf))
    engine.write(batch)
    engine._journal.log.failure = errors.StoreError("sync: Input/output error")
    with pytest.raises(errors.StoreError, match="Input"):
        engine.sync()
    engine.close()
    engine = RocksEngine(str(tmp_path / "db"))
    assert pairs(engine) == {b"first": b"v"}
    assert pairs(engine, CF_DEFAULT) == {}
    engine.close()


def _refused_unchanged(path: Path, words: str) -> None:
    before = contents(path)
    with pytest.raises(errors.Corruption, match=words):
        RocksEngine(str(path))
    assert contents(path) == before


@pytest.mark.parametrize("lost", [0, 1])
def test_a_log_that_vanished_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    """Also one that a running process began: it is noted before its first sync is acknowledged."""
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, b"a", b"1")
    over = threading.Event()
    tables = engine._tables
    assert tables is not None
    monkeypatch.setattr(tables, "flushing", lambda: not over.wait(0))
    flush = threading.Thread(target=engine.flush)
    flush.start()
    while len(log_numbers(str(tmp_path / "db" / "log"))) < 2:
        time.sleep(0.001)
    put(engine, b"b", b"2")
    engine.sync()
    path = shutil.copytree(tmp_path / "db", tmp_path / "killed")
    over.set()
    flush.join()
    engine.close()
    numbers = log_numbers(str(path / "log"))
    gone = path / "log" / f"{numbers[lost]:08}.log"
    whole = gone.read_bytes()
    gone.unlink()
    _refused_unchanged(path, f"{gone.name} is missing")
    gone.write_bytes(whole)
    engine = RocksEngine(str(path))
    assert pairs(engine) == {b"a": b"1", b"b": b"2"}
    engine.close()


def test_logs_without_tables_are_no_new_database(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, b"a", b"1")
    engine.sync()
    path = killed(engine, tmp_path / "killed")
    engine.close()
    shutil.rmtree(path / "kv")
    (path / "sqlfront.state.json").unlink()
    _refused_unchanged(path, "CURRENT is missing")


def test_files_that_are_needed_no_more_are_removed(tmp_path: Path) -> None:
    """A crash between the note and the removal leaves them."""
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, b"a", b"1")
    engine.sync()
    old = tmp_path / "db" / "log" / "00000001.log"
    data = old.read_bytes()
    engine.flush()
    put(engine, b"a", b"2")
    engine.sync()
    path = killed(engine, tmp_path / "killed")
    engine.close()
    (path / "log" / old.name).write_bytes(data)
    (path / "log" / "00000009.log.tmp").write_bytes(b"cut short")
    engine = RocksEngine(str(path))
    assert pairs(engine) == {b"a": b"2"}
    assert len(list((path / "log").iterdir())) == 1
    engine.close()


def _format_1(path: Path, writes: Callable[[Rdict], None]) -> None:
    """What the engine of format 1 left when it was killed: everything in RocksDB's own log."""
    (path / "ingest").mkdir(parents=True)
    (path / "sqlfront.json").write_text(json.dumps({"product": "sqlfront", "format": 1, "id": "0" * 32}))
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    db = Rdict(str(path / "db"), options, column_families={cf: Options(raw_mode=True) for cf in COLUMN_FAMILIES})
    writes(db)
    db.flush_wal(True)
    sequence = db.latest_sequence_number()
    shutil.copytree(path / "db", path / "kv")
    for cf in COLUMN_FAMILIES:
        db.get_column_family(cf).close()
    db.close()
    shutil.rmtree(path / "db")
    manifest = next((path / "kv").glob("MANIFEST-*"))
    logs = {int(log.stem): log.stat().st_size for log in (path / "kv").glob("*.log")}
    note = {"manifest": int(manifest.name[9:]), "manifest_bytes": manifest.stat().st_size, "sequence": sequence}
    (path / "sqlfront.state.json").write_text(json.dumps(note | {"logs": logs}))


def _two_writes(db: Rdict) -> None:
    for key in (b"a", b"b"):
        batch = WriteBatch(raw_mode=True)
        batch.put(key, b"1", db.get_column_family_handle(CF_WRITE))
        batch.put(key, b"long", db.get_column_family_handle(CF_DEFAULT))
        db.write(batch)


def test_a_directory_of_format_1_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _format_1(path, _two_writes)
    engine = RocksEngine(str(path))
    assert json.loads((path / "sqlfront.json").read_text()) == {
        "product": "sqlfront",
        "format": FORMAT_VERSION,
        "id": "0" * 32,
    }
    assert pairs(engine) == {b"a": b"1", b"b": b"1"}
    put(engine, b"c", b"2")
    engine.sync()
    again = RocksEngine(str(killed(engine, tmp_path / "killed")))
    assert pairs(again) == {b"a": b"1", b"b": b"1", b"c": b"2"}
    assert pairs(again, CF_DEFAULT) == {b"a": b"long", b"b": b"long"}
    again.close()
    engine.close()


def test_a_directory_of_format_1_that_lost_its_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _format_1(path, _two_writes)
    for log in (path / "kv").glob("*.log"):
        log.write_bytes(b"")
    with pytest.raises(errors.Corruption):
        RocksEngine(str(path))
    assert json.loads((path / "sqlfront.json").read_text())["format"] == 1
