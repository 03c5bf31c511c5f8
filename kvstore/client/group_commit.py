"""Group commit: many transactions that wait for the disk share one write and one sync.

    commit A   queues ── write ── sync ──┐ leads
    commit B      queues ────────────────┼─ A had taken its group by then: the next one
    commit C         queues ─────────────┤
                                         └─ A is done, its group is finished; B leads the next for B and C

Whoever finds nobody in the lead leads all that have queued so far: writes their records, in the order of the queue and
in one batch, and syncs; the others sleep until a leader finishes them, or until they are made the leader themselves.
Nobody waits for a timer. The sync lets other threads run, and they queue meanwhile. The leader wakes the first of its
group, who wakes the second, and so on: threads that wake together only queue for the interpreter, and sleep once more.
(A thread that does nothing but sync was tried: one more thread that wants the interpreter costs more than the hand-over
from leader to leader. So was a write by each thread for itself, before it queues: the writes of a group in one go take
less of the interpreter's time, which is what threads at once are short of.)

Signal handlers run in the main thread, between any two instructions, and may raise (Ctrl-C). `carried_on` brings the
step to its end nevertheless; `carry` and what it calls can be entered again at whatever point they were left.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from kvstore.errors import StoreError

INTERRUPTIONS_MAX = 100
"""A step that was left by so many exceptions was not interrupted: it is broken."""


class Place:
    """One commit in the queue, and then in a group."""

    __slots__ = ("error", "finished", "follower", "taken", "wake")

    def __init__(self) -> None:
        self.taken = False
        self.finished = False
        self.error: BaseException | None = None
        self.wake: threading.Lock | None = None
        self.follower: Place | None = None
        """Who in the group is woken by this one."""

    def signal(self) -> None:
        """Wakes the owner; more than once does no harm."""
        wake = self.wake
        if wake is not None and wake.locked():
            try:
                wake.release()
            except RuntimeError:  # released already
                return


def carried_on(step: Callable[[], None], interruption: BaseException) -> BaseException:
    """Runs `step`, which `interruption` has left and which can be entered again, to its end; returns what to raise.

    A StoreError is the step's own and passes.
    """
    previous = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if previous is not None:
        signal.signal(signal.SIGINT, lambda *_: None)  # interrupted once is interrupted
    try:
        for _ in range(INTERRUPTIONS_MAX):
            try:
                step()
                return interruption
            except StoreError:
                raise
            except BaseException as error:  # noqa: BLE001 - as above
                interruption = error
        raise interruption
    finally:
        if previous is not None:
            signal.signal(signal.SIGINT, previous)


T = TypeVar("T", bound=Place)


class GroupCommit(Generic[T]):
    """Runs `write` for groups of places and then `finish` on each, in the order in which they queued.

    A StoreError of `write` is the whole group's: then it is `fail`. All three can be called again when they were
    interrupted. `write` may set the error of a single place, which is finished nevertheless.
    """

    def __init__(
        self, write: Callable[[list[T]], None], finish: Callable[[T], None], fail: Callable[[T, BaseException], None]
    ):
        self._write = write
        self._finish = finish
        self._fail = fail
        self._mutex = threading.Lock()
        self._queue: list[T] = []
        self._group: list[T] = []
        self._written = False
        self._write_error: StoreError | None = None
        self._leader: T | None = None
        self.groups = 0
        self.grouped = 0

    def carry(self, place: T) -> None:
        """Queues a place; returns when it is durable and finished, or has failed: `place.error`. Again, when it was
        interrupted."""
        while True:
            with self._mutex:
                if self._leader is not place:
                    if place.finished:
                        break
                    if not place.taken and place not in self._queue:
                        self._queue.append(place)
                    if self._leader is None:
                        self._leader = place
                if self._leader is place:
                    break
                if place.wake is None:
                    wake = threading.Lock()
                    wake.acquire()
                    place.wake = wake
            # `finished` is looked at after `wake` was set, as the leader looks at `wake` after it set `finished`
            if not place.finished:
                place.wake.acquire()
            if place.finished and self._leader is not place:
                break
        if self._leader is place:
            self._lead(place)
        if place.follower is not None:
            place.follower.signal()

    def _lead(self, place: T) -> None:
        """Writes and finishes what is queued, or goes on where that was interrupted, and passes the lead on."""
        if not place.finished and not self._group:
            with self._mutex:
                for queued in self._queue:
                    queued.taken = True
                self._written, self._write_error = False, None
                self._group, self._queue = self._queue, []
        if self._group:
            self._finish_group(place)
        with self._mutex:
            self._group = []
            heir = next((queued for queued in self._queue if queued.wake is not None), None)
            if heir is not None:
                heir.signal()  # it looks at `_leader` under the mutex
            self._leader = heir

    def _finish_group(self, leader: T) -> None:
        group = self._group
        last: Place = leader
        for place in group:
            if place is not leader:
                last.follower = place
                last = place
        if not self._written:
            try:
                self._write(group)
            except StoreError as caught:
                self._write_error = caught
            self._written = True
            self.groups += 1
            self.grouped += len(group)
        error = self._write_error
        for place in group:
            if not place.finished:
                if error is None:
                    self._finish(place)
                else:
                    if place.error is None:
                        place.error = error
                    self._fail(place, error)
                place.finished = True
