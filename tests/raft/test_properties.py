"""Quorums, membership changes and their bytes against naive twins and invariants."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.raft import confchange, quorum
from kvstore.raft.conf_codec import decode_conf_change, encode_conf_change
from kvstore.raft.confchange import Configuration
from kvstore.raft.errors import ConfChangeError
from kvstore.raft.progress import ProgressState
from kvstore.raft.quorum import VoteResult
from kvstore.raft.tracker import Tracker
from kvstore.raft.types import (
    NO_LIMIT,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
)
from tests.raft.test_network import make

voters = st.frozensets(st.integers(1, 9), max_size=9)
indexes = st.fixed_dictionaries({node: st.integers(0, 12) for node in range(1, 10)})
ballots = st.dictionaries(st.integers(1, 9), st.booleans())
singles = st.builds(ConfChangeSingle, st.sampled_from(ConfChangeType), st.integers(0, 5))
changes = st.builds(
    ConfChangeV2,
    st.lists(singles, max_size=4).map(tuple),
    st.sampled_from(ConfChangeTransition),
    st.binary(max_size=4),
)


def naive_committed(nodes: frozenset[int], acked: dict[int, int]) -> int:
    """The highest index for which some majority has all of it, by trying all majorities."""
    size = quorum.majority_size(len(nodes))
    return max(
        (min(acked[node] for node in group) for group in combinations(sorted(nodes), size) if nodes),
        default=NO_LIMIT,
    )


@given(voters, indexes)
def test_majority_committed(nodes: frozenset[int], acked: dict[int, int]) -> None:
    assert quorum.majority_committed([acked[node] for node in sorted(nodes)]) == naive_committed(nodes, acked)


@given(voters, voters, indexes)
def test_joint_committed(incoming: frozenset[int], outgoing: frozenset[int], acked: dict[int, int]) -> None:
    got = quorum.joint_committed([acked[node] for node in incoming], [acked[node] for node in outgoing])
    assert got == min(naive_committed(incoming, acked), naive_committed(outgoing, acked))


def naive_vote(nodes: frozenset[int], votes: dict[int, bool]) -> VoteResult:
    """By what could still become of it: won if it is whatever the rest votes, lost if it can't be."""
    silent = sum(node not in votes for node in nodes)
    yes = sum(votes.get(node, False) for node in nodes)
    if not nodes or yes * 2 > len(nodes):
        return VoteResult.WON
    return VoteResult.PENDING if (yes + silent) * 2 > len(nodes) else VoteResult.LOST


@given(voters, voters, ballots)
def test_votes(incoming: frozenset[int], outgoing: frozenset[int], votes: dict[int, bool]) -> None:
    halves = {naive_vote(incoming, votes), naive_vote(outgoing, votes)}
    if VoteResult.LOST in halves:
        expected = VoteResult.LOST
    else:
        expected = VoteResult.PENDING if VoteResult.PENDING in halves else VoteResult.WON
    assert quorum.joint_vote(incoming, outgoing, votes) is expected


@given(voters, voters, st.frozensets(st.integers(1, 9)), st.frozensets(st.integers(1, 9)))
def test_two_quorums_meet(
    incoming: frozenset[int], outgoing: frozenset[int], one: frozenset[int], other: frozenset[int]
) -> None:
    """Two sets that both win share a voter: what makes elections and commits safe."""
    if not incoming:
        return
    wins = [
        quorum.joint_vote(incoming, outgoing, dict.fromkeys(group, True)) is VoteResult.WON for group in (one, other)
    ]
    if all(wins):
        assert one & other & incoming


def apply(conf: Configuration, change: ConfChangeV2) -> Configuration:
    auto_leave = change.enter_joint()
    if change.leave_joint():
        return confchange.leave_joint(conf)
    if auto_leave is not None:
        return confchange.enter_joint(conf, auto_leave, change.changes)
    return confchange.simple(conf, change.changes)


def naive_apply(conf: Configuration, change: ConfChangeV2) -> tuple[set[int], set[int]]:
    """Who votes and who listens after all changes, as if nobody were in the way."""
    yes, listen = set(conf.incoming), set(conf.learners | conf.learners_next)
    for kind, node in change.changes:
        if node:
            yes.discard(node)
            listen.discard(node)
        if node and kind is ConfChangeType.ADD_NODE:
            yes.add(node)
        if node and kind is ConfChangeType.ADD_LEARNER:
            listen.add(node)
    return yes, listen


