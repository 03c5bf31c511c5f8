"""Who waits for which key's lock (TiKV's `lock_manager/lock_waiting_queue.rs`).

A request that meets a lock queues in the same step in which it saw the lock. When the lock goes, the waiter with the
lowest start_ts tries again; whatever comes of that, unless it holds the lock now it wakes the next. So none sleeps on a
free key, and not all run at once.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kvstore.errors import Deadlock
from kvstore.mvcc.keys import data_key
from kvstore.mvcc.reader import MetLock
from kvstore.proto.metapb_pb2 import Region

if TYPE_CHECKING:
    from kvstore.server.deadlock import DeadlockDetector


@dataclass(frozen=True, slots=True)
class Wait:
    """One edge of the wait-for graph."""

    waiter: int
    holder: int
    key: bytes
    tag: bytes = b""
    """The client's resource_group_tag: names its statement."""


@dataclass(slots=True, eq=False)
class Waiter:
    """A request in a queue; `turn` ends with True (try again), False (the time is over) or Deadlock."""

    start_ts: int
    met: MetLock
    tag: bytes
    since: float
    turn: asyncio.Future[bool] = field(repr=False)

    @property
    def wait(self) -> Wait:
        return Wait(self.start_ts, self.met.lock_start_ts, self.met.key, self.tag)


def _age(waiter: Waiter) -> int:
    return waiter.start_ts


class Waits:
    """The queues of one store's keys."""

    def __init__(self, detector: DeadlockDetector) -> None:
        self._detector = detector
        self._queues: dict[bytes, list[Waiter]] = {}
        self.count = 0
        """Who waits now; the others count since the start."""
        self.waited = self.woken = self.timed_out = self.deadlocks = 0

    def enqueue(self, start_ts: int, met: MetLock, tag: bytes) -> Waiter:
        """Raises Deadlock, and queues nobody, when the wait would close a circle."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(start_ts, met, tag, loop.time(), loop.create_future())
        try:
            self._detector.add(waiter.wait)
        except Deadlock:
            self.deadlocks += 1
            raise
        self.waited += 1
        insort(self._queues.setdefault(met.key, []), waiter, key=_age)
        self.count += 1
        return waiter

    async def until_woken(self, waiter: Waiter, until: float) -> bool:
        """Whether the waiter was woken before `until` (the loop's time). Raises Deadlock."""
        timer = asyncio.get_running_loop().call_at(until, _end_turn, waiter, False)
        try:
            woken = await waiter.turn
            if woken:
                self.woken += 1
            else:
                self.timed_out += 1
            return woken
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.wake(waiter.met.key)
            raise
        finally:
            timer.cancel()
            self._leave(waiter)

    def _leave(self, waiter: Waiter) -> None:
        queue = self._queues.get(waiter.met.key)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            self.count -= 1
            self._detector.remove(waiter.wait)
            if not queue:
                del self._queues[waiter.met.key]

    def released(self, released: Sequence[tuple[bytes, int]]) -> None:
        """Locks went: the first waiter of each key tries again."""
        if not self._queues:
            return
        for key, _ in released:
            self.wake(key)

    def wake(self, key: bytes) -> None:
        """Lets the oldest transaction that waits for `key` try again."""
        queue = self._queues.get(key)
        while queue:
            waiter = queue[0]
            self._leave(waiter)
            if not waiter.turn.done():
                _end_turn(waiter, True)
                return

    def wake_region(self, region: Region) -> None:
        """All who wait for keys of a region try again: its leader is another now, and they learn it so."""
        start, end = region.start_key, region.end_key
        for waiter in list(self):
            encoded = data_key(waiter.met.key)[1:]
            if encoded >= start and (not end or encoded < end):
                self._leave(waiter)
                _end_turn(waiter, True)

    def taken(self, key: bytes, primary: bytes, start_ts: int, ttl: int) -> None:
        """The transaction has the lock now: those who still wait for `key` wait for it."""
        for waiter in list(self._queues.get(key, ())):
            if waiter.met.lock_start_ts == start_ts or waiter.start_ts == start_ts:
                continue
            self._detector.remove(waiter.wait)
            waiter.met = MetLock(key, replace(waiter.met.lock, primary=primary, start_ts=start_ts, ttl=ttl))
            try:
                self._detector.add(waiter.wait)
            except Deadlock as circle:
                self.fail(waiter.wait, circle)

    def fail(self, wait: Wait, circle: Deadlock) -> None:
        """Ends a wait that closes a circle."""
        self.deadlocks += 1
        for waiter in list(self._queues.get(wait.key, ())):
            if waiter.wait == wait:
                self._leave(waiter)
                if not waiter.turn.done():
                    waiter.turn.set_exception(circle)

    def waiting(self) -> list[tuple[Waiter, int]]:
        """Who waits, and for how many milliseconds, in the order of the keys."""
        now = asyncio.get_running_loop().time()
        found = sorted(self, key=lambda waiter: (waiter.met.key, waiter.start_ts))
        return [(waiter, int((now - waiter.since) * 1000)) for waiter in found]

    def __iter__(self) -> Iterator[Waiter]:
        for queue in list(self._queues.values()):
            yield from queue


def _end_turn(waiter: Waiter, woken: bool) -> None:
    if not waiter.turn.done():
        waiter.turn.set_result(woken)
