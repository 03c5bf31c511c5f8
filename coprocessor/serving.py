"""The coprocessor of a store's process: requests off the loop, a few at a time, a bounded number waiting.

    Coprocess (kvstore/server) ──► Serving.handle ──► a thread: Endpoint.handle ──► RegionReader

Python shares one interpreter: more threads than cores gain nothing, and the store's own loop needs its turns. What does
not fit into the queue is refused as busy, so that clients wait where they can be counted.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from coprocessor.columnar.of_store import StoreReplica
from coprocessor.dag.scan import Kept
from coprocessor.duck import DuckEngine
from coprocessor.endpoint import DataVersion, Endpoint
from coprocessor.region_columns import RegionColumns
from coprocessor.segments import default_budget
from kvstore.client.cluster.stores import ARROW, ENCODINGS_LABEL
from kvstore.histogram import Durations
from kvstore.proto import coprocessor_pb2
from kvstore.raftstore.api import RegionStore
from kvstore.raftstore.config import MIB
from kvstore.server.errors import busy
from kvstore.server.region_reader import RegionReader

LABELS = {ENCODINGS_LABEL: ARROW}
"""What a store with this coprocessor tells of itself: that it answers in Arrow when it is asked to."""
KINDS = {103: "select", 104: "analyze", 105: "checksum"}
"""Requests by `tp`, in TiKV's words."""
BUSY_BACKOFF_MS = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """What an operator may set."""

    threads: int = 2
    """Requests that are evaluated at the same time."""
    queue_max: int = 256
    """Requests that wait for a thread; over it ServerIsBusy."""
    columns_mib: int = 1024
    """MiB of memory for columns that are kept decoded, at most an eighth of the machine's; 0 keeps none."""


class Workers(Protocol):
    """Where requests are evaluated."""

    async def run(self, work: Callable[[], T]) -> T: ...
    def close(self) -> None: ...


class ThreadWorkers:
    """So many threads."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "coprocessor")

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Waits for what is being evaluated."""
        self._pool.shutdown(cancel_futures=True)


