"""The log as one node sees it: the persisted part in `Storage`, and after it the tail that is still to be persisted.

    first_index … [storage] … offset … [tail] … last_index
    applied ≤ committed ≤ last_index, and persisted ≤ last_index: what is on the local disk *and* still in the log

A snapshot that came from the leader and is not persisted yet stands before the tail and hides the storage. Entries are
handed to the state machine only up to min(committed, persisted).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.raft.errors import Compacted, InvariantBroken, StorageError, Unavailable
from kvstore.raft.storage import Storage, limit_size
from kvstore.raft.types import Entry, Snapshot


class RaftLog:
    """All methods are cheap when they concern the end of the log; the storage is asked for what lies before."""

    __slots__ = (
        "applied",
        "committed",
        "last_index",
        "last_term",
        "offset",
        "persisted",
        "snapshot",
        "storage",
        "tail",
    )

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.snapshot: Snapshot | None = None
        self.tail: list[Entry] = []
        self.last_index = storage.last_index()
        self.last_term = storage.term(self.last_index)
        self.offset = self.last_index + 1
        self.persisted = self.last_index
        self.committed = self.applied = storage.first_index() - 1

    def first_index(self) -> int:
        return self.snapshot.index + 1 if self.snapshot is not None else self.storage.first_index()

    def term(self, index: int) -> int:
        """The term of an entry or of the one before the first; Compacted or Unavailable."""
        if index == self.last_index:
            return self.last_term
        position = index - self.offset
        if position >= 0:
            if index > self.last_index:
                raise Unavailable(f"entry {index} is above {self.last_index}")
            return self.tail[position].term
        if self.snapshot is not None:
            if index == self.snapshot.index:
                return self.snapshot.term
            raise Compacted(f"entry {index} is below the snapshot at {self.snapshot.index}")
        return self.storage.term(index)

    def matches(self, index: int, term: int) -> bool:
        if index == self.last_index:
            return self.last_term == term
        try:
            return self.term(index) == term
        except StorageError:
            return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends in (index, term) holds everything that this one may have committed (paper, 5.4.1)."""
        return term > self.last_term or (term == self.last_term and index >= self.last_index)

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        """Entries [low, high), cut to `max_bytes` but to at least one; Compacted."""
        offset = self.offset
        if low >= offset:
            return limit_size(self.tail[low - offset : high - offset], max_bytes)
        if self.snapshot is not None:
            raise Compacted(f"entry {low} is below the snapshot at {self.snapshot.index}")
        stored_high = min(high, offset)
        found = self.storage.entries(low, stored_high, max_bytes)
        if high > offset and len(found) == offset - low:
            found = limit_size(found + self.tail[: high - offset], max_bytes)
        return found

    def append(self, entries: Sequence[Entry]) -> None:
        """Puts entries after the one before the first of them; what stood there is cut off."""
        first = entries[0].index
        if first <= self.committed:
            raise InvariantBroken(f"entry {first} would replace a committed one ({self.committed})")
        if first > self.last_index + 1:
            raise InvariantBroken(f"entry {first} would leave a gap after {self.last_index}")
        if first == self.last_index + 1:
            self.tail.extend(entries)
        elif first <= self.offset:
            self.offset = first
            self.tail = list(entries)
            self.persisted = min(self.persisted, first - 1)
        else:
            self.tail[first - self.offset :] = entries
            self.persisted = min(self.persisted, first - 1)
        last = entries[-1]
        self.last_index, self.last_term = last.index, last.term

    def append_one(self, entry: Entry) -> None:
        """Appends an entry that follows the last one."""
        self.tail.append(entry)
        self.last_index, self.last_term = entry.index, entry.term

    def append_after(self, index: int, term: int, entries: Sequence[Entry]) -> bool:
        """Takes a leader's entries that follow (index, term); False, and nothing changed, if that entry isn't here.

        Entries that are here already stay, even if the message ends before ours do: it may be an old one.
        """
        if not self.matches(index, term):
            return False
        if not entries:
            return True
        if index == self.last_index:
            self.append(entries)
            return True
        for position, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                self.append(entries[position:])
                break
        return True

    def last_at_or_below(self, index: int, term: int) -> tuple[int, int]:
        """The highest (index', term') with index' ≤ index and term' ≤ term; term' is 0 where the log was compacted.

        Logs that disagree at `index` can only agree there or below it, so whole terms are skipped in one exchange.
        """
        index = min(index, self.last_index)
        while True:
            try:
                found = self.term(index)
            except Compacted:
                return index, 0
            if found <= term or index == 0:
                return index, found
            index -= 1

    def commit_to(self, index: int) -> bool:
        """Raises the commit index; False if it was there already. InvariantBroken beyond the end of the log."""
        if index <= self.committed:
            return False
        if index > self.last_index:
            raise InvariantBroken(f"commit index {index} is beyond the last entry {self.last_index}: was the log lost?")
        self.committed = index
        return True

    def commit_if_term(self, index: int, term: int) -> bool:
        """Commits up to `index` if the entry there is of `term`; a leader counts in its own term only (5.4.2)."""
        if index > self.committed and self.matches(index, term):
            return self.commit_to(index)
        return False

    def apply_to(self, index: int) -> None:
        if not self.applied <= index <= self.committed:
            raise InvariantBroken(f"applied index {index} is not in {self.applied}..{self.committed}")
        self.applied = index

    def next_committed(self, since: int, max_bytes: int | None) -> list[Entry]:
        """Entries after `since` that the state machine may have."""
        low = max(since + 1, self.first_index())
        high = min(self.committed, self.persisted) + 1
        return self.entries(low, high, max_bytes) if low < high else []

    def restore(self, snapshot: Snapshot) -> None:
        """Throws the log away for a snapshot that is still to be persisted."""
        self.persisted = min(self.persisted, self.committed)
        self.committed = snapshot.index
        self.snapshot = snapshot
        self.tail = []
        self.offset = snapshot.index + 1
        self.last_index, self.last_term = snapshot.index, snapshot.term

    def on_snapshot_persisted(self, index: int) -> None:
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.persisted = max(self.persisted, index)

    def on_entries_persisted(self, index: int, term: int) -> None:
        """Entries up to (index, term) are on disk; ignored if that tail has been replaced meanwhile.

        What was replaced is persisted again from the first difference on, so it does no harm that it is on disk.
        """
        if index < self.offset or self.snapshot is not None or not self.matches(index, term):
            return
        self.tail = self.tail[index + 1 - self.offset :]
        self.offset = index + 1
        self.persisted = max(self.persisted, index)

    def snapshot_for(self, request_index: int, to: int) -> Snapshot:
        """A snapshot to send; SnapshotTemporarilyUnavailable."""
        if self.snapshot is not None and self.snapshot.index >= request_index:
            return self.snapshot
        return self.storage.snapshot(request_index, to)
