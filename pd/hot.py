"""Hot regions: those whose flow stayed above a threshold over several heartbeats."""

from __future__ import annotations

from dataclasses import dataclass, field

from pd.cluster import Cluster
from pd.config import ScheduleConfig
from pd.regions import RegionInfo

HITS_MAX = 10
"""More heartbeats in a row count no more, so that a region cools down in as many."""


@dataclass(slots=True)
class HotRegions:
    """Counts of hot heartbeats by region, for writes and for reads."""

    writes: dict[int, int] = field(default_factory=dict)
    reads: dict[int, int] = field(default_factory=dict)

    def on_heartbeat(self, region: RegionInfo, config: ScheduleConfig) -> None:
        _count(self.writes, region.id, region.written_bytes >= config.hot_region_bytes_min)
        _count(self.reads, region.id, region.read_bytes >= config.hot_region_bytes_min)

    def forget(self, region_id: int) -> None:
        self.writes.pop(region_id, None)
        self.reads.pop(region_id, None)

    def hot(self, cluster: Cluster, config: ScheduleConfig, *, reads: bool) -> list[RegionInfo]:
        """The hot ones, the hottest first."""
        counts = self.reads if reads else self.writes
        found = [cluster.regions.by_id(i) for i, hits in counts.items() if hits >= config.hot_region_cache_hits]
        return sorted(
            (region for region in found if region is not None), key=lambda region: (-flow(region, reads), region.id)
        )


def flow(region: RegionInfo, reads: bool) -> float:
    """Bytes a second."""
    return region.read_bytes if reads else region.written_bytes


def _count(counts: dict[int, int], region_id: int, is_hot: bool) -> None:
    hits = min(HITS_MAX, counts.get(region_id, 0) + 1) if is_hot else counts.get(region_id, 0) - 1
    if hits > 0:
        counts[region_id] = hits
    else:
        counts.pop(region_id, None)
