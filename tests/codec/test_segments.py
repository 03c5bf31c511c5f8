"""The segment cache against a naive re-scan: random commits, old readers, own writes, commits during builds."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from coprocessor import scan, segments
from coprocessor.arrow import batch_to_rows
from coprocessor.codec.vector import BatchDecoder
from coprocessor.scan import scan_table
from coprocessor.segments import CHANGES_MIN, FOREVER, SegmentCache, _Segment
from coprocessor.table import TableCodec
from coprocessor.types import INT, varchar
from kvstore.client.api import CommitObserver, PackedBatch
from kvstore.client.embedded import EmbeddedStore
from kvstore.mvcc.packed import pack_pairs
from pd.oracle import LocalOracle
from tests.codec.samples import common_table, int_table, pack


class NaiveStore:
    """All versions in a list per key; commits are visible at once and reported before."""

    def __init__(self) -> None:
        self.versions: dict[bytes, list[tuple[int, bytes | None]]] = {}
        self.ts = 0
        self.observers: list[CommitObserver] = []
        self.during_scan: list[Any] = []
        self.on_its_way: list[tuple[int, list[tuple[bytes, bytes | None]]]] = []

    def observe(self, observer: CommitObserver) -> None:
        self.observers.append(observer)

    def now_ts(self) -> int:
        self.ts += 1
        return self.ts

    def snapshot(self, ts: int | None = None) -> NaiveReader:
        return NaiveReader(self, self.now_ts() if ts is None else ts)

    def commit(self, writes: Sequence[tuple[bytes, bytes | None]]) -> int:
        return self.finish(self.now_ts(), writes)

    def settle(self, ts: int) -> None:
        """A read at `ts` waits for the commits that drew a smaller timestamp and are not finished."""
        for pending in [p for p in self.on_its_way if p[0] <= ts]:
            self.on_its_way.remove(pending)
            self.finish(*pending)

    def finish(self, commit_ts: int, writes: Sequence[tuple[bytes, bytes | None]]) -> int:
        for observer in self.observers:
            observer.on_commit(commit_ts, writes, {})
        for key, value in writes:
            self.versions.setdefault(key, []).append((commit_ts, value))
        return commit_ts


class NaiveReader:
    def __init__(self, store: NaiveStore, ts: int) -> None:
        self.store = store
        self.ts = ts

    def get(self, key: bytes) -> bytes | None:
        self.store.settle(self.ts)
        seen = [value for at, value in self.store.versions.get(key, ()) if at <= self.ts]
        return seen[-1] if seen else None

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return {key: value for key in keys if (value := self.get(key)) is not None}

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self.store.settle(self.ts)
        found = self.batch_get(k for k in self.store.versions if start <= k < end)
        yield from sorted(found.items(), reverse=reverse)

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        self.store.settle(self.ts)
        pairs = list(self.scan(start, end))
        stamps = [at for k, vs in self.store.versions.items() if start <= k < end for at, _ in vs if at <= self.ts]
        while self.store.during_scan:
            self.store.during_scan.pop()()
        for i in range(0, max(len(pairs), 1), batch_rows):
            yield pack(pairs[i : i + batch_rows], max(stamps, default=0))


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 8)


def rows_in(batches: Iterable[Any], codec: TableCodec, offsets: Sequence[int]) -> list[tuple[Any, ...]]:
    types = [codec.schema.columns[i].type for i in offsets]
    return [row for batch in batches for row in batch_to_rows(batch, types)]


def same(cache: SegmentCache, store: NaiveStore, codec: TableCodec, ts: int, offsets: Sequence[int]) -> None:
    reader = store.snapshot(ts)
    expected = rows_in(scan_table(reader, codec, offsets), codec, offsets)
    assert rows_in(cache.scan(ts, reader, codec, offsets), codec, offsets) == expected


CODECS = {"int": TableCodec(int_table()), "common": TableCodec(common_table(varchar(9), INT))}


def record(codec: TableCodec, i: int, v: int) -> tuple[bytes, bytes]:
    return codec.encode_record((i, v, f"s{v}") if codec is CODECS["int"] else (f"k{i}", i, v))


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("budget", [1 << 30, 3000])
def test_random_commits(name: str, seed: int, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Edits by slices and by one take, patches of everything and of a few keys only.
    monkeypatch.setattr(scan, "SLICED_EDITS_MAX", 256 * (seed % 2))
    monkeypatch.setattr(segments, "CHANGES_MIN", 64 if seed < 3 else 2)
    rng, codec, store = random.Random(seed), CODECS[name], NaiveStore()
    cache = SegmentCache(store, budget)  # type: ignore[arg-type]
    stamps = [store.now_ts()]
    for _ in range(60):
        writes: dict[bytes, bytes | None] = {}
        for _ in range(rng.randrange(1, 6)):
            key, value = record(codec, rng.randrange(60), rng.randrange(100))
            writes[key] = None if rng.random() < 0.3 else value
        if rng.random() < 0.2:
            extra = record(codec, rng.randrange(60), 1000)
            store.during_scan.append(lambda extra=extra: store.commit([extra]))
        store.commit(sorted(writes.items()))
        stamps.append(store.now_ts())
        ts = stamps[-1] if rng.random() < 0.7 else rng.choice(stamps)
        same(cache, store, codec, ts, rng.sample(range(3), rng.randrange(0, 4)))
        store.during_scan.clear()


def counters(cache: SegmentCache) -> tuple[int, int, int]:
    stats = cache.stats()
    return stats["builds"], stats["patches"], stats["decodes"]


def test_only_the_touched_segment_is_patched() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(64)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [0, 1])
    assert counters(cache) == (8, 0, 16)
    same(cache, store, codec, store.now_ts(), [0, 1])
    assert counters(cache) == (8, 0, 16)
    for i in (20, 21, 63, 64, 0):
        store.commit([record(codec, i, 99)])
    same(cache, store, codec, store.now_ts(), [0, 1])
    assert counters(cache) == (8, 3, 16)


def test_many_changes_make_a_segment_be_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "CHANGES_MIN", 2)
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(16)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [0, 1])
    for changed, expected in ((range(2), (2, 1, 4)), (range(3), (3, 1, 6)), (range(8), (4, 1, 8))):
        store.commit([record(codec, i, 50) for i in changed])
        same(cache, store, codec, store.now_ts(), [0, 1])
        assert counters(cache) == expected


def test_a_segment_that_has_grown_is_split() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(6)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    for at in range(6, 60):
        store.commit([record(codec, at, at)])
        same(cache, store, codec, store.now_ts(), [0, 1])
    assert cache.stats()["segments"] >= 4


def test_older_readers_lay_the_changes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, store = CODECS["common"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(8)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [0, 1, 2])
    stamps = []
    for i in range(12):
        store.commit([record(codec, i, i + 100), (record(codec, 2 * i, 0)[0], None)])
        stamps.append(store.now_ts())
        same(cache, store, codec, stamps[-1], [0, 1, 2])

    def refuse(*args: object, **kwargs: object) -> Iterator[PackedBatch]:
        raise AssertionError("the range is read again")

    for ts in reversed(stamps):
        reader = store.snapshot(ts)
        expected = rows_in(scan_table(reader, codec, [0, 2]), codec, [0, 2])
        with monkeypatch.context() as patched:
            patched.setattr(NaiveReader, "scan_packed", refuse)
            assert rows_in(cache.scan(ts, reader, codec, [0, 2]), codec, [0, 2]) == expected


def test_counts_keep_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(64)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [])
    assert cache.stats()["packed_bytes"] == 0
    assert cache.stats()["bytes"] == 64 * 8
    builds = cache.stats()["builds"]
    monkeypatch.setattr(BatchDecoder, "stored_columns", None)
    found = rows_in(cache.scan(store.ts, store.snapshot(store.ts), codec, [0]), codec, [0])
    assert found == [(i,) for i in range(64)]
    assert cache.stats()["builds"] == builds


def test_packed_rows_go_when_all_is_decoded() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(64)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [1])
    assert cache.stats()["packed_bytes"] > 0
    same(cache, store, codec, store.now_ts(), [0, 2])
    assert cache.stats()["packed_bytes"] == 0


def test_an_older_reader_after_a_commit() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(20)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    old = store.now_ts()
    same(cache, store, codec, old, [0, 1])
    store.commit([record(codec, 3, 99), (record(codec, 4, 0)[0], None)])
    same(cache, store, codec, old, [0, 1])
    same(cache, store, codec, store.now_ts(), [0, 1])
    same(cache, store, codec, old, [0, 1])


def test_a_commit_on_its_way_is_waited_for() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(20)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [0, 1])
    store.on_its_way.append((store.now_ts(), [record(codec, 3, 99)]))
    ts = store.now_ts()
    found = rows_in(cache.scan(ts, store.snapshot(ts), codec, [0, 1]), codec, [0, 1])
    assert (3, 99) in found
    same(cache, store, codec, ts, [0, 1])


def test_a_commit_on_its_way_to_a_patch_is_waited_for() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(8)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [0, 1])
    store.commit([record(codec, 3, 99)])
    ts = store.now_ts()
    # Newer than the reader and older than the patch's snapshot, which meets it in a key that changed before.
    store.on_its_way.append((store.now_ts(), [record(codec, 3, 100), record(codec, 5, 100)]))
    found = rows_in(cache.scan(ts, store.snapshot(ts), codec, [0, 1]), codec, [0, 1])
    assert found == [(i, 99 if i == 3 else i) for i in range(8)]
    same(cache, store, codec, ts, [0, 1])
    same(cache, store, codec, store.now_ts(), [0, 1])
    assert cache.stats()["patches"] == 1


def test_columns_left_behind_catch_up() -> None:
    codec, store = CODECS["common"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(8)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [0, 1, 2])
    decodes = cache.stats()["decodes"]
    for step, offsets in enumerate(([0], [0], [2], [1], [0, 1], [2], [0], [0], [1, 2])):
        deleted = record(codec, (5 * step + 1) % 12, 0)[0]
        store.commit(sorted({**dict([record(codec, 3 * step % 12, step)]), deleted: None}.items()))
        same(cache, store, codec, store.now_ts(), offsets)
    assert cache.stats()["decodes"] == decodes
    assert cache.stats()["builds"] == 1


def test_ingest_and_drop_forget() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(20)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    same(cache, store, codec, store.now_ts(), [0])
    assert cache.stats()["bytes"] > 0
    cache.on_ingest(store.now_ts(), *codec.record_range)
    assert (cache.stats()["bytes"], cache.stats()["tables"]) == (0, 0)
    same(cache, store, codec, store.now_ts(), [0])
    cache.drop(codec)
    assert cache.stats()["bytes"] == 0


def test_nothing_is_cached_while_a_reported_load_is_not_visible() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(20)])
    cache = SegmentCache(store)  # type: ignore[arg-type]
    commit_ts = store.now_ts()
    cache.on_ingest(commit_ts, *codec.record_range)
    between = store.now_ts()
    same(cache, store, codec, between, [0])
    assert cache.stats()["bytes"] == 0
    # The records turn up with their old commit_ts; a reader from before that must go on without them.
    for key, value in (record(codec, i, i) for i in range(20, 30)):
        store.versions[key] = [(commit_ts, value)]
    same(cache, store, codec, store.now_ts(), [0])
    assert cache.stats()["bytes"] > 0
    builds = cache.stats()["builds"]
    cache.scan(between, store.snapshot(between), codec, [0])
    same(cache, store, codec, store.now_ts(), [0])
    assert cache.stats()["builds"] == builds


@pytest.mark.parametrize("seed", range(3))
def test_embedded_store_under_concurrent_writers(seed: int) -> None:
    codec, store = CODECS["int"], EmbeddedStore.open(None, LocalOracle)
    cache = SegmentCache(store)
    seen = threading.Semaphore(0)

    def write(worker: int) -> None:
        rng = random.Random(seed * 10 + worker)
        for _ in range(100):
            # Readers set the pace, so that there are scans between the commits.
            seen.acquire()
            # A worker moves one unit between two of its own rows, so the sum over all rows never changes.
            a, b = rng.sample(range(worker * 20, worker * 20 + 20), 2)
            txn = store.begin()
            decode = codec.decoder([1])
            for i, change in ((a, 1), (b, -1)):
                old = txn.get(codec.record_key(i))
                txn.put(*record(codec, i, change + (decode(i, old)[0] if old is not None else 0)))
            txn.commit()

    workers = [threading.Thread(target=write, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(100):
            seen.release(2)
            reader = store.snapshot()
            found = rows_in(cache.scan(reader.ts, reader, codec, [0, 1]), codec, [0, 1])
            assert found == rows_in(scan_table(reader, codec, [0, 1]), codec, [0, 1])
            assert sum(v for _, v in found) == 0
    finally:
        seen.release(200)
        for worker in workers:
            worker.join()
        store.close()


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize("seed", range(2))
def test_threads_at_random_timestamps(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers and readers, old and new, of one cache: each scan is what a naive scan at its timestamp says."""
    monkeypatch.setattr(segments, "CHANGES_MIN", 3)
    codec, store = CODECS[name], EmbeddedStore.open(None, LocalOracle)
    cache = SegmentCache(store, 20_000 if seed else None)
    failures: list[object] = []

    def write(worker: int) -> None:
        rng = random.Random(seed * 100 + worker)
        for _ in range(60):
            txn = store.begin()
            for i in rng.sample(range(worker * 40, worker * 40 + 40), rng.randrange(1, 4)):
                key, value = record(codec, i, rng.randrange(1000))
                if rng.random() < 0.3:
                    txn.delete(key)
                else:
                    txn.put(key, value)
            txn.commit()
            read(rng)

    def read(rng: random.Random) -> None:
        newest = store.now_ts()
        ts = newest if rng.random() < 0.6 else rng.randrange(first, newest + 1)
        offsets = rng.sample(range(3), rng.randrange(0, 4))
        reader = store.snapshot(ts)
        found = rows_in(cache.scan(ts, reader, codec, offsets), codec, offsets)
        if found != rows_in(scan_table(reader, codec, offsets), codec, offsets):
            failures.append((ts, offsets))

    first = store.now_ts()
    workers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store.close()
    assert not failures
    assert cache.stats()["patches"] > 0


