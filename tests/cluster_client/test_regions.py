"""Finding regions, and what each region error makes the client do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from kvstore.client.api import ReadFrom
from kvstore.client.cluster.backoff import Backoff
from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.errors import RaftEntryTooLarge, RefusedRequest, RegionUnavailable
from kvstore.client.cluster.regions import RawKeys, RegionCache, TxnKeys
from kvstore.codec import encode_bytes
from kvstore.proto import errorpb_pb2 as errorpb
from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch
from tests.cluster_client.mock import MockCluster
from tests.cluster_client.world import CutOff, put_all, read, read_all, with_cluster

PAIRS = {b"a": b"1", b"h": b"2", b"t": b"3"}


def cache() -> RegionCache:
    """One that never asks anybody."""
    return RegionCache(None, RawKeys(), random.Random(1), lambda: 0.0)  # type: ignore[arg-type]


def region(region_id: int, start: bytes, end: bytes, version: int, conf_ver: int = 1) -> Region:
    epoch = RegionEpoch(version=version, conf_ver=conf_ver)
    peers = [Peer(id=region_id * 10 + n, store_id=n) for n in (1, 2, 3)]
    return Region(id=region_id, start_key=start, end_key=end, region_epoch=epoch, peers=peers)


def spans(regions: RegionCache) -> list[tuple[int, bytes, bytes]]:
    return [(one.id, one.start, one.end) for one in regions._regions]


def test_regions_replace_what_they_overlap_and_older_ones_are_refused() -> None:
    regions = cache()
    assert regions.insert((region(1, b"", b"", 1), None))
    assert regions.insert((region(1, b"m", b"", 2), None))
    assert spans(regions) == [(1, b"m", b"")]
    assert regions.find(b"a") is None
    assert regions.insert((region(2, b"", b"m", 2), None))
    assert not regions.insert((region(1, b"", b"", 1), None))
    assert spans(regions) == [(2, b"", b"m"), (1, b"m", b"")]
    # a merge: one newer region over both
    assert regions.insert((region(1, b"", b"", 3), None))
    assert spans(regions) == [(1, b"", b"")]
    assert not regions.insert((region(1, b"", b"", 3, conf_ver=0), None))


def test_the_region_of_a_key_and_the_one_before_it() -> None:
    regions = cache()
    for found in (region(1, b"", b"g", 1), region(2, b"g", b"m", 1), region(3, b"p", b"", 1)):
        regions.insert((found, None))
    ids = {key: one.id if (one := regions.find(key)) else None for key in (b"", b"f", b"g", b"l", b"m", b"p", b"z")}
    assert ids == {b"": 1, b"f": 1, b"g": 2, b"l": 2, b"m": None, b"p": 3, b"z": 3}
    before = {
        end: one.id if (one := regions.find_before(end)) else None for end in (b"a", b"g", b"h", b"m", b"n", b"q", b"")
    }
    assert before == {b"a": 1, b"g": 1, b"h": 2, b"m": 2, b"n": None, b"q": 3, b"": 3}


def test_cached_regions_expire() -> None:
    now = 0.0
    regions = RegionCache(None, RawKeys(), random.Random(1), lambda: now)  # type: ignore[arg-type]
    regions.insert((region(1, b"", b"", 1), None))
    now = 590.0
    assert regions.find(b"a") is not None
    now = 1300.0
    assert regions.find(b"a") is None


def test_bounds_are_decoded_for_transactions_and_a_raw_bound_is_an_error() -> None:
    codec = TxnKeys()
    assert codec.encode(b"") == b""
    for key in (b"a", b"12345678", b"123456789"):
        assert codec.encode(key) == encode_bytes(key)
        assert codec.decode(codec.encode(key)) == key
    with pytest.raises(RefusedRequest, match="not that of a transactional key"):
        codec.decode(b"raw")


def test_misses_of_many_callers_are_one_question() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.pd.calls.clear()
        snapshot = client.snapshot(await client.now_ts())
        await asyncio.gather(*(snapshot.get(b"k%d" % n) for n in range(50)))
        assert cluster.pd.calls.count("GetRegion") == 1
        assert cluster.pd.calls.count("GetStore") <= 50

    with_cluster(scenario)


def test_groups_follow_the_regions_and_are_prefetched() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(*(b"%02d" % n for n in range(1, 60)))
        cluster.pd.calls.clear()
        backoff = Backoff(1000, random.Random(1))
        groups = await client.regions.group(backoff, [b"%03d" % n for n in range(600)])
        assert [len(keys) for _, keys in groups] == [10] * 60
        assert cluster.pd.calls == ["ScanRegions"]
        assert [one.start for one in await client.regions.locate_all(backoff, b"30", b"33")] == [b"30", b"31", b"32"]

    with_cluster(scenario)


def error(**member: object) -> errorpb.Error:
    return errorpb.Error(message="scripted", **member)  # type: ignore[arg-type]


TRANSIENT = {
    "server_is_busy": lambda: error(server_is_busy=errorpb.ServerIsBusy(reason="test", backoff_ms=300)),
    "stale_command": lambda: error(stale_command=errorpb.StaleCommand()),
    "region_not_found": lambda: error(region_not_found=errorpb.RegionNotFound(region_id=1)),
    "key_not_in_region": lambda: error(key_not_in_region=errorpb.KeyNotInRegion()),
    "epoch_not_match": lambda: error(epoch_not_match=errorpb.EpochNotMatch()),
    "store_not_match": lambda: error(store_not_match=errorpb.StoreNotMatch(request_store_id=1)),
    "not_leader": lambda: error(not_leader=errorpb.NotLeader()),
    "not_leader_unknown_peer": lambda: error(not_leader=errorpb.NotLeader(leader=Peer(id=999, store_id=9))),
    "max_timestamp_not_synced": lambda: error(max_timestamp_not_synced=errorpb.MaxTimestampNotSynced()),
    "read_index_not_ready": lambda: error(read_index_not_ready=errorpb.ReadIndexNotReady()),
    "proposal_in_merging_mode": lambda: error(proposal_in_merging_mode=errorpb.ProposalInMergingMode()),
    "data_is_not_ready": lambda: error(data_is_not_ready=errorpb.DataIsNotReady()),
    "region_not_initialized": lambda: error(region_not_initialized=errorpb.RegionNotInitialized()),
    "disk_full": lambda: error(disk_full=errorpb.DiskFull(store_id=[1], reason="test")),
    "mismatch_peer_id": lambda: error(mismatch_peer_id=errorpb.MismatchPeerId()),
    "undetermined_result": lambda: error(undetermined_result=errorpb.UndeterminedResult()),
    "only a message": lambda: error(),
}


@pytest.mark.parametrize("name", TRANSIENT)
@pytest.mark.parametrize("times", [1, 4])
def test_a_region_error_is_gone_through(name: str, times: int) -> None:
    make: Callable[[], errorpb.Error] = TRANSIENT[name]

    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g", b"m")
        for call in ("Prewrite", "Commit", "Get", "Scan", "BatchGet"):
            cluster.fault(call, error=make(), times=times)
        await put_all(client, PAIRS)
        assert {key: await read(client, key) for key in PAIRS} == PAIRS
        assert await read_all(client) == PAIRS
        assert await client.snapshot(await client.now_ts()).batch_get(PAIRS) == PAIRS
        assert all(fault.times == 0 for fault in cluster.faults if fault.name not in ("Commit",))

    with_cluster(scenario)


def test_a_region_that_never_answers_is_unavailable_when_the_budget_is_spent() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.fault("Get", error=TRANSIENT["stale_command"](), times=10**6)
        began = asyncio.get_running_loop().time()
        with pytest.raises(RegionUnavailable, match="stale_command") as found:
            await read(client, b"a")
        assert not found.value.maybe_executed
        assert 15 < asyncio.get_running_loop().time() - began < 30

    with_cluster(scenario)


def test_an_entry_too_large_is_final() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        too_large = errorpb.RaftEntryTooLarge(region_id=1, entry_size=9 << 20)
        cluster.fault("Prewrite", error=error(raft_entry_too_large=too_large))
        with pytest.raises(RaftEntryTooLarge):
            await put_all(client, {b"a": b"1"})

    with_cluster(scenario)


def test_a_busy_store_is_left_alone_for_as_long_as_it_asks() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        busy = errorpb.ServerIsBusy(backoff_ms=2000)
        cluster.fault("Get", error=error(server_is_busy=busy))
        began = asyncio.get_running_loop().time()
        await read(client, b"a")
        assert 2 <= asyncio.get_running_loop().time() - began < 2.5

    with_cluster(scenario)


def test_a_cache_from_before_a_split_learns_without_asking_the_placement_driver() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, PAIRS)
        cluster.split(b"g", b"m", tell=False)
        cluster.pd.calls.clear()
        assert {key: await read(client, key) for key in PAIRS} == PAIRS
        assert "GetRegion" not in cluster.pd.calls
        assert len(client.regions) == 3

    with_cluster(scenario)


def test_a_leader_that_moved_is_followed_by_the_stores_word() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, PAIRS)
        for store_id in (2, 3, 1, 3):
            cluster.move_leader(b"a", store_id, tell=False)
            cluster.pd.calls.clear()
            assert await read(client, b"a") == b"1"
            assert "GetRegion" not in cluster.pd.calls

    with_cluster(scenario)


def test_an_election_is_waited_out() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, PAIRS)
        cluster.move_leader(b"a", None)
        reading = asyncio.ensure_future(read(client, b"a"))
        await asyncio.sleep(3)
        assert not reading.done()
        cluster.move_leader(b"a", 3)
        began = asyncio.get_running_loop().time()
        assert await reading == b"1"
        assert asyncio.get_running_loop().time() - began < 1

    with_cluster(scenario)


@pytest.mark.parametrize("told", [True, False])
def test_a_leader_that_dies_is_replaced_soon_after_the_election(told: bool) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, PAIRS)
        await cluster.stop_store(1)
        reading = asyncio.ensure_future(read(client, b"a"))
        await asyncio.sleep(4)
        assert not reading.done()
        cluster.move_leader(b"a", 2, tell=told)
        began = asyncio.get_running_loop().time()
        assert await reading == b"1"
        assert asyncio.get_running_loop().time() - began < 1.5

    with_cluster(scenario)


def test_a_store_that_hangs_is_given_up_for_another_after_a_timeout() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, PAIRS)
        cluster.fault("Get", delay_s=10**6, times=10**6, when=lambda request: request.context.peer.store_id == 1)
        began = asyncio.get_running_loop().time()
        reading = [asyncio.ensure_future(read(client, key)) for key in PAIRS]
        await asyncio.sleep(1)
        cluster.move_leader(b"a", 2, tell=False)
        assert await asyncio.gather(*reading) == list(PAIRS.values())
        assert asyncio.get_running_loop().time() - began < 7

    with_cluster(scenario)


def test_a_store_that_does_not_answer_costs_one_timeout_however_long_it_lasts() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"h", b"t")
        await put_all(client, PAIRS)
        loop = asyncio.get_running_loop()
        network = CutOff("s1")
        cluster.network.faults = network
        for key in PAIRS:
            cluster.move_leader(key, 2, tell=False)
        assert await read(client, b"a") == b"1"
        await asyncio.sleep(60)
        began = loop.time()
        assert await read(client, b"h") == b"2"  # the cache still has store 1 for its leader
        assert loop.time() - began < 1
        network.on = False
        await asyncio.sleep(3)
        for key in PAIRS:
            cluster.move_leader(key, 1, tell=False)
        began = loop.time()
        assert await read(client, b"t") == b"3"  # it is asked again, and so is whoever names it
        assert await read(client, b"h") == b"2"
        assert loop.time() - began < 1

    with_cluster(scenario)


def test_followers_and_mixed_reads_and_stale_reads() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, PAIRS)
        ts = await client.now_ts()
        for read_from, stores in ((ReadFrom.FOLLOWER, {2, 3}), (ReadFrom.MIXED, {1, 2, 3}), (ReadFrom.LEADER, {1})):
            cluster.log.clear()
            snapshot = client.snapshot(ts, read=read_from)
            for _ in range(9):
                assert await snapshot.get(b"a") == b"1"
            assert {request.context.peer.store_id for request in cluster.log} == stores
            assert all(one.context.replica_read == (one.context.peer.store_id != 1) for one in cluster.log)
        cluster.log.clear()
        not_ready = error(data_is_not_ready=errorpb.DataIsNotReady())
        cluster.fault("Get", error=not_ready, when=lambda request: request.context.stale_read)
        assert await client.snapshot(ts, read=ReadFrom.STALE).get(b"a") == b"1"
        (request,) = cluster.log
        assert (request.context.stale_read, request.context.peer.store_id) == (False, 1)

    with_cluster(scenario)


def test_follower_reads_go_to_the_leader_when_no_follower_answers() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, PAIRS)
        await cluster.stop_store(2)
        await cluster.stop_store(3)
        assert await client.snapshot(await client.now_ts(), read=ReadFrom.FOLLOWER).get(b"a") == b"1"

    with_cluster(scenario)
