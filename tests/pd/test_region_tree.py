"""The region tree against a twin that keeps a list and looks at all of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch, Store
from pd.cluster import Cluster
from pd.regions import RegionInfo, RegionTree, StaleRegion

KEYS = [b""] + [bytes([97 + i]) for i in range(8)]


class Twin:
    """The same promises, kept by looking at everything."""

    def __init__(self) -> None:
        self.regions: list[RegionInfo] = []

    def overlapping(self, start: bytes, end: bytes) -> list[RegionInfo]:
        found = [r for r in self.regions if (not end or r.start_key < end) and (not r.end_key or start < r.end_key)]
        return sorted(found, key=lambda region: region.start_key)

    def put(self, new: RegionInfo) -> bool:
        old = next((r for r in self.regions if r.id == new.id), None)
        if old and (new.term < old.term or new.version < old.version or new.conf_ver < old.conf_ver):
            return False
        hit = [r for r in self.overlapping(new.start_key, new.end_key) if r.id != new.id]
        if any(new.version < r.version for r in hit):
            return False
        self.regions = [r for r in self.regions if r.id != new.id and r not in hit] + [new]
        return True


@st.composite
def regions(draw: st.DrawFn) -> RegionInfo:
    start, end = draw(st.sampled_from(KEYS)), draw(st.sampled_from(KEYS))
    if end and end <= start:
        start, end = end, start
    if start == end:
        end = b""
    stores = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True))
    peers = [Peer(id=10 + store, store_id=store) for store in stores]
    epoch = RegionEpoch(version=draw(st.integers(1, 4)), conf_ver=draw(st.integers(1, 3)))
    meta = Region(id=draw(st.integers(1, 6)), start_key=start, end_key=end, region_epoch=epoch, peers=peers)
    size, leader = draw(st.integers(0, 50)), draw(st.sampled_from([None, *peers]))
    pending = tuple(draw(st.lists(st.sampled_from(peers), max_size=2)))
    return RegionInfo(meta, leader, draw(st.integers(0, 3)), size_mib=size, pending=pending)


@given(st.lists(regions(), max_size=25))
def test_tree_agrees_with_its_twin(told: list[RegionInfo]) -> None:
    tree, twin = RegionTree(), Twin()
    for region in told:
        before = {r.id for r in twin.regions}
        taken = twin.put(region)
        try:
            gone = tree.put(region)
        except StaleRegion:
            assert not taken
        else:
            assert taken
            assert {r.id for r in gone} == before - {r.id for r in twin.regions}
    assert list(tree) == sorted(twin.regions, key=lambda region: region.start_key)
    assert len(tree) == len(twin.regions)
    for key in KEYS:
        holding = next((r for r in twin.regions if r.contains(key)), None)
        assert tree.at(key) == holding
        left = next((r for r in twin.regions if holding and key and r.end_key == holding.start_key != b""), None)
        assert tree.before(key) == (left if key else None)
        for end in KEYS:
            if not end or key < end:
                assert tree.scan(key, end) == twin.overlapping(key, end)
                assert tree.scan(key, end, 2) == twin.overlapping(key, end)[:2]
    for region in twin.regions:
        assert tree.by_id(region.id) == region


@given(st.lists(regions(), max_size=25))
def test_loads_are_those_of_the_regions(told: list[RegionInfo]) -> None:
    cluster = Cluster()
    for store_id in range(1, 5):
        cluster.put_store(Store(id=store_id), 0)
    for region in told:
        try:
            cluster.put_region(region)
        except StaleRegion:
            continue
    for store in cluster.stores.values():
        mine = [r for r in cluster.regions if r.peer_on(store.id) is not None]
        led = [r for r in mine if r.leader_store == store.id]
        assert sorted(store.load.regions) == sorted(r.id for r in mine)
        assert sorted(store.load.leaders) == sorted(r.id for r in led)
        assert store.load.region_size == sum(max(1, r.size_mib) for r in mine)
        assert store.load.leader_size == sum(max(1, r.size_mib) for r in led)
        assert store.load.pending == sum(1 for r in mine for p in r.pending if p.store_id == store.id)
