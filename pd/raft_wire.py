"""Raft's values as eraftpb messages and back, for the placement drivers' own group."""

from __future__ import annotations

from kvstore.proto import eraftpb_pb2 as eraftpb
from kvstore.raft.types import ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot


def entry_to_pb(entry: Entry) -> eraftpb.Entry:
    return eraftpb.Entry(
        entry_type=int(entry.type),  # type: ignore[arg-type]
        term=entry.term,
        index=entry.index,
        data=entry.data,
        context=entry.context,
    )


def entry_from_pb(entry: eraftpb.Entry) -> Entry:
    return Entry(EntryType(entry.entry_type), entry.term, entry.index, entry.data, entry.context)


def hard_state_to_pb(state: HardState) -> eraftpb.HardState:
    return eraftpb.HardState(term=state.term, vote=state.vote, commit=state.commit)


def hard_state_from_pb(state: eraftpb.HardState) -> HardState:
    return HardState(state.term, state.vote, state.commit)


def conf_state_to_pb(conf: ConfState) -> eraftpb.ConfState:
    return eraftpb.ConfState(
        voters=conf.voters,
        learners=conf.learners,
        voters_outgoing=conf.voters_outgoing,
        learners_next=conf.learners_next,
        auto_leave=conf.auto_leave,
    )


def conf_state_from_pb(conf: eraftpb.ConfState) -> ConfState:
    return ConfState(
        tuple(conf.voters),
        tuple(conf.learners),
        tuple(conf.voters_outgoing),
        tuple(conf.learners_next),
        conf.auto_leave,
    )


def message_to_pb(message: Message) -> eraftpb.Message:
    made = eraftpb.Message(
        msg_type=int(message.type),  # type: ignore[arg-type]
        to=message.to,
        term=message.term,
        log_term=message.log_term,
        index=message.index,
        entries=[entry_to_pb(entry) for entry in message.entries],
        commit=message.commit,
        reject=message.reject,
        reject_hint=message.reject_hint,
        context=message.context,
        request_snapshot=message.request_snapshot,
        priority=message.priority,
    )
    setattr(made, "from", message.from_)  # a word of Python's
    snapshot = message.snapshot
    if snapshot is not None:
        made.snapshot.data = snapshot.data
        made.snapshot.metadata.index, made.snapshot.metadata.term = snapshot.index, snapshot.term
        made.snapshot.metadata.conf_state.CopyFrom(conf_state_to_pb(snapshot.conf_state))
    return made


def message_from_pb(message: eraftpb.Message) -> Message:
    snapshot = None
    if message.HasField("snapshot"):
        meta = message.snapshot.metadata
        snapshot = Snapshot(meta.index, meta.term, conf_state_from_pb(meta.conf_state), message.snapshot.data)
    return Message(
        type=MessageType(message.msg_type),
        to=message.to,
        from_=getattr(message, "from"),
        term=message.term,
        log_term=message.log_term,
        index=message.index,
        entries=[entry_from_pb(entry) for entry in message.entries],
        commit=message.commit,
        snapshot=snapshot,
        reject=message.reject,
        reject_hint=message.reject_hint,
        request_snapshot=message.request_snapshot,
        context=message.context,
        priority=message.priority,
    )
