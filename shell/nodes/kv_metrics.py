"""What a store's process measures of its regions, read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvstore.raftstore.store import RaftStore


class StoreMetrics(Collector):
    """The state of a region store as gauges; costs nothing in between."""

    def __init__(self, registry: CollectorRegistry, store: RaftStore, free_bytes: Callable[[], int]) -> None:
        self._store = store
        self._free_bytes = free_bytes
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        yield from self._regions()
        yield from self._space()
        snapshots = GaugeMetricFamily("tikv_raftstore_snapshot_traffic_total", "Snapshots under way.", labels=("type",))
        snapshots.add_metric(("sending",), self._store.snapshots.sending)
        snapshots.add_metric(("receiving",), self._store.snapshots.receiving)
        yield snapshots
        yield CounterMetricFamily(
            "sqlfront_raftstore_rounds", "Rounds of the store's loop: one write and one sync each.", self._store.rounds
        )

    def _regions(self) -> Iterable[Metric]:
        peers = list(self._store.peers.values())
        count = GaugeMetricFamily(
            "tikv_raftstore_region_count", "Regions with a peer here, and those that are led here.", labels=("type",)
        )
        count.add_metric(("region",), len(peers))
        count.add_metric(("leader",), sum(peer.is_leader for peer in peers))
        yield count
        asleep = sum(peer.asleep for peer in peers)
        states = GaugeMetricFamily(
            "tikv_raftstore_hibernated_peer_state", "Peers whose group ticks, and those that sleep.", labels=("state",)
        )
        states.add_metric(("awaken",), len(peers) - asleep)
        states.add_metric(("hibernated",), asleep)
        yield states
        missing = sum(peer.leader() is None for peer in peers)
        yield GaugeMetricFamily("tikv_raftstore_leader_missing", "Peers that know of no leader.", missing)
        lag = sum(peer.raft.commit - peer.raft.applied for peer in peers)
        yield GaugeMetricFamily("sqlfront_raftstore_apply_lag_entries", "Log entries committed and not applied.", lag)

    def _space(self) -> Iterable[Metric]:
        free = self._free_bytes()
        used = sum(peer.flow.size for peer in self._store.peers.values())
        size = GaugeMetricFamily(
            "tikv_store_size_bytes", "Size of the store, estimated, and its disk's free space.", labels=("type",)
        )
        for type, number in (("capacity", free + used), ("available", free), ("used", used)):
            size.add_metric((type,), number)
        yield size
        full = int(self._store.disk_full)
        yield GaugeMetricFamily("sqlfront_store_disk_full", "1 while writes are refused for want of space.", full)
