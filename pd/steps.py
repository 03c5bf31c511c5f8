"""The steps of operators: what is ordered of a region's leader, and how one sees that it is done.

Each is a value with the same four questions: is it finished in this region, by how much has it raised conf_ver so far,
what is the order for it, and may the order be given now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from kvstore.proto.eraftpb_pb2 import ConfChangeType
from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region
from kvstore.proto.pdpb_pb2 import ChangePeer, CheckPolicy, RegionHeartbeatResponse
from pd.regions import VOTING_ROLES, RegionInfo

Places: TypeAlias = tuple[tuple[int, int], ...]
"""Peers as (store id, peer id)."""


def _has(region: RegionInfo, store_id: int, peer_id: int) -> Peer | None:
    peer = region.peer_on(store_id)
    return peer if peer is not None and peer.id == peer_id else None


def _entered(region: RegionInfo, promotes: Places, demotes: Places) -> bool:
    """Whether a joint change was made, left or not; a demoted peer may even be gone again."""
    up = [_has(region, *each) for each in promotes]
    down = [_has(region, *each) for each in demotes]
    return all(peer is not None and peer.role in VOTING_ROLES for peer in up) and all(
        peer is None or peer.role in (PeerRole.DemotingVoter, PeerRole.Learner) for peer in down
    )


def _make(change: ChangePeer, store_id: int, peer_id: int, role: PeerRole) -> None:
    """Fills in that a peer is to be a voter or a learner, new or not."""
    voter = role == PeerRole.Voter
    change.change_type = ConfChangeType.AddNode if voter else ConfChangeType.AddLearnerNode
    change.peer.CopyFrom(Peer(id=peer_id, store_id=store_id, role=role))


class _Step:
    """What most steps answer: conf_ver stays, and nothing is in the way."""

    __slots__ = ()

    def conf_ver_changed(self, region: RegionInfo) -> int:
        return 0

    def problem(self, region: RegionInfo) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class _PeerStep(_Step):
    """A step about one peer."""

    store_id: int
    peer_id: int

    def peer(self, region: RegionInfo) -> Peer | None:
        return _has(region, self.store_id, self.peer_id)


@dataclass(frozen=True, slots=True)
class AddLearner(_PeerStep):
    def __str__(self) -> str:
        return f"add learner peer {self.peer_id} on store {self.store_id}"

    def finished(self, region: RegionInfo) -> bool:
        peer = self.peer(region)
        return peer is not None and not region.is_pending(peer)

    def conf_ver_changed(self, region: RegionInfo) -> int:
        return int(self.peer(region) is not None)

    def problem(self, region: RegionInfo) -> str:
        peer = region.peer_on(self.store_id)
        return f"store {self.store_id} has peer {peer.id} already" if peer and peer.id != self.peer_id else ""

    def order(self, region: RegionInfo, response: RegionHeartbeatResponse) -> None:
        _make(response.change_peer, self.store_id, self.peer_id, PeerRole.Learner)


@dataclass(frozen=True, slots=True)
class PromoteLearner(_PeerStep):
    def __str__(self) -> str:
        return f"promote learner peer {self.peer_id} on store {self.store_id} to voter"

    def finished(self, region: RegionInfo) -> bool:
        peer = self.peer(region)
        return peer is not None and peer.role == PeerRole.Voter

    def conf_ver_changed(self, region: RegionInfo) -> int:
        return int(self.finished(region))

    def problem(self, region: RegionInfo) -> str:
        return "" if self.peer(region) else f"peer {self.peer_id} is not there"

    def order(self, region: RegionInfo, response: RegionHeartbeatResponse) -> None:
        _make(response.change_peer, self.store_id, self.peer_id, PeerRole.Voter)


@dataclass(frozen=True, slots=True)
class RemovePeer(_PeerStep):
    def __str__(self) -> str:
        return f"remove peer on store {self.store_id}"

    def finished(self, region: RegionInfo) -> bool:
        return self.peer(region) is None

    def conf_ver_changed(self, region: RegionInfo) -> int:
        return int(self.finished(region))

    def problem(self, region: RegionInfo) -> str:
        return "cannot remove the leader peer" if region.leader_store == self.store_id else ""

    def order(self, region: RegionInfo, response: RegionHeartbeatResponse) -> None:
        response.change_peer.change_type = ConfChangeType.RemoveNode
        response.change_peer.peer.CopyFrom(self.peer(region) or Peer())


@dataclass(frozen=True, slots=True)
class _JointStep(_Step):
    """A step into or out of a joint configuration."""

    promotes: Places
    demotes: Places

    def made(self, region: RegionInfo) -> int:
        """By how much conf_ver has grown when the change was made."""
        entered = _entered(region, self.promotes, self.demotes)
        return len(self.promotes) + len(self.demotes) if entered else 0


@dataclass(frozen=True, slots=True)
class EnterJoint(_JointStep):
    """Promotes learners and demotes voters in one joint configuration."""

    def __str__(self) -> str:
        up = ", ".join(str(store_id) for store_id, _ in self.promotes)
        down = ", ".join(str(store_id) for store_id, _ in self.demotes)
        return f"enter joint state: promote on stores [{up}], demote on stores [{down}]"

    def finished(self, region: RegionInfo) -> bool:
        return _entered(region, self.promotes, self.demotes)

    def conf_ver_changed(self, region: RegionInfo) -> int:
        return self.made(region)

    def problem(self, region: RegionInfo) -> str:
        gone = [peer_id for store_id, peer_id in (*self.promotes, *self.demotes) if not _has(region, store_id, peer_id)]
        return f"peers {gone} are not there" if gone else ""

    def order(self, region: RegionInfo, response: RegionHeartbeatResponse) -> None:
        for place in self.promotes:
            _make(response.change_peer_v2.changes.add(), *place, PeerRole.Voter)
        for place in self.demotes:
            _make(response.change_peer_v2.changes.add(), *place, PeerRole.Learner)


@dataclass(frozen=True, slots=True)
class LeaveJoint(_JointStep):
    """Leaves the joint configuration; the changes are those that were entered."""

    def __str__(self) -> str:
        return "leave joint state"

    def finished(self, region: RegionInfo) -> bool:
        return not region.in_joint()

    def conf_ver_changed(self, region: RegionInfo) -> int:
        return 0 if region.in_joint() else self.made(region)

    def problem(self, region: RegionInfo) -> str:
        leader = region.peer_on(region.leader_store)
        demoted = leader is not None and leader.role == PeerRole.DemotingVoter
        return "cannot leave the joint state: the leader is demoted" if demoted else ""

    def order(self, region: RegionInfo, response: RegionHeartbeatResponse) -> None:
        response.change_peer_v2.SetInParent()


@dataclass(frozen=True, slots=True)
class TransferLeader(_Step):
    from_store: int
    to_store: int

    def __str__(self) -> str:
        return f"transfer leader from store {self.from_store} to store {self.to_store}"

    def finished(self, region: RegionInfo) -> bool:
        return region.leader_store == self.to_store

    def problem(self, region: RegionInfo) -> str:
        peer = region.peer_on(self.to_store)
        if peer is None or peer.role not in VOTING_ROLES:
            return f"no voter on store {self.to_store}"
        return f"the peer on store {self.to_store} is down" if region.is_down(peer) else ""

    def order(self, region: RegionInfo, response: RegionHeartbeatResponse) -> None:
        target = region.peer_on(self.to_store)
        assert target is not None
        response.transfer_leader.peer.CopyFrom(target)


@dataclass(frozen=True, slots=True)
class SplitRegion(_Step):
    """Splits at keys, or where the leader finds the middle; the bounds are those before."""

    start_key: bytes
    end_key: bytes
    policy: CheckPolicy
    keys: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        at = ", ".join(key.hex() for key in self.keys)
        return f"split region with policy {CheckPolicy.Name(self.policy)}" + (f" at {at}" if at else "")

    def finished(self, region: RegionInfo) -> bool:
        return (region.start_key, region.end_key) != (self.start_key, self.end_key)

    def order(self, region: RegionInfo, response: RegionHeartbeatResponse) -> None:
        response.split_region.policy = self.policy
        response.split_region.keys.extend(self.keys)


@dataclass(frozen=True, slots=True)
class MergeRegion(_Step):
    """Merges a region into a neighbour. The source is ordered to, the target (`passive`) only waits for it."""

    source: Region
    target: Region
    passive: bool

    def __str__(self) -> str:
        return f"merge region {self.source.id} into region {self.target.id}"

    def finished(self, region: RegionInfo) -> bool:
        """The target reaches over the source then; the source is gone, and no heartbeat comes of it."""
        bounds = (self.target.start_key, self.target.end_key)
        return self.passive and (region.start_key, region.end_key) != bounds

    def order(self, region: RegionInfo, response: RegionHeartbeatResponse) -> None:
        assert not self.passive, "who only waits is ordered nothing"
        response.merge.target.CopyFrom(self.target)


Step: TypeAlias = (
    AddLearner | PromoteLearner | RemovePeer | EnterJoint | LeaveJoint | TransferLeader | SplitRegion | MergeRegion
)
