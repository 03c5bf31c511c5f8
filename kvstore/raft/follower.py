"""The follower: appends, heartbeats and snapshots of the leader. Candidates become followers before they get here."""

from __future__ import annotations

from kvstore.raft import confchange
from kvstore.raft.errors import RequestSnapshotDropped
from kvstore.raft.state import Raft
from kvstore.raft.types import NO_ID, Message, MessageType, Role, Snapshot


def on_append(raft: Raft, message: Message) -> None:
    """Takes the leader's entries, or says where the logs may agree."""
    if raft.pending_request_snapshot:
        _ask_for_snapshot(raft)
        return
    log = raft.log
    answer = Message(MessageType.APPEND_RESPONSE, message.from_, raft.id, raft.term)
    if message.index < log.committed:  # an old message; what is committed matches
        answer.index = log.committed
    elif log.append_after(message.index, message.log_term, message.entries):
        answer.index = message.index + len(message.entries)
        log.commit_to(min(message.commit, answer.index))
    else:
        answer.index = message.index
        answer.reject = True
        answer.reject_hint, answer.log_term = log.last_at_or_below(message.index, message.log_term)
    answer.commit = log.committed
    raft.msgs.append(answer)
    if raft.wants_snapshot and log.last_term == raft.term:  # the wish has outlived the term it was made in
        raft.pending_request_snapshot = log.last_index
        _ask_for_snapshot(raft)


def on_heartbeat(raft: Raft, message: Message) -> None:
    raft.log.commit_to(message.commit)
    if raft.pending_request_snapshot:
        _ask_for_snapshot(raft)
        return
    answer = Message(MessageType.HEARTBEAT_RESPONSE, message.from_, raft.id, raft.term)
    answer.context, answer.commit = message.context, raft.log.committed
    raft.msgs.append(answer)


def on_snapshot(raft: Raft, message: Message) -> None:
    """Takes the leader's snapshot in place of the log, unless the log has it all."""
    if message.snapshot is None:
        return
    restored = _restore(raft, message.snapshot)
    answer = Message(MessageType.APPEND_RESPONSE, message.from_, raft.id, raft.term)
    answer.index = raft.log.last_index if restored else raft.log.committed
    answer.commit = raft.log.committed
    raft.msgs.append(answer)


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    log, state = raft.log, snapshot.conf_state
    # One below what was asked for may be older than entries that the leader counts as ours: it is taken as any other.
    requested = 0 < raft.pending_request_snapshot <= snapshot.index
    if snapshot.index < log.committed or (snapshot.index == log.committed and not requested):
        return False
    if raft.id not in (*state.voters, *state.learners, *state.voters_outgoing):
        return False  # not for us: whoever sent it confuses us with another
    if not requested and log.matches(snapshot.index, snapshot.term):
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot)
    raft.wants_snapshot = False
    raft.pending_request_snapshot = 0
    raft.set_configuration(confchange.restore(state))
    return True


def request_snapshot(raft: Raft) -> None:
    """Asks the leader for a snapshot of what this node has or more; until it comes, appends are refused.

    Under a new leader the request is made anew as soon as the log ends in that leader's term.
    RequestSnapshotDropped if there is nobody to ask, or one is under way.
    """
    if raft.role is Role.LEADER:
        raise RequestSnapshotDropped("the leader has nobody to ask")
    if raft.leader_id == NO_ID:
        raise RequestSnapshotDropped("no leader")
    if raft.log.snapshot is not None or raft.wants_snapshot:
        raise RequestSnapshotDropped("one is under way")
    if raft.log.last_term != raft.term:  # the leader could have no snapshot at an index that it will overwrite
        raise RequestSnapshotDropped("nothing of the leader's term has arrived yet")
    raft.wants_snapshot = True
    raft.pending_request_snapshot = raft.log.last_index
    _ask_for_snapshot(raft)


def _ask_for_snapshot(raft: Raft) -> None:
    log = raft.log
    raft.msgs.append(
        Message(
            MessageType.APPEND_RESPONSE,
            raft.leader_id,
            raft.id,
            raft.term,
            log.last_term,
            log.committed,
            commit=log.committed,
            reject=True,
            reject_hint=log.last_index,
            request_snapshot=raft.pending_request_snapshot,
        )
    )
