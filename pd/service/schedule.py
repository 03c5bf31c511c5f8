"""Operators over the public calls: how one is getting on, scattering, and splitting at given keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from kvstore.proto import pdpb_pb2 as pb
from pd.builder import Builder, CannotBuild
from pd.errors import Refused
from pd.leadership import IDS_FOR_A_REGION, Leadership
from pd.operators import Kind, Priority
from pd.regions import RegionInfo
from pd.service.calls import Calls
from pd.steps import SplitRegion

KEYS_MAX = 10_000
"""Keys of one request to split."""
LOOK_S = 0.05
ATTEMPT_S = 2.0
"""How long a split is waited for before it is ordered once more."""
ATTEMPTS_MAX = 5


async def get_operator(lead: Leadership, request: pb.GetOperatorRequest, reply: pb.GetOperatorResponse) -> None:
    operator = lead.controller.of_region(request.region_id)
    if operator is None:
        raise Refused(f"operator of region {request.region_id} not found", pb.ErrorType.ENTRY_NOT_FOUND)
    reply.region_id = operator.region_id
    reply.desc = operator.description.encode()
    reply.kind = operator.kind_names().encode()
    reply.status = operator.status


async def _scatter(lead: Leadership, regions: Iterable[RegionInfo], group: str) -> tuple[int, list[int]]:
    """How many of a hundred are under way or in place, and the ids of those that can't be."""
    total, failed = 0, []
    for region in regions:
        total += 1
        await lead.ids.ensure(IDS_FOR_A_REGION)
        try:
            operator = lead.scatterer.scatter(lead.view(), region, group)
        except CannotBuild:
            failed.append(region.id)
            continue
        if operator is not None and lead.start_operators([operator]):
            failed.append(region.id)
    return (100 if not total else 100 * (total - len(failed)) // total), failed


def _known(lead: Leadership, ids: Iterable[int]) -> tuple[list[RegionInfo], list[int]]:
    found = {region_id: lead.cluster.regions.by_id(region_id) for region_id in ids}
    known = [region for region in found.values() if region is not None]
    return known, [region_id for region_id, region in found.items() if region is None]


async def scatter_region(lead: Leadership, request: pb.ScatterRegionRequest, reply: pb.ScatterRegionResponse) -> None:
    ids = list(request.regions_id) or [request.region_id]
    known, unknown = _known(lead, ids)
    if unknown and not request.regions_id:
        raise Refused(f"region {request.region_id} not found", pb.ErrorType.REGION_NOT_FOUND)
    percent, failed = await _scatter(lead, known, request.group)
    reply.finished_percentage = percent * len(known) // len(ids)
    reply.failed_regions_id.extend([*unknown, *failed])


def _order_splits(lead: Leadership, wanted: Sequence[bytes]) -> None:
    by_region: dict[int, list[bytes]] = {}
    for key in wanted:
        region = lead.cluster.regions.at(key)
        if region is not None:
            by_region.setdefault(region.id, []).append(key)
    for region_id, keys in by_region.items():
        region = lead.cluster.regions.by_id(region_id)
        assert region is not None, region_id
        step = SplitRegion(region.start_key, region.end_key, pb.CheckPolicy.USEKEY, tuple(keys))
        builder = Builder(
            "split-at-keys", region, Kind.ADMIN | Kind.SPLIT, next_id=lead.ids.take, priority=Priority.HIGH
        )
        lead.start_operators([builder.operator((step,))])


def _begins(lead: Leadership, key: bytes) -> RegionInfo | None:
    """The region that starts at the key."""
    region = lead.cluster.regions.at(key)
    return region if region is not None and region.start_key == key else None


async def _split(lead: Leadership, split_keys: Sequence[bytes], attempts: int) -> tuple[int, list[RegionInfo]]:
    """Splits at encoded keys; returns how many of a hundred came to be, and the regions that start there."""
    wanted = sorted({key for key in split_keys if key})
    if len(wanted) > KEYS_MAX:
        raise Refused(f"{len(wanted)} keys to split at; at most {KEYS_MAX}", pb.ErrorType.INVALID_VALUE)
    for _ in range(min(ATTEMPTS_MAX, max(1, attempts))):
        _order_splits(lead, [key for key in wanted if _begins(lead, key) is None])
        end = asyncio.get_running_loop().time() + ATTEMPT_S
        while any(_begins(lead, key) is None for key in wanted) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(LOOK_S)
            lead.check()
        if all(_begins(lead, key) is not None for key in wanted):
            break
    made = [region for key in wanted if (region := _begins(lead, key)) is not None]
    return (100 if not wanted else 100 * len(made) // len(wanted)), made


async def split_regions(lead: Leadership, request: pb.SplitRegionsRequest, reply: pb.SplitRegionsResponse) -> None:
    percent, made = await _split(lead, request.split_keys, request.retry_limit)
    reply.finished_percentage = percent
    reply.regions_id.extend(region.id for region in made)


async def split_and_scatter_regions(
    lead: Leadership, request: pb.SplitAndScatterRegionsRequest, reply: pb.SplitAndScatterRegionsResponse
) -> None:
    percent, made = await _split(lead, request.split_keys, request.retry_limit)
    reply.split_finished_percentage = percent
    reply.regions_id.extend(region.id for region in made)
    reply.scatter_finished_percentage, _ = await _scatter(lead, made, request.group)


CALLS = Calls(
    bootstrapped={
        "GetOperator": get_operator,
        "ScatterRegion": scatter_region,
        "SplitRegions": split_regions,
        "SplitAndScatterRegions": split_and_scatter_regions,
    }
)
