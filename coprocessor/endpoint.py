"""The coprocessor's endpoint: a request to its answer, over one region's data. Called from any thread.

The caller has checked the region and gives a reader of its data; this module knows neither regions nor Raft. Errors of
a request are in its answer: `locked` for a lock that is to be resolved, `other_error` for what is no request that is
known, the SelectResponse's `error` for a value that cannot be computed, `region_error` for a deadline that passed
(a server that is busy: try again, there or elsewhere). What the store itself raises goes through.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from google.protobuf.message import DecodeError

from coprocessor.dag.answer import encode_batch, encoding_of, select_columns
from coprocessor.dag.checksum import checksum_of
from coprocessor.dag.codec import decode_dag
from coprocessor.dag.plan import Aggregation, Dag, Limit, TopN
from coprocessor.dag.run import DIRECT_ROWS_MAX, Execution
from coprocessor.dag.scan import BATCH_ROWS_MAX, Kept, Source
from coprocessor.duck import DuckEngine
from coprocessor.env import Env
from coprocessor.errors import BadRequest, CoprocessorError, EvalError, Unsupported
from coprocessor.table import KeyRange
from kvstore.client.api import Reader
from kvstore.errors import KeyIsLocked, TxnError
from kvstore.mvcc.reader import MetLock
from kvstore.proto import coprocessor_pb2, errorpb_pb2, kvrpcpb_pb2, tipb_pb2
from kvstore.server.errors import lock_info

TP_DAG, TP_ANALYZE, TP_CHECKSUM = 103, 104, 105
ANSWER_BYTES_MAX = 32 << 20
"""The largest answer (a message of the wire has 64 MiB). A page ends before it; what cannot be paged is refused."""
PAGE_BYTES_MAX = 16 << 20
"""A page has no more bytes than about these, whatever was asked for."""
SHRINK = 8
"""By so much smaller are the batches of a scan whose first was more than an answer may have."""
WARNINGS_MAX = 64
"""More are only counted."""
NANOS_PER_MS = 1_000_000
RANGES_MAX = 1 << 20
PAGE_BATCH_ROWS_MIN = 128
LOCK_TTL_MS = 3000
"""What is said of a lock's life; the client asks the primary."""


@dataclass(frozen=True, slots=True)
class DataVersion:
    """What the store knows of a region's data: `number` grows with every write."""

    number: int
    is_stable: Callable[[], bool]
    """Whether what was read would be the same at any later timestamp as long as `number` stands: it met neither locks
    nor newer versions (TiKV's `met_newer_ts_data`)."""


class DeadlineExceeded(Exception):
    """The request's time is over."""


class TooLarge(BadRequest):
    """The answer has more bytes than one may have; so many `rows` were scanned for it."""

    rows = 0


def _lock_info(error: KeyIsLocked) -> kvrpcpb_pb2.LockInfo:
    """The lock; of one that a reader without regions met, whose it is, not how long it lives or of what kind it is."""
    if isinstance(error, MetLock):
        return lock_info(error.key, error.lock)
    return kvrpcpb_pb2.LockInfo(
        primary_lock=error.primary, lock_version=error.lock_start_ts, key=error.key, lock_ttl=LOCK_TTL_MS
    )


