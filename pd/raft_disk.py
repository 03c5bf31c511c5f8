"""A placement driver's Raft log and state machine in its engine, as the Raft core reads it.

In family `raft`: `pd/log/` + index (u64) is an entry, `pd/hard` the hard state, `pd/applied` how far the state machine
is, where the log begins and who the members are. What is applied is written in one batch with that record, so the two
never disagree. The log is short, so all of it is in memory too.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.engine.api import CF_RAFT, Batch, Engine
from kvstore.proto import eraftpb_pb2 as eraftpb
from kvstore.proto.pdraft_pb2 import PdApplied, PdChange, PdCommand, PdSnapshot
from kvstore.raft.errors import Compacted, SnapshotTemporarilyUnavailable, Unavailable
from kvstore.raft.storage import limit_size
from kvstore.raft.types import ConfState, Entry, HardState, Snapshot
from kvstore.raft_wire import (
    conf_state_from_pb,
    conf_state_to_pb,
    entry_from_pb,
    entry_to_pb,
    hard_state_from_pb,
    hard_state_to_pb,
)
from pd.state import Change, State

LOG = b"pd/log/"
LOG_END = b"pd/log0"
HARD = b"pd/hard"
APPLIED = b"pd/applied"
LOG_ENTRIES_MAX = 4000
"""With more the log is cut."""
LOG_BYTES_MAX = 64 << 20
LOG_ENTRIES_KEPT = 1000
"""Applied entries that a cut leaves, for followers that are a little behind."""


class RaftDisk:
    """The persisted part of one member; the owner writes the batches that it fills."""

    def __init__(self, engine: Engine, state: State, first_members: Sequence[int]) -> None:
        """Reads what is there; a new directory belongs to a group of `first_members`."""
        self._engine = engine
        self._family = engine.handle(CF_RAFT)
        self._state = state
        self._entries: list[Entry] = []
        self._bytes = 0
        hard = engine.get(CF_RAFT, HARD)
        self.hard_state = HardState() if hard is None else hard_state_from_pb(eraftpb.HardState.FromString(hard))
        applied = engine.get(CF_RAFT, APPLIED)
        record = PdApplied() if applied is None else PdApplied.FromString(applied)
        self.is_new = applied is None
        self.applied_index = record.applied_index
        self._truncated_index, self._truncated_term = record.truncated_index, record.truncated_term
        self.conf_state = ConfState(tuple(sorted(first_members)))
        if applied is not None:
            self.conf_state = conf_state_from_pb(record.conf_state)
        self._load()
        self._snapshot: Snapshot | None = None

    def _load(self) -> None:
        start = LOG + (self._truncated_index + 1).to_bytes(8, "big")
        scanner = self._engine.scanner(CF_RAFT, start, LOG_END)
        try:
            while flat := scanner.take(1024):
                for value in flat[1::2]:
                    self._entries.append(entry_from_pb(eraftpb.Entry.FromString(value)))
        finally:
            scanner.release()
        self._bytes = sum(entry.size for entry in self._entries)
        for index, entry in enumerate(self._entries, self._truncated_index + 1):
            assert entry.index == index, f"the log has a gap: {entry.index} where {index} should be"

    # what the Raft core reads

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self.hard_state, self.conf_state

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        first = self.first_index()
        if low < first:
            raise Compacted(f"entry {low} is below {first}")
        if high > self.last_index() + 1:
            raise Unavailable(f"entry {high - 1} is above {self.last_index()}")
        return limit_size(self._entries[low - first : high - first], max_bytes)

    def term(self, index: int) -> int:
        if index == self._truncated_index:
            return self._truncated_term
        if index < self._truncated_index:
            raise Compacted(f"entry {index} is below {self._truncated_index}")
        if index > self.last_index():
            raise Unavailable(f"entry {index} is above {self.last_index()}")
        return self._entries[index - self._truncated_index - 1].term

    def first_index(self) -> int:
        return self._truncated_index + 1

    def last_index(self) -> int:
        return self._truncated_index + len(self._entries)

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        """All pairs, as of the applied index."""
        if self.applied_index < request_index:
            raise SnapshotTemporarilyUnavailable(f"have {self.applied_index}, asked for {request_index}")
        if self._snapshot is None or self._snapshot.index != self.applied_index:
            pairs = [PdChange(key=key, value=value) for key, value in self._state.scan()]
            data = PdSnapshot(pairs=pairs).SerializeToString()
            self._snapshot = Snapshot(self.applied_index, self.term(self.applied_index), self.conf_state, data)
        return self._snapshot

    # what the owner writes

    def put_entries(self, batch: Batch, entries: Sequence[Entry]) -> None:
        """Adds entries, in place of what stands from the first one's index on."""
        if not entries:
            return
        position = entries[0].index - self.first_index()
        assert 0 <= position <= len(self._entries), (entries[0].index, self.first_index(), self.last_index())
        for gone in self._entries[position:]:
            batch.delete(_log_key(gone.index), self._family)
            self._bytes -= gone.size
        self._entries[position:] = entries
        for entry in entries:
            batch.put(_log_key(entry.index), entry_to_pb(entry).SerializeToString(), self._family)
            self._bytes += entry.size

    def put_hard_state(self, batch: Batch, hard_state: HardState) -> None:
        self.hard_state = hard_state
        batch.put(HARD, hard_state_to_pb(hard_state).SerializeToString(), self._family)

    def apply(self, batch: Batch, entries: Sequence[Entry]) -> None:
        """Applies committed entries; a command of another term than its entry's was proposed by a leader of old."""
        for entry in entries:
            assert entry.index == self.applied_index + 1, (entry.index, self.applied_index)
            self.applied_index = entry.index
            if not entry.data:
                continue
            command = PdCommand.FromString(entry.data)
            if command.term == entry.term:
                for change in command.changes:
                    self._state.put(batch, Change(change.key, None if change.delete else change.value))
        if self.hard_state.commit < self.applied_index:
            state = self.hard_state
            self.put_hard_state(batch, HardState(state.term, state.vote, self.applied_index))
        self._put_applied(batch)

    def install(self, batch: Batch, snapshot: Snapshot) -> None:
        """Takes a leader's state in place of what is here, log and all."""
        self._state.clear(batch)
        for pair in PdSnapshot.FromString(snapshot.data).pairs:
            self._state.put(batch, Change(pair.key, pair.value))
        batch.delete_range(LOG, LOG_END, self._family)
        self._entries, self._bytes = [], 0
        self._truncated_index, self._truncated_term = snapshot.index, snapshot.term
        self.applied_index, self.conf_state = snapshot.index, snapshot.conf_state
        self._put_applied(batch)

    def is_long(self) -> bool:
        return len(self._entries) > LOG_ENTRIES_MAX or self._bytes > LOG_BYTES_MAX

    def truncate(self, batch: Batch) -> None:
        """Cuts the log; what is not applied stays."""
        index = min(self.applied_index, self.last_index() - LOG_ENTRIES_KEPT)
        if self._bytes > LOG_BYTES_MAX:
            index = self.applied_index
        if index <= self._truncated_index:
            return
        term, count = self.term(index), index - self._truncated_index
        batch.delete_range(_log_key(self.first_index()), _log_key(index + 1), self._family)
        self._bytes -= sum(entry.size for entry in self._entries[:count])
        del self._entries[:count]
        self._truncated_index, self._truncated_term = index, term
        self._put_applied(batch)

    def _put_applied(self, batch: Batch) -> None:
        record = PdApplied(
            applied_index=self.applied_index,
            truncated_index=self._truncated_index,
            truncated_term=self._truncated_term,
            conf_state=conf_state_to_pb(self.conf_state),
        )
        batch.put(APPLIED, record.SerializeToString(), self._family)
        self.is_new = False


def _log_key(index: int) -> bytes:
    return LOG + index.to_bytes(8, "big")
