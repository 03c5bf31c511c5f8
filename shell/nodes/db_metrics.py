"""What a SQL server's process measures, read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sqlfront.catalog.lease import SchemaLease
from sqlfront.database import Database


class ServerMetrics(Collector):
    """Sessions, and how this server stands with the schema; costs nothing in between."""

    def __init__(self, registry: CollectorRegistry, database: Database, lease: SchemaLease) -> None:
        self._database = database
        self._lease = lease
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("tidb_server_connections", "Sessions of this server.", len(self._database.sessions))
        yield GaugeMetricFamily(
            "sqlfront_schema_version", "The schema version that this server works by.", self._lease.version
        )
        yield GaugeMetricFamily(
            "sqlfront_schema_lease_seconds", "What is left of the schema lease; 0 without one.", self._lease.left_s
        )
