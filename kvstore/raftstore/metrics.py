"""What a store counts, and how Prometheus sees it: TiKV's metric names where they exist.

Counting is adding to a plain number; the metrics are made when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvstore.histogram import Durations

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore


@dataclass(slots=True)
class Counters:
    """Of one store since it started."""

    rounds: int = 0
    syncs: int = 0
    sync_s: float = 0.0
    readies: int = 0
    entries_appended: int = 0
    entries_applied: int = 0
    apply_batches: int = 0
    writes: int = 0
    write_entries: int = 0
    lease_reads: int = 0
    read_indexes: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    messages_dropped: int = 0
    snapshots_made: int = 0
    snapshots_sent: int = 0
    snapshots_received: int = 0
    snapshots_applied: int = 0
    ingests: int = 0
    ingested_bytes: int = 0
    admin: dict[str, int] = field(default_factory=dict)
    """Changes of regions that were applied, by the command's name."""
    append_log: Durations = field(
        default_factory=lambda: Durations(
            "tikv_raftstore_append_log_duration_seconds", "A round's log entries, written and synced.", ""
        )
    )
    commit_log: Durations = field(
        default_factory=lambda: Durations(
            "tikv_raftstore_commit_log_duration_seconds", "From the proposal of an entry until it is committed.", ""
        )
    )
    apply_log: Durations = field(
        default_factory=lambda: Durations(
            "tikv_raftstore_apply_log_duration_seconds", "A batch of committed entries, applied and written.", ""
        )
    )


class StoreCollector(Collector):
    """The metrics of one store. `register` puts it where the status port looks."""

    def __init__(self, store: RaftStore) -> None:
        self._store = store

    def register(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        store, counters = self._store, self._store.counters
        regions = GaugeMetricFamily("tikv_raftstore_region_count", "Regions of this store.", labels=["type"])
        regions.add_metric(["region"], len(store.tree))
        regions.add_metric(["leader"], sum(peer.is_leader for peer in store.peers.values()))
        yield regions
        peers = GaugeMetricFamily(
            "tikv_raftstore_hibernated_peer_state", "Peers by whether they tick.", labels=["state"]
        )
        peers.add_metric(["awaken"], len(store.awake))
        peers.add_metric(["hibernated"], len(store.peers) - len(store.awake))
        yield peers
        proposals = CounterMetricFamily("tikv_raftstore_proposal", "What was asked of leaders.", labels=["type"])
        proposals.add_metric(["normal"], counters.write_entries)
        proposals.add_metric(["local_read"], counters.lease_reads)
        proposals.add_metric(["read_index"], counters.read_indexes)
        yield proposals
        admin = CounterMetricFamily("tikv_raftstore_admin_cmd", "Region changes applied.", labels=["type"])
        for name, count in sorted(counters.admin.items()):
            admin.add_metric([name], count)
        yield admin
        snapshots = GaugeMetricFamily("tikv_raftstore_snapshot_traffic_total", "Snapshots under way.", labels=["type"])
        snapshots.add_metric(["sending"], store.snapshots.sending)
        snapshots.add_metric(["receiving"], store.snapshots.receiving)
        snapshots.add_metric(["applying"], sum(peer.applying is not None for peer in store.peers.values()))
        yield snapshots
        yield GaugeMetricFamily("raftstore_queued_bytes", "Writes that wait or are under way.", store.queued_bytes)
        yield GaugeMetricFamily("raftstore_disk_full", "1 while writes are refused.", int(store.disk_full))
        yield GaugeMetricFamily("raftstore_import_bytes", "Files that wait to be ingested.", store.imports.bytes)
        for durations in (counters.append_log, counters.commit_log, counters.apply_log):
            yield from durations.collect()
        yield from self._totals()

    def _totals(self) -> Iterator[Metric]:
        counters = self._store.counters
        for name, text, value in (
            ("tikv_raftstore_raft_ready_handled", "Readies of peers.", counters.readies),
            ("tikv_raftstore_raft_sent_message", "Raft messages to other stores.", counters.messages_sent),
            ("tikv_server_raft_message_recv", "Raft messages of other stores.", counters.messages_received),
            ("tikv_raftstore_raft_dropped_message", "Messages that found a full inbox.", counters.messages_dropped),
            ("raftstore_rounds", "Turns of the loop.", counters.rounds),
            ("raftstore_syncs", "Syncs of the engine's log.", counters.syncs),
            ("raftstore_sync_seconds", "Time spent waiting for them.", counters.sync_s),
            ("raftstore_writes", "Writes of clients that were proposed.", counters.writes),
            ("raftstore_entries_appended", "Log entries written.", counters.entries_appended),
            ("raftstore_entries_applied", "Log entries applied.", counters.entries_applied),
            ("raftstore_apply_batches", "Batches they were applied in.", counters.apply_batches),
            ("raftstore_snapshots_made", "Snapshots measured for a follower.", counters.snapshots_made),
            ("raftstore_snapshots_sent", "Snapshots delivered.", counters.snapshots_sent),
            ("raftstore_snapshots_received", "Snapshots staged.", counters.snapshots_received),
            ("raftstore_snapshots_applied", "Snapshots applied.", counters.snapshots_applied),
            ("raftstore_ingests", "Entries that took sorted files over.", counters.ingests),
            ("raftstore_ingested_bytes", "Bytes of the pairs in those files.", counters.ingested_bytes),
        ):
            yield CounterMetricFamily(name, text, value)
