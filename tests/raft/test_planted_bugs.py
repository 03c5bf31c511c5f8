"""Bugs planted on purpose, each in the run that needs it to go wrong: the checker must see them, and only them."""

from __future__ import annotations

import pytest

from kvstore.raft import replicate
from kvstore.raft.errors import InvariantBroken
from kvstore.raft.state import Raft
from kvstore.raft.types import Message, MessageType, Role
from tests.raft.network import Cluster, Faults, Violation

VOTES = (MessageType.REQUEST_VOTE, MessageType.REQUEST_VOTE_RESPONSE)


def is_vote(message: Message) -> bool:
    return message.type in VOTES


def test_vote_safety() -> None:
    _two_candidates(Faults())


def test_forgotten_vote_is_caught() -> None:
    with pytest.raises(Violation, match="term 6 has two leaders, 1 and 2"):
        _two_candidates(Faults(forget_vote=True))


def _two_candidates(faults: Faults) -> None:
    """1 and 2 campaign in one term; 3 votes for 1, crashes, and is asked by 2."""
    cluster = Cluster(1, nodes=3, faults=faults, pre_vote=False, check_quorum=False)
    first, second, voter = cluster.nodes.values()
    first.raw.campaign()
    cluster.exchange(1, 3, keep=is_vote)
    assert first.raw.role is Role.LEADER
    voter.crash()
    voter.start()
    second.raw.campaign()
    cluster.exchange(2, 3, keep=is_vote)
    assert second.raw.term == first.raw.term
    assert second.raw.role is Role.CANDIDATE


def test_answer_after_persist() -> None:
    _crash_between_answer_and_disk(Faults())


def test_answer_before_persist_is_caught() -> None:
    with pytest.raises(Violation, match="leader 2 of term 7 lacks committed entry 7 of term 6"):
        _crash_between_answer_and_disk(Faults(reply_before_persist=True))


def _crash_between_answer_and_disk(faults: Faults) -> None:
    """2 crashes with an entry that it takes half-way; the leader goes away, 2 and 3 elect a new one."""
    cluster = Cluster(1, nodes=3, faults=faults, pre_vote=False, check_quorum=False)
    leader, follower, _ = cluster.nodes.values()
    leader.raw.campaign()
    cluster.exchange(1, 2, 3)
    leader.raw.propose(b"", b"x")
    leader.begin()
    leader.finish()
    while cluster.in_flight:
        message = cluster.in_flight.pop(0)
        if message.to == 2:
            follower.raw.step(message)
    follower.begin()
    for message in cluster.in_flight:
        leader.raw.step(message)
    leader.begin()
    leader.finish()
    assert (cluster.checker.applied_max == 7) == faults.reply_before_persist
    follower.crash()
    follower.start()
    follower.raw.campaign()
    cluster.in_flight = []
    cluster.exchange(2, 3)
    assert follower.raw.role is Role.LEADER
    cluster.settle()


def test_answer_before_persist_is_caught_at_random() -> None:
    caught = 0
    for seed in range(20):
        cluster = Cluster(seed, voters=5, faults=Faults(reply_before_persist=True), pre_vote=False)
        try:
            cluster.run(3000)
        except (Violation, InvariantBroken):
            caught += 1
    assert caught


def test_older_term_is_not_committed_by_count() -> None:
    _figure_8()


def test_older_term_committed_by_count_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def advance_commit(raft: Raft) -> bool:
        raft.appends_due = True
        return raft.log.commit_to(min(raft.tracker.committed(), raft.log.last_index))

    monkeypatch.setattr(replicate, "advance_commit", advance_commit)
    with pytest.raises(Violation, match="leader 5 of term 9 lacks committed entry 7 of term 6"):
        _figure_8()


def _figure_8() -> None:
    """The paper's figure 8: an entry of an old term on a majority that is overwritten all the same."""
    cluster = Cluster(
        1, voters=5, pre_vote=False, check_quorum=False, max_size_per_msg=0, max_inflight_msgs=1, batch_append=False
    )
    first, _, _, _, last = cluster.nodes.values()
    first.raw.campaign()
    cluster.exchange(1, 2, 3, 4, 5)
    first.raw.propose(b"", b"a")  # (a) entry 7 of term 6 gets to 2 only
    cluster.exchange(1, 2)
    first.crash()
    last.raw.campaign()  # (b) 5 leads term 7 with the votes of 3 and 4, and has an entry 7 of its own
    cluster.exchange(3, 4, 5, keep=is_vote)
    assert last.raw.role is Role.LEADER
    last.crash()
    first.start()
    first.raw.campaign()
    first.raw.campaign()  # (c) 1 leads term 8, and its entry 7 gets to 3: a majority has it
    cluster.exchange(1, 2, 3, 4, keep=is_vote)
    assert first.raw.role is Role.LEADER
    first.raw.ping()
    third = cluster.nodes[3].raw
    cluster.exchange(1, 2, 3, keep=lambda m: m.to != 3 or third.last_index < 7 or m.index < 7)
    assert third.last_index == 7
    assert first.raw.progress(3).matched == 7  # type: ignore[union-attr]
    first.crash()
    last.start()
    last.raw.campaign()
    last.raw.campaign()  # (d) 5 leads term 9 and overwrites it
    cluster.exchange(3, 4, 5)
    assert last.raw.role is Role.LEADER
    assert cluster.checker.applied[7] == (7, b"")
