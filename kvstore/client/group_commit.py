"""Group commit: many transactions that wait for the disk share one sync.

    commit A   write ── sync ───┐ leads, alone
    commit B      write (queues) ───────┼─ A is done, its group is finished; the sync thread takes over ...
    commit C         write (queues) ────┤
    sync thread                  └─ sync ─┬─ finish B, C, wake them ─ sync ─ finish D, E ...
    commit D                      write (queues) ── its record went out after that sync began: next group

A sync covers every write that had returned when it began. Who finds no sync running leads one for all that have written
so far, in its own thread: a lone committer pays for no hand-over. If others have queued meanwhile, the rest is led by
the sync thread, which goes on as long as the queue is not empty: the disk is never idle while a woken thread waits for
the interpreter. Nobody waits for a timer. The sync lets other threads run, and they write meanwhile.

Signal handlers run in the main thread, between any two instructions, and may raise (Ctrl-C). `uninterrupted` carries a
step through nevertheless; `add`, `wait` and what they call can be entered again at whatever point they were left.
"""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from kvstore.errors import StoreError

T = TypeVar("T")

IDLE_CHECK_S = 5.0
"""How often the idle sync thread looks whether its store is still there."""
INTERRUPTIONS_MAX = 100
"""A step that was left by so many exceptions was not interrupted: it is broken."""


class Place(Generic[T]):
    """One item in the queue, and then in a group."""

    __slots__ = ("error", "finished", "item", "taken", "wake")

    def __init__(self, item: T) -> None:
        self.item = item
        self.taken = False
        self.finished = False
        self.error: BaseException | None = None
        self.wake: threading.Lock | None = None

    def done(self, error: BaseException | None) -> None:
        """Sets the outcome and wakes the owner; more than once does no harm."""
        if not self.finished:
            self.error = error
            self.finished = True
        wake = self.wake
        if wake is not None and wake.locked():
            try:
                wake.release()
            except RuntimeError:  # released already
                return


def uninterrupted(step: Callable[[], None]) -> BaseException | None:
    """Runs `step`, which can be entered again, to its end; returns what a signal handler raised meanwhile.

    A StoreError is the step's own and passes.
    """
    try:
        step()
        return None
    except StoreError:
        raise
    except BaseException as error:  # noqa: BLE001 - returned to the caller, who raises it
        interruption = error
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


class GroupCommit(Generic[T]):
    """Runs `sync` for groups of items and then `finish` on each item, in the order in which they were added.

    `finish` and `fail` can be called again for an item when they were interrupted.
    """

    def __init__(self, sync: Callable[[], None], finish: Callable[[T], None], fail: Callable[[T, BaseException], None]):
        self._sync = sync
        self._finish = finish
        self._fail = fail
        self._mutex = threading.Lock()
        self._queue: list[Place[T]] = []
        self._group: list[Place[T]] = []
        self._synced = False
        self._sync_error: StoreError | None = None
        self._leader: Place[T] | bool = False
        """Who leads: the place of a committer, True for the sync thread, False for nobody."""
        self._work = threading.Lock()
        self._work.acquire()
        self._thread: threading.Thread | None = None
        self._closing = False
        self.groups = 0
        self.grouped = 0

    def add(self, place: Place[T]) -> None:
        """Queues a place whose write has returned; the caller's lock keeps the order of writes and of calls the
        same."""
        with self._mutex:
            if not place.taken and place not in self._queue:
                self._queue.append(place)

    def wait(self, place: Place[T]) -> None:
        """Returns when the item is durable and finished; what the sync raised is in `place.error`."""
        with self._mutex:
            if self._leader is not place:
                if place.finished:
                    return
                if self._leader is False:
                    self._leader = place
            leads = self._leader is place
            if not leads and place.wake is None:
                wake = threading.Lock()
                wake.acquire()
                place.wake = wake
        if leads:
            self._lead_own(place)
        elif place.wake is not None:
            while not place.finished:  # looked at after `wake` was set, as `done` looks at `wake` after it set this
                place.wake.acquire()

    def _lead_own(self, place: Place[T]) -> None:
        """Leads the group of `place` and passes the lead on."""
        again = False
        while True:
            if again or self._group or not place.finished:
                self._lead_group()
            with self._mutex:
                if not self._queue:
                    self._leader = False
                    return
                if self._wake_thread():
                    self._leader = True
                    return
            again = True  # no thread to be had: lead the next group, too

    def _lead_group(self) -> None:
        """Syncs and finishes what is queued, or goes on with the group in which it was interrupted."""
        if not self._group:
            with self._mutex:
                for place in self._queue:
                    place.taken = True
                self._synced, self._sync_error = False, None
                self._group, self._queue = self._queue, []
        group = self._group
        if not self._synced:
            try:
                self._sync()
            except StoreError as caught:
                self._sync_error = caught
            self._synced = True
        error = self._sync_error
        for place in group:
            if not place.finished:
                if error is None:
                    self._finish(place.item)
                else:
                    self._fail(place.item, error)
            place.done(error)
        self.groups += 1
        self.grouped += len(group)
        self._group = []

    def _wake_thread(self) -> bool:
        """Wakes the sync thread; False when the system has no thread for us."""
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(
                target=_run, args=(weakref.ref(self), self._work), name="sqlfront-sync", daemon=True
            )
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                return False
        if self._work.locked():
            self._work.release()
        return True

    def lead(self) -> None:
        """Leads groups until the queue is empty; for the sync thread."""
        while True:
            with self._mutex:
                if self._leader is not True or self._thread is not threading.current_thread():
                    return
                if not self._queue and not self._group:
                    self._leader = False
                    return
            try:
                self._lead_group()
            except BaseException as error:
                self._give_up(error)
                raise

    def _give_up(self, error: BaseException) -> None:
        """The sync thread met what it cannot handle: nobody may be left waiting."""
        with self._mutex:
            lost, self._group, self._queue = [*self._group, *self._queue], [], []
            self._leader = False
        for place in lost:
            if not place.finished:
                self._fail(place.item, error)
            place.done(error)

    @property
    def closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Ends the sync thread when it has led what is queued."""
        self._closing = True
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            with self._mutex:
                if self._work.locked():
                    self._work.release()
            thread.join()


def _run(reference: weakref.ref[GroupCommit[T]], work: threading.Lock) -> None:
    """The sync thread; holds the group commit only while it works, so that an unclosed store can be freed."""
    while True:
        work.acquire(timeout=IDLE_CHECK_S)
        group = reference()
        if group is None:
            return
        group.lead()
        if group.closing:
            return
        del group
