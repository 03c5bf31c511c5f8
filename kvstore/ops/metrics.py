"""What every process measures, and the pattern by which components add their own.

A component declares its metrics in a class in a `metrics.py` next to the code that counts, takes the registry as a
parameter, and is handed one by the composition root: `RaftstoreMetrics(registry)`; tests and the simulator give each
node a registry of its own, so that nothing is shared. Names are TiKV's and PD's where they have one
(`tikv_raftstore_*`, `tikv_scheduler_*`, `pd_schedule_*`), and `sqlfront_*` elsewhere. Label values come from a fixed
set: never a key, an address of a client, or a region. On hot paths the child of a label is looked up once
(`histogram.labels("kv_get").observe`), not a request.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from kvstore.histogram import Durations, exponential_buckets
from kvstore.rpc.api import Call, Handlers, Method, StreamHandler, UnaryHandler

LAG_INTERVAL_S = 0.25
"""How often the loop is asked whether it is late."""


class ProcessMetrics:
    """CPU, memory and open files of the process (`process_*`), the collector of garbage, its version and start."""

    def __init__(
        self, registry: CollectorRegistry, component: str, version: str, git_hash: str, started: float
    ) -> None:
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        info = Gauge(
            f"{component}_server_info",
            "The server's version; the value is when it was started, in seconds since the epoch.",
            ("version", "hash"),
            registry=registry,
        )
        info.labels(version, git_hash).set(started)


class LoopLag:
    """How late the event loop runs its timers: the time for which every request stood still."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "loop_lag_seconds",
            "How late a timer of the event loop ran.",
            buckets=exponential_buckets(0.0005, 2, 14),
            registry=registry,
        )
        self._worst = Gauge("loop_lag_worst_seconds", "The worst lag since the process started.", registry=registry)
        self._most = 0.0

    async def run(self) -> None:
        """Measures until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self.observe(max(0.0, loop.time() - due))

    def observe(self, lag_s: float) -> None:
        self._seconds.observe(lag_s)
        if lag_s > self._most:
            self._most = lag_s
            self._worst.set(lag_s)


class HasStats(Protocol):
    """An engine, as far as it is measured."""

    def stats(self) -> dict[str, Any]: ...


class EngineMetrics(Collector):
    """What the engine says of itself, read when somebody asks."""

    def __init__(self, registry: CollectorRegistry, engine: HasStats) -> None:
        self._engine = engine
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Metrics of what `Engine.stats` has by column family, and how often it was written to."""
        stats = self._engine.stats()
        gauges = {
            "sst_bytes": GaugeMetricFamily(
                "tikv_engine_size_bytes", "Size of the sorted files.", labels=("db", "type")
            ),
            "memtable_bytes": GaugeMetricFamily(
                "tikv_engine_memory_bytes", "Memory of the tables not yet written to files.", labels=("db", "cf")
            ),
            "estimated_keys": GaugeMetricFamily(
                "tikv_engine_estimate_num_keys", "Estimated number of keys.", labels=("db", "cf")
            ),
            "blob_bytes": GaugeMetricFamily(
                "sqlfront_engine_blob_bytes", "Size of the files of large values.", labels=("db", "cf")
            ),
        }
        for family, numbers in stats.items():
            if isinstance(numbers, Mapping):
                for name, number in numbers.items():
                    if name in gauges:
                        gauges[name].add_metric(("kv", family), float(number))
        yield from gauges.values()
        yield GaugeMetricFamily("sqlfront_engine_writes", "Batches written since the start.", float(stats["write_seq"]))


