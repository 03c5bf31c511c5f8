"""The commit of an embedded transaction, from the write buffer to durable and visible records.

locks      take the in-memory locks not held yet (never waiting while holding any of its own)
check      newer commits (optimistic), live values under inserted keys
critical   for all that wait at a time (`group_commit`), in one batch: register as committing, draw commit_ts, run the
           caller's check, write the records; the log has commits in timestamp order
sync       one for all of them
finish     in timestamp order: tell observers, become visible, wake readers; then the locks go
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from functools import partial

from kvstore.client.api import CancelToken, CommitCheck, CommitObserver, Oracle
from kvstore.client.changes import PREFIX_BYTES, ChangeLog
from kvstore.client.group_commit import GroupCommit, carried_on
from kvstore.client.locks import LockTable, Owner
from kvstore.client.pending import Commit, Encoded
from kvstore.client.ranges import RangeLocks
from kvstore.client.transaction import EmbeddedTransaction
from kvstore.client.write_buffer import WriteBuffer
from kvstore.codec import encode_uvarint
from kvstore.engine.api import CF_DEFAULT, CF_WRITE, Batch, Cursor, Engine, RawIterator
from kvstore.errors import KeyExists, LockNowait, StoreError, WriteConflict
from kvstore.mvcc.keys import NEWEST, TS_MAX, data_key, ts_suffix, versioned
from kvstore.mvcc.point import NeedsDefault, decode_write, newest_change, newest_record, read_version
from kvstore.mvcc.record import SHORT_VALUE_MAX

LockWait = tuple[int, CancelToken | None]
"""How long to wait for a lock, in milliseconds, and what may end the wait."""

RECORD_BYTES = 19
"""The length of a record key with an integer handle."""
ENCODED_TABLE_BYTES = 13
"""What the keys of a table's records share, in a data key."""
LASTS_MAX = 4096
GROUP_BYTES_MAX = 4 << 20
"""A batch that has so much takes no further commit."""

_NO_KEYS: frozenset[bytes] = frozenset()


