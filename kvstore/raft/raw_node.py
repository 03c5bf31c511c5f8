"""RawNode: the door to one Raft node. The caller owns disk, network, clock and state machine.

    node.tick() · node.step(message) · node.propose(context, data) · node.read_index(context)
    if node.has_ready():
        ready = node.ready()
        send(ready.messages)
        persist snapshot, entries and hard_state in one atomic write, synced if ready.must_sync
        send(ready.persisted_messages)
        apply(ready.snapshot, ready.committed_entries); serve ready.read_states
        light = node.advance(ready)
        send(light.messages); apply(light.committed_entries); persist light.commit_index with the next write
        node.advance_apply_to(index of the last entry applied)

Between `ready` and `advance` messages, ticks and proposals may come in; a second `ready` may not. Membership changes
among the committed entries go through `apply_conf_change` before `advance_apply_to` passes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.raft import election, follower, leader, membership, reads, replicate
from kvstore.raft import raft as core
from kvstore.raft.conf_codec import encode_conf_change
from kvstore.raft.config import Config, Rng
from kvstore.raft.errors import InvariantBroken
from kvstore.raft.progress import ProgressView
from kvstore.raft.state import Raft
from kvstore.raft.storage import Storage
from kvstore.raft.types import (
    NO_ID,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Role,
    Snapshot,
    SoftState,
)


@dataclass(frozen=True, slots=True)
class Ready:
    """What the caller has to do now. States are None where they have not changed.

    `messages` may leave at once, `persisted_messages` only after what is in this Ready is durable. `must_sync` is False
    when only the commit index changed: then the write may be lost.
    """

    number: int
    soft_state: SoftState | None
    hard_state: HardState | None
    entries: Sequence[Entry]
    snapshot: Snapshot | None
    read_states: Sequence[ReadState]
    messages: Sequence[Message]
    persisted_messages: Sequence[Message]
    committed_entries: Sequence[Entry]
    must_sync: bool


@dataclass(frozen=True, slots=True)
class LightReady:
    """What came of persisting: nothing in it needs a sync. `commit_index` may be persisted with the next write."""

    commit_index: int | None
    committed_entries: Sequence[Entry]
    messages: Sequence[Message]


class RawNode:
    """One node of one group. Not safe for threads; every method returns without waiting."""

    __slots__ = (
        "_number",
        "_outstanding",
        "_prev_commit",
        "_prev_leader",
        "_prev_role",
        "_prev_term",
        "_prev_vote",
        "_raft",
        "_since",
    )

    def __init__(self, config: Config, storage: Storage, rng: Rng) -> None:
        raft = self._raft = Raft(config, storage, rng)
        self._number = 0
        self._outstanding: Ready | None = None
        self._prev_leader, self._prev_role = raft.leader_id, raft.role
        self._prev_term, self._prev_vote, self._prev_commit = raft.term, raft.vote, raft.log.committed
        self._since = raft.log.applied  # the last committed entry that was handed out

    # what comes in

    def tick(self) -> bool:
        """One tick of the caller's clock; True if `has_ready` may have become true."""
        return core.tick(self._raft)

    def step(self, message: Message) -> None:
        """A message from another node. Late and foreign ones are ignored; StepLocalMessage, InvariantBroken."""
        core.step(self._raft, message)

    def propose(self, context: bytes, data: bytes) -> int:
        """Appends an entry to the leader's log, and returns the index it will have if it is committed.

        ProposalDropped. Whether it is committed is known when that index is applied: with the term it was proposed in.
        """
        return leader.propose(self._raft, EntryType.NORMAL, data, context)

    def propose_conf_change(self, context: bytes, change: ConfChangeV2) -> int:
        """Proposes a membership change; one that is not allowed now becomes an empty entry. ProposalDropped."""
        return leader.propose(self._raft, EntryType.CONF_CHANGE_V2, encode_conf_change(change), context)

    def tell_commit(self, index: int) -> None:
        """Has followers told as soon as the entry is committed, also with `skip_bcast_commit`."""
        self._raft.commit_to_tell = max(self._raft.commit_to_tell, index)

    def apply_conf_change(self, change: ConfChangeV2) -> ConfState:
        """Puts a committed membership change into force; the result belongs in the next snapshots. ConfChangeError."""
        return membership.apply_conf_change(self._raft, change)

    def read_index(self, context: bytes) -> bool:
        """Asks at which index a read may be served; the answer is a ReadState with this context, or never comes.

        False if there is no leader to ask. Contexts must be unique in the group while they wait, and not empty
        (ValueError).
        """
        if not context:
            raise ValueError("a read needs a context")
        return reads.request(self._raft, context)

    def transfer_leader(self, node: int) -> None:
        """Hands the lead to `node`, or asks the leader to."""
        raft = self._raft
        if raft.role is Role.LEADER:
            leader.transfer(raft, node)
        elif raft.leader_id != NO_ID:
            raft.msgs.append(Message(MessageType.TRANSFER_LEADER, raft.leader_id, node, raft.term))

    def campaign(self) -> bool:
        """Starts an election now; False if this node leads or may not campaign."""
        return election.campaign(self._raft)

    def ping(self) -> None:
        """A leader: sends heartbeats now."""
        if self._raft.role is Role.LEADER:
            self._raft.heartbeat_due = True

    def report_unreachable(self, node: int) -> None:
        """The last message to `node` was not delivered."""
        leader.report_unreachable(self._raft, node)

    def report_snapshot(self, node: int, ok: bool) -> None:
        """The snapshot to `node` was delivered, or failed."""
        leader.report_snapshot(self._raft, node, ok)

    def request_snapshot(self) -> None:
        """A follower asks for a snapshot, to repair itself; RequestSnapshotDropped."""
        follower.request_snapshot(self._raft)

    # what goes out

    def has_ready(self) -> bool:
        """Whether `ready` has something to say; False while one is outstanding."""
        raft = self._raft
        if self._outstanding is not None:
            return False
        log = raft.log
        return bool(
            raft.msgs
            or log.tail
            or raft.appends_due
            or raft.heartbeat_due
            or log.committed != self._prev_commit
            or raft.term != self._prev_term
            or raft.read_states
            or log.snapshot is not None
            or raft.vote != self._prev_vote
            or raft.role is not self._prev_role
            or raft.leader_id != self._prev_leader
            or min(log.committed, log.persisted) > self._since
        )

    def ready(self) -> Ready:
        """Everything that is to be persisted, sent and applied; InvariantBroken if the last one was not advanced."""
        if self._outstanding is not None:
            raise InvariantBroken(f"ready {self._outstanding.number} was not advanced")
        raft, log = self._raft, self._raft.log
        snapshot = log.snapshot
        if snapshot is not None:
            self._since = snapshot.index
        voted = raft.term != self._prev_term or raft.vote != self._prev_vote
        soft_state, hard_state = self._take_states()
        messages, persisted_messages = self._take_messages(), ()
        if raft.role is not Role.LEADER or voted:
            messages, persisted_messages = persisted_messages, messages
        read_states, raft.read_states = raft.read_states, []
        self._number += 1
        self._outstanding = Ready(
            self._number,
            soft_state,
            hard_state,
            log.tail[:],
            snapshot,
            read_states,
            messages,
            persisted_messages,
            self._take_committed(),
            bool(log.tail) or snapshot is not None or voted,
        )
        return self._outstanding

    def advance(self, ready: Ready) -> LightReady:
        """Everything in `ready` is durable: counts it, and hands out what that allows."""
        if self._outstanding is not ready:
            raise InvariantBroken(f"ready {ready.number} is not the one that is outstanding")
        self._outstanding = None
        raft, log = self._raft, self._raft.log
        if ready.snapshot is not None:
            log.on_snapshot_persisted(ready.snapshot.index)
        if ready.entries:
            log.on_entries_persisted(ready.entries[-1].index, ready.entries[-1].term)
        if ready.snapshot is not None or ready.entries:
            replicate.on_persisted(raft)
        commit_index = min(log.committed, log.persisted)
        if commit_index > self._prev_commit:
            self._prev_commit = commit_index
        else:
            commit_index = 0
        # Only a leader whose term and vote are durable may speak before the next write.
        leads = raft.role is Role.LEADER and raft.term == self._prev_term and raft.vote == self._prev_vote
        return LightReady(commit_index or None, self._take_committed(), self._take_messages() if leads else ())

    def advance_apply_to(self, index: int) -> None:
        """The state machine has applied everything up to `index`; InvariantBroken if that was not committed."""
        membership.apply_to(self._raft, index)

    def _take_messages(self) -> Sequence[Message]:
        raft = self._raft
        if raft.appends_due or raft.heartbeat_due:
            replicate.flush(raft)
        messages, raft.msgs = raft.msgs, []
        return messages

    def _take_committed(self) -> list[Entry]:
        raft = self._raft
        log = raft.log
        if min(log.committed, log.persisted) <= self._since:
            return []
        entries = log.next_committed(self._since, raft.config.max_committed_size_per_ready)
        if entries:
            self._since = entries[-1].index
            raft.release_uncommitted(entries)
        return entries

    def _take_states(self) -> tuple[SoftState | None, HardState | None]:
        raft = self._raft
        soft_state = hard_state = None
        if raft.role is not self._prev_role or raft.leader_id != self._prev_leader:
            self._prev_role, self._prev_leader = raft.role, raft.leader_id
            soft_state = raft.soft_state()
        commit = raft.log.committed
        if commit != self._prev_commit or raft.term != self._prev_term or raft.vote != self._prev_vote:
            self._prev_term, self._prev_vote, self._prev_commit = raft.term, raft.vote, commit
            hard_state = raft.hard_state()
        return soft_state, hard_state

    # what it knows

    @property
    def id(self) -> int:
        return self._raft.id

    @property
    def term(self) -> int:
        return self._raft.term

    @property
    def vote(self) -> int:
        return self._raft.vote

    @property
    def role(self) -> Role:
        return self._raft.role

    @property
    def leader_id(self) -> int:
        """Who leads this term as far as is known, NO_ID if nobody."""
        return self._raft.leader_id

    @property
    def commit(self) -> int:
        return self._raft.log.committed

    @property
    def applied(self) -> int:
        return self._raft.log.applied

    @property
    def last_index(self) -> int:
        return self._raft.log.last_index

    @property
    def last_term(self) -> int:
        return self._raft.log.last_term

    @property
    def persisted(self) -> int:
        return self._raft.log.persisted

    @property
    def lead_transferee(self) -> int:
        """Whom the lead is being handed to, NO_ID if nobody."""
        return self._raft.lead_transferee

    @property
    def has_pending_conf(self) -> bool:
        """A leader: whether a membership change may be under way."""
        return self._raft.has_pending_conf()

    def members(self) -> tuple[int, ...]:
        """All voters and learners, ascending."""
        return tuple(sorted(self._raft.tracker.progress))

    def progress(self, node: int) -> ProgressView | None:
        """A copy of what the leader knows of `node`; None if it is no member."""
        progress = self._raft.tracker.progress.get(node)
        return None if progress is None else progress.view()

    def in_lease(self) -> bool:
        """Whether this leader's check-quorum lease allows reads without a round of heartbeats; see docs/raft.md."""
        return self._raft.in_lease()

    def promotable(self) -> bool:
        """Whether this node may campaign."""
        return self._raft.can_campaign()

    def conf_state(self) -> ConfState:
        return self._raft.conf_state()
