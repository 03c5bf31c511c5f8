"""Spreads flow: a hot region's lead (reads) or peer (writes) moves from the store with most of it to a quieter one.

Load is bytes a second of hot regions only: reads count where the leader is, writes on every peer's store. A move must
leave the taker with less than `RATIO` of what the giver had.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from pd.builder import Builder
from pd.cluster import Health, StoreInfo
from pd.hot import HotRegions, flow
from pd.operators import Kind, Operator
from pd.regions import RegionInfo
from pd.schedulers.balance_region import move_peer, targets_of
from pd.view import View

RATIO = 0.95


def balance_hot_regions(view: View, rng: random.Random, hot: HotRegions) -> Sequence[Operator]:
    """One operator at most; whether reads or writes come first is drawn."""
    if not view.controller.has_room(Kind.HOT):
        return ()
    kinds = [True, False]
    rng.shuffle(kinds)
    for reads in kinds:
        found = _spread(view, hot.hot(view.cluster, view.config, reads=reads), reads)
        if found is not None:
            return (found,)
    return ()


def _loads(view: View, regions: Sequence[RegionInfo], reads: bool) -> dict[int, float]:
    loads = {store.id: 0.0 for store in view.cluster.living_stores() if view.health(store) is Health.UP}
    for region in regions:
        for store_id in [region.leader_store] if reads else region.store_ids():
            if store_id in loads:
                loads[store_id] += flow(region, reads)
    return loads


def _spread(view: View, regions: Sequence[RegionInfo], reads: bool) -> Operator | None:
    loads = _loads(view, regions, reads)
    if not loads:
        return None
    source = max(loads, key=lambda store_id: (loads[store_id], -store_id))
    for region in regions:
        here = region.leader_store == source if reads else region.peer_on(source) is not None
        if not here or not view.is_idle(region) or not region.is_healthy():
            continue
        found = _move(view, region, source, loads, reads)
        if found is not None:
            return found
    return None


def _move(view: View, region: RegionInfo, source: int, loads: dict[int, float], reads: bool) -> Operator | None:
    rate = flow(region, reads)
    targets = view.heirs(region) if reads else _free_stores(view, region, source)
    quiet = [store for store in targets if store.id in loads and loads[store.id] + rate < loads[source] * RATIO]
    target = min(quiet, key=lambda store: (loads[store.id], store.id), default=None)
    if target is None:
        return None
    if reads:
        builder = Builder("transfer-hot-read-leader", region, Kind.HOT, next_id=view.next_id)
        return builder.transfer_leader(target.id)
    return move_peer(view, region, source, target.id, "move-hot-write-peer", Kind.HOT)


def _free_stores(view: View, region: RegionInfo, source: int) -> list[StoreInfo]:
    peer = region.peer_on(source)
    fit = view.fit(region).of(peer) if peer is not None else None
    return [] if fit is None else targets_of(view, region, fit, view.cluster.stores[source])
