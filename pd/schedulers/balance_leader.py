"""Makes the number of leaders even, by weight: the store with the most gives one to the one with the fewest.

The score of a store is its leaders, with what operators under way will change, divided by its leader weight. A transfer
must leave the giver with no fewer than the taker, and the scores must differ by more than `leader_tolerance`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from pd.builder import Builder
from pd.cluster import Health, StoreInfo
from pd.operators import Influence, Kind, Operator
from pd.regions import RegionInfo
from pd.view import View, leader_score

TRIES = 10
"""Regions looked at on one store."""
BATCH = 4
"""Transfers made in one run."""


def balance_leader(view: View, rng: random.Random) -> Sequence[Operator]:
    influence = view.influence()
    stores = [store for store in view.cluster.living_stores() if view.health(store) is Health.UP]
    made: list[Operator] = []
    used: set[int] = set()
    while len(made) < BATCH and view.controller.has_room(Kind.LEADER):
        found = _one(view, rng, stores, influence, used)
        if found is None:
            break
        region, source, target = found
        used.add(region.id)
        influence[source].leader_count -= 1
        influence[target].leader_count += 1
        made.append(Builder("balance-leader", region, Kind.LEADER, next_id=view.next_id).transfer_leader(target))
    return made


def _one(
    view: View, rng: random.Random, stores: Sequence[StoreInfo], influence: dict[int, Influence], used: set[int]
) -> tuple[RegionInfo, int, int] | None:
    """A region with the store that gives its lead and the one that takes it."""
    scores = {store.id: leader_score(store, influence[store.id].leader_count) for store in stores}
    by_score = sorted(stores, key=lambda store: (scores[store.id], store.id))
    for source in reversed(by_score):
        for region in _sample(view, rng, source.load.leaders, used):
            target = min(view.heirs(region), key=lambda store: (scores[store.id], store.id), default=None)
            if target is not None and _worth(view, source, target, scores):
                return region, source.id, target.id
    return None


def _sample(view: View, rng: random.Random, ids: dict[int, None], used: set[int]) -> list[RegionInfo]:
    picked = rng.sample(list(ids), min(TRIES, len(ids)))
    regions = [view.cluster.regions.by_id(region_id) for region_id in picked]
    return [r for r in regions if r is not None and view.is_idle(r) and r.id not in used and r.leader is not None]


def _worth(view: View, source: StoreInfo, target: StoreInfo, scores: dict[int, float]) -> bool:
    given, taken = 1 / max(source.leader_weight, 1e-6), 1 / max(target.leader_weight, 1e-6)
    gap = scores[source.id] - scores[target.id]
    return gap > view.config.leader_tolerance and gap >= given + taken
