"""The state of one Raft node and the transitions between its roles.

The behaviour of each role is in modules of functions over this state: `election`, `leader`, `follower`, `replicate`,
`reads`, `membership`; `raft` dispatches to them. Paper: Ongaro and Ousterhout, In Search of an Understandable Consensus
Algorithm; thesis: Ongaro, Consensus: Bridging Theory and Practice. Details follow raft-rs and etcd-io/raft.
"""

from __future__ import annotations

from kvstore.raft import confchange
from kvstore.raft.config import Config, Rng
from kvstore.raft.errors import InvariantBroken
from kvstore.raft.log import RaftLog
from kvstore.raft.read_only import ReadOnly
from kvstore.raft.storage import Storage
from kvstore.raft.tracker import Tracker
from kvstore.raft.types import (
    NO_ID,
    NO_LIMIT,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    ReadState,
    Role,
    SoftState,
)


class Raft:
    """Everything a node knows. Only the modules of this package touch it; callers see `RawNode`.

    `msgs` are out, in order; `appends_due` and `heartbeat_due` say what `replicate.flush` has to add to them.
    """

    __slots__ = (
        "appends_due",
        "commit_to_tell",
        "config",
        "election_elapsed",
        "heartbeat_due",
        "heartbeat_elapsed",
        "id",
        "lead_transferee",
        "leader_id",
        "lease_broken",
        "log",
        "msgs",
        "pending_conf_index",
        "pending_request_snapshot",
        "promotable",
        "randomized_election_timeout",
        "read_only",
        "read_states",
        "rng",
        "role",
        "term",
        "tracker",
        "uncommitted_from",
        "uncommitted_size",
        "vote",
        "wants_snapshot",
    )

    def __init__(self, config: Config, storage: Storage, rng: Rng) -> None:
        hard_state, conf_state = storage.initial_state()
        self.config = config
        self.id = config.id
        self.rng = rng
        self.log = RaftLog(storage)
        self.tracker = Tracker(config.id, config.max_inflight_msgs)
        self.read_only = ReadOnly(config.read_only)
        self.msgs: list[Message] = []
        self.read_states: list[ReadState] = []
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.role = Role.FOLLOWER
        self.lease_broken = False  # a transfer target may campaign in spite of our lease
        self.wants_snapshot = False  # a follower's wish, and the index that the request of this term is for
        self.pending_request_snapshot = 0
        self.uncommitted_size = self.uncommitted_from = 0
        self.commit_to_tell = 0  # when it is committed, followers are told at once though `skip_bcast_commit` is set
        self.promotable = False
        self._load(hard_state, config.applied)
        self.set_configuration(confchange.restore(conf_state))
        self.become_follower(self.term, NO_ID)

    def _load(self, hard_state: HardState, applied: int) -> None:
        log = self.log
        if hard_state.commit > log.last_index:
            raise InvariantBroken(
                f"persisted commit index {hard_state.commit} is beyond the last entry {log.last_index}"
            )
        log.committed = max(log.committed, hard_state.commit)
        if applied > log.committed:
            raise InvariantBroken(f"applied index {applied} is beyond the commit index {log.committed}")
        log.applied = max(log.applied, applied)

    def set_configuration(self, conf: confchange.Configuration) -> None:
        """Takes over a configuration; what a leader has to do about it is in `membership`."""
        self.tracker.apply(conf, max(self.log.last_index, 1))
        self.promotable = self.tracker.is_voter(self.id)

    def conf_state(self) -> ConfState:
        return self.tracker.conf.to_conf_state()

    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    def soft_state(self) -> SoftState:
        return SoftState(self.leader_id, self.role)

    def can_campaign(self) -> bool:
        """A voter; one whose snapshot is still to be persisted has no log to win with, and one that has not applied it
        yet has to be asked to again: what it would apply next is not there."""
        return self.promotable and self.log.applied + 1 >= self.log.first_index()

    def within_lease(self) -> bool:
        """Whether a leader was heard of within the election timeout: then nobody else needs a vote."""
        return (
            self.config.check_quorum and self.leader_id != NO_ID and self.election_elapsed < self.config.election_tick
        )

    def in_lease(self) -> bool:
        """Whether this leader may answer reads without asking: followers refuse to vote for others (check-quorum)."""
        return (
            self.role is Role.LEADER and self.config.check_quorum and not self.lease_broken and self.committed_in_term()
        )

    def committed_in_term(self) -> bool:
        return self.log.matches(self.log.committed, self.term)

    def has_pending_conf(self) -> bool:
        """A leader: whether there may be a membership change in the log that is not applied yet."""
        return self.pending_conf_index > self.log.applied

    def reset(self, term: int) -> None:
        """Forgets what belonged to the former term or role."""
        if self.term != term:
            self.term = term
            self.vote = NO_ID
            self.pending_request_snapshot = 0  # a new leader may overwrite what was to be covered
        self.leader_id = NO_ID
        self.election_elapsed = self.heartbeat_elapsed = 0
        self.randomized_election_timeout = self.rng.randrange(*self.config.election_range())
        self.lead_transferee = NO_ID
        self.lease_broken = False
        self.appends_due = self.heartbeat_due = False
        self.tracker.votes.clear()
        self.pending_conf_index = 0
        self.read_only.clear()
        next_idx = self.log.last_index + 1
        for node, progress in self.tracker.progress.items():
            progress.reset(next_idx)
            if node == self.id:
                progress.matched = self.log.persisted

    def become_follower(self, term: int, leader_id: int) -> None:
        self.reset(term)
        self.leader_id = leader_id
        self.role = Role.FOLLOWER

    def become_candidate(self) -> None:
        if self.role is Role.LEADER:
            raise InvariantBroken("a leader became a candidate")
        self.reset(self.term + 1)
        self.vote = self.id
        self.role = Role.CANDIDATE

    def become_pre_candidate(self) -> None:
        """Asks for votes without a new term: term and vote stay as they are."""
        if self.role is Role.LEADER:
            raise InvariantBroken("a leader became a candidate")
        self.role = Role.PRE_CANDIDATE
        self.tracker.votes.clear()
        self.leader_id = NO_ID
        self.election_elapsed = 0
        self.randomized_election_timeout = self.rng.randrange(*self.config.election_range())

    def become_leader(self) -> None:
        """Takes the lead of the current term, beginning with an empty entry to commit older ones by (5.4.2)."""
        if self.role is Role.FOLLOWER:
            raise InvariantBroken("a follower became leader without an election")
        self.reset(self.term)
        self.leader_id = self.id
        self.role = Role.LEADER
        self.wants_snapshot = False
        self.pending_request_snapshot = 0
        last = self.log.last_index
        # Conservative: there may be a membership change in the tail that came from the former leader.
        self.pending_conf_index = last
        self.uncommitted_size, self.uncommitted_from = 0, last
        self.tracker.progress[self.id].become_replicate()
        self.append_entry(EntryType.NORMAL, b"", b"")

    def append_entry(self, kind: EntryType, data: bytes, context: bytes) -> int:
        """Appends an entry of this term to a leader's log and returns its index."""
        index = self.log.last_index + 1
        self.log.append_one(Entry(kind, self.term, index, data, context))
        self.appends_due = True
        return index

    def reserve_uncommitted(self, size: int) -> bool:
        """Counts a proposal of `size` bytes; False if it does not fit. Empty ones, and the first, always do."""
        limit = self.config.max_uncommitted_size
        if limit == NO_LIMIT:
            return True
        if size and self.uncommitted_size and self.uncommitted_size + size > limit:
            return False
        self.uncommitted_size += size
        return True

    def release_uncommitted(self, entries: list[Entry]) -> None:
        """Entries were handed out as committed. Those of former leaders were never counted."""
        if self.config.max_uncommitted_size == NO_LIMIT or self.role is not Role.LEADER:
            return
        released = sum(entry.size for entry in entries if entry.index > self.uncommitted_from)
        self.uncommitted_size = max(0, self.uncommitted_size - released)
