"""Merging a region (the source) into its neighbour (the target), in TiKV's three commands.

    PrepareMerge   in the source's log: no more writes; its epoch moves, its state is Merging
    CommitMerge    in the target's log: carries the source's entries that some peer may lack; each target peer applies
                   them to its store's source peer, buries it and takes over the range
    RollbackMerge  in the source's log, if the target has changed and CommitMerge cannot be any more

Whether CommitMerge may still come is decided by the target's epoch: it is bound to the one that PrepareMerge names. A
store whose target peer is past that epoch while the source peer is still there knows for certain that it never will.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.failpoint import fail_point
from kvstore.proto import raft_serverpb_pb2 as serverpb
from kvstore.proto.metapb_pb2 import Region
from kvstore.proto.raft_cmdpb_pb2 import (
    AdminCmdType,
    AdminRequest,
    CommitMergeRequest,
    PrepareMergeRequest,
    RaftCmdRequest,
    RollbackMergeRequest,
)
from kvstore.raft.progress import ProgressState
from kvstore.raft.types import Entry, EntryType, Role
from kvstore.raft_wire import entry_from_pb, entry_to_pb
from kvstore.raftstore import checks
from kvstore.raftstore.admin import (
    is_joint,
    merge_regions,
    prepared_for_merge,
    rolled_back,
    same_stores,
)
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.apply import Applying, apply_entries
from kvstore.raftstore.config import MERGE_GAP_BYTES_MAX
from kvstore.raftstore.peer import Outcome, Peer

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore


def prepare_request(store: RaftStore, source: Peer, target: Region) -> AdminRequest:
    """What the source's leader proposes to begin a merge; RegionError if it may not begin now."""
    local = store.peers.get(target.id)
    if local is None or local.region.region_epoch != target.region_epoch:
        raise checks.refused(f"target {target.id} of the merge is not here at that epoch")
    if source.merge is not None or local.merge is not None:
        raise checks.proposal_in_merging_mode(source.region_id)
    if is_joint(source.region) or is_joint(local.region) or source.raft.has_pending_conf:
        raise checks.refused("a membership change is under way")
    if not same_stores(source.region, local.region):
        raise checks.refused(f"regions {source.region_id} and {target.id} are not on the same stores")
    merge_regions(local.region, source.region)  # adjacent?
    low = _least_matched(source) + 1
    if low <= source.storage.truncated_index or low <= source.last_compacted:
        raise checks.refused("a peer lacks entries that are cut off")
    _check_gap(source, low)
    admin = AdminRequest(cmd_type=AdminCmdType.PrepareMerge)
    admin.prepare_merge.min_index = low
    admin.prepare_merge.target.CopyFrom(local.region)
    return admin


def _least_matched(source: Peer) -> int:
    matched = source.raft.last_index
    for member in source.raft.members():
        if member == source.peer.id:
            continue
        progress = source.raft.progress(member)
        if progress is None or progress.state is ProgressState.SNAPSHOT or progress.matched == 0:
            raise checks.refused(f"peer {member} is not known to be there")
        matched = min(matched, progress.matched)
    return matched


def _check_gap(source: Peer, low: int) -> None:
    """Entries that a peer may lack are applied by the target's log: they must be few, and plain."""
    high = source.storage.last + 1
    size = 0
    for entry in source.storage.entries(low, high, None) if low < high else []:
        size += entry.size
        if entry.type is not EntryType.NORMAL:
            raise checks.refused("a peer lacks a membership change")
        if entry.data and RaftCmdRequest.FromString(entry.data).HasField("admin_request"):
            raise checks.refused("a peer lacks an admin command")
    if size > MERGE_GAP_BYTES_MAX:
        raise checks.refused(f"a peer lacks {size} bytes of log")


def apply_prepare(applying: Applying, peer: Peer, request: PrepareMergeRequest, entry: Entry) -> Outcome:
    """The source stops: whoever applies this serves nothing of the region any more."""
    fail_point("raftstore::apply_prepare_merge")
    storage = peer.storage
    region = prepared_for_merge(peer.region)
    storage.region = region
    storage.state = serverpb.PeerState.Merging
    storage.merge = serverpb.MergeState(min_index=request.min_index, target=request.target, commit=entry.index)
    storage.save_region(applying.batch)
    store = applying.store

    def announce() -> None:
        store.tree.put(region)
        store.merging[peer.region_id] = peer
        peer.fail_reads(checks.proposal_in_merging_mode(peer.region_id), replica_too=True)
        store.on_region_changed(peer)

    applying.after(announce)
    return [region]


