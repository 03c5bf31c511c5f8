"""The contract between RawNode and its caller, and the errors of those who break it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kvstore.raft import Config, MemoryStorage, RawNode, leader
from kvstore.raft.errors import (
    Compacted,
    ConfChangeError,
    ConfigInvalid,
    InvariantBroken,
    ProposalDropped,
    SnapshotTemporarilyUnavailable,
    StepLocalMessage,
    Unavailable,
)
from kvstore.raft.log import RaftLog
from kvstore.raft.storage import limit_size
from kvstore.raft.types import (
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadOnlyOption,
    Role,
    Snapshot,
    SoftState,
)


def make(node: int = 1, voters: tuple[int, ...] = (1,), **settings: Any) -> tuple[RawNode, MemoryStorage]:
    storage = MemoryStorage(ConfState(voters=voters))
    return RawNode(Config(node, **settings), storage, random.Random(1)), storage


def persist(raw: RawNode, storage: MemoryStorage) -> list[Entry]:
    """Does all work of a node alone; returns what was committed."""
    committed: list[Entry] = []
    while raw.has_ready():
        ready = raw.ready()
        if ready.snapshot is not None:
            storage.apply_snapshot(ready.snapshot)
        storage.append(ready.entries)
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        light = raw.advance(ready)
        committed += [*ready.committed_entries, *light.committed_entries]
    return committed


def entry(term: int, index: int, data: bytes = b"") -> Entry:
    return Entry(EntryType.NORMAL, term, index, data)


def append(*entries: Entry, term: int = 1, after: tuple[int, int] = (0, 0), commit: int = 0) -> Message:
    return Message(
        MessageType.APPEND, 1, 2, term, log_term=after[0], index=after[1], entries=list(entries), commit=commit
    )


def test_a_second_ready_before_advance_is_an_error() -> None:
    raw, storage = make()
    raw.campaign()
    ready = raw.ready()
    storage.append(ready.entries)
    assert not raw.has_ready()
    with pytest.raises(InvariantBroken, match="ready 1 was not advanced"):
        raw.ready()
    raw.advance(ready)
    with pytest.raises(InvariantBroken, match="not the one that is outstanding"):
        raw.advance(ready)


def test_states_are_told_once_and_only_when_they_change() -> None:
    raw, storage = make()
    assert not raw.has_ready()
    raw.campaign()
    ready = raw.ready()
    assert ready.soft_state == SoftState(1, Role.LEADER)
    assert ready.hard_state == HardState(1, 1, 0)
    assert ready.must_sync
    assert [e.index for e in ready.entries] == [1]
    assert ready.committed_entries == []  # not on disk yet
    storage.append(ready.entries)
    light = raw.advance(ready)
    assert light.commit_index == 1
    assert [e.index for e in light.committed_entries] == [1]
    assert not raw.has_ready()


def test_commit_alone_needs_no_sync() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1)))
    persist(raw, storage)
    raw.step(append(after=(1, 1), commit=1))
    ready = raw.ready()
    assert ready.hard_state == HardState(1, 0, 1)
    assert not ready.must_sync
    assert ready.persisted_messages
    assert not ready.messages


def test_a_committed_entry_is_handed_out_once() -> None:
    raw, storage = make(max_committed_size_per_ready=60)
    raw.campaign()
    persist(raw, storage)
    for number in range(10):
        raw.propose(b"", b"%d" % number * 20)
    assert [e.index for e in persist(raw, storage)] == list(range(2, 12))


def test_nothing_is_handed_out_that_is_not_on_the_local_disk() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), commit=2))
    ready = raw.ready()
    assert raw.commit == 2
    assert ready.committed_entries == []
    storage.append(ready.entries)
    assert [e.index for e in raw.advance(ready).committed_entries] == [1, 2]


def test_the_late_disk_does_not_count_for_entries_that_replaced_its_own() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), entry(1, 3)))
    ready = raw.ready()
    raw.step(append(entry(2, 2), term=2, after=(1, 1), commit=2))
    storage.append(ready.entries)
    light = raw.advance(ready)
    assert light.committed_entries == []
    assert raw.persisted == 0
    again = raw.ready()
    assert [(e.term, e.index) for e in again.entries] == [(1, 1), (2, 2)]
    storage.append(again.entries)
    assert [(e.term, e.index) for e in raw.advance(again).committed_entries] == [(1, 1), (2, 2)]
    assert storage.last_index() == 2


def test_a_tail_that_came_back_counts() -> None:
    """A, B, and A again before the disk is done: what is on it is what is in the log."""
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2)))
    ready = raw.ready()
    raw.step(append(entry(2, 1), term=2))
    raw.step(append(entry(1, 1), entry(1, 2), entry(3, 3), term=3))
    storage.append(ready.entries)
    raw.advance(ready)
    assert raw.persisted == 2
    assert [(e.term, e.index) for e in raw.ready().entries] == [(3, 3)]


def test_a_leader_of_one_sends_nothing_before_its_vote_is_durable() -> None:
    storage = MemoryStorage(ConfState(voters=(1,), learners=(2,)))
    raw = RawNode(Config(1), storage, random.Random(1))
    raw.campaign()
    ready = raw.ready()
    assert raw.role is Role.LEADER
    assert not ready.messages
    assert [m.type for m in ready.persisted_messages] == [MessageType.APPEND]
    storage.append(ready.entries)
    raw.advance(ready)
    raw.step(Message(MessageType.APPEND_RESPONSE, 1, 2, 1, index=1))
    raw.propose(b"", b"x")
    assert [(m.type, len(m.entries)) for m in raw.ready().messages] == [(MessageType.APPEND, 1)]


def test_messages_made_between_ready_and_advance_wait_for_the_next_sync() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1)))
    ready = raw.ready()
    raw.step(append(entry(1, 2), after=(1, 1)))
    storage.append(ready.entries)
    assert raw.advance(ready).messages == ()
    second = raw.ready()
    assert [e.index for e in second.entries] == [2]
    assert [m.index for m in second.persisted_messages] == [2]


def test_snapshot_takes_the_place_of_what_was_not_handed_out() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), commit=1))
    ready = raw.ready()
    conf = ConfState(voters=(1, 2, 3), learners=(4,))
    raw.step(Message(MessageType.SNAPSHOT, 1, 2, 1, snapshot=Snapshot(7, 1, conf, b"state")))
    raw.step(append(entry(1, 8), after=(1, 7), commit=8))
    storage.append(ready.entries)
    light = raw.advance(ready)
    assert light.committed_entries == []
    second = raw.ready()
    assert second.snapshot is not None
    assert second.snapshot.index == 7
    assert second.committed_entries == []
    assert raw.conf_state() == conf
    assert not raw.promotable()
    storage.apply_snapshot(second.snapshot)
    storage.append(second.entries)
    assert [e.index for e in raw.advance(second).committed_entries] == [8]
    assert not raw.promotable()
    raw.advance_apply_to(8)
    assert raw.promotable()


def test_nobody_campaigns_before_its_snapshot_is_applied() -> None:
    raw, storage = make(voters=(1, 2, 3))
    conf = ConfState(voters=(1, 2, 3))
    raw.step(Message(MessageType.SNAPSHOT, 1, 2, 1, snapshot=Snapshot(7, 1, conf, b"state")))
    raw.step(Message(MessageType.APPEND, 1, 2, 1, 1, 7, entries=(entry(1, 8),), commit=8))
    ready = raw.ready()
    assert ready.snapshot is not None
    storage.apply_snapshot(ready.snapshot)
    storage.append(ready.entries)
    raw.advance(ready)
    handover = Message(MessageType.TIMEOUT_NOW, 1, 2, 1)
    raw.step(handover)
    assert raw.role is Role.FOLLOWER
    persist(raw, storage)
    raw.advance_apply_to(8)
    raw.step(handover)
    assert raw.role is Role.CANDIDATE


def test_snapshot_of_a_group_without_this_node_is_ignored() -> None:
    raw, _ = make(voters=(1, 2, 3))
    raw.step(Message(MessageType.SNAPSHOT, 1, 2, 1, snapshot=Snapshot(7, 1, ConfState(voters=(2, 3)))))
    assert raw.last_index == 0
    answers = raw.ready().persisted_messages
    assert [(m.type, m.index, m.reject) for m in answers] == [(MessageType.APPEND_RESPONSE, 0, False)]


def test_an_older_snapshot_than_asked_for_does_not_drop_what_was_acknowledged() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), entry(1, 3), commit=1))
    persist(raw, storage)
    raw.request_snapshot()
    raw.step(Message(MessageType.SNAPSHOT, 1, 2, 1, snapshot=Snapshot(2, 1, ConfState(voters=(1, 2, 3)))))
    assert (raw.last_index, raw.commit) == (3, 2)
    raw.step(Message(MessageType.SNAPSHOT, 1, 2, 1, snapshot=Snapshot(3, 1, ConfState(voters=(1, 2, 3)))))
    ready = raw.ready()
    assert ready.snapshot is not None
    assert ready.snapshot.index == 3


def test_what_a_snapshot_is_asked_for_counts_as_acknowledged() -> None:
    """Two voters: the leader needs 2 to commit the entry that 2 wants a snapshot of."""
    raw, storage = make(voters=(1, 2), pre_vote=False)
    raw.campaign()
    persist(raw, storage)
    raw.step(Message(MessageType.REQUEST_VOTE_RESPONSE, 1, 2, 1))
    persist(raw, storage)
    raw.step(Message(MessageType.APPEND_RESPONSE, 1, 2, 1, 1, 0, reject=True, reject_hint=1, request_snapshot=1))
    assert raw.commit == 1
    persist(raw, storage)
    raw.advance_apply_to(1)
    storage.create_snapshot(1, ConfState(voters=(1, 2)))
    raw.step(Message(MessageType.APPEND_RESPONSE, 1, 2, 1, 1, 1, reject=True, reject_hint=1, request_snapshot=1))
    assert [m.type for m in raw.ready().messages] == [MessageType.SNAPSHOT]


def test_the_wish_for_a_snapshot_outlives_the_leader() -> None:
    """The new leader lacks entry 3, for which the request was: it could never be met."""
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), entry(1, 3), commit=1))
    persist(raw, storage)
    raw.request_snapshot()
    raw.step(append(entry(2, 3), term=2, after=(1, 2), commit=2))
    answers = raw.ready().persisted_messages
    assert [(m.index, m.request_snapshot) for m in answers if m.term == 2] == [(3, 0), (2, 3)]


def test_a_read_needs_a_context() -> None:
    raw, _ = make()
    with pytest.raises(ValueError, match="context"):
        raw.read_index(b"")


def test_restart_goes_on_where_the_disk_stands() -> None:
    raw, storage = make()
    raw.campaign()
    raw.propose(b"", b"x")
    persist(raw, storage)
    storage.set_hard_state(HardState(1, 1, 2))
    again = RawNode(Config(1, applied=1), storage, random.Random(2))
    assert (again.term, again.vote, again.commit, again.applied) == (1, 1, 2, 1)
    assert [e.index for e in persist(again, storage)] == [2]


def test_a_disk_that_lost_entries_is_found_out() -> None:
    storage = MemoryStorage(ConfState(voters=(1,)))
    storage.set_hard_state(HardState(3, 1, 9))
    with pytest.raises(InvariantBroken, match="commit index 9 is beyond the last entry 0"):
        RawNode(Config(1), storage, random.Random(1))
    raw, _ = make(voters=(1, 2, 3))
    with pytest.raises(InvariantBroken, match="commit index 5 is beyond the last entry 0"):
        raw.step(Message(MessageType.HEARTBEAT, 1, 2, 1, commit=5))


def test_a_committed_entry_is_never_replaced() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), commit=2))
    persist(raw, storage)
    with pytest.raises(InvariantBroken, match="entry 1 would replace a committed one"):
        raw._raft.log.append([entry(2, 1)])


def test_applied_stays_within_committed() -> None:
    raw, storage = make()
    raw.campaign()
    persist(raw, storage)
    with pytest.raises(InvariantBroken, match=r"applied index 2 is not in 0\.\.1"):
        raw.advance_apply_to(2)
    raw.advance_apply_to(1)
    with pytest.raises(InvariantBroken, match=r"applied index 0 is not in 1\.\.1"):
        raw.advance_apply_to(0)


def test_messages_that_never_travel_are_refused() -> None:
    raw, _ = make()
    for kind in (MessageType.HUP, MessageType.PROPOSE, MessageType.UNREACHABLE, MessageType.CHECK_QUORUM):
        with pytest.raises(StepLocalMessage):
            raw.step(Message(kind, 1, 2))


def test_answers_of_strangers_are_ignored() -> None:
    raw, _ = make(voters=(1, 2, 3))
    raw.campaign()  # asks for pre-votes
    for stranger in (7, 8):
        raw.step(Message(MessageType.REQUEST_PRE_VOTE_RESPONSE, 1, stranger, 1))
    assert raw.role is Role.PRE_CANDIDATE
    raw.step(Message(MessageType.REQUEST_PRE_VOTE_RESPONSE, 1, 2, 1))
    assert raw.ready().soft_state == SoftState(0, Role.CANDIDATE)
    raw.step(Message(MessageType.REQUEST_VOTE_RESPONSE, 1, 3, 1))
    assert raw.leader_id == 1
    for kind in (MessageType.APPEND_RESPONSE, MessageType.HEARTBEAT_RESPONSE):
        raw.step(Message(kind, 1, 9, 1, index=1))
    assert raw.commit == 0


def test_a_node_votes_once_a_term_but_twice_for_the_same() -> None:
    raw, _ = make(voters=(1, 2, 3), check_quorum=False)
    for candidate, granted in ((2, True), (3, False), (2, True)):
        raw.step(Message(MessageType.REQUEST_VOTE, 1, candidate, 4))
        answer = raw.ready()
        assert [m.reject for m in answer.persisted_messages] == [not granted]
        raw.advance(answer)
    assert raw.vote == 2


def test_a_higher_priority_votes_for_a_lower_only_if_it_has_more() -> None:
    raw, storage = make(voters=(1, 2, 3), priority=1)
    raw.step(append(entry(1, 1)))
    persist(raw, storage)
    for last, priority, granted in ((1, 0, False), (2, 0, True), (1, 1, True)):
        ballot = Message(MessageType.REQUEST_PRE_VOTE, 1, 3, 2, 1, last, priority=priority, context=b"CampaignTransfer")
        raw.step(ballot)
        ready = raw.ready()
        assert [m.reject for m in ready.persisted_messages] == [not granted]
        raw.advance(ready)


def test_votes_tell_what_is_committed() -> None:
    raw, storage = make(voters=(1, 2, 3), check_quorum=False)
    raw.step(append(entry(1, 1), entry(1, 2)))
    persist(raw, storage)
    raw.step(Message(MessageType.REQUEST_VOTE, 1, 3, 2, log_term=1, index=1, commit=1, commit_term=1))
    assert raw.commit == 1
    raw.step(Message(MessageType.REQUEST_VOTE, 1, 3, 3, log_term=1, index=1, commit=2, commit_term=9))
    assert raw.commit == 1


def test_a_damaged_membership_change_is_not_proposed() -> None:
    raw, storage = make()
    raw.campaign()
    persist(raw, storage)
    with pytest.raises(ConfChangeError):
        leader.propose(raw._raft, EntryType.CONF_CHANGE_V2, b"\xff", b"")
    assert raw.last_index == 1


def test_a_change_that_does_not_fit_changes_nothing() -> None:
    raw, _ = make()
    before = raw.conf_state()
    with pytest.raises(ConfChangeError, match="removed all voters"):
        raw.apply_conf_change(ConfChangeV2((ConfChangeSingle(ConfChangeType.REMOVE_NODE, 1),)))
    assert raw.conf_state() == before
    assert raw.members() == (1,)


def test_proposals_tell_their_index() -> None:
    raw, storage = make(max_uncommitted_size=10)
    with pytest.raises(ProposalDropped, match="not the leader"):
        raw.propose(b"", b"x")
    raw.campaign()
    assert [raw.propose(b"", b"12345"), raw.propose(b"c", b"1234")] == [2, 3]
    with pytest.raises(ProposalDropped, match="10 bytes are not committed yet"):
        raw.propose(b"", b"x")
    assert raw.propose(b"", b"") == 4
    persist(raw, storage)
    assert raw.propose(b"", b"x") == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"id": 0},
        {"id": 1, "heartbeat_tick": 0},
        {"id": 1, "election_tick": 2, "heartbeat_tick": 2},
        {"id": 1, "min_election_tick": 5},
        {"id": 1, "min_election_tick": 20, "max_election_tick": 20},
        {"id": 1, "max_inflight_msgs": 0},
        {"id": 1, "read_only": ReadOnlyOption.LEASE_BASED, "check_quorum": False},
    ],
)
def test_contradictory_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigInvalid):
        Config(**settings)


def test_memory_storage() -> None:
    storage = MemoryStorage(ConfState(voters=(1,)))
    storage.append([entry(1, 1), entry(1, 2), entry(2, 3)])
    with pytest.raises(Unavailable):
        storage.append([entry(2, 5)])
    storage.create_snapshot(2, ConfState(voters=(1,)), b"s")
    storage.compact(2)
    assert (storage.first_index(), storage.last_index(), storage.term(2), storage.term(3)) == (3, 3, 1, 2)
    with pytest.raises(Compacted):
        storage.term(1)
    with pytest.raises(Compacted):
        storage.entries(2, 4, None)
    with pytest.raises(Unavailable):
        storage.entries(3, 5, None)
    with pytest.raises(Unavailable):
        storage.term(4)
    assert storage.snapshot(2, 1).data == b"s"
    with pytest.raises(SnapshotTemporarilyUnavailable):
        storage.snapshot(3, 1)
    storage.append([entry(3, 3), entry(3, 4)])
    assert [e.term for e in storage.entries(3, 5, None)] == [3, 3]


def test_entries_are_read_across_disk_and_tail() -> None:
    storage = MemoryStorage(ConfState(voters=(1,)))
    storage.append([entry(1, 1, b"a" * 10), entry(1, 2, b"b" * 10)])
    log = RaftLog(storage)
    log.append([entry(2, 3, b"c" * 10), entry(2, 4, b"d" * 10)])
    assert [e.index for e in log.entries(1, 5, None)] == [1, 2, 3, 4]
    assert [e.index for e in log.entries(2, 4, None)] == [2, 3]
    assert [e.index for e in log.entries(1, 5, 80)] == [1, 2, 3]
    assert [e.index for e in log.entries(1, 5, 30)] == [1]
    assert [e.index for e in log.entries(4, 5, 0)] == [4]
    assert [log.term(i) for i in range(5)] == [0, 1, 1, 2, 2]
    assert log.last_at_or_below(9, 1) == (2, 1)
    with pytest.raises(InvariantBroken, match="gap"):
        log.append([entry(2, 9)])


def test_size_limit_lets_one_through() -> None:
    entries = [entry(1, i, b"x" * 84) for i in range(1, 4)]
    assert limit_size(entries, None) == entries
    assert limit_size(entries, 0) == entries[:1]
    assert limit_size(entries, 200) == entries[:2]
    assert limit_size(entries, 300) == entries


def lead(voters: tuple[int, ...], **settings: Any) -> tuple[RawNode, MemoryStorage]:
    """Node 1 as leader of term 1, its empty entry committed by all."""
    raw, storage = make(voters=voters, pre_vote=False, **settings)
    raw.campaign()
    persist(raw, storage)
    for node in voters[1:]:
        raw.step(Message(MessageType.REQUEST_VOTE_RESPONSE, 1, node, 1))
    persist(raw, storage)
    for node in voters[1:]:
        raw.step(Message(MessageType.APPEND_RESPONSE, 1, node, 1, index=1))
    persist(raw, storage)
    assert raw.commit == 1
    return raw, storage


def test_a_leader_counts_itself_only_for_what_is_on_its_disk() -> None:
    raw, storage = lead((1, 2, 3))
    raw.propose(b"", b"a")
    ready = raw.ready()
    raw.propose(b"", b"b")
    storage.append(ready.entries)
    raw.advance(ready)
    raw.step(Message(MessageType.APPEND_RESPONSE, 1, 2, 1, index=3))
    assert raw.commit == 2


def test_a_read_needs_a_majority_of_five() -> None:
    raw, storage = lead((1, 2, 3, 4, 5))
    raw.read_index(b"r")
    persist(raw, storage)
    raw.step(Message(MessageType.HEARTBEAT_RESPONSE, 1, 2, 1, context=b"r"))
    raw.step(Message(MessageType.HEARTBEAT_RESPONSE, 1, 2, 1, context=b"r"))
    assert not raw.has_ready()
    raw.step(Message(MessageType.HEARTBEAT_RESPONSE, 1, 3, 1, context=b"r"))
    assert [state.index for state in raw.ready().read_states] == [1]


def test_what_is_cut_off_is_not_on_disk_any_more() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), entry(1, 3)))
    persist(raw, storage)
    assert raw.persisted == 3
    raw.step(append(entry(2, 2), entry(2, 3), term=2, after=(1, 1), commit=3))
    assert raw.persisted == 1
    assert raw.ready().committed_entries == [entry(1, 1)]


def test_a_broken_lease_is_whole_again_in_the_next_term() -> None:
    raw, storage = lead((1, 2, 3))
    assert raw.in_lease()
    raw.transfer_leader(2)
    assert not raw.in_lease()
    raw.step(Message(MessageType.REQUEST_VOTE_RESPONSE, 1, 2, 2, reject=True))  # a higher term: steps down
    raw.campaign()
    persist(raw, storage)
    raw.step(Message(MessageType.REQUEST_VOTE_RESPONSE, 1, 3, 3))
    persist(raw, storage)
    assert not raw.in_lease()
    raw.step(Message(MessageType.APPEND_RESPONSE, 1, 3, 3, index=raw.last_index))
    assert raw.in_lease()


def test_an_append_from_before_the_compaction_is_answered_with_what_is_committed() -> None:
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), entry(1, 3), commit=3))
    persist(raw, storage)
    raw.advance_apply_to(3)
    storage.compact(3)
    raw.step(append(entry(1, 2), after=(1, 1)))
    assert [(m.index, m.reject) for m in raw.ready().persisted_messages] == [(3, False)]


def test_an_append_commits_no_further_than_it_reaches() -> None:
    """Entries 2 and 3 are an old leader's; that the new one has committed 3 of its own says nothing about them."""
    raw, storage = make(voters=(1, 2, 3))
    raw.step(append(entry(1, 1), entry(1, 2), entry(1, 3)))
    persist(raw, storage)
    raw.step(append(term=2, after=(1, 1), commit=3))
    assert raw.commit == 1


