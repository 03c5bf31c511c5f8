"""Group commit: many transactions that wait for the disk share one sync.

    commit A   write ── sync ─────────┐ leads
    commit B      write (queues) ─────┼─ its record went out after A's sync began: next group
    commit C         write (queues) ──┤
                                      └─ A is done, its group is finished; B leads the next sync for B and C

A sync covers every write that had returned when it began. Whoever finds no sync running leads one for all that have
written so far; the others sleep until a leader finishes them, or until they are made the leader themselves. Nobody
waits for a timer. The sync lets other threads run, and they write meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Place(Generic[T]):
    __slots__ = ("error", "finished", "item", "wake")

    def __init__(self, item: T) -> None:
        self.item = item
        self.finished = False
        self.error: BaseException | None = None
        self.wake: threading.Lock | None = None


class GroupCommit(Generic[T]):
    """Runs `sync` for groups of items and then `finish` on each item, in the order in which they were added."""

    def __init__(self, sync: Callable[[], None], finish: Callable[[T], None], fail: Callable[[T, BaseException], None]):
        self._sync = sync
        self._finish = finish
        self._fail = fail
        self._mutex = threading.Lock()
        self._queue: list[_Place[T]] = []
        self._leading = False
        self.groups = 0
        self.grouped = 0

    def add(self, item: T) -> _Place[T]:
        """Queues an item whose write has returned; the caller's lock keeps the order of writes and of calls the
        same."""
        place = _Place(item)
        with self._mutex:
            self._queue.append(place)
        return place

    def wait(self, place: _Place[T]) -> None:
        """Returns when the item is durable and finished; raises what the sync raised."""
        with self._mutex:
            if not place.finished:
                if self._leading:
                    place.wake = threading.Lock()
                    place.wake.acquire()
                else:
                    self._leading = True
        wake = place.wake
        if wake is not None:
            wake.acquire()
        if not place.finished:
            self._lead()
        if place.error is not None:
            raise place.error

    def _lead(self) -> None:
        with self._mutex:
            group, self._queue = self._queue, []
        error: BaseException | None = None
        try:
            self._sync()
        except BaseException as caught:  # noqa: BLE001 - handed to every waiter of the group
            error = caught
        self.groups += 1
        self.grouped += len(group)
        for place in group:
            if error is None:
                self._finish(place.item)
            else:
                place.error = error
                self._fail(place.item, error)
        with self._mutex:
            for place in group:
                place.finished = True
            heir = next((place for place in self._queue if place.wake is not None), None)
            if heir is None:
                self._leading = False
            elif heir.wake is not None:
                heir.wake.release()
        for place in group:
            if place.wake is not None:
                place.wake.release()
