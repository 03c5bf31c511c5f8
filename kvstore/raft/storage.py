"""What the core reads of the persisted log, and the implementation in memory that tests use.

The caller writes to its storage what `Ready` tells it to; the core only reads. A write of entries replaces everything
from the first one's index on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kvstore.raft.errors import Compacted, SnapshotTemporarilyUnavailable, Unavailable
from kvstore.raft.types import ConfState, Entry, HardState, Snapshot

ENTRY_OVERHEAD_BYTES = 16  # what an entry takes on the wire and on disk besides its payload, about


class Storage(Protocol):
    """The persisted part of one node's log. Indexes of entries are first_index() … last_index()."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """What was persisted last; read once, when the node starts."""
        ...

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        """Entries [low, high), cut to `max_bytes` but never to none, see `limit_size`; Compacted or Unavailable."""
        ...

    def term(self, index: int) -> int:
        """The term of an entry, also of first_index() - 1; Compacted or Unavailable."""
        ...

    def first_index(self) -> int: ...

    def last_index(self) -> int: ...

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        """A snapshot at or above `request_index` for node `to`; SnapshotTemporarilyUnavailable while it is made."""
        ...


class MemoryStorage:
    """A storage whose owner plays the disk: `append`, `apply_snapshot`, `set_hard_state` are what it persists."""

    def __init__(self, conf_state: ConfState | None = None) -> None:
        self.hard_state = HardState()
        self.conf_state = conf_state or ConfState()
        self.snapshot_unavailable = False
        self._snapshot = Snapshot(0, 0, self.conf_state)
        self._dummy_index = self._dummy_term = 0  # what stands before the first entry
        self._entries: list[Entry] = []

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self.hard_state, self.conf_state

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        first = self._dummy_index + 1
        if low < first:
            raise Compacted(f"entry {low} is below {first}")
        if high > self.last_index() + 1:
            raise Unavailable(f"entry {high - 1} is above {self.last_index()}")
        return limit_size(self._entries[low - first : high - first], max_bytes)

    def term(self, index: int) -> int:
        position = index - self._dummy_index - 1
        if 0 <= position < len(self._entries):
            return self._entries[position].term
        if position == -1:
            return self._dummy_term
        if position < -1:
            raise Compacted(f"entry {index} is below {self._dummy_index}")
        raise Unavailable(f"entry {index} is above {self.last_index()}")

    def first_index(self) -> int:
        return self._dummy_index + 1

    def last_index(self) -> int:
        return self._dummy_index + len(self._entries)

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        if self.snapshot_unavailable or self._snapshot.index < request_index:
            raise SnapshotTemporarilyUnavailable(f"have {self._snapshot.index}, asked for {request_index}")
        return self._snapshot

    def set_hard_state(self, hard_state: HardState) -> None:
        self.hard_state = hard_state

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes entries, replacing what stands from the first one's index on."""
        if not entries:
            return
        position = entries[0].index - self._dummy_index - 1
        if not 0 <= position <= len(self._entries):
            raise Unavailable(f"entry {entries[0].index} leaves a gap after {self.last_index()}")
        self._entries[position:] = entries

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replaces the whole log by a snapshot received from the leader."""
        self._snapshot = snapshot
        self.conf_state = snapshot.conf_state
        self._dummy_index, self._dummy_term = snapshot.index, snapshot.term
        self._entries = []

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes = b"") -> Snapshot:
        """Makes the snapshot that lagging followers get."""
        self._snapshot = Snapshot(index, self.term(index), conf_state, data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Drops the entries up to and including `index`."""
        term = self.term(index)
        self._entries = self._entries[index - self._dummy_index :]
        self._dummy_index, self._dummy_term = index, term


def limit_size(entries: list[Entry], max_bytes: int | None) -> list[Entry]:
    """The longest prefix of at most `max_bytes`, but at least one entry."""
    if max_bytes is None or len(entries) <= 1:
        return entries
    total = 0
    for position, entry in enumerate(entries):
        total += len(entry.data) + len(entry.context) + ENTRY_OVERHEAD_BYTES
        if total > max_bytes and position:
            return entries[:position]
    return entries
