"""Ranges that a bulk load has closed: writers wait for them, and readers see them as they were.

A load writes all its records with a commit_ts T drawn at its start, but they become visible later, at V =
`visible_from`.
A reader with T <= ts < V has to see the range without them: as of T-1, which loses nothing, since nobody else commits
there between T and V. Such a window is remembered until no reader below V can exist any more.

To a lock waiter a closed range is a key of its own that the load owns, so lock waits, timeouts and deadlock detection
are those of keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from kvstore.client.api import CancelToken
from kvstore.client.locks import LockTable, Owner
from kvstore.mvcc.keys import TS_MAX


@dataclass(slots=True, eq=False)
class ClosedRange:
    """One bulk load's range; an empty `end` means no bound."""

    start: bytes
    end: bytes
    lock_key: bytes
    commit_ts: int = 0
    visible_from: int | None = None
    """None until the load is over."""
    abandoned: bool = False
    """The load was dropped without an end."""

    def covers(self, key: bytes) -> bool:
        return not self.abandoned and self.start <= key and (not self.end or key < self.end)

    def overlaps(self, start: bytes, end: bytes) -> bool:
        return not self.abandoned and (not end or self.start < end) and (not self.end or start < self.end)

    def hides_from(self, ts: int) -> bool:
        """Whether a reader at `ts` must not see the load's records."""
        return bool(self.commit_ts) and self.commit_ts <= ts and (self.visible_from is None or ts < self.visible_from)


class RangeLocks:
    """The closed ranges (`active`) and those that still hide records from older readers (`windows`)."""

    def __init__(self, locks: LockTable) -> None:
        self.locks = locks
        self.active: tuple[ClosedRange, ...] = ()
        self.windows: tuple[ClosedRange, ...] = ()
        self.hides_below = 0
        """No window hides anything from readers at or above this."""

    def add_window(self, window: ClosedRange) -> None:
        """A load begins, whose timestamp is not drawn yet. This and the next three under the committer's mutex."""
        self._set_windows((*self.windows, window))

    def end_window(self, window: ClosedRange, visible_from: int) -> None:
        """The load is over: who reads at `visible_from` or later sees its records."""
        window.visible_from = visible_from
        self._set_windows(self.windows)

    def drop_window(self, window: ClosedRange) -> None:
        """The load has come to nothing."""
        self._set_windows(tuple(other for other in self.windows if other is not window))

    def _set_windows(self, windows: tuple[ClosedRange, ...]) -> None:
        self.windows = windows
        ends = (TS_MAX if window.visible_from is None else window.visible_from for window in windows)
        self.hides_below = max(ends, default=0)

    def may_hide(self, ts: int) -> bool:
        """Whether some load may hide records from a new reader at `ts`."""
        if ts >= self.hides_below:  # of loads that are over there may be many
            return False
        return any(not window.commit_ts or window.hides_from(ts) for window in self.windows)

    def find(self, key: bytes) -> ClosedRange | None:
        return next((closed for closed in self.active if closed.covers(key)), None)

    def first_inside(self, keys: Iterable[bytes]) -> bytes | None:
        """The first of `keys` that lies in a closed range."""
        return next((key for key in keys if self.find(key) is not None), None)

    def wait(self, owner: Owner, key: bytes, wait_ms: int, cancel: CancelToken | None) -> None:
        """Returns when the closed range over `key` may be open again; raises as a lock wait does."""
        closed = self.find(key)
        if closed is not None:
            self.locks.acquire(owner, closed.lock_key, wait_ms, cancel)
            self.locks.release((closed.lock_key,), owner)

    def effective_ts(self, key: bytes, ts: int) -> int:
        """The timestamp at which a reader at `ts` has to read `key`."""
        for window in self.windows:
            if window.covers(key) and window.hides_from(ts):
                ts = window.commit_ts - 1
        return ts

    def segments(self, start: bytes, end: bytes, ts: int) -> list[tuple[bytes, bytes, int]]:
        """Cuts [start, end) into ascending pieces, each with the timestamp at which to read it."""
        cuts = {start}
        for window in self.windows:
            if window.overlaps(start, end) and window.hides_from(ts):
                if window.start > start:
                    cuts.add(window.start)
                if window.end and (not end or window.end < end):
                    cuts.add(window.end)
        bounds = [*sorted(cuts), end]
        return [(low, high, self.effective_ts(low, ts)) for low, high in pairwise(bounds)]

    def cap_safe_point(self, target: int) -> int:
        """A safe point at or below `target` that leaves readers inside a window what they have to see."""
        for window in sorted(self.windows, key=lambda window: -window.commit_ts):
            if not window.abandoned and window.hides_from(target):
                target = window.commit_ts - 1
        return target

    def prune(self, safe_point: int) -> None:
        """Forgets abandoned loads and the windows that hide nothing from readers at or above the safe point."""
        self.active = tuple(entry for entry in self.active if not entry.abandoned)
        self._set_windows(
            tuple(
                window
                for window in self.windows
                if not window.abandoned and (window.visible_from is None or window.visible_from > safe_point)
            )
        )