class Endpoint:
    """Answers coprocessor requests. One for a store; safe to share between threads."""

    def __init__(
        self,
        engine: DuckEngine,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        direct_rows: int = DIRECT_ROWS_MAX,
    ) -> None:
        self._engine = engine
        self._clock_ns = clock_ns
        self._direct_rows = direct_rows

    def handle(
        self,
        request: coprocessor_pb2.Request,
        reader_at: Callable[[int], Reader],
        version: DataVersion | None = None,
        kept: Kept | None = None,
    ) -> coprocessor_pb2.Response:
        """Answers one request from what `reader_at(start_ts)` sees.

        `version` lets the client cache the answer, and be told that what it has is still right. `kept` has columns of
        what the reader sees.
        """
        try:
            if version is not None and _is_hit(request, version):
                return coprocessor_pb2.Response(
                    is_cache_hit=True, cache_last_version=version.number, can_be_cached=True
                )
            response = self._answer(request, reader_at, kept)
        except KeyIsLocked as error:
            return coprocessor_pb2.Response(locked=_lock_info(error))
        except DeadlineExceeded:
            reason = "deadline is exceeded"
            busy = errorpb_pb2.ServerIsBusy(reason=reason)
            return coprocessor_pb2.Response(region_error=errorpb_pb2.Error(message=reason, server_is_busy=busy))
        except (CoprocessorError, TxnError) as error:
            return coprocessor_pb2.Response(other_error=str(error) or type(error).__name__)
        if version is not None and not _is_failure(response) and version.is_stable():
            response.can_be_cached = True
            response.cache_last_version = version.number
        return response

    def _answer(
        self, request: coprocessor_pb2.Request, reader_at: Callable[[int], Reader], kept: Kept | None
    ) -> coprocessor_pb2.Response:
        ranges = _ranges(request)
        check = self._deadline(request)
        check()
        if request.tp == TP_DAG:
            return self._dag(request, ranges, reader_at(request.start_ts), check, kept)
        if request.tp == TP_CHECKSUM:
            return _checksum(request, ranges, reader_at(request.start_ts), check)
        if request.tp == TP_ANALYZE:
            raise Unsupported("ANALYZE requests (tp 104) are not supported by this store")
        raise BadRequest(f"a coprocessor request of type {request.tp}")

    def _deadline(self, request: coprocessor_pb2.Request) -> Callable[[], None]:
        """The check that the request's time is not over."""
        limit_ms = request.context.max_execution_duration_ms
        if not limit_ms:
            return lambda: None
        until = self._clock_ns() + limit_ms * NANOS_PER_MS

        def check() -> None:
            if self._clock_ns() >= until:
                raise DeadlineExceeded

        return check

    def _dag(
        self,
        request: coprocessor_pb2.Request,
        ranges: list[KeyRange],
        reader: Reader,
        check: Callable[[], None],
        kept: Kept | None,
    ) -> coprocessor_pb2.Response:
        dag = decode_dag(request.data)
        batch_rows = _batch_rows(dag, request.paging_size)
        rows_max = 0
        if not _reads_all(dag, request.paging_size):
            kept = None
        while True:

            def make_source(batch_rows: int = batch_rows, rows_max: int = rows_max, kept: Kept | None = kept) -> Source:
                return Source(dag.scan, ranges, reader, dag.tz, check, batch_rows, rows_max, kept)

            try:
                return self._page(request, dag, make_source, rows_max)
            except TooLarge as error:
                if error.rows <= 1 or batch_rows == 1 or not _takes_pages(request) or not _can_part(dag):
                    raise
                # nothing of it fits into an answer: what its front gives does
                kept = None
                batch_rows = max(1, min(batch_rows, error.rows) // SHRINK)
                if isinstance(dag.steps[-1] if dag.steps else None, Aggregation | TopN):
                    rows_max = batch_rows

    def _page(
        self, request: coprocessor_pb2.Request, dag: Dag, make_source: Callable[[], Source], rows_max: int
    ) -> coprocessor_pb2.Response:
        """The answer, up to where a page ends, or (with `rows_max`) the source. Raises TooLarge."""
        warnings = Warnings()
        env = Env(tz=dag.tz, warn=warnings.add)
        begun = self._clock_ns()
        execution = Execution(
            dag, make_source, self._engine, env, direct_rows=self._direct_rows, clock_ns=self._clock_ns
        )
        answer = Chunks(dag)
        scanned: KeyRange | None = None
        before: KeyRange | None = None
        try:
            for batch in execution.batches():
                try:
                    answer.add(batch)
                except TooLarge as error:
                    if before is None or not _takes_pages(request):
                        error.rows = execution.produced[0]
                        raise
                    scanned = before
                    break
                before = execution.scanned()
                if before is not None and _is_page(request, answer):
                    scanned = before
                    break
            if scanned is None and rows_max:
                scanned = execution.source.scanned()
        except EvalError as error:
            failed = tipb_pb2.SelectResponse(error=tipb_pb2.Error(code=error.code, msg=str(error)))
            return coprocessor_pb2.Response(data=failed.SerializeToString())
        select = answer.response
        for code, message in warnings.first:
            select.warnings.add(code=code, msg=message)
        select.warning_count = warnings.count
        if dag.summaries:
            _add_summaries(select, dag, execution, self._clock_ns() - begun)
        response = coprocessor_pb2.Response(data=select.SerializeToString())
        if scanned is not None:
            response.range.start, response.range.end = scanned
        return response


class Warnings:
    """The first warnings of a request, and how many there were: a row can have several."""

    def __init__(self) -> None:
        self.first: list[tuple[int, str]] = []
        self.count = 0

    def add(self, code: int, message: str) -> None:
        self.count += 1
        if len(self.first) < WARNINGS_MAX:
            self.first.append((code, message))


class Chunks:
    """The answer's rows, encoded as they come."""

    def __init__(self, dag: Dag) -> None:
        self._types = dag.output_types
        self._offsets = dag.output_offsets
        self._encode = encoding_of(dag)
        self._tz: dt.tzinfo = dag.tz
        self.size = 0
        self.rows = 0
        self.response = tipb_pb2.SelectResponse(encode_type=tipb_pb2.EncodeType.Name(self._encode))

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes a batch in, or nothing of it: raises TooLarge."""
        chosen = select_columns(batch, self._offsets)
        encoded = encode_batch(chosen, self._types, self._encode, self._tz)
        size = self.size + sum(map(len, encoded))
        if size > ANSWER_BYTES_MAX:
            raise TooLarge(f"an answer of more than {ANSWER_BYTES_MAX} bytes; ask for it in pages")
        self.size = size
        self.rows += chosen.num_rows
        for data in encoded:
            self.response.chunks.add(rows_data=data)
        if not self.response.output_counts:
            self.response.output_counts.append(0)
        self.response.output_counts[0] = self.rows


def _is_page(request: coprocessor_pb2.Request, answer: Chunks) -> bool:
    """Whether the answer has the rows, or the bytes, of a page."""
    full = request.paging_size and answer.rows >= request.paging_size
    bytes_max = min(request.paging_size_bytes or PAGE_BYTES_MAX, PAGE_BYTES_MAX)
    return bool(full or (_takes_pages(request) and answer.size >= bytes_max))


def _takes_pages(request: coprocessor_pb2.Request) -> bool:
    """Whether the client looks at `range`: one that does not would take a page for everything."""
    return bool(request.paging_size or request.paging_size_bytes)


def _can_part(dag: Dag) -> bool:
    """Whether answers over parts of the rows, put together as those of regions are, make up the answer."""
    *below, last = dag.steps or (None,)
    if any(isinstance(step, Aggregation | TopN) for step in below):
        return False
    return not isinstance(last, Aggregation | TopN) or not any(isinstance(step, Limit) for step in below)


def _is_failure(response: coprocessor_pb2.Response) -> bool:
    return bool(response.other_error) or response.HasField("region_error")


def _is_hit(request: coprocessor_pb2.Request, version: DataVersion) -> bool:
    """Whether the client's answer still holds; the client knows that it was of no later timestamp than this request."""
    return request.tp == TP_DAG and request.is_cache_enabled and request.cache_if_match_version == version.number


def _ranges(request: coprocessor_pb2.Request) -> list[KeyRange]:
    """The request's ranges. Raises BadRequest where they are not ascending."""
    if len(request.ranges) > RANGES_MAX:
        raise BadRequest(f"{len(request.ranges)} ranges, at most {RANGES_MAX} are taken")
    ranges = [(r.start, r.end) for r in request.ranges]
    before: bytes | None = b""
    for start, end in ranges:
        if before is None or start < before or (end and end < start):
            raise BadRequest(f"ranges that do not ascend, at {start.hex()}")
        before = end or None  # nothing is behind a range without an end
    return ranges


def _reads_all(dag: Dag, paging_size: int) -> bool:
    """Whether the request reads its ranges to their end, or far."""
    if any(isinstance(step, Aggregation | TopN) for step in dag.steps):
        return not any(isinstance(step, Limit) for step in dag.steps)
    return not paging_size and not any(isinstance(step, Limit) for step in dag.steps)


def _batch_rows(dag: Dag, paging_size: int) -> int:
    """Rows of a batch of the scan: small where a page is."""
    if not paging_size:
        return BATCH_ROWS_MAX
    return min(max(paging_size, PAGE_BATCH_ROWS_MIN), BATCH_ROWS_MAX)


def _add_summaries(select: tipb_pb2.SelectResponse, dag: Dag, execution: Execution, total_ns: int) -> None:
    for i, rows in enumerate(execution.produced):
        select.execution_summaries.add(
            executor_id=dag.executor_ids[i] if i < len(dag.executor_ids) else "",
            num_produced_rows=rows,
            num_iterations=execution.source.batches_read if i == 0 else execution.batches_given,
            time_processed_ns=execution.scan_ns if i == 0 else total_ns,
        )


def _checksum(
    request: coprocessor_pb2.Request, ranges: list[KeyRange], reader: Reader, check: Callable[[], None]
) -> coprocessor_pb2.Response:
    wire = tipb_pb2.ChecksumRequest()
    try:
        wire.ParseFromString(request.data)
    except DecodeError as error:
        raise BadRequest(f"not a ChecksumRequest: {error}") from None
    if wire.HasField("rule"):
        raise Unsupported("a checksum over rewritten keys")
    out = tipb_pb2.ChecksumResponse(checksum=0, total_kvs=0, total_bytes=0)
    for start, end in ranges:
        for packed in reader.scan_packed(start, end, batch_rows=BATCH_ROWS_MAX):
            check()
            out.checksum ^= checksum_of(packed)
            out.total_kvs += packed.count
            lengths = packed.key_ends - packed.key_starts + packed.value_ends - packed.value_starts
            out.total_bytes += int(lengths.sum())
    return coprocessor_pb2.Response(data=out.SerializeToString())
