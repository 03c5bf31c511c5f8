"""What a placement driver has while it leads: the cluster model, timestamps, ids, safe points, and who listens to it.

Made when the member begins to lead, from the replicated state, and thrown away when it ceases to.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from kvstore.failpoint import fail_point
from kvstore.histogram import Durations
from kvstore.proto.metapb_pb2 import Cluster as ClusterMeta
from kvstore.proto.metapb_pb2 import Region, Store, StoreState
from kvstore.proto.pdpb_pb2 import ErrorType, RegionHeartbeatResponse, StoreStats
from kvstore.proto.pdraft_pb2 import PdRule
from pd import state as keys
from pd import stores
from pd.checkers import check
from pd.cluster import Cluster, StoreInfo
from pd.config import ScheduleConfig
from pd.errors import NotLeader, Refused, Undetermined
from pd.heartbeats import Outboxes
from pd.hot import HotRegions
from pd.ids import Ids
from pd.operators import Operator, OperatorController
from pd.regions import RegionInfo, StaleRegion
from pd.replica import Replica
from pd.rules import RuleSet
from pd.safe_points import SafePoints
from pd.scatter import Scatterer
from pd.schedulers import SchedulerSet
from pd.state import Change
from pd.stored import load_schedulers, rule_from_pb
from pd.timestamps import Timestamps
from pd.view import View

IDS_FOR_A_ROUND = 500
"""Peer ids that are reserved before checkers and schedulers run."""
IDS_FOR_A_REGION = 10
REGIONS_SAVED_TOGETHER = 512
"""Regions in one log entry."""

_log = logging.getLogger(__name__)


def _note_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("a change whose caller has gone was not made, or nobody knows: %s", error)


class Leadership:
    """One term of leading; every method that writes raises NotLeader or Undetermined when that ends."""

    def __init__(
        self, replica: Replica, config: ScheduleConfig, wall_ms: Callable[[], int], rng: random.Random
    ) -> None:
        state = replica.state
        self.replica = replica
        self.term = replica.term
        self._loop = asyncio.get_running_loop()
        self._began_ms = wall_ms() - int(self._loop.time() * 1000)
        self.rng = rng
        self.config = config
        for key, value in state.scan(keys.CONFIG):
            self.config = self.config.with_item(key.removeprefix(keys.CONFIG).decode(), value.decode())
        self.timestamps = Timestamps(replica, wall_ms)
        self.ids = Ids(replica)
        self.safe_points = SafePoints.load(state)
        self.cluster = Cluster(
            (Store.FromString(value) for _, value in state.scan(keys.STORES)),
            (Region.FromString(value) for _, value in state.scan(keys.REGIONS)),
            now_ms=self.now_ms(),
        )
        for key, value in state.scan(keys.STORE_WEIGHTS):
            store = self.cluster.stores[int.from_bytes(key.removeprefix(keys.STORE_WEIGHTS), "big")]
            store.leader_weight, store.region_weight = keys.unpack_weights(value)
        meta = state.get(keys.CLUSTER)
        self.meta = None if meta is None else ClusterMeta.FromString(meta)
        self._changing = asyncio.Lock()
        self.heartbeats: Counter[tuple[int, str, str]] = Counter()
        """By store, type and status; PD's words, for metrics."""
        self.heartbeat_durations = Durations(
            "pd_scheduler_handle_region_heartbeat_duration_seconds", "Taking in one region's heartbeat.", ""
        )
        self.outboxes = Outboxes()
        rules = [rule_from_pb(PdRule.FromString(value)) for _, value in state.scan(keys.RULES)]
        self.rules = RuleSet(rules, self.config)
        self.schedulers = SchedulerSet(load_schedulers(state))
        self.controller = OperatorController(lambda: self.config)
        self.hot = HotRegions()
        self.scatterer = Scatterer()
        self._suspects: dict[int, None] = {}
        """Regions that the checkers look at before they go on in order."""
        self._since_ms = self.now_ms()
        self._patrolled = b""
        """The key up to which the checkers have come."""
        self.split_at_ms: dict[int, int] = {}
        """When regions were split, the oldest first, for the merge checker: within `split_merge_interval_s`."""
        self._unsaved: dict[int, None] = {}
        """Regions that changed or went since they were last saved."""

    def close(self) -> None:
        """Ends the streams of those who listen."""
        self.outboxes.close()

    def check(self) -> None:
        """Raises NotLeader when the term is over."""
        if self.replica.term != self.term:
            raise NotLeader

    def now_ms(self) -> int:
        """The wall clock as it was when the term began, and what has passed since: silence and time limits are not
        measured by a clock that jumps."""
        return self._began_ms + int(self._loop.time() * 1000)

    @property
    def bootstrapped(self) -> bool:
        return self.meta is not None

    async def save(self, changes: list[Change]) -> None:
        """Makes the changes durable; nothing to change is no write."""
        if changes:
            await self.replica.write(changes)
            self.check()

    async def alone(self, change: Callable[[], Awaitable[None]]) -> None:
        """Runs what reads the model, saves, and takes in what it saved: one such change at a time, and to its end even
        when the caller goes away meanwhile, as half of it would leave the model behind what is stored."""

        async def locked() -> None:
            async with self._changing:
                await change()

        task = asyncio.ensure_future(locked())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_note_failure)  # there is nobody left to tell
            raise

    async def bootstrap(self, cluster_id: int, store: Store, region: Region) -> None:
        """Takes the first store and the region that holds all keys. Raises Refused when that was done before.

        This and what else saves and changes the model is run `alone`.
        """
        if self.bootstrapped:
            raise Refused("cluster is already bootstrapped", ErrorType.ALREADY_BOOTSTRAPPED)
        stores.check_bootstrap(store, region)
        meta = ClusterMeta(id=cluster_id, max_peer_count=self.config.max_replicas)
        await self.save(
            [
                Change(keys.CLUSTER, meta.SerializeToString()),
                Change(keys.store_key(store.id), store.SerializeToString()),
                Change(keys.region_key(region.id), region.SerializeToString()),
            ]
        )
        self.meta = meta
        self.cluster.put_store(store, self.now_ms())
        self.cluster.put_region(RegionInfo(region))

    def known_store(self, store_id: int) -> StoreInfo:
        """A store that is no tombstone; raises Refused."""
        return stores.known_store(self.cluster, store_id)

    async def put_store(self, told: Store) -> None:
        """A store that starts makes itself known. Raises Refused for a version, address or label that can't be."""
        await self.save_store(stores.started(self.cluster, told))

    async def save_store(self, store: Store) -> None:
        """Writes a store's new form and takes it into the model."""
        await self.save([Change(keys.store_key(store.id), store.SerializeToString())])
        self.cluster.put_store(store, self.now_ms())

    async def set_store_state(self, store_id: int, state: StoreState, *, destroyed: bool) -> None:
        """Makes a store up, offline or a tombstone (which it stays). Raises Refused when it can't be that now."""
        known = self.cluster.store(store_id)
        if known is not None and known.meta.state == state == StoreState.Tombstone:
            return
        known = self.known_store(store_id)
        await self.save_store(stores.in_state(self.cluster, known, state, destroyed=destroyed))

    async def bury_emptied(self) -> None:
        """Makes offline stores tombstones that no region is on, nor on its way to (`checkStores` of PD)."""
        for store in list(self.cluster.living_stores()):
            if not self._may_be_buried(store):
                continue
            try:
                await self.set_store_state(store.id, StoreState.Tombstone, destroyed=store.meta.physically_destroyed)
            except Refused as error:
                _log.info("store %d is not buried: %s", store.id, error)
            else:
                _log.info("store %d is empty and buried", store.id)

    def _may_be_buried(self, store: StoreInfo) -> bool:
        return (
            store.meta.state == StoreState.Offline
            and not store.load.regions
            and not self.controller.is_adding_to(store.id)
            # what a new leader has read may lack the newest peers: heartbeats tell it of all before it buries
            and self.cluster.regions_are_told()
        )

    def store_heartbeat(self, stats: StoreStats) -> StoreInfo:
        store = self.known_store(stats.store_id)
        self.cluster.store_heartbeat(stats, self.now_ms())
        return store

    def put_region(self, region: RegionInfo) -> bool:
        """Takes what a leader tells, to be saved a little later; returns whether the region is new or has other bounds
        or peers. Raises StaleRegion."""
        known = self.cluster.regions.by_id(region.id)
        gone = self.cluster.put_region(region)
        for other in gone:
            self._unsaved[other.id] = None
            self.outboxes.drop_region(other.id)
            self.hot.forget(other.id)
            self.rules.forget(other.id)
            self.split_at_ms.pop(other.id, None)
            self.controller.region_gone(other.id, self.now_ms())
        changed = known is None or known.meta != region.meta
        if changed:
            self._unsaved[region.id] = None
        return changed

    def region_heartbeat(self, region: RegionInfo) -> RegionHeartbeatResponse | None:
        """Takes a leader's heartbeat in; returns an order to it. Raises StaleRegion."""
        if fail_point("pd::region_heartbeat") is not None:
            return None  # as if it were lost
        known = self.cluster.regions.by_id(region.id)
        changed = self.put_region(region)
        self.hot.on_heartbeat(region, self.config)
        if known is None or known.version != region.version:
            self.note_split([region.id])
        if changed or not region.is_healthy():
            self._suspects[region.id] = None
        return self._order(region)

    def take_split(self, regions: Sequence[Region]) -> None:
        """Takes in what a split made. Its heartbeats come one by one: after the parent's, and before the others have
        elected their leaders, clients would find no region for some keys.

        Who leads the new ones is a guess: the store that leads the parent lets its peers campaign.
        """
        tree = self.cluster.regions
        parent = next((known for region in regions if (known := tree.by_id(region.id)) is not None), None)
        if parent is None or parent.leader is None:
            return
        # the parent first: it makes room for the others
        for region in sorted(regions, key=lambda region: region.id != parent.id):
            known = tree.by_id(region.id)
            leader = next((peer for peer in region.peers if peer.store_id == parent.leader_store), None)
            if leader is None or (known is not None and known.version >= region.region_epoch.version):
                continue
            info = RegionInfo(region, leader) if known is None else replace(known, meta=region)
            try:
                self.put_region(info)
            except StaleRegion:
                return  # told late: the heartbeats have brought something newer
            self._suspects[region.id] = None

    def check_splittable(self, region_id: int) -> None:
        """Raises Refused for a region that is being merged."""
        if self.controller.is_merging(region_id):
            raise Refused(f"region {region_id} is being merged, it cannot be split")

    def view(self) -> View:
        """The cluster as checkers and schedulers see it; peer ids come from the reserve (`Ids.ensure` first)."""
        now_ms = self.now_ms()
        return View(
            self.cluster,
            self.rules,
            self.config,
            self.controller,
            now_ms,
            self.ids.take,
            self.schedulers.no_leader_stores(now_ms),
            self.split_at_ms,
            self._since_ms,
        )

    def start_operators(self, operators: Sequence[Operator]) -> str:
        """Starts operators together and sends their first orders; returns why not, empty when they run."""
        problem = self.controller.add(operators, self.cluster, self.now_ms())
        if not problem:
            for operator in operators:
                self.push(operator.region_id)
        return problem

    def push(self, region_id: int) -> None:
        """Sends the order that is due to the region's leader, without waiting for its heartbeat."""
        region = self.cluster.regions.by_id(region_id)
        if region is None or region.leader is None:
            return
        order = self._order(region)
        if order is not None and self.outboxes.send(region.leader.store_id, order):
            self.heartbeats[region.leader.store_id, "push", "ok"] += 1

    def _order(self, region: RegionInfo) -> RegionHeartbeatResponse | None:
        """The order that is due to a region's leader."""
        order = self.controller.on_heartbeat(region, self.now_ms())
        if order is not None and fail_point("pd::dispatch_operator") is not None:
            return None  # as if it were lost
        return order

    async def patrol(self) -> None:
        """Lets the checkers look at the suspects, and at the next regions in order."""
        if not self.bootstrapped:
            return
        await self.ids.ensure(IDS_FOR_A_ROUND)
        self.controller.expire(self.now_ms())
        suspects, self._suspects = list(self._suspects), {}
        regions = [region for i in suspects if (region := self.cluster.regions.by_id(i)) is not None]
        batch = self.cluster.regions.scan(self._patrolled, limit=self.config.patrol_batch)
        self._patrolled = batch[-1].end_key if batch else b""
        view = self.view()
        for region in (*regions, *batch):
            if self.ids.left() < IDS_FOR_A_REGION:
                return
            if found := check(view, region):
                self.start_operators(found)

    async def schedule(self) -> None:
        """Lets the schedulers run once."""
        if not self.bootstrapped:
            return
        await self.ids.ensure(IDS_FOR_A_ROUND)
        for operator in self.schedulers.run(self.view(), self.rng, self.hot):
            self.start_operators([operator])

    async def push_again(self) -> None:
        """Sends the orders of all operators again, for those that got lost."""
        for region_id in list(self.controller.running):
            self.push(region_id)

    async def set_config(self, items: Iterable[tuple[str, str]]) -> None:
        """Sets scheduling values, all or none; raises Refused for one that can't be."""
        config, changes = self.config, []
        for name, text in items:
            try:
                config = config.with_item(name, text)
            except ValueError as error:
                raise Refused(str(error), ErrorType.INVALID_VALUE) from error
            changes.append(Change(keys.CONFIG + name.replace("-", "_").encode(), text.encode()))
        await self.save(changes)
        self.config = config
        self.rules = RuleSet(self.rules.own.values(), config)

    async def save_regions(self) -> None:
        """Writes the regions that changed; what a crash loses of them, the next heartbeats tell again."""
        while self._unsaved:
            some = list(self._unsaved)[:REGIONS_SAVED_TOGETHER]
            changes = [self._region_change(region_id) for region_id in some]
            for region_id in some:
                del self._unsaved[region_id]
            try:
                await self.save(changes)
            except (NotLeader, Undetermined):
                self._unsaved.update(dict.fromkeys(some))
                raise

    def _region_change(self, region_id: int) -> Change:
        region = self.cluster.regions.by_id(region_id)
        return Change(keys.region_key(region_id), None if region is None else region.meta.SerializeToString())

    def note_split(self, region_ids: Iterable[int]) -> None:
        """Keeps the merge checker away from regions that were just split, or appeared, or were merged."""
        now_ms = self.now_ms()
        for region_id in region_ids:
            self.split_at_ms.pop(region_id, None)  # so that the oldest are always first
            self.split_at_ms[region_id] = now_ms
        keep_ms = self.config.split_merge_interval_s * 1000
        past = [i for i, at_ms in takewhile(lambda noted: now_ms - noted[1] > keep_ms, self.split_at_ms.items())]
        for region_id in past:
            del self.split_at_ms[region_id]
