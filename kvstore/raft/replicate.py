"""A leader's sending: appends, snapshots, heartbeats; and the advance of its commit index.

Nothing is sent at once: a proposal, an acknowledgement or a read only notes that something is due, and `flush`, which
`ready` calls, makes one append for all of it. With `batch_append` off every note is followed by a flush.
"""

from __future__ import annotations

from kvstore.raft import reads
from kvstore.raft.errors import Compacted, InvariantBroken, SnapshotTemporarilyUnavailable
from kvstore.raft.progress import Progress
from kvstore.raft.state import Raft
from kvstore.raft.types import Message, MessageType, Role


def flush(raft: Raft) -> None:
    """Makes the messages that are due. A leader's only; the flags are never set on others."""
    if raft.appends_due:
        raft.appends_due = False
        for node, progress in raft.tracker.peers:
            catch_up(raft, node, progress)
    if raft.heartbeat_due:
        raft.heartbeat_due = False
        broadcast_heartbeat(raft)


def append_due(raft: Raft) -> None:
    """Followers have something to get: entries, or a commit index."""
    raft.appends_due = True
    if not raft.config.batch_append:
        flush(raft)


def catch_up(raft: Raft, node: int, progress: Progress) -> None:
    """Sends a follower all entries that its window allows, or the commit index if that is all there is."""
    last = raft.log.last_index
    while progress.next_idx <= last or progress.pending_request_snapshot:
        if not send_append(raft, node, progress, allow_empty=False):
            return
    committed = raft.log.committed
    tell_commit = (
        not raft.config.skip_bcast_commit
        or raft.has_pending_conf()
        or progress.sent_commit < raft.commit_to_tell <= committed
    )
    if tell_commit and progress.wants_commit(committed):
        send_append(raft, node, progress, allow_empty=True)


def send_append(raft: Raft, node: int, progress: Progress, *, allow_empty: bool) -> bool:
    """Sends one append, or a snapshot if the entries are gone; False if nothing could be sent."""
    if progress.is_paused():
        return False
    if progress.pending_request_snapshot:
        return send_snapshot(raft, node, progress)
    log = raft.log
    previous = progress.next_idx - 1
    try:
        log_term = log.term(previous)
        if progress.next_idx > log.last_index:
            entries = []
        else:
            entries = log.entries(progress.next_idx, log.last_index + 1, raft.config.max_size_per_msg)
    except Compacted:
        return send_snapshot(raft, node, progress)
    if not entries and not allow_empty:
        return False
    raft.msgs.append(Message(MessageType.APPEND, node, raft.id, raft.term, log_term, previous, entries, log.committed))
    progress.sent_commit = max(progress.sent_commit, log.committed)
    if entries:
        progress.on_sent(entries[-1].index)
    return True


def send_snapshot(raft: Raft, node: int, progress: Progress) -> bool:
    """Sends a snapshot, after which the follower is left alone until it has it; False if there is none yet."""
    if not progress.recent_active:  # a snapshot is expensive: not into the void
        return False
    try:
        snapshot = raft.log.snapshot_for(progress.pending_request_snapshot, node)
    except SnapshotTemporarilyUnavailable:
        return False
    if snapshot.index == 0:
        raise InvariantBroken("the storage gave an empty snapshot")
    raft.msgs.append(Message(MessageType.SNAPSHOT, node, raft.id, raft.term, snapshot=snapshot))
    progress.become_snapshot(snapshot.index)
    return True


def broadcast_heartbeat(raft: Raft) -> None:
    """Tells all members that the leader lives, how far they may commit, and which read waits for their answer."""
    context = raft.read_only.last_context()
    committed = raft.log.committed
    for node, progress in raft.tracker.peers:
        commit = min(progress.matched, committed)  # beyond it the follower may hold another leader's entries
        raft.msgs.append(Message(MessageType.HEARTBEAT, node, raft.id, raft.term, commit=commit, context=context))


def advance_commit(raft: Raft) -> bool:
    """Commits what a quorum has, if it is of the leader's own term; then early reads may start."""
    if not raft.log.commit_if_term(raft.tracker.committed(), raft.term):
        return False
    append_due(raft)
    if raft.read_only.early:
        reads.start_early(raft)
    return True


def on_persisted(raft: Raft) -> None:
    """The local disk has caught up: a leader counts itself."""
    if raft.role is not Role.LEADER:
        return
    own = raft.tracker.progress.get(raft.id)
    if own is not None and own.update_matched(raft.log.persisted):
        advance_commit(raft)