class InlineWorkers:
    """The loop itself: for whole clusters in one thread."""

    async def run(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        return work()

    def close(self) -> None:
        """Nothing is under way."""


class Serving:
    """See `kvstore.server.api.CoprocessorHandler`: of one store, or of several that share its workers.

    DuckDB is started when it is needed first, on a worker.
    """

    def __init__(self, make_engine: Callable[[], DuckEngine], workers: Workers, limits: ServingLimits) -> None:
        self._make_engine = make_engine
        self._workers = workers
        self._limits = limits
        self._engine: DuckEngine | None = None
        self._endpoint: Endpoint | None = None
        self._making = threading.Lock()
        self.columns: list[RegionColumns] = []
        """What is kept decoded of the stores."""
        self.pending = 0
        """Requests that are evaluated or wait for it."""
        self.errors: dict[str, int] = {}
        """Answers that are errors, by what they are."""
        self.response_bytes = 0
        self.scanned_keys = 0
        self.cache_hits = 0
        self.durations = Durations(
            "tikv_coprocessor_request_duration_seconds", "Requests of the coprocessor, from grant to answer.", "req"
        )
        self.waits = Durations(
            "tikv_coprocessor_request_wait_seconds", "How long requests of the coprocessor waited for a thread.", "req"
        )

    def begin(self, store: RegionStore) -> ServingOfStore:
        columns: RegionColumns | None = None
        if self._limits.columns_mib:
            columns = RegionColumns(min(self._limits.columns_mib * MIB, default_budget()))
            columns.begin(store)
            self.columns.append(columns)
        return ServingOfStore(self, columns)

    async def handle(
        self, request: coprocessor_pb2.Request, reader: RegionReader, data_version: int, kept: Kept | None
    ) -> coprocessor_pb2.Response:
        """Raises RegionError when too many requests wait, and what the reader does."""
        if self.pending >= self._limits.threads + self._limits.queue_max:
            self._failed("server_is_busy")
            raise busy("too many coprocessor requests wait", BUSY_BACKOFF_MS)
        kind = KINDS.get(request.tp, "unknown")
        begun = time.monotonic()
        self.pending += 1
        state = _State()

        def evaluate() -> coprocessor_pb2.Response:
            state.started_at = time.monotonic()
            try:
                reader.check()
                version = DataVersion(data_version, lambda: reader.is_stable)
                return self._the_endpoint().handle(request, lambda ts: reader, version, kept)
            finally:
                reader.close()

        work = asyncio.ensure_future(self._workers.run(evaluate))
        work.add_done_callback(lambda done: self._ended(done, kind, begun, state))
        # a caller that leaves does not free the thread: the place in the queue is taken until the work ends
        response = await asyncio.shield(work)
        self._answered(response, reader)
        return response

    def _the_endpoint(self) -> Endpoint:
        with self._making:
            if self._endpoint is None:
                self._engine = self._make_engine()
                self._endpoint = Endpoint(self._engine)
            return self._endpoint

    def _ended(self, work: asyncio.Future[coprocessor_pb2.Response], kind: str, begun: float, state: _State) -> None:
        self.pending -= 1
        now = time.monotonic()
        started_at = state.started_at or now
        self.waits.observe(self.waits.row(kind), started_at - begun)
        self.durations.observe(self.durations.row(kind), now - begun)
        if not work.cancelled() and (error := work.exception()) is not None:
            self._failed(type(error).__name__)

    def _answered(self, response: coprocessor_pb2.Response, reader: RegionReader) -> None:
        self.response_bytes += len(response.data)
        self.scanned_keys += reader.keys
        self.cache_hits += response.is_cache_hit
        if response.HasField("locked"):
            self._failed("meet_lock")
        elif response.HasField("region_error"):
            self._failed("region_error")
        elif response.other_error:
            self._failed("other")

    def _failed(self, what: str) -> None:
        self.errors[what] = self.errors.get(what, 0) + 1

    def close(self) -> None:
        """Waits for what is being evaluated, which ends when its callers are gone; the engine is closed afterwards."""
        self._workers.close()
        if self._engine is not None:
            self._engine.close()


class ServingOfStore:
    """See `kvstore.server.api.CoprocessorOfStore`."""

    def __init__(self, serving: Serving, columns: RegionColumns | None) -> None:
        self._serving = serving
        self._columns = columns

    async def handle(
        self, request: coprocessor_pb2.Request, reader: RegionReader, data_version: int
    ) -> coprocessor_pb2.Response:
        """Raises RegionError when too many requests wait, and what the reader does."""
        kept = None if self._columns is None else partial(self._columns.scan, since=self._columns.losses)
        return await self._serving.handle(request, reader, data_version, kept)


class ReplicaServing:
    """A store's columnar replica, by the same workers and limits; see `kvstore.server.api.ReplicaHandler`."""

    def __init__(self, replica: StoreReplica, workers: Workers, limits: ServingLimits) -> None:
        self._replica = replica
        self._workers = workers
        self._limits = limits
        self._catching_up: asyncio.Future[None] | None = None
        self.pending = 0
        """Requests that are evaluated or wait for it."""
        self.answered = 0
        self.refused = 0
        """Requests whose rows were to be read instead."""
        replica.on_due = self._catch_up

    def begin(self, store: RegionStore) -> None:
        self._replica.begin(store)

    @property
    def replica(self) -> StoreReplica:
        return self._replica

    async def handle_batch(
        self,
        request: coprocessor_pb2.BatchRequest,
        ranges: Sequence[tuple[bytes, bytes]],
        reader_at: Callable[[int], RegionReader],
    ) -> list[coprocessor_pb2.BatchResponse]:
        if self.pending >= self._limits.threads + self._limits.queue_max:
            raise busy("too many coprocessor requests wait", BUSY_BACKOFF_MS)
        self.pending += 1
        work = asyncio.ensure_future(self._workers.run(lambda: self._replica.answer(request, ranges, reader_at)))
        work.add_done_callback(self._ended)
        answers = await asyncio.shield(work)
        if any(answer.other_error for answer in answers):
            self.refused += 1
        else:
            self.answered += 1
        return answers

    def _ended(self, work: asyncio.Future[list[coprocessor_pb2.BatchResponse]]) -> None:
        self.pending -= 1
        if not work.cancelled():
            work.exception()  # a caller that has left does not look at it

    def _catch_up(self) -> None:
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.ensure_future(self._workers.run(self._replica.catch_up))

    def close(self) -> None:
        """Waits for what is under way."""
        self._workers.close()
        self._replica.close()


@dataclass(slots=True)
class _State:
    started_at: float = 0.0
