"""What a transport does, over memory and over gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kvstore.proto import coprocessor_pb2
from kvstore.proto.kvrpcpb_pb2 import RawGetRequest, RawGetResponse
from kvstore.proto.raft_serverpb_pb2 import Done, SnapshotChunk
from kvstore.rpc.api import Call, Code, RpcError
from tests.rpc.ends import (
    BATCH,
    KINDS,
    RAW_GET,
    SMALL_BYTES_MAX,
    SNAPSHOT,
    STREAM,
    TIKV,
    TIMEOUT_S,
    Ends,
    answered,
    echo,
    echo_batch,
    ids,
    run,
)

pytestmark = pytest.mark.parametrize("kind", sorted(KINDS))


async def refused(awaitable: Any) -> RpcError:
    with pytest.raises(RpcError) as info:
        await awaitable
    return info.value


def test_unary_call_is_answered_with_a_copy(kind: str) -> None:
    async def test(ends: Ends) -> None:
        kept: list[RawGetRequest] = []

        async def keep(request: RawGetRequest, call: Call) -> RawGetResponse:
            kept.append(request)
            return RawGetResponse(value=call.peer.encode())

        async with ends.serve({RAW_GET: keep}) as (channel, _):
            request = RawGetRequest(key=b"k")
            answer = await channel.unary(RAW_GET, request, TIMEOUT_S)
            assert answer.value
            assert kept == [request]
            assert kept[0] is not request

    run(kind, test)


def test_many_calls_at_once(kind: str) -> None:
    async def test(ends: Ends) -> None:
        async with ends.serve({RAW_GET: echo}) as (channel, _):
            keys = [b"%d" % i for i in range(200)]
            answers = await asyncio.gather(*(channel.unary(RAW_GET, RawGetRequest(key=key), TIMEOUT_S) for key in keys))
            assert [answer.value for answer in answers] == keys

    run(kind, test)


def test_status_of_a_handler_reaches_the_caller(kind: str) -> None:
    async def test(ends: Ends) -> None:
        async def refuse(request: RawGetRequest, call: Call) -> RawGetResponse:
            raise RpcError(Code(int(request.key)), "because")

        async with ends.serve({RAW_GET: refuse}) as (channel, _):
            for code in Code:
                error = await refused(channel.unary(RAW_GET, RawGetRequest(key=b"%d" % code), TIMEOUT_S))
                assert (error.code, error.message) == (code, "because")

    run(kind, test)


def test_bug_in_a_handler_is_logged_and_internal(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test(ends: Ends) -> None:
        async def fail(request: RawGetRequest, call: Call) -> RawGetResponse:
            raise KeyError("oops")

        async def fail_stream(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            async for request in requests:
                yield request
                raise KeyError("in a stream")

        async with ends.serve({RAW_GET: fail}, {BATCH: fail_stream}) as (channel, _):
            error = await refused(channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S))
            assert (error.code, error.message) == (Code.INTERNAL, "KeyError: 'oops'")
            stream = channel.stream(BATCH)
            await stream.send(ids(1))
            assert await stream.receive() is not None
            assert (await refused(stream.receive())).code is Code.INTERNAL

    with caplog.at_level(logging.ERROR):
        run(kind, test)
    bugs = [record for record in caplog.records if record.exc_info and record.exc_info[0] is KeyError]
    assert len(bugs) == 2


def test_unknown_method_is_unimplemented(kind: str) -> None:
    async def test(ends: Ends) -> None:
        async with ends.serve({RAW_GET: echo}) as (channel, _):
            error = await refused(channel.unary(TIKV["RawScan"], TIKV["RawScan"].request(), TIMEOUT_S))
            assert error.code is Code.UNIMPLEMENTED
            stream = channel.stream(BATCH)
            assert (await refused(stream.receive())).code is Code.UNIMPLEMENTED

    run(kind, test)


def test_deadline_cancels_the_handler(kind: str) -> None:
    async def test(ends: Ends) -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def hang(request: RawGetRequest, call: Call) -> RawGetResponse:
            started.set()
            try:
                await asyncio.sleep(TIMEOUT_S)
            finally:
                cancelled.set()
            return RawGetResponse()

        async with ends.serve({RAW_GET: hang}) as (channel, _):
            timeout_s = 0.1
            while not started.is_set():  # on a busy machine the deadline may pass before the call has arrived
                error = await refused(channel.unary(RAW_GET, RawGetRequest(), timeout_s))
                assert error.code is Code.DEADLINE_EXCEEDED
                timeout_s *= 2
            await asyncio.wait_for(cancelled.wait(), TIMEOUT_S / 2)

    run(kind, test)


def test_caller_that_gives_up_cancels_the_handler(kind: str) -> None:
    async def test(ends: Ends) -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def hang(request: RawGetRequest, call: Call) -> RawGetResponse:
            started.set()
            try:
                await asyncio.sleep(TIMEOUT_S)
            finally:
                cancelled.set()
            return RawGetResponse()

        async with ends.serve({RAW_GET: hang}) as (channel, _):
            task = asyncio.ensure_future(channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(cancelled.wait(), TIMEOUT_S / 2)

    run(kind, test)


def test_nobody_listening_is_unavailable(kind: str) -> None:
    async def test(ends: Ends) -> None:
        channel = ends.nobody()
        assert (await refused(channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S))).code is Code.UNAVAILABLE
        stream = channel.stream(BATCH)
        assert (await refused(stream.receive())).code is Code.UNAVAILABLE
        assert (await refused(stream.send(ids(1)))).code is Code.UNAVAILABLE

    run(kind, test)


def test_too_large_messages_are_refused(kind: str) -> None:
    async def test(ends: Ends) -> None:
        async def large(request: RawGetRequest, call: Call) -> RawGetResponse:
            return RawGetResponse(value=bytes(int(request.key)))

        async with ends.serve({RAW_GET: large}) as (channel, _):
            too_large = RawGetRequest(key=bytes(SMALL_BYTES_MAX + 1))
            assert (await refused(channel.unary(RAW_GET, too_large, TIMEOUT_S))).code is Code.RESOURCE_EXHAUSTED
            asks = RawGetRequest(key=b"%d" % (SMALL_BYTES_MAX + 1))
            assert (await refused(channel.unary(RAW_GET, asks, TIMEOUT_S))).code is Code.RESOURCE_EXHAUSTED
            assert len((await channel.unary(RAW_GET, RawGetRequest(key=b"100000"), TIMEOUT_S)).value) == 100_000

    run(kind, test)


def test_stream_answers_in_order_and_ends(kind: str) -> None:
    async def test(ends: Ends) -> None:
        async with ends.serve(streams={BATCH: echo_batch}) as (channel, _):
            stream = channel.stream(BATCH)
            for number in range(50):
                await stream.send(ids(number))
            await stream.done_sending()
            for number in range(50):
                assert await stream.receive() == answered(number)
            assert await stream.receive() is None
            assert (await refused(stream.send(ids(1)))).code is Code.UNAVAILABLE
            stream.cancel()

    run(kind, test)


def test_client_stream_is_answered_once(kind: str) -> None:
    async def test(ends: Ends) -> None:
        got: list[bytes] = []

        async def take(chunks: AsyncIterator[SnapshotChunk], call: Call) -> AsyncIterator[Done]:
            async for chunk in chunks:
                got.append(chunk.data)
            yield Done()

        async with ends.serve(streams={SNAPSHOT: take}) as (channel, _):
            stream = channel.stream(SNAPSHOT)
            for part in (b"a", b"b", b"c"):
                await stream.send(SnapshotChunk(data=part))
            await stream.done_sending()
            assert await stream.receive() == Done()
            assert await stream.receive() is None
            assert got == [b"a", b"b", b"c"]

    run(kind, test)


def test_server_stream_takes_one_request(kind: str) -> None:
    async def test(ends: Ends) -> None:
        async def count(requests: AsyncIterator[coprocessor_pb2.BatchRequest], call: Call) -> AsyncIterator[Any]:
            got = [request async for request in requests]
            for number in range(len(got) * 3):
                yield coprocessor_pb2.BatchResponse(data=b"%d" % number)

        async with ends.serve(streams={STREAM: count}) as (channel, _):
            stream = channel.stream(STREAM)
            await stream.send(coprocessor_pb2.BatchRequest())
            data = []
            while (answer := await stream.receive()) is not None:
                data.append(answer.data)
            assert data == [b"0", b"1", b"2"]

    run(kind, test)


def test_status_of_a_stream_comes_behind_its_messages(kind: str) -> None:
    async def test(ends: Ends) -> None:
        async def two_then_fail(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            async for request in echo_batch(requests, call):
                yield request
                if request.request_ids[0] == 2:
                    raise RpcError(Code.ABORTED, "enough")

        async with ends.serve(streams={BATCH: two_then_fail}) as (channel, _):
            stream = channel.stream(BATCH)
            await stream.send(ids(1))
            await stream.send(ids(2))
            assert await stream.receive() is not None
            assert await stream.receive() is not None
            error = await refused(stream.receive())
            assert (error.code, error.message) == (Code.ABORTED, "enough")
            assert (await refused(stream.send(ids(3)))).code is Code.ABORTED

    run(kind, test)


def test_sender_waits_for_a_slow_receiver(kind: str) -> None:
    async def test(ends: Ends) -> None:
        go = asyncio.Event()

        async def slow(chunks: AsyncIterator[SnapshotChunk], call: Call) -> AsyncIterator[Done]:
            await go.wait()
            async for _ in chunks:
                pass
            yield Done()

        async with ends.serve(streams={SNAPSHOT: slow}) as (channel, _):
            stream = channel.stream(SNAPSHOT)
            sent = 0

            async def send_all() -> None:
                nonlocal sent
                for _ in range(2000):
                    await stream.send(SnapshotChunk(data=bytes(100_000)))
                    sent += 1
                await stream.done_sending()

            sender = asyncio.ensure_future(send_all())
            await asyncio.sleep(0.3)
            assert sent < 2000
            go.set()
            await sender
            assert await stream.receive() == Done()

    run(kind, test)


def test_cancelled_stream_ends_both_ends(kind: str) -> None:
    async def test(ends: Ends) -> None:
        over = asyncio.Event()

        async def watch(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            try:
                async for request in echo_batch(requests, call):
                    yield request
            finally:
                over.set()

        async with ends.serve(streams={BATCH: watch}) as (channel, _):
            stream = channel.stream(BATCH)
            await stream.send(ids(1))
            await stream.receive()
            waiting = asyncio.ensure_future(stream.receive())
            await asyncio.sleep(0)
            stream.cancel()
            stream.cancel()
            assert (await refused(waiting)).code is Code.CANCELLED
            assert (await refused(stream.send(ids(2)))).code is Code.CANCELLED
            await asyncio.wait_for(over.wait(), 5)

    run(kind, test)


def test_forgotten_channel_ends_its_calls(kind: str) -> None:
    async def test(ends: Ends) -> None:
        started = asyncio.Event()

        async def hang(request: RawGetRequest, call: Call) -> RawGetResponse:
            started.set()
            await asyncio.sleep(TIMEOUT_S)
            return RawGetResponse()

        async with ends.serve({RAW_GET: hang}, {BATCH: echo_batch}) as (channel, server):
            call = asyncio.ensure_future(channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S))
            stream = channel.stream(BATCH)
            await stream.send(ids(1))
            await stream.receive()
            receiving = asyncio.ensure_future(stream.receive())
            await started.wait()
            ends.forget(server)
            assert (await refused(call)).code is Code.CANCELLED
            assert (await refused(receiving)).code is Code.CANCELLED
            again = ends.channel(server).stream(BATCH)
            await again.send(ids(2))
            assert await again.receive() == answered(2)
            again.cancel()

    run(kind, test)


def test_stopped_server_breaks_what_goes_on(kind: str) -> None:
    async def test(ends: Ends) -> None:
        started = asyncio.Event()
        over: list[str] = []

        async def hang(request: RawGetRequest, call: Call) -> RawGetResponse:
            started.set()
            try:
                await asyncio.sleep(TIMEOUT_S)
            finally:
                over.append("unary")
            return RawGetResponse()

        async def watch(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
            try:
                async for request in echo_batch(requests, call):
                    yield request
            finally:
                over.append("stream")

        async with ends.serve({RAW_GET: hang}, {BATCH: watch}) as (channel, server):
            call = asyncio.ensure_future(channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S))
            stream = channel.stream(BATCH)
            await stream.send(ids(1))
            await stream.receive()
            await started.wait()
            await server.stop(0.05)
            assert (await refused(call)).code in (Code.UNAVAILABLE, Code.CANCELLED)
            assert (await refused(stream.receive())).code in (Code.UNAVAILABLE, Code.CANCELLED)
            assert (await refused(channel.unary(RAW_GET, RawGetRequest(), 5))).code is Code.UNAVAILABLE
            await asyncio.sleep(0.05)
            assert sorted(over) == ["stream", "unary"]

    run(kind, test)


def test_stopping_server_lets_calls_finish(kind: str) -> None:
    async def test(ends: Ends) -> None:
        started = asyncio.Event()

        async def slow(request: RawGetRequest, call: Call) -> RawGetResponse:
            started.set()
            await asyncio.sleep(0.1)
            return RawGetResponse(value=b"done")

        async with ends.serve({RAW_GET: slow}) as (channel, server):
            call = asyncio.ensure_future(channel.unary(RAW_GET, RawGetRequest(), TIMEOUT_S))
            await started.wait()
            await server.stop(5)
            assert (await call).value == b"done"

    run(kind, test)
