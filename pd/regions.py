"""Regions as the placement driver knows them, in the order of their keys.

Bounds are encoded keys, an empty end means no bound. A region that comes in replaces everything it overlaps, unless one
of those has a newer version (PD's `RegionsInfo`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region
from kvstore.proto.pdpb_pb2 import PeerStats

VOTING_ROLES = (PeerRole.Voter, PeerRole.IncomingVoter)
JOINT_ROLES = (PeerRole.IncomingVoter, PeerRole.DemotingVoter)


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """One region and what its leader last told; the messages in it are never changed."""

    meta: Region
    leader: Peer | None = None
    term: int = 0
    down: tuple[PeerStats, ...] = ()
    pending: tuple[Peer, ...] = ()
    size_mib: int = 0
    keys: int = 0
    written_bytes: float = 0.0
    """Per second, as the next."""
    read_bytes: float = 0.0

    @property
    def id(self) -> int:
        return self.meta.id

    @property
    def start_key(self) -> bytes:
        return self.meta.start_key

    @property
    def end_key(self) -> bytes:
        return self.meta.end_key

    @property
    def version(self) -> int:
        return self.meta.region_epoch.version

    @property
    def conf_ver(self) -> int:
        return self.meta.region_epoch.conf_ver

    @property
    def peers(self) -> Sequence[Peer]:
        return self.meta.peers

    @property
    def leader_store(self) -> int:
        """The leader's store, 0 when nobody knows a leader."""
        return self.leader.store_id if self.leader is not None else 0

    def peer_on(self, store_id: int) -> Peer | None:
        return next((peer for peer in self.meta.peers if peer.store_id == store_id), None)

    def voters(self) -> list[Peer]:
        return [peer for peer in self.meta.peers if peer.role in VOTING_ROLES]

    def store_ids(self) -> list[int]:
        return [peer.store_id for peer in self.meta.peers]

    def in_joint(self) -> bool:
        return any(peer.role in JOINT_ROLES for peer in self.meta.peers)

    def is_pending(self, peer: Peer) -> bool:
        return any(other.id == peer.id for other in self.pending)

    def is_down(self, peer: Peer) -> bool:
        return any(other.peer.id == peer.id for other in self.down)

    def is_healthy(self) -> bool:
        """All peers are there and have caught up."""
        return not self.down and not self.pending and self.leader is not None

    def contains(self, key: bytes) -> bool:
        return self.start_key <= key and (not self.end_key or key < self.end_key)


class StaleRegion(Exception):
    """The region told is older than what is known: the teller is not its leader any more."""


class RegionTree:
    """Regions by start key and by id; they never overlap, but there may be gaps."""

    def __init__(self) -> None:
        self._starts: list[bytes] = []
        self._regions: list[RegionInfo] = []
        self._by_id: dict[int, RegionInfo] = {}

    def __len__(self) -> int:
        return len(self._regions)

    def __iter__(self) -> Iterator[RegionInfo]:
        return iter(self._regions)

    def by_id(self, region_id: int) -> RegionInfo | None:
        return self._by_id.get(region_id)

    def at(self, key: bytes) -> RegionInfo | None:
        """The region that holds the key."""
        index = bisect_right(self._starts, key) - 1
        if index < 0 or not self._regions[index].contains(key):
            return None
        return self._regions[index]

    def before(self, key: bytes) -> RegionInfo | None:
        """The region right before the one that holds the key, when they are neighbours."""
        region = self.at(key)
        return None if region is None else self.left_of(region)

    def left_of(self, region: RegionInfo) -> RegionInfo | None:
        """The neighbour that ends where this region starts."""
        index = bisect_left(self._starts, region.start_key) - 1
        if index < 0 or not region.start_key or self._regions[index].end_key != region.start_key:
            return None
        return self._regions[index]

    def right_of(self, region: RegionInfo) -> RegionInfo | None:
        """The neighbour that starts where this region ends."""
        if not region.end_key:
            return None
        index = bisect_left(self._starts, region.end_key)
        if index == len(self._starts) or self._starts[index] != region.end_key:
            return None
        return self._regions[index]

    def scan(self, start: bytes, end: bytes = b"", limit: int = 0) -> list[RegionInfo]:
        """The regions that overlap [start, end), in order; `limit` 0 means all."""
        first = max(0, bisect_right(self._starts, start) - 1)
        if first < len(self._regions) and b"" < self._regions[first].end_key <= start:
            first += 1
        stop = bisect_left(self._starts, end) if end else len(self._regions)
        return self._regions[first : min(stop, first + limit) if limit > 0 else stop]

    def check(self, region: RegionInfo) -> list[RegionInfo]:
        """What would go if the region came in (its own older form aside); raises StaleRegion."""
        known = self._by_id.get(region.id)
        if known is not None and (
            region.term < known.term or region.version < known.version or region.conf_ver < known.conf_ver
        ):
            raise StaleRegion(
                f"region {region.id} is stale: term {region.term}, epoch {region.conf_ver}.{region.version}; known are "
                f"term {known.term}, epoch {known.conf_ver}.{known.version}"
            )
        gone = [other for other in self.scan(region.start_key, region.end_key) if other.id != region.id]
        for other in gone:
            if region.version < other.version:
                raise StaleRegion(
                    f"region {region.id} is stale: version {region.version} overlaps region {other.id} "
                    f"of version {other.version}"
                )
        return gone

    def put(self, region: RegionInfo) -> list[RegionInfo]:
        """Takes the region in; returns the regions that went, its own older form aside. Raises StaleRegion."""
        gone = self.check(region)
        known = self._by_id.get(region.id)
        if known is not None and known.start_key == region.start_key and not gone:
            self._regions[bisect_left(self._starts, region.start_key)] = region
            self._by_id[region.id] = region
            return gone
        for other in gone:
            self.remove(other.id)
        if known is not None:
            self.remove(region.id)
        index = bisect_left(self._starts, region.start_key)
        self._starts.insert(index, region.start_key)
        self._regions.insert(index, region)
        self._by_id[region.id] = region
        return gone

    def remove(self, region_id: int) -> None:
        region = self._by_id.pop(region_id)
        index = bisect_left(self._starts, region.start_key)
        assert self._regions[index].id == region_id, (self._regions[index].id, region_id)
        del self._starts[index], self._regions[index]
