"""Checkers and schedulers bring a cluster to where it should be and then leave it alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from kvstore.proto.metapb_pb2 import PeerRole, StoreState
from kvstore.proto.pdpb_pb2 import OperatorStatus
from pd.rules import LabelConstraint, LabelOp, Rule, RuleRole
from pd.schedulers import SchedulerSpec
from tests.pd.model import Model


def assert_settled(model: Model) -> None:
    """No operator runs, and ten more rounds start none."""
    assert model.controller.running == {}
    ended = len(model.controller.history)
    model.run(10)
    assert len(model.controller.history) == ended, [str(op) for op in list(model.controller.history)[ended:]]


def assert_all_succeeded(model: Model) -> None:
    bad = [(str(op), op.reason) for op in model.controller.history if op.status != OperatorStatus.SUCCESS]
    assert bad == []


@pytest.mark.parametrize("seed", range(3))
def test_new_stores_take_their_part(seed: int) -> None:
    model = Model(seed=seed)
    for store_id in range(1, 7):
        model.add_store(store_id)
    model.add_regions(100, [1, 2, 3])
    model.run(150)
    assert_all_succeeded(model)
    assert_settled(model)
    counts = [len(store.load.regions) for store in model.cluster.stores.values()]
    leaders = [len(store.load.leaders) for store in model.cluster.stores.values()]
    assert sum(counts) == 300
    assert max(counts) - min(counts) <= 6
    assert max(leaders) - min(leaders) <= 2
    assert all(len(set(stores)) == 3 for _, stores in model.replicas())
    assert model.fewest_voters == 3


def test_weights_count() -> None:
    model = Model()
    for store_id in range(1, 6):
        model.add_store(store_id)
    model.cluster.stores[5].region_weight = model.cluster.stores[5].leader_weight = 0.5
    model.add_regions(100, [1, 2, 3])
    model.run(150)
    counts = {store.id: len(store.load.regions) for store in model.cluster.stores.values()}
    assert counts[5] <= 0.65 * min(counts[i] for i in (1, 2, 3, 4))
    leaders = {store.id: len(store.load.leaders) for store in model.cluster.stores.values()}
    assert leaders[5] <= 0.65 * min(leaders[i] for i in (1, 2, 3, 4))


def test_an_offline_store_is_emptied() -> None:
    model = Model()
    for store_id in range(1, 5):
        model.add_store(store_id)
    model.add_regions(60, [1, 2, 3])
    model.run(60)
    model.set_state(1, StoreState.Offline)
    model.run(120)
    assert not model.cluster.stores[1].load.regions
    assert all(stores == [2, 3, 4] for _, stores in model.replicas())
    assert_all_succeeded(model)
    assert_settled(model)
    assert model.fewest_voters == 3


def test_a_dead_stores_replicas_are_made_anew() -> None:
    model = Model()
    for store_id in range(1, 5):
        model.add_store(store_id)
    model.add_regions(30, [1, 2, 3])
    model.silent.add(1)
    model.run(100)
    assert all(1 in stores for _, stores in model.replicas()), "half an hour is not over"
    model.run(200)
    assert all(stores == [2, 3, 4] for _, stores in model.replicas())


def test_replicas_stay_in_different_zones() -> None:
    model = Model()
    model.config = replace(model.config, location_labels="zone,host")
    for store_id in range(1, 10):
        model.add_store(store_id, zone=f"z{(store_id - 1) % 3}", host=f"h{store_id}")
    model.add_regions(60, [1, 4, 7])
    model.run(200)
    for region, _ in model.replicas():
        zones = {model.cluster.stores[i].label("zone") for i in region.store_ids()}
        assert len(zones) == 3, region.meta
    counts = [len(store.load.regions) for store in model.cluster.stores.values()]
    assert max(counts) - min(counts) <= 6
    assert_settled(model)
    assert model.fewest_voters == 3


def test_geo_replication_by_rules() -> None:
    """Five replicas: two near with the leader, two a little farther, one far learner."""
    model = Model()

    def in_region(name: str) -> tuple[LabelConstraint, ...]:
        return (LabelConstraint("region", LabelOp.IN, (name,)),)

    model.rules = [
        Rule("geo", "near", RuleRole.VOTER, 2, constraints=in_region("near"), location_labels=("zone",)),
        Rule("geo", "far", RuleRole.FOLLOWER, 1, constraints=in_region("far")),
        Rule("geo", "copy", RuleRole.LEARNER, 1, constraints=in_region("copy")),
    ]
    for store_id, (city, zone) in enumerate(
        [("near", "a"), ("near", "a"), ("near", "b"), ("near", "b"), ("far", "c"), ("far", "d"), ("copy", "e")], 1
    ):
        model.add_store(store_id, region=city, zone=zone)
    model.add_regions(40, [5])
    model.run(150)
    for region, stores in model.replicas():
        where = [model.cluster.stores[i].label("region") for i in stores]
        assert sorted(where, key=str) == ["copy", "far", "near", "near"]
        near = {model.cluster.stores[i].label("zone") for i in stores if i <= 4}
        assert near == {"a", "b"}
        assert region.leader_store <= 4
        assert [p.store_id for p in region.peers if p.role == PeerRole.Learner] == [7]
    assert_settled(model)


def test_small_regions_are_merged_within_limits() -> None:
    model = Model()
    model.config = replace(model.config, max_merge_region_size=20, region_max_size=100)
    for store_id in range(1, 4):
        model.add_store(store_id)
    model.add_regions(40, [1, 2, 3], size_mib=5)
    model.run(200)
    assert sum(region.size_mib for region in model.cluster.regions) == 200
    assert all(20 <= region.size_mib <= 100 for region in model.cluster.regions)
    bounds = [(region.start_key, region.end_key) for region in model.cluster.regions]
    assert bounds[0][0] == bounds[-1][1] == b""
    assert all(one[1] == two[0] for one, two in pairwise(bounds))
    assert_all_succeeded(model)


def test_regions_on_different_stores_are_brought_together_to_merge() -> None:
    model = Model(schedulers=())
    model.config = replace(model.config, max_merge_region_size=20)
    for store_id in range(1, 6):
        model.add_store(store_id)
    model.add_region(10, b"", b"m", [1, 2, 3], size_mib=2)
    model.add_region(11, b"m", b"", [3, 4, 5], size_mib=30)
    model.run(5)
    assert [(region.id, stores) for region, stores in model.replicas()] == [(11, [3, 4, 5])]
    assert_all_succeeded(model)


def test_leaders_leave_and_stay_away_from_an_evicted_store() -> None:
    model = Model()
    for store_id in range(1, 4):
        model.add_store(store_id)
    model.add_regions(30, [1, 2, 3])
    model.schedulers.add(SchedulerSpec("evict-leader", 1))
    model.run(30)
    assert not model.cluster.stores[1].load.leaders
    assert_settled(model)
    model.schedulers.remove("evict-leader-1")
    model.run(30)
    assert len(model.cluster.stores[1].load.leaders) >= 8


def test_shuffling_keeps_every_replica() -> None:
    model = Model(schedulers=("shuffle-region", "shuffle-leader"))
    for store_id in range(1, 7):
        model.add_store(store_id)
    model.add_regions(10, [1, 2, 3])
    model.run(200)
    assert all(len(set(stores)) == 3 for _, stores in model.replicas())
    assert any(stores != [1, 2, 3] for _, stores in model.replicas())
    assert_all_succeeded(model)
    assert model.fewest_voters == 3
