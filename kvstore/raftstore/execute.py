"""Applying changes of a region: log compaction, membership, split. Merges are in `merge`.

Each checks the epoch that it was proposed at, writes the new states into the apply batch, and leaves the changes in
memory that need the written states (new peers) for after the write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.engine.api import CF_RAFT
from kvstore.failpoint import fail_point
from kvstore.proto import raft_serverpb_pb2 as serverpb
from kvstore.proto.metapb_pb2 import Region, RegionEpoch
from kvstore.proto.raft_cmdpb_pb2 import AdminCmdType, AdminRequest, RaftCmdRequest
from kvstore.raft.types import ConfChangeV2, Entry, HardState, Role
from kvstore.raft_wire import hard_state_from_pb
from kvstore.raftstore import checks, keys, merge
from kvstore.raftstore.admin import EPOCH_CHECKS, change_peers, is_joint, split_region
from kvstore.raftstore.apply import Applying
from kvstore.raftstore.peer import Outcome, Peer
from kvstore.raftstore.peer_storage import write_first_states

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore


def check_admin_epoch(region: Region, epoch: RegionEpoch, command: int) -> None:
    """Raises epoch_not_match if the command is bound to a part of the epoch that has changed."""
    version, conf_ver = EPOCH_CHECKS[command]
    now = region.region_epoch
    if (version and epoch.version != now.version) or (conf_ver and epoch.conf_ver != now.conf_ver):
        raise checks.epoch_not_match(f"{checks.epoch_text(epoch)}, now {checks.epoch_text(now)}", [region])


class AdminExecutor:
    """What each admin command does to the peer that applies it."""

    def __init__(self, store: RaftStore) -> None:
        self._store = store

    def execute(self, applying: Applying, peer: Peer, command: RaftCmdRequest, entry: Entry) -> Outcome:
        admin = command.admin_request
        kind = admin.cmd_type
        check_admin_epoch(peer.region, command.header.region_epoch, kind)
        self._count(kind)
        if kind == AdminCmdType.CompactLog:
            return self._compact_log(applying, peer, admin)
        if kind == AdminCmdType.BatchSplit:
            return self._split(applying, peer, admin)
        if kind == AdminCmdType.PrepareMerge:
            return merge.apply_prepare(applying, peer, admin.prepare_merge, entry)
        if kind == AdminCmdType.CommitMerge:
            return merge.apply_commit(applying, peer, admin.commit_merge)
        if kind == AdminCmdType.RollbackMerge:
            return merge.apply_rollback(applying, peer, admin.rollback_merge)
        raise checks.refused(f"admin command {kind} is not one of a log entry")

    def _count(self, kind: int) -> None:
        counts, name = self._store.counters.admin, AdminCmdType.Name(kind)
        counts[name] = counts.get(name, 0) + 1

    def _compact_log(self, applying: Applying, peer: Peer, admin: AdminRequest) -> Outcome:
        index, term = admin.compact_log.compact_index, admin.compact_log.compact_term
        storage = peer.storage
        if storage.merge is not None:
            # it was proposed behind PrepareMerge, before that was applied: the target may need what would be cut
            peer.last_compacted = storage.truncated_index
            raise checks.proposal_in_merging_mode(peer.region_id)
        if index > storage.truncated_index:
            assert index <= storage.applied, (peer.region_id, index, storage.applied)
            storage.compact(applying.batch, index, term)
        return None

    def change_peers(self, applying: Applying, peer: Peer, command: RaftCmdRequest, change: ConfChangeV2) -> Outcome:
        """Puts a membership change into force; a peer that it removes destroys itself."""
        admin = command.admin_request
        before = peer.region
        check_admin_epoch(before, command.header.region_epoch, AdminCmdType.ChangePeerV2)
        self._count(AdminCmdType.ChangePeerV2)
        region = change_peers(before, admin.change_peer_v2.changes)
        fail_point("raftstore::apply_conf_change")
        peer.raft.apply_conf_change(change)
        peer.storage.region = region
        store = self._store
        if checks.find_peer(region, store.store_id) is None:
            store.destroy(applying.batch, peer)
            return [region]
        peer.storage.save_region(applying.batch)
        peer.on_members()
        peer.joint_since = store.clock() if is_joint(region) else None

        removed = [old for old in before.peers if all(old.id != new.id for new in region.peers)]

        def announce() -> None:
            store.tree.put(region)
            store.on_region_changed(peer)
            if peer.raft.role is Role.LEADER:
                for member in removed:  # it may never hear of it by the log
                    grave = store.message_to(peer, member)
                    grave.is_tombstone = True
                    store.transport.send(grave)

        applying.after(announce)
        return [region]

    def _split(self, applying: Applying, peer: Peer, admin: AdminRequest) -> Outcome:
        store, splits = self._store, admin.splits
        derived, regions = split_region(peer.region, splits.requests, right_derive=splits.right_derive)
        fail_point("raftstore::before_split_apply")
        peer.storage.region = derived
        peer.storage.save_region(applying.batch)
        created = [region for region in regions if region.id != derived.id and self._may_create(region)]
        for region in regions:
            if region.id == derived.id:
                continue
            if any(region is new for new in created):
                write_first_states(store.engine, applying.batch, region, self._vote(region.id))
            else:
                store.delete_data(applying.batch, region.start_key, region.end_key)
        leads = peer.raft.role is Role.LEADER
        applying.after(lambda: self._after_split(peer, derived, created, regions, leads))
        return regions

    def _may_create(self, region: Region) -> bool:
        """Not if the new region's peer was here and is gone: it was removed before this log was applied."""
        store = self._store
        own = checks.find_peer(region, store.store_id)
        assert own is not None, (store.store_id, region)
        there = store.peers.get(region.id)
        if there is not None:
            assert not there.storage.initialized, f"region {region.id} is there before its split"
            return there.peer.id <= own.id
        raw = store.engine.get(CF_RAFT, keys.region_state_key(region.id))
        if raw is None:
            return True
        grave = serverpb.RegionLocalState.FromString(raw)
        buried = checks.find_peer(grave.region, store.store_id)
        return buried is None or buried.id < own.id

    def _vote(self, region_id: int) -> HardState:
        """What a peer that awaited its first snapshot may have promised: it holds on."""
        there = self._store.peers.get(region_id)
        if there is not None:
            return there.storage.hard_state
        raw = self._store.engine.get(CF_RAFT, keys.raft_state_key(region_id))
        return HardState() if raw is None else hard_state_from_pb(serverpb.RaftLocalState.FromString(raw).hard_state)

    def _after_split(
        self, peer: Peer, derived: Region, created: list[Region], regions: list[Region], leads: bool
    ) -> None:
        store = self._store
        store.tree.put(derived)
        share = len(regions)
        peer.flow.size //= share
        peer.flow.keys //= share
        peer.flow.since_check = store.config.split_check_bytes
        peer.load.keys.clear()
        store.on_region_changed(peer)
        for region in created:
            child = store.open_peer(region)
            child.flow.size, child.flow.keys, child.flow.measured = peer.flow.size, peer.flow.keys, peer.flow.measured
            child.flow.since_check = store.config.split_check_bytes
            if leads:
                child.raft.campaign()  # the parent's leader is the best candidate there is
            store.mark(child)
            store.on_region_changed(child)
        if leads:
            store.on_split(regions)
        fail_point("raftstore::after_split_apply")
