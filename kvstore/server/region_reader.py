"""A reader over a store's engine for long scans on another thread (`kvstore.client.api.Reader`).

The loop grants the read, raises `max_ts` to its timestamp and looks at the locks in flight (`coprocess`). What commits
from then on does so above the timestamp, so the engine may be read at whatever state it is in, as long as the locks of
a key are looked at before its versions: a commit at or below the timestamp is then seen as one or the other. What goes
away beneath a scan, a region's data, is watched for on the loop.

Caveat: a range that is destroyed meanwhile (UnsafeDestroyRange, KvDeleteRange) may be seen in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kvstore.engine.api import CF_LOCK, CF_WRITE, Engine
from kvstore.mvcc.batch import PackedBatch
from kvstore.mvcc.chunks import Chunk, pairs_of
from kvstore.mvcc.keys import TS_BYTES, TS_MAX, data_key, data_range, user_key
from kvstore.mvcc.packed import pack_pairs, scan_packed
from kvstore.mvcc.reader import MetLock
from kvstore.mvcc.scan import scan_chunks
from kvstore.server.concurrency import ConcurrencyManager
from kvstore.server.snapshot import Isolation, SnapshotReads, load_default, locks_in, value_of_lock

PACKED_ROWS_MAX = 4096
"""Rows taken from the engine at once: that holds the interpreter, and the store's loop waits for it."""
ROW_WISE_ROWS = 256
"""Rows of a chunk where each has to be looked at for newer versions."""

CHANGES = (b"P", b"D")
"""How write records of changes begin: the others are of rollbacks and of rows that were only locked."""

Range = tuple[bytes, bytes]


