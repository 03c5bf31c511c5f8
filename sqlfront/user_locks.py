"""Named locks of sessions: GET_LOCK and its relatives.

A table of this process says who holds what and who waits, and finds circles of waiting sessions. Where several servers
share a store, a lock that the table grants is also held there: as a pessimistic lock on a key of its own, by a
transaction that writes nothing and is kept alive until the lock is released. Locks of TiDB's servers are rows of one of
its system tables: they and ours don't exclude each other.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coprocessor.errors import InvalidArgument
from kvstore.client.api import CancelToken
from kvstore.errors import Cancelled, LockNowait, LockWaitTimeout
from sqlfront.catalog.meta import hash_key

if TYPE_CHECKING:
    from kvstore.client.api import Storage, Transaction
    from sqlfront.threads import Threads

USER_LOCKS = b"UserLocks"
ELSEWHERE = 0
"""What IS_USED_LOCK tells of a lock that a session of another server holds: no connection has this id."""
STORE_WAIT_MS_MIN = 100
"""A lock of the store is waited for so long in any case: another server may just be asking whether it is free."""
STORE_WAIT_MS_MAX = 7 * 24 * 3600 * 1000


@dataclass(eq=False, slots=True)
class Holder:
    """A session, as the one who holds and waits for locks."""

    id: int
    cancel: CancelToken
    waits_for: str = ""
    closed: bool = False


@dataclass(eq=False, slots=True)
class _Lock:
    """`count` is how often its owner has taken it; 0 while the store is asked for it, or has it given back."""

    owner: Holder
    count: int = 0
    guard: Transaction | None = None


class UserLocks:
    """All named locks of one server."""

    def __init__(self, storage: Storage | None, threads: Threads) -> None:
        """`storage` is what the server shares with others, None for a database of its own."""
        self._storage = storage
        self._threads = threads
        self._locks: dict[str, _Lock] = {}
        self._changed = threads.condition()

    def get(self, holder: Holder, name: str, seconds: float) -> bool:
        """Takes a lock, once more if the session has it; False when it could not be had in time (negative: forever).

        Raises InvalidArgument 3058 when who has it waits for the session, and Cancelled.
        """
        until = None if seconds < 0 else self._threads.monotonic() + seconds
        with self._changed:
            mine = self._locks.get(name)
            if mine is not None and mine.owner is holder and mine.count:
                mine.count += 1
                return True
        remove = holder.cancel.on_set(self._wake)
        try:
            with self._changed:
                if not self._wait(holder, name, until):
                    return False
                lock = self._locks[name] = _Lock(holder)
        finally:
            remove()
        return self._grant(lock, name, until)

    def release(self, holder: Holder, name: str) -> int | None:
        """1 when the session had it, 0 when another one has it, None when nobody has."""
        with self._changed:
            lock = self._locks.get(name)
            if lock is not None and lock.owner is holder and lock.count:
                lock.count -= 1
                if lock.count:
                    return 1
            else:
                lock = None
        if lock is not None:
            self._let_go(name, lock)
            return 1
        return None if self.is_free(holder, name) else 0

    def release_all(self, holder: Holder) -> int:
        """Releases what a session has; returns how often it had taken that."""
        total = 0
        with self._changed:
            mine = [(name, lock) for name, lock in self._locks.items() if lock.owner is holder and lock.count]
            for _, lock in mine:
                total += lock.count
                lock.count = 0
        for name, lock in mine:
            self._let_go(name, lock)
        return total

    def close(self, holder: Holder) -> None:
        """Releases what a session has, and gives it nothing more."""
        holder.closed = True
        if self._locks:
            self.release_all(holder)

    def is_free(self, holder: Holder, name: str) -> bool:
        return self.owner(holder, name) is None

    def owner(self, holder: Holder, name: str) -> int | None:
        """The session that has a lock: its id, `ELSEWHERE`, or None."""
        with self._changed:
            lock = self._locks.get(name)
            if lock is not None:
                return lock.owner.id if lock.count else ELSEWHERE
        if self._storage is None:
            return None
        probe = self._lock_in_store(holder, name, 0)
        if probe is None:
            return ELSEWHERE
        probe.rollback()
        return None

    def _wait(self, holder: Holder, name: str, until: float | None) -> bool:
        """Waits until nobody of this server has the lock; False when the time is over."""
        holder.waits_for = name
        try:
            while name in self._locks:
                left = None if until is None else min(until - self._threads.monotonic(), threading.TIMEOUT_MAX)
                if left is not None and left <= 0:
                    return False
                self._check_circle(holder)
                if holder.cancel.is_set():
                    raise Cancelled
                self._changed.wait(left)
            return True
        finally:
            holder.waits_for = ""

    def _check_circle(self, holder: Holder) -> None:
        lock = self._locks.get(holder.waits_for)
        while lock is not None:
            if lock.owner is holder:
                raise InvalidArgument(
                    "Deadlock found when trying to get user-level lock; try rolling back transaction/releasing locks "
                    "and restarting lock acquisition.",
                    code=3058,
                )
            lock = self._locks.get(lock.owner.waits_for)

    def _grant(self, lock: _Lock, name: str, until: float | None) -> bool:
        """Makes a lock that nobody of this server has the session's; False when another server's has it for too
        long."""
        try:
            if self._storage is not None:
                left = STORE_WAIT_MS_MAX if until is None else (until - self._threads.monotonic()) * 1000
                wait_ms = int(min(max(left, STORE_WAIT_MS_MIN), STORE_WAIT_MS_MAX))
                lock.guard = self._lock_in_store(lock.owner, name, wait_ms)
            with self._changed:
                if lock.owner.closed:
                    raise Cancelled
                lock.count = int(self._storage is None or lock.guard is not None)
        finally:
            if not lock.count:
                self._let_go(name, lock)
        return lock.count > 0

    def _lock_in_store(self, holder: Holder, name: str, wait_ms: int) -> Transaction | None:
        """The transaction that has the lock now; None when another one has it."""
        assert self._storage is not None
        guard = self._storage.begin(pessimistic=True)
        taken = False
        try:
            guard.cancel = holder.cancel
            guard.lock_keys([hash_key(USER_LOCKS, name.encode())], for_update_ts=guard.start_ts, wait_ms=wait_ms)
            guard.cancel = None
            taken = True
        except (LockNowait, LockWaitTimeout):
            return None
        finally:
            if not taken:
                guard.rollback()
        return guard

    def _let_go(self, name: str, lock: _Lock) -> None:
        try:
            if lock.guard is not None:
                lock.guard.rollback()
        finally:
            with self._changed:
                del self._locks[name]
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class SessionLocks:
    """What one session does with the locks: `coprocessor.functions.locks.Locks`."""

    locks: UserLocks
    holder: Holder

    def get(self, name: str, seconds: float) -> bool:
        return self.locks.get(self.holder, name, seconds)

    def release(self, name: str) -> int | None:
        return self.locks.release(self.holder, name)

    def release_all(self) -> int:
        return self.locks.release_all(self.holder)

    def is_free(self, name: str) -> bool:
        return self.locks.is_free(self.holder, name)

    def owner(self, name: str) -> int | None:
        return self.locks.owner(self.holder, name)

    def close(self) -> None:
        self.locks.close(self.holder)