def test_budget_is_kept() -> None:
    codec, store = CODECS["int"], NaiveStore()
    store.commit([record(codec, i, i) for i in range(200)])
    cache = SegmentCache(store, budget_bytes=8000)  # type: ignore[arg-type]
    for offsets in ([0], [1], [2], [0, 1, 2]):
        same(cache, store, codec, store.now_ts(), offsets)
        assert cache.stats()["bytes"] <= 8000
    assert cache.stats()["bytes"] == sum(s.rows.nbytes for s in all_segments(cache))


def all_segments(cache: SegmentCache) -> list[Any]:
    return [s for table in cache._tables.values() for s in table.segments if s.rows is not None]


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize("seed", range(5))
def test_own_writes_are_laid_over(name: str, seed: int) -> None:
    rng, codec, store = random.Random(seed), CODECS[name], NaiveStore()
    live = dict(record(codec, i, i) for i in rng.sample(range(50), 30))
    store.commit(sorted(live.items()))
    cache = SegmentCache(store)  # type: ignore[arg-type]
    dirty: dict[bytes, bytes | None] = {}
    for _ in range(15):
        key, value = record(codec, rng.randrange(60), 500)
        dirty[key] = None if rng.random() < 0.4 else value
    merged = {**live, **dirty}
    decode = codec.key_decoder()
    expected = [decode(key, value) for key, value in sorted(merged.items()) if value is not None]
    ts = store.now_ts()
    found = cache.scan(ts, store.snapshot(ts), codec, range(3), dirty=sorted(dirty.items()))
    assert rows_in(found, codec, range(3)) == expected
    assert sum(b.num_rows for b in cache.scan(ts, store.snapshot(ts), codec, [], dirty=sorted(dirty.items()))) == len(
        expected
    )


