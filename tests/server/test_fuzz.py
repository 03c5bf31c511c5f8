"""Requests with anything in them: every one gets an answer that can be sent, and the store goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.tikvpb_pb2 import BatchCommandsRequest
from kvstore.server.service import METHODS
from tests.server.ends import Node, make_node
from tests.server.simulated import Simulated, simulated
from tests.sim.loop import run_simulated

CALLS = sorted(name for name, method in METHODS.items() if not (method.client_streaming or method.server_streaming))
DEPTH_MAX = 3
U64_MAX = (1 << 64) - 1

_keys = st.one_of(
    st.sampled_from([b"", b"a", b"b", b"k", b"k" * 9000, b"\xff" * 20, b"\0" * 9, b"a\0"]), st.binary(max_size=12)
)
_numbers = st.one_of(st.integers(0, 40), st.sampled_from([1 << 18, (1 << 63) - 1, 1 << 63, U64_MAX - 1, U64_MAX]))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _keys
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.sampled_from(["", "default", "write", "nope", "é"])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.integers(0, 12)
    if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64):
        return st.one_of(st.integers(-3, 50), st.sampled_from([-(1 << 31), (1 << 31) - 1]))
    if field.type == FieldDescriptor.TYPE_UINT32:
        return st.one_of(st.integers(0, 10), st.just((1 << 32) - 1))
    return _numbers


def _context() -> st.SearchStrategy[dict[str, Any]]:
    """Mostly one that fits."""
    return st.fixed_dictionaries(
        {
            "region_id": st.sampled_from([1, 1, 1, 1, 2, 99]),
            "region_epoch": st.fixed_dictionaries({"version": st.sampled_from([1, 1, 1, 0, 7])}),
            "peer": st.fixed_dictionaries({"id": st.just(11), "store_id": st.sampled_from([1, 1, 1, 1, 5])}),
        },
        optional={
            "isolation_level": st.integers(0, 3),
            "replica_read": st.booleans(),
            "stale_read": st.booleans(),
            "resolved_locks": st.lists(_numbers, max_size=2),
            "committed_locks": st.lists(_numbers, max_size=2),
            "max_execution_duration_ms": st.sampled_from([0, 1, 1000, U64_MAX]),
            "api_version": st.integers(0, 3),
            "is_retry_request": st.booleans(),
        },
    )


def _message(descriptor: Any, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    optional: dict[str, st.SearchStrategy[Any]] = {}
    required: dict[str, st.SearchStrategy[Any]] = {}
    for field in descriptor.fields:
        if field.name == "context" and depth == 0:
            required["context"] = _context()
        elif field.message_type is not None:
            if depth < DEPTH_MAX:
                inner = _message(field.message_type, depth + 1)
                optional[field.name] = st.lists(inner, max_size=3) if field.is_repeated else inner
        else:
            value = _scalar(field)
            optional[field.name] = st.lists(value, max_size=3) if field.is_repeated else value
    return st.fixed_dictionaries(required, optional=optional)


def _call(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), _message(METHODS[name].request.DESCRIPTOR))


_calls = st.lists(st.sampled_from(CALLS).flatmap(_call), min_size=1, max_size=8)
slow = settings(deadline=None, max_examples=250, suppress_health_check=list(HealthCheck))


def ask(body: Callable[[Node], Any], **options: Any) -> None:
    async def whole() -> None:
        node = await make_node(**options)
        await body(node)
        # whatever was asked, the store still works
        key = b"last"
        holder = next(r.id for r in node.store.regions() if r.start_key <= key and (not r.end_key or key < r.end_key))
        put = await node.call("RawPut", pb.RawPutRequest(key=key, value=b"1"), region=holder)
        assert put == pb.RawPutResponse()
        assert (await node.call("RawGet", pb.RawGetRequest(key=key), region=holder)).value == b"1"
        assert len(node.service.scheduler._latches) == 0
        assert not node.service.concurrency.locks
        await node.service.close()

    run_simulated(whole())


@slow
@given(_calls, st.booleans())
def test_any_request_is_answered(calls: list[tuple[str, dict[str, Any]]], lease: bool) -> None:
    async def body(node: Node) -> None:
        node.store.has_lease = lease
        node.store.add(2, b"k", b"l")
        for name, fields in calls:
            await node.call(name, METHODS[name].request(**fields), region=None)

    ask(body)


@slow
@given(_calls)
def test_any_requests_at_once_are_answered(calls: list[tuple[str, dict[str, Any]]]) -> None:
    async def body(node: Node) -> None:
        node.store.write_delay_s = 0.01
        requests = [(name, METHODS[name].request(**fields)) for name, fields in calls]
        await asyncio.gather(*(node.call(name, request, region=None) for name, request in requests))

    ask(body)


@slow
@given(_calls)
def test_any_expiring_store_s_request_is_answered(calls: list[tuple[str, dict[str, Any]]]) -> None:
    async def body(node: Node) -> None:
        for name, fields in calls:
            await node.call(name, METHODS[name].request(**fields), region=None)

    ask(body, raw_ttl=True)


@slow
@given(_message(BatchCommandsRequest.DESCRIPTOR))
def test_any_batch_is_answered(fields: dict[str, Any]) -> None:
    async def body(node: Node) -> None:
        stream = node.network.transport("client").channel(node.address).stream(METHODS["BatchCommands"])
        request = BatchCommandsRequest(**fields)
        await stream.send(request)
        await stream.done_sending()
        answered: list[int] = []
        while (got := await stream.receive()) is not None:
            answered += got.request_ids
        asked = min(len(request.requests), len(request.request_ids))
        assert sorted(answered) == sorted(request.request_ids[:asked])

    ask(body)


@settings(slow, max_examples=40)
@given(st.lists(_calls, min_size=1, max_size=5))
def test_any_request_to_a_node_of_a_cluster_is_answered(rounds: list[list[tuple[str, dict[str, Any]]]]) -> None:
    async def body(cluster: Simulated) -> None:
        raftstore = cluster.stores[0].node.store
        assert raftstore is not None
        channel = cluster.network.transport("client").channel("store-1:20160")
        for calls in rounds:
            first = raftstore.regions()[0]
            requests = []
            for name, fields in calls:
                context = fields.get("context")
                if context is not None and context["region_id"] == 1:
                    # what fits the double is made to fit the real one
                    context["region_id"] = first.id
                    context["peer"]["id"] = first.peers[0].id
                    if context["region_epoch"]["version"] == 1:
                        context["region_epoch"]["version"] = first.region_epoch.version
                requests.append((METHODS[name], METHODS[name].request(**fields)))
            await asyncio.gather(*(channel.unary(method, request, 600.0) for method, request in requests))
        assert raftstore.fatal is None
        assert not raftstore.stopped

    simulated(body, stores=1)
