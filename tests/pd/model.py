"""A cluster whose stores do at once what they are told: the pure core without service, Raft or time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator

from kvstore.proto.eraftpb_pb2 import ConfChangeType
from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region, RegionEpoch, Store, StoreLabel, StoreState
from kvstore.proto.pdpb_pb2 import ChangePeer, PeerStats, RegionHeartbeatResponse, StoreStats
from pd.checkers import check
from pd.cluster import Cluster
from pd.config import ScheduleConfig
from pd.hot import HotRegions
from pd.operators import OperatorController
from pd.regions import VOTING_ROLES, RegionInfo
from pd.rules import Rule, RuleSet
from pd.schedulers import SchedulerSet, SchedulerSpec
from pd.view import View

GIB = 1 << 30
HEARTBEAT_MS = 10_000


class Model:
    """The placement driver's core, and stores and regions that are a mirror of what it orders."""

    def __init__(self, *, seed: int = 1, schedulers: Iterable[str] = ("balance-leader", "balance-region")) -> None:
        self.rng = random.Random(seed)
        self.now_ms = 1_000_000
        self.config = ScheduleConfig(max_merge_region_size=0)
        self.rules: list[Rule] = []
        self.cluster = Cluster()
        self.controller = OperatorController(lambda: self.config)
        self.schedulers = SchedulerSet(SchedulerSpec(kind) for kind in schedulers)
        self.hot = HotRegions()
        self.split_at_ms: dict[int, int] = {}
        self.silent: set[int] = set()
        """Stores that are gone without a word."""
        self.fewest_voters = 1 << 30
        """Of any region after anything that was ordered."""
        self._rules_made: tuple[tuple[tuple[Rule, ...], ScheduleConfig], RuleSet] | None = None
        self._ids = itertools.count(1000)

    def view(self) -> View:
        return View(
            self.cluster,
            self._rule_set(),
            self.config,
            self.controller,
            self.now_ms,
            lambda: next(self._ids),
            self.schedulers.no_leader_stores(self.now_ms),
            self.split_at_ms,
        )

    def _rule_set(self) -> RuleSet:
        made_from = (tuple(self.rules), self.config)
        if self._rules_made is None or self._rules_made[0] != made_from:
            self._rules_made = (made_from, RuleSet(self.rules, self.config))
        return self._rules_made[1]

    def add_store(self, store_id: int, state: StoreState = StoreState.Up, **labels: str) -> None:
        meta = Store(
            id=store_id,
            address=f"store{store_id}",
            state=state,
            labels=[StoreLabel(key=key, value=value) for key, value in labels.items()],
        )
        self.cluster.put_store(meta, self.now_ms)

    def set_state(self, store_id: int, state: StoreState) -> None:
        meta = Store()
        meta.CopyFrom(self.cluster.stores[store_id].meta)
        meta.state = state
        self.cluster.put_store(meta, self.now_ms)

    def add_region(self, region_id: int, start: bytes, end: bytes, stores: Iterable[int], size_mib: int = 10) -> None:
        """The first store leads."""
        peers = [Peer(id=next(self._ids), store_id=store_id) for store_id in stores]
        meta = Region(
            id=region_id,
            start_key=start,
            end_key=end,
            region_epoch=RegionEpoch(version=1, conf_ver=1),
            peers=peers,
        )
        self.cluster.put_region(RegionInfo(meta, peers[0], term=1, size_mib=size_mib, keys=size_mib * 1000))

    def add_regions(self, count: int, stores: Iterable[int], size_mib: int = 10) -> None:
        """Regions that tile the key space, all on the same stores."""
        stores = list(stores)
        bounds = [b"", *(b"%06d" % i for i in range(1, count)), b""]
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            self.add_region(10 + number, start, end, stores, size_mib)

    def run(self, rounds: int) -> None:
        """Heartbeats, checkers and schedulers, and everything ordered is done."""
        for _ in range(rounds):
            self.now_ms += HEARTBEAT_MS
            for store in self.cluster.living_stores():
                if store.id not in self.silent:
                    stats = StoreStats(store_id=store.id, capacity=GIB << 10, available=GIB << 10)
                    self.cluster.store_heartbeat(stats, self.now_ms)
            for region in list(self.cluster.regions):
                if self.cluster.regions.by_id(region.id) is not None:
                    self._heartbeat(region.id)
            for region in list(self.cluster.regions):
                if operators := check(self.view(), region):
                    self.controller.add(operators, self.cluster, self.now_ms)
            for operator in self.schedulers.run(self.view(), self.rng, self.hot):
                self.controller.add([operator], self.cluster, self.now_ms)
            for region_id in list(self.controller.running):
                self._heartbeat(region_id)
            self.controller.expire(self.now_ms)

    def _heartbeat(self, region_id: int) -> None:
        """Reports the region until nothing is ordered any more."""
        region = self.cluster.regions.by_id(region_id)
        assert region is not None
        if region.leader_store in self.silent:
            region = self._elect(region)
        for _ in range(20):
            order = self.controller.on_heartbeat(region, self.now_ms)
            if order is None:
                return
            region = self._do(region, order)
            self._put(region)
        raise AssertionError(f"region {region_id} is ordered about without end")

    def _elect(self, region: RegionInfo) -> RegionInfo:
        peer = next(peer for peer in region.voters() if peer.store_id not in self.silent)
        down = [
            PeerStats(peer=p, down_seconds=(self.now_ms - self.cluster.stores[p.store_id].last_heartbeat_ms) // 1000)
            for p in region.peers
            if p.store_id in self.silent
        ]
        region = RegionInfo(region.meta, peer, region.term + 1, tuple(down), (), region.size_mib, region.keys)
        self._put(region)
        return region

    def _put(self, region: RegionInfo) -> None:
        for gone in self.cluster.put_region(region):
            self.controller.region_gone(gone.id, self.now_ms)

    def _do(self, region: RegionInfo, order: RegionHeartbeatResponse) -> RegionInfo:
        meta, leader = Region(), region.leader
        meta.CopyFrom(region.meta)
        assert leader is not None
        assert order.region_epoch == region.meta.region_epoch
        assert order.target_peer == leader
        if order.HasField("transfer_leader"):
            leader = order.transfer_leader.peer
            assert leader.store_id not in self.silent
        elif order.HasField("change_peer"):
            change_peer(meta, order.change_peer)
            meta.region_epoch.conf_ver += 1
        elif order.HasField("change_peer_v2"):
            change_jointly(meta, list(order.change_peer_v2.changes))
        elif order.HasField("merge"):
            return self._merge(region, order.merge.target)
        self.fewest_voters = min(self.fewest_voters, sum(peer.role in VOTING_ROLES for peer in meta.peers))
        down = tuple(stats for stats in region.down if any(p.id == stats.peer.id for p in meta.peers))
        leader = next(peer for peer in meta.peers if peer.id == leader.id)
        return RegionInfo(meta, leader, region.term, down, (), region.size_mib, region.keys)

    def _merge(self, source: RegionInfo, told: Region) -> RegionInfo:
        target = self.cluster.regions.by_id(told.id)
        assert target is not None
        assert {p.store_id for p in target.peers} == {p.store_id for p in source.peers}
        meta = Region()
        meta.CopyFrom(target.meta)
        if target.start_key == source.end_key and source.end_key:
            meta.start_key = source.start_key
        else:
            assert target.end_key == source.start_key
            meta.end_key = source.end_key
        meta.region_epoch.version = max(target.version, source.version) + 1
        size = source.size_mib + target.size_mib
        return RegionInfo(meta, target.leader, target.term, (), (), size, source.keys + target.keys)

    def replicas(self) -> Iterator[tuple[RegionInfo, list[int]]]:
        """Every region with its stores, ascending."""
        for region in self.cluster.regions:
            yield region, sorted(region.store_ids())


def change_peer(meta: Region, change: ChangePeer) -> None:
    """A simple change of one peer."""
    found = next((peer for peer in meta.peers if peer.store_id == change.peer.store_id), None)
    if change.change_type == ConfChangeType.RemoveNode:
        assert found is not None
        meta.peers.remove(found)
        return
    role = PeerRole.Voter if change.change_type == ConfChangeType.AddNode else PeerRole.Learner
    if found is None:
        meta.peers.add(id=change.peer.id, store_id=change.peer.store_id, role=role)
    else:
        assert found.id == change.peer.id
        found.role = role


def change_jointly(meta: Region, changes: list[ChangePeer]) -> None:
    """Enters a joint configuration, or leaves it with no changes; conf_ver grows by the peers changed."""
    if not changes:
        for peer in meta.peers:
            if peer.role in (PeerRole.IncomingVoter, PeerRole.DemotingVoter):
                peer.role = PeerRole.Voter if peer.role == PeerRole.IncomingVoter else PeerRole.Learner
                meta.region_epoch.conf_ver += 1
        return
    for change in changes:
        peer = next(peer for peer in meta.peers if peer.id == change.peer.id)
        up = change.change_type == ConfChangeType.AddNode
        peer.role = PeerRole.IncomingVoter if up else PeerRole.DemotingVoter
        meta.region_epoch.conf_ver += 1
