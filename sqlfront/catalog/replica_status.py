"""What is known of a table's columnar replica: what information_schema.tiflash_replica shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How far a replica is.

    `progress` goes from 0 to 1 while it is made; `position` is the commit timestamp up to which changes are in it,
    `pending` how many changes are not yet; `reason` says why it is not there, None when nothing is in its way.
    """

    available: bool
    progress: float
    state: str
    position: int
    pending: int
    reason: str | None = None
