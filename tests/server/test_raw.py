"""The raw calls: plain and expiring values, scans, compare-and-swap."""

from __future__ import annotations

import asyncio
from typing import Any

from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.server.limits import COMMAND_KEYS_MAX
from tests.server.ends import Node, everywhere, serving


async def fill(node: Node, *keys: bytes) -> None:
    pairs = [pb.KvPair(key=key, value=b"v" + key) for key in keys]
    assert await node.call("RawBatchPut", pb.RawBatchPutRequest(pairs=pairs)) == pb.RawBatchPutResponse()


async def scan(node: Node, start: bytes = b"", end: bytes = b"", limit: int = 100, **options: Any) -> list[bytes]:
    request = pb.RawScanRequest(start_key=start, end_key=end, limit=limit, **options)
    response = await node.call("RawScan", request)
    assert not response.HasField("region_error"), response
    return [pair.key for pair in response.kvs]


def test_batches_and_deletes() -> None:
    async def test(node: Node) -> None:
        await fill(node, b"a", b"b", b"c")
        got = await node.call("RawBatchGet", pb.RawBatchGetRequest(keys=[b"a", b"x", b"c"], cf="default"))
        assert [(pair.key, pair.value) for pair in got.pairs] == [(b"a", b"va"), (b"c", b"vc")]
        await node.call("RawDelete", pb.RawDeleteRequest(key=b"a"))
        await node.call("RawBatchDelete", pb.RawBatchDeleteRequest(keys=[b"c", b"x"]))
        assert await scan(node) == [b"b"]
        await fill(node, b"a", b"c", b"d")
        await node.call("RawDeleteRange", pb.RawDeleteRangeRequest(start_key=b"b", end_key=b"d"))
        assert await scan(node) == [b"a", b"d"]

    everywhere(test)


def test_scans() -> None:
    async def test(node: Node) -> None:
        await fill(node, b"a", b"b", b"c", b"d")
        assert await scan(node, b"b") == [b"b", b"c", b"d"]
        assert await scan(node, b"b", b"d") == [b"b", b"c"]
        assert await scan(node, limit=2) == [b"a", b"b"]
        assert await scan(node, limit=0) == []
        assert await scan(node, b"d", b"b", reverse=True) == [b"c", b"b"]
        assert await scan(node, reverse=True, limit=1) == [b"d"]
        only = await node.call("RawScan", pb.RawScanRequest(limit=1, key_only=True))
        assert [(pair.key, pair.value) for pair in only.kvs] == [(b"a", b"")]
        ranges = [pb.KeyRange(start_key=b"a"), pb.KeyRange(start_key=b"b", end_key=b"d")]
        both = await node.call("RawBatchScan", pb.RawBatchScanRequest(ranges=ranges, each_limit=2))
        assert [pair.key for pair in both.kvs] == [b"a", b"b", b"c"]
        inverted = await node.call("RawScan", pb.RawScanRequest(start_key=b"b", end_key=b"a", limit=1))
        assert "inverted" in inverted.region_error.message

    everywhere(test)


def test_scans_stay_inside_the_region() -> None:
    async def test(node: Node) -> None:
        await fill(node, b"a", b"m", b"z")
        split = pb.SplitRegionRequest(split_keys=[b"m"], is_raw_kv=True)
        regions = (await node.call("SplitRegion", split)).regions
        assert [(region.start_key, region.end_key) for region in regions] == [(b"", b"m"), (b"m", b"")]
        assert await scan(node) == [b"a"]
        assert await scan(node, b"a", b"zz") == [b"a"]
        right = await node.call("RawScan", pb.RawScanRequest(limit=9, reverse=True), region=2)
        assert [pair.key for pair in right.kvs] == [b"z", b"m"]
        put = pb.RawPutRequest(key=b"x", value=b"1")
        assert (await node.call("RawPut", put)).region_error.key_not_in_region.key == b"x"
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"x"))).region_error.HasField("key_not_in_region")

    serving(test)


def test_what_cannot_be_right_is_refused() -> None:
    async def test(node: Node) -> None:
        put = pb.RawPutRequest(key=b"k", value=b"v", cf="nope")
        assert (await node.call("RawPut", put)).error == "invalid cf name: nope"
        assert "empty" in (await node.call("RawPut", pb.RawPutRequest(value=b"v"))).error
        assert "limit" in (await node.call("RawPut", pb.RawPutRequest(key=b"k" * 9000))).error
        assert "time to live" in (await node.call("RawPut", pb.RawPutRequest(key=b"k", ttl=5))).error
        v2 = pb.Context(api_version=pb.APIVersion.V2)
        assert "API version" in (await node.call("RawPut", pb.RawPutRequest(context=v2, key=b"k"))).error
        assert "API version" in (await node.call("RawGet", pb.RawGetRequest(context=v2, key=b"k"))).error
        ttls = pb.RawBatchPutRequest(pairs=[pb.KvPair(key=b"a")], ttls=[1, 2])
        assert "2 times to live" in (await node.call("RawBatchPut", ttls)).error
        many = pb.RawBatchGetRequest(keys=[b"k"] * (COMMAND_KEYS_MAX + 1))
        assert "limit" in (await node.call("RawBatchGet", many)).region_error.message
        assert await scan(node) == []

    everywhere(test)