def apply_commit(applying: Applying, target: Peer, request: CommitMergeRequest) -> Outcome:
    """The target takes over the source, which is brought up to its PrepareMerge first."""
    store = applying.store
    fail_point("raftstore::apply_commit_merge")
    source = store.peers.get(request.source.id)
    assert source is not None, f"region {target.region_id} merges {request.source.id}, which is not here"
    assert source.storage.initialized, f"region {request.source.id} is merged without data"
    if source.applying is not None:
        applying.flush()
        while source.applying is not None:
            store.snapshots.apply_piece(source)
        apply_entries(applying, source, source.held)
        source.held = []
    if source.storage.applied < request.commit:
        _catch_up(applying, source, request)
    region = merge_regions(target.region, source.region)
    assert source.region == request.source, (source.region, request.source)
    target.storage.region = region
    target.storage.save_region(applying.batch)
    store.bury(applying.batch, source)

    def announce() -> None:
        store.tree.put(region)
        target.flow.measured = target.flow.measured and source.flow.measured
        target.flow.size += source.flow.size
        target.flow.keys += source.flow.keys
        target.flow.since_check = store.config.split_check_bytes
        store.on_region_changed(target)

    applying.after(announce)
    return [region]


def _catch_up(applying: Applying, source: Peer, request: CommitMergeRequest) -> None:
    """Applies what the source peer lacks: committed entries from its own log, and from the target's command."""
    carried = [entry_from_pb(entry) for entry in request.entries]
    first_carried = carried[0].index if carried else request.commit + 1
    storage = source.storage
    own = storage.applied + 1
    if own < first_carried:
        apply_entries(applying, source, storage.entries(own, first_carried, None))
    apply_entries(applying, source, carried)
    assert storage.applied == request.commit, (source.region_id, storage.applied, request.commit)


def apply_rollback(applying: Applying, peer: Peer, request: RollbackMergeRequest) -> Outcome:
    """The source goes on as before, at a new version."""
    storage = peer.storage
    fail_point("raftstore::apply_rollback_merge")
    if storage.merge is None or storage.merge.commit != request.commit:
        raise checks.refused(f"region {peer.region_id} does not merge")
    region = rolled_back(peer.region)
    storage.region, storage.merge, storage.state = region, None, serverpb.PeerState.Normal
    storage.save_region(applying.batch)
    store = applying.store

    def announce() -> None:
        store.tree.put(region)
        store.merging.pop(peer.region_id, None)
        store.on_region_changed(peer)

    applying.after(announce)
    return [region]


def check_merge(store: RaftStore, source: Peer) -> None:
    """Drives a prepared merge on: proposes CommitMerge where the target is led, or the rollback, or asks for it."""
    merge = source.merge
    if merge is None or source.destroyed or source.applying is not None:
        return
    wanted = merge.target.region_epoch
    target = store.peers.get(merge.target.id)
    if target is None:
        grave = store.grave_of(merge.target.id)
        if grave is not None and checks.epoch_is_stale(wanted, grave.region_epoch):
            _want_rollback(store, source)
        return
    if not target.storage.initialized or target.applying is not None:
        return
    now = target.region.region_epoch
    if checks.epoch_is_stale(wanted, now):
        _want_rollback(store, source)
    elif wanted == now and target.raft.role is Role.LEADER and target.merge is None:
        _propose_commit(store, source, target)


def _want_rollback(store: RaftStore, source: Peer) -> None:
    merge = source.merge
    assert merge is not None
    if source.raft.role is Role.LEADER:
        propose_rollback(store, source, merge.commit)
    else:
        leader = source.leader()
        if leader is not None:
            message = store.message_to(source, leader)
            message.extra_msg.type = serverpb.ExtraMessageType.MsgWantRollbackMerge
            message.extra_msg.index = merge.commit
            store.transport.send(message)


def propose_rollback(store: RaftStore, source: Peer, commit: int) -> None:
    """A store has seen that the merge prepared at `commit` can't be: the source's leader takes it back."""
    merge = source.merge
    if merge is None or merge.commit != commit or source.raft.role is not Role.LEADER:
        return
    if any(proposal.index > commit for proposal in source.proposals):
        return
    admin = AdminRequest(cmd_type=AdminCmdType.RollbackMerge)
    admin.rollback_merge.commit = commit
    _propose(store, source, admin)


def _propose_commit(store: RaftStore, source: Peer, target: Peer) -> None:
    merge = source.merge
    assert merge is not None
    key = (source.region_id, merge.commit, target.raft.term)
    if target.merge_proposed == key and any(p.index == target.merge_index for p in target.proposals):
        return
    admin = AdminRequest(cmd_type=AdminCmdType.CommitMerge)
    commit = admin.commit_merge
    commit.source.CopyFrom(source.region)
    commit.commit = merge.commit
    entries = source.storage.entries(merge.min_index, merge.commit + 1, None)
    commit.entries.extend([entry_to_pb(entry) for entry in entries])
    index = _propose(store, target, admin)
    target.merge_proposed, target.merge_index = key, index


def _propose(store: RaftStore, peer: Peer, admin: AdminRequest) -> int:
    store.rouse(peer)
    try:
        index = peer.propose_admin(admin, None, store.clock())
    except RegionError:
        return 0  # the next check tries again
    store.mark(peer)
    return index
