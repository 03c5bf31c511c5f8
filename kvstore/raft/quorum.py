"""Majorities and pairs of them: what a set of voters has acknowledged, and how it has voted.

A configuration is a set of ids, a joint one a pair of sets that must both agree. The empty set agrees with everything,
which makes the second half of a plain configuration vanish. Source: etcd-io/raft quorum/, raft-rs quorum/.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum

from kvstore.raft.types import NO_LIMIT


class VoteResult(IntEnum):
    PENDING = 0
    LOST = 1
    WON = 2


def majority_size(voters: int) -> int:
    return voters // 2 + 1


def majority_committed(acked: list[int]) -> int:
    """The highest index that a majority has reached, from one acknowledged index per voter; NO_LIMIT without voters."""
    if not acked:
        return NO_LIMIT
    acked.sort()
    return acked[(len(acked) - 1) // 2]


def joint_committed(incoming: list[int], outgoing: list[int]) -> int:
    """The highest index that both majorities have reached."""
    return min(majority_committed(incoming), majority_committed(outgoing))


def majority_vote(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """How an election stands; ids without an entry in `votes` have not answered."""
    if not voters:
        return VoteResult.WON
    granted = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    needed = majority_size(len(voters))
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST


def joint_vote(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won when both halves are won, lost as soon as one is."""
    first = majority_vote(incoming, votes)
    second = majority_vote(outgoing, votes)
    if first == second:
        return first
    return VoteResult.LOST if VoteResult.LOST in (first, second) else VoteResult.PENDING
