"""What a placement driver's process measures of the cluster while it leads, read when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pd.cluster import Health
from pd.leadership import Leadership
from pd.node import PdNode

_HEALTH = {
    Health.UP: "store_up_count",
    Health.DISCONNECTED: "store_disconnected_count",
    Health.DOWN: "store_down_count",
    Health.OFFLINE: "store_offline_count",
    Health.TOMBSTONE: "store_tombstone_count",
}


class ClusterMetrics(Collector):
    """The cluster as gauges with PD's names; only whether it leads on a member that doesn't."""

    def __init__(self, registry: CollectorRegistry, node: PdNode) -> None:
        self._node = node
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        lead = self._node.leadership
        yield GaugeMetricFamily("sqlfront_pd_leads", "1 on the leading member.", int(lead is not None))
        yield GaugeMetricFamily(
            "sqlfront_pd_term", "The term in which this member leads, or 0.", self._node.replica.term
        )
        if lead is not None:
            yield from _stores(lead)
            yield from _regions(lead)
            yield from _operators(lead)
            yield from _heartbeats(lead)


def _stores(lead: Leadership) -> Iterable[Metric]:
    now_ms, stores = lead.now_ms(), list(lead.cluster.stores.values())
    health = Counter(store.health(now_ms, lead.config) for store in stores)
    known = [store.stats for store in stores if store.stats is not None]
    status = GaugeMetricFamily("pd_cluster_status", "The cluster: stores by state, regions, space.", labels=("type",))
    for state, type in _HEALTH.items():
        status.add_metric((type,), health[state])
    status.add_metric(("region_count",), len(lead.cluster.regions))
    status.add_metric(("leader_count",), sum(len(store.load.leaders) for store in stores))
    status.add_metric(("storage_capacity",), sum(stats.capacity for stats in known))
    status.add_metric(("storage_size",), sum(stats.used_size for stats in known))
    yield status
    each = GaugeMetricFamily("pd_scheduler_store_status", "What each store holds.", labels=("address", "store", "type"))
    for store in stores:
        of = (store.meta.address, str(store.id))
        each.add_metric((*of, "leader_count"), len(store.load.leaders))
        each.add_metric((*of, "region_count"), len(store.load.regions))
        if store.stats is not None:
            each.add_metric((*of, "store_capacity"), store.stats.capacity)
            each.add_metric((*of, "store_available"), store.stats.available)
    yield each


def _regions(lead: Leadership) -> Iterable[Metric]:
    regions = list(lead.cluster.regions)
    status = GaugeMetricFamily("pd_regions_status", "Regions that lack something.", labels=("type",))
    wanted = lead.config.max_replicas
    status.add_metric(("miss-peer-region-count",), sum(len(one.voters()) < wanted for one in regions))
    status.add_metric(("extra-peer-region-count",), sum(len(one.peers) > wanted for one in regions))
    status.add_metric(("down-peer-region-count",), sum(bool(one.down) for one in regions))
    status.add_metric(("pending-peer-region-count",), sum(bool(one.pending) for one in regions))
    status.add_metric(("no-leader-region-count",), sum(one.leader is None for one in regions))
    yield status


def _operators(lead: Leadership) -> Iterable[Metric]:
    running = GaugeMetricFamily("sqlfront_pd_operators_running", "Operators under way.", labels=("type",))
    for type, count in sorted(Counter(one.description for one in lead.controller.running.values()).items()):
        running.add_metric((type,), count)
    yield running
    counts = GaugeMetricFamily(
        "pd_schedule_operators_count",
        "Operators by what happened to them since this member leads.",
        labels=("type", "event"),
    )
    for of, count in sorted(lead.controller.counts.items()):
        counts.add_metric(of, count)
    yield counts
    yield from lead.controller.durations.collect()


def _heartbeats(lead: Leadership) -> Iterable[Metric]:
    told = GaugeMetricFamily(
        "pd_scheduler_region_heartbeat",
        "Heartbeats of regions, and orders that went back, since this member leads.",
        labels=("address", "store", "type", "status"),
    )
    for (store_id, type, status), count in sorted(lead.heartbeats.items()):
        store = lead.cluster.store(store_id)
        told.add_metric((store.meta.address if store is not None else "", str(store_id), type, status), count)
    yield told
    yield from lead.heartbeat_durations.collect()
    yield from lead.timestamps.durations.collect()
