"""Small regions are merged into a neighbour that is not too large.

Both must be healthy, idle, under the same rules and not split lately. The source's peers are first moved to the
target's stores, as a merge needs the two on the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from pd.builder import Builder, CannotBuild, roles_of
from pd.operators import Kind, Operator
from pd.regions import RegionInfo
from pd.steps import MergeRegion, Step
from pd.view import View


def check_merge(view: View, region: RegionInfo) -> Sequence[Operator]:
    config = view.config
    if not config.max_merge_region_size or not _is_small(view, region) or not _may_merge(view, region):
        return ()
    if view.now_ms - view.leading_since_ms < config.split_merge_interval_s * 1000:
        return ()
    if not view.controller.has_room(Kind.MERGE):
        return ()
    regions = view.cluster.regions
    right, left = regions.right_of(region), None if config.enable_one_way_merge else regions.left_of(region)
    targets = [target for target in (right, left) if target is not None and _fits(view, region, target)]
    if not targets:
        return ()
    return merge_operators(view, region, min(targets, key=lambda target: target.size_mib), Kind.MERGE)


def merge_operators(view: View, source: RegionInfo, target: RegionInfo, kind: Kind) -> Sequence[Operator]:
    """The two halves of a merge; none when the source can't be brought to the target's stores."""
    steps: tuple[Step, ...] = ()
    description = "merge-region"
    if roles_of(source) != roles_of(target):
        builder = Builder(description, source, kind, next_id=view.next_id)
        try:
            steps = builder.to(roles_of(target)).steps
        except CannotBuild:
            return ()
    merge = MergeRegion(source.meta, target.meta, passive=False)
    wait = MergeRegion(source.meta, target.meta, passive=True)
    halves = ((source, (*steps, merge)), (target, (wait,)))
    return [Builder(description, region, kind, next_id=view.next_id).operator(todo) for region, todo in halves]


def _is_small(view: View, region: RegionInfo) -> bool:
    """A region whose size nobody has told yet is not small."""
    config = view.config
    return 0 < region.size_mib < config.max_merge_region_size and region.keys < config.max_merge_region_keys


def _may_merge(view: View, region: RegionInfo) -> bool:
    split_at_ms = view.split_at_ms.get(region.id)
    recently = split_at_ms is not None and view.now_ms - split_at_ms < view.config.split_merge_interval_s * 1000
    return not recently and region.is_healthy() and view.is_idle(region) and view.fit(region).is_satisfied()


def _fits(view: View, source: RegionInfo, target: RegionInfo) -> bool:
    left, right = sorted((source, target), key=lambda region: region.start_key)
    return (
        _may_merge(view, target)
        and target.size_mib > 0
        and source.size_mib + target.size_mib <= view.config.region_max_size
        and not view.rules.split_keys(left.start_key, right.end_key)
    )
