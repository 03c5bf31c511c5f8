"""Regions that were left in a joint configuration, by an operator that ended or a leader of old, are led out of it."""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.proto.metapb_pb2 import PeerRole
from pd.builder import Builder
from pd.operators import Kind, Operator, Priority
from pd.regions import VOTING_ROLES, RegionInfo
from pd.steps import LeaveJoint, Step, TransferLeader
from pd.view import View


def check_joint(view: View, region: RegionInfo) -> Sequence[Operator]:
    if not region.in_joint():
        return ()
    promotes = tuple((peer.store_id, peer.id) for peer in region.peers if peer.role == PeerRole.IncomingVoter)
    demotes = tuple((peer.store_id, peer.id) for peer in region.peers if peer.role == PeerRole.DemotingVoter)
    steps: list[Step] = []
    leader = region.peer_on(region.leader_store)
    if leader is not None and leader.role == PeerRole.DemotingVoter:
        stay = [p.store_id for p in region.peers if p.role in VOTING_ROLES and not region.is_down(p)]
        able = [store_id for store_id in sorted(stay) if view.may_lead(store_id, region)] or stay
        if not able:
            return ()
        steps.append(TransferLeader(region.leader_store, able[0]))
    steps.append(LeaveJoint(promotes, demotes))
    builder = Builder("leave-joint-state", region, Kind.ADMIN, next_id=view.next_id, priority=Priority.HIGH)
    return (builder.operator(tuple(steps)),)
