"""Metrics: requests by type, the loop's lag, the engine's numbers, and names as Prometheus wants them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kvstore.engine.memory import MemoryEngine
from kvstore.histogram import Durations, exponential_buckets
from kvstore.ops.metrics import EngineMetrics, GrpcMetrics, LoopLag, ProcessMetrics, type_name
from kvstore.proto import pdpb_pb2, tikvpb_pb2
from kvstore.rpc.api import Call, Code, Handlers, RpcError, methods_of

METHODS = methods_of(tikvpb_pb2.DESCRIPTOR, "Tikv")
CALL = Call("test")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("KvGet", "kv_get"),
        ("KvBatchGet", "kv_batch_get"),
        ("KVPessimisticRollback", "kv_pessimistic_rollback"),
        ("KvTxnHeartBeat", "kv_txn_heart_beat"),
        ("KvGC", "kv_gc"),
        ("RawCompareAndSwap", "raw_compare_and_swap"),
        ("RawGetKeyTTL", "raw_get_key_ttl"),
        ("MvccGetByStartTs", "mvcc_get_by_start_ts"),
        ("BatchCommands", "batch_commands"),
    ],
)
def test_types_have_tikvs_names(method: str, label: str) -> None:
    assert type_name(method) == label


def test_requests_are_measured_by_type(registry: CollectorRegistry) -> None:
    ticks: Iterator[float] = iter([0.0, 0.25, 1.0])
    metrics = GrpcMetrics(registry, clock=lambda: next(ticks))

    async def answer(request: Any, call: Call) -> Any:
        return request

    async def fail(request: Any, call: Call) -> Any:
        raise RpcError(Code.UNAVAILABLE, "gone")

    get, put = METHODS["KvGet"], METHODS["RawPut"]
    handlers = metrics.measured(Handlers({get.path: (get, answer), put.path: (put, fail)}, {}))

    async def main() -> None:
        assert await handlers.unary[get.path][1]("request", CALL) == "request"
        with pytest.raises(RpcError):
            await handlers.unary[put.path][1]("request", CALL)

    asyncio.run(main())

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("tikv_grpc_msg_duration_seconds_sum", type="kv_get") == 0.25
    assert value("tikv_grpc_msg_duration_seconds_count", type="raw_put") == 0
    assert value("tikv_grpc_msg_fail_total", type="raw_put") == 1
    assert value("tikv_grpc_msg_fail_total", type="kv_get") == 0
    assert value("tikv_grpc_msg_duration_seconds_bucket", type="kv_get", le=repr(5e-5 * 2**12)) == 0
    assert value("tikv_grpc_msg_duration_seconds_bucket", type="kv_get", le=repr(5e-5 * 2**13)) == 1
    assert value("tikv_grpc_msg_duration_seconds_bucket", type="kv_get", le="+Inf") == 1


def test_commands_in_a_stream_are_measured_by_their_type(registry: CollectorRegistry) -> None:
    batch, get = METHODS["BatchCommands"], METHODS["KvGet"]
    now = [0.0]
    commands = tikvpb_pb2.BatchCommandsRequest(request_ids=[7, 8, 9])
    commands.requests.add().Get.version = 1
    commands.requests.add().RawPut.key = b"k"
    commands.requests.add().Get.version = 2

    async def requests() -> AsyncIterator[Any]:
        yield commands

    async def handler(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        async for _ in requests:
            for at, numbers in ((1.0, [8]), (3.0, [9, 7, 1000])):
                now[0] = at
                yield tikvpb_pb2.BatchCommandsResponse(request_ids=numbers)

    async def unary(request: Any, call: Call) -> Any:
        raise AssertionError("not called")

    metrics = GrpcMetrics(registry, clock=lambda: now[0])
    handlers = metrics.measured(Handlers({get.path: (get, unary)}, {batch.path: (batch, handler)}))

    async def main() -> list[list[int]]:
        return [list(answer.request_ids) async for answer in handlers.streams[batch.path][1](requests(), CALL)]

    assert asyncio.run(main()) == [[8], [9, 7, 1000]]
    name = "tikv_grpc_msg_duration_seconds"
    assert registry.get_sample_value(f"{name}_sum", {"type": "kv_get"}) == 6
    assert registry.get_sample_value(f"{name}_count", {"type": "kv_get"}) == 2
    assert registry.get_sample_value(f"{name}_sum", {"type": "raw_put"}) == 1


def test_timestamps_are_measured_in_their_turn(registry: CollectorRegistry) -> None:
    tso = methods_of(pdpb_pb2.DESCRIPTOR, "PD")["Tso"]
    now = [0.0]

    async def requests() -> AsyncIterator[Any]:
        yield 1
        yield 2

    async def handler(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        async for request in requests:
            now[0] += request
            yield request

    handlers = GrpcMetrics(registry, "pd", clock=lambda: now[0]).measured(Handlers({}, {tso.path: (tso, handler)}))

    async def main() -> list[int]:
        return [answer async for answer in handlers.streams[tso.path][1](requests(), CALL)]

    assert asyncio.run(main()) == [1, 2]
    assert registry.get_sample_value("pd_grpc_msg_duration_seconds_sum", {"type": "tso"}) == 3
    assert registry.get_sample_value("pd_grpc_msg_duration_seconds_count", {"type": "tso"}) == 2


def test_open_streams_are_counted(registry: CollectorRegistry) -> None:
    stream = METHODS["CoprocessorStream"]

    async def double(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        async for request in requests:
            yield request * 2

    async def numbers() -> AsyncIterator[Any]:
        yield 1
        yield 2

    handlers = GrpcMetrics(registry).measured(Handlers({}, {stream.path: (stream, double)}))

    async def main() -> list[tuple[Any, float | None]]:
        found = []
        async for answer in handlers.streams[stream.path][1](numbers(), CALL):
            found.append((answer, registry.get_sample_value("tikv_grpc_streams", {"type": "coprocessor_stream"})))
        return found

    assert asyncio.run(main()) == [(2, 1.0), (4, 1.0)]
    assert registry.get_sample_value("tikv_grpc_streams", {"type": "coprocessor_stream"}) == 0


def test_the_lag_of_a_loop_that_was_held_up(registry: CollectorRegistry) -> None:
    lag = LoopLag(registry)

    async def main() -> None:
        measuring = asyncio.create_task(lag.run())
        await asyncio.sleep(0)
        time.sleep(0.4)
        await asyncio.sleep(0.01)
        measuring.cancel()

    asyncio.run(main())
    worst = registry.get_sample_value("loop_lag_worst_seconds")
    assert worst is not None
    assert worst > 0.1
    assert registry.get_sample_value("loop_lag_seconds_count") == 1


def test_the_engines_numbers_are_read_when_asked(registry: CollectorRegistry) -> None:
    engine = MemoryEngine()
    EngineMetrics(registry, engine)
    batch = engine.batch()
    batch.put(b"k", b"v", engine.handle("default"))
    engine.write(batch)
    labels = {"db": "kv", "cf": "default"}
    assert registry.get_sample_value("tikv_engine_estimate_num_keys", labels) == 1
    assert registry.get_sample_value("sqlfront_engine_writes") == engine.write_seq


def test_a_process_says_what_it_is(registry: CollectorRegistry) -> None:
    ProcessMetrics(registry, "tikv", "0.1.0", "abc", 123.0)
    assert registry.get_sample_value("tikv_server_info", {"version": "0.1.0", "hash": "abc"}) == 123
    assert b"process_resident_memory_bytes" in generate_latest(registry)


def test_durations_with_and_without_a_label(registry: CollectorRegistry) -> None:
    plain, typed = (
        Durations("plain_seconds", "Plain.", "", (1.0, 2.0)),
        Durations("typed_seconds", "Typed.", bounds=(1.0, 2.0)),
    )
    for seconds in (0.5, 1, 1.5, 9):
        plain.add(seconds)
    typed.observe(typed.row("a"), 3)
    for one in (plain, typed):
        registry.register(one)
    value = registry.get_sample_value
    assert [value("plain_seconds_bucket", {"le": le}) for le in ("1.0", "2.0", "+Inf")] == [2, 3, 4]
    assert (value("plain_seconds_count"), value("plain_seconds_sum")) == (4, 12)
    assert value("typed_seconds_bucket", {"type": "a", "le": "+Inf"}) == 1
    assert value("typed_seconds_bucket", {"type": "a", "le": "2.0"}) == 0


def test_buckets() -> None:
    assert exponential_buckets(1, 2, 4) == (1, 2, 4, 8)