def test_a_commit_that_came_late_is_not_forgotten() -> None:
    """Rows as of 110 lack a commit at 105 that was reported afterwards; to remember it, older ones are given up."""
    there = {b"k%d" % i: 100 for i in range(CHANGES_MIN)}
    segment = _Segment(b"k", b"l", valid_from=110, valid_until=FOREVER, known_from=90, changes=there)
    segment.note(105, b"klate")
    assert segment.valid_until == 105
    assert segment.changed_since(FOREVER) == [b"klate"]
    assert len(segment.changes) == 1


class _LiveRows:
    """Versions of rows that are read live, as a region's are, and reported when a scan waits for that; `between` is
    done after a fresh reader has been made, before it reads."""

    shows_reported = True

    def __init__(self, cache: SegmentCache) -> None:
        self._cache = cache
        self._versions: dict[bytes, list[tuple[int, bytes]]] = {}
        self._unreported: list[tuple[int, bytes]] = []
        self.between: Callable[[], None] = lambda: None

    def commit(self, ts: int, key: bytes, value: bytes) -> None:
        self._versions.setdefault(key, []).append((ts, value))
        self._unreported.append((ts, key))

    def told(self) -> None:
        reported, self._unreported = self._unreported, []
        self._cache.note(reported)

    def settle(self, start: bytes, end: bytes) -> None:
        self.told()

    def fresh(self, start: bytes, end: bytes) -> Any:
        return _LiveReader(self, FOREVER - 1)

    def at(self, ts: int) -> Any:
        return _LiveReader(self, ts)

    def seen(self, ts: int) -> dict[bytes, tuple[int, bytes]]:
        newest = {key: [v for v in versions if v[0] <= ts][-1:] for key, versions in sorted(self._versions.items())}
        return {key: versions[0] for key, versions in newest.items() if versions}


