"""Linearizable reads: at the leader by a quorum of heartbeats or by its lease, at a follower by asking the leader.

A read that can't be answered is dropped (no leader, leadership lost meanwhile): the caller asks again when the leader
changes or its patience ends. Contexts are unique among the reads that wait.
"""

from __future__ import annotations

from kvstore.raft.read_only import ReadRequest
from kvstore.raft.state import Raft
from kvstore.raft.types import (
    NO_ID,
    Entry,
    EntryType,
    Message,
    MessageType,
    ReadOnlyOption,
    ReadState,
    Role,
)


def request(raft: Raft, context: bytes) -> bool:
    """A read of the local node; False if there is no leader to confirm it."""
    if raft.role is Role.LEADER:
        start(raft, ReadRequest(context, raft.id))
        return True
    if raft.leader_id == NO_ID:
        return False
    # The term stays 0: a follower that is behind may ask, too.
    question = Message(MessageType.READ_INDEX, raft.leader_id, raft.id, entries=(_carrier(context),))
    raft.msgs.append(question)
    return True


def on_request(raft: Raft, message: Message) -> None:
    """A follower's read reached this node; one that does not lead drops it."""
    if raft.role is Role.LEADER and len(message.entries) == 1 and message.entries[0].data:
        start(raft, ReadRequest(message.entries[0].data, message.from_))


def start(raft: Raft, read: ReadRequest) -> None:
    """A leader: answers a read now, or after the next round of heartbeats, or once it has committed in its term.

    Until then its commit index may lie behind what the former leader has acknowledged (thesis, 6.4).
    """
    if not raft.committed_in_term():
        raft.read_only.early.append(read)
    elif raft.tracker.only_voter_is_self() or (raft.read_only.option is ReadOnlyOption.LEASE_BASED and raft.in_lease()):
        _answer(raft, read, raft.log.committed)
    else:
        raft.read_only.add(read, raft.log.committed, raft.id)
        raft.heartbeat_due = True


def start_early(raft: Raft) -> None:
    """The leader has committed in its term."""
    early, raft.read_only.early = raft.read_only.early, []
    for read in early:
        start(raft, read)


def on_heartbeat_ack(raft: Raft, context: bytes, node: int) -> None:
    """`node` has acknowledged a heartbeat: if that makes a quorum, all reads up to its context are served."""
    acks = raft.read_only.on_ack(context, node)
    if acks and raft.tracker.has_quorum(acks):
        for read, index in raft.read_only.take(context):
            _answer(raft, read, index)


def on_response(raft: Raft, message: Message) -> None:
    """The leader's answer to a read of this follower."""
    if len(message.entries) != 1:
        return
    raft.read_states.append(ReadState(message.index, message.entries[0].data))
    raft.log.commit_if_term(message.index, message.term)


def _answer(raft: Raft, read: ReadRequest, index: int) -> None:
    if read.origin == raft.id:
        raft.read_states.append(ReadState(index, read.context))
        return
    answer = Message(MessageType.READ_INDEX_RESP, read.origin, raft.id, raft.term)
    answer.index, answer.entries = index, (_carrier(read.context),)
    raft.msgs.append(answer)


def _carrier(context: bytes) -> Entry:
    return Entry(EntryType.NORMAL, 0, 0, context)
