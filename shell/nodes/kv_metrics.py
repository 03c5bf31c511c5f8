"""What a store's process measures beside what the region store and the service count, read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvstore.raftstore.store import RaftStore


class StoreMetrics(Collector):
    """Space, and peers that lag or have lost their leader; costs nothing in between."""

    def __init__(self, registry: CollectorRegistry, store: RaftStore, free_bytes: Callable[[], int]) -> None:
        self._store = store
        self._free_bytes = free_bytes
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        peers = list(self._store.peers.values())
        missing = sum(peer.leader() is None for peer in peers)
        yield GaugeMetricFamily("tikv_raftstore_leader_missing", "Peers that know of no leader.", missing)
        lag = sum(peer.raft.commit - peer.raft.applied for peer in peers)
        yield GaugeMetricFamily("sqlfront_raftstore_apply_lag_entries", "Log entries committed and not applied.", lag)
        free, used = self._free_bytes(), sum(peer.flow.size for peer in peers)
        size = GaugeMetricFamily(
            "tikv_store_size_bytes", "Size of the store, estimated, and its disk's free space.", labels=("type",)
        )
        for type, number in (("capacity", free + used), ("available", free), ("used", used)):
            size.add_metric((type,), number)
        yield size