class Committer:
    """Owns the write side: locks, constraint checks, the critical section and the group commit."""

    def __init__(
        self, engine: Engine, oracle: Oracle, ranges: RangeLocks, cursor: Callable[[], Cursor], *, synchronous: bool
    ) -> None:
        self.engine = engine
        self.oracle = oracle
        self.ranges = ranges
        self.locks: LockTable = ranges.locks
        self.synchronous = synchronous
        self.committing: dict[Commit, None] = {}
        self.observers: tuple[CommitObserver, ...] = ()
        self.last_commit_ts = 0
        self.stopped: StoreError | None = None
        self.overwritten: set[bytes] = set()
        """Keys that may have an older version by now; emptied by garbage collection."""
        self.lasts: dict[bytes, bytes] = {}
        """For some tables a key that no record key of theirs is above: whoever inserts behind it need not look. Changed
        under the mutex."""
        self.mutex = threading.Lock()
        self.changes = ChangeLog(engine, self.mutex, self.settle)
        self._group: GroupCommit[Commit] = GroupCommit(self._write, self._finish, self._abandon)
        self._cursor = cursor
        self.commits = 0
        self.conflicts = 0

    # -- locks

    def lock(self, txn: EmbeddedTransaction, key: bytes, wait_ms: int, skip_locked: bool) -> bool:
        """Takes the pessimistic lock on one key; returns False when it is taken and `skip_locked`."""
        try:
            while True:
                self.locks.acquire(txn.owner, key, 0 if skip_locked else wait_ms, txn.cancel)
                if not self.ranges.active or self.ranges.find(key) is None:
                    return True
                self.locks.release((key,), txn.owner)
                self.ranges.wait(txn.owner, key, 0 if skip_locked else wait_ms, txn.cancel)
        except LockNowait:
            if skip_locked:
                return False
            raise

    def check_locked(self, keys: Sequence[bytes], start_ts: int, for_update_ts: int) -> None:
        """Raises WriteConflict when a key just locked was changed after `for_update_ts`."""
        if self.last_commit_ts > for_update_ts:
            for key in keys:
                self._check_newer(key, data_key(key), start_ts, for_update_ts, changed=True)

    def _lock_for_commit(
        self, commit: Commit, keys: Iterable[bytes], held: Set[bytes], owner: Owner, wait: LockWait
    ) -> None:
        """Takes the locks on `keys` that are not held yet and notes them in `commit.locks`.

        Gives them all back before it waits, so commits cannot deadlock.
        """
        owners = self.locks.owners
        taken = commit.locks
        while True:
            blocked: bytes | None = None
            for key in keys:
                if key in held or (taken and key == taken[0]):
                    continue
                taken.append(key)
                if owners.setdefault(key, owner) is not owner:
                    blocked = key
                    break
            if blocked is None:
                closed = self.ranges.first_inside(taken) if self.ranges.active else None
                if closed is None:
                    return
                self.locks.release(taken, owner)
                taken.clear()
                self.ranges.wait(owner, closed, *wait)
                continue
            self.locks.release(taken, owner)
            taken[:] = [blocked]
            self.locks.acquire(owner, blocked, *wait)
            # kept: who gives up what it waited for can be overtaken for ever

    # -- constraints

    def _fresh(self) -> RawIterator:
        """An iterator at the engine's present state."""
        cursor = self._cursor()
        raw = cursor.raw
        return raw if raw is not None and cursor.seq == self.engine.write_seq else cursor.refresh()

    def _check_newer(self, key: bytes, encoded: bytes, start_ts: int, limit_ts: int, *, changed: bool = False) -> None:
        """Raises WriteConflict for a record newer than `limit_ts`; with `changed` a lock alone does not count."""
        if limit_ts < self.ranges.hides_below:
            limit_ts = self.ranges.effective_ts(key, limit_ts)
        record = newest_record(self._fresh(), encoded)
        if record is None or record[0] <= limit_ts:
            return
        if record[1][:1] in (b"RL" if changed else b"R"):
            change = newest_change(self._fresh(), encoded)
            if change is None or change[0] <= limit_ts:
                return
        self.conflicts += 1
        raise WriteConflict(key, start_ts, decode_write(record[1], encoded).start_ts, record[0])

    def _check_absent(self, key: bytes, encoded: bytes, new: bytes | None) -> None:
        """Raises KeyExists when the key, which gets the value `new`, has one."""
        last = self.lasts.get(key[:PREFIX_BYTES])
        if last is not None and key > last and len(key) == RECORD_BYTES:
            return
        raw = self._fresh()
        try:
            value = read_version(raw, encoded, encoded + NEWEST, TS_MAX)
        except NeedsDefault as need:
            # the key is locked, so its newest version stays
            value = self.engine.get(CF_DEFAULT, versioned(encoded, need.start_ts))
        if value is not None:
            raise KeyExists(key, new or b"")
        if last is None and len(key) == RECORD_BYTES:
            found = raw.key()
            if found is None or found[:ENCODED_TABLE_BYTES] != encoded[:ENCODED_TABLE_BYTES]:
                self._learn_last(key)

    def _learn_last(self, key: bytes) -> None:
        """Notes that no record of the table is at or above `key`, if nothing was written since that was seen."""
        with self.mutex:
            if self._cursor().seq == self.engine.write_seq:
                if len(self.lasts) >= LASTS_MAX:
                    self.lasts.clear()
                self.lasts[key[:PREFIX_BYTES]] = key

    def _raise_lasts(self, writes: Iterable[bytes]) -> None:
        lasts = self.lasts
        for key in writes:
            last = lasts.get(key[:PREFIX_BYTES])
            if last is not None and key > last:
                lasts[key[:PREFIX_BYTES]] = key

    def _check_constraints(
        self,
        txn: EmbeddedTransaction,
        buffer: WriteBuffer,
        marked: set[bytes],
        witnessed: set[bytes],
        encoded: Encoded,
    ) -> None:
        start_ts = txn.start_ts
        if not txn.pessimistic and self.last_commit_ts > start_ts:
            for key, (data, _) in zip(buffer.writes, encoded, strict=True):
                self._check_newer(key, data, start_ts, start_ts)
            for key in marked - buffer.writes.keys():
                self._check_newer(key, data_key(key), start_ts, start_ts)
            for key in witnessed - marked - buffer.writes.keys():
                self._check_newer(key, data_key(key), start_ts, start_ts, changed=True)
        inserts = buffer.inserts
        if inserts:
            for key, (data, value) in zip(buffer.writes, encoded, strict=True):
                if key in inserts:
                    self._check_absent(key, data, value)

    # -- the commit

    def commit(
        self,
        txn: EmbeddedTransaction,
        buffer: WriteBuffer,
        marked: set[bytes],
        check: CommitCheck | None,
        witnessed: set[bytes],
    ) -> int:
        """Commits the buffer of `txn` and returns its commit_ts when it is durable and visible.

        Keys that are `marked` or `witnessed` (see `Transaction.witness`) and not written get an L record.
        """
        if self.stopped is not None:
            raise self.stopped
        commit = txn.committing = Commit(txn.start_ts, buffer.writes, buffer.patches)
        owner = txn.owner
        try:
            only = (marked | witnessed) - buffer.writes.keys() if marked or witnessed else set()
            keys = (*buffer.writes, *only) if only else buffer.writes
            self._lock_for_commit(commit, keys, txn.locks, owner, (txn.lock_wait_ms, txn.cancel))
            encoded: Encoded = [(data_key(key), value) for key, value in buffer.writes.items()]
            self._check_constraints(txn, buffer, marked, witnessed, encoded)
            if len(buffer.inserts) < len(encoded):
                self.overwritten.update(buffer.writes.keys() - buffer.inserts)
            if buffer.inserts:
                # inserted and deleted again: nothing to write but the check that was made
                encoded = [
                    pair
                    for key, pair in zip(buffer.writes, encoded, strict=True)
                    if pair[1] is not None or key not in buffer.inserts
                ]
            if only:
                self.overwritten.update(only)  # older locks are collected as older values are
            return self._carry(commit, encoded, [data_key(key) for key in only], check)
        finally:
            self.locks.release(commit.locks, owner)

    def commit_alone(
        self,
        writes: dict[bytes, bytes | None],
        inserts: Collection[bytes],
        wait: LockWait,
        check: CommitCheck | None,
    ) -> int:
        """Commits writes that depend on no read, in one step: what a transaction is that only inserts.

        Keys in `inserts` must have no live value (KeyExists). Both timestamps are drawn when everything is locked, so
        no newer commit can be there.
        """
        if self.stopped is not None:
            raise self.stopped
        commit = Commit(0, writes)
        try:
            self._lock_for_commit(commit, writes, _NO_KEYS, commit, wait)
            encoded: Encoded = [(data_key(key), value) for key, value in writes.items()]
            for key, (data, value) in zip(writes, encoded, strict=True):
                if key in inserts:
                    self._check_absent(key, data, value)
                else:
                    self.overwritten.add(key)
            return self._carry(commit, encoded, [], check)
        finally:
            self.locks.release(commit.locks, commit)

    def _carry(self, commit: Commit, encoded: Encoded, locked_only: list[bytes], check: CommitCheck | None) -> int:
        """Has the commit written; once it is queued it is carried through, whatever interrupts."""
        commit.encoded, commit.locked_only, commit.check = encoded, locked_only, check
        interruption: BaseException | None = None
        try:
            self._group.carry(commit)
        except BaseException as error:  # noqa: BLE001 - raised at the end
            interruption = carried_on(partial(self._group.carry, commit), error)
        if commit.error is not None:
            raise commit.error
        if interruption is not None:
            raise interruption
        return commit.commit_ts

    def _write(self, group: list[Commit]) -> None:
        """Writes the records of commits and makes them durable; again, when it was interrupted.

        A commit whose check fails has its error and is left out. Raises StoreError, and then the store has stopped.
        """
        engine = self.engine
        with self.mutex:
            if self.stopped is not None:
                raise self.stopped
            try:
                batch = None
                for commit in group:
                    if commit.commit_ts or self._stamp(commit):
                        if batch is None:
                            batch = engine.batch()
                        elif batch.size > GROUP_BYTES_MAX:
                            engine.write(batch)
                            batch = engine.batch()
                        self._fill(batch, commit)
                        self.last_commit_ts = max(self.last_commit_ts, commit.commit_ts)
                if batch is not None:
                    engine.write(batch)
            except StoreError as error:
                self.stop(error)
                raise
        self.settle()

    def _stamp(self, commit: Commit) -> bool:
        """Registers a commit and draws its timestamp; False when its check fails."""
        if commit.error is not None:
            return False
        self.committing[commit] = None
        if commit.start_ts:
            commit_ts = self.oracle.get_ts()
        else:
            commit_ts = self.oracle.get_ts(2)
            commit.start_ts = commit_ts - 1
        if commit.check is not None:
            try:
                commit.check(commit_ts)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                commit.error = error
                return False
        commit.commit_ts = commit_ts
        if self.lasts:
            self._raise_lasts(commit.writes)
        return True

    def _fill(self, batch: Batch, commit: Commit) -> None:
        """Puts the records of a commit into the batch."""
        engine, start_ts = self.engine, commit.start_ts
        start = encode_uvarint(start_ts)
        put_head = b"P" + start + b"v"
        suffix = ts_suffix(commit.commit_ts)
        records: list[tuple[bytes, bytes]] = []
        for key, value in commit.encoded:
            if value is None:
                record = b"D" + start
            elif len(value) <= SHORT_VALUE_MAX:
                record = b"%b%c%b" % (put_head, len(value), value)
            else:
                batch.put(versioned(key, start_ts), value, engine.handle(CF_DEFAULT))
                record = b"P" + start
            records.append((key + suffix, record))
        for key in commit.locked_only:
            records.append((key + suffix, b"L" + start))
        batch.put_all(records, engine.handle(CF_WRITE))
        if self.changes.followed:
            self.changes.add(batch, commit.commit_ts, commit.writes)

    def settle(self) -> None:
        """Makes durable, or hands over, what was written: as durable as a commit."""
        if self.synchronous:
            self.engine.sync()
        else:
            self.engine.hand_over()

    def wait_until(self, ts: int) -> None:
        """Returns when every commit at or below `ts` is durable, visible and told to the observers, or has failed.

        `ts` must have been drawn before the call.
        """
        if self.committing:
            with self.mutex:  # nobody is between registering and drawing his timestamp
                waiting = [commit for commit in list(self.committing) if commit.commit_ts <= ts]
            for commit in waiting:
                if not commit.finished:
                    commit.wait_finished()

    def stop(self, error: BaseException) -> None:
        """Takes no more writes: what is in the log behind a failed write may be lost by a reopening."""
        if self.stopped is None:
            self.stopped = StoreError(f"the store stopped after a failed write and has to be reopened: {error}")

    def _finish(self, commit: Commit) -> None:
        """Makes a durable commit visible, or lets go of one that was left out."""
        if commit.error is None:
            self._tell(commit)
        self.committing.pop(commit, None)
        commit.finish()

    def _tell(self, commit: Commit) -> None:
        self.commits += 1
        if self.observers:
            writes = list(commit.writes.items())
            try:
                for observer in self.observers:
                    observer.on_commit(commit.commit_ts, writes, commit.patches)
            except Exception as error:  # noqa: BLE001 - an observer that missed a commit must not be believed again
                self.stop(error)

    def _abandon(self, commit: Commit, error: BaseException) -> None:
        """The write or the sync failed: whether the commit survives is unknown, so the store stops."""
        self.stop(error)
        self.committing.pop(commit, None)
        commit.finish()

    def stats(self) -> dict[str, int]:
        return {
            "commits": self.commits,
            "conflicts": self.conflicts,
            "sync_groups": self._group.groups,
            "synced_commits": self._group.grouped,
            "lock_waits": self.locks.waits,
            "deadlocks": self.locks.deadlocks,
            "locks": len(self.locks.owners),
        }
