"""Where a region is to be split: by what it holds, or by where it is read.

Sizes are sums over the data families of what their iterators show, in chunks: a chunk's last key is a place to split.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvstore.codec import CodecError, decode_bytes
from kvstore.proto.metapb_pb2 import Region
from kvstore.raftstore import checks, keys
from kvstore.raftstore.api import RegionError
from kvstore.raftstore.config import SPLIT_KEYS_MAX
from kvstore.raftstore.peer import Peer

if TYPE_CHECKING:
    from kvstore.raftstore.store import RaftStore

PAIRS_PER_CHUNK = 64
CHUNKS_PER_TURN = 16
TIMESTAMP_BYTES = 8
Chunk = tuple[bytes, int, int]
"""(last key, bytes, pairs)"""


def boundary(key: bytes) -> bytes:
    """An encoded key where a region may begin: without the timestamp, if it is the key of a transaction's record."""
    try:
        _, end = decode_bytes(key)
    except CodecError:
        return key
    return key[:end] if len(key) - end == TIMESTAMP_BYTES else key


async def chunks_of(store: RaftStore, region: Region) -> list[Chunk]:
    """Everything in a region, chunk by chunk in key order; lets others run in between."""
    low, high = keys.data_start(region.start_key), keys.data_end(region.end_key)
    found: list[Chunk] = []
    for cf in keys.DATA_FAMILIES:
        scanner = store.engine.scanner(cf, low, high)
        try:
            while flat := scanner.take(PAIRS_PER_CHUNK):
                found.append((flat[-2][len(keys.DATA_PREFIX) :], sum(map(len, flat)), len(flat) // 2))
                if not len(found) % CHUNKS_PER_TURN:
                    await asyncio.sleep(0)
        finally:
            scanner.release()
    found.sort()
    return found


def split_keys(region: Region, chunks: Sequence[Chunk], split_bytes: int, split_count: int) -> list[bytes]:
    """A key after every `split_bytes` or `split_count` pairs."""
    found: list[bytes] = []
    size = count = 0
    before = region.start_key
    for key, chunk_bytes, pairs in chunks:
        size += chunk_bytes
        count += pairs
        place = boundary(key)
        if (size >= split_bytes or count >= split_count) and place > before and checks.in_region(region, place):
            found.append(place)
            before, size, count = place, 0, 0
    return found


async def split_if_large(store: RaftStore, peer: Peer) -> None:
    """Measures a region, and splits it if it is over one of its limits."""
    config, region = store.config, peer.region
    chunks = await chunks_of(store, region)
    if peer.destroyed or peer.region.region_epoch != region.region_epoch:
        return
    flow = peer.flow
    flow.measured = True
    flow.size, flow.keys = sum(chunk[1] for chunk in chunks), sum(chunk[2] for chunk in chunks)
    if flow.size < config.region_max_bytes and flow.keys < config.region_max_keys:
        return
    found = split_keys(region, chunks, config.region_split_bytes, config.region_split_keys)
    rest = sum(chunk[1] for chunk in chunks if found and chunk[0] >= found[-1])
    if len(found) > 1 and rest + config.region_split_bytes < config.region_max_bytes:
        found.pop()  # the last two make one region of good size
    if found:
        await split_at(store, peer, found[:SPLIT_KEYS_MAX])


async def split_in_half(store: RaftStore, peer: Peer) -> None:
    """Splits a region in the middle of what it holds."""
    chunks = await chunks_of(store, peer.region)
    size = sum(chunk[1] for chunk in chunks)
    if chunks and not peer.destroyed:
        found = split_keys(peer.region, chunks, max(1, size // 2), len(chunks) * PAIRS_PER_CHUNK + 1)
        if found:
            await split_at(store, peer, found[:1])


def balanced_key(region: Region, sampled: Sequence[bytes]) -> bytes | None:
    """The key that halves the sampled reads; None if they all go to one place."""
    ordered = sorted(key for key in sampled if checks.in_region(region, key))
    if not ordered or ordered[0] == ordered[-1]:
        return None
    key = boundary(ordered[len(ordered) // 2])
    if key <= region.start_key or key == ordered[0]:
        return None
    return key


async def split_at(store: RaftStore, peer: Peer, found: Sequence[bytes]) -> None:
    """Splits, or leaves it for another time: the region may have changed meanwhile."""
    try:
        await store.split_at(peer, found)
    except RegionError as error:
        store.log.info("region_not_split", region=peer.region_id, error=str(error))
