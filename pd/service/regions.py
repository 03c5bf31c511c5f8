"""Routing: regions by key, by id and in order, and the ids of splits."""

from __future__ import annotations

from itertools import pairwise

from kvstore.proto import pdpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Region
from pd.errors import Refused
from pd.leadership import Leadership
from pd.regions import RegionInfo
from pd.service.calls import Calls

SCAN_REGIONS_MAX = 10_000
"""Regions in one reply, whatever the limit asked for."""
SPLIT_COUNT_MAX = 1024
"""Regions that one split may make."""


def _fill(found: RegionInfo | None, reply: pb.GetRegionResponse | pb.RegionResponse | pb.Region) -> None:
    """No region leaves the reply without one, as PD does."""
    if found is None:
        return
    reply.region.CopyFrom(found.meta)
    if found.leader is not None:
        reply.leader.CopyFrom(found.leader)
    reply.down_peers.extend(found.down)
    reply.pending_peers.extend(found.pending)


async def get_region(lead: Leadership, request: pb.GetRegionRequest, reply: pb.GetRegionResponse) -> None:
    _fill(lead.cluster.regions.at(request.region_key), reply)


async def get_prev_region(lead: Leadership, request: pb.GetRegionRequest, reply: pb.GetRegionResponse) -> None:
    _fill(lead.cluster.regions.before(request.region_key), reply)


async def get_region_by_id(lead: Leadership, request: pb.GetRegionByIDRequest, reply: pb.GetRegionResponse) -> None:
    _fill(lead.cluster.regions.by_id(request.region_id), reply)


def _limit(asked: int) -> int:
    return min(asked, SCAN_REGIONS_MAX) if asked > 0 else SCAN_REGIONS_MAX


async def scan_regions(lead: Leadership, request: pb.ScanRegionsRequest, reply: pb.ScanRegionsResponse) -> None:
    for found in lead.cluster.regions.scan(request.start_key, request.end_key, _limit(request.limit)):
        _fill(found, reply.regions.add())
        reply.region_metas.append(found.meta)
        reply.leaders.append(found.leader) if found.leader is not None else reply.leaders.add()


def _whole(start: bytes, end: bytes, found: list[RegionInfo]) -> bool:
    """Whether the regions cover the range without a gap, all with leaders."""
    at = start
    for region in found:
        if region.start_key > at or region.leader is None:
            return False
        if not region.end_key:
            return True
        at = region.end_key
    return bool(end) and at >= end


async def batch_scan_regions(
    lead: Leadership, request: pb.BatchScanRegionsRequest, reply: pb.BatchScanRegionsResponse
) -> None:
    left, last_id, before = _limit(request.limit), 0, b""
    for key_range in request.ranges:
        if (before and key_range.start_key < before) or (key_range.end_key and key_range.end_key < key_range.start_key):
            raise Refused("key ranges must be in order and not overlap", pb.ErrorType.INVALID_VALUE)
        before = key_range.end_key
    for key_range in request.ranges:
        found = lead.cluster.regions.scan(key_range.start_key, key_range.end_key, left)
        cut = len(found) == left
        if request.contain_all_key_range and not cut and not _whole(key_range.start_key, key_range.end_key, found):
            raise Refused(
                "the regions do not contain all of the key range", pb.ErrorType.REGIONS_NOT_CONTAIN_ALL_KEY_RANGE
            )
        for region in found:
            if region.id != last_id:
                _fill(region, reply.regions.add())
                last_id, left = region.id, left - 1
        if cut or left <= 0:
            return


def query_regions(lead: Leadership, request: pb.QueryRegionRequest, reply: pb.QueryRegionResponse) -> None:
    """Keys and ids to regions in one go; 0 stands for a key that no region holds."""
    regions = lead.cluster.regions
    for key in request.keys:
        reply.key_id_map.append(_note(regions.at(key), reply))
    for key in request.prev_keys:
        reply.prev_key_id_map.append(_note(regions.before(key), reply))
    for region_id in request.ids:
        _note(regions.by_id(region_id), reply)


def _note(found: RegionInfo | None, reply: pb.QueryRegionResponse) -> int:
    if found is None:
        return 0
    if found.id not in reply.regions_by_id:
        _fill(found, reply.regions_by_id[found.id])
    return found.id


def _check_told(lead: Leadership, told: Region) -> None:
    """Raises Refused for a region that is unknown, or told as it was before it changed."""
    known = lead.cluster.regions.by_id(told.id) or lead.cluster.regions.at(told.start_key)
    if known is None:
        raise Refused(f"region {told.id} not found", pb.ErrorType.REGION_NOT_FOUND)
    epoch = told.region_epoch
    if known.id == told.id and (epoch.version < known.version or epoch.conf_ver < known.conf_ver):
        raise Refused(
            f"invalid region epoch, request: {epoch.conf_ver}.{epoch.version}, "
            f"current: {known.conf_ver}.{known.version}"
        )


async def ask_batch_split(lead: Leadership, request: pb.AskBatchSplitRequest, reply: pb.AskBatchSplitResponse) -> None:
    """Ids for the regions and peers that a split makes; refused for a region that is being merged."""
    told, count = request.region, request.split_count
    if not 0 < count <= SPLIT_COUNT_MAX:
        raise Refused(f"cannot split region {told.id} into {count} more", pb.ErrorType.INVALID_VALUE)
    _check_told(lead, told)
    lead.check_splittable(told.id)
    ids = iter(await lead.ids.allocate(count * (1 + len(told.peers))))
    for _ in range(count):
        reply.ids.add(new_region_id=next(ids), new_peer_ids=[next(ids) for _ in told.peers])
    lead.note_split([told.id, *(split.new_region_id for split in reply.ids)])


async def report_batch_split(
    lead: Leadership, request: pb.ReportBatchSplitRequest, reply: pb.ReportBatchSplitResponse
) -> None:
    """Fills the time until the new regions' heartbeats; refused for what is no row of neighbours."""
    regions = list(request.regions)
    for left, right in pairwise(regions):
        if left.end_key != right.start_key:
            raise Refused(f"invalid split: region {left.id} does not end where region {right.id} starts")
    lead.note_split(region.id for region in regions)
    lead.take_split(regions)


CALLS = Calls(
    bootstrapped={
        "GetRegion": get_region,
        "GetPrevRegion": get_prev_region,
        "GetRegionByID": get_region_by_id,
        "ScanRegions": scan_regions,
        "BatchScanRegions": batch_scan_regions,
        "AskBatchSplit": ask_batch_split,
        "ReportBatchSplit": report_batch_split,
    }
)
