"""Makes what stores carry even: a replica moves from the store with the highest region score to a low one.

The score (`pd.view.region_score`) is MiB of regions by weight, more when the disk runs full, with what operators under
way will change. A move must be worth it: the scores differ by more than twice the region and by more than
`tolerant_size_ratio` average regions. Rules and the distances of location labels are kept.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from pd.builder import Builder, CannotBuild, roles_of
from pd.cluster import Health, StoreInfo
from pd.operators import Kind, Operator
from pd.regions import RegionInfo
from pd.rules import RuleFit
from pd.view import View, region_score, spread

TRIES = 10
"""Regions looked at on one store."""
BATCH = 8
"""Moves made in one run."""


def balance_region(view: View, rng: random.Random) -> Sequence[Operator]:
    influence = view.influence()
    stores = [store for store in view.cluster.living_stores() if view.health(store) is Health.UP]
    scores = {store.id: region_score(store, view.config, influence[store.id].region_size) for store in stores}
    tolerance = view.config.tolerant_size_ratio * view.cluster.average_region_size()
    made: list[Operator] = []
    for source in sorted(stores, key=lambda store: (-scores[store.id], store.id)):
        if scores[source.id] - min(scores.values()) <= tolerance:
            return made
        for region in _sample(view, rng, source):
            if len(made) == BATCH or not view.controller.has_room(Kind.REGION):
                return made
            target = _target(view, region, source, scores)
            size = max(1, region.size_mib)
            if target is None or scores[source.id] - scores[target.id] <= max(2 * size, tolerance):
                continue
            operator = move_peer(view, region, source.id, target.id, "balance-region", Kind.REGION)
            if operator is not None:
                made.append(operator)
                scores[source.id] -= size / max(source.region_weight, 1e-6)
                scores[target.id] += size / max(target.region_weight, 1e-6)
        if made:
            return made
    return made


def _sample(view: View, rng: random.Random, store: StoreInfo) -> list[RegionInfo]:
    ids = list(store.load.regions)
    regions = [view.cluster.regions.by_id(i) for i in rng.sample(ids, min(TRIES, len(ids)))]
    return [r for r in regions if r is not None and view.is_idle(r) and r.is_healthy() and not r.in_joint()]


def _target(view: View, region: RegionInfo, source: StoreInfo, scores: dict[int, float]) -> StoreInfo | None:
    fitted = view.fit(region)
    peer = region.peer_on(source.id)
    fit = fitted.of(peer) if peer is not None else None
    if fit is None or not fitted.is_satisfied():
        return None
    return min(
        (store for store in targets_of(view, region, fit, source) if store.id in scores),
        key=lambda store: (scores[store.id], store.id),
        default=None,
    )


def targets_of(view: View, region: RegionInfo, fit: RuleFit, source: StoreInfo) -> list[StoreInfo]:
    """Stores that may carry the replica in place of the source, no nearer to the rule's others than that."""
    others = [view.cluster.stores[peer.store_id] for peer in fit.peers if peer.store_id != source.id]
    return targets_beside(view, region, fit, source, others)


def targets_beside(
    view: View, region: RegionInfo, fit: RuleFit, source: StoreInfo, beside: Sequence[StoreInfo]
) -> list[StoreInfo]:
    """The same, with the others standing `beside`."""
    least = spread(fit.rule, source, beside)
    free = view.free_stores(fit.rule, region, beside)
    return [store for store in free if spread(fit.rule, store, beside) >= least]


def move_peer(
    view: View, region: RegionInfo, from_store: int, to_store: int, description: str, kind: Kind
) -> Operator | None:
    """A peer in the same role on another store; None when it can't be."""
    wanted = roles_of(region)
    wanted[to_store] = wanted.pop(from_store)
    builder = Builder(
        description, region, kind, next_id=view.next_id, may_lead=lambda store_id: view.may_lead(store_id, region)
    )
    try:
        return builder.to(wanted)
    except CannotBuild:
        return None