class RegionReader:
    """Committed data at `ts`. Raises MetLock at a lock in the way, WriteConflict (RCCheckTS), and what `check` does.

    Used by one thread at a time; `check` is called before every step.
    """

    def __init__(
        self,
        engine: Engine,
        ts: int,
        isolation: Isolation,
        check: Callable[[], None],
        bounds: Range = (b"", b""),
    ) -> None:
        """`bounds` are the region's, as keys of users; an empty end is none."""
        self._engine = engine
        self._ts = ts
        self._isolation = isolation
        self.check = check
        self.bounds = bounds
        self._points: SnapshotReads | None = None
        self._others: list[RegionReader] = []
        """Made by `newest`."""
        self.keys = 0
        self.bytes = 0
        """What was given out."""
        self.is_stable = isolation == Isolation()
        """Whether all reads so far would give the same at any later timestamp while nothing is written: they met
        neither a lock nor a version above `ts`. False where that is not looked at: point reads, descending scans."""

    @property
    def ts(self) -> int:
        return self._ts

    @property
    def is_plain(self) -> bool:
        """Whether it reads its timestamp's snapshot, and every lock below that is in the way."""
        return self._isolation == Isolation()

    def newest(self, ts: int = TS_MAX) -> RegionReader:
        """A reader of what is committed at or below `ts`, whatever is locked: for whoever looked at the locks."""
        made = RegionReader(self._engine, ts, Isolation(ignore_locks=True), self.check, self.bounds)
        self._others.append(made)
        return made

    def close(self) -> None:
        """Drops iterators, and those of the readers it has made."""
        for other in self._others:
            other.close()
        if self._points is not None:
            self._points.release()

    def _reads(self) -> SnapshotReads:
        if self._points is None:
            # the timestamp is known and locks in flight were looked at: nothing is left to be told or asked
            self._points = SnapshotReads(self._engine, ConcurrencyManager())
        return self._points

    def get(self, key: bytes) -> bytes | None:
        self.is_stable = False
        found = self._reads().get(key, data_key(key), self._ts, self._isolation)
        if found is None:
            return None
        self.count(1, len(key) + len(found[0]))
        return found[0]

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        self.check()
        return {key: value for key in keys if (value := self.get(key)) is not None}

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return pairs_of(self.scan_chunks(start, end, reverse=reverse))

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        self.is_stable = False
        if self._isolation.check_newest:
            yield from map(Chunk.of, self._row_wise(start, end, ROW_WISE_ROWS, reverse=reverse))
            return
        for part in self._parts(start, end, reverse=reverse):
            if isinstance(part, list):
                yield Chunk.of(part)
                continue
            for chunk in scan_chunks(self._engine, *part, self._ts, self._load, self.check, reverse=reverse):
                self.check()
                self.count(len(chunk), sum(map(len, chunk.values)))
                yield chunk

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        rows = min(batch_rows, PACKED_ROWS_MAX)
        if self._isolation.check_newest:
            for pairs in self._row_wise(start, end, min(rows, ROW_WISE_ROWS), reverse=False):
                yield pack_pairs(pairs, 0)
            return
        for part in self._parts(start, end, reverse=False):
            if isinstance(part, list):
                yield pack_pairs(part, 0)
                continue
            for packed in scan_packed(self._engine, *part, self._ts, self._load, self.check, rows):
                self.check()
                self.is_stable = self.is_stable and not packed.has_newer
                size = packed.key_ends - packed.key_starts + packed.value_ends - packed.value_starts
                self.count(packed.count, int(size.sum()))
                yield packed

    def check_locks(self, start: bytes, end: bytes) -> list[bytes]:
        """The keys of a range whose locks are values, of transactions known to be committed. Raises MetLock at others
        that may hide a row."""
        low, high = data_range(start, end)
        if self._isolation.ignore_locks or low >= high or not self._has_locks(low, high):
            return []
        self.is_stable = False
        self.check()
        found: list[bytes] = []
        for row in locks_in(self._engine, low, high, self._ts, self._isolation, False):
            if row.lock.start_ts not in self._isolation.access:
                raise MetLock(row.key, row.lock)
            found.append(row.key)
        return found

    def newer(self, start: bytes, end: bytes) -> list[tuple[bytes, int]]:
        """The keys of a range that were written by commits above the timestamp, with these, all versions of each."""
        low, high = data_range(start, end)
        found: list[tuple[bytes, int]] = []
        scanner = self._engine.scanner(CF_WRITE, low, high)
        try:
            while flat := scanner.take(PACKED_ROWS_MAX):
                self.check()
                for encoded, record in zip(flat[::2], flat[1::2], strict=True):
                    commit_ts = int.from_bytes(encoded[-TS_BYTES:], "big") ^ TS_MAX
                    if commit_ts > self._ts and record[:1] in CHANGES:
                        found.append((user_key(encoded), commit_ts))
        finally:
            scanner.release()
        return found

    def _parts(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[Range | list[tuple[bytes, bytes]]]:
        """The range in its order, cut at locks: parts without, and single rows that are locks known to be committed.

        Raises MetLock where one is in the way, when all before it was taken.
        """
        low, high = data_range(start, end)
        if low >= high:
            return
        if self._isolation.ignore_locks or not self._has_locks(low, high):
            yield start, end
            return
        self.is_stable = False
        for row in locks_in(self._engine, low, high, self._ts, self._isolation, reverse):
            behind = row.key + b"\0"
            part = (behind, end) if reverse else (start, row.key)
            if part[0] < part[1] or not part[1]:
                yield part
            start, end = (start, row.key) if reverse else (behind, end)
            if row.lock.start_ts not in self._isolation.access:
                raise MetLock(row.key, row.lock)
            value = value_of_lock(self._engine, data_key(row.key), row.lock)
            if value is not None:
                self.count(1, len(row.key) + len(value))
                yield [(row.key, value)]
        if start < end or not end:
            yield start, end

    def _has_locks(self, low: bytes, high: bytes) -> bool:
        scanner = self._engine.scanner(CF_LOCK, low, high)
        try:
            return bool(scanner.take(1))
        finally:
            scanner.release()

    def _row_wise(self, start: bytes, end: bytes, rows: int, *, reverse: bool) -> Iterator[list[tuple[bytes, bytes]]]:
        """Rows one by one, each looked at for newer versions."""
        pairs: list[tuple[bytes, bytes]] = []
        for row in self._reads().scan(start, end, self._ts, self._isolation, reverse=reverse):
            if isinstance(row, MetLock):
                raise row
            self.count(1, len(row[0]) + len(row[1]))
            pairs.append(row)
            if len(pairs) >= rows:
                self.check()
                yield pairs
                pairs = []
        if pairs:
            yield pairs

    def _load(self, encoded: bytes, start_ts: int) -> bytes:
        return load_default(self._engine, encoded, start_ts)

    def count(self, keys: int, size: int) -> None:
        """Notes what was given out."""
        self.keys += keys
        self.bytes += size
