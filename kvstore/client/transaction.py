"""A transaction of the embedded store: a snapshot, a write buffer over it, and its locks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from kvstore.client.api import LOCK_WAIT_MS, CancelToken, CommitCheck, PackedBatch, Parts, Reader
from kvstore.client.merge import merge_chunks, merge_packed
from kvstore.client.snapshot import Snapshot
from kvstore.client.write_buffer import WriteBuffer
from kvstore.errors import ReadOnlyTxn, TxnNotFound, TxnTooLarge
from kvstore.mvcc.chunks import Chunk, pairs_of
from kvstore.mvcc.keys import TS_MAX

if TYPE_CHECKING:
    from kvstore.client.embedded import EmbeddedStore
    from kvstore.client.pending import Commit


def _merged_batch_get(snapshot: Snapshot, buffer: WriteBuffer, keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """The values of `keys` with the buffered writes over those of the snapshot."""
    writes = buffer.writes
    if not writes:
        return snapshot.batch_get(keys)
    wanted = list(keys)
    others = [key for key in wanted if key not in writes]
    found = snapshot.batch_get(others)
    if len(others) == len(wanted):
        return found
    return buffer.over(found, wanted)


class MergedReader:
    """A snapshot with a transaction's own writes over it."""

    __slots__ = ("_buffer", "_snapshot")

    def __init__(self, snapshot: Snapshot, buffer: WriteBuffer) -> None:
        self._snapshot = snapshot
        self._buffer = buffer

    @property
    def ts(self) -> int:
        return self._snapshot.ts

    def get(self, key: bytes) -> bytes | None:
        writes = self._buffer.writes
        if writes and key in writes:
            return writes[key]
        return self._snapshot.get(key)

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return _merged_batch_get(self._snapshot, self._buffer, keys)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return pairs_of(self.scan_chunks(start, end, reverse=reverse))

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        own = self._buffer.entries(start, end)
        chunks = self._snapshot.scan_chunks(start, end, reverse=reverse)
        return merge_chunks(chunks, own, reverse=reverse) if own else chunks

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        own = self._buffer.entries(start, end)
        batches = self._snapshot.scan_packed(start, end, batch_rows=batch_rows)
        return merge_packed(batches, own) if own else batches


class LockOwner:
    """The transaction as the lock table holds it: a dropped transaction must not live on in its locks."""

    __slots__ = ("start_ts",)

    def __init__(self, start_ts: int) -> None:
        self.start_ts = start_ts


