"""What checkers and schedulers look at: the cluster at one moment, and which stores may take what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pd.cluster import Cluster, Health, StoreInfo
from pd.config import ScheduleConfig
from pd.operators import Influence, OperatorController
from pd.regions import RegionInfo
from pd.rules import RegionFit, Rule, RuleRole, RuleSet, distance


@dataclass(frozen=True, slots=True)
class View:
    """The cluster, what rules it, and what is under way in it."""

    cluster: Cluster
    rules: RuleSet
    config: ScheduleConfig
    controller: OperatorController
    now_ms: int
    next_id: Callable[[], int]
    """A new peer's id."""
    no_leader_stores: frozenset[int] = frozenset()
    """Stores that leaders are moved away from."""
    split_at_ms: Mapping[int, int] = field(default_factory=dict)
    leading_since_ms: int = -(1 << 62)
    """Of splits before that nothing is known."""

    def health(self, store: StoreInfo) -> Health:
        return store.health(self.now_ms, self.config)

    def fit(self, region: RegionInfo) -> RegionFit:
        return self.rules.fit(region, self.cluster)

    def influence(self) -> dict[int, Influence]:
        return self.controller.influence(self.cluster)

    def is_idle(self, region: RegionInfo) -> bool:
        """No operator works on it."""
        return region.id not in self.controller.running

    def may_lead(self, store_id: int, region: RegionInfo) -> bool:
        """A known store that is up, not busy, not to be evicted, and the rules let its peer of the region lead."""
        store = self.cluster.store(store_id)
        if store is None or self.health(store) is not Health.UP or store.is_busy() or store_id in self.no_leader_stores:
            return False
        peer = region.peer_on(store_id)
        if peer is None:
            return True
        found = self.fit(region).of(peer)
        return found is None or found.rule.role not in (RuleRole.FOLLOWER, RuleRole.LEARNER)

    def can_take_peer(self, store: StoreInfo) -> bool:
        """Up, with room on its disk and in its limits."""
        return (
            self.health(store) is Health.UP
            and not store.is_busy()
            and store.used_ratio() <= self.config.low_space_ratio
            and store.snapshots() < self.config.max_snapshot_count
            and store.load.pending < self.config.max_pending_peer_count
            and self.controller.store_has_room(store.id, adds=True, now_ms=self.now_ms)
        )

    def heirs(self, region: RegionInfo) -> list[StoreInfo]:
        """Stores of voters other than the leader, which are well and may lead."""
        return [
            self.cluster.stores[peer.store_id]
            for peer in region.voters()
            if peer.store_id != region.leader_store
            and not region.is_pending(peer)
            and not region.is_down(peer)
            and self.may_lead(peer.store_id, region)
        ]

    def free_stores(self, rule: Rule, region: RegionInfo, beside: Sequence[StoreInfo]) -> list[StoreInfo]:
        """Stores that may be given a replica under the rule whose others stand `beside`."""
        return [
            store
            for store in self.cluster.living_stores()
            if region.peer_on(store.id) is None
            and rule.matches(store)
            and self.can_take_peer(store)
            and isolated(rule, store, beside)
        ]

    def store_for(self, rule: Rule, region: RegionInfo, beside: Sequence[StoreInfo]) -> StoreInfo | None:
        """The best store for one more replica under the rule: farthest from those `beside`, then the emptiest."""
        candidates = self.free_stores(rule, region, beside)
        if not candidates:
            return None
        influence = self.influence()
        return min(
            candidates,
            key=lambda store: (
                -spread(rule, store, beside),
                region_score(store, self.config, influence[store.id].region_size),
                store.id,
            ),
        )


def spread(rule: Rule, store: StoreInfo, beside: Iterable[StoreInfo]) -> int:
    """How far the store is from the others, by the rule's location labels."""
    return sum(distance(store, other, rule.location_labels) for other in beside)


def isolated(rule: Rule, store: StoreInfo, beside: Iterable[StoreInfo]) -> bool:
    """Whether the store shares no isolation level with the others; every store does when the rule has no level."""
    if not rule.isolation_level:
        return True
    position = rule.location_labels.index(rule.isolation_level)
    labels = rule.location_labels[: position + 1]
    return all(distance(store, other, labels) > 0 for other in beside)


def region_score(store: StoreInfo, config: ScheduleConfig, influence: int = 0) -> float:
    """What balance-region makes equal: MiB of regions by weight; a store that runs full weighs more and more.

    Up to `high_space_ratio` it is the size alone; from there to `low_space_ratio` it doubles, above it is out of
    proportion (PD has the same three parts with other curves).
    """
    score = (store.load.region_size + influence) / max(store.region_weight, 1e-6)
    used, high, low = store.used_ratio(), config.high_space_ratio, config.low_space_ratio
    if used <= high:
        return score
    if used < low:
        return score * (1 + (used - high) / (low - high))
    return score * 2 + 1e6 * (1 + used - low)


def leader_score(store: StoreInfo, influence: int = 0) -> float:
    """What balance-leader makes equal: leaders by weight."""
    return (len(store.load.leaders) + influence) / max(store.leader_weight, 1e-6)
