"""Values that go in and out of the Raft core: entries, messages, states, membership.

Names and numbers are eraftpb's (tikv/raft-rs), so that the transport maps field by field. The log, messages and the
caller share the entries: nobody copies a payload. `Entry` and `Message` are not frozen, which would make each of them
cost three times as much, but nobody changes them: an entry never, a message not after `RawNode.ready` handed it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

NO_ID = 0  # no node has this id: "no leader", "no vote"
NO_LIMIT = (1 << 64) - 1  # as a size in bytes or a count: unlimited


class EntryType(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageType(IntEnum):
    HUP = 0
    BEAT = 1
    PROPOSE = 2
    APPEND = 3
    APPEND_RESPONSE = 4
    REQUEST_VOTE = 5
    REQUEST_VOTE_RESPONSE = 6
    SNAPSHOT = 7
    HEARTBEAT = 8
    HEARTBEAT_RESPONSE = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    REQUEST_PRE_VOTE = 17
    REQUEST_PRE_VOTE_RESPONSE = 18


class Role(IntEnum):
    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3


class ReadOnlyOption(IntEnum):
    """How a leader proves that it still leads before it answers a read: a round of heartbeats, or its lease."""

    SAFE = 0
    LEASE_BASED = 1


@dataclass(slots=True)
class Entry:
    """A log entry; empty NORMAL entries are a new leader's no-op and refused membership changes."""

    type: EntryType
    term: int
    index: int
    data: bytes
    context: bytes = b""

    @property
    def size(self) -> int:
        """Payload bytes, as the size limits count them."""
        return len(self.data) + len(self.context)


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must never forget: it is durable before any message that depends on it leaves."""

    term: int = 0
    vote: int = NO_ID
    commit: int = 0


@dataclass(frozen=True, slots=True)
class SoftState:
    """What a node may forget: who leads, and its own role."""

    leader_id: int
    role: Role


@dataclass(frozen=True, slots=True)
class ConfState:
    """Membership as stored in snapshots: ids ascending; `voters_outgoing` is not empty while the change is joint."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state machine at `index`; `data` is the caller's and may only describe where the state is to be had."""

    index: int
    term: int
    conf_state: ConfState
    data: bytes = b""


@dataclass(slots=True)
class Message:
    """One message between nodes, eraftpb.Message; which fields count depends on `type`.

    APPEND: the entries follow (`index`, `log_term`), `commit` is the leader's.
    APPEND_RESPONSE: `index` is the last one that matches; with `reject` the refused one, and the follower's log may
    agree at (`reject_hint`, `log_term`). Votes: (`index`, `log_term`) is the candidate's last entry.
    HEARTBEAT and its response carry the `context` of a pending read; READ_INDEX as the data of its one entry.
    """

    type: MessageType
    to: int = NO_ID
    from_: int = NO_ID
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: Sequence[Entry] = ()
    commit: int = 0
    commit_term: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    request_snapshot: int = 0
    context: bytes = b""
    priority: int = 0


class ConfChangeType(IntEnum):
    ADD_NODE = 0
    REMOVE_NODE = 1
    ADD_LEARNER = 2


class ConfChangeTransition(IntEnum):
    """AUTO: a single change is simple, several go through a joint configuration that is left by itself.

    IMPLICIT: joint, left by itself. EXPLICIT: joint, left by an empty change that the caller proposes.
    """

    AUTO = 0
    IMPLICIT = 1
    EXPLICIT = 2


class ConfChangeSingle(NamedTuple):
    type: ConfChangeType
    node_id: int


@dataclass(frozen=True, slots=True)
class ConfChangeV2:
    """A membership change; the zero value leaves a joint configuration."""

    changes: tuple[ConfChangeSingle, ...] = ()
    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    context: bytes = b""

    def enter_joint(self) -> bool | None:
        """None for a simple change, else whether the joint configuration is left automatically."""
        if self.transition == ConfChangeTransition.AUTO and len(self.changes) <= 1:
            return None
        return self.transition != ConfChangeTransition.EXPLICIT

    def leave_joint(self) -> bool:
        return self.transition == ConfChangeTransition.AUTO and not self.changes


@dataclass(frozen=True, slots=True)
class ReadState:
    """A read may be served from a state machine that has applied `index`."""

    index: int
    request_ctx: bytes
