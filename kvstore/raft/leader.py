"""The leader: proposals, the answers of its followers, and handing over."""

from __future__ import annotations

from kvstore.raft import membership, reads, replicate
from kvstore.raft.errors import ProposalDropped
from kvstore.raft.progress import Progress, ProgressState
from kvstore.raft.state import Raft
from kvstore.raft.types import NO_ID, EntryType, Message, MessageType, Role


def propose(raft: Raft, kind: EntryType, data: bytes, context: bytes) -> int:
    """Appends an entry and returns its index; ProposalDropped.

    A membership change that may not be made now leaves an empty entry in its place, so that the index stays the
    proposer's.
    """
    if raft.role is not Role.LEADER:
        raise ProposalDropped("not the leader")
    if raft.id not in raft.tracker.progress:
        raise ProposalDropped("the leader was removed from the group")
    if raft.lead_transferee != NO_ID:
        raise ProposalDropped(f"leadership is being transferred to {raft.lead_transferee}")
    if kind is not EntryType.NORMAL:
        if membership.refusal(raft, kind, data):
            kind, data, context = EntryType.NORMAL, b"", b""
        else:
            raft.pending_conf_index = raft.log.last_index + 1
    if not raft.reserve_uncommitted(len(data) + len(context)):
        raise ProposalDropped(f"{raft.uncommitted_size} bytes are not committed yet")
    index = raft.append_entry(kind, data, context)
    if not raft.config.batch_append:
        replicate.flush(raft)
    return index


def on_append_response(raft: Raft, message: Message) -> None:
    """A follower has taken an append or refused it."""
    progress = raft.tracker.progress.get(message.from_)
    if progress is None:
        return
    progress.recent_active = True
    if message.reject:
        _on_rejected(raft, message, progress)
        return
    if not progress.update_matched(message.index) and not _is_news(progress, message.index):
        return
    if progress.state is ProgressState.REPLICATE:
        progress.free_inflight(message.index)
    elif progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.matched + 1 >= raft.log.first_index():  # the snapshot, this one or an older one, has arrived
        progress.pending_request_snapshot = 0
        progress.become_replicate()
    log = raft.log
    if not replicate.advance_commit(raft) and (
        progress.next_idx <= log.last_index or progress.wants_commit(log.committed)
    ):
        replicate.append_due(raft)
    if message.from_ == raft.lead_transferee and progress.matched == log.last_index:
        _send_timeout_now(raft)


def _is_news(progress: Progress, index: int) -> bool:
    """Whether an acknowledgement of what was known to match says that the follower can go on from there."""
    if progress.state is ProgressState.SNAPSHOT:  # it had asked for the snapshot
        return index >= progress.pending_snapshot
    # Without the 0 a node that refuses a snapshot would get it again at once, for ever.
    return progress.state is ProgressState.PROBE and progress.matched == index != 0


def _on_rejected(raft: Raft, message: Message, progress: Progress) -> None:
    if message.request_snapshot:
        _on_snapshot_request(raft, message, progress)
        return
    hint = message.reject_hint
    if message.log_term:
        hint, _ = raft.log.last_at_or_below(hint, message.log_term)
    if progress.on_rejected(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        replicate.send_append(raft, message.from_, progress, allow_empty=True)


def _on_snapshot_request(raft: Raft, message: Message, progress: Progress) -> None:
    """A follower wants a snapshot of all that it has, and takes nothing else until it gets one.

    What it has counts: without its acknowledgement that may never be committed, and there would be no such snapshot.
    """
    if progress.state is ProgressState.SNAPSHOT:
        return
    if raft.log.matches(message.reject_hint, message.log_term) and progress.update_matched(message.reject_hint):
        replicate.advance_commit(raft)
    progress.become_probe()
    progress.pending_request_snapshot = message.request_snapshot
    replicate.send_append(raft, message.from_, progress, allow_empty=False)


def on_heartbeat_response(raft: Raft, message: Message) -> None:
    """A follower lives: probe it anew if it lags, and count it for the read that the heartbeat carried."""
    progress = raft.tracker.progress.get(message.from_)
    if progress is None:
        return
    progress.recent_active = True
    progress.paused = False
    if progress.state is ProgressState.REPLICATE and progress.is_paused():
        progress.inflight.popleft()  # its answer may be lost: without this a full window would stay full
    behind = progress.matched < raft.log.last_index or progress.state is ProgressState.PROBE
    if behind or progress.pending_request_snapshot:
        replicate.send_append(raft, message.from_, progress, allow_empty=True)
    if message.context:
        reads.on_heartbeat_ack(raft, message.context, message.from_)


def report_snapshot(raft: Raft, node: int, ok: bool) -> None:
    """The snapshot to `node` was delivered or failed: probe, but not before it has answered or a heartbeat passed."""
    progress = raft.tracker.progress.get(node)
    if raft.role is not Role.LEADER or progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if not ok:
        progress.pending_snapshot = 0
    progress.become_probe()
    progress.paused = True
    progress.pending_request_snapshot = 0


def report_unreachable(raft: Raft, node: int) -> None:
    """A message to `node` was not delivered: what was streamed ahead is likely lost."""
    progress = raft.tracker.progress.get(node)
    if raft.role is Role.LEADER and progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def transfer(raft: Raft, transferee: int) -> None:
    """Hands the lead to a voter: proposals stop, it gets what it lacks, then it is told to campaign.

    A transfer that takes longer than an election timeout is given up. Naming the leader itself ends one.
    """
    progress = raft.tracker.progress.get(transferee)
    if progress is None or not raft.tracker.is_voter(transferee) or raft.lead_transferee == transferee:
        return
    raft.lead_transferee = NO_ID
    if transferee == raft.id:
        return
    raft.election_elapsed = 0
    raft.lead_transferee = transferee
    if progress.matched == raft.log.last_index:
        _send_timeout_now(raft)
    else:
        replicate.append_due(raft)


def _send_timeout_now(raft: Raft) -> None:
    # The target may campaign as late as the message arrives, whatever becomes of the transfer: no lease any more.
    raft.lease_broken = True
    raft.msgs.append(Message(MessageType.TIMEOUT_NOW, raft.lead_transferee, raft.id, raft.term))


def tick(raft: Raft) -> bool:
    """One tick of a leader: heartbeats, and once an election timeout the check that a quorum still answers."""
    raft.heartbeat_elapsed += 1
    raft.election_elapsed += 1
    acted = False
    if raft.election_elapsed >= raft.config.election_tick:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            acted = True
            if not raft.tracker.take_recently_active():
                raft.become_follower(raft.term, NO_ID)
                return True
        raft.lead_transferee = NO_ID
    if raft.heartbeat_elapsed >= raft.config.heartbeat_tick:
        raft.heartbeat_elapsed = 0
        replicate.broadcast_heartbeat(raft)
        raft.heartbeat_due = False
        acted = True
    return acted
