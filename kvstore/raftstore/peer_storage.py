"""The log and the states of one peer on disk, and what of them is kept in memory.

`raft.Storage` over the family `raft`. What is written goes into a batch of the caller's, and is in force in memory at
once: the store writes the batch before anything depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.engine.api import CF_RAFT, Batch, Engine
from kvstore.errors import Corruption
from kvstore.proto import raft_serverpb_pb2 as serverpb
from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region
from kvstore.raft.errors import Compacted, SnapshotTemporarilyUnavailable, Unavailable
from kvstore.raft.storage import limit_size
from kvstore.raft.types import ConfState, Entry, HardState, Snapshot
from kvstore.raft_wire import entry_from_bytes, entry_to_pb, hard_state_from_pb, hard_state_to_pb
from kvstore.raftstore import keys

FIRST_LOG_INDEX = 5
"""A region begins as if so many entries had been applied and cut off, so that a new, empty peer needs a snapshot."""
FIRST_LOG_TERM = 5
READ_ENTRIES = 1024


def conf_state_of(region: Region) -> ConfState:
    """Raft's membership as the roles of a region's peers say it."""
    of = {role: tuple(sorted(p.id for p in region.peers if p.role == role)) for role in range(4)}
    voter, learner = of[PeerRole.Voter], of[PeerRole.Learner]
    incoming, demoting = of[PeerRole.IncomingVoter], of[PeerRole.DemotingVoter]
    joint = bool(incoming or demoting)
    return ConfState(
        tuple(sorted(voter + incoming)), learner, tuple(sorted(voter + demoting)) if joint else (), demoting, False
    )


class PeerStorage:
    """One peer's log (in the cache from `_cache_first` on) and states; a region without peers is not initialised."""

    __slots__ = (
        "_cache",
        "_cache_bytes",
        "_cache_first",
        "_engine",
        "applied",
        "applied_term",
        "hard_state",
        "last",
        "last_term",
        "log_bytes",
        "made_snapshots",
        "merge",
        "region",
        "snapshot_of",
        "state",
        "truncated_index",
        "truncated_term",
    )

    def __init__(self, engine: Engine, region_id: int, state: serverpb.RegionLocalState | None) -> None:
        """Reads the states; `state` is None for a peer that awaits its first snapshot. Raises Corruption."""
        self._engine = engine
        self.region = state.region if state is not None else Region(id=region_id)
        self.state = state.state if state is not None else serverpb.PeerState.Normal
        self.merge: serverpb.MergeState | None = None
        if state is not None and state.state == serverpb.PeerState.Merging:
            self.merge = state.merge_state
        raw = engine.get(CF_RAFT, keys.raft_state_key(region_id))
        raft_state = serverpb.RaftLocalState.FromString(raw) if raw is not None else serverpb.RaftLocalState()
        raw = engine.get(CF_RAFT, keys.apply_state_key(region_id))
        apply_state = serverpb.RaftApplyState.FromString(raw) if raw is not None else serverpb.RaftApplyState()
        self.hard_state = hard_state_from_pb(raft_state.hard_state)
        self.last = raft_state.last_index
        self.applied = apply_state.applied_index
        self.truncated_index = apply_state.truncated_state.index
        self.truncated_term = apply_state.truncated_state.term
        self._cache: list[Entry] = []
        self._cache_first = self.last + 1
        self._cache_bytes = 0
        self.log_bytes = 0
        """Appended since the log was last cut."""
        self.snapshot_of: list[tuple[int, int]] = []
        """(index, peer) of snapshots that Raft asks for."""
        self.made_snapshots: dict[int, Snapshot] = {}
        """By the peer they were made for."""
        self._check(region_id)
        self.last_term = self.term(self.last)
        self.applied_term = self.term(self.applied)

    def _check(self, region_id: int) -> None:
        commit = self.hard_state.commit
        if self.initialized and not self.truncated_index <= self.applied <= commit <= self.last:
            # The commit index is not synced for itself: what was applied was committed.
            if not self.truncated_index <= self.applied <= self.last:
                raise Corruption(
                    f"region {region_id}: truncated {self.truncated_index}, applied {self.applied}, commit {commit}, "
                    f"last {self.last} do not follow each other"
                )
            self.hard_state = HardState(self.hard_state.term, self.hard_state.vote, max(commit, self.applied))

    @property
    def initialized(self) -> bool:
        return bool(self.region.peers)

    # what Raft reads

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self.hard_state, conf_state_of(self.region)

    def first_index(self) -> int:
        return self.truncated_index + 1

    def last_index(self) -> int:
        return self.last

    def term(self, index: int) -> int:
        if index == self.truncated_index:
            return self.truncated_term
        if index >= self._cache_first and index <= self.last:
            return self._cache[index - self._cache_first].term
        if index < self.truncated_index:
            raise Compacted(f"entry {index} is below {self.truncated_index + 1}")
        if index > self.last:
            raise Unavailable(f"entry {index} is above {self.last}")
        return self._read_one(index).term

    def entries(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        if low <= self.truncated_index:
            raise Compacted(f"entry {low} is below {self.truncated_index + 1}")
        if high > self.last + 1:
            raise Unavailable(f"entry {high - 1} is above {self.last}")
        first = self._cache_first
        if low >= first:
            return limit_size(self._cache[low - first : high - first], max_bytes)
        found = self._read(low, min(high, first), max_bytes)
        if high > first and len(found) == first - low:
            found = limit_size(found + self._cache[: high - first], max_bytes)
        return found

    def snapshot(self, request_index: int, to: int) -> Snapshot:
        made = self.made_snapshots.pop(to, None)
        if made is not None and made.index >= max(request_index, self.truncated_index):
            return made
        if (request_index, to) not in self.snapshot_of:
            self.snapshot_of.append((request_index, to))
        raise SnapshotTemporarilyUnavailable(f"for peer {to}")

    def _read_one(self, index: int) -> Entry:
        raw = self._engine.get(CF_RAFT, keys.log_key(self.region.id, index))
        if raw is None:
            raise Corruption(f"region {self.region.id}: entry {index} of the log is not there")
        return entry_from_bytes(raw)

    def _read(self, low: int, high: int, max_bytes: int | None) -> list[Entry]:
        region_id = self.region.id
        scanner = self._engine.scanner(CF_RAFT, keys.log_key(region_id, low), keys.log_key(region_id, high))
        found: list[Entry] = []
        size = 0
        try:
            while len(found) < high - low and (max_bytes is None or size <= max_bytes):
                flat = scanner.take(min(READ_ENTRIES, high - low - len(found)))
                if not flat:
                    break
                for raw in flat[1::2]:
                    found.append(entry_from_bytes(raw))
                    size += len(raw)
        finally:
            scanner.release()
        for position, entry in enumerate(found):
            if entry.index != low + position:
                raise Corruption(f"region {region_id}: entry {low + position} of the log is not there")
        if not found or (len(found) < high - low and max_bytes is None):
            raise Corruption(f"region {region_id}: entries {low + len(found)}..{high - 1} of the log are not there")
        return limit_size(found, max_bytes)

    # what the store writes

    def append(self, batch: Batch, entries: Sequence[Entry], cache_bytes_max: int) -> None:
        """Writes entries; what stood from the first one's index on is gone. `save_raft_state` has to follow."""
        if not entries:
            return
        region_id, first, last = self.region.id, entries[0].index, entries[-1]
        if not self.truncated_index < first <= self.last + 1:
            raise Corruption(f"region {region_id}: entry {first} does not follow {self.last}")
        handle = self._engine.handle(CF_RAFT)
        for entry in entries:
            batch.put(keys.log_key(region_id, entry.index), entry_to_pb(entry).SerializeToString(), handle)
        for index in range(last.index + 1, self.last + 1):
            batch.delete(keys.log_key(region_id, index), handle)
        if first < self._cache_first:
            self._cache, self._cache_bytes, self._cache_first = [], 0, first
        elif first <= self.last:
            self._cache_bytes -= sum(len(e.data) for e in self._cache[first - self._cache_first :])
            del self._cache[first - self._cache_first :]
        self._cache += entries
        size = sum(len(entry.data) for entry in entries)
        self._cache_bytes += size
        self.log_bytes += size
        self.last, self.last_term = last.index, last.term
        if self._cache_bytes > cache_bytes_max:
            self.trim_cache(self.applied)

    def trim_cache(self, index: int) -> None:
        """Forgets entries up to `index`; they are read from disk when someone needs them."""
        count = min(index, self.last) + 1 - self._cache_first
        if count > 0:
            self._cache_bytes -= sum(len(entry.data) for entry in self._cache[:count])
            del self._cache[:count]
            self._cache_first += count

    def save_raft_state(self, batch: Batch) -> None:
        state = serverpb.RaftLocalState(hard_state=hard_state_to_pb(self.hard_state), last_index=self.last)
        batch.put(keys.raft_state_key(self.region.id), state.SerializeToString(), self._engine.handle(CF_RAFT))

    def save_apply_state(self, batch: Batch) -> None:
        state = serverpb.RaftApplyState(applied_index=self.applied)
        state.truncated_state.index = self.truncated_index
        state.truncated_state.term = self.truncated_term
        batch.put(keys.apply_state_key(self.region.id), state.SerializeToString(), self._engine.handle(CF_RAFT))

    def save_region(self, batch: Batch) -> None:
        local = serverpb.RegionLocalState(state=self.state, region=self.region)
        if self.merge is not None:
            local.merge_state.CopyFrom(self.merge)
        batch.put(keys.region_state_key(self.region.id), local.SerializeToString(), self._engine.handle(CF_RAFT))

    def compact(self, batch: Batch, index: int, term: int) -> None:
        """Cuts the log up to `index`, which was applied. `save_apply_state` has to follow."""
        assert self.truncated_index < index <= self.applied, (self.truncated_index, index, self.applied)
        region_id = self.region.id
        batch.delete_range(
            keys.log_key(region_id, self.truncated_index),
            keys.log_key(region_id, index + 1),
            self._engine.handle(CF_RAFT),
        )
        self.trim_cache(index)
        self.log_bytes = self._cache_bytes
        self.truncated_index, self.truncated_term = index, term

    def begin_snapshot(self, batch: Batch, snapshot: Snapshot, region: Region) -> None:
        """Puts a snapshot in place of the log; the data is applied later (PeerState.Applying)."""
        region_id = region.id
        low, high = keys.log_key(region_id, 0), keys.log_key(region_id, (1 << 64) - 1)
        batch.delete_range(low, high, self._engine.handle(CF_RAFT))
        self._cache, self._cache_bytes, self._cache_first = [], 0, snapshot.index + 1
        self.last, self.last_term = snapshot.index, snapshot.term
        self.truncated_index, self.truncated_term = snapshot.index, snapshot.term
        self.applied, self.applied_term = snapshot.index, snapshot.term
        self.region, self.state, self.merge = region, serverpb.PeerState.Applying, None
        self.save_apply_state(batch)
        self.save_region(batch)


def write_first_states(engine: Engine, batch: Batch, region: Region, hard_state: HardState | None = None) -> None:
    """The states of a peer of a region that begins here; a vote that was given before (`hard_state`) stays."""
    handle = engine.handle(CF_RAFT)
    before = hard_state or HardState()
    term = max(before.term, FIRST_LOG_TERM)
    vote = before.vote if term == before.term else 0
    raft_state = serverpb.RaftLocalState(last_index=FIRST_LOG_INDEX)
    raft_state.hard_state.CopyFrom(hard_state_to_pb(HardState(term, vote, FIRST_LOG_INDEX)))
    apply_state = serverpb.RaftApplyState(applied_index=FIRST_LOG_INDEX)
    apply_state.truncated_state.index = FIRST_LOG_INDEX
    apply_state.truncated_state.term = FIRST_LOG_TERM
    local = serverpb.RegionLocalState(state=serverpb.PeerState.Normal, region=region)
    batch.put(keys.raft_state_key(region.id), raft_state.SerializeToString(), handle)
    batch.put(keys.apply_state_key(region.id), apply_state.SerializeToString(), handle)
    batch.put(keys.region_state_key(region.id), local.SerializeToString(), handle)


def write_tombstone(engine: Engine, batch: Batch, region: Region, peer: Peer) -> None:
    """The peer is gone for good: its log and states go, and what remains keeps it from being made again."""
    grave = Region()
    grave.CopyFrom(region)
    if all(p.id != peer.id for p in grave.peers):
        grave.peers.append(peer)
    handle = engine.handle(CF_RAFT)
    batch.delete_range(*keys.raft_range(region.id), handle)
    local = serverpb.RegionLocalState(state=serverpb.PeerState.Tombstone, region=grave)
    batch.put(keys.region_state_key(region.id), local.SerializeToString(), handle)
