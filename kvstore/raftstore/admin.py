"""Changes of a region as pure functions: splits, membership changes, merges. Their errors are the proposer's.

Everything here is deterministic: it runs on every peer of the region at the same index of its log, and what is refused
there is refused by all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from kvstore.proto.eraftpb_pb2 import ConfChangeType as PbConfChangeType
from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region
from kvstore.proto.raft_cmdpb_pb2 import AdminCmdType, ChangePeerRequest, SplitRequest
from kvstore.raft.types import ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2
from kvstore.raftstore.checks import find_peer, in_region, key_not_in_region, refused

EPOCH_CHECKS: dict[int, tuple[bool, bool]] = {
    AdminCmdType.ChangePeer: (False, True),
    AdminCmdType.ChangePeerV2: (False, True),
    AdminCmdType.Split: (True, True),
    AdminCmdType.BatchSplit: (True, True),
    AdminCmdType.CompactLog: (False, False),
    AdminCmdType.TransferLeader: (True, True),
    AdminCmdType.PrepareMerge: (True, True),
    AdminCmdType.CommitMerge: (True, True),
    AdminCmdType.RollbackMerge: (True, True),
}
"""Which part of the epoch (version, conf_ver) each command is bound to."""


def copy_region(region: Region) -> Region:
    """Regions are never changed where they are: who holds one may go on reading it."""
    out = Region()
    out.CopyFrom(region)
    return out


def split_region(
    region: Region, requests: Sequence[SplitRequest], *, right_derive: bool
) -> tuple[Region, list[Region]]:
    """The region that keeps the id, and all regions in key order. RegionError if the keys or ids do not fit."""
    if not requests:
        raise refused("a split without keys")
    bounds = [region.start_key, *(request.split_key for request in requests), region.end_key]
    for before, key in pairwise(bounds[:-1]):
        if key <= before or not in_region(region, key):
            raise key_not_in_region(key, region)
    peers = sorted(region.peers, key=lambda peer: peer.id)
    version = region.region_epoch.version + len(requests)
    derived_at = len(requests) if right_derive else 0
    fresh = iter(requests)
    regions: list[Region] = []
    derived = region
    for position in range(len(requests) + 1):
        part = copy_region(region)
        part.start_key, part.end_key = bounds[position], bounds[position + 1]
        part.region_epoch.version = version
        if position == derived_at:
            derived = part
        else:
            _take_ids(part, peers, next(fresh))
        regions.append(part)
    return derived, regions


def _take_ids(part: Region, peers: Sequence[Peer], request: SplitRequest) -> None:
    if len(request.new_peer_ids) != len(peers):
        raise refused(f"a split of {len(peers)} peers got {len(request.new_peer_ids)} ids")
    part.id = request.new_region_id
    del part.peers[:]
    for peer, new_id in zip(peers, request.new_peer_ids, strict=True):
        part.peers.append(Peer(id=new_id, store_id=peer.store_id, role=peer.role, is_witness=peer.is_witness))


_RAFT_TYPES = {
    PbConfChangeType.AddNode: ConfChangeType.ADD_NODE,
    PbConfChangeType.RemoveNode: ConfChangeType.REMOVE_NODE,
    PbConfChangeType.AddLearnerNode: ConfChangeType.ADD_LEARNER,
}


def conf_change_of(changes: Sequence[ChangePeerRequest], context: bytes) -> ConfChangeV2:
    """What Raft is told of a membership change; no changes: the joint configuration is left."""
    singles = tuple(ConfChangeSingle(_RAFT_TYPES[change.change_type], change.peer.id) for change in changes)
    transition = ConfChangeTransition.AUTO if len(singles) <= 1 else ConfChangeTransition.EXPLICIT
    return ConfChangeV2(singles, transition, context)


def is_joint(region: Region) -> bool:
    return any(peer.role in (PeerRole.IncomingVoter, PeerRole.DemotingVoter) for peer in region.peers)


def change_peers(region: Region, changes: Sequence[ChangePeerRequest]) -> Region:
    """The region after a membership change: one simple, several enter a joint configuration, none leaves it."""
    out = copy_region(region)
    if not changes:
        return _leave_joint(out)
    if is_joint(region):
        raise refused("the joint configuration has to be left first")
    if len({change.peer.id for change in changes}) != len(changes):
        raise refused("two changes of one peer")
    for change in changes:
        _change_peer(out, change, joint=len(changes) > 1)
    out.region_epoch.conf_ver += len(changes)
    if len(changes) > 1 and not is_joint(out):
        raise refused("a joint change without a voter that comes or goes")
    if not any(peer.role in (PeerRole.Voter, PeerRole.IncomingVoter) for peer in out.peers):
        raise refused("no voter would be left")
    return out


def _change_peer(region: Region, change: ChangePeerRequest, *, joint: bool) -> None:
    wanted = change.peer
    there = find_peer(region, wanted.store_id)
    if there is not None and there.id != wanted.id:
        raise refused(f"store {wanted.store_id} has peer {there.id} already, not {wanted.id}")
    if change.change_type == PbConfChangeType.RemoveNode:
        if there is None:
            raise refused(f"peer {wanted.id} is not in region {region.id}")
        if joint and there.role == PeerRole.Voter:
            raise refused(f"peer {wanted.id} has to be demoted before it is removed in a joint change")
        region.peers.remove(there)
        return
    as_voter = change.change_type == PbConfChangeType.AddNode
    if there is None:
        role = PeerRole.Learner if not as_voter else PeerRole.IncomingVoter if joint else PeerRole.Voter
        region.peers.append(Peer(id=wanted.id, store_id=wanted.store_id, role=role, is_witness=wanted.is_witness))
        return
    if as_voter == (there.role == PeerRole.Voter):
        raise refused(f"peer {wanted.id} has that role already")
    if as_voter:
        there.role = PeerRole.IncomingVoter if joint else PeerRole.Voter
    else:
        there.role = PeerRole.DemotingVoter if joint else PeerRole.Learner


def _leave_joint(region: Region) -> Region:
    changed = 0
    for peer in region.peers:
        if peer.role == PeerRole.IncomingVoter:
            peer.role = PeerRole.Voter
        elif peer.role == PeerRole.DemotingVoter:
            peer.role = PeerRole.Learner
        else:
            continue
        changed += 1
    if not changed:
        raise refused("no joint configuration to leave")
    region.region_epoch.conf_ver += changed
    return region


def prepared_for_merge(region: Region) -> Region:
    """The source from PrepareMerge on: both parts of the epoch move, so that nothing proposed before still fits."""
    out = copy_region(region)
    out.region_epoch.version += 1
    out.region_epoch.conf_ver += 1
    return out


def rolled_back(region: Region) -> Region:
    out = copy_region(region)
    out.region_epoch.version += 1
    return out


def merge_regions(target: Region, source: Region) -> Region:
    """The target with the source's range; RegionError unless they are adjacent."""
    out = copy_region(target)
    if source.end_key and source.end_key == target.start_key:
        out.start_key = source.start_key
    elif target.end_key and target.end_key == source.start_key:
        out.end_key = source.end_key
    else:
        raise refused(f"regions {target.id} and {source.id} are not adjacent")
    out.region_epoch.version = max(target.region_epoch.version, source.region_epoch.version) + 1
    return out


def same_stores(a: Region, b: Region) -> bool:
    """Whether both have peers of the same roles on the same stores."""
    return sorted((p.store_id, p.role) for p in a.peers) == sorted((p.store_id, p.role) for p in b.peers)
