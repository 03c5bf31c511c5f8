"""One peer of one region: its Raft node, what waits for its log, its lease.

Nothing here awaits: the store's round drives it. Futures are answered by the store after what they wait for is on disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kvstore.proto.metapb_pb2 import Peer as PeerPb
from kvstore.proto.metapb_pb2 import PeerRole, Region
from kvstore.proto.raft_cmdpb_pb2 import AdminRequest, RaftCmdRequest
from kvstore.proto.raft_serverpb_pb2 import MergeState
from kvstore.raft.config import Config, Rng
from kvstore.raft.errors import ProposalDropped
from kvstore.raft.raw_node import RawNode
from kvstore.raft.types import NO_ID, Entry, Role
from kvstore.raftstore import checks
from kvstore.raftstore.admin import conf_change_of
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.codec import header_of, write_command, write_prefix
from kvstore.raftstore.config import BATCH_BYTES_MAX, StoreConfig
from kvstore.raftstore.peer_storage import PeerStorage

Outcome = Any
"""What a proposal's future gets: the applied index, or the regions that a change of them left; or it gets an error."""


@dataclass(slots=True)
class QueuedWrite:
    """A write that waits for the next round; `term` 0: any."""

    parts: list[bytes]
    size: int
    term: int
    version: int
    future: asyncio.Future[Outcome]


@dataclass(slots=True)
class Proposal:
    """An entry that was appended and is to be answered when its index is applied."""

    index: int
    term: int
    sent_at: float
    futures: list[asyncio.Future[Outcome]]
    conf_change: bool = False
    ticks: int = 0


@dataclass(slots=True)
class PendingRead:
    """Reads that one ReadIndex asks for."""

    sent_at: float
    term: int
    """In which this peer led when it asked; 0 on a follower."""
    futures: list[asyncio.Future[int]]
    replica: bool
    ticks: int = 0


@dataclass(slots=True)
class Flow:
    """What came and went since the last heartbeat, and an estimate of what is there."""

    keys_written: int = 0
    bytes_written: int = 0
    keys_read: int = 0
    bytes_read: int = 0
    size: int = 0
    keys: int = 0
    since_check: int = 0
    """Bytes written since the region was measured."""
    measured: bool = False
    """Whether `size` and `keys` began with a measurement: 0 is reported until then, which means unknown."""


@dataclass(slots=True)
class Traffic:
    """What all regions of a store wrote and read since it started, as their heartbeats counted it."""

    keys_written: int = 0
    bytes_written: int = 0
    keys_read: int = 0
    bytes_read: int = 0

    def add(self, flow: Flow) -> None:
        self.keys_written += flow.keys_written
        self.bytes_written += flow.bytes_written
        self.keys_read += flow.keys_read
        self.bytes_read += flow.bytes_read


