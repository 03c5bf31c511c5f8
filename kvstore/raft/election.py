"""Elections: pre-vote, vote, and what becomes of the answers.

A pre-vote asks who *would* vote, at the next term but without taking it, so that a node that was cut off does not
disturb the others when it comes back (thesis, 9.6). A vote is one a term and durable before it leaves.
"""

from __future__ import annotations

from kvstore.raft import replicate
from kvstore.raft.quorum import VoteResult
from kvstore.raft.state import Raft
from kvstore.raft.types import NO_ID, EntryType, Message, MessageType, Role

FORCED = b"CampaignTransfer"  # context of a vote request that the leader itself has asked for; raft-rs's word


def campaign(raft: Raft, *, transfer: bool = False) -> bool:
    """Starts an election unless this node leads, may not, or has a committed membership change still to apply.

    A node that campaigned with an outdated configuration could win with a majority that no longer is one.
    """
    if raft.role is Role.LEADER or not raft.can_campaign():
        return False
    if has_conf_change(raft, raft.log.applied + 1, raft.log.committed):
        return False
    if raft.config.pre_vote and not transfer:
        raft.become_pre_candidate()
    else:
        raft.become_candidate()
    _ask(raft, transfer)
    return True


def _ask(raft: Raft, transfer: bool) -> None:
    pre = raft.role is Role.PRE_CANDIDATE
    if _count(raft, raft.id, True):
        return
    log = raft.log
    for node in raft.tracker.voter_ids:
        if node == raft.id:
            continue
        request = Message(
            MessageType.REQUEST_PRE_VOTE if pre else MessageType.REQUEST_VOTE,
            node,
            raft.id,
            raft.term + 1 if pre else raft.term,
            log.last_term,
            log.last_index,
            commit=log.committed,
            commit_term=log.term(log.committed),
            priority=raft.config.priority,
        )
        if transfer:
            request.context = FORCED
        raft.msgs.append(request)


def _count(raft: Raft, node: int, granted: bool) -> bool:
    """Notes a vote, the first of each node counts; True if the election is decided."""
    raft.tracker.votes.setdefault(node, granted)
    result = raft.tracker.tally()
    if result is VoteResult.PENDING:
        return False
    if result is VoteResult.LOST:
        raft.become_follower(raft.term, NO_ID)
    elif raft.role is Role.PRE_CANDIDATE:
        raft.become_candidate()
        _ask(raft, False)
    else:
        raft.become_leader()
        replicate.append_due(raft)
    return True


def on_vote_request(raft: Raft, message: Message) -> None:
    """Grants a vote to a candidate whose log is at least as good, once a term; pre-votes bind nobody."""
    pre = message.type == MessageType.REQUEST_PRE_VOTE
    free = (
        raft.vote == message.from_
        or (raft.vote == NO_ID and raft.leader_id == NO_ID)
        or (pre and message.term > raft.term)
    )
    log = raft.log
    preferred = message.index > log.last_index or raft.config.priority <= message.priority
    granted = free and preferred and log.is_up_to_date(message.index, message.log_term)
    answer = Message(
        MessageType.REQUEST_PRE_VOTE_RESPONSE if pre else MessageType.REQUEST_VOTE_RESPONSE,
        message.from_,
        raft.id,
        message.term if granted else raft.term,
        reject=not granted,
    )
    raft.msgs.append(answer)
    if not granted:
        answer.commit, answer.commit_term = log.committed, log.term(log.committed)
        commit_by_vote(raft, message)
    elif not pre:
        raft.election_elapsed = 0
        raft.vote = message.from_


def on_vote_response(raft: Raft, message: Message) -> None:
    """A candidate: counts an answer to the kind of vote it is asking for."""
    wanted = (
        MessageType.REQUEST_PRE_VOTE_RESPONSE if raft.role is Role.PRE_CANDIDATE else MessageType.REQUEST_VOTE_RESPONSE
    )
    if message.type == wanted:
        _count(raft, message.from_, not message.reject)
        commit_by_vote(raft, message)


def commit_by_vote(raft: Raft, message: Message) -> None:
    """Vote messages say what their sender knows as committed: with the same entry here, so it is here.

    If a membership change was among it, a running election counts by the wrong configuration and ends.
    """
    before = raft.log.committed
    if not message.commit_term or raft.role is Role.LEADER:
        return
    if not raft.log.commit_if_term(message.commit, message.commit_term):
        return
    if raft.role is not Role.FOLLOWER and has_conf_change(raft, before + 1, raft.log.committed):
        raft.become_follower(raft.term, NO_ID)


def on_timeout_now(raft: Raft) -> None:
    """The leader hands over: campaign at once, and in spite of the others' lease."""
    if raft.role is Role.FOLLOWER:
        campaign(raft, transfer=True)


def has_conf_change(raft: Raft, first: int, last: int) -> bool:
    """Whether the entries first … last hold a membership change."""
    while first <= last:
        entries = raft.log.entries(first, last + 1, raft.config.max_committed_size_per_ready)
        if any(entry.type != EntryType.NORMAL for entry in entries):
            return True
        first += len(entries)
    return False
