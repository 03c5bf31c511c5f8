"""Many requests on one stream."""

from __future__ import annotations

import asyncio
from typing import Any

from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.tikvpb_pb2 import BatchCommandsEmptyRequest, BatchCommandsRequest, BatchCommandsResponse
from kvstore.rpc.api import Stream
from kvstore.server.limits import ServiceLimits
from kvstore.server.service import METHODS
from tests.server.ends import Node, serving

Request = BatchCommandsRequest.Request


def open_stream(node: Node) -> Stream:
    return node.network.transport("client").channel(node.address).stream(METHODS["BatchCommands"])


def message(node: Node, *requests: Request, first_id: int = 1) -> BatchCommandsRequest:
    for request in requests:
        name = request.WhichOneof("cmd")
        if name not in (None, "Empty"):
            body = getattr(request, name)
            if not body.HasField("context"):
                body.context.CopyFrom(node.store.context())
    return BatchCommandsRequest(requests=requests, request_ids=range(first_id, first_id + len(requests)))


async def answers(stream: Stream, count: int) -> dict[int, BatchCommandsResponse.Response]:
    found: dict[int, BatchCommandsResponse.Response] = {}
    while len(found) < count:
        got: Any = await stream.receive()
        assert got is not None
        asked = [one.GetHealthFeedback for one in got.responses if one.HasField("GetHealthFeedback")]
        assert got.HasField("health_feedback") == bool(asked), "clients look for it beside the answers"
        assert not asked or got.health_feedback == asked[-1].health_feedback
        found.update(zip(got.request_ids, got.responses, strict=True))
    return found


def test_each_request_gets_its_answer() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1")
        await node.call("RawPut", pb.RawPutRequest(key=b"r", value=b"v"))
        stream = open_stream(node)
        await stream.send(
            message(
                node,
                Request(Get=pb.GetRequest(key=b"a", version=30)),
                Request(RawGet=pb.RawGetRequest(key=b"r")),
                Request(Prewrite=pb.PrewriteRequest(mutations=[pb.Mutation(key=b"b")], start_version=40)),
                Request(PessimisticLock=node.lock_request(50, b"c")),
                Request(Empty=BatchCommandsEmptyRequest(test_id=7)),
                Request(Scan=pb.ScanRequest(limit=1, version=30)),
                Request(GetHealthFeedback=pb.GetHealthFeedbackRequest()),
                Request(),
            )
        )
        found = await answers(stream, 8)
        assert found[1].Get.value == b"1"
        assert found[2].RawGet.value == b"v"
        assert found[3].WhichOneof("cmd") == "Prewrite"
        assert not found[4].PessimisticLock.errors
        assert found[5].Empty.test_id == 7
        assert found[6].Scan.pairs[0].key == b"a"
        assert found[7].GetHealthFeedback.health_feedback.store_id == 1
        assert found[8].WhichOneof("cmd") == "Empty"
        await stream.done_sending()
        assert await stream.receive() is None

    serving(test)


def test_puts_of_one_message_are_one_write_and_one_answer() -> None:
    async def test(node: Node) -> None:
        writes: list[int] = []
        plain = node.store.write

        async def write(context: pb.Context, entries: Any, *, term: int = 0) -> int:
            writes.append(len(entries))
            return await plain(context, entries, term=term)

        node.store.write = write  # type: ignore[method-assign]
        stream = open_stream(node)
        puts = [Request(RawPut=pb.RawPutRequest(key=b"k%d" % at, value=b"v")) for at in range(50)]
        puts.append(Request(RawDelete=pb.RawDeleteRequest(key=b"k0")))
        await stream.send(message(node, *puts))
        got: Any = await stream.receive()
        assert len(got.responses) == 51
        assert writes == [51]
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"k0"))).not_found
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"k49"))).value == b"v"

    serving(test)


def test_errors_are_each_request_s_own() -> None:
    async def test(node: Node) -> None:
        stream = open_stream(node)
        stale = node.store.context()
        stale.region_epoch.version = 77
        await stream.send(
            message(
                node,
                Request(RawPut=pb.RawPutRequest(key=b"a", value=b"1")),
                Request(RawPut=pb.RawPutRequest(key=b"", value=b"1")),
                Request(RawPut=pb.RawPutRequest(key=b"b", value=b"1", context=stale)),
                Request(RawPut=pb.RawPutRequest(key=b"c", value=b"1", for_cas=True)),
                Request(RawDelete=pb.RawDeleteRequest(key=b"d", cf="x")),
                Request(Get=pb.GetRequest(key=b"a", context=stale)),
            )
        )
        found = await answers(stream, 6)
        assert found[1].RawPut == pb.RawPutResponse()
        assert "empty" in found[2].RawPut.error
        assert found[3].RawPut.region_error.HasField("epoch_not_match")
        assert found[4].RawPut == pb.RawPutResponse()
        assert "cf" in found[5].RawDelete.error
        assert found[6].Get.region_error.HasField("epoch_not_match")

    serving(test)


def test_a_slow_request_holds_up_no_other() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        stream = open_stream(node)
        await stream.send(message(node, Request(PessimisticLock=node.lock_request(20, b"a", wait_timeout=60_000))))
        await stream.send(message(node, Request(RawGet=pb.RawGetRequest(key=b"r")), first_id=2))
        assert (await answers(stream, 1))[2].RawGet.not_found
        await stream.done_sending()
        await asyncio.sleep(1)
        await node.unlock(10, b"a")
        assert not (await answers(stream, 1))[1].PessimisticLock.errors
        assert await stream.receive() is None

    serving(test)


def test_over_the_limit_the_store_is_busy() -> None:
    async def test(node: Node) -> None:
        node.store.has_lease = False
        stream = open_stream(node)
        gets = [Request(RawGet=pb.RawGetRequest(key=b"k")) for _ in range(5)]
        await stream.send(message(node, *gets))
        found = (await answers(stream, 5)).values()
        busy = [answer for answer in found if answer.RawGet.HasField("region_error")]
        assert len(busy) == 3
        assert busy[0].RawGet.region_error.server_is_busy.backoff_ms == 70

    serving(test, limits=ServiceLimits(requests_max=2, busy_backoff_ms=70))
