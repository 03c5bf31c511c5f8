"""Schedulers that somebody asked for: leaders away from a store, all to a store, or round and round for tests."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pd.builder import Builder
from pd.operators import Kind, Operator, Priority
from pd.regions import RegionInfo
from pd.schedulers.balance_region import move_peer, targets_of
from pd.view import View

BATCH = 16
"""Transfers made in one run."""


def _transfer(view: View, region: RegionInfo, store_id: int, name: str, kind: Kind, priority: Priority) -> Operator:
    return Builder(name, region, kind, next_id=view.next_id, priority=priority).transfer_leader(store_id)


def evict_leader(view: View, rng: random.Random, store_id: int) -> Sequence[Operator]:
    """Leaders of the store go to whichever of their followers' stores has the fewest."""
    store = view.cluster.store(store_id)
    made: list[Operator] = []
    for region_id in [] if store is None else list(store.load.leaders):
        region = view.cluster.regions.by_id(region_id)
        if region is None or not view.is_idle(region) or region.in_joint():
            continue
        heir = min(view.heirs(region), key=lambda heir: (len(heir.load.leaders), heir.id), default=None)
        if heir is not None:
            made.append(_transfer(view, region, heir.id, "evict-leader", Kind.ADMIN | Kind.LEADER, Priority.URGENT))
        if len(made) == BATCH:
            break
    return made


def grant_leader(view: View, rng: random.Random, store_id: int) -> Sequence[Operator]:
    """Every region with a voter on the store is to be led from there."""
    store = view.cluster.store(store_id)
    made: list[Operator] = []
    for region_id in [] if store is None else list(store.load.regions):
        region = view.cluster.regions.by_id(region_id)
        if region is None or not view.is_idle(region) or region.leader_store in (0, store_id):
            continue
        if any(heir.id == store_id for heir in view.heirs(region)):
            made.append(_transfer(view, region, store_id, "grant-leader", Kind.LEADER, Priority.HIGH))
        if len(made) == BATCH:
            break
    return made


def _any_region(view: View, rng: random.Random) -> RegionInfo | None:
    regions = [region for region in view.cluster.regions if view.is_idle(region) and region.is_healthy()]
    return rng.choice(regions) if regions else None


def shuffle_leader(view: View, rng: random.Random) -> Sequence[Operator]:
    """Some region gets another leader."""
    region = _any_region(view, rng)
    if region is None or not view.controller.has_room(Kind.LEADER):
        return ()
    heirs = view.heirs(region)
    if not heirs:
        return ()
    return (_transfer(view, region, rng.choice(heirs).id, "shuffle-leader", Kind.LEADER, Priority.LOW),)


def shuffle_region(view: View, rng: random.Random) -> Sequence[Operator]:
    """Some peer moves to some other store that may have it."""
    region = _any_region(view, rng)
    if region is None or region.in_joint() or not view.controller.has_room(Kind.REGION):
        return ()
    peer = rng.choice(list(region.peers))
    fit, store = view.fit(region).of(peer), view.cluster.store(peer.store_id)
    targets = [] if fit is None or store is None else targets_of(view, region, fit, store)
    if not targets:
        return ()
    target = rng.choice(targets)
    operator = move_peer(view, region, peer.store_id, target.id, "shuffle-region", Kind.REGION)
    return () if operator is None else (operator,)
