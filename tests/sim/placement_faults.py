"""Faults that only a cluster of stores has: what an operator of it does, stores that stay away, and garbage collection.

Each is a `nemesis.Fault` for a `StoreCluster`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from kvstore.proto import pdraft_pb2 as pb
from kvstore.proto.metapb_pb2 import StoreState
from tests.sim import nemesis
from tests.sim.nemesis import Skip
from tests.sim.store_cluster import StoreCluster

GEO = "geo"
"""The rule group of `rules`."""
UNDO_ATTEMPTS = 20
UNDO_PAUSE_S = 0.5


def _of_stores(cluster: nemesis.Cluster) -> StoreCluster:
    assert isinstance(cluster, StoreCluster)
    return cluster


async def _undo(cluster: StoreCluster, name: str, request: object) -> None:
    """An operator insists; what cannot be undone while all is broken stays, and the cluster must live with it."""
    for _ in range(UNDO_ATTEMPTS):
        if await cluster.ask_pd(name, request):
            return
        await asyncio.sleep(UNDO_PAUSE_S)


@contextlib.asynccontextmanager
async def decommission(cluster: nemesis.Cluster, rng: random.Random) -> AsyncIterator[str]:
    """A store is emptied, and taken back later."""
    stores = _of_stores(cluster)
    store_id = rng.choice(stores.store_ids()) if stores.store_ids() else 0
    request = pb.PdSetStoreStateRequest(store_id=store_id, state=StoreState.Offline)
    if not store_id or not await stores.ask_pd("SetStoreState", request):
        raise Skip
    try:
        yield f"store {store_id} goes offline"
    finally:
        await _undo(stores, "SetStoreState", pb.PdSetStoreStateRequest(store_id=store_id, state=StoreState.Up))


@contextlib.asynccontextmanager
async def outage(cluster: nemesis.Cluster, rng: random.Random) -> AsyncIterator[str]:
    """One store is away, for as long as the lane says: longer than `max_store_down_time_s`, its peers are replaced."""
    stores = _of_stores(cluster)
    machine = rng.choice(stores.store_machines)
    machine.crash(power=rng.random() < 0.5)
    try:
        yield f"outage of {machine.name}"
    finally:
        if not machine.running:
            cluster.restart(machine)


@contextlib.asynccontextmanager
async def rules(cluster: nemesis.Cluster, rng: random.Random) -> AsyncIterator[str]:
    """Three replicas, of which a zone has some and may be wanted for the lead, or must not have it."""
    zone = rng.choice(("a", "b"))
    role = rng.choice((pb.VOTER, pb.LEADER, pb.FOLLOWER))
    near = pb.PdRule(group=GEO, id="near", role=role, count=1)
    near.constraints.add(key="zone", op=pb.IN, values=[zone])
    rest = pb.PdRule(group=GEO, id="rest", role=pb.VOTER, count=2, location_labels=["zone", "host"])
    stores = _of_stores(cluster)
    if not await stores.ask_pd("SetRules", pb.PdSetRulesRequest(rules=[near, rest])):
        raise Skip
    try:
        yield f"rules: {pb.PdRuleRole.Name(role)} in zone {zone}"
    finally:
        near.count = rest.count = 0
        await _undo(stores, "SetRules", pb.PdSetRulesRequest(rules=[near, rest]))


@contextlib.asynccontextmanager
async def collect_garbage(cluster: nemesis.Cluster, rng: random.Random) -> AsyncIterator[str]:
    """A client moves the safe point, closer to the present than is usual."""
    if not await _of_stores(cluster).collect_garbage():
        raise Skip
    yield "garbage is collected"
