"""The engine and its log when things go wrong: kills, power cuts, a disk that fails or is full, interruptions, threads.

A crash is a copy of the directory of a running engine, opened as a database.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.engine.api import CF_DEFAULT, CF_META, CF_WRITE
from kvstore.engine.log import LogLimits
from kvstore.engine.log_files import log_name
from kvstore.engine.rocks import RocksEngine
from kvstore.errors import Corruption, DiskFull, StoreError
from tests.kv.test_interrupts import interruptions
from tests.kv.test_journal import killed

TINY = LogLimits(file_bytes=8 << 10, first_step=4 << 10, step_max=8 << 10, step_min=4 << 10, pending_bytes=2 << 10)
FAMILIES = (CF_DEFAULT, CF_WRITE)
Model = dict[tuple[str, bytes], bytes]


def opened(path: Path) -> RocksEngine:
    return RocksEngine(str(path), limits=TINY)


def put(engine: RocksEngine, key: bytes, value: bytes) -> None:
    """One batch over two families."""
    batch = engine.batch()
    for cf in FAMILIES:
        batch.put(key, value, engine.handle(cf))
    engine.write(batch)


def pairs(engine: RocksEngine) -> Model:
    there: Model = {}
    for cf in FAMILIES:
        flat = engine.scanner(cf, b"", b"\xff").take(1_000_000)
        there |= {(cf, key): value for key, value in zip(flat[::2], flat[1::2], strict=True)}
    return there


def settled(engine: RocksEngine) -> None:
    """Waits until no log file is about to go."""
    with engine._journal._rotation:
        pass


def after_crash(engine: RocksEngine, copy: Path, damage: Callable[[Path], None] = lambda _: None) -> Model:
    """What a database has that is opened on the files as they are now."""
    killed(engine, copy)
    damage(copy)
    try:
        survivor = opened(copy)
        try:
            return pairs(survivor)
        finally:
            survivor.close()
    finally:
        shutil.rmtree(copy)


def last_log(path: Path) -> Path:
    return max((path / "log").glob("*.log"))


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "delete range"]),
        st.sampled_from(FAMILIES),
        st.sampled_from([b"a", b"b", b"c", b"d"]),
        st.binary(max_size=700),
    ),
    max_size=4,
)
STEPS = st.lists(
    st.tuples(CHANGES, st.sampled_from(["nothing", "nothing", "hand over", "sync", "flush", "kill", "close"])),
    max_size=25,
)


def apply(engine: RocksEngine, model: Model, changes: list[tuple[str, str, bytes, bytes]]) -> None:
    batch = engine.batch()
    for kind, cf, key, value in changes:
        handle = engine.handle(cf)
        if kind == "put":
            batch.put(key, value, handle)
            model[cf, key] = value
        elif kind == "delete":
            batch.delete(key, handle)
            model.pop((cf, key), None)
        else:
            batch.delete_range(b"a", key, handle)
            for other in [other for other in model if other[0] == cf and other[1] < key]:
                del model[other]
    engine.write(batch)


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_every_state_survives_kills_and_closes(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """At every kill the copy has a prefix of the batches, with all that were handed over; tiny files rotate often."""
    base = tmp_path_factory.mktemp("steps")
    engine = opened(base / "db")
    model: Model = {}
    history: list[Model] = [{}]
    safe = 0
    for number, (changes, end) in enumerate(steps):
        apply(engine, model, changes)
        history.append(dict(model))
        if end == "hand over":
            engine.hand_over()
        elif end == "sync":
            engine.sync()
        elif end == "flush":
            engine.flush()
        elif end == "close":
            engine.close()
            engine = opened(base / "db")
        if end in ("hand over", "sync", "flush", "close"):
            safe = len(history) - 1
        elif end == "kill":
            assert after_crash(engine, base / f"copy{number}") in history[safe:]
    engine.close()
    engine = opened(base / "db")
    assert pairs(engine) == model
    engine.close()
    shutil.rmtree(base)


def test_a_power_cut_leaves_what_was_synced_and_no_half_batch(tmp_path: Path) -> None:
    engine = opened(tmp_path / "db")
    rng = random.Random(3)
    expected: Model = {}
    for number in range(60):
        key = b"%d" % (number % 7)
        put(engine, key, rng.randbytes(rng.randrange(600)))
        engine.sync()
        expected = pairs(engine)
        synced, file = engine._journal.log.file_bytes, engine._journal.log.number
        for _ in range(rng.randrange(3)):
            put(engine, key, b"loose")
            engine.hand_over()

        def cut(copy: Path, synced: int = synced, file: int = file) -> None:
            log = last_log(copy)
            if log.name != log_name(file):
                return  # a new file was begun: everything before is durable
            data = bytearray(log.read_bytes())
            data[synced:] = bytes(len(data) - synced)
            log.write_bytes(bytes(data))

        there = after_crash(engine, tmp_path / "copy", cut)
        settled(engine)
        if engine._journal.log.number == file:
            assert there == expected
        else:
            assert there == pairs(engine)
    engine.close()


def test_the_whole_log_file_gone_after_a_kill_is_missed(tmp_path: Path) -> None:
    """Also one that the running process began itself: it was noted before its first sync returned."""
    engine = opened(tmp_path / "db")
    first = engine._journal.log.number
    while engine._journal.log.number < first + 3:
        put(engine, b"k", bytes(500))
        engine.sync()
        settled(engine)
    put(engine, b"k", b"last")
    engine.sync()

    def remove(copy: Path) -> None:
        last_log(copy).unlink()

    with pytest.raises(Corruption, match="missing"):
        after_crash(engine, tmp_path / "copy", remove)
    assert after_crash(engine, tmp_path / "copy") == {(cf, b"k"): b"last" for cf in FAMILIES}
    engine.close()


def test_a_log_cut_short_is_refused(tmp_path: Path) -> None:
    engine = opened(tmp_path / "db")
    for number in range(3):
        put(engine, b"%d" % number, bytes(300))
        engine.sync()

    def cut(copy: Path) -> None:
        os.truncate(last_log(copy), 1000)

    with pytest.raises(Corruption, match="not 4096"):
        after_crash(engine, tmp_path / "copy", cut)
    engine.close()


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_a_disk_that_fails_stops_the_log_and_keeps_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    engine = opened(tmp_path / "db")
    put(engine, b"k", b"acknowledged")
    engine.sync()

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    put(engine, b"k", b"unknown")
    if call == "fdatasync":
        engine.hand_over()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StoreError):
            engine.sync()
    for attempt in (engine.sync, lambda: put(engine, b"k", b"later")):
        with pytest.raises(StoreError, match="Input/output"):
            attempt()
    engine.close()
    engine = opened(tmp_path / "db")
    there = set(pairs(engine).values())
    assert there in ({b"acknowledged"}, {b"unknown"})
    if call == "pwritev":
        assert there == {b"acknowledged"}
    engine.close()


def test_a_full_disk_shows_before_anything_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(tmp_path / "db")
    put(engine, b"k", b"acknowledged")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(DiskFull):
            put(engine, b"k", bytes(6000))
        assert set(pairs(engine).values()) == {b"acknowledged"}
        engine.sync()
    assert set(after_crash(engine, tmp_path / "copy").values()) == {b"acknowledged"}
    engine.close()
    engine = opened(tmp_path / "db")
    assert set(pairs(engine).values()) == {b"acknowledged"}
    engine.close()


def test_no_room_for_the_next_file_stops_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure of the background is told to who writes next, and nothing acknowledged is lost."""
    engine = opened(tmp_path / "db")

    def full(path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    acknowledged = 0

    def fill() -> None:
        nonlocal acknowledged
        for number in range(200):
            put(engine, b"k", b"%0500d" % number)
            engine.sync()
            acknowledged = number
            settled(engine)

    with monkeypatch.context() as patch:
        patch.setattr("kvstore.engine.log.sync_directory", full)
        with pytest.raises(DiskFull):
            fill()
    engine.close()
    engine = opened(tmp_path / "db")
    (value,) = set(pairs(engine).values())
    assert int(value) in (acknowledged, acknowledged + 1)
    engine.close()


def test_interruptions_anywhere_lose_nothing(tmp_path: Path) -> None:
    """Calls that a signal handler's exception left are made again, as `carried_on` does; log and tables agree."""
    engine = opened(tmp_path / "db")
    with interruptions(7, 0.0003) as switch:
        for number in range(1500):
            value = b"%d" % number * 20
            for step in (lambda value=value: put(engine, b"k", value), engine.sync):
                switch.on = True
                try:
                    step()
                    switch.on = False
                except KeyboardInterrupt:
                    step()
    assert switch.raised > 20
    expected = pairs(engine)
    assert expected == {(cf, b"k"): b"1499" * 20 for cf in FAMILIES}
    assert after_crash(engine, tmp_path / "copy") == expected
    engine.close()


def test_threads_that_sync_at_once(tmp_path: Path) -> None:
    """What was written before a sync is in the log when it returns, whoever led it."""
    engine = opened(tmp_path / "db")
    done: list[int] = []
    log = engine._journal.log

    def work(thread: int) -> None:
        for number in range(150):
            put(engine, b"%d" % thread, b"%d" % number * 30)
            target = log.sequence
            engine.sync()
            assert log.durable >= target
        done.append(thread)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(6))
    expected = {(cf, b"%d" % thread): b"149" * 30 for thread in range(6) for cf in FAMILIES}
    assert pairs(engine) == expected
    assert after_crash(engine, tmp_path / "copy") == expected
    engine.close()