@given(st.lists(changes, max_size=12))
def test_random_changes_keep_configurations_well_formed(sequence: list[ConfChangeV2]) -> None:
    conf = Configuration(incoming=frozenset({1, 2, 3}))
    tracker = Tracker(1, 4)
    tracker.apply(conf, 1)
    for change in sequence:
        yes, listen = naive_apply(conf, change)
        try:
            changed = apply(conf, change)
        except ConfChangeError:
            continue  # refused changes leave everything as it was: nothing to see here
        assert changed.incoming == yes
        assert changed.learners | changed.learners_next == listen
        assert not changed.learners & changed.voters()
        assert changed.learners_next <= changed.outgoing - changed.incoming
        assert changed.outgoing in (frozenset(), conf.incoming)
        assert changed.incoming
        if not changed.joint and not conf.joint:
            assert len(changed.incoming ^ conf.incoming) <= 1
        assert not changed.auto_leave or changed.joint
        assert confchange.restore(changed.to_conf_state()) == changed
        tracker.apply(changed, 7)
        assert set(tracker.progress) == changed.members()
        assert [node for node, _ in tracker.peers] == sorted(changed.members() - {1})
        conf = changed


@given(st.lists(singles, max_size=5))
def test_a_joint_change_left_is_the_change_itself(sequence: list[ConfChangeSingle]) -> None:
    conf = Configuration(incoming=frozenset({1, 2, 3}), learners=frozenset({4}))
    try:
        joint = confchange.enter_joint(conf, False, sequence)
    except ConfChangeError:
        return
    yes, listen = naive_apply(conf, ConfChangeV2(tuple(sequence)))
    assert confchange.leave_joint(joint) == Configuration(incoming=frozenset(yes), learners=frozenset(listen))


@given(changes)
def test_change_survives_its_bytes(change: ConfChangeV2) -> None:
    entry = Entry(EntryType.CONF_CHANGE_V2, 1, 1, encode_conf_change(change))
    assert decode_conf_change(entry) == change


def test_bytes_are_eraftpb() -> None:
    """Compared with what protobuf makes of eraftpb.ConfChangeV2 and ConfChange."""
    change = ConfChangeV2(
        (ConfChangeSingle(ConfChangeType.ADD_NODE, 1), ConfChangeSingle(ConfChangeType.ADD_LEARNER, 300)),
        ConfChangeTransition.EXPLICIT,
        b"ctx",
    )
    assert encode_conf_change(change) == bytes.fromhex("0802120210011205080210ac021a03637478")
    assert encode_conf_change(ConfChangeV2()) == b""
    old = Entry(EntryType.CONF_CHANGE, 1, 1, bytes.fromhex("080710011803220163"))
    assert decode_conf_change(old) == ConfChangeV2((ConfChangeSingle(ConfChangeType.REMOVE_NODE, 3),), context=b"c")


@given(st.binary(max_size=40), st.sampled_from([EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2]))
def test_damaged_bytes_are_refused(data: bytes, kind: EntryType) -> None:
    """Or are a change, that is written again as it was read: no other error, no endless loop."""
    try:
        change = decode_conf_change(Entry(kind, 1, 1, data))
    except ConfChangeError:
        return
    assert decode_conf_change(Entry(EntryType.CONF_CHANGE_V2, 1, 1, encode_conf_change(change))) == change


def test_normal_entries_hold_no_change() -> None:
    with pytest.raises(ConfChangeError, match="is of type"):
        decode_conf_change(Entry(EntryType.NORMAL, 1, 1, b""))


@given(
    st.lists(st.tuples(st.sampled_from(["send", "ack", "reject", "lost", "snapshot"]), st.integers(0, 30)), max_size=30)
)
def test_progress_stays_in_bounds(events: list[tuple[str, int]]) -> None:
    """Whatever answers come, in whatever order: next stays behind matched, matched never shrinks, the window holds."""
    tracker = Tracker(1, 3)
    tracker.apply(Configuration(incoming=frozenset({1, 2})), 5)
    progress = tracker.progress[2]
    for event, index in events:
        before = progress.matched
        if event == "send" and not progress.is_paused():
            progress.on_sent(progress.next_idx + index)
        elif event == "ack":
            if progress.update_matched(index):
                if progress.state is ProgressState.REPLICATE:
                    progress.free_inflight(index)
                else:
                    progress.become_replicate()
        elif event == "reject":
            progress.on_rejected(progress.next_idx - 1, index)
        elif event == "lost":
            progress.become_probe()
        elif event == "snapshot":
            progress.become_snapshot(before + index)
        assert progress.matched >= before
        assert progress.next_idx > progress.matched
        assert len(progress.inflight) <= 3


def test_a_seed_gives_the_same_run() -> None:
    """Nothing iterates over a set whose order could matter, nothing draws from elsewhere."""
    first, second = make(11), make(11)
    random.seed(1)
    first.run(1500)
    random.seed(2)
    second.run(1500)
    assert first.rng.getstate() == second.rng.getstate()
    assert first.checker.applied == second.checker.applied
    assert [node.raw.term for node in first.nodes.values()] == [node.raw.term for node in second.nodes.values()]
