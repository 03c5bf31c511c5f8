"""How a region gets from its peers to other ones: the steps, in an order that never loses a replica or the leader.

Learners are added first and catch up; then promotions and demotions happen together in a joint configuration (one
alone is a simple change); the lead moves before its peer is demoted when another voter stays, else within the joint
state; peers are removed last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvstore.proto.metapb_pb2 import Peer, PeerRole
from pd.operators import LEADER_TIMEOUT_MS, REGION_TIMEOUT_MS, Kind, Operator, Priority
from pd.regions import VOTING_ROLES, RegionInfo
from pd.steps import AddLearner, EnterJoint, LeaveJoint, PromoteLearner, RemovePeer, Step, TransferLeader


class CannotBuild(ValueError):
    """No order of steps leads there."""


class Builder:
    """Makes the operator that gives a region the wanted peers."""

    def __init__(
        self,
        description: str,
        region: RegionInfo,
        kind: Kind,
        *,
        next_id: Callable[[], int],
        may_lead: Callable[[int], bool] = lambda store_id: True,
        priority: Priority = Priority.LOW,
    ) -> None:
        self._description = description
        self._region = region
        self._kind = kind
        self._next_id = next_id
        self._may_lead = may_lead
        self._priority = priority
        self._steps: list[Step] = []
        self._leader = region.leader_store

    def operator(self, steps: tuple[Step, ...]) -> Operator:
        only_leader = all(isinstance(step, TransferLeader) for step in steps)
        return Operator(
            self._region.id,
            self._description,
            self._kind,
            steps,
            self._region.meta.region_epoch,
            self._region.size_mib,
            self._priority,
            LEADER_TIMEOUT_MS if only_leader else REGION_TIMEOUT_MS,
        )

    def transfer_leader(self, store_id: int) -> Operator:
        peer = self._region.peer_on(store_id)
        if peer is None or peer.role not in VOTING_ROLES:
            raise CannotBuild(f"region {self._region.id} has no voter on store {store_id}")
        return self.operator((TransferLeader(self._leader, store_id),))

    def to(self, wanted: Mapping[int, bool], leader_store: int = 0) -> Operator:
        """`wanted` says for each store whether its peer is to vote. Raises CannotBuild."""
        region = self._region
        if region.in_joint() or region.leader is None:
            raise CannotBuild(f"region {region.id} is in a joint state or has no leader")
        if not any(wanted.values()):
            raise CannotBuild(f"region {region.id} would have no voter")
        old = {peer.store_id: peer for peer in region.peers}
        ids = {store_id: old[store_id].id if store_id in old else self._next_id() for store_id in wanted}
        self._steps = [AddLearner(store_id, ids[store_id]) for store_id in wanted if store_id not in old]
        promotes = tuple(
            (store_id, ids[store_id]) for store_id, votes in wanted.items() if votes and not _votes(old, store_id)
        )
        demotes = tuple(
            (peer.store_id, peer.id)
            for peer in region.peers
            if _votes(old, peer.store_id) and not wanted.get(peer.store_id)
        )
        gone = [peer for peer in region.peers if peer.store_id not in wanted]
        self._change_roles(wanted, promotes, demotes, gone, leader_store)
        if leader_store and leader_store != self._leader:
            self._hand_to(leader_store)
        self._steps += [RemovePeer(peer.store_id, peer.id) for peer in gone]
        if not self._steps:
            raise CannotBuild(f"region {region.id} is as wanted")
        return self.operator(tuple(self._steps))

    def _hand_to(self, store_id: int) -> None:
        self._steps.append(TransferLeader(self._leader, store_id))
        self._leader = store_id

    def _change_roles(
        self,
        wanted: Mapping[int, bool],
        promotes: tuple[tuple[int, int], ...],
        demotes: tuple[tuple[int, int], ...],
        gone: list[Peer],
        leader_store: int,
    ) -> None:
        leader_leaves = not wanted.get(self._leader, False)
        staying = [peer.store_id for peer in self._region.voters() if wanted.get(peer.store_id)]
        successor = self._successor(staying, leader_store) if leader_leaves else 0
        if leader_leaves and successor:
            self._hand_to(successor)
        removed = {peer.store_id for peer in gone}
        if not promotes and all(store_id in removed for store_id, _ in demotes):
            if leader_leaves and not successor:
                raise CannotBuild(f"region {self._region.id}: nobody may lead when store {self._leader} doesn't")
            return
        if len(promotes) == 1 and not demotes:
            self._steps.append(PromoteLearner(*promotes[0]))
            return
        self._steps.append(EnterJoint(promotes, demotes))
        if leader_leaves and not successor:
            successor = self._successor([store_id for store_id, _ in promotes], leader_store)
            if not successor:
                raise CannotBuild(f"region {self._region.id}: nobody may lead when store {self._leader} doesn't")
            self._hand_to(successor)
        self._steps.append(LeaveJoint(promotes, demotes))

    def _successor(self, candidates: list[int], leader_store: int) -> int:
        """Who leads instead; the wanted one if it can, 0 if nobody can."""
        if leader_store in candidates:
            return leader_store
        down = {peer.peer.store_id for peer in self._region.down}
        return next((i for i in sorted(candidates) if i not in down and self._may_lead(i)), 0)


def _votes(peers: Mapping[int, Peer], store_id: int) -> bool:
    peer = peers.get(store_id)
    return peer is not None and peer.role == PeerRole.Voter


def roles_of(region: RegionInfo) -> dict[int, bool]:
    """Stores with whether their peers vote: where a change starts from."""
    return {peer.store_id: peer.role in VOTING_ROLES for peer in region.peers}
