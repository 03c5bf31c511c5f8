"""Membership changes: what may be proposed, and what happens when one is applied.

One change at a time: `pending_conf_index` is the last entry that may hold one, and until it is applied a further
proposal is refused. A configuration is in force on a node from the moment the node applies it.
"""

from __future__ import annotations

from kvstore.raft import confchange, reads, replicate
from kvstore.raft.conf_codec import decode_conf_change
from kvstore.raft.state import Raft
from kvstore.raft.types import NO_ID, ConfChangeV2, ConfState, Entry, EntryType, Role


def refusal(raft: Raft, kind: EntryType, data: bytes) -> str:
    """Why a leader may not append this change now, or nothing. ConfChangeError if the bytes are damaged."""
    change = decode_conf_change(Entry(kind, 0, 0, data))
    joint = raft.tracker.conf.joint
    if raft.has_pending_conf():
        return "another one may not be applied yet"
    if joint and not change.leave_joint():
        return "a joint configuration has to be left first"
    if not joint and change.leave_joint():
        return "no joint configuration to leave"
    return ""


def apply_conf_change(raft: Raft, change: ConfChangeV2) -> ConfState:
    """Puts a committed change into force; ConfChangeError, and nothing changed, if it does not fit."""
    conf = raft.tracker.conf
    auto_leave = change.enter_joint()
    if change.leave_joint():
        conf = confchange.leave_joint(conf)
    elif auto_leave is not None:
        conf = confchange.enter_joint(conf, auto_leave, change.changes)
    else:
        conf = confchange.simple(conf, change.changes)
    raft.set_configuration(conf)
    if raft.role is Role.LEADER:
        _lead_on(raft)
    return raft.conf_state()


def _lead_on(raft: Raft) -> None:
    """What a leader has to see to under a new configuration."""
    if not raft.promotable:
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NO_ID)
        return
    # Fewer voters may need fewer acknowledgements, and new members are probed without waiting for a proposal.
    replicate.advance_commit(raft)
    replicate.append_due(raft)
    if len(raft.read_only):
        reads.on_heartbeat_ack(raft, raft.read_only.last_context(), raft.id)
    if raft.lead_transferee != NO_ID and not raft.tracker.is_voter(raft.lead_transferee):
        raft.lead_transferee = NO_ID


def apply_to(raft: Raft, index: int) -> None:
    """The state machine has applied up to `index`; a leader leaves a joint configuration that is left automatically."""
    before = raft.log.applied
    raft.log.apply_to(index)
    if raft.role is not Role.LEADER or not raft.tracker.conf.auto_leave:
        return
    if before <= raft.pending_conf_index <= index:
        raft.pending_conf_index = raft.append_entry(EntryType.CONF_CHANGE_V2, b"", b"")
        replicate.append_due(raft)
