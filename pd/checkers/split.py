"""Regions that reach over a boundary of placement rules are split there."""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.proto.pdpb_pb2 import CheckPolicy
from pd.builder import Builder
from pd.operators import Kind, Operator, Priority
from pd.regions import RegionInfo
from pd.steps import SplitRegion
from pd.view import View


def check_split(view: View, region: RegionInfo) -> Sequence[Operator]:
    keys = view.rules.split_keys(region.start_key, region.end_key)
    if not keys:
        return ()
    step = SplitRegion(region.start_key, region.end_key, CheckPolicy.USEKEY, tuple(keys))
    builder = Builder("rule-split-region", region, Kind.SPLIT, next_id=view.next_id, priority=Priority.HIGH)
    return (builder.operator((step,)),)