@dataclass(slots=True)
class LoadSample:
    """Reads counted in the present window, and some of their keys."""

    reads: int = 0
    hot_windows: int = 0
    keys: list[bytes] = field(default_factory=list)


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Answers with an error; one that nobody waits for any more is no warning."""
    if not future.done():
        future.set_exception(error)
        future.exception()


class Peer:
    """Everything the store keeps of one peer in memory."""

    __slots__ = (
        "alone",
        "apply_waiters",
        "applying",
        "asked_at",
        "asleep",
        "config",
        "destroyed",
        "flow",
        "found_gone",
        "heard_at",
        "held",
        "idle_ticks",
        "is_leader",
        "joint_since",
        "laggards",
        "last_compacted",
        "leaderless_since",
        "lease_term",
        "lease_until",
        "led",
        "load",
        "loaded",
        "members",
        "merge_index",
        "merge_proposed",
        "peer",
        "pending",
        "proposals",
        "queue",
        "queue_bytes",
        "raft",
        "read_queue",
        "reads",
        "reported_at",
        "sleepers",
        "storage",
        "write_header",
        "write_header_key",
    )

    def __init__(self, storage: PeerStorage, peer: PeerPb, config: StoreConfig, rng: Rng, now: float) -> None:
        self.storage = storage
        self.peer = peer
        self.config = config
        self.raft = RawNode(
            Config(
                peer.id,
                election_tick=config.election_ticks,
                heartbeat_tick=config.heartbeat_ticks,
                applied=storage.applied,
                max_size_per_msg=config.size_per_message_max,
                max_inflight_msgs=config.inflight_messages_max,
                skip_bcast_commit=True,  # two messages a follower less for every write
            ),
            storage,
            rng,
        )
        self.queue: list[QueuedWrite] = []
        self.queue_bytes = 0
        """Of writes that wait or are under way; `RaftStore.write` counts."""
        self.proposals: deque[Proposal] = deque()
        self.read_queue: list[tuple[asyncio.Future[int], bool]] = []
        self.reads: dict[bytes, PendingRead] = {}
        self.apply_waiters: list[tuple[int, asyncio.Future[int]]] = []
        self.lease_until = 0.0
        self.lease_term = 0
        self.reported_at = now
        self.pending: list[PeerPb] = []
        """Whom the last heartbeat named: members that still need a snapshot."""
        self.is_leader = False
        self.destroyed = False
        self.applying: Any | None = None
        """The snapshot that is being applied: nothing else is done meanwhile."""
        self.held: list[Entry] = []
        """Committed entries that follow the snapshot that is being applied."""
        self.asleep = False
        self.idle_ticks = 0
        self.sleepers: set[int] = set()
        self.heard_at: dict[int, float] = {}
        self.leaderless_since = now
        self.led = False
        self.asked_at = 0.0
        self.found_gone = 0
        """How often in a row the placement driver knew nothing of the region."""
        self.laggards: dict[int, int] = {}
        """Regions of this store that may need this peer, which was found gone, to take it over: until they have come
        to these versions."""
        self.loaded = False
        """Whether it was there when the process started."""
        self.joint_since: float | None = None
        self.last_compacted = storage.truncated_index
        self.merge_index = 0
        self.merge_proposed: tuple[int, int, int] | None = None
        self.members: dict[int, PeerPb] = {}
        self.alone = False
        self.flow = Flow()
        self.load = LoadSample()
        self.write_header = b""
        self.write_header_key: tuple[int, int, int] | None = None
        self.on_members()

    @property
    def region(self) -> Region:
        return self.storage.region

    def needs_snapshot(self, member: PeerPb) -> bool:
        """Whether the log no longer reaches back to what a member has, as its leader knows it."""
        progress = self.raft.progress(member.id)
        return progress is not None and progress.matched < self.storage.truncated_index

    @property
    def region_id(self) -> int:
        region_id: int = self.storage.region.id
        return region_id

    @property
    def merge(self) -> MergeState | None:
        return self.storage.merge

    def on_members(self) -> None:
        """The region's peers changed."""
        region = self.storage.region
        self.members.update((peer.id, peer) for peer in region.peers)
        if region.peers:
            for gone in [peer_id for peer_id in self.members if all(p.id != peer_id for p in region.peers)]:
                del self.members[gone]
        for peer in region.peers:
            if peer.id == self.peer.id:
                self.peer = peer
        voters = [peer.id for peer in region.peers if peer.role != PeerRole.Learner]
        self.alone = voters == [self.peer.id] and self.peer.role == PeerRole.Voter

    def leader(self) -> PeerPb | None:
        """Who leads, as far as is known here."""
        leader_id = self.raft.leader_id
        return self.members.get(leader_id) if leader_id != NO_ID else None

    def leader_seen(self) -> float:
        """When this follower last had a leader that spoke to it. A learner never ceases to believe in one."""
        leader_id = self.raft.leader_id
        return self.leaderless_since if leader_id == NO_ID else self.heard_at.get(leader_id, self.leaderless_since)

    # reads

    def lease_valid(self, now: float) -> bool:
        """Whether a leader may answer a read from what it has applied, without asking anyone.

        All that is committed has to be applied: a split or merge that others may have acted upon already, too.
        """
        raft, storage = self.raft, self.storage
        return (
            raft.role is Role.LEADER
            and storage.applied == raft.commit
            and storage.applied_term == raft.term
            and (self.alone or (now < self.lease_until and self.lease_term == raft.term and raft.in_lease()))
            and raft.lead_transferee == NO_ID
            and self.applying is None
        )

    def renew_lease(self, sent_at: float, term: int) -> None:
        """A quorum has heard of this leader of `term` at or after `sent_at`."""
        raft, until = self.raft, sent_at + self.config.lease_s
        if raft.role is not Role.LEADER or raft.term != term:
            return
        if self.lease_term != term or until > self.lease_until:
            self.lease_until, self.lease_term = until, term

    # writes

    def take_writes(self, now: float) -> tuple[list[tuple[asyncio.Future[Outcome], RegionError]], int]:
        """Proposes what waits, joined into few entries; returns those that are refused, and the number of entries."""
        queue, self.queue = self.queue, []
        refused: list[tuple[asyncio.Future[Outcome], RegionError]] = []
        good: list[QueuedWrite] = []
        term, version = self.raft.term, self.region.region_epoch.version
        leads = self.raft.role is Role.LEADER
        for write in queue:
            if write.future.done():
                continue
            if not leads:
                refused.append((write.future, checks.not_leader(self.region_id, self.leader())))
            elif write.term and write.term != term:
                refused.append((write.future, checks.stale_command()))
            elif write.version != version:
                error = checks.epoch_not_match("it changed while the write waited", [self.region])
                refused.append((write.future, error))
            elif self.merge is not None:
                refused.append((write.future, checks.proposal_in_merging_mode(self.region_id)))
            else:
                good.append(write)
        at = entries = 0
        while at < len(good):
            size, end = good[at].size, at + 1
            while end < len(good) and size + good[end].size <= BATCH_BYTES_MAX:
                size += good[end].size
                end += 1
            self._propose_writes(good[at:end], size, now, refused)
            at = end
            entries += 1
        return refused, entries

    def _propose_writes(
        self,
        writes: Sequence[QueuedWrite],
        size: int,
        now: float,
        refused: list[tuple[asyncio.Future[Outcome], RegionError]],
    ) -> None:
        parts = [part for write in writes for part in write.parts]
        try:
            index = self.raft.propose(b"", write_command(self.header(), parts, size))
        except ProposalDropped as error:
            dropped = self.dropped(error)
            refused += [(write.future, dropped) for write in writes]
            return
        self.note(Proposal(index, self.raft.term, now, [write.future for write in writes]))

    def header(self) -> bytes:
        """The encoded header of writes at the present epoch and term."""
        epoch, term = self.region.region_epoch, self.raft.term
        key = (epoch.version, epoch.conf_ver, term)
        if key != self.write_header_key:
            self.write_header_key = key
            self.write_header = write_prefix(header_of(self.region_id, self.peer, epoch, term))
        return self.write_header

    def dropped(self, error: ProposalDropped) -> RegionError:
        """A proposal was not appended: the lead is being handed over, or is gone."""
        if self.raft.role is Role.LEADER and self.raft.lead_transferee == NO_ID:
            return checks.server_is_busy(error.reason, self.config.busy_backoff_ms)
        return checks.not_leader(self.region_id, None)

    def note(self, proposal: Proposal) -> None:
        """Remembers what was proposed. Proposals of an older term at or behind it were cut off: they can't commit."""
        proposals = self.proposals
        while proposals and proposals[-1].index >= proposal.index:
            self.settle_one(proposals.pop(), checks.stale_command())
        proposals.append(proposal)

    def settle_one(self, proposal: Proposal, error: RegionError) -> None:
        """Answers a proposal with an error."""
        for future in proposal.futures:
            fail(future, error)

    def propose_admin(self, admin: AdminRequest, future: asyncio.Future[Outcome] | None, now: float) -> int:
        """Proposes a change of the region; returns its index. RegionError if it is not appended."""
        command = RaftCmdRequest(
            header=header_of(self.region_id, self.peer, self.region.region_epoch, self.raft.term), admin_request=admin
        )
        futures = [] if future is None else [future]
        conf_change = admin.HasField("change_peer_v2")
        try:
            if conf_change:
                changes = admin.change_peer_v2.changes
                index = self.raft.propose_conf_change(b"", conf_change_of(changes, command.SerializeToString()))
            else:
                index = self.raft.propose(b"", command.SerializeToString())
        except ProposalDropped as error:
            raise self.dropped(error) from error
        if not admin.HasField("compact_log"):
            self.raft.tell_commit(index)  # all members are to change the region soon
        self.note(Proposal(index, self.raft.term, now, futures, conf_change))
        return index

    def propose_command(self, command: RaftCmdRequest, future: asyncio.Future[Outcome], now: float) -> None:
        """Proposes plain requests (a deleted range). RegionError if it is not appended."""
        command.header.CopyFrom(header_of(self.region_id, self.peer, self.region.region_epoch, self.raft.term))
        try:
            index = self.raft.propose(b"", command.SerializeToString())
        except ProposalDropped as error:
            raise self.dropped(error) from error
        self.note(Proposal(index, self.raft.term, now, [future]))

    # what waits, when it can't be served

    def fail_reads(self, error: RegionError, *, replica_too: bool) -> None:
        """Answers the reads that wait; those of followers may survive a change of the leader."""
        keep: list[tuple[asyncio.Future[int], bool]] = [
            (future, replica) for future, replica in self.read_queue if replica and not replica_too
        ]
        for future, replica in self.read_queue:
            if replica_too or not replica:
                fail(future, error)
        self.read_queue = keep
        for context, read in list(self.reads.items()):
            if read.replica and not replica_too:
                continue
            del self.reads[context]
            for future in read.futures:
                fail(future, error)

    def fail_all(self, error: RegionError, certain: RegionError) -> None:
        """The peer goes: `certain` for what was not proposed, `error` for what was."""
        for write in self.queue:
            fail(write.future, certain)
        self.queue = []
        for proposal in self.proposals:
            self.settle_one(proposal, error)
        self.proposals.clear()
        self.fail_reads(certain, replica_too=True)
        for _, future in self.apply_waiters:
            fail(future, certain)
        self.apply_waiters = []

    def busy(self) -> bool:
        """Whether anything is under way that ticks are needed for."""
        return bool(
            self.queue
            or self.proposals
            or self.read_queue
            or self.reads
            or self.apply_waiters
            or self.applying
            or self.merge is not None
            or self.storage.snapshot_of
            or self.joint_since is not None
        )
