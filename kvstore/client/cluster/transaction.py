"""A transaction over a cluster: a snapshot, a write buffer over it, its locks, and its commit.

Optimistic: conflicts are found at commit. Pessimistic: `lock_keys` locks before writing, against the newest commits.
The methods are `kvstore.client.api.Transaction`'s, awaited.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence

from kvstore.client.api import LOCK_WAIT_MS, CancelToken, CommitCheck
from kvstore.client.cluster.committer import Committer, Mutation
from kvstore.client.cluster.keep_alive import KeepAlive
from kvstore.client.cluster.parts import Parts
from kvstore.client.cluster.pessimistic import PessimisticLocks
from kvstore.client.cluster.snapshot import Snapshot
from kvstore.client.write_buffer import Overlay, Pair, WriteBuffer, laid_over
from kvstore.errors import KeyExists, ReadOnlyTxn, TxnNotFound, TxnTooLarge, WriteConflict
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb

_LOCKED = kvrpcpb.PrewriteRequest.DO_PESSIMISTIC_CHECK
_NOT_LOCKED = kvrpcpb.PrewriteRequest.SKIP_PESSIMISTIC_CHECK


class MergedReader:
    """A snapshot with a transaction's own writes over it."""

    def __init__(self, snapshot: Snapshot, buffer: WriteBuffer) -> None:
        self._snapshot = snapshot
        self._buffer = buffer

    @property
    def ts(self) -> int:
        return self._snapshot.ts

    def buffered(self, key: bytes) -> tuple[bytes | None] | None:
        """The transaction's own value of the key (None: deleted), as the one item; None if it has not written it."""
        writes = self._buffer.view().writes
        return (writes[key],) if key in writes else None

    async def get(self, key: bytes) -> bytes | None:
        """The transaction's own value, or the one visible at `ts`."""
        own = self.buffered(key)
        return await self._snapshot.get(key) if own is None else own[0]

    async def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        view = self._buffer.view()
        wanted = list(dict.fromkeys(keys))
        found = await self._snapshot.batch_get(key for key in wanted if key not in view.writes)
        return view.over(found, wanted)

    async def scan(
        self, start: bytes, end: bytes, *, limit: int | None = None, reverse: bool = False
    ) -> AsyncIterator[Pair]:
        """Pairs with start <= key < end (empty: no bound), ascending or descending, at most `limit`."""
        if limit is not None and limit <= 0:
            return
        batches = self.scan_batches(start, end, reverse=reverse)
        try:
            async for batch in batches:
                for pair in batch:
                    yield pair
                    if limit is not None:
                        limit -= 1
                        if not limit:
                            return
        finally:
            await batches.aclose()

    async def scan_batches(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> AsyncGenerator[list[Pair], None]:
        """The same in batches. Writes made while it runs are not seen."""
        overlay = Overlay(self._buffer.view().entries(start, end), reverse=reverse)
        below = self._snapshot.scan_batches(start, end, reverse=reverse)
        try:
            async for batch in below:
                own = overlay.upto(batch[-1][0])
                merged = laid_over(batch, own, reverse=reverse) if own else batch
                if merged:
                    yield merged
        finally:
            await below.aclose()
        rest = overlay.rest()
        if rest:
            yield rest


class ClusterTransaction(MergedReader):
    """One transaction, used by one coroutine at a time; over after commit or rollback."""

    def __init__(self, parts: Parts, snapshot: Snapshot, *, pessimistic: bool = True, read_only: bool = False) -> None:
        super().__init__(snapshot, WriteBuffer())
        self.pessimistic = pessimistic
        self.lock_wait_ms = LOCK_WAIT_MS
        self.cancel: CancelToken | None = None
        """Ends the commit's wait for locks."""
        self.commit_ts = 0
        """0 until it is committed."""
        self._parts = parts
        self._read_only = read_only
        self._over = False
        self._keep_alive = KeepAlive(parts, snapshot.ts)
        self._locks = PessimisticLocks(parts, snapshot.ts, self._keep_alive)
        self._marked: dict[bytes, None] = {}
        self._witnesses = False
        """Whether its commit leaves a trace of its locks though it may write nothing."""
        self._lock_ts = snapshot.ts
        """The newest timestamp at hand to lock at."""

    @property
    def start_ts(self) -> int:
        return self._snapshot.ts

    @property
    def is_dirty(self) -> bool:
        """Whether anything is buffered."""
        return bool(self._buffer.writes)

    def at(self, ts: int) -> MergedReader:
        """A reader at another timestamp, with the transaction's own writes merged over it."""
        self._buffer.unshade()
        return MergedReader(Snapshot(self._parts, ts), self._buffer)

    def put(self, key: bytes, value: bytes) -> None:
        self._writable(key, value).set(key, value)

    def insert(self, key: bytes, value: bytes) -> None:
        """Like put, but commit raises KeyExists when another transaction has a live value there."""
        self._writable(key, value).insert(key, value)

    def delete(self, key: bytes) -> None:
        self._writable(key, b"").set(key, None)

    def dirty(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes | None]]:
        """The buffered writes in [start, end), and what shades them, in key order; None is a delete."""
        return self._buffer.view().entries(start, end)

    def has_dirty(self, start: bytes, end: bytes) -> bool:
        return self._buffer.view().touches(start, end)

    async def before(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of keys in the snapshot, whatever the transaction has written."""
        return await self._snapshot.batch_get(keys)

    def shade(self, prefix: bytes, shades: Mapping[bytes, bytes | None]) -> None:
        """See `WriteBuffer.shade`."""
        self._buffer.shade(prefix, shades)

    def is_shaded(self, prefix: bytes) -> bool:
        return self._buffer.is_shaded(prefix)

    def mark(self) -> int:
        """Remembers the buffer's state; `undo_to` goes back to it (locks stay)."""
        return self._buffer.mark()

    def undo_to(self, mark: int) -> None:
        self._buffer.undo_to(mark)

    def lock_at_hand(self, keys: Sequence[bytes]) -> bool:
        """Locks keys if that takes no call: they are locked already, or marked in an optimistic transaction."""
        self._open()
        if self.pessimistic:
            return all(key in self._locks.held for key in keys)
        self._marked.update((key, None) for key in keys)
        return True

    def witness(self, keys: Sequence[bytes]) -> None:
        """See `kvstore.client.api.Transaction.witness`: all keys that are locked or marked get an L record."""
        self._witnesses = self.lock_at_hand(keys)

    async def lock_keys(
        self,
        keys: Sequence[bytes],
        *,
        for_update_ts: int,
        wait_ms: int,
        skip_locked: bool = False,
        values: dict[bytes, bytes | None] | None = None,
    ) -> list[bytes]:
        """Takes pessimistic locks; returns the keys that are locked now (all of them unless `skip_locked`).

        `wait_ms` 0 is NOWAIT. Into `values` go the newest values of the keys that were not locked before. A key with a
        commit newer than `for_update_ts` raises WriteConflict. Raises LockWaitTimeout, LockNowait, Deadlock,
        ClusterError; whatever it raises, no key of the call stays locked that was not before. In an optimistic
        transaction it only marks the keys, so that commit checks them.
        """
        if self.lock_at_hand(keys):
            return list(keys)
        self._lock_ts = max(self._lock_ts, for_update_ts)
        return await self._locks.lock(
            keys, for_update_ts=for_update_ts, wait_ms=wait_ms, skip_locked=skip_locked, values=values
        )

    async def lock_and_get(self, keys: Sequence[bytes], *, for_update_ts: int = 0, wait_ms: int) -> dict[bytes, bytes]:
        """Takes pessimistic locks; returns the values of the keys that have one, the newest there are, own writes over
        them. See `kvstore.client.api.Transaction.lock_and_get`.
        """
        self._open()
        if not self.pessimistic:
            self.lock_at_hand(keys)
            return await self.batch_get(keys)
        self._lock_ts = max(self._lock_ts, for_update_ts)
        ts = for_update_ts or self._lock_ts
        values: dict[bytes, bytes | None] = {}
        try:
            await self._locks.lock(keys, for_update_ts=ts, wait_ms=wait_ms, values=values)
        except WriteConflict:
            self._lock_ts = max(self._lock_ts, await self._parts.pd.get_ts())
            raise
        found = {key: value for key, value in values.items() if value is not None}
        # nobody has written what was locked before since then
        before = [key for key in keys if key not in values and key not in self._buffer.writes]
        if before:
            found |= await Snapshot(self._parts, self._lock_ts).batch_get(before)
        return self._buffer.over(found, keys)

    async def commit(self, check: CommitCheck | None = None) -> int:
        """Commits and returns commit_ts (start_ts if nothing was written).

        `check` runs when all keys are locked and commit_ts is drawn, or, where the locking itself may commit, just
        before; what it raises aborts the commit. Whatever is raised, the transaction is over and nothing of it was
        applied, but for UndeterminedResult and a cancelled wait: then it may have been.
        """
        self._open()
        self._over = True
        if not self._buffer.writes and not self._witnesses:
            await self._locks.release()
            return self.start_ts
        try:
            if self._read_only:
                raise ReadOnlyTxn(f"transaction at {self.start_ts} is read-only")
            await self._lock_inserts()
            mutations = self._mutations()
        except BaseException as exc:
            self._parts.background.spawn(self._locks.release())
            if isinstance(exc, KeyExists):
                raise self._with_value(exc) from exc
            raise
        primary = self._locks.primary or self._primary_of(mutations)
        committer = Committer(
            self._parts,
            self.start_ts,
            mutations,
            primary,
            self._keep_alive,
            for_update_ts=max(self._locks.for_update_ts, self.start_ts) if self.pessimistic else 0,
            lock_wait_ms=self.lock_wait_ms,
            cancel=self.cancel,
            # A pessimistic write that no lock guards is not checked against newer commits. Its timestamp has to be
            # after theirs, which stores that choose one do not see to: it would lie below them, and be lost.
            may_be_early=not self.pessimistic or self._locks.primary is not None,
        )
        try:
            self.commit_ts = await committer.commit(check)
        except KeyExists as exc:
            raise self._with_value(exc) from exc
        finally:
            if self._locks.stray:
                self._parts.background.spawn(self._locks.release_stray())
        return self.commit_ts

    def _with_value(self, exc: KeyExists) -> KeyExists:
        """A store's answer, with what was to be put under the key."""
        return KeyExists(exc.key, self._buffer.writes.get(exc.key) or b"")

    def end_at_hand(self) -> bool:
        """Ends the transaction if that takes no call: there is no lock to give back."""
        if not self._over and not (self._locks.held or self._locks.stray):
            self._over = True
        return self._over

    async def rollback(self) -> None:
        """Ends the transaction and releases its locks; harmless when it is over."""
        if not self._over:
            self._over = True
            await self._locks.release()

    def __del__(self) -> None:
        # dropped without an end: its locks expire, as those of a client that died
        if not self._over:
            self._keep_alive.stop()

    def _open(self) -> None:
        if self._over:
            raise TxnNotFound(f"transaction {self.start_ts} is over")

    def _writable(self, key: bytes, value: bytes) -> WriteBuffer:
        self._open()
        if self._read_only:
            raise ReadOnlyTxn(f"transaction at {self.start_ts} is read-only")
        options = self._parts.options
        if len(key) + len(value) > options.entry_bytes_max:
            raise TxnTooLarge(f"an entry of {len(key) + len(value)} bytes is over {options.entry_bytes_max}")
        if self._buffer.bytes + len(key) + len(value) > options.txn_bytes_max:
            raise TxnTooLarge(f"transaction is over {options.txn_bytes_max} bytes; write less at a time")
        return self._buffer

    async def _lock_inserts(self) -> None:
        """A pessimistic insert must find no live value: those not locked yet are locked, and so checked, now."""
        if not self.pessimistic or not self._buffer.inserts:
            return
        inserts = [key for key in self._buffer.writes if key in self._buffer.inserts]
        for key in inserts:
            if self._locks.held.get(key):
                raise KeyExists(key)
        missing = [key for key in inserts if key not in self._locks.held]
        if missing:
            ts = await self._parts.pd.get_ts()
            await self._locks.lock(missing, for_update_ts=ts, wait_ms=self.lock_wait_ms, absent=frozenset(missing))

    def _mutations(self) -> list[Mutation]:
        """What is to be written, and what only has to be held or checked, in key order."""
        buffer = self._buffer
        held = self._locks.held
        mutations: list[Mutation] = []
        for key in sorted({*buffer.writes, *held, *self._marked}):
            action = _LOCKED if key in held else _NOT_LOCKED
            if key not in buffer.writes:
                mutations.append(Mutation(kvrpcpb.Lock, key, action=action))
                continue
            value = buffer.writes[key]
            fresh = key in buffer.inserts and not self.pessimistic
            if value is None:
                op = kvrpcpb.CheckNotExists if fresh else kvrpcpb.Del
            else:
                op = kvrpcpb.Insert if fresh else kvrpcpb.Put
            mutations.append(Mutation(op, key, value or b"", action))
        return mutations

    def _primary_of(self, mutations: Sequence[Mutation]) -> bytes:
        """The first key that gets a lock."""
        locking = [mutation.key for mutation in mutations if mutation.op != kvrpcpb.CheckNotExists]
        return locking[0] if locking else mutations[0].key
