"""Between the Raft core's values and eraftpb's messages, as stores and placement drivers send and keep them."""

from __future__ import annotations

from kvstore.codec import CodecError
from kvstore.proto import eraftpb_pb2 as eraftpb
from kvstore.raft.types import (
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)

_ENTRY_TYPES = {int(kind): kind for kind in EntryType}
_MESSAGE_TYPES = {int(kind): kind for kind in MessageType}


def entry_to_pb(entry: Entry) -> eraftpb.Entry:
    return eraftpb.Entry(
        entry_type=int(entry.type),  # type: ignore[arg-type]
        term=entry.term,
        index=entry.index,
        data=entry.data,
        context=entry.context,
    )


def entry_from_pb(entry: eraftpb.Entry) -> Entry:
    """Raises CodecError for a type that is not known."""
    kind = _ENTRY_TYPES.get(entry.entry_type)
    if kind is None:
        raise CodecError(f"entry {entry.index} is of type {entry.entry_type}")
    return Entry(kind, entry.term, entry.index, entry.data, entry.context)


def entry_from_bytes(data: bytes) -> Entry:
    return entry_from_pb(eraftpb.Entry.FromString(data))


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


def snapshot_to_pb(snapshot: Snapshot) -> eraftpb.Snapshot:
    return eraftpb.Snapshot(
        data=snapshot.data,
        metadata=eraftpb.SnapshotMetadata(
            index=snapshot.index,
            term=snapshot.term,
            conf_state=conf_state_to_pb(snapshot.conf_state),
        ),
    )


def snapshot_from_pb(snapshot: eraftpb.Snapshot) -> Snapshot:
    return Snapshot(
        snapshot.metadata.index,
        snapshot.metadata.term,
        conf_state_from_pb(snapshot.metadata.conf_state),
        snapshot.data,
    )


def message_to_pb(message: Message) -> eraftpb.Message:
    out = eraftpb.Message(
        msg_type=int(message.type),  # type: ignore[arg-type]
        to=message.to,
        term=message.term,
        log_term=message.log_term,
        index=message.index,
        commit=message.commit,
        reject=message.reject,
        reject_hint=message.reject_hint,
        context=message.context,
        request_snapshot=message.request_snapshot,
        priority=message.priority,
    )
    setattr(out, "from", message.from_)  # Python's word
    if message.entries:
        out.entries.extend([entry_to_pb(entry) for entry in message.entries])
    if message.snapshot is not None:
        out.snapshot.CopyFrom(snapshot_to_pb(message.snapshot))
    return out


def message_from_pb(message: eraftpb.Message) -> Message:
    """Raises CodecError for types that are not known."""
    kind = _MESSAGE_TYPES.get(message.msg_type)
    if kind is None:
        raise CodecError(f"a message of type {message.msg_type}")
    return Message(
        kind,
        message.to,
        getattr(message, "from"),
        message.term,
        message.log_term,
        message.index,
        [entry_from_pb(entry) for entry in message.entries],
        message.commit,
        0,  # eraftpb has no place for commit_term, and votes work without it
        snapshot_from_pb(message.snapshot) if message.HasField("snapshot") else None,
        message.reject,
        message.reject_hint,
        message.request_snapshot,
        message.context,
        message.priority,
    )
