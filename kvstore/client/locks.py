"""In-memory locks of the embedded store: who holds a key, who waits for it, and when that is a deadlock.

A lock is an entry key -> owner in one dict: taking a free one is a `setdefault`, which the interpreter does
atomically, so the uncontended path takes no mutex. Whoever has to wait queues under the mutex *and then tries again*;
whoever releases takes the entry out *and then looks for a queue*: one of the two sees the other. A released lock is
handed to the first of the queue. The wait-for graph needs no table of its own: a waiter waits for one key, the key
has one owner.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from kvstore.client.api import CancelToken
from kvstore.errors import Cancelled, Deadlock, LockNowait, LockWaitTimeout


class Owner(Protocol):
    """A transaction, as the lock table sees it."""

    @property
    def start_ts(self) -> int: ...


class _Waiter:
    __slots__ = ("granted", "key", "owner", "wake")

    def __init__(self, owner: Owner, key: bytes) -> None:
        self.owner = owner
        self.key = key
        self.granted = False
        self.wake = threading.Lock()
        self.wake.acquire()

    def signal(self) -> None:
        """Wakes the waiter; more than once does no harm."""
        if self.wake.locked():
            try:
                self.wake.release()
            except RuntimeError:  # another signal was quicker
                return


class LockTable:
    """Exclusive locks on keys with first-come-first-served waits and deadlock detection."""

    def __init__(self) -> None:
        self.owners: dict[bytes, Owner] = {}
        self._mutex = threading.Lock()
        self._queues: dict[bytes, deque[_Waiter]] = {}
        self._waiting: dict[int, _Waiter] = {}
        self.waits = 0
        self.deadlocks = 0

    def release(self, keys: Iterable[bytes], owner: Owner) -> None:
        """Gives up those of the keys that `owner` holds; each goes to the first that waits for it.

        Taking a lock notes the key first, so a key that an interrupt kept from being taken may be among them.
        """
        owners = self.owners
        queues = self._queues
        for key in keys:
            if owners.get(key) is owner:
                del owners[key]
                if queues and key in queues:
                    self.hand_over(key)

    def hand_over(self, key: bytes) -> None:
        """Gives a free lock to the first that waits for it; can be repeated when it was interrupted."""
        with self._mutex:
            queue = self._queues.get(key)
            while queue and queue[0].granted:
                self._dequeue(queue[0])
            if not queue:
                return
            first = queue[0]
            if self.owners.setdefault(key, first.owner) is first.owner:
                first.granted = True
                first.signal()
                self._dequeue(first)

    def _dequeue(self, waiter: _Waiter) -> None:
        queue = self._queues.get(waiter.key)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
        if not queue:
            self._queues.pop(waiter.key, None)
        if self._waiting.get(id(waiter.owner)) is waiter:
            del self._waiting[id(waiter.owner)]

    def acquire(self, owner: Owner, key: bytes, wait_ms: int, cancel: CancelToken | None) -> None:
        """Takes the lock on `key`, waiting up to `wait_ms`; 0 does not wait.

        Raises LockNowait, LockWaitTimeout, Deadlock, Cancelled; then the lock is not held.
        """
        if self.owners.setdefault(key, owner) is owner:
            return
        if wait_ms <= 0:
            raise LockNowait(key)
        waiter = _Waiter(owner, key)
        try:
            with self._mutex:
                self.waits += 1
                self._queues.setdefault(key, deque()).append(waiter)
                if self.owners.setdefault(key, owner) is owner:
                    return
                chain = self._cycle(owner, key)
                if chain is not None:
                    self.deadlocks += 1
                    raise Deadlock(key, owner.start_ts, chain)
                self._waiting[id(owner)] = waiter
            self._sleep(waiter, wait_ms, cancel)
        except BaseException:
            # also what a signal handler raises: nobody may grant the lock to who has left
            with self._mutex:
                self._dequeue(waiter)
                granted = self.owners.get(key) is owner
            if granted:
                self.release((key,), owner)
            raise
        with self._mutex:
            self._dequeue(waiter)

    def _sleep(self, waiter: _Waiter, wait_ms: int, cancel: CancelToken | None) -> None:
        started = time.monotonic()
        remove = cancel.on_set(waiter.signal) if cancel is not None else None
        try:
            waiter.wake.acquire(timeout=min(wait_ms / 1000, threading.TIMEOUT_MAX))
        finally:
            if remove is not None:
                remove()
        with self._mutex:
            if waiter.granted:
                return
            self._dequeue(waiter)
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"interrupted while waiting for a lock on key {waiter.key.hex()}")
        raise LockWaitTimeout(waiter.key, int((time.monotonic() - started) * 1000))

    def _cycle(self, owner: Owner, key: bytes) -> tuple[tuple[int, int, bytes], ...] | None:
        """The wait chain from `owner` back to itself if its wait for `key` closes a cycle."""
        chain: list[tuple[int, int, bytes]] = []
        waiting, wanted = owner, key
        while True:
            holder = self.owners.get(wanted)
            if holder is None:
                return None
            chain.append((waiting.start_ts, holder.start_ts, wanted))
            if holder is owner:
                return tuple(chain)
            entry = self._waiting.get(id(holder))
            if entry is None:
                return None
            waiting, wanted = holder, entry.key
