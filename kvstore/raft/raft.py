"""Where messages and ticks enter: terms first (paper, 5.1), then the role's own handling."""

from __future__ import annotations

from kvstore.raft import election, follower, leader, reads
from kvstore.raft.errors import StepLocalMessage
from kvstore.raft.state import Raft
from kvstore.raft.types import NO_ID, Message, MessageType, Role

_FROM_LEADER = (MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT)
_VOTE_REQUESTS = (MessageType.REQUEST_VOTE, MessageType.REQUEST_PRE_VOTE)
_VOTE_RESPONSES = (MessageType.REQUEST_VOTE_RESPONSE, MessageType.REQUEST_PRE_VOTE_RESPONSE)
_LOCAL = (
    MessageType.HUP,
    MessageType.BEAT,
    MessageType.PROPOSE,
    MessageType.UNREACHABLE,
    MessageType.SNAP_STATUS,
    MessageType.CHECK_QUORUM,
)


def tick(raft: Raft) -> bool:
    """One tick; True if something may have come of it."""
    if raft.role is Role.LEADER:
        return leader.tick(raft)
    raft.election_elapsed += 1
    if raft.election_elapsed < raft.randomized_election_timeout or not raft.can_campaign():
        return False
    raft.election_elapsed = 0
    return election.campaign(raft)


def step(raft: Raft, message: Message) -> None:
    """Handles a message from another node; StepLocalMessage if it is of a type that never travels."""
    kind = message.type
    if kind in _LOCAL:
        raise StepLocalMessage(f"{kind!r} from {message.from_}")
    if message.term > raft.term:
        if not _take_term(raft, message):
            return
    elif message.term < raft.term and message.term:
        _answer_old_term(raft, message)
        return
    if kind in _VOTE_REQUESTS:
        election.on_vote_request(raft, message)
    elif kind in _FROM_LEADER:
        _step_from_leader(raft, message)
    elif raft.role is Role.LEADER:
        _step_leader(raft, message)
    elif kind in _VOTE_RESPONSES:
        if raft.role is not Role.FOLLOWER and message.from_ in raft.tracker.progress:
            election.on_vote_response(raft, message)
    elif kind == MessageType.READ_INDEX_RESP:
        if raft.role is Role.FOLLOWER:
            reads.on_response(raft, message)
    elif kind == MessageType.TIMEOUT_NOW:
        election.on_timeout_now(raft)


def _take_term(raft: Raft, message: Message) -> bool:
    """A higher term: makes this node a follower of it, but for pre-votes; False if the message is to be ignored."""
    kind = message.type
    if kind in _VOTE_REQUESTS and message.context != election.FORCED and raft.within_lease():
        return False  # a leader was heard of a moment ago: the sender was cut off, or removed
    if kind == MessageType.REQUEST_PRE_VOTE:
        return True
    if kind == MessageType.REQUEST_PRE_VOTE_RESPONSE and not message.reject:
        return True  # granted for the term we'd take
    raft.become_follower(message.term, message.from_ if kind in _FROM_LEADER else NO_ID)
    return True


def _answer_old_term(raft: Raft, message: Message) -> None:
    """A lower term: lets its sender know ours where it would otherwise go on.

    A node that was cut off with a higher term ignores the leader, and with pre-vote or check-quorum can't depose it:
    this answer does. A pre-candidate with an old term would ask for ever.
    """
    kind = message.type
    if kind in (MessageType.HEARTBEAT, MessageType.APPEND):
        if raft.config.check_quorum or raft.config.pre_vote:
            raft.msgs.append(Message(MessageType.APPEND_RESPONSE, message.from_, raft.id, raft.term))
    elif kind == MessageType.REQUEST_PRE_VOTE:
        answer = Message(MessageType.REQUEST_PRE_VOTE_RESPONSE, message.from_, raft.id, raft.term, reject=True)
        raft.msgs.append(answer)


def _step_from_leader(raft: Raft, message: Message) -> None:
    if raft.role is Role.LEADER:
        return  # of our own term: there is no second leader, this is ours come back
    if raft.role is Role.FOLLOWER:
        raft.election_elapsed = 0
        raft.leader_id = message.from_
    else:
        raft.become_follower(message.term, message.from_)
    if message.type == MessageType.APPEND:
        follower.on_append(raft, message)
    elif message.type == MessageType.HEARTBEAT:
        follower.on_heartbeat(raft, message)
    else:
        follower.on_snapshot(raft, message)


def _step_leader(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind == MessageType.APPEND_RESPONSE:
        leader.on_append_response(raft, message)
    elif kind == MessageType.HEARTBEAT_RESPONSE:
        leader.on_heartbeat_response(raft, message)
    elif kind == MessageType.READ_INDEX:
        reads.on_request(raft, message)
    elif kind == MessageType.TRANSFER_LEADER:
        leader.transfer(raft, message.from_)
