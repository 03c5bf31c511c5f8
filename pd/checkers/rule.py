"""Replicas as the placement rules want them: enough, on living stores, in the right roles, as far apart as can be.

In this order: missing replicas are added, those on down and offline stores replaced, roles set right (learners
promoted, the lead where the rules want it), replicas moved where they are better apart, and surplus ones removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.proto.metapb_pb2 import Peer, PeerRole
from pd.builder import Builder, CannotBuild, roles_of
from pd.cluster import Health, StoreInfo
from pd.operators import Kind, Operator, Priority
from pd.regions import VOTING_ROLES, RegionInfo
from pd.rules import ISOLATION_BASE, RuleFit, RuleRole
from pd.view import View, spread


def check_rules(view: View, region: RegionInfo) -> Sequence[Operator]:
    found = _Repairs(view, region).first()
    return () if found is None else (found,)


class _Repairs:
    """What is wrong with one region, the most urgent first."""

    def __init__(self, view: View, region: RegionInfo) -> None:
        self._view = view
        self._region = region
        self._fitted = view.fit(region)

    def first(self) -> Operator | None:
        for repair in (self._add_missing, self._replace_lost, self._set_roles, self._spread_better):
            for fit in self._fitted.fits:
                if found := repair(fit):
                    return found
        return self._remove_surplus()

    def _build(
        self, description: str, wanted: dict[int, bool], *, priority: Priority = Priority.MEDIUM, leader: int = 0
    ) -> Operator | None:
        view, region = self._view, self._region
        builder = Builder(
            description,
            region,
            Kind.REPLICA,
            next_id=view.next_id,
            may_lead=self._may_lead,
            priority=priority,
        )
        try:
            return builder.to(wanted, leader)
        except CannotBuild:
            return None

    def _may_lead(self, store_id: int) -> bool:
        return self._view.may_lead(store_id, self._region)

    def _stores(self, peers: Sequence[Peer], but: Peer | None = None) -> list[StoreInfo]:
        stores = self._view.cluster.stores
        return [stores[peer.store_id] for peer in peers if peer.store_id in stores and peer is not but]

    def _add_missing(self, fit: RuleFit) -> Operator | None:
        if fit.missing <= 0:
            return None
        store = self._view.store_for(fit.rule, self._region, self._stores(fit.peers))
        if store is None:
            return None
        wanted = roles_of(self._region)
        wanted[store.id] = fit.rule.role is not RuleRole.LEARNER
        return self._build("add-rule-peer", wanted, priority=Priority.HIGH)

    def _replace_lost(self, fit: RuleFit) -> Operator | None:
        for peer in fit.peers:
            reason = self._loss(peer)
            if reason is None:
                continue
            store = self._view.store_for(fit.rule, self._region, self._stores(fit.peers, peer))
            if store is None:
                continue
            urgent = Priority.HIGH if reason == "down" else Priority.MEDIUM
            return self._move(f"replace-rule-{reason}-peer", fit, peer, store, urgent)
        return None

    def _loss(self, peer: Peer) -> str | None:
        """Why a peer has to be replaced, None when it hasn't."""
        health = self._view.health(self._view.cluster.stores[peer.store_id])
        down = any(
            stats.peer.id == peer.id and stats.down_seconds >= self._view.config.max_store_down_time_s
            for stats in self._region.down
        )
        if down or health in (Health.DOWN, Health.TOMBSTONE):
            return "down"
        return "offline" if health is Health.OFFLINE else None

    def _move(
        self, description: str, fit: RuleFit, peer: Peer, store: StoreInfo, priority: Priority
    ) -> Operator | None:
        wanted = roles_of(self._region)
        del wanted[peer.store_id]
        wanted[store.id] = fit.rule.role is not RuleRole.LEARNER
        takes_over = peer.store_id == self._region.leader_store and fit.rule.role is RuleRole.LEADER
        return self._build(description, wanted, priority=priority, leader=store.id if takes_over else 0)

    def _set_roles(self, fit: RuleFit) -> Operator | None:
        region = self._region
        for peer in fit.wrong_role:
            if fit.rule.role is not RuleRole.LEARNER and peer.role == PeerRole.Learner:
                if not region.is_pending(peer) and not region.is_down(peer):
                    return self._build("promote-rule-learner", {**roles_of(region), peer.store_id: True})
            elif fit.rule.role is RuleRole.LEADER:
                if not region.is_pending(peer) and self._may_lead(peer.store_id):
                    return self._build("fix-leader-role", roles_of(region), leader=peer.store_id)
            elif fit.rule.role is RuleRole.FOLLOWER and peer.store_id == region.leader_store:
                able = [store.id for store in self._view.heirs(region)]
                if able:
                    return self._build("fix-follower-role", roles_of(region), leader=min(able))
        return None

    def _spread_better(self, fit: RuleFit) -> Operator | None:
        """Moves the replica that stands nearest to the others, when some store is farther from them."""
        rule, region = fit.rule, self._region
        if not rule.location_labels or not region.is_healthy() or fit.missing:
            return None
        stores = {peer.id: self._stores(fit.peers, peer) for peer in fit.peers}
        worst = min(
            fit.peers,
            key=lambda peer: (spread(rule, self._view.cluster.stores[peer.store_id], stores[peer.id]), -peer.store_id),
            default=None,
        )
        if worst is None:
            return None
        beside, here = stores[worst.id], self._view.cluster.stores[worst.store_id]
        if spread(rule, here, beside) == len(beside) * ISOLATION_BASE ** (len(rule.location_labels) - 1):
            return None  # all stand as far apart as stores can
        better = self._view.store_for(rule, region, beside)
        if better is None or spread(rule, better, beside) <= spread(rule, here, beside):
            return None
        return self._move("move-to-better-location", fit, worst, better, Priority.LOW)

    def _remove_surplus(self) -> Operator | None:
        """One peer that no rule needs, when every rule has its own, all of them well."""
        region, fitted = self._region, self._fitted
        if not fitted.orphans or not fitted.is_satisfied():
            return None
        needed = [peer for fit in fitted.fits for peer in fit.peers]
        if any(region.is_pending(peer) or self._loss(peer) is not None for peer in needed):
            return None
        gone = min(fitted.orphans, key=lambda p: (not region.is_down(p), p.role in VOTING_ROLES, -p.store_id))
        wanted = roles_of(region)
        del wanted[gone.store_id]
        return self._build("remove-orphan-peer", wanted)
