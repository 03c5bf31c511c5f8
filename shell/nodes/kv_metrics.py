"""What a store's process measures beside what the region store and the service count, read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coprocessor.serving import ReplicaServing, Serving
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


class CoprocessorMetrics(Collector):
    """Push-down requests; names are TiKV's where it has them."""

    def __init__(self, registry: CollectorRegistry, serving: Serving) -> None:
        self._serving = serving
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        serving = self._serving
        yield from serving.durations.collect()
        yield from serving.waits.collect()
        errors = CounterMetricFamily(
            "tikv_coprocessor_request_error", "Coprocessor requests answered with an error.", labels=("reason",)
        )
        for reason, count in sorted(serving.errors.items()):
            errors.add_metric((reason,), count)
        yield errors
        yield CounterMetricFamily(
            "tikv_coprocessor_response_bytes", "Bytes of the coprocessor's answers.", serving.response_bytes
        )
        yield CounterMetricFamily(
            "sqlfront_coprocessor_scanned_keys", "Keys that coprocessor requests read.", serving.scanned_keys
        )
        yield CounterMetricFamily(
            "sqlfront_coprocessor_cache_hits", "Answers that the client had already.", serving.cache_hits
        )
        kept = [columns.stats() for columns in serving.columns]
        yield GaugeMetricFamily(
            "sqlfront_coprocessor_columns_bytes", "Decoded columns that are kept.", sum(one["bytes"] for one in kept)
        )
        segments = CounterMetricFamily(
            "sqlfront_coprocessor_column_segments", "Segments of kept columns, by how they were made.", labels=("by",)
        )
        for by, name in (("scan", "builds"), ("patch", "patches")):
            segments.add_metric((by,), sum(one[name] for one in kept))
        yield segments
        yield GaugeMetricFamily(
            "sqlfront_coprocessor_requests_in_flight", "Coprocessor requests evaluated or waiting.", serving.pending
        )


class ReplicaMetrics(Collector):
    """The columnar replica of a store."""

    def __init__(self, registry: CollectorRegistry, serving: ReplicaServing) -> None:
        self._serving = serving
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        serving, tables = self._serving, self._serving.replica.tables
        yield CounterMetricFamily(
            "sqlfront_columnar_requests_answered", "Batch requests that the replica answered.", serving.answered
        )
        yield CounterMetricFamily(
            "sqlfront_columnar_requests_refused", "Batch requests left to the rows.", serving.refused
        )
        yield GaugeMetricFamily(
            "sqlfront_columnar_requests_in_flight", "Batch requests evaluated or waiting.", serving.pending
        )
        yield GaugeMetricFamily("sqlfront_columnar_tables", "Tables that the replica holds rows of.", len(tables))
        yield GaugeMetricFamily(
            "sqlfront_columnar_pending_keys",
            "Keys whose newest rows are not in the replica yet.",
            sum(table.pending for table in tables),
        )
