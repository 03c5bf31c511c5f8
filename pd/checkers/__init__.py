"""Checkers: functions from the view of the cluster and one region to what is wrong with the region and sets it right.

The first that has something to say in the order of `CHECKERS` is heard; a merge is two operators, started together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pd.checkers.joint import check_joint
from pd.checkers.merge import check_merge
from pd.checkers.rule import check_rules
from pd.checkers.split import check_split
from pd.operators import Operator
from pd.regions import RegionInfo
from pd.view import View

Checker = Callable[[View, RegionInfo], Sequence[Operator]]
CHECKERS: tuple[Checker, ...] = (check_joint, check_split, check_rules, check_merge)


def check(view: View, region: RegionInfo) -> Sequence[Operator]:
    """The operators that the region needs; none while one works on it or nobody leads it."""
    if region.leader is None or not view.is_idle(region):
        return ()
    for checker in CHECKERS:
        if found := checker(view, region):
            return found
    return ()
