"""Pessimistic locks that are in the leader's memory alone (TiKV's `pessimistic-txn.in-memory`).

Such a lock says that a transaction is going to write a key. It is taken without the log, stands for as long as this
store leads the region in the term in which it was taken, and goes when the prewrite that follows is applied, which
puts a lock of another kind in its place. A leader that is lost takes its locks with it: the prewrite then finds none,
and goes on if nobody has committed the key since the transaction began (`txn/actions/prewrite.py`). A leader that
knows that it will hand over, or that the region's bounds will change, writes its locks to the log before
(`Scheduler.hand_over`).

A key that has a lock here has none in the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter

from kvstore.mvcc.keys import data_key
from kvstore.mvcc.record import Lock, LockType
from kvstore.proto.metapb_pb2 import Peer, Region

REGION_BYTES_MAX = 512 << 10
"""What the locks of one region may take; more go through the log (as TiKV has it)."""
LOCK_BYTES = 256
"""A lock's own objects, about, beside its key and its primary's."""
PAUSE_S = 10.0
"""How long a region whose locks were written because it would change takes none here."""
_NONE: Mapping[bytes, Lock] = {}


class _Held:
    """The locks of one region."""

    def __init__(self, term: int) -> None:
        self.term = term
        self.locks: dict[bytes, Lock] = {}
        self.bytes = 0


class MemoryLocks:
    """The locks by region and user key. Observes the regions: locks end with the lead, and outside of the bounds."""

    def __init__(self, bytes_max: int) -> None:
        """`bytes_max` of all regions together; 0: every lock goes through the log."""
        self._bytes_max = bytes_max
        self._regions: dict[int, _Held] = {}
        self._paused: dict[int, float] = {}
        self.bytes = 0
        self.taken = self.refused = 0
        """Locks taken here, and those for which there was no room, since the start."""

    def of(self, region_id: int, term: int) -> Mapping[bytes, Lock]:
        """The locks of a region that is led here in this term."""
        held = self._regions.get(region_id)
        if held is None:
            return _NONE
        if held.term != term:
            self._drop(region_id)
            return _NONE
        return held.locks

    def take(self, region_id: int, term: int, locks: Mapping[bytes, Lock], now: float) -> bool:
        """Takes locks in a region that is led here in this term, if there is room for them."""
        if not self._bytes_max or self._is_paused(region_id, now):
            return False
        held = self._regions.get(region_id)
        if held is None or held.term != term:
            self._drop(region_id)
            held = _Held(term)
        size = sum(_size(key, lock) for key, lock in locks.items() if key not in held.locks)
        if held.bytes + size > REGION_BYTES_MAX or self.bytes + size > self._bytes_max:
            self.refused += len(locks)
            return False
        self._regions[region_id] = held
        held.locks.update(locks)
        held.bytes += size
        self.bytes += size
        self.taken += len(locks)
        return True

    def forget(self, region_id: int, keys: Collection[bytes]) -> None:
        """The locks of these keys are gone, or in the engine now."""
        held = self._regions.get(region_id)
        if held is None:
            return
        for key in keys:
            lock = held.locks.pop(key, None)
            if lock is not None:
                size = _size(key, lock)
                held.bytes -= size
                self.bytes -= size
        if not held.locks:
            del self._regions[region_id]

    def between(self, region_id: int, term: int, low: bytes, high: bytes, max_ts: int) -> list[tuple[bytes, Lock]]:
        """The locks of low <= key < high (empty: no bound) of transactions up to `max_ts`, in key order."""
        found = [
            (key, lock)
            for key, lock in self.of(region_id, term).items()
            if low <= key and (not high or key < high) and lock.start_ts <= max_ts
        ]
        return sorted(found, key=itemgetter(0))

    # -- what is going to change

    def pause(self, region_id: int, now: float) -> Sequence[bytes]:
        """Takes no lock of the region for a while; returns the keys of those that are here."""
        self._paused = {known: until for known, until in self._paused.items() if until > now}
        self._paused[region_id] = now + PAUSE_S
        held = self._regions.get(region_id)
        return [] if held is None else list(held.locks)

    def _is_paused(self, region_id: int, now: float) -> bool:
        until = self._paused.get(region_id)
        return until is not None and now < until

    def _drop(self, region_id: int) -> None:
        held = self._regions.pop(region_id, None)
        if held is not None:
            self.bytes -= held.bytes

    def on_role(self, region: Region, peer: Peer, *, is_leader: bool, term: int) -> None:
        if not is_leader:
            self._drop(region.id)

    def on_region(self, region: Region) -> None:
        """Keys that left the region are another leader's now, also if they come back."""
        held = self._regions.get(region.id)
        if held is not None:
            start, end = region.start_key, region.end_key
            encoded = ((key, data_key(key)[1:]) for key in held.locks)
            self.forget(region.id, [key for key, at in encoded if at < start or (end and at >= end)])

    def on_destroyed(self, region: Region) -> None:
        self._drop(region.id)
        self._paused.pop(region.id, None)

    def on_replaced(self, region: Region) -> None:
        self._drop(region.id)

    def on_applied(self, region: Region, entries_bytes: int) -> None:
        """Writes change no roles."""

    def __len__(self) -> int:
        return sum(len(held.locks) for held in self._regions.values())


def all_pessimistic(locks: Mapping[bytes, Lock]) -> bool:
    return all(lock.type is LockType.PESSIMISTIC for lock in locks.values())


def _size(key: bytes, lock: Lock) -> int:
    return len(key) + len(lock.primary) + LOCK_BYTES