def test_compare_and_swap() -> None:
    async def cas(node: Node, value: bytes, **options: Any) -> pb.RawCASResponse:
        response: pb.RawCASResponse = await node.call(
            "RawCompareAndSwap", pb.RawCASRequest(key=b"k", value=value, **options)
        )
        return response

    async def test(node: Node) -> None:
        first = await cas(node, b"1", previous_not_exist=True)
        assert (first.succeed, first.previous_not_exist) == (True, True)
        failed = await cas(node, b"2", previous_not_exist=True)
        assert (failed.succeed, failed.previous_not_exist, failed.previous_value) == (False, False, b"1")
        swapped = await cas(node, b"2", previous_value=b"1")
        assert (swapped.succeed, swapped.previous_value) == (True, b"1")
        assert (await cas(node, b"", previous_value=b"2", delete=True)).succeed
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"k"))).not_found

    everywhere(test)


def test_of_concurrent_swaps_each_sees_the_last() -> None:
    async def add(node: Node) -> int:
        tries = 0
        while True:
            tries += 1
            old = await node.call("RawGet", pb.RawGetRequest(key=b"n"))
            value = b"%d" % (int(old.value or b"0") + 1)
            swap = pb.RawCASRequest(key=b"n", value=value, previous_value=old.value, previous_not_exist=old.not_found)
            if (await node.call("RawCompareAndSwap", swap)).succeed:
                return tries

    async def test(node: Node) -> None:
        node.store.write_delay_s = 0.01
        tries = await asyncio.gather(*(add(node) for _ in range(10)))
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"n"))).value == b"10"
        assert sum(tries) > 10  # they did meet

    serving(test)


def test_a_swap_whose_caller_goes_away_keeps_its_turn() -> None:
    async def test(node: Node) -> None:
        node.store.write_delay_s = 1.0
        for lost in (
            node.start("RawPut", pb.RawPutRequest(key=b"k", value=b"1", for_cas=True)),
            node.start("RawCompareAndSwap", pb.RawCASRequest(key=b"k", value=b"2", previous_value=b"1")),
        ):
            for _ in range(10):
                await asyncio.sleep(0)
            lost.cancel()
        swap = pb.RawCASRequest(key=b"k", value=b"3", previous_value=b"2")
        assert (await node.call("RawCompareAndSwap", swap)).succeed

    serving(test)


def test_expiring_values() -> None:
    async def test(node: Node) -> None:
        await node.call("RawPut", pb.RawPutRequest(key=b"short", value=b"1", ttl=10))
        await node.call("RawPut", pb.RawPutRequest(key=b"ever", value=b"2"))
        pairs = [pb.KvPair(key=b"x", value=b"3"), pb.KvPair(key=b"y", value=b"4")]
        await node.call("RawBatchPut", pb.RawBatchPutRequest(pairs=pairs, ttls=[5, 100]))
        node.now_ms += 4_000
        assert (await node.call("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"short"))).ttl == 6
        assert (await node.call("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"ever"))).ttl == 0
        assert await scan(node) == [b"ever", b"short", b"x", b"y"]
        node.now_ms += 6_000
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"short"))).not_found
        assert (await node.call("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"short"))).not_found
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"ever"))).value == b"2"
        assert await scan(node, limit=2) == [b"ever", b"y"]
        swap = pb.RawCASRequest(key=b"short", value=b"5", previous_not_exist=True, ttl=3)
        assert (await node.call("RawCompareAndSwap", swap)).succeed
        assert "too long" in (await node.call("RawPut", pb.RawPutRequest(key=b"k", ttl=(1 << 64) - 1))).error
        v1ttl = pb.Context(api_version=pb.APIVersion.V1TTL)
        assert (await node.call("RawGet", pb.RawGetRequest(context=v1ttl, key=b"ever"))).value == b"2"
        assert "no transactions" in (await node.get(b"a", 10)).error.abort
        assert "no transactions" in (await node.prewrite(10, {b"a": b"1"})).errors[0].abort

    everywhere(test, raw_ttl=True)


def test_no_time_to_live_without_the_mode() -> None:
    async def test(node: Node) -> None:
        await fill(node, b"a")
        assert "time to live" in (await node.call("RawGetKeyTTL", pb.RawGetKeyTTLRequest(key=b"a"))).error

    everywhere(test)