class _LiveReader:
    def __init__(self, rows: _LiveRows, ts: int) -> None:
        self._rows = rows
        self.ts = ts

    def batch_get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        self._rows.between()
        seen = self._rows.seen(self.ts)
        return {key: seen[key][1] for key in keys if key in seen}

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 0) -> Iterator[PackedBatch]:
        seen = self._rows.seen(self.ts)
        yield pack_pairs([(key, value) for key, (_, value) in seen.items()], max(ts for ts, _ in seen.values()))


def test_a_value_of_a_later_commit_is_not_shown_before_it() -> None:
    """A commit that comes between a fresh reader and its read is in what is patched, and bounds whom that serves."""
    codec = TableCodec(int_table())
    cache = SegmentCache(None)
    rows = _LiveRows(cache)
    keys = {}
    for i in range(4):
        keys[i], value = codec.encode_record((i, 10, "s"), None)
        rows.commit(10, keys[i], value)

    def shown(ts: int) -> list[int]:
        pieces = cache.pieces(ts, _LiveReader(rows, ts), rows, codec, [1])  # type: ignore[arg-type]
        return [n for piece in pieces for n in piece.batch.column(0).to_pylist()]

    def late() -> None:
        rows.between = lambda: None
        rows.commit(50, keys[1], codec.encode_record((1, 50, "s"), None)[1])

    assert shown(20) == [10, 10, 10, 10]
    rows.commit(30, keys[1], codec.encode_record((1, 30, "s"), None)[1])
    rows.between = late
    assert shown(35) == [10, 30, 10, 10]
    assert shown(40) == [10, 30, 10, 10]
    assert shown(50) == [10, 50, 10, 10]
    assert shown(20) == [10, 10, 10, 10]
    assert cache.stats()["patches"] > 0