def test_an_ingest_is_not_undone_by_older_batches_of_the_log(tmp_path: Path) -> None:
    engine = opened(tmp_path / "db")
    put(engine, b"k", b"old")
    engine.delete_range(CF_WRITE, b"a", b"z")
    engine.sync()
    writer = engine.sorted_file(CF_WRITE, str(tmp_path / "db" / "ingest" / "one.sst"))
    writer.put_all([b"k"], [b"ingested"])
    writer.finish()
    engine.ingest(CF_WRITE, [writer])
    there = after_crash(engine, tmp_path / "copy")
    assert there == {(CF_DEFAULT, b"k"): b"old", (CF_WRITE, b"k"): b"ingested"}
    engine.close()


LEAVING = """
import sys
from kvstore.engine.rocks import RocksEngine
engine = RocksEngine(sys.argv[1])
def change(*changes):
    batch = engine.batch()
    for change in changes:
        getattr(batch, change[0])(*change[1:], engine.handle("write"))
    engine.write(batch)
change(("put", b"a", b"old"))
engine.sync()
change(("delete", b"a"), ("put", b"b", b"new"))
if sys.argv[2] == "drop":
    del engine, change
"""


@pytest.mark.parametrize("end", ["exit", "drop"])
def test_a_process_that_ends_without_a_close_leaves_no_half_batch(tmp_path: Path, end: str) -> None:
    subprocess.run(
        [sys.executable, "-c", LEAVING, str(tmp_path / "db"), end], cwd=Path(__file__).parents[2], check=True
    )
    engine = opened(tmp_path / "db")
    assert pairs(engine) == {(CF_WRITE, b"b"): b"new"}
    engine.close()


def test_a_clean_close_leaves_no_log(tmp_path: Path) -> None:
    engine = opened(tmp_path / "db")
    put(engine, b"k", b"v")
    engine.close()
    assert not list((tmp_path / "db" / "log").iterdir())
    engine = opened(tmp_path / "db")
    assert engine.get(CF_META, b"k") is None
    assert pairs(engine) == {(cf, b"k"): b"v" for cf in FAMILIES}
    engine.close()
