"""Splitting regions at keys, transactional or raw."""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import Backoff
from kvstore.client.cluster.fan_out import by_region
from kvstore.client.cluster.regions import CachedRegion
from kvstore.client.cluster.sender import RegionSender
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb

KEYS_MAX = 512
"""Keys of one request; a store takes 1,024."""


async def split_regions(sender: RegionSender, backoff: Backoff, keys: Sequence[bytes], *, raw: bool) -> list[int]:
    """Splits at the keys; returns the ids of the regions that begin there, in key order."""
    regions = sender.regions

    async def split(part: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
        inside = [key for key in mine if key != region.start]
        if not inside:
            return
        request = kvrpcpb.SplitRegionRequest(split_keys=inside, is_raw_kv=raw)
        answer = await sender.send(part, commands.SPLIT_REGION, request, region)
        regions.drop(region)
        for meta in answer.regions:
            peer = next((peer for peer in meta.peers if peer.store_id == region.leader.store_id), None)
            regions.insert((meta, peer))

    wanted = sorted({key for key in keys if key})
    for start in range(0, len(wanted), KEYS_MAX):
        await by_region(regions, backoff, wanted[start : start + KEYS_MAX], split)
    return [(await regions.locate(backoff, key)).id for key in wanted]
