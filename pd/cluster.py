"""The cluster as the leading placement driver knows it: stores with their state and load, regions with their leaders.

Pure: heartbeats come in as messages with the time they came at; nothing here waits, logs or is saved. Checkers and
schedulers read it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from kvstore.proto.metapb_pb2 import Region, Store, StoreState
from kvstore.proto.pdpb_pb2 import RegionHeartbeatRequest, StoreStats
from pd.config import ScheduleConfig
from pd.regions import RegionInfo, RegionTree

MIB = 1 << 20
ENGINE_LABEL = "engine"
_OFFLINE, _TOMBSTONE = StoreState.Offline, StoreState.Tombstone


class Health(enum.Enum):
    """What a store is good for just now."""

    UP = "Up"
    DISCONNECTED = "Disconnected"
    DOWN = "Down"
    OFFLINE = "Offline"
    TOMBSTONE = "Tombstone"


@dataclass(slots=True)
class Load:
    """What is on a store, by the regions known."""

    regions: dict[int, None] = field(default_factory=dict)
    leaders: dict[int, None] = field(default_factory=dict)
    region_size: int = 0
    """MiB; a region counts at least 1."""
    leader_size: int = 0
    pending: int = 0


@dataclass(slots=True)
class StoreInfo:
    """One store."""

    meta: Store
    last_heartbeat_ms: int
    """When it was last heard of, or when this placement driver began to lead."""
    stats: StoreStats | None = None
    leader_weight: float = 1.0
    region_weight: float = 1.0
    load: Load = field(default_factory=Load)
    _labels_of: Store | None = None
    _labels: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> int:
        return self.meta.id

    def label(self, key: str) -> str | None:
        """A label's value; case does not count in keys."""
        if self._labels_of is not self.meta:
            self._labels = {label.key.lower(): label.value for label in self.meta.labels}
            self._labels_of = self.meta
        return self._labels.get(key.lower())

    def labels(self) -> dict[str, str]:
        return {label.key: label.value for label in self.meta.labels}

    def health(self, now_ms: int, config: ScheduleConfig) -> Health:
        if self.meta.state == _TOMBSTONE:
            return Health.TOMBSTONE
        silent_ms = now_ms - self.last_heartbeat_ms
        if silent_ms > config.max_store_down_time_s * 1000:
            return Health.DOWN
        if self.meta.state == _OFFLINE:
            return Health.OFFLINE
        return Health.DISCONNECTED if silent_ms > config.max_store_disconnected_s * 1000 else Health.UP

    def used_ratio(self) -> float:
        """Of the disk, 0 when the store has not told."""
        if self.stats is None or not self.stats.capacity:
            return 0.0
        return 1.0 - self.stats.available / self.stats.capacity

    def is_busy(self) -> bool:
        return self.stats is not None and self.stats.is_busy

    def snapshots(self) -> int:
        """Being sent, taken and applied."""
        if self.stats is None:
            return 0
        return max(self.stats.sending_snap_count, self.stats.receiving_snap_count, self.stats.applying_snap_count)


def region_from_heartbeat(request: RegionHeartbeatRequest) -> RegionInfo:
    """What a leader tells of its region; flows become rates by the interval told."""
    seconds = max(1, request.interval.end_timestamp - request.interval.start_timestamp)
    size = request.approximate_size
    return RegionInfo(
        request.region,
        request.leader if request.HasField("leader") else None,
        request.term,
        tuple(request.down_peers),
        tuple(request.pending_peers),
        -(-size // MIB),
        request.approximate_keys,
        request.bytes_written / seconds,
        request.bytes_read / seconds,
    )


class Cluster:
    """Stores by id and the region tree, and what of the regions is on which store."""

    def __init__(self, stores: Iterable[Store] = (), regions: Iterable[Region] = (), *, now_ms: int = 0) -> None:
        self.stores: dict[int, StoreInfo] = {}
        self.stores_changed = 0
        """Counts the changes of stores' metas: what depends on labels is made anew then."""
        self.regions = RegionTree()
        for store in stores:
            self.put_store(store, now_ms)
        for region in regions:
            self.put_region(RegionInfo(region))

    def put_store(self, meta: Store, now_ms: int) -> StoreInfo:
        """Adds or changes a store; what is known of a store stays."""
        store = self.stores.get(meta.id)
        if store is None:
            store = StoreInfo(meta, now_ms)
            self.stores[meta.id] = store
            self.stores = dict(sorted(self.stores.items()))
        store.meta = meta
        self.stores_changed += 1
        return store

    def store_heartbeat(self, stats: StoreStats, now_ms: int) -> None:
        store = self.stores[stats.store_id]
        store.stats = stats
        store.last_heartbeat_ms = now_ms

    def put_region(self, region: RegionInfo) -> list[RegionInfo]:
        """Takes a region in; returns the other regions that it replaced. Raises StaleRegion."""
        known = self.regions.by_id(region.id)
        if known is not None and known.meta == region.meta:
            region = replace(region, meta=known.meta)  # one message for as long as nothing changes
        gone = self.regions.put(region)
        for other in gone:
            self._count(other, -1)
        if known is not None:
            self._count(known, -1)
        self._count(region, 1)
        return gone

    def _count(self, region: RegionInfo, sign: int) -> None:
        size = max(1, region.size_mib) * sign
        for peer in region.peers:
            load = self._load(peer.store_id)
            if load is None:
                continue
            load.region_size += size
            _mark(load.regions, region.id, sign)
            if region.leader is not None and peer.id == region.leader.id:
                load.leader_size += size
                _mark(load.leaders, region.id, sign)
        for peer in region.pending:
            load = self._load(peer.store_id)
            if load is not None:
                load.pending += sign

    def _load(self, store_id: int) -> Load | None:
        store = self.stores.get(store_id)
        return None if store is None else store.load

    def living_stores(self) -> Iterator[StoreInfo]:
        """All that are not tombstones, by id."""
        return (store for store in self.stores.values() if store.meta.state != _TOMBSTONE)

    def store(self, store_id: int) -> StoreInfo | None:
        return self.stores.get(store_id)

    def regions_are_told(self) -> bool:
        """Whether leaders have told of all regions: every key is in one, and each is known to be led."""
        end: bytes | None = b""
        for region in self.regions:
            if region.leader is None or region.start_key != end:
                return False
            end = region.end_key or None
        return end is None

    def average_region_size(self) -> float:
        """MiB, at least 1."""
        if not len(self.regions):
            return 1.0
        return max(1.0, sum(max(1, region.size_mib) for region in self.regions) / len(self.regions))


def _mark(ids: dict[int, None], region_id: int, sign: int) -> None:
    if sign > 0:
        ids[region_id] = None
    else:
        ids.pop(region_id, None)
