"""What a leader knows of one follower's log, and how it sends to it.

PROBE: where the logs agree is not known; one append per heartbeat, then wait. REPLICATE: they agree up to `matched`,
the leader streams ahead of the answers within a window. SNAPSHOT: the entries it needs are gone; nothing is
sent until the snapshot has arrived or failed.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import NamedTuple


class ProgressState(IntEnum):
    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class ProgressView(NamedTuple):
    """A copy of one follower's progress, for status and metrics."""

    matched: int
    next_idx: int
    state: ProgressState
    paused: bool
    pending_snapshot: int
    pending_request_snapshot: int
    recent_active: bool
    inflight: int


class Progress:
    """One follower seen from the leader. `next_idx` is the next entry to send, `matched` the last known to be there."""

    __slots__ = (
        "inflight",
        "matched",
        "max_inflight",
        "next_idx",
        "paused",
        "pending_request_snapshot",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, next_idx: int, max_inflight: int) -> None:
        self.max_inflight = max_inflight
        self.inflight: deque[int] = deque()  # last index of each append that is not answered
        self.reset(next_idx)

    def reset(self, next_idx: int) -> None:
        """Forgets everything: a new term begins."""
        self.matched = 0
        self.next_idx = next_idx
        self.sent_commit = 0
        self.pending_request_snapshot = 0
        self.recent_active = False
        self._enter(ProgressState.PROBE)

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused = False
        self.pending_snapshot = 0
        self.inflight.clear()

    def become_probe(self) -> None:
        # After a snapshot was sent, it is the best guess that it has arrived: begin after it.
        after_snapshot = self.pending_snapshot + 1 if self.state is ProgressState.SNAPSHOT else 0
        self._enter(ProgressState.PROBE)
        self.next_idx = max(self.matched + 1, after_snapshot)
        self.sent_commit = min(self.sent_commit, self.next_idx - 1)

    def become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE)
        self.next_idx = self.matched + 1

    def become_snapshot(self, index: int) -> None:
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next_idx = index + 1
        self.sent_commit = index

    def is_paused(self) -> bool:
        if self.state is ProgressState.REPLICATE:
            return len(self.inflight) >= self.max_inflight
        return self.paused or self.state is ProgressState.SNAPSHOT

    def update_matched(self, index: int) -> bool:
        """An append up to `index` was acknowledged; False if that was known."""
        if self.next_idx <= index:
            self.next_idx = index + 1
        if self.matched >= index:
            return False
        self.matched = index
        self.paused = False
        return True

    def on_sent(self, last_index: int) -> None:
        """Entries up to `last_index` went out."""
        if self.state is ProgressState.REPLICATE:
            self.next_idx = last_index + 1
            self.inflight.append(last_index)
        else:
            self.paused = True

    def on_rejected(self, rejected: int, hint: int) -> bool:
        """An append after `rejected` did not fit; False if the answer is an old one.

        `hint` is the highest index where both logs may agree.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.matched:
                return False
            self.next_idx = self.matched + 1
            return True
        if self.next_idx - 1 != rejected:  # while probing only the last append sent can be refused
            return False
        self.next_idx = max(min(rejected, hint + 1), self.matched + 1)
        self.sent_commit = min(self.sent_commit, self.next_idx - 1)
        self.paused = False
        return True

    def free_inflight(self, index: int) -> None:
        """Frees the window up to `index`."""
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()

    def wants_commit(self, committed: int) -> bool:
        """Whether an append without entries would tell the follower something new.

        Not while probing: commit can't pass what is known to match, and the next append says it.
        """
        return (
            self.state is ProgressState.REPLICATE
            and self.sent_commit < committed
            and self.sent_commit < self.next_idx - 1
        )

    def view(self) -> ProgressView:
        return ProgressView(
            self.matched,
            self.next_idx,
            self.state,
            self.is_paused(),
            self.pending_snapshot,
            self.pending_request_snapshot,
            self.recent_active,
            len(self.inflight),
        )
