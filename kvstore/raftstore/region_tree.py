"""The initialised regions of a store in key order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from kvstore.proto.metapb_pb2 import Region
from kvstore.raftstore.keys import data_end, data_start


class RegionTree:
    """Regions by their end key; they never overlap."""

    def __init__(self) -> None:
        self._ends: list[tuple[bytes, int]] = []
        self._regions: dict[int, Region] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def put(self, region: Region) -> None:
        """Adds a region or replaces what is known of it. Its range must be free."""
        self.remove(region.id)
        in_the_way = self.overlapping(region)
        assert not in_the_way, f"region {region} overlaps {in_the_way}"
        insort(self._ends, (data_end(region.end_key), region.id))
        self._regions[region.id] = region

    def remove(self, region_id: int) -> None:
        old = self._regions.pop(region_id, None)
        if old is not None:
            entry = (data_end(old.end_key), region_id)
            at = bisect_left(self._ends, entry)
            assert self._ends[at] == entry
            del self._ends[at]

    def overlapping(self, region: Region) -> list[Region]:
        """Regions that share keys with `region`, in key order."""
        at = bisect_right(self._ends, (data_start(region.start_key), 1 << 64))
        found: list[Region] = []
        end = data_end(region.end_key)
        for _, region_id in self._ends[at:]:
            other = self._regions[region_id]
            if data_start(other.start_key) >= end:
                break
            if region_id != region.id:
                found.append(other)
        return found

    def neighbours(self, region: Region) -> list[Region]:
        """The region before and the region after, if they are adjacent and here."""
        at = bisect_left(self._ends, (data_end(region.end_key), region.id))
        around = [self._regions[r] for _, r in self._ends[max(0, at - 1) : at + 2] if r != region.id]
        return [r for r in around if r.end_key == region.start_key or r.start_key == region.end_key != b""]

    def all(self) -> list[Region]:
        return [self._regions[region_id] for _, region_id in self._ends]
