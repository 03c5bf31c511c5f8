"""What the service measures, read when somebody asks; names are TiKV's where it has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from kvstore.server.service import Service


class ServiceMetrics(Collector):
    """The service's counters and state as metrics; costs nothing in between."""

    def __init__(self, registry: CollectorRegistry, service: Service) -> None:
        self._service = service
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        service = self._service
        commands = CounterMetricFamily(
            "tikv_storage_command", "Requests by call, those in BatchCommands too.", labels=("type",)
        )
        for name, count in sorted(service.counts.items()):
            commands.add_metric((name,), count)
        yield commands
        yield GaugeMetricFamily(
            "sqlfront_service_requests_in_flight", "Requests that wait for something.", service.in_flight
        )
        yield CounterMetricFamily(
            "sqlfront_service_busy", "Requests refused because too many were in flight.", service.refused_busy
        )
        scheduler = service.scheduler
        yield GaugeMetricFamily("tikv_scheduler_contex_total", "Commands that hold latches.", scheduler.running)
        yield CounterMetricFamily(
            "sqlfront_scheduler_latch_waits", "Commands that had to wait for a latch.", scheduler.latch_waits
        )
        yield GaugeMetricFamily(
            "tikv_concurrency_manager_max_ts", "The newest timestamp read here.", service.concurrency.max_ts
        )
        yield from scheduler.durations.collect()
        memory = service.memory_locks
        locking = CounterMetricFamily(
            "tikv_in_memory_pessimistic_locking",
            "Locks kept in memory, and those there was no room for.",
            labels=("result",),
        )
        locking.add_metric(("success",), memory.taken)
        locking.add_metric(("full",), memory.refused)
        yield locking
        yield GaugeMetricFamily(
            "sqlfront_memory_lock_bytes", "What pessimistic locks in memory take, about.", memory.bytes
        )
        yield from self._waits()

    def _waits(self) -> Iterable[Metric]:
        waits = self._service.waits
        yield GaugeMetricFamily("sqlfront_lock_manager_waiters", "Lock requests that wait.", waits.count)
        tasks = CounterMetricFamily(
            "tikv_lock_manager_task_counter", "What the lock manager had to do.", labels=("type",)
        )
        for name, count in (("wait_for", waits.waited), ("wake_up", waits.woken), ("timeout", waits.timed_out)):
            tasks.add_metric((name,), count)
        yield tasks
        errors = CounterMetricFamily("tikv_lock_manager_error_counter", "Deadlocks found.", labels=("type",))
        errors.add_metric(("deadlock",), waits.deadlocks)
        yield errors
        detects = GaugeMetricFamily("tikv_lock_manager_detector_leader", "1 while this store detects for all.")
        detects.add_metric((), int(self._service.detector.is_leader))
        yield detects
