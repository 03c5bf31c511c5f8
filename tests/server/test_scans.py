"""Range and batch reads: order, bounds, limits, locks in the way."""

from __future__ import annotations

import asyncio

from kvstore.codec import encode_bytes
from kvstore.proto import kvrpcpb_pb2 as pb
from tests.server.ends import Node, everywhere, serving


async def scan(
    node: Node, start: bytes = b"", end: bytes = b"", limit: int = 100, **options: object
) -> pb.ScanResponse:
    request = pb.ScanRequest(start_key=start, end_key=end, limit=limit, **{"version": 100, **options})  # type: ignore[arg-type]
    response: pb.ScanResponse = await node.call("KvScan", request)
    return response


def keys(response: pb.ScanResponse) -> list[bytes]:
    return [pair.key for pair in response.pairs]


def test_forward_reverse_limit_and_keys_only() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1", b="2", c="3" * 300, d="4")
        assert keys(await scan(node)) == [b"a", b"b", b"c", b"d"]
        assert keys(await scan(node, b"b", b"d")) == [b"b", b"c"]
        assert keys(await scan(node, limit=2)) == [b"a", b"b"]
        assert keys(await scan(node, limit=0)) == []
        assert keys(await scan(node, b"d", b"b", reverse=True)) == [b"c", b"b"]
        assert keys(await scan(node, b"", b"b", reverse=True)) == [b"d", b"c", b"b"]
        assert keys(await scan(node, limit=3, sample_step=2)) == [b"a", b"c"]
        assert keys(await scan(node, version=19)) == []
        only = await scan(node, b"c", b"d", key_only=True)
        assert [(pair.key, pair.value) for pair in only.pairs] == [(b"c", b"")]
        assert (await scan(node, b"c", b"d")).pairs[0].value == b"3" * 300

    everywhere(test)


def test_a_locked_row_is_a_pair_with_an_error_and_the_scan_goes_on() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1", b="2", c="3")
        await node.prewrite(30, {b"b": b"5", b"bb": b"6"})
        for reverse in (False, True):
            response = await scan(node, reverse=reverse)
            assert not response.HasField("error")
            found = [pair.error.locked.key or pair.key for pair in response.pairs]
            assert found == sorted([b"a", b"b", b"bb", b"c"], reverse=reverse)
            assert sum(pair.HasField("error") for pair in response.pairs) == 2
        assert keys(await scan(node, version=29)) == [b"a", b"b", b"c"]
        known = pb.Context(committed_locks=[30])
        committed = await scan(node, context=known)
        assert [(pair.key, pair.value) for pair in committed.pairs][1:3] == [(b"b", b"5"), (b"bb", b"6")]
        assert keys(await scan(node, context=pb.Context(resolved_locks=[30]))) == [b"a", b"b", b"c"]
        assert keys(await scan(node, context=pb.Context(isolation_level=pb.IsolationLevel.RC))) == [b"a", b"b", b"c"]

    everywhere(test)


def test_a_lock_in_flight_fails_the_scan_in_both_places() -> None:
    async def test(node: Node) -> None:
        node.store.write_delay_s = 1.0
        writing = node.start("KvPrewrite", one_pc(10, b"b"))
        for _ in range(5):
            await asyncio.sleep(0)
        response = await scan(node)
        assert response.error.locked.key == b"b"
        assert response.pairs[0].error == response.error
        assert keys(await scan(node, version=10)) == []
        assert (await node.get(b"b", 100)).error.locked.lock_version == 10
        assert (await writing).one_pc_commit_ts > 0
        assert keys(await scan(node)) == [b"b"]

    serving(test)


def one_pc(start_ts: int, key: bytes) -> pb.PrewriteRequest:
    mutation = pb.Mutation(op=pb.Op.Put, key=key, value=b"v")
    return pb.PrewriteRequest(
        mutations=[mutation], primary_lock=key, start_version=start_ts, lock_ttl=3000, try_one_pc=True
    )


def test_a_scan_stays_inside_its_region() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1", m="2", z="3")
        await node.call("SplitRegion", pb.SplitRegionRequest(split_keys=[b"m"]))
        assert keys(await scan(node)) == [b"a"]
        right = pb.ScanRequest(start_key=b"m", limit=10, version=100)
        assert keys(await node.call("KvScan", right, region=2)) == [b"m", b"z"]
        back = pb.ScanRequest(end_key=b"a", limit=10, version=100, reverse=True)
        assert keys(await node.call("KvScan", back, region=2)) == [b"z", b"m"]
        outside = pb.ScanRequest(start_key=b"a", limit=10, version=100)
        assert (await node.call("KvScan", outside, region=2)).region_error.HasField("key_not_in_region")

    serving(test)


def test_a_region_bound_that_is_no_key_bounds_scans_all_the_same() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, aaaaaaaaa="1", aaaaaaaab="2", ab="3")
        whole = encode_bytes(b"aaaaaaaab")
        for bound in (whole, whole[:5], whole[:9], whole[:10], whole[:17], whole + b"x", b"aaaaaaaax", b"\xff" * 20):
            store = node.store
            store.add(1, b"", bound)
            store.add(2, bound, b"")
            below = keys(await scan(node))
            above = keys(await node.call("KvScan", pb.ScanRequest(start_key=b"", limit=9, version=99), region=1))
            assert below == above == [k for k in (b"aaaaaaaaa", b"aaaaaaaab", b"ab") if encode_bytes(k) < bound]
            back = pb.ScanRequest(limit=9, version=99, reverse=True)
            rest = keys(await node.call("KvScan", back, region=2))
            assert rest[::-1] == [k for k in (b"aaaaaaaaa", b"aaaaaaaab", b"ab") if encode_bytes(k) >= bound]

    serving(test)


def test_batch_get_leaves_out_what_is_not_there() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1", b="2")
        await node.prewrite(30, {b"b": b"3"})
        response = await node.call("KvBatchGet", pb.BatchGetRequest(keys=[b"a", b"b", b"x"], version=40))
        assert [pair.key for pair in response.pairs] == [b"a", b"b"]
        assert response.pairs[0].value == b"1"
        assert response.pairs[1].error.locked.lock_version == 30

    everywhere(test)


def test_an_answer_that_does_not_fit_is_refused_not_cut() -> None:
    async def test(node: Node) -> None:
        value = "x" * (8 << 20)
        for at in range(5):
            await node.put(10 + at, 20 + at, **{f"k{at}": value})
        response = await scan(node)
        assert "over" in response.error.abort
        assert len((await scan(node, limit=3)).pairs) == 3
        assert len((await scan(node, key_only=True)).pairs) == 5

    serving(test)


def test_without_a_lease_reads_wait_for_leave() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1")
        node.store.has_lease = False
        assert (await node.get(b"a", 30)).value == b"1"
        assert keys(await scan(node)) == [b"a"]
        assert (await node.call("KvBatchGet", pb.BatchGetRequest(keys=[b"a"], version=40))).pairs[0].value == b"1"

    serving(test)


def test_rc_check_ts_and_stale_reads() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1")
        response = await node.get(b"a", 15, isolation_level=pb.IsolationLevel.RCCheckTS)
        assert response.error.conflict.reason == pb.WriteConflict.Reason.RcCheckTs
        assert (await node.get(b"a", 25, isolation_level=pb.IsolationLevel.RCCheckTS)).value == b"1"
        assert (await node.get(b"a", 25, stale_read=True)).region_error.HasField("data_is_not_ready")

    everywhere(test)
