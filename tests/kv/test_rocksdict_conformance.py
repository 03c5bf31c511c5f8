"""What the engine relies on in rocksdict, so that an upgrade which changes it is seen."""

from __future__ import annotations

import gc
import random
import threading
import time
from pathlib import Path

import pytest
import rocksdict
from rocksdict import Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from kvstore import errors
from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_META, CF_WRITE, Engine
from kvstore.engine.failure import translate
from kvstore.engine.rocks import RocksEngine, _database_options
from kvstore.mvcc.keys import data_key
from kvstore.mvcc.point import read_version


def put(engine: Engine, cf: str, key: bytes, value: bytes) -> None:
    batch = engine.batch()
    batch.put(key, value, engine.handle(cf))
    engine.write(batch)


def test_raw_mode_keeps_bytes(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, CF_META, b"\x00k", b"\x01v")
    cursor = engine.cursor(CF_META)
    assert cursor.raw is not None
    cursor.raw.seek_to_first()
    assert (cursor.raw.key(), cursor.raw.value()) == (b"\x00k", b"\x01v")
    engine.close()


def test_snapshot_iterators_ignore_their_snapshot(tmp_path: Path) -> None:
    db = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    db[b"a"] = b"old"
    snapshot = db.snapshot()
    db[b"a"] = b"new"
    assert snapshot[b"a"] == b"old"
    seen = list(snapshot.items())
    assert seen in ([(b"a", b"new")], [(b"a", b"old")])
    del snapshot
    db.close()


def test_iterators_show_the_state_in_which_they_were_made(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    put(engine, CF_WRITE, b"a", b"1")
    lock, write = engine.view((CF_LOCK, CF_WRITE))
    put(engine, CF_WRITE, b"b", b"2")
    put(engine, CF_LOCK, b"b", b"2")
    for cursor, want in ((lock, None), (write, b"a")):
        assert cursor.raw is not None
        cursor.raw.seek_to_last()
        assert cursor.raw.key() == want
    assert write.refresh() is write.raw
    assert write.raw is not None
    write.raw.seek_to_last()
    assert write.raw.key() == b"b"
    engine.close()


def test_views_of_two_families_are_consistent_under_writes(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            batch = engine.batch()
            for cf in (CF_DEFAULT, CF_WRITE):
                batch.put(b"n", b"%d" % number, engine.handle(cf))
            engine.write(batch)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2000):
            values = []
            for cursor in engine.view((CF_DEFAULT, CF_WRITE)):
                assert cursor.raw is not None
                cursor.raw.seek(b"n")
                values.append(cursor.raw.value())
                cursor.release()
            assert values[0] == values[1]
    finally:
        stop.set()
        writer.join()
        engine.close()


def test_upper_bound_outlives_its_maker(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    for i in range(200):
        put(engine, CF_WRITE, b"k%03d" % i, b"v")
    cursor = engine.cursor(CF_WRITE, bytes(bytearray(b"k100")))
    garbage = [ReadOptions() for _ in range(100)]
    del garbage
    gc.collect()
    raw = cursor.raw
    assert raw is not None
    raw.seek(b"k")
    count = 0
    while raw.key() is not None:
        count += 1
        raw.next()
    assert count == 100
    engine.close()


def test_close_with_live_iterators_frees_the_directory(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    engine = RocksEngine(path)
    put(engine, CF_WRITE, b"a", b"1")
    cursor = engine.cursor(CF_WRITE)
    scanner = engine.scanner(CF_WRITE, b"a", b"z")
    engine.close()
    assert cursor.raw is None
    with pytest.raises(errors.StoreClosed):
        cursor.refresh()
    with pytest.raises(errors.StoreClosed):
        scanner.take(1)
    again = RocksEngine(path)
    assert again.get(CF_WRITE, b"a") == b"1"
    again.close()


def test_sync_lets_other_threads_run(tmp_path: Path) -> None:
    engine = RocksEngine(str(tmp_path / "db"))
    running = threading.Event()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while not running.is_set():
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    for i in range(20):
        put(engine, CF_WRITE, b"%d" % i, b"v")
        engine.sync()
    running.set()
    thread.join()
    assert ticks > 0
    engine.close()


def test_a_damaged_file_is_corruption(tmp_path: Path) -> None:
    path = tmp_path / "db"
    engine = RocksEngine(str(path))
    for i in range(200):
        put(engine, CF_WRITE, data_key(b"%03d" % i) + bytes(8), random.Random(i).randbytes(1000))
    engine.flush()
    engine.close()
    for file in (path / "kv").glob("*.sst"):
        data = bytearray(file.read_bytes())
        if len(data) > 100_000:
            data[100:160] = bytes(60)
            file.write_bytes(data)
    engine = RocksEngine(str(path))
    key = data_key(b"000")
    scanner = engine.scanner(CF_WRITE, b"a", b"{")
    with pytest.raises(errors.Corruption):
        scanner.take(10)
    with pytest.raises(errors.Corruption):
        engine.get(CF_WRITE, key + bytes(8))
    raw = engine.cursor(CF_WRITE).refresh()
    with pytest.raises(errors.Corruption):
        read_version(raw, key, key + bytes(8), 1)
    del raw
    engine.close()


def test_errors_are_translated() -> None:
    assert isinstance(translate(Exception("IO error: No space left on device"), "write"), errors.DiskFull)
    assert isinstance(translate(Exception("Corruption: block checksum mismatch"), "read"), errors.Corruption)
    assert isinstance(translate(rocksdict.DbClosedError("closed"), "read"), errors.StoreClosed)


def test_write_batch_takes_handles(tmp_path: Path) -> None:
    db = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    batch = WriteBatch(raw_mode=True)
    batch.put(b"a", b"1")
    db.write(batch)
    assert db[b"a"] == b"1"
    db.close()


def unlogged(path: str) -> Rdict:
    """A database with the engine's options and one write that is only in memory."""
    db = Rdict(path, _database_options(create=True), column_families={"default": Options(raw_mode=True)})
    options = WriteOptions()
    options.disable_wal = True
    batch = WriteBatch(raw_mode=True)
    batch.put(b"a", b"1")
    db.write(batch, options)
    return db


def test_close_flushes_what_no_log_has(tmp_path: Path) -> None:
    unlogged(str(tmp_path / "db")).close()
    db = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    assert db.get(b"a") == b"1"
    db.close()


def test_cancelled_background_work_drops_what_no_log_has(tmp_path: Path) -> None:
    """With the option that only a file can set: after a failed log write no part of a batch may reach the tables."""
    db = unlogged(str(tmp_path / "db"))
    db.cancel_all_background(True)
    del db  # closing would raise, and leave it open
    db = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    assert db.get(b"a") is None
    db.close()


def test_a_flush_in_the_background_shows_its_end(tmp_path: Path) -> None:
    """And what is written after it began stays in memory."""
    db = unlogged(str(tmp_path / "db"))
    db.flush(False)
    options = WriteOptions()
    options.disable_wal = True
    batch = WriteBatch(raw_mode=True)
    batch.put(b"b", b"2")
    db.write(batch, options)
    while db.property_int_value("rocksdb.num-immutable-mem-table"):
        time.sleep(0.001)
    assert db.property_int_value("rocksdb.background-errors") == 0
    db.cancel_all_background(True)
    del db
    db = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    assert (db.get(b"a"), db.get(b"b")) == (b"1", None)
    db.close()
