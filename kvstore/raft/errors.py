"""Errors of the Raft core.

RaftError
├── ProposalDropped          nothing was appended; retry at the leader or later (`reason`)
├── RequestSnapshotDropped   no snapshot was asked for; retry later (`reason`)
├── ConfChangeError          the membership change is not allowed from this configuration; nothing changed
├── ConfigInvalid            the node was configured with values that contradict each other
├── StepLocalMessage         a message of a type that only the node itself makes came from outside
├── InvariantBroken          a deterministic fault: data was lost or the caller broke the contract; stop the process
└── StorageError
    ├── Compacted                        the index is covered by a snapshot
    ├── Unavailable                      the index is beyond the last entry
    └── SnapshotTemporarilyUnavailable   being made; the core asks again
"""

from __future__ import annotations


class RaftError(Exception):
    """Root of the Raft core's errors."""


class ProposalDropped(RaftError):
    """Nothing was appended to the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"proposal dropped: {reason}")
        self.reason = reason


class RequestSnapshotDropped(RaftError):
    """No snapshot was asked for."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"snapshot not requested: {reason}")
        self.reason = reason


class ConfChangeError(RaftError):
    """The change would give a configuration that is not well formed."""


class ConfigInvalid(RaftError):
    """Contradictory settings."""


class StepLocalMessage(RaftError):
    """The message type never travels between nodes."""


class InvariantBroken(RaftError):
    """What can't be, is: continuing could lose committed data."""


class StorageError(RaftError):
    """What a `Storage` may raise; anything else passes through the core."""


class Compacted(StorageError):
    """The entry is gone, a snapshot covers it."""


class Unavailable(StorageError):
    """The entry is not there yet."""


class SnapshotTemporarilyUnavailable(StorageError):
    """The snapshot is being made."""
