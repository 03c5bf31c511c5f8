"""The region cache: which region holds a key, where its peers are, and who leads it as far as is known.

Bounds are kept as the client's user sees keys; a `KeyCodec` translates to the form that the placement driver and the
stores' region bounds have: memcomparable for transactional keys, plain for raw ones (client-go's codecs). What is
cached may be outdated at any time: the store that is asked says so with a region error, and the cache learns from it.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kvstore.client.cluster.backoff import REGION_MISS, Backoff
from kvstore.client.cluster.errors import RefusedRequest
from kvstore.client.cluster.pd_client import Located, PdClient
from kvstore.codec import CodecError, decode_bytes, encode_bytes
from kvstore.proto.kvrpcpb_pb2 import Context
from kvstore.proto.metapb_pb2 import Learner, Peer, Region, RegionEpoch, Tombstone

REGION_TTL_S = 600.0
"""After this long (and up to as much again by chance) a cached region is asked for anew."""
OUTDATED_TTL_S = 2.0
"""The same for what is known to be outdated."""
PREFETCH_REGIONS = 128
"""Regions fetched at once where many keys or a range are looked up."""
EXECUTION_MS_MAX = 5_000
"""A store gives a request up after so long: the client has asked again, or somebody else, by then."""
LAST_KEY = b"\xff" * 32
"""Behind every key that a region starts with."""


class KeyCodec(Protocol):
    """How user keys look in region bounds."""

    def encode(self, key: bytes) -> bytes: ...
    def decode(self, bound: bytes) -> bytes: ...


class TxnKeys:
    """Transactional keys: memcomparable."""

    def encode(self, key: bytes) -> bytes:
        return encode_bytes(key) if key else b""

    def decode(self, bound: bytes) -> bytes:
        """Raises RefusedRequest for a bound that is not a transactional key's (a cluster with raw data)."""
        if not bound:
            return b""
        try:
            key, _ = decode_bytes(bound)
        except CodecError as error:
            raise RefusedRequest(f"region bound {bound.hex()} is not that of a transactional key: {error}") from error
        return key


class RawKeys:
    """Raw keys: as they are."""

    def encode(self, key: bytes) -> bytes:
        return key

    def decode(self, bound: bytes) -> bytes:
        return bound


@dataclass(slots=True, eq=False)
class CachedRegion:
    """A region with bounds in user keys, and the peer taken for its leader."""

    meta: Region
    start: bytes
    end: bytes
    leader: Peer
    expires_at: float
    tried: int = 0
    """How many peers were tried in a row without finding the leader."""
    context: Context = field(default_factory=Context)
    """What a request to the leader says."""

    def __post_init__(self) -> None:
        self.follow(self.leader)

    def follow(self, leader: Peer) -> None:
        """Takes a peer for the leader."""
        self.leader = leader
        self.context = Context(
            region_id=self.meta.id,
            region_epoch=self.meta.region_epoch,
            peer=leader,
            max_execution_duration_ms=EXECUTION_MS_MAX,
        )

    @property
    def id(self) -> int:
        return self.meta.id

    @property
    def epoch(self) -> RegionEpoch:
        return self.meta.region_epoch

    def contains(self, key: bytes) -> bool:
        return self.start <= key and (not self.end or key < self.end)

    def voters(self) -> list[Peer]:
        return _voters(self.meta)


def _voters(meta: Region) -> list[Peer]:
    return [peer for peer in meta.peers if peer.role != Learner]


def _before(end: bytes) -> bytes:
    """A key a little below `end`; empty stands for the end of all."""
    if not end:
        return LAST_KEY
    return end[:-1] if end[-1] == 0 else end[:-1] + bytes((end[-1] - 1,)) + LAST_KEY


