"""Range reads against a naive reading of the same records: every gear, both directions, both engines."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.codec import encode_int
from kvstore.engine.api import CF_DEFAULT, CF_WRITE, Engine
from kvstore.engine.memory import MemoryEngine
from kvstore.engine.rocks import RocksEngine
from kvstore.mvcc.chunks import Chunk, pairs_of
from kvstore.mvcc.keys import data_key, ts_suffix, versioned
from kvstore.mvcc.packed import scan_packed, unpack
from kvstore.mvcc.plain import is_plain, newest_puts
from kvstore.mvcc.record import Write, WriteType
from kvstore.mvcc.scan import scan_chunks

PRESENT = 1_750_000_000_000 << 18
Versions = dict[bytes, list[tuple[int, Write, bytes]]]
"""Per user key its versions, newest first: commit_ts, record, the value if it is a put."""


@pytest.fixture(params=["memory", "rocksdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened: Engine = MemoryEngine() if request.param == "memory" else RocksEngine(str(tmp_path / "db"))
    yield opened
    opened.close()


def record_key(i: int) -> bytes:
    return b"t" + encode_int(100) + b"_r" + encode_int(i)


def random_key(rng: random.Random, shape: str, i: int) -> bytes:
    if shape == "rows":
        return record_key(i)
    if shape == "index":
        return b"t" + encode_int(100) + b"_i" + encode_int(1) + b"\x03" + encode_int(i % 7) + b"\x03" + encode_int(i)
    return rng.randbytes(rng.randrange(1, 40))


def random_write(rng: random.Random, odd: float, start_ts: int) -> tuple[Write, bytes]:
    value = rng.randbytes(rng.choice([0, 1, 30, 200, 255]))
    if rng.random() >= odd:
        return Write(WriteType.PUT, start_ts, value), value
    match rng.randrange(6):
        case 0:
            return Write(WriteType.DELETE, start_ts), b""
        case 1:
            return Write(WriteType.LOCK, start_ts), b""
        case 2:
            return Write.rollback(start_ts, protected=bool(rng.randrange(2))), b""
        case 3:
            return Write(WriteType.PUT, start_ts), rng.randbytes(300)
        case 4:
            return Write(WriteType.PUT, start_ts, value, gc_fence=rng.choice([0, 1])), value
        case _:
            return Write(WriteType.PUT, start_ts, value, overlapped_rollback=True), value


def fill(engine: Engine, rng: random.Random, keys: list[bytes], versions: int, odd: float, base: int) -> Versions:
    stored: Versions = {}
    batch = engine.batch()
    for key in keys:
        ts = base
        history = []
        for _ in range(rng.randint(1, versions)):
            start_ts = ts + rng.randrange(1, 50)
            ts = start_ts + rng.randrange(1, 50)
            write, value = random_write(rng, odd, start_ts)
            batch.put(versioned(data_key(key), ts), write.encode(), engine.handle(CF_WRITE))
            if write.type is WriteType.PUT and write.short_value is None:
                batch.put(versioned(data_key(key), start_ts), value, engine.handle(CF_DEFAULT))
            history.append((ts, write, value))
        stored[key] = history[::-1]
    engine.write(batch)
    return stored


def naive(stored: Versions, start: bytes, end: bytes, ts: int) -> list[tuple[bytes, bytes]]:
    rows = []
    for key in sorted(stored):
        if key < start or (end and key >= end):
            continue
        for commit_ts, write, value in stored[key]:
            if commit_ts <= ts and write.type in (WriteType.PUT, WriteType.DELETE):
                hidden = write.gc_fence is not None and write.gc_fence != 0 and write.gc_fence <= ts
                if write.type is WriteType.PUT and not hidden:
                    rows.append((key, value))
                break
    return rows


@pytest.mark.parametrize("shape", ["rows", "index", "mixed"])
@pytest.mark.parametrize(
    ("count", "versions", "odd", "base"),
    [
        (900, 1, 0.0, PRESENT),
        (900, 1, 0.01, PRESENT),
        (300, 3, 0.0, PRESENT),
        (300, 4, 0.3, PRESENT),
        (150, 60, 0.1, PRESENT),
        (150, 60, 0.9, PRESENT),
        (300, 2, 0.1, 0),
        (300, 2, 0.1, 1 << 40),
    ],
)
def test_scans_match_a_naive_reading(
    engine: Engine, shape: str, count: int, versions: int, odd: float, base: int
) -> None:
    rng = random.Random(f"{shape}{count}{versions}{odd}{base}")
    keys = sorted({random_key(rng, shape, i) for i in range(count)})
    stored = fill(engine, rng, keys, versions, odd, base)

    def load(encoded: bytes, start_ts: int) -> bytes:
        value = engine.get(CF_DEFAULT, versioned(encoded, start_ts))
        assert value is not None
        return value

    def check() -> None:
        """Nothing is ever collected here."""

    span = versions * 100
    for ts in (base, base + 40, base + span // 2, base + span, (1 << 64) - 1):
        low, high = sorted(rng.sample(keys, 2))
        for start, end in ((b"", b""), (low, high), (low, b""), (keys[0], keys[1])):
            want = naive(stored, start, end, ts)
            for reverse in (False, True):
                chunks = list(scan_chunks(engine, start, end, ts, load, check, reverse=reverse))
                assert [chunk.last_key() for chunk in chunks if len(chunk)] == [
                    chunk.keys()[-1] for chunk in chunks if len(chunk)
                ]
                assert list(pairs_of(chunks)) == (want[::-1] if reverse else want)
        packed = [pair for batch in scan_packed(engine, b"", b"", ts, load, check, 4096) for pair in unpack(batch)]
        assert packed == naive(stored, b"", b"", ts)


def plain_chunk(count: int) -> tuple[list[bytes], list[bytes]]:
    keys = [versioned(data_key(record_key(i)), PRESENT + 2) for i in range(count)]
    return keys, [Write(WriteType.PUT, PRESENT + 1, b"value %d" % i).encode() for i in range(count)]


def test_plain_chunk_is_cut_up_at_once() -> None:
    keys, records = plain_chunk(300)
    assert is_plain(keys, records, ts_suffix(PRESENT + 2))
    chunk = Chunk(None, records, encoded=keys, skip=12)
    assert chunk.pairs() == [(record_key(i), b"value %d" % i) for i in range(300)]


@pytest.mark.parametrize(
    "odd",
    [
        b"D" + Write(WriteType.PUT, PRESENT + 1, b"x").encode()[1:],
        Write(WriteType.PUT, PRESENT + 1).encode(),
        Write(WriteType.PUT, PRESENT + 1, b"x").encode()[:-1],
        Write(WriteType.PUT, PRESENT + 1, b"x").encode() + b"R",
        Write(WriteType.PUT, 1 << 40, b"v" * 200).encode(),
        b"",
        b"P",
    ],
)
def test_one_odd_record_makes_a_chunk_mixed(odd: bytes) -> None:
    keys, records = plain_chunk(30)
    records[7] = odd
    assert not is_plain(keys, records, ts_suffix(PRESENT + 2))


def test_two_versions_or_a_newer_one_make_a_chunk_mixed() -> None:
    keys, records = plain_chunk(30)
    assert not is_plain(keys, records, ts_suffix(PRESENT + 1))
    keys[7] = versioned(keys[6][:-8], PRESENT + 1)
    assert not is_plain(keys, records, ts_suffix(PRESENT + 2))


def test_keys_of_different_lengths_are_decoded_one_by_one() -> None:
    keys, records = plain_chunk(30)
    keys[7] = versioned(data_key(record_key(7)[:-1]), PRESENT + 2)
    expected = [record_key(i) for i in range(30)]
    expected[7] = expected[7][:-1]
    assert Chunk(None, records, encoded=keys, skip=12).keys() == expected


def test_versions_of_puts_are_cut_up_at_once() -> None:
    keys, records = plain_chunk(30)
    for at in (29, 8, 0):
        keys.insert(at + 1, versioned(keys[at][:-8], PRESENT + 1))
        records.insert(at + 1, Write(WriteType.PUT, PRESENT, b"old").encode())
    keys.insert(5, versioned(keys[5][:-8], PRESENT + 9))
    records.insert(5, Write(WriteType.PUT, PRESENT + 8, b"too new").encode())
    assert not is_plain(keys, records, ts_suffix(PRESENT + 2))
    found = newest_puts(keys, records, ts_suffix(PRESENT + 2))
    assert found is not None
    assert Chunk(None, found[1], encoded=found[0], skip=12).pairs() == [
        (record_key(i), b"value %d" % i) for i in range(30)
    ]
    found = newest_puts(keys, records, ts_suffix(PRESENT + 1))
    assert found is not None
    assert Chunk(None, found[1], encoded=found[0], skip=12).pairs() == [(record_key(i), b"old") for i in (0, 8, 29)]
    records[3] = b"D" + records[3][1:]
    assert newest_puts(keys, records, ts_suffix(PRESENT + 2)) is None


def test_a_suspended_scan_does_not_keep_the_engine_open(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    engine = RocksEngine(path)
    rng = random.Random(3)
    fill(engine, rng, [record_key(i) for i in range(100)], 100, 0.0, PRESENT)
    suspended = []
    for reverse in (False, True):
        chunks = scan_chunks(engine, b"", b"", (1 << 64) - 1, lambda key, ts: b"", lambda: None, reverse=reverse)
        next(chunks)
        suspended.append(chunks)
    engine.close()
    RocksEngine(path).close()
    for chunks in suspended:
        with pytest.raises(Exception, match="closed"):
            list(chunks)
