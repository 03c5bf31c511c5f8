"""A commit on its way: what it writes, its place in the group commit, and who waits for it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from types import MappingProxyType

from kvstore.client.api import CommitCheck, Parts
from kvstore.client.group_commit import Place

Encoded = list[tuple[bytes, bytes | None]]
_NO_PATCHES: Mapping[bytes, Parts] = MappingProxyType({})


class Commit(Place):
    """From the critical section until it is durable and visible (`finished`), or has failed (`error`).

    It owns the locks that it takes itself, so it serves as their owner where no transaction does.
    """

    __slots__ = ("_readers", "_sorted", "check", "commit_ts", "encoded", "locked_only", "locks", "patches", "start_ts",
                 "writes")  # fmt: skip

    def __init__(
        self, start_ts: int, writes: dict[bytes, bytes | None], patches: Mapping[bytes, Parts] = _NO_PATCHES
    ) -> None:
        # what `Place` sets, without the call: a commit is made for every short write
        self.taken = self.finished = False
        self.error = self.wake = self.follower = None
        self.start_ts = start_ts
        self.commit_ts = 0
        """0 until its records are about to be written."""
        self.writes = writes
        self.patches = patches
        """Of some of the keys which parts of their values are changed; the others' may differ in all."""
        self.encoded: Encoded = []
        """The data keys to write, with their values."""
        self.locked_only: list[bytes] = []
        """Data keys that get a record of their lock."""
        self.check: CommitCheck | None = None
        self.locks: list[bytes] = []
        """Keys locked for this commit alone; the last may not be locked yet."""
        self._sorted: list[bytes] | None = None
        self._readers: list[threading.Lock] = []

    def touches(self, start: bytes, end: bytes | None) -> bool:
        """Whether it writes the key `start` (end None) or a key of the range; an empty `end` means no bound."""
        if end is None:
            return start in self.writes
        keys = self._sorted
        if keys is None:
            keys = self._sorted = sorted(self.writes)
        at = bisect_left(keys, start)
        return at < len(keys) and (not end or keys[at] < end)

    def wait_finished(self) -> None:
        """Returns when this commit is durable and visible, or has failed."""
        gate = threading.Lock()
        gate.acquire()
        self._readers.append(gate)
        if not self.finished:
            gate.acquire()

    def finish(self) -> None:
        """Marks the commit as over, for better or worse, and wakes the readers that wait for it."""
        self.finished = True
        while self._readers:
            self._readers.pop().release()