class RegionCache:
    """Regions by key, never overlapping, and the addresses of stores."""

    def __init__(self, pd: PdClient, codec: KeyCodec, rng: random.Random, clock: Callable[[], float]) -> None:
        self._pd = pd
        self.codec = codec
        self._rng = rng
        self._clock = clock
        self._starts: list[bytes] = []
        self._regions: list[CachedRegion] = []
        self._loading: dict[bytes, asyncio.Future[None]] = {}
        self.addresses: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._regions)

    def find(self, key: bytes) -> CachedRegion | None:
        """The cached region of a key."""
        at = bisect_right(self._starts, key) - 1
        if at < 0:
            return None
        region = self._regions[at]
        if region.end and key >= region.end:
            return None
        if self._clock() > region.expires_at:
            self.drop(region)
            return None
        return region

    def find_before(self, end: bytes) -> CachedRegion | None:
        """The cached region of the greatest key below `end` (empty: no bound)."""
        at = (bisect_left(self._starts, end) if end else len(self._starts)) - 1
        if at < 0:
            return None
        region = self._regions[at]
        if region.end and (not end or region.end < end):
            return None
        if self._clock() > region.expires_at:
            self.drop(region)
            return None
        return region

    async def locate(self, backoff: Backoff, key: bytes) -> CachedRegion:
        """The region of a key. Raises RegionUnavailable, PdUnavailable, PdError."""
        while True:
            region = self.find(key)
            if region is not None:
                return region
            if not await self._load_once(key):
                await backoff.wait(REGION_MISS, f"no region for key {key.hex()}")

    async def locate_before(self, backoff: Backoff, end: bytes) -> CachedRegion:
        """The region of the greatest key below `end` (empty: the last region)."""
        while True:
            region = self.find_before(end)
            if region is not None:
                return region
            encoded = self.codec.encode(end) or LAST_KEY
            located = await self._pd.get_region(encoded)
            if located is not None and located[0].start_key == encoded:
                located = await self._pd.get_prev_region(encoded)
            if located is None or not (self.insert(located) or self._insert_outdated(located, _before(end))):
                await backoff.wait(REGION_MISS, f"no region before key {end.hex()}")

    async def front(self, backoff: Backoff, start: bytes, end: bytes) -> CachedRegion:
        """The region of `start`, for who goes on to `end`: a miss fetches those behind it too. Raises as `locate`."""
        region = self.find(start)
        if region is None:
            await self.prefetch(start, end)
            region = await self.locate(backoff, start)
        return region

    async def locate_all(self, backoff: Backoff, start: bytes, end: bytes) -> list[CachedRegion]:
        """The regions that meet [start, end), in key order (empty end: no bound)."""
        found: list[CachedRegion] = []
        key = start
        while True:
            region = await self.front(backoff, key, end)
            found.append(region)
            key = region.end
            if not key or (end and key >= end):
                return found

    async def group(self, backoff: Backoff, keys: Iterable[bytes]) -> list[tuple[CachedRegion, list[bytes]]]:
        """The keys by region, in the order of regions and keys."""
        groups: list[tuple[CachedRegion, list[bytes]]] = []
        ordered = sorted(keys)
        for key in ordered:
            if groups and groups[-1][0].contains(key):
                groups[-1][1].append(key)
                continue
            region = self.find(key)
            if region is None:
                if key != ordered[-1]:
                    await self.prefetch(key, ordered[-1] + b"\0")
                region = await self.locate(backoff, key)
            groups.append((region, [key]))
        return groups

    async def prefetch(self, start: bytes, end: bytes) -> None:
        """Fetches the regions at the front of [start, end), at most PREFETCH_REGIONS."""
        encoded_end = self.codec.encode(end)
        for located in await self._pd.scan_regions(self.codec.encode(start), encoded_end, PREFETCH_REGIONS):
            self.insert(located)

    async def _load_once(self, key: bytes) -> bool:
        """Loads the region of a key; misses in the same gap of the cache wait for one question."""
        at = bisect_right(self._starts, key) - 1
        gap = self._regions[at].end if at >= 0 else b""
        loading = self._loading.get(gap)
        if loading is not None:
            await asyncio.shield(loading)
            return True
        self._loading[gap] = loading = asyncio.get_running_loop().create_future()
        try:
            located = await self._pd.get_region(self.codec.encode(key))
            return located is not None and (self.insert(located) or self._insert_outdated(located, key))
        finally:
            del self._loading[gap]
            loading.set_result(None)

    def insert(self, located: Located) -> bool:
        """Takes a region in, dropping what it overlaps; refuses one that is older than what is cached in its place."""
        meta, leader = located
        voters = _voters(meta)
        if not voters:
            return False
        start, end = self.codec.decode(meta.start_key), self.codec.decode(meta.end_key)
        low = bisect_right(self._starts, start) - 1
        if low < 0 or (self._regions[low].end and self._regions[low].end <= start):
            low += 1
        high = bisect_left(self._starts, end) if end else len(self._starts)
        epoch = meta.region_epoch
        for old in self._regions[low:high]:
            newer_members = old.id == meta.id and old.epoch.conf_ver > epoch.conf_ver
            if old.epoch.version > epoch.version or newer_members:
                return False
        expires_at = self._clock() + REGION_TTL_S * (1 + self._rng.random())
        self._starts[low:high] = [start]
        self._regions[low:high] = [CachedRegion(meta, start, end, leader or voters[0], expires_at)]
        return True

    def _insert_outdated(self, located: Located, key: bytes) -> bool:
        """Takes what an outdated placement driver says of a key that nothing newer is known of, for the gap around it.

        The store that it leads to answers with the regions as they are now.
        """
        meta, leader = located
        voters = _voters(meta)
        start, end = self.codec.decode(meta.start_key), self.codec.decode(meta.end_key)
        at = bisect_right(self._starts, key)
        if at and (not self._regions[at - 1].end or key < self._regions[at - 1].end):
            return True
        if at:
            start = max(start, self._regions[at - 1].end)
        if at < len(self._starts) and (not end or self._starts[at] < end):
            end = self._starts[at]
        if not voters or not start <= key or (end and key >= end):
            return False
        self._starts.insert(at, start)
        self._regions.insert(at, CachedRegion(meta, start, end, leader or voters[0], self._clock() + OUTDATED_TTL_S))
        return True

    def drop(self, region: CachedRegion) -> None:
        """Forgets a region that was found to be outdated."""
        at = bisect_left(self._starts, region.start)
        if at < len(self._regions) and self._regions[at] is region:
            del self._starts[at]
            del self._regions[at]

    def clear(self) -> None:
        """Forgets everything."""
        self._starts.clear()
        self._regions.clear()
        self.addresses.clear()

    def set_leader(self, region: CachedRegion, leader: Peer) -> bool:
        """Takes a store's word for who leads; False (and the region is dropped) when the cache knows no such peer."""
        for peer in region.meta.peers:
            if peer.id == leader.id and peer.store_id == leader.store_id:
                region.follow(peer)
                region.tried = 0
                return True
        self.drop(region)
        return False

    def next_peer(self, region: CachedRegion) -> bool:
        """Tries the next voter as leader; False (and the region is dropped) when all were tried."""
        voters = region.voters()
        region.tried += 1
        if region.tried >= len(voters):
            self.drop(region)
            return False
        at = next((n for n, peer in enumerate(voters) if peer.id == region.leader.id), -1)
        region.follow(voters[(at + 1) % len(voters)])
        return True

    def learn(self, region: CachedRegion, current: Sequence[Region]) -> bool:
        """Takes the regions of an epoch_not_match answer; False when the store is the one that lags behind."""
        for meta in current:
            if meta.id == region.id and (
                meta.region_epoch.version < region.epoch.version or meta.region_epoch.conf_ver < region.epoch.conf_ver
            ):
                return False
        self.drop(region)
        for meta in current:
            known = next((peer for peer in meta.peers if peer.store_id == region.leader.store_id), None)
            self.insert((meta, known))
        return True

    async def store_address(self, store_id: int) -> str | None:
        """Where a store listens, None when it is gone for good."""
        address = self.addresses.get(store_id)
        if address is not None:
            return address
        store = await self._pd.get_store(store_id)
        if store.state == Tombstone or not store.address:
            return None
        self.addresses[store_id] = store.address
        return store.address

    def forget_store(self, store_id: int) -> str | None:
        """Drops a store's address, which may have moved; returns it."""
        return self.addresses.pop(store_id, None)