def test_followers_are_told_of_a_commit_that_the_caller_named() -> None:
    leading, storage = make(1, (1, 2, 3), skip_bcast_commit=True)
    leading.campaign()
    sent: list[Message] = []

    def work() -> list[Message]:
        sent.clear()
        while leading.has_ready():
            ready = leading.ready()
            storage.append(ready.entries)
            if ready.hard_state is not None:
                storage.set_hard_state(ready.hard_state)
            light = leading.advance(ready)
            sent.extend([*ready.messages, *ready.persisted_messages, *light.messages])
        return [message for message in sent if message.to == 2]

    work()
    for kind in (MessageType.REQUEST_PRE_VOTE_RESPONSE, MessageType.REQUEST_VOTE_RESPONSE):
        leading.step(Message(kind, 1, 2, 1))
        work()
    assert leading.role is Role.LEADER

    def replicate(index: int) -> list[Message]:
        for node in (2, 3):
            leading.step(Message(MessageType.APPEND_RESPONSE, 1, node, 1, index=index))
        return work()

    replicate(1)
    quiet = leading.propose(b"", b"quiet")
    assert [message.index for message in work()] == [1]
    assert replicate(quiet) == []
    told = leading.propose(b"", b"told")
    leading.tell_commit(told)
    work()
    assert [(message.type, message.commit) for message in replicate(told)] == [(MessageType.APPEND, told)]