class GrpcMetrics:
    """Durations and failures of the requests a server answers, by type (`kv_get`), those in BatchCommands as well."""

    def __init__(
        self, registry: CollectorRegistry, prefix: str = "tikv", clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._durations = Durations(
            f"{prefix}_grpc_msg_duration_seconds",
            "How long requests took, from the message's arrival to its answer.",
        )
        registry.register(self._durations)
        self._failed = Counter(
            f"{prefix}_grpc_msg_fail", "Requests that ended in a gRPC status.", ("type",), registry=registry
        )
        self._streams = Gauge(f"{prefix}_grpc_streams", "Open streams.", ("type",), registry=registry)

    def measured(self, handlers: Handlers) -> Handlers:
        """The same handlers, with every request measured."""
        types = frozenset(type_name(method.name) for method, _ in handlers.unary.values())
        return Handlers(
            {path: (method, self._unary(method, handler)) for path, (method, handler) in handlers.unary.items()},
            {
                path: (method, self._stream(method, self._inside(method, handler, types)))
                for path, (method, handler) in handlers.streams.items()
            },
        )

    def _unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        type = type_name(method.name)
        observe, clock, row = self._durations.observe, self._clock, self._durations.row(type)
        failed = self._failed.labels(type)

        async def measured(request: Any, call: Call) -> Any:
            began = clock()
            try:
                answer = await handler(request, call)
            except BaseException:
                failed.inc()
                raise
            observe(row, clock() - began)
            return answer

        return measured

    def _stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        type = type_name(method.name)
        failed, streams = self._failed.labels(type), self._streams.labels(type)

        async def measured(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            streams.inc()
            answers = handler(requests, call)
            try:
                async for answer in answers:
                    yield answer
            except Exception:
                failed.inc()
                raise
            finally:
                streams.dec()
                if isinstance(answers, AsyncGenerator):
                    await answers.aclose()

        return measured

    def _inside(self, method: Method, handler: StreamHandler, types: frozenset[str]) -> StreamHandler:
        """The handler of a stream, with the requests in it measured where they can be told apart."""
        match method.name:
            case "BatchCommands":
                return self._batches(handler, types)
            case "Tso":
                return self._turns(handler, self._durations.row("tso"))
            case _:
                return handler

    def _batches(self, handler: StreamHandler, types: frozenset[str]) -> StreamHandler:
        """Commands are known by their ids; a batch takes one look at the clock."""
        observe, clock = self._durations.observe, self._clock
        rows: dict[str | None, list[float]] = {}

        def row_of(command: str | None) -> list[float]:
            name = type_name(command or "empty")
            rows[command] = self._durations.row(f"kv_{name}" if f"kv_{name}" in types else name)
            return rows[command]

        async def measured(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            pending: dict[int, tuple[list[float], float]] = {}

            async def noted() -> AsyncIterator[Any]:
                async for batch in requests:
                    now = clock()
                    for number, request in zip(batch.request_ids, batch.requests, strict=False):
                        command = request.WhichOneof("cmd")
                        pending[number] = (rows.get(command) or row_of(command), now)
                    yield batch

            answers = handler(noted(), call)
            try:
                async for batch in answers:
                    now = clock()
                    for number in batch.request_ids:
                        found = pending.pop(number, None)
                        if found is not None:
                            observe(found[0], now - found[1])
                    yield batch
            finally:
                if isinstance(answers, AsyncGenerator):
                    await answers.aclose()

        return measured

    def _turns(self, handler: StreamHandler, row: list[float]) -> StreamHandler:
        """Every message has its answer, in their order."""
        observe, clock = self._durations.observe, self._clock

        async def measured(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            arrived: deque[float] = deque()

            async def noted() -> AsyncIterator[Any]:
                async for request in requests:
                    arrived.append(clock())
                    yield request

            answers = handler(noted(), call)
            try:
                async for answer in answers:
                    observe(row, clock() - arrived.popleft())
                    yield answer
            finally:
                if isinstance(answers, AsyncGenerator):
                    await answers.aclose()

        return measured


def type_name(method: str) -> str:
    """TiKV's label of a method: `KvBatchGet` is `kv_batch_get`, `KVPessimisticRollback` `kv_pessimistic_rollback`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", method).lower()