class EmbeddedTransaction:
    """See `api.Transaction`. Over after commit or rollback; dropped without either, its locks are released."""

    def __init__(self, store: EmbeddedStore, start_ts: int, *, pessimistic: bool, read_only: bool) -> None:
        self.pessimistic = pessimistic
        self.cancel: CancelToken | None = None
        self.lock_wait_ms = LOCK_WAIT_MS
        self._start_ts = start_ts
        self.owner = LockOwner(start_ts)
        self._store = store
        self._read_only = read_only
        self._over = False
        self._ended = False
        self._buffer = WriteBuffer()
        self._snapshot: Snapshot | None = None
        self.locks: set[bytes] = set()
        self.committing: Commit | None = None
        self._marked: set[bytes] = set()
        self._witnessed: set[bytes] = set()

    # -- reading

    @property
    def start_ts(self) -> int:
        return self._start_ts

    @property
    def commit_ts(self) -> int:
        return self.committing.commit_ts if self.committing is not None else 0

    @property
    def ts(self) -> int:
        return self._start_ts

    def _base(self) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            snapshot = self._snapshot = Snapshot(self._store, self._start_ts)
        return snapshot

    def get(self, key: bytes) -> bytes | None:
        writes = self._buffer.view().writes
        if writes and key in writes:
            return writes[key]
        return self._base().get(key)

    def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return _merged_batch_get(self._base(), self._buffer.view(), keys)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self._merged().scan(start, end, reverse=reverse)

    def scan_chunks(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Chunk]:
        return self._merged().scan_chunks(start, end, reverse=reverse)

    def scan_packed(self, start: bytes, end: bytes, *, batch_rows: int = 65536) -> Iterator[PackedBatch]:
        return self._merged().scan_packed(start, end, batch_rows=batch_rows)

    def _merged(self) -> MergedReader:
        return MergedReader(self._base(), self._buffer.view())

    def before(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return self._base().batch_get(keys)

    def shade(self, prefix: bytes, shades: Mapping[bytes, bytes | None]) -> None:
        self._buffer.shade(prefix, shades)

    def is_shaded(self, prefix: bytes) -> bool:
        return self._buffer.is_shaded(prefix)

    def at(self, ts: int) -> Reader:
        self._buffer.unshade()
        return MergedReader(Snapshot(self._store, ts), self._buffer)

    # -- writing

    def _writable(self) -> WriteBuffer:
        if self._over:
            raise TxnNotFound(f"transaction {self._start_ts} is over")
        if self._read_only:
            raise ReadOnlyTxn(f"transaction at {self._start_ts} is read-only")
        buffer = self._buffer
        if buffer.bytes > self._store.txn_bytes_max:
            raise TxnTooLarge(
                f"transaction is over {self._store.txn_bytes_max} bytes; write less at a time or use a bulk load"
            )
        return buffer

    def put(self, key: bytes, value: bytes) -> None:
        self._writable().set(key, value)

    def patch(self, key: bytes, value: bytes, parts: Parts) -> None:
        self._writable().patch(key, value, parts)

    def insert(self, key: bytes, value: bytes) -> None:
        self._writable().insert(key, value)

    def delete(self, key: bytes) -> None:
        self._writable().set(key, None)

    def dirty(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        return self._buffer.view().entries(start, end)

    def has_dirty(self, start: bytes, end: bytes) -> bool:
        return self._buffer.view().touches(start, end)

    def mark(self) -> int:
        return self._buffer.mark()

    def undo_to(self, mark: int) -> None:
        self._buffer.undo_to(mark)

    @property
    def is_dirty(self) -> bool:
        return bool(self._buffer.writes)

    # -- locking

    def lock_keys(
        self, keys: Sequence[bytes], *, for_update_ts: int, wait_ms: int, skip_locked: bool = False
    ) -> list[bytes]:
        self._writable()
        if not self.pessimistic:
            self._marked.update(keys)
            return list(keys)
        taken: list[bytes] = []
        locked: list[bytes] = []
        try:
            for key in keys:
                if key in self.locks:
                    locked.append(key)
                    continue
                # noted first: an interrupt must not leave a lock that nobody knows
                taken.append(key)
                self.locks.add(key)
                if self._store.committer.lock(self, key, wait_ms, skip_locked):
                    locked.append(key)
                else:
                    taken.pop()
                    self.locks.discard(key)
            self._store.committer.check_locked(taken, self._start_ts, for_update_ts)
        except BaseException:
            self._store.lock_table.release(taken, self.owner)
            self.locks.difference_update(taken)
            raise
        return locked

    def witness(self, keys: Iterable[bytes]) -> None:
        self._writable()
        self._witnessed.update(keys)

    def lock_and_get(self, keys: Sequence[bytes], *, for_update_ts: int = 0, wait_ms: int) -> dict[bytes, bytes]:
        # Who reads nothing else draws the timestamp behind the locks: nobody can have written between.
        self.lock_keys(keys, for_update_ts=for_update_ts or TS_MAX, wait_ms=wait_ms)
        ts = for_update_ts or self._store.now_ts()
        reader: Reader = self.at(ts) if self.pessimistic else self
        found: dict[bytes, bytes] = {}
        for key in keys:
            value = reader.get(key)
            if value is not None:
                found[key] = value
        return found

    # -- the end

    def commit(self, check: CommitCheck | None = None) -> int:
        if self._over:
            raise TxnNotFound(f"transaction {self._start_ts} is over")
        if not self._buffer.writes and not self._witnessed:
            self.rollback()
            return self._start_ts
        self._over = True
        try:
            self._writable_at_commit()
            return self._store.committer.commit(self, self._buffer, self._marked, check, self._witnessed)
        finally:
            self._end()

    def _writable_at_commit(self) -> None:
        if self._read_only:
            raise ReadOnlyTxn(f"transaction at {self._start_ts} is read-only")
        if self._buffer.bytes > self._store.txn_bytes_max:
            raise TxnTooLarge(f"transaction is over {self._store.txn_bytes_max} bytes")

    def rollback(self) -> None:
        if not self._over:
            self._over = True
            self._end()

    def _end(self) -> None:
        if self.locks:
            self._store.lock_table.release(self.locks, self.owner)
        self._store.forget(self)
        self._snapshot = None
        self._ended = True

    def __del__(self) -> None:
        # dropped without an end, or interrupted in it
        if not self._ended:
            own = self.committing.locks if self.committing is not None else ()
            self._store.orphan([*self.locks, *own], self.owner, id(self))
