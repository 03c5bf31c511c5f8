"""Splits, garbage, ranges, records under a key, and what leaders say of themselves."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from kvstore.codec import encode_bytes
from kvstore.proto import coprocessor_pb2
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.server.metrics import ServiceMetrics
from tests.server.ends import Node, everywhere, serving

Op = pb.Op


def test_a_region_is_split_at_encoded_keys() -> None:
    async def test(node: Node) -> None:
        response = await node.call("SplitRegion", pb.SplitRegionRequest(split_keys=[b"m", b"f", b"m"]))
        bounds = [region.start_key for region in response.regions]
        assert bounds == [b"", encode_bytes(b"f"), encode_bytes(b"m")]
        assert not response.HasField("left")
        two = await node.call("SplitRegion", pb.SplitRegionRequest(split_key=b"b"))
        assert (two.left.end_key, two.right.start_key) == (encode_bytes(b"b"), encode_bytes(b"b"))
        outside = await node.call("SplitRegion", pb.SplitRegionRequest(split_keys=[b"z"]))
        assert outside.region_error.HasField("key_not_in_region")
        assert (await node.call("SplitRegion", pb.SplitRegionRequest())).errors[0].abort

    serving(test)


def test_what_lies_under_a_key() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1")
        await node.put(30, 40, a="2" * 300)
        await node.prewrite(50, {b"a": b"3"}, lock_ttl=7)
        await node.put(5, 6, ab="other")
        info = (await node.call("MvccGetByKey", pb.MvccGetByKeyRequest(key=b"a"))).info
        assert (info.lock.start_ts, info.lock.type, info.lock.short_value, info.lock.ttl) == (50, Op.Put, b"3", 7)
        assert [(w.start_ts, w.commit_ts, w.short_value) for w in info.writes] == [(30, 40, b""), (10, 20, b"1")]
        assert [(v.start_ts, v.value) for v in info.values] == [(30, b"2" * 300)]
        for start_ts in (10, 50):
            found = await node.call("MvccGetByStartTs", pb.MvccGetByStartTsRequest(start_ts=start_ts))
            assert (found.key, found.info) == (b"a", info)
        assert not (await node.call("MvccGetByStartTs", pb.MvccGetByStartTsRequest(start_ts=11))).key

    everywhere(test)


def test_garbage_below_the_safe_point_goes() -> None:
    async def test(node: Node) -> None:
        for at in range(10, 50, 10):
            await node.put(at, at + 5, a=f"{at}", b=f"{at}")
        delete = [pb.Mutation(op=Op.Del, key=b"b")]
        await node.call("KvPrewrite", pb.PrewriteRequest(mutations=delete, primary_lock=b"b", start_version=60))
        await node.commit(60, 65, b"b")
        await node.call("KvGC", pb.GCRequest(safe_point=70))
        writes = (await node.call("MvccGetByKey", pb.MvccGetByKeyRequest(key=b"a"))).info.writes
        assert [write.commit_ts for write in writes] == [45]
        assert not (await node.call("MvccGetByKey", pb.MvccGetByKeyRequest(key=b"b"))).info.writes
        assert (await node.get(b"a", 70)).value == b"40"

    everywhere(test)


def test_garbage_of_many_keys_goes() -> None:
    async def test(node: Node) -> None:
        pairs = {f"k{at:05}": "v" for at in range(1500)}
        await node.put(10, 20, **pairs)
        await node.put(30, 40, **pairs)
        assert await node.service.admin.collect(node.store.context(), 50) == 1500
        assert await node.service.admin.collect(node.store.context(), 50) == 0

    everywhere(test)


def test_garbage_whose_newest_version_was_the_last_one_looked_at_goes() -> None:
    async def test(node: Node) -> None:
        pairs = {f"k{at:05}": "v" for at in range(600)}
        await node.put(10, 20, a="v", **pairs)
        await node.put(30, 40, **pairs)
        assert await node.service.admin.collect(node.store.context(), 50) == 600

    everywhere(test)


def test_ranges_are_deleted() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1", b="2", c="3", d="4")
        await node.call("KvDeleteRange", pb.DeleteRangeRequest(start_key=b"b", end_key=b"c"))
        await node.call("KvDeleteRange", pb.DeleteRangeRequest(start_key=b"c", end_key=b"d", notify_only=True))
        scan = await node.call("KvScan", pb.ScanRequest(limit=9, version=30))
        assert [pair.key for pair in scan.pairs] == [b"a", b"c", b"d"]
        await node.call("UnsafeDestroyRange", pb.UnsafeDestroyRangeRequest(start_key=b"c"))
        scan = await node.call("KvScan", pb.ScanRequest(limit=9, version=30))
        assert [pair.key for pair in scan.pairs] == [b"a"]
        inverted = pb.UnsafeDestroyRangeRequest(start_key=b"c", end_key=b"b")
        assert "inverted" in (await node.call("UnsafeDestroyRange", inverted)).error

    everywhere(test)


def test_a_follower_s_read_is_announced_to_the_leader() -> None:
    async def test(node: Node) -> None:
        ranges = [pb.KeyRange(start_key=b"a", end_key=b"b")]
        answer = await node.call("ReadIndex", pb.ReadIndexRequest(start_ts=900, ranges=ranges))
        assert (answer.read_index, answer.HasField("locked")) == (node.store.applied, False)
        assert (await node.prewrite(10, {b"a": b"1"}, try_one_pc=True)).one_pc_commit_ts == 901

    serving(test)


def test_leaders_are_confirmed_by_what_is_known_here() -> None:
    async def test(node: Node) -> None:
        region = node.store.regions()[0]
        right = pb.LeaderInfo(region_id=1, peer_id=region.peers[0].id, region_epoch=region.region_epoch)
        wrong = pb.LeaderInfo(region_id=1, peer_id=99, region_epoch=region.region_epoch)
        for info, confirmed in ((right, [1]), (wrong, []), (pb.LeaderInfo(region_id=5), [])):
            response = await node.call("CheckLeader", pb.CheckLeaderRequest(regions=[info], ts=3), region=None)
            assert (list(response.regions), response.ts) == (confirmed, 3)
        assert (await node.call("GetStoreSafeTS", pb.StoreSafeTSRequest(), region=None)).safe_ts == 0

    serving(test)


def test_without_a_coprocessor_its_calls_say_so() -> None:
    async def test(node: Node) -> None:
        request = coprocessor_pb2.Request(tp=103, data=b"x")
        assert "no coprocessor" in (await node.call("Coprocessor", request)).other_error

    everywhere(test)


def test_what_is_measured() -> None:
    async def test(node: Node) -> None:
        registry = CollectorRegistry()
        ServiceMetrics(registry, node.service)
        await node.put(10, 20, a="1")
        await node.lock(30, b"a")
        await node.lock(31, b"a", wait_timeout=10)
        await node.get(b"a", 40)

        def sample(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(name, labels)

        assert sample("tikv_storage_command_total", type="KvPessimisticLock") == 2
        assert sample("tikv_storage_command_total", type="KvGet") == 1
        assert sample("tikv_scheduler_command_duration_seconds_count", type="prewrite") == 1
        assert sample("tikv_scheduler_command_duration_seconds_count", type="commit") == 1
        assert sample("tikv_scheduler_command_duration_seconds_count", type="acquire_pessimistic_lock") == 2
        assert sample("tikv_lock_manager_task_counter_total", type="timeout") == 1
        assert sample("tikv_lock_manager_error_counter_total", type="deadlock") == 0
        assert sample("tikv_concurrency_manager_max_ts") == 40
        assert sample("tikv_lock_manager_detector_leader") == 1

    serving(test)
