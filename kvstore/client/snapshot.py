"""Readers of the embedded store: a consistent view at one timestamp.

A snapshot at T must show every commit at or below T, durable ones only. When it is made it notes the commits that are
on their way (they may have drawn a smaller timestamp); a read that touches one of those waits until it is durable. Any
iterator made after the snapshot shows all the rest, so a thread's reusable iterator serves if it is young enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kvstore.client.api import PackedBatch
from kvstore.errors import SnapshotTooOld
from kvstore.mvcc.chunks import Chunk, pairs_of
from kvstore.mvcc.keys import data_key, ts_suffix
from kvstore.mvcc.point import CONTINUES, PUT, SHORT, NeedsDefault, read_version, u64_le

if TYPE_CHECKING:
    from kvstore.client.embedded import EmbeddedStore
    from kvstore.client.pending import Commit


class Snapshot:
    """Committed data at `ts`; valid as long as `ts` is not below the GC safe point."""

    __slots__ = ("_pending", "_seq", "_store", "_suffix", "special", "ts")

    def __init__(self, store: EmbeddedStore, ts: int) -> None:
        self.ts = ts
        self._store = store
        self._suffix = ts_suffix(ts)
        # a load that begins later draws a later commit_ts, and so hides nothing from this snapshot
        self.special = store.special_reads and store.may_hide(ts)
        """Whether reads have to look for loads that hide records."""
        # this order matters: a commit that is gone from `committing` has moved write_seq before
        self._pending: list[Commit] = list(store.committing) if store.committing else []
        self._seq: int = store.engine.write_seq

    def _settle(self, start: bytes, end: bytes | None) -> None:
        """Waits for the noted commits that touch the key `start` (end None) or the range, and forgets finished ones."""
        rest: list[Commit] = []
        for commit in self._pending:
            if not commit.finished and (commit.commit_ts == 0 or commit.commit_ts <= self.ts):
                if not commit.touches(start, end):
                    rest.append(commit)
                    continue
                commit.wait_finished()
        self._pending = rest
        self._seq = self._store.engine.write_seq

    def get(self, key: bytes) -> bytes | None:
        if self._pending:
            self._settle(key, None)
        store = self._store
        if self.special and store.is_special(self.ts):
            return store.get_special(self, key)
        hot = store.hot_ranges.get(self.ts, key)
        if hot is not None:
            store.check_running()
            self.check_age()
            return hot[0]
        cursor = store.cursor()
        raw = cursor.raw
        if raw is None or cursor.seq < self._seq:
            raw = cursor.refresh()
        encoded = data_key(key)
        try:
            value = read_version(raw, encoded, encoded + self._suffix, self.ts)
        except NeedsDefault as need:
            value = store.load_default(self, encoded, need.start_ts)
        # checked after the read: the safe point moves before anything is removed
        if self.ts < store.safe_point:
            raise SnapshotTooOld(self.ts, store.safe_point)
        return value

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Seeks one iterator from key to key; quickest when they ascend."""
        store = self._store
        if self._pending:
            keys = list(keys)
            for key in keys:
                self._settle(key, None)
        if self.special and store.is_special(self.ts):
            return {key: value for key in keys if (value := store.get_special(self, key)) is not None}
        cursor = store.cursor()
        raw = cursor.raw
        if raw is None or cursor.seq < self._seq:
            raw = cursor.refresh()
        found: dict[bytes, bytes] = {}
        seek, at_key, at_value = raw.seek, raw.key, raw.value
        suffix, ts = self._suffix, self.ts
        for key in keys:
            encoded = data_key(key)
            seek_key = encoded + suffix
            seek(seek_key)
            at = at_key()
            if at is not None and not at.startswith(encoded):  # no data key is a prefix of another
                continue
            record = at_value()
            # the layout that `point.short_or_default` explains
            if (
                record is not None
                and record[0] == PUT
                and len(record) > 11
                and record[10] == SHORT
                and record[9] < 0x80
                and len(record) == 12 + record[11]
                and u64_le(record, 1)[0] & CONTINUES == CONTINUES
            ):
                found[key] = record[12:]
                continue
            try:
                value = read_version(raw, encoded, seek_key, ts)
            except NeedsDefault as need:
                value = store.load_default(self, encoded, need.start_ts)
            if value is not None:
                found[key] = value
        self.check_age()
        return found

    def _prepare_range(self, start: bytes, end: bytes) -> None:
        if self._pending:
            self._settle(start, end)

    def check_age(self) -> None:
        """Raises SnapshotTooOld when versions this snapshot needs may be gone."""
        if self.ts < self._store.safe_point:
            raise SnapshotTooOld(self.ts, self._store.safe_point)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return pairs_of(self.scan_chunks(start, end, reverse=reverse))

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        self._prepare_range(start, end)
        if not self.special:
            hot = self._store.hot_ranges.chunks(self.ts, start, end, reverse=reverse)
            if hot is not None:
                self._store.check_running()
                self.check_age()
                return hot
        return self._store.scan_range(self, start, end, reverse)

    def scan_engine(self, start: bytes, end: bytes) -> Iterator[Chunk]:
        """Like an ascending `scan_chunks`, past the cache of hot ranges."""
        self._prepare_range(start, end)
        return self._store.scan_range(self, start, end, False)

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        self._prepare_range(start, end)
        return self._store.scan_range_packed(self, start, end, batch_rows)
